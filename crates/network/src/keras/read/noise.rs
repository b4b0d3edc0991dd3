//! Layers that do nothing but in training: dropout and noise.

use serde_json::Value;

use super::Fitted;
use super::windows::spatial;
use crate::fields::Fields;
use crate::keras::options;
use crate::layer::{Layout, MaskRule, Operation};

/// Reads Dropout.
pub(super) fn dropout(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let rate = options::rate(fields, "rate", -1.0);
    let shared = noise_shape(fields, input);
    let (shared_axes, shared_batch) = shared?;
    fitted(Operation::Dropout { rate, shared_axes, shared_batch }, rate, input)
}

/// Reads SpatialDropout, which drops whole channels.
pub(super) fn spatial_dropout(
    fields: &mut Fields<'_>,
    axes: usize,
    input: Option<&[usize]>,
) -> Option<Fitted> {
    let rate = options::rate(fields, "rate", -1.0);
    let layout = options::layout(fields);
    spatial(fields, input?, axes, layout)?;
    let mut shared_axes = vec![true; axes + 1];
    match layout {
        Layout::ChannelsLast => shared_axes[axes] = false,
        Layout::ChannelsFirst => shared_axes[0] = false,
    }
    fitted(Operation::Dropout { rate, shared_axes, shared_batch: false }, rate, input)
}

/// Reads GaussianNoise.
pub(super) fn gaussian_noise(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let deviation = fields.number("stddev", -1.0);
    if deviation < 0.0 {
        fields.problem("stddev", "must be given, and not be negative");
    }
    fitted(Operation::GaussianNoise { deviation }, deviation, input)
}

/// Reads GaussianDropout.
pub(super) fn gaussian_dropout(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let rate = options::rate(fields, "rate", -1.0);
    fitted(Operation::GaussianDropout { rate }, rate, input)
}

/// Reads AlphaDropout.
pub(super) fn alpha_dropout(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let rate = options::rate(fields, "rate", -1.0);
    if fields.value("noise_shape").is_some() {
        fields.problem("noise_shape", "is not supported for this class; it must be null");
    }
    fitted(Operation::AlphaDropout { rate }, rate, input)
}

/// Reads Identity.
pub(super) fn identity(input: Option<&[usize]>) -> Option<Fitted> {
    fitted(Operation::Identity, 0.0, input)
}

/// The operation, or nothing at all where its strength is 0.
fn fitted(operation: Operation, strength: f64, input: Option<&[usize]>) -> Option<Fitted> {
    let operation = if strength == 0.0 { Operation::Identity } else { operation };
    Some(Fitted::of(operation, input?.to_vec()).masked(MaskRule::Pass))
}

/// Along which axes of the input, and whether along the batch, one draw holds: `noise_shape` has 1
/// there, and else null or the input's length.
fn noise_shape(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<(Vec<bool>, bool)> {
    let shared = match fields.value("noise_shape") {
        None => return Some((vec![false; input?.len()], false)),
        Some(_) => fields.read("noise_shape", "a list of null, 1 or lengths", |value| {
            let items = value.as_array()?.iter();
            items.map(|item| item.is_null().then_some(None).or(Some(item.as_u64()))).collect()
        }),
    };
    let (shared, input): (Vec<Option<u64>>, _) = (shared?, input?);
    let fits = |(length, size): (&Option<u64>, &usize)| {
        length.is_none_or(|length| length == 1 || length == *size as u64)
    };
    match shared.as_slice() {
        [batch @ (None | Some(1)), lengths @ ..]
            if lengths.len() == input.len() && lengths.iter().zip(input).all(fits) =>
        {
            let axes = lengths.iter().map(|length| *length == Some(1)).collect();
            Some((axes, *batch == Some(1)))
        }
        _ => {
            let shape = Value::from(shared).to_string();
            let text = format!(
                "{shape} does not fit a batch of {input:?}: it needs null or 1 for the batch, and \
                 null, 1 or the length for each axis"
            );
            fields.problem("noise_shape", text);
            None
        }
    }
}
