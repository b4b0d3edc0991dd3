//! Layers over the steps of a sequence, but for recurrent ones.

use super::arrays::weight;
use super::{Context, Fitted, read_layer};
use crate::fields::Fields;
use crate::initializer::Initializer;
use crate::layer::{MaskRule, Operation};

/// Reads Embedding.
pub(super) fn embedding(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let words = fields.required_size("input_dim");
    let width = fields.required_size("output_dim");
    let makes_mask = fields.flag("mask_zero", false);
    let shape = vec![words.unwrap_or(1), width.unwrap_or(1)];
    let default = Initializer::Uniform { low: -0.05, high: 0.05 };
    let embeddings = weight(fields, context, "embeddings", "embeddings", shape, default);
    let input = input?;
    if makes_mask && input.len() != 1 {
        let text = format!("hides steps of a sequence, but the input has shape {input:?}");
        fields.problem("mask_zero", text);
    }
    let output = [input, &[width?]].concat();
    let mask = if makes_mask { MaskRule::Make } else { MaskRule::Drop };
    Some(Fitted::of(Operation::Embedding, output).weighted(vec![embeddings], 0).masked(mask))
}

/// Reads Masking.
pub(super) fn masking(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let value = fields.number("mask_value", 0.0);
    let input = input?;
    let [_, _] = input else {
        let text = format!("needs an input of steps and elements, but it has shape {input:?}");
        fields.problem_here(text);
        return None;
    };
    Some(Fitted::of(Operation::Masking { value }, input.to_vec()).masked(MaskRule::Make))
}

/// Reads TimeDistributed: a layer of one input and output, on each step.
pub(super) fn time_distributed(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let step = match input {
        Some([_, step @ ..]) if !step.is_empty() => Some([step.to_vec()]),
        Some(input) => {
            let text = format!("needs an input of steps and elements, but it has shape {input:?}");
            fields.problem_here(text);
            None
        }
        None => None,
    };
    let step = step.as_ref().map(<[_; 1]>::as_slice);
    let (mut inner, class) = wrapped(fields, "layer")?;
    let fitted = read_layer(class, &mut inner, step, context);
    inner.finish(fields.problems());
    let fitted = fitted?;
    let [output] = fitted.outputs.as_slice() else {
        fields.problem("layer", "gives several outputs, which is not supported here");
        return None;
    };
    if fitted.operation.is_stateful() {
        fields.problem("layer", "is stateful, which is not supported here");
    }
    if fitted.mask == MaskRule::Make {
        fields.problem("layer", "hides steps within a step, which is not supported");
    }
    let steps = *input?.first()?;
    let output = [&[steps], output.as_slice()].concat();
    let macs = fitted.macs.saturating_mul(steps as u64);
    let (operation, activation) = (Box::new(fitted.operation), fitted.activation);
    let operation = Operation::TimeDistributed { operation, activation };
    Some(Fitted::of(operation, output).weighted(fitted.weights, macs).masked(MaskRule::Pass))
}

/// Reads `key` as a layer within a layer: its options, whose problems are to be handed over, and its
/// class.
pub(super) fn wrapped<'a>(fields: &mut Fields<'a>, key: &str) -> Option<(Fields<'a>, &'a str)> {
    let place = fields.at(key);
    let Some(value) = fields.value(key) else {
        fields.problem(key, "is missing");
        return None;
    };
    let mut layer = Fields::of(value, place.clone(), fields.problems())?;
    let class = layer.required_text("class_name");
    let config = layer.value("config");
    if config.is_none() {
        layer.problem("config", "is missing");
    }
    layer.finish(fields.problems());
    let inner = Fields::of(config?, format!("{place}/config"), fields.problems())?;
    Some((inner, class?))
}
