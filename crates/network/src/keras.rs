//! The envelope of `model.to_json()`: Keras 2.0 to 2.15 and Keras 3, of which only Sequential
//! models are read. Finds every problem of a text in one pass.
//!
//! | | Keras 2.0–2.1 | 2.2–2.15 | 3 |
//! |---|---|---|---|
//! | `config` | list of layers | object with `layers` | object with `layers` |
//! | version | `keras_version` | `keras_version` | none, but `module` |
//! | input shape | `batch_input_shape` of the first layer | the same, or an InputLayer | `batch_shape` of the InputLayer |

mod read_layer;

use std::collections::BTreeSet;

use arrowhop_types::Problems;
use serde_json::Value;

use crate::fields::{Fields, shown, size_of};
use crate::layer::Layer;
use read_layer::read_layer;

/// A longer text is refused.
const TEXT_BYTES_MAX: usize = 16 << 20;
/// A text with more values than this is refused before it takes memory.
const VALUES_MAX: usize = 1 << 18;
/// Longer names are refused: they name weights in files.
const NAME_BYTES_MAX: usize = 256;
/// Parameters, and values of one example between two layers, stay below this.
pub(crate) const ELEMENTS_MAX: usize = 1 << 31;

/// A model as read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    /// The text without white space.
    pub(crate) compact_json: String,
    /// Shape of one example.
    pub(crate) input: Vec<usize>,
    pub(crate) layers: Vec<Layer>,
}

/// Reads a model's JSON.
pub(crate) fn read_model(text: &str) -> Result<Model, Problems> {
    let value = parse_bounded(text)?;
    let mut problems = Problems::new();
    let model = read_envelope(&value, &mut problems);
    match model {
        Some((input, layers)) if problems.is_empty() => {
            Ok(Model { compact_json: value.to_string(), input, layers })
        }
        _ => Err(problems),
    }
}

/// Parses a text whose size, number of values and depth (128, serde_json's own limit) are bounded.
fn parse_bounded(text: &str) -> Result<Value, Problems> {
    if text.len() > TEXT_BYTES_MAX {
        let text = format!("is {} bytes long; at most {TEXT_BYTES_MAX} are read", text.len());
        return Err(Problems::one("", text));
    }
    let values = text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count();
    if values > VALUES_MAX {
        let text = format!("has about {values} values; at most {VALUES_MAX} are read");
        return Err(Problems::one("", text));
    }
    serde_json::from_str(text)
        .map_err(|error| Problems::one("", format!("is not the JSON of a Keras model: {error}")))
}

fn read_envelope(value: &Value, problems: &mut Problems) -> Option<(Vec<usize>, Vec<Layer>)> {
    let mut top = Fields::of(value, String::new(), problems)?;
    let class = top.required_text("class_name");
    if let Some(class) = class
        && class != "Sequential"
    {
        top.problem(
            "class_name",
            format!("{class} models are not supported: only Sequential models are supported"),
        );
    }
    let keras_major = keras_major(&mut top);
    let config = top.value("config");
    if config.is_none() {
        top.problem("config", "is missing");
    }
    if !top.finish(problems) {
        return None;
    }
    let (layers, place, build_shape) = match config? {
        Value::Array(layers) => (layers, "/config".to_owned(), None),
        config => {
            let mut fields = Fields::of(config, "/config".into(), problems)?;
            if !fields.flag("trainable", true) {
                fields.problem("trainable", "freeze the layers, not the model");
            }
            let layers = match fields.value("layers") {
                Some(Value::Array(layers)) => Some(layers),
                Some(other) => {
                    fields.problem("layers", format!("must be a list, not {}", shown(other)));
                    None
                }
                None => {
                    fields.problem("layers", "is missing");
                    None
                }
            };
            let build_shape = fields.value("build_input_shape");
            fields.finish(problems);
            (layers?, "/config/layers".to_owned(), build_shape)
        }
    };
    let build_shape = build_shape.map(|shape| ("/config/build_input_shape".to_owned(), shape));
    read_layers(layers, &place, build_shape, keras_major, problems)
}

/// Keras 3 writes no version, but the module of each object.
fn keras_major(top: &mut Fields<'_>) -> u32 {
    let Some(version) = top.text("keras_version") else {
        return if top.value("module").is_some() { 3 } else { 2 };
    };
    let major = version.split('.').next().and_then(|major| major.parse().ok());
    match major {
        Some(major @ 2..=3) => major,
        _ => {
            top.problem(
                "keras_version",
                format!("Keras {version:?} is not supported, only 2 and 3"),
            );
            2
        }
    }
}

