//! What a whole text may be: envelopes, wiring, limits. The layers' options are tested beside their
//! readers.

use std::time::Instant;

use serde_json::{Value, json};

use super::read_model;
use crate::graph::Graph;

fn sequential(layers: &Value) -> String {
    json!({"class_name": "Sequential", "config": {"layers": layers}}).to_string()
}

fn functional(layers: &Value, inputs: &Value, outputs: &Value) -> Value {
    json!({"class_name": "Functional", "config": {"name": "model", "layers": layers,
        "input_layers": inputs, "output_layers": outputs}})
}

fn input(name: &str, width: usize) -> Value {
    json!({"class_name": "InputLayer", "name": name, "inbound_nodes": [],
        "config": {"name": name, "batch_input_shape": [null, width]}})
}

/// A dense layer without bias, called on each of these layers' first output.
fn dense(name: &str, units: usize, on: &[&str]) -> Value {
    let calls: Vec<Value> = on.iter().map(|layer| json!([[layer, 0, 0, {}]])).collect();
    json!({"class_name": "Dense", "name": name, "inbound_nodes": calls,
        "config": {"name": name, "units": units, "use_bias": false}})
}

fn graph(text: &str) -> Graph {
    read_model(text).unwrap_or_else(|problems| panic!("{problems}")).1
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.layers.iter().map(|layer| layer.name.as_str()).collect()
}

/// Who takes what: for each call its layer and its inputs' numbers.
fn calls(graph: &Graph) -> Vec<(usize, &[usize])> {
    graph.calls.iter().map(|call| (call.layer, call.inputs.as_slice())).collect()
}

fn problems(text: &str) -> Vec<(String, String)> {
    let begun = Instant::now();
    let problems = read_model(text).expect_err("it is refused");
    assert!(begun.elapsed().as_millis() < 500, "it took {:?}", begun.elapsed());
    problems.iter().map(|problem| (problem.place.clone(), problem.text.clone())).collect()
}

fn assert_refused(text: &str, place: &str, expected: &str) {
    let found = problems(text);
    assert_eq!(found[0].0, place, "{found:?}");
    assert!(found[0].1.contains(expected), "{found:?}");
}

#[test]
fn list_form_and_object_form_are_the_same_model() {
    let layers = json!([{"class_name": "Dense", "config": {"name": "a", "units": 2,
        "batch_input_shape": [null, 3]}}]);
    let list = json!({"class_name": "Sequential", "config": layers}).to_string();
    let (of_list, of_object) = (graph(&list), graph(&sequential(&layers)));
    assert_eq!((of_list.inputs, of_list.calls), (of_object.inputs, of_object.calls));
    assert_eq!(of_list.layers[0].weights, of_object.layers[0].weights);
    assert_eq!(of_list.layers[0].pointer, "/config/0");
    assert_eq!(of_object.layers[0].pointer, "/config/layers/0");
    let twice = Value::String(list.clone()).to_string();
    assert_eq!(read_model(&twice).unwrap(), read_model(&list).unwrap());
}

#[test]
fn a_shared_layer_has_one_set_of_weights_and_two_calls() {
    let layers = json!([input("x", 3), input("y", 3), dense("shared", 2, &["x", "y"]),
        {"class_name": "Concatenate", "name": "both", "config": {"name": "both"},
            "inbound_nodes": [[["shared", 0, 0, {}], ["shared", 1, 0, {}]]]},
        dense("out", 1, &["both"])]);
    let inputs = json!([["x", 0, 0], ["y", 0, 0]]);
    let model = functional(&layers, &inputs, &json!(["out", 0, 0]));
    let graph = graph(&model.to_string());
    assert_eq!(names(&graph), ["shared", "both", "out"]);
    let expected: [(usize, &[usize]); 4] = [(0, &[0]), (0, &[1]), (1, &[2, 3]), (2, &[4])];
    assert_eq!(calls(&graph), expected);
    assert_eq!(graph.layers[2].weights[0].shape, [4, 1]);
    assert_eq!((graph.outputs[0].name.as_str(), graph.outputs[0].value), ("out", 5));
}

/// The list's order is Keras's order of weights, whatever the order of calls.
#[test]
fn calls_are_sorted_and_layers_are_not() {
    let layers = json!([input("x", 3), dense("last", 1, &["first"]), dense("first", 2, &["x"])]);
    let model = functional(&layers, &json!([["x", 0, 0]]), &json!([["last", 0, 0]]));
    let graph = graph(&model.to_string());
    assert_eq!(names(&graph), ["last", "first"]);
    let expected: [(usize, &[usize]); 2] = [(1, &[0]), (0, &[1])];
    assert_eq!(calls(&graph), expected);
}

