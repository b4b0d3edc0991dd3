//! The envelope of `model.to_json()`: Keras 2.0 to 2.15 and Keras 3, Sequential and Functional.
//! Finds every problem of a text in one pass, and bounds what a hostile text can cost.
//!
//! | | Keras 2.0–2.1 | 2.2–2.15 | 3 |
//! |---|---|---|---|
//! | functional class | `Model` | `Model`, `Functional` | `Functional` |
//! | `config` of Sequential | list of layers | object with `layers` | object with `layers` |
//! | version | `keras_version` | `keras_version` | none, but `module` |
//! | input shape | `batch_input_shape` of the first layer | the same, or an InputLayer | `batch_shape` of the InputLayer |
//!
//! ```text
//! read_model ── envelope ──▶ Builder ── model.rs, entry by entry ──▶ read::read_layer: one layer
//!                              │  ▲    (builder.rs: values, layers, calls)
//!                              ▼  │ nested models
//!                            wiring.rs: who calls whom, in which order
//! ```

mod arguments;
mod builder;
mod entry;
mod model;
mod options;
mod read;
#[cfg(test)]
mod tests;
mod wiring;

use arrowhop_types::Problems;
use serde_json::Value;

use crate::fields::{Fields, shown, size_of};
use crate::graph::Graph;
use crate::layer::Shape;
use builder::Builder;

/// A longer text is refused.
const TEXT_BYTES_MAX: usize = 4 << 20;
/// A text with more values than this is refused before it takes memory.
const VALUES_MAX: usize = 1 << 17;
/// Parameters, and values of one example between two layers, stay below this.
pub(crate) const ELEMENTS_MAX: usize = 1 << 31;

/// Reads a model's JSON; gives it without white space, too.
pub(crate) fn read_model(text: &str) -> Result<(String, Graph), Problems> {
    let value = parse_bounded(text)?;
    let mut problems = Problems::new();
    let graph = read_envelope(&value, &mut problems);
    match graph {
        Some(graph) if problems.is_empty() => Ok((value.to_string(), graph)),
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
    let value: Value = serde_json::from_str(text)
        .map_err(|error| Problems::one("", format!("is not the JSON of a Keras model: {error}")))?;
    // `json.dumps(model.to_json())`, and some databases, wrap the text once more.
    match value {
        Value::String(text) => serde_json::from_str(&text).map_err(|error| {
            Problems::one("", format!("is a text that is not the JSON of a Keras model: {error}"))
        }),
        value => Ok(value),
    }
}

fn read_envelope(value: &Value, problems: &mut Problems) -> Option<Graph> {
    let mut top = Fields::of(value, String::new(), problems)?;
    let class = top.required_text("class_name");
    if let Some(class) = class
        && !is_model(class)
    {
        let text = format!("{class:?} is not a model; it must be Sequential or Functional");
        top.problem("class_name", text);
    }
    let keras_major = keras_major(&mut top);
    let config = top.value("config");
    if config.is_none() {
        top.problem("config", "is missing");
    }
    if !top.finish(problems) {
        return None;
    }
    let mut builder = Builder::new(keras_major);
    builder.top_model(class?, config?);
    builder.finish(problems)
}

/// Whether this class is a model of layers.
fn is_model(class: &str) -> bool {
    matches!(class, "Sequential" | "Functional" | "Model")
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
            let text = format!("Keras {version:?} is not supported, only 2 and 3");
            top.problem("keras_version", text);
            2
        }
    }
}

/// The shape of one example from `[null, …]`; sizes that are not known are `None`.
fn read_shape(value: &Value, place: &str, problems: &mut Problems) -> Option<Vec<Option<usize>>> {
    let dimensions = match value.as_array().map(Vec::as_slice) {
        Some([_batch, dimensions @ ..]) if (1..=5).contains(&dimensions.len()) => dimensions,
        _ => {
            let text = format!("must be [null, …] of 2 to 6 sizes, not {}", shown(value));
            problems.push(place, text);
            return None;
        }
    };
    let size = |value: &Value| if value.is_null() { Some(None) } else { size_of(value).map(Some) };
    let sizes: Option<Vec<_>> = dimensions.iter().map(size).collect();
    if sizes.is_none() {
        problems.push(place, format!("each size must be a whole number, not {}", shown(value)));
    }
    sizes
}

/// A shape whose sizes are all known, and not too many elements.
fn known(sizes: &[Option<usize>], place: &str, problems: &mut Problems) -> Option<Shape> {
    let Some(shape) = sizes.iter().copied().collect::<Option<Shape>>() else {
        let text = "each size but the batch's must be known: build the model with a fixed shape";
        problems.push(place, text);
        return None;
    };
    if elements(&shape).is_none() {
        problems.push(place, format!("has more than {ELEMENTS_MAX} elements"));
        return None;
    }
    Some(shape)
}

/// Elements of a shape, where there are not too many.
pub(crate) fn elements(shape: &[usize]) -> Option<usize> {
    shape
        .iter()
        .try_fold(1_usize, |product, &size| product.checked_mul(size))
        .filter(|&product| product <= ELEMENTS_MAX)
}