fn read_layers(
    values: &[Value],
    place: &str,
    build_shape: Option<(String, &Value)>,
    keras_major: u32,
    problems: &mut Problems,
) -> Option<(Vec<usize>, Vec<Layer>)> {
    if values.is_empty() {
        problems.push(place, "there are no layers");
        return None;
    }
    let input = read_input(values, place, build_shape, problems);
    let mut names = BTreeSet::new();
    let mut shape = input.clone();
    let mut layers = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let mut found = Problems::new();
        let layer_place = format!("{place}/{index}");
        let read =
            read_entry(value, &layer_place, index, &mut names, &mut found, |class, fields| {
                read_layer(class, fields, shape.as_deref(), keras_major)
            });
        problems.extend("", &found);
        match read {
            Some(Entry::Input) => {}
            Some(Entry::Layer(layer)) if found.is_empty() => {
                shape = Some(layer.output.clone());
                layers.push(*layer);
            }
            _ => shape = None,
        }
    }
    check_whole(&layers, place, problems);
    Some((input?, layers))
}

enum Entry {
    Input,
    Layer(Box<Layer>),
}

/// What a layer's class and options make of it, but for its name.
pub(crate) struct Unnamed {
    pub(crate) class: &'static str,
    pub(crate) is_trainable: bool,
    pub(crate) operation: crate::layer::Operation,
    pub(crate) activation: crate::activation::Activation,
    pub(crate) input: Vec<usize>,
    pub(crate) output: Vec<usize>,
}

/// Reads one entry of the list of layers: its class, its name, then its options.
fn read_entry(
    value: &Value,
    place: &str,
    index: usize,
    names: &mut BTreeSet<String>,
    problems: &mut Problems,
    read: impl FnOnce(&str, &mut Fields<'_>) -> Option<Unnamed>,
) -> Option<Entry> {
    let mut entry = Fields::of(value, place.to_owned(), problems)?;
    let class = entry.required_text("class_name");
    let config = entry.value("config");
    if config.is_none() {
        entry.problem("config", "is missing");
    }
    entry.finish(problems);
    let (class, config) = class.zip(config)?;
    let config_place = format!("{place}/config");
    if class == "InputLayer" {
        if index > 0 {
            problems.push(place, "an InputLayer can only come first");
        }
        return Some(Entry::Input);
    }
    let mut fields = Fields::of(config, config_place, problems)?;
    let name = match fields.text("name") {
        Some(name) => name.to_owned(),
        None => format!("{}_{index}", class.to_lowercase()),
    };
    if name.len() > NAME_BYTES_MAX || name.is_empty() {
        fields.problem("name", format!("must have 1 to {NAME_BYTES_MAX} bytes"));
    }
    if !names.insert(name.clone()) {
        fields.problem("name", format!("another layer is named {name:?}, too"));
    }
    let unnamed = read(class, &mut fields);
    fields.finish(problems);
    let Unnamed { class, is_trainable, operation, activation, input, output } = unnamed?;
    Some(Entry::Layer(Box::new(Layer {
        name,
        class,
        is_trainable,
        operation,
        activation,
        input,
        output,
    })))
}

/// The shape of one example: from the first layer, or from the model's own record of it.
fn read_input(
    values: &[Value],
    place: &str,
    build_shape: Option<(String, &Value)>,
    problems: &mut Problems,
) -> Option<Vec<usize>> {
    let in_layer = |key: &str| {
        let shape = values[0].get("config")?.get(key).filter(|shape| !shape.is_null())?;
        Some((format!("{place}/0/config/{key}"), shape))
    };
    let given = in_layer("batch_input_shape").or_else(|| in_layer("batch_shape")).or(build_shape);
    let Some((place, value)) = given else {
        problems.push(
            format!("{place}/0/config/batch_input_shape"),
            "is missing: give the first layer an input shape before exporting the model",
        );
        return None;
    };
    let dimensions = match value.as_array().map(Vec::as_slice) {
        Some([_batch, dimensions @ ..]) if (1..=4).contains(&dimensions.len()) => dimensions,
        _ => {
            problems
                .push(place, format!("must be [null, …] of 2 to 5 sizes, not {}", shown(value)));
            return None;
        }
    };
    let shape: Option<Vec<usize>> = dimensions.iter().map(size_of).collect();
    match shape {
        Some(shape) if elements(&shape).is_some() => Some(shape),
        Some(_) => {
            problems.push(place, format!("has more than {ELEMENTS_MAX} elements"));
            None
        }
        None => {
            problems.push(place, format!("each size must be known, but it is {}", shown(value)));
            None
        }
    }
}

/// Elements of a shape, where there are not too many.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .filter(|&product| product <= ELEMENTS_MAX)
}