#[test]
fn nested_models_are_part_of_the_whole_and_may_be_shared() {
    let inner = json!([input("inner_x", 3), dense("a", 3, &["inner_x"]), dense("b", 3, &["a"])]);
    let mut inner = functional(&inner, &json!([["inner_x", 0, 0]]), &json!([["b", 0, 0]]));
    inner["name"] = json!("inner");
    inner["inbound_nodes"] = json!([[["x", 0, 0, {}]], [["inner", 0, 0, {}]]]);
    let layers = json!([input("x", 3), inner, dense("out", 1, &["x"])]);
    let outputs = json!([["inner", 1, 0], ["out", 0, 0]]);
    let model = functional(&layers, &json!([["x", 0, 0]]), &outputs);
    let found = graph(&model.to_string());
    assert_eq!(names(&found), ["inner/a", "inner/b", "out"]);
    let expected: [(usize, &[usize]); 5] = [(0, &[0]), (1, &[1]), (0, &[2]), (1, &[3]), (2, &[0])];
    assert_eq!(calls(&found), expected);
    let outputs: Vec<_> = found.outputs.iter().map(|output| output.value).collect();
    assert_eq!(outputs, [4, 5]);

    let mut frozen = model.clone();
    frozen["config"]["layers"][1]["config"]["trainable"] = json!(false);
    let trainable: Vec<_> = graph(&frozen.to_string())
        .layers
        .iter()
        .map(|layer| layer.weights[0].is_trainable)
        .collect();
    assert_eq!(trainable, [false, false, true]);

    let mut misfit = model;
    misfit["config"]["layers"][0] = input("x", 4);
    let place = "/config/layers/1/config/layers/0/config/batch_input_shape";
    assert_refused(&misfit.to_string(), place, "a value of shape [4], which does not fit");
}

#[test]
fn a_sequential_model_may_begin_with_a_model() {
    let inner = json!({"class_name": "Sequential", "config": {"name": "inner", "layers": [
        {"class_name": "InputLayer", "config": {"batch_shape": [null, 5], "name": "x"}},
        {"class_name": "Dense", "config": {"name": "a", "units": 2}}]}});
    let layers = json!([inner, {"class_name": "Dense", "config": {"name": "b", "units": 1}}]);
    let graph = graph(&sequential(&layers));
    assert_eq!(names(&graph), ["inner/a", "b"]);
    assert_eq!(graph.inputs[0].shape, [5]);
}

#[test]
fn a_call_that_infers_draws_no_masks_and_keeps_statistics() {
    let layers = json!([input("x", 3),
        {"class_name": "Dropout", "name": "d", "config": {"name": "d", "rate": 0.5},
            "inbound_nodes": [[["x", 0, 0, {"training": false}]]]},
        {"class_name": "BatchNormalization", "name": "n", "config": {"name": "n"},
            "inbound_nodes": [[["d", 0, 0, {"training": false}]]]}]);
    let model = functional(&layers, &json!([["x", 0, 0]]), &json!([["n", 0, 0]]));
    let graph = graph(&model.to_string());
    assert_eq!(graph.calls[0].operation, crate::layer::Operation::Identity);
    let crate::layer::Operation::BatchNormalization(layer) = &graph.calls[1].operation else {
        panic!("the second layer normalises")
    };
    assert!(layer.is_frozen);
    assert!(graph.layers[1].weights[0].is_trainable, "gamma is still trained");
}

#[test]
fn a_softmax_is_left_to_the_loss_only_where_nothing_else_uses_it() {
    let softmax = |name: &str, on: &str| {
        json!({"class_name": "Softmax", "name": name, "config": {"name": name},
            "inbound_nodes": [[[on, 0, 0, {}]]]})
    };
    let layers = json!([input("x", 3), softmax("a", "x"), softmax("b", "a")]);
    let outputs = json!([["a", 0, 0], ["b", 0, 0]]);
    let model = functional(&layers, &json!([["x", 0, 0]]), &outputs).to_string();
    let spec = crate::NetworkSpec::parse(&model).unwrap();
    let gives: Vec<_> = spec.outputs().iter().map(|output| output.gives_logits).collect();
    assert_eq!(gives, [false, true]);
}

