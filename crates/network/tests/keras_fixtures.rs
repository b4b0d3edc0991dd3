//! Models exported by Keras itself: counts, weight order and predictions. The files are not part of
//! the repository; without them these tests say so and pass.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests panic, and say when they skip"
)]

use std::path::{Path, PathBuf};

use arrowhop_network::{Network, NetworkSpec};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::{Value, json};

fn fixtures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    if !folder.exists() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

fn floats(array: &Value) -> Vec<f32> {
    let single = |value: &Value| value.as_f64().unwrap().to_string().parse().unwrap();
    array["data"].as_array().unwrap().iter().map(single).collect()
}

#[test]
fn keras_2_models_have_keras_counts_and_weight_order() {
    let Some(folder) = fixtures().map(|folder| folder.join("keras2_models")) else { return };
    let mut read_files = Vec::new();
    for entry in read_json(&folder.join("INDEX.json")).as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let spec = match NetworkSpec::parse(&read(&folder.join(file))) {
            Ok(spec) => spec,
            Err(problems) => {
                assert!(problems.to_string().contains("not supported"), "{file}: {problems}");
                continue;
            }
        };
        assert_eq!(json!(spec.parameters()), entry["params"], "{file}");
        assert_eq!(json!(spec.trainable_parameters()), entry["trainable"], "{file}");
        assert_eq!(json!(spec.layers().len()), entry["layers"], "{file}");
        let mmacs = format!("{:.1}", spec.macs() as f64 / 1e6);
        let expected = format!("{:.1}", entry["forward_mmacs_per_example"].as_f64().unwrap());
        assert_eq!(mmacs, expected, "{file}");
        let order = read_json(&folder.join("weights_order").join(file));
        let weights = spec.weights();
        let found =
            weights.iter().map(|weight| json!([format!("{}:0", weight.name), weight.shape]));
        assert_eq!(Value::Array(found.collect()), order, "{file}");
        read_files.push(file.to_owned());
    }
    let expected = [
        "iris_mlp_1hidden_like.json",
        "iris_mlp_2hidden_like.json",
        "cifar10_m1.json",
        "cifar10_m2_bn.json",
        "cifar10_m3_nobn.json",
        "mnist_transfer_frozen.json",
    ];
    assert_eq!(read_files, expected);
}

#[test]
fn madlib_s_texts_have_keras_counts_and_shapes() {
    let Some(folder) = fixtures().map(|folder| folder.join("madlib_arch")) else { return };
    let mut refused = Vec::new();
    for entry in read_json(&folder.join("INDEX.json")).as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        match NetworkSpec::parse(&read(&folder.join(file))) {
            Ok(spec) => {
                assert_eq!(json!(spec.parameters()), entry["params"], "{file}");
                let shapes: Vec<_> =
                    spec.weights().into_iter().map(|weight| weight.shape).collect();
                assert_eq!(json!(shapes), entry["weights"], "{file}");
            }
            Err(problems) => refused.push((file.to_owned(), problems.to_string())),
        }
    }
    let names: Vec<&str> = refused.iter().map(|(file, _)| file.as_str()).collect();
    assert_eq!(names, ["iris_setup_model_3.json"], "{refused:?}");
    assert!(refused[0].1.contains("Model models are not supported"), "{}", refused[0].1);
}

#[test]
fn a_keras_3_text_is_read() {
    let Some(folder) = fixtures().map(|folder| folder.join("keras3_models")) else { return };
    let spec = NetworkSpec::parse(&read(&folder.join("iris_mlp.json"))).unwrap();
    assert_eq!((spec.input_shape(), spec.outputs(), spec.parameters()), (&[4][..], 3, 83));
    let problems = NetworkSpec::parse(&read(&folder.join("lstm.json"))).unwrap_err();
    assert!(problems.to_string().contains("layer class \"GRU\" is not supported"), "{problems}");
}

/// A chain of a functional model's layers as a Sequential model with a vector as output.
fn as_sequential(functional: &Value) -> Value {
    let mut layers = functional["config"]["layers"].clone();
    let flatten = json!({"class_name": "Flatten", "config": {"name": "flatten at the end"}});
    layers.as_array_mut().unwrap().push(flatten);
    json!({"class_name": "Sequential", "config": {"layers": layers},
        "keras_version": functional["keras_version"]})
}

fn is_chain(functional: &Value) -> bool {
    let layers = functional["config"]["layers"].as_array().unwrap();
    layers.windows(2).all(|pair| {
        let inbound = &pair[1]["inbound_nodes"];
        *inbound == json!([[[pair[0]["name"], 0, 0, {}]]])
    })
}

#[test]
fn predictions_of_single_layers_are_those_of_keras_js() {
    let Some(folder) = fixtures().map(|folder| folder.join("kerasjs_fixtures")) else { return };
    let mut checked = 0;
    for record in read_json(&folder.join("fixtures.json")).as_array().unwrap() {
        let model = &record["keras2_model_json"];
        if record["status"] != "match" || !model.is_object() || !is_chain(model) {
            continue;
        }
        let Ok(spec) = NetworkSpec::parse(&as_sequential(model).to_string()) else { continue };
        let weights: Vec<_> = record["weights"].as_array().unwrap().iter().map(floats).collect();
        let device = Device::flex();
        let network = Network::from_weights(&spec, weights, &device).unwrap();
        let input = floats(&record["inputs"][0]);
        let rows =
            Tensor::<2>::from_data(TensorData::new(input, [1, spec.input_elements()]), &device);
        let found: Vec<f32> = network.predict(rows).into_data().try_into_vec().unwrap();
        let expected = floats(&record["expected"]);
        assert_eq!(found.len(), expected.len(), "{}", record["id"]);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let is_near = (found - expected).abs() <= 2e-5 * (1.0 + expected.abs());
            assert!(is_near, "{} [{i}]: {found}, not {expected}", record["id"]);
        }
        checked += 1;
    }
    assert_eq!(checked, 71);
}