/// What no single layer can see: the sum of the parameters and the shape of the output.
fn check_whole(layers: &[Layer], place: &str, problems: &mut Problems) {
    if !problems.is_empty() {
        return;
    }
    let weights = layers.iter().flat_map(Layer::weights);
    let total = weights
        .map(|weight| elements(&weight.shape))
        .try_fold(0, |sum, size| Some(sum + size?).filter(|&sum: &usize| sum <= ELEMENTS_MAX));
    if total.is_none() {
        problems.push(place, format!("there are more than {ELEMENTS_MAX} parameters"));
    }
    match layers.last() {
        None => problems.push(place, "there is only an input"),
        Some(last) if last.output.len() != 1 => problems.push(
            place,
            format!(
                "the output has shape {:?}, not one axis: end with Flatten, Dense",
                last.output
            ),
        ),
        Some(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Instant;

    fn model(layers: &Value) -> String {
        json!({"class_name": "Sequential", "config": {"layers": layers}}).to_string()
    }

    /// A small network with one field of one layer's config set.
    fn with(layer: usize, field: &str, value: &Value) -> String {
        let mut layers = json!([
            {"class_name": "InputLayer", "config": {"batch_input_shape": [null, 8, 8, 3]}},
            {"class_name": "Conv2D", "config": {"name": "a", "filters": 4, "kernel_size": 3}},
            {"class_name": "BatchNormalization", "config": {"name": "b"}},
            {"class_name": "MaxPooling2D", "config": {"name": "c", "pool_size": 2}},
            {"class_name": "Dropout", "config": {"name": "d", "rate": 0.5}},
            {"class_name": "Flatten", "config": {"name": "e"}},
            {"class_name": "Dense", "config": {"name": "f", "units": 5, "activation": "softmax"}},
        ]);
        layers[layer]["config"][field] = value.clone();
        model(&layers)
    }

    fn problems(text: &str) -> Vec<(String, String)> {
        let begun = Instant::now();
        let problems = read_model(text).expect_err("it is refused");
        assert!(begun.elapsed().as_millis() < 500, "it took {:?}", begun.elapsed());
        problems.iter().map(|problem| (problem.place.clone(), problem.text.clone())).collect()
    }

    #[test]
    fn each_unsupported_or_impossible_option_is_named_under_its_pointer() {
        let table = [
            (1, "filters", json!(0), "must be a whole number from 1 to 16777216, not 0"),
            (1, "filters", json!(1 << 25), "must be a whole number from 1 to"),
            (1, "filters", json!(-3), "must be a whole number"),
            (1, "filters", json!(2.5), "must be a whole number"),
            (1, "filters", Value::Null, "is missing"),
            (1, "kernel_size", json!([3, 3, 3]), "must be one or two whole numbers"),
            (1, "kernel_size", json!(9), "is larger than its input [8, 8, 3]"),
            (1, "strides", json!(0), "must be one or two whole numbers"),
            (1, "dilation_rate", json!(5), "no problem with this field"),
            (1, "groups", json!(3), "must be 1"),
            (1, "padding", json!("causal"), "\"causal\" is not supported"),
            (1, "data_format", json!("channels_first"), "only channels_last"),
            (1, "trainable", json!("no"), "must be true or false"),
            (1, "dtype", json!("float16"), "only float32"),
            (1, "dtype", json!({"config": {"name": "mixed_float16"}}), "\"mixed_float16\" is not"),
            (1, "activation", json!("swoosh"), "activation \"swoosh\" is not supported"),
            (1, "activation", json!({"class_name": "PReLU"}), "must be a text, not an object"),
            (
                1,
                "kernel_regularizer",
                json!({"class_name": "L2"}),
                "regularizers are not supported",
            ),
            (1, "bias_constraint", json!({"class_name": "MaxNorm"}), "constraints are not"),
            (1, "activity_regularizer", json!({}), "regularizers are not supported"),
            (1, "kernel_initializer", json!({"class_name": "Magic"}), "\"Magic\" is not supported"),
            (1, "kernel_initializer", json!("identity"), "Identity fills only matrices"),
            (1, "bias_initializer", json!("orthogonal"), "needs a matrix"),
            (2, "axis", json!(1), "only the last axis"),
            (2, "renorm", json!(true), "it must be false"),
            (2, "momentum", json!(1.5), "must be from 0 to 1"),
            (2, "epsilon", json!(0), "must be positive"),
            (3, "pool_size", json!(7), "is larger than its input [6, 6, 4]"),
            (4, "rate", json!(1), "below 1"),
            (4, "noise_shape", json!([1]), "must be null"),
            (6, "units", json!("many"), "must be a whole number from 1 to 16777216, not \"many\""),
            (6, "name", json!("a"), "another layer is named \"a\", too"),
            (6, "name", json!(""), "must have 1 to 256 bytes"),
        ];
        for (layer, field, value, expected) in table {
            let found = match read_model(&with(layer, field, &value)) {
                Ok(_) => panic!("{field} = {value} is accepted"),
                Err(found) => found,
            };
            let place = format!("/config/layers/{layer}/config/{field}");
            if expected == "no problem with this field" {
                assert!(found.iter().all(|problem| problem.place != place), "{found}");
                continue;
            }
            let first = found.iter().next().unwrap();
            assert_eq!(first.place, place, "{found}");
            assert!(first.text.contains(expected), "{found}");
        }
    }

    #[test]
    fn a_nested_initializer_is_read_under_its_own_pointer() {
        let scaling = json!({"class_name": "VarianceScaling", "config": {"mode": "fan_up"}});
        assert_eq!(
            problems(&with(6, "kernel_initializer", &scaling))[0],
            (
                "/config/layers/6/config/kernel_initializer/config/mode".into(),
                "\"fan_up\" is not fan_in, fan_out or fan_avg".into()
            )
        );
    }

    #[test]
    fn all_problems_are_found_at_once() {
        let layers = json!([
            {"class_name": "Dense", "config": {"units": 0, "batch_input_shape": [null, 4]}},
            {"class_name": "Lambda", "config": {"name": "code"}},
            {"class_name": "LSTM", "config": {"name": "memory"}},
            {"class_name": "Sequential", "config": {"name": "inner"}},
            {"config": {}},
            {"class_name": "InputLayer", "config": {}},
            7,
        ]);
        let places: Vec<_> =
            problems(&model(&layers)).into_iter().map(|(place, _)| place).collect();
        assert_eq!(
            places,
            [
                "/config/layers/0/config/units",
                "/config/layers/1/config",
                "/config/layers/2/config",
                "/config/layers/3/config",
                "/config/layers/4/class_name",
                "/config/layers/5",
                "/config/layers/6",
            ]
        );
        let text = |i: usize| problems(&model(&layers))[i].1.clone();
        assert!(text(1).starts_with("Lambda layers hold code"), "{}", text(1));
        assert_eq!(text(2), "layer class \"LSTM\" is not supported");
        assert!(text(3).starts_with("nested Sequential models are not supported"), "{}", text(3));
    }

    #[test]
    fn hostile_texts_are_refused_soon() {
        let dense = |units: usize| json!({"class_name": "Dense", "config": {"units": units}});
        let input = json!({"class_name": "InputLayer",
            "config": {"batch_input_shape": [null, 1 << 24]}});
        let wide = model(&json!([input, dense(1 << 24)]));
        let functional = json!({"class_name": "Functional", "config": {}}).to_string();
        let code = "{\"class_name\": \"Sequential\", \"config\": []}";
        let unknown_shape = model(&json!([{"class_name": "Dense",
            "config": {"units": 2, "batch_input_shape": [null, null]}}]));
        let no_shape = model(&json!([dense(2)]));
        let image = model(&json!([{"class_name": "Dropout",
            "config": {"rate": 0.1, "batch_input_shape": [null, 4, 4, 3]}}]));
        let dense_on_image = model(&json!([{"class_name": "Dense",
            "config": {"units": 2, "batch_input_shape": [null, 4, 4, 3]}}]));
        let table = [
            ("", "", "is not the JSON of a Keras model"),
            ("[]", "", "must be an object, not []"),
            ("{\"class_name\": 3}", "/class_name", "must be a text, not 3"),
            (&functional, "/class_name", "only Sequential models are supported"),
            (code, "/config", "there are no layers"),
            (&"[".repeat(200), "", "recursion limit exceeded"),
            (&"[".repeat(1 << 20), "", "at most 262144 are read"),
            (&" ".repeat((16 << 20) + 1), "", "at most 16777216 are read"),
            (&wide, "/config/layers", "more than 2147483648 parameters"),
            (&unknown_shape, "/config/layers/0/config/batch_input_shape", "must be known"),
            (&no_shape, "/config/layers/0/config/batch_input_shape", "is missing"),
            (&image, "/config/layers", "end with Flatten, Dense"),
            (&dense_on_image, "/config/layers/0/config", "add Flatten before it"),
        ];
        for (text, place, expected) in table {
            let found = problems(text);
            assert_eq!(found[0].0, place, "{found:?}");
            assert!(found[0].1.contains(expected), "{found:?}");
        }
    }

    #[test]
    fn shapes_and_costs_that_overflow_are_refused() {
        let layers = json!([
            {"class_name": "InputLayer", "config": {"batch_shape": [null, 1 << 24, 1 << 24, 1]}},
        ]);
        assert!(problems(&model(&layers))[0].1.contains("more than 2147483648 elements"));
        let layers = json!([
            {"class_name": "Conv2D", "config": {"name": "a", "filters": 1 << 24, "kernel_size": 1,
                "batch_input_shape": [null, 1 << 10, 1 << 10, 1]}},
            {"class_name": "Flatten", "config": {"name": "b"}},
        ]);
        let found = problems(&model(&layers));
        assert_eq!(found[0].0, "/config/layers/0/config");
        assert!(found[0].1.contains("has more than 2147483648 elements"), "{found:?}");
        let orthogonal = json!([{"class_name": "Dense", "config": {"units": 1 << 14, "name": "a",
            "kernel_initializer": "orthogonal", "batch_input_shape": [null, 1 << 14]}}]);
        assert!(problems(&model(&orthogonal))[0].1.contains("too large for Orthogonal"));
    }

    #[test]
    fn versions_decide_what_an_image_normalises_by() {
        let unbiased = |extra: Value| {
            let mut value: Value = serde_json::from_str(&with(4, "rate", &json!(0.5))).unwrap();
            for (key, field) in extra.as_object().unwrap() {
                value[key] = field.clone();
            }
            let model = read_model(&value.to_string()).unwrap();
            let crate::layer::Operation::BatchNormalization(normalization) =
                &model.layers[1].operation
            else {
                panic!("the second layer normalises")
            };
            normalization.unbiased
        };
        assert!(unbiased(json!({})));
        assert!(unbiased(json!({"keras_version": "2.2.4-tf"})));
        assert!(!unbiased(json!({"keras_version": "3.1.0"})));
        assert!(!unbiased(json!({"module": "keras"})));
        assert!(problems("{\"class_name\": \"Sequential\", \"keras_version\": \"1.2\"}").contains(
            &("/keras_version".into(), "Keras \"1.2\" is not supported, only 2 and 3".into())
        ));
    }

    #[test]
    fn list_form_and_object_form_are_the_same_model() {
        let layers = json!([{"class_name": "Dense", "config": {"name": "a", "units": 2,
            "kernel_initializer": {"class_name": "VarianceScaling", "config":
                {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform", "seed": 0}},
            "batch_input_shape": [null, 3]}}]);
        let list = json!({"class_name": "Sequential", "config": layers}).to_string();
        let (list, object) = (read_model(&list).unwrap(), read_model(&model(&layers)).unwrap());
        assert_eq!((list.input, list.layers), (object.input, object.layers));
    }

    proptest::proptest! {
        #[test]
        fn no_text_near_a_model_panics(layer in 0_usize..7, field in 0_usize..12, kind in 0_usize..8) {
            let fields = ["name", "filters", "kernel_size", "strides", "padding", "units", "rate",
                "activation", "kernel_initializer", "axis", "batch_input_shape", "pool_size"];
            let values = [json!(null), json!(1), json!(-1), json!(1e300), json!("same"),
                json!([1, 2, 3]), json!({"class_name": "Zeros"}), json!([[[]]])];
            let _ = read_model(&with(layer, fields[field], &values[kind]));
        }
    }
}