#[test]
fn wrong_wiring_is_named() {
    let x = || input("x", 3);
    let ends = |layers: Value, output: &str| {
        functional(&layers, &json!([["x", 0, 0]]), &json!([[output, 0, 0]])).to_string()
    };
    let cycle = ends(json!([x(), dense("a", 3, &["b"]), dense("b", 3, &["a"])]), "b");
    assert_refused(&cycle, "/config/layers/1/inbound_nodes/0", "the calls form a cycle: \"a\"");
    let own = ends(json!([x(), dense("a", 3, &["a"])]), "a");
    assert_refused(&own, "/config/layers/1/inbound_nodes/0", "form a cycle");
    let unknown = ends(json!([x(), dense("a", 3, &["c"])]), "a");
    assert_refused(&unknown, "/config/layers/1/inbound_nodes/0", "no layer is named \"c\"");
    let same = ends(json!([x(), dense("a", 3, &["x"]), dense("a", 3, &["x"])]), "a");
    assert_refused(&same, "/config/layers/2/config/name", "another layer is named \"a\", too");
    let uncalled = ends(json!([x(), dense("a", 3, &["x"]), dense("b", 3, &[])]), "a");
    assert_refused(&uncalled, "/config/layers/2/inbound_nodes", "must list the layer's calls");
    let mut node = dense("b", 3, &["a"]);
    node["inbound_nodes"][0][0][1] = json!(1);
    let node = ends(json!([x(), dense("a", 3, &["x"]), node]), "b");
    let expected = "layer \"a\" has 1 calls, so there is no call 1";
    assert_refused(&node, "/config/layers/2/inbound_nodes/0", expected);
    let mut tensor = dense("b", 3, &["a"]);
    tensor["inbound_nodes"][0][0][2] = json!(1);
    let tensor = ends(json!([x(), dense("a", 3, &["x"]), tensor]), "b");
    assert_refused(&tensor, "/config/layers/2/inbound_nodes/0", "there is no output 1");
    let output = ends(json!([x(), dense("a", 3, &["x"])]), "b");
    assert_refused(&output, "/config/output_layers/0", "no layer is named \"b\"");
    let unlisted = ends(json!([x(), input("y", 3), dense("a", 3, &["y"])]), "a");
    assert_refused(&unlisted, "/config/layers/1", "0 times among the model's input_layers");
    let misfit = ends(json!([x(), dense("a", 2, &["x"]), dense("b", 2, &["x", "a"])]), "b");
    let expected = "its inputs of shapes [[2]] need other weights";
    assert_refused(&misfit, "/config/layers/2/inbound_nodes/1", expected);
}

#[test]
fn all_problems_are_found_at_once() {
    let layers = json!([
        {"class_name": "Dense", "config": {"units": 0, "batch_input_shape": [null, 4]}},
        {"class_name": "Lambda", "config": {"name": "code"}},
        {"class_name": "Sequential", "config": {"name": "inner", "layers": [
            {"class_name": "Dropout", "config": {"rate": 2}}]}},
        {"class_name": "Dense", "config": {"units": -1}},
    ]);
    let found = problems(&sequential(&layers));
    let places: Vec<_> = found.iter().map(|(place, _)| place.as_str()).collect();
    let expected = [
        "/config/layers/0/config/units",
        "/config/layers/1/config",
        "/config/layers/2/config/layers/0/config/rate",
        "/config/layers/3/config/units",
    ];
    assert_eq!(places, expected);
    assert!(found[1].1.contains("it holds code, which is never run"), "{found:?}");
    let entries = problems(&sequential(&json!([{"config": {}}, 7])));
    let places: Vec<_> = entries.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["/config/layers/0/class_name", "/config/layers/1"]);
}

