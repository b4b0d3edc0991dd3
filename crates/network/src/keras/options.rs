//! Options that many layers share, and those that would change what a layer computes and are
//! therefore refused rather than ignored.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::read::activation::function;
use crate::activation::Activation;
use crate::fields::{Fields, shown};
use crate::layer::Layout;
use crate::window::Padding;

static NO_OPTIONS: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

/// Reads `key` as an object that is named or written as `{class_name, config}`: its class and its
/// options, whose problems are to be handed over.
pub(super) fn named<'a>(fields: &mut Fields<'a>, key: &str) -> Option<(&'a str, Fields<'a>)> {
    let (value, place) = (fields.value(key)?, fields.at(key));
    if let Value::String(name) = value {
        return Some((name, Fields::of(&NO_OPTIONS, place, fields.problems())?));
    }
    if !value.is_object() {
        fields.problem(key, format!("must be a name or an object, not {}", shown(value)));
        return None;
    }
    let mut object = Fields::of(value, place.clone(), fields.problems())?;
    let class = object.required_text("class_name");
    let config = object.value("config").unwrap_or(&NO_OPTIONS);
    object.finish(fields.problems());
    let config = Fields::of(config, format!("{place}/config"), fields.problems())?;
    Some((class?, config))
}

/// Reads `key` as the name of an activation, or as an activation layer.
pub(super) fn activation(
    fields: &mut Fields<'_>,
    key: &str,
    default: Activation,
    keras_major: u32,
) -> Activation {
    let Some((class, mut config)) = named(fields, key) else { return default };
    let found = match fields.value(key) {
        Some(Value::String(name)) => Activation::from_keras(name, keras_major),
        _ => function(class, &mut config),
    };
    config.finish(fields.problems());
    found.unwrap_or_else(|| {
        let class: String = class.chars().take(80).collect();
        fields.problem(key, format!("activation {class:?} is not supported"));
        default
    })
}

/// Notes a problem for each option that no layer here has.
pub(super) fn refuse_unsupported(fields: &mut Fields<'_>) {
    for key in fields.keys() {
        if key.ends_with("_constraint") {
            fields.problem(key, "constraints are not supported; it must be null");
        }
    }
    if fields.value("activity_regularizer").is_some() {
        let text = "penalties on outputs are not supported; it must be null";
        fields.problem("activity_regularizer", text);
    }
    refuse_other_dtypes(fields);
}

/// Keras 2 names a type, or has a policy object; Keras 3 has a policy object with a name.
fn refuse_other_dtypes(fields: &mut Fields<'_>) {
    let Some(value) = fields.value("dtype") else { return };
    let name = value.pointer("/config/name").unwrap_or(value);
    if name.as_str() != Some("float32") {
        fields.problem("dtype", format!("{} is not supported, only float32", shown(name)));
    }
}

/// Notes a problem for each of these options that is there and neither false nor 0.
pub(super) fn refuse_set(fields: &mut Fields<'_>, keys: &[&str]) {
    for key in keys {
        let value = fields.value(key);
        if value.is_some_and(|value| *value != Value::Bool(false) && value.as_f64() != Some(0.0)) {
            fields.problem(key, "is not supported; it must be null or false");
        }
    }
}

/// Reads where the channels stand.
pub(super) fn layout(fields: &mut Fields<'_>) -> Layout {
    match fields.text("data_format") {
        None | Some("channels_last") => Layout::ChannelsLast,
        Some("channels_first") => Layout::ChannelsFirst,
        Some(name) => {
            let text = format!("{name:?} is not channels_last or channels_first");
            fields.problem("data_format", text);
            Layout::ChannelsLast
        }
    }
}

/// Reads how borders are padded.
pub(super) fn padding(fields: &mut Fields<'_>, allows_causal: bool) -> Padding {
    match fields.text("padding").map(str::to_ascii_lowercase).as_deref() {
        None | Some("valid") => Padding::Valid,
        Some("same") => Padding::Same,
        Some("causal") if allows_causal => Padding::Causal,
        Some(name) => {
            fields.problem("padding", format!("{name:?} is not supported, only valid and same"));
            Padding::Valid
        }
    }
}

/// Reads the share of values that is dropped.
pub(super) fn rate(fields: &mut Fields<'_>, key: &str, default: f64) -> f64 {
    let rate = fields.number(key, default);
    if !(0.0..1.0).contains(&rate) {
        fields.problem(key, "must be given, at least 0 and below 1");
        return 0.0;
    }
    rate
}

/// Reads the number that keeps a variance from being 0.
pub(super) fn epsilon(fields: &mut Fields<'_>) -> f64 {
    let epsilon = fields.number("epsilon", 1e-3);
    if epsilon <= 0.0 {
        fields.problem("epsilon", "must be positive");
    }
    epsilon
}

/// Reads one axis of the input, which may stand in a list. Keras counts the batch as axis 0, and
/// backwards from -1; here the batch is not counted. `None` where the input is not known.
pub(super) fn axis(
    fields: &mut Fields<'_>,
    key: &str,
    default: i64,
    input: Option<&[usize]>,
) -> Option<usize> {
    match axes(fields, key, default, input)?.as_slice() {
        [axis] => Some(*axis),
        axes => {
            let text = format!("must be one axis, not {}; more are not supported", axes.len());
            fields.problem(key, text);
            None
        }
    }
}

/// Reads axes as [`axis`] does, and sorts them.
pub(super) fn axes(
    fields: &mut Fields<'_>,
    key: &str,
    default: i64,
    input: Option<&[usize]>,
) -> Option<Vec<usize>> {
    let numbers = match fields.value(key) {
        None => vec![default],
        Some(_) => {
            fields.read(key, "an axis or a list of axes", |value| match value.as_array() {
                None => Some(vec![value.as_i64()?]),
                Some(items) if items.is_empty() => None,
                Some(items) => items.iter().map(Value::as_i64).collect(),
            })?
        }
    };
    let input = input?;
    let mut axes = Vec::new();
    for number in numbers {
        axes.push(axis_of(fields, key, number, input)?);
    }
    axes.sort_unstable();
    if axes.windows(2).any(|pair| pair[0] == pair[1]) {
        fields.problem(key, "names an axis twice");
        return None;
    }
    Some(axes)
}

/// The axis of the input, without the batch, that Keras gives this number.
pub(super) fn axis_of(
    fields: &mut Fields<'_>,
    key: &str,
    number: i64,
    input: &[usize],
) -> Option<usize> {
    let rank = i64::try_from(input.len()).ok()? + 1;
    let counted = if number < 0 { number.checked_add(rank)? } else { number };
    if !(1..rank).contains(&counted) {
        let text = format!(
            "{number} is not an axis of an input of shape {input:?}; axis 0 is the batch, which is \
             left alone"
        );
        fields.problem(key, text);
        return None;
    }
    usize::try_from(counted - 1).ok()
}
