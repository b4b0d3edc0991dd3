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
use crate::options;
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
        Some((input, layers)) if problems.is_empty() => Ok(Model {
            compact_json: value.to_string(),
            input,
            layers,
        }),
        _ => Err(problems),
    }
}

/// Parses a text whose size, number of values and depth (128, serde_json's own limit) are bounded.
fn parse_bounded(text: &str) -> Result<Value, Problems> {
    if text.len() > TEXT_BYTES_MAX {
        let text = format!(
            "is {} bytes long; at most {TEXT_BYTES_MAX} are read",
            text.len()
        );
        return Err(Problems::one("", text));
    }
    let values = text
        .bytes()
        .filter(|byte| matches!(byte, b',' | b'[' | b'{'))
        .count();
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
            options::refuse_frozen(&mut fields);
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
    let major = version
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
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
        let read = read_entry(
            value,
            &layer_place,
            index,
            &mut names,
            &mut found,
            |class, fields| read_layer(class, fields, shape.as_deref(), keras_major),
        );
        problems.extend("", &found);
        match read {
            Some(Entry::Input) => {}
            Some(Entry::Layer(layer)) if found.is_empty() => {
                shape = Some(layer.output.clone());
                layers.push(layer);
            }
            _ => shape = None,
        }
    }
    check_whole(&layers, place, problems);
    Some((input?, layers))
}

enum Entry {
    Input,
    Layer(Layer),
}

/// What a layer's class and options make of it, but for its name.
pub(crate) struct Unnamed {
    pub(crate) class: &'static str,
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
    let Unnamed {
        class,
        operation,
        activation,
        input,
        output,
    } = unnamed?;
    Some(Entry::Layer(Layer {
        name,
        class,
        operation,
        activation,
        input,
        output,
    }))
}

/// The shape of one example: from the first layer, or from the model's own record of it.
fn read_input(
    values: &[Value],
    place: &str,
    build_shape: Option<(String, &Value)>,
    problems: &mut Problems,
) -> Option<Vec<usize>> {
    let in_layer = |key: &str| {
        let shape = values[0]
            .get("config")?
            .get(key)
            .filter(|shape| !shape.is_null())?;
        Some((format!("{place}/0/config/{key}"), shape))
    };
    let given = in_layer("batch_input_shape")
        .or_else(|| in_layer("batch_shape"))
        .or(build_shape);
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
            problems.push(
                place,
                format!("must be [null, …] of 2 to 5 sizes, not {}", shown(value)),
            );
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
            problems.push(
                place,
                format!("each size must be known, but it is {}", shown(value)),
            );
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
        .try_fold(0, |sum, size| {
            Some(sum + size?).filter(|&sum: &usize| sum <= ELEMENTS_MAX)
        });
    if total.is_none() {
        problems.push(
            place,
            format!("there are more than {ELEMENTS_MAX} parameters"),
        );
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