#[test]
fn hostile_texts_are_refused_soon() {
    let dense = |units: usize| json!({"class_name": "Dense", "config": {"units": units}});
    let wide_input = json!({"class_name": "InputLayer",
        "config": {"batch_input_shape": [null, 1 << 24]}});
    let wide = sequential(&json!([wide_input, dense(1 << 24)]));
    let unknown_shape = sequential(&json!([{"class_name": "Dense",
        "config": {"units": 2, "batch_input_shape": [null, null]}}]));
    let huge_shape = sequential(&json!([{"class_name": "InputLayer",
        "config": {"batch_shape": [null, 1 << 24, 1 << 24, 1]}}]));
    let table = [
        ("", "", "is not the JSON of a Keras model"),
        ("[]", "", "must be an object, not []"),
        ("{\"class_name\": 3}", "/class_name", "must be a text, not 3"),
        ("{\"class_name\": \"Dense\"}", "/class_name", "must be Sequential or Functional"),
        ("{\"class_name\": \"Sequential\", \"config\": []}", "/config", "there are no layers"),
        ("{\"class_name\": \"Functional\", \"config\": []}", "/config", "must be an object"),
        (&"[".repeat(200), "", "recursion limit exceeded"),
        (&"[".repeat(100_000), "", "recursion limit exceeded"),
        (&"[".repeat(1 << 20), "", "at most 131072 are read"),
        (&" ".repeat((4 << 20) + 1), "", "at most 4194304 are read"),
        (&wide, "/config/layers/1/config", "elements"),
        (&unknown_shape, "/config/layers/0/config/batch_input_shape", "must be known"),
        (
            &sequential(&json!([dense(2)])),
            "/config/layers/0/config/batch_input_shape",
            "is missing",
        ),
        (&huge_shape, "/config/layers/0/config/batch_shape", "more than 2147483648 elements"),
    ];
    for (text, place, expected) in table {
        assert_refused(text, place, expected);
    }
}

/// Twenty levels, each calling the next one twice: a million calls if each were made.
#[test]
fn shared_nested_models_cannot_multiply_without_end() {
    let mut model = functional(
        &json!([input("x", 2), dense("d", 2, &["x"])]),
        &json!([["x", 0, 0]]),
        &json!([["d", 0, 0]]),
    );
    for _ in 0..20 {
        model["name"] = json!("m");
        model["inbound_nodes"] = json!([[["x", 0, 0, {}]], [["m", 0, 0, {}]]]);
        model = functional(
            &json!([input("x", 2), model]),
            &json!([["x", 0, 0]]),
            &json!([["m", 1, 0]]),
        );
    }
    let found = problems(&model.to_string());
    assert!(found[0].1.contains("more than 16384 calls"), "{found:?}");
}

#[test]
fn a_version_that_is_not_known_is_refused() {
    let layers = json!([{"class_name": "Dense", "config": {"name": "a", "units": 2,
        "batch_input_shape": [null, 3]}}]);
    let mut model: Value = serde_json::from_str(&sequential(&layers)).unwrap();
    model["keras_version"] = json!("1.2");
    assert_refused(&model.to_string(), "/keras_version", "Keras \"1.2\" is not supported");
}

proptest::proptest! {
    /// Any field of any layer replaced by any value: read or refused, never a panic.
    #[test]
    fn no_text_near_a_model_panics(place in 0_usize..400, kind in 0_usize..10) {
        let values = [json!(null), json!(1), json!(-1), json!(1e300), json!("same"),
            json!([1, 2, 3]), json!({"class_name": "Zeros"}), json!([[[]]]), json!(u64::MAX),
            json!(true)];
        let layers = json!([input("x", 6), dense("a", 6, &["x"]),
            {"class_name": "Reshape", "name": "r", "config": {"name": "r",
                "target_shape": [2, 3, 1]}, "inbound_nodes": [[["a", 0, 0, {}]]]},
            {"class_name": "Conv2D", "name": "c", "config": {"name": "c", "filters": 2,
                "kernel_size": [1, 2], "strides": [1, 1], "padding": "same"},
                "inbound_nodes": [[["r", 0, 0, {}]]]},
            {"class_name": "Flatten", "name": "f", "config": {"name": "f"},
                "inbound_nodes": [[["c", 0, 0, {}]]]},
            dense("b", 2, &["f"])]);
        let mut model = functional(&layers, &json!([["x", 0, 0]]), &json!([["b", 0, 0]]));
        let mut places = Vec::new();
        pointers(&model, String::new(), &mut places);
        let pointer = &places[place % places.len()];
        *model.pointer_mut(pointer).unwrap() = values[kind].clone();
        let _ = read_model(&model.to_string());
    }
}

/// The JSON pointers of all values below one.
fn pointers(value: &Value, place: String, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                pointers(item, format!("{place}/{i}"), found);
            }
        }
        Value::Object(fields) => {
            for (key, item) in fields {
                pointers(item, format!("{place}/{key}"), found);
            }
        }
        _ => {}
    }
    found.push(place);
}
