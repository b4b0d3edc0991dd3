//! Layers that bring values to mean 0 and variance 1, or rescale them.

use super::arrays::{gamma_and_beta, weight};
use super::{Context, Fitted};
use crate::fields::Fields;
use crate::initializer::Initializer;
use crate::keras::options;
use crate::layer::{BatchNormalization, MaskRule, Operation, Weight};

/// Reads BatchNormalization.
pub(super) fn batch(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let momentum = fields.number("momentum", 0.99);
    if !(0.0..=1.0).contains(&momentum) {
        fields.problem("momentum", "must be from 0 to 1");
    }
    let epsilon = options::epsilon(fields);
    options::refuse_set(fields, &["renorm", "synchronized", "virtual_batch_size"]);
    let axis = options::axis(fields, "axis", -1, input);
    let shape = [input.zip(axis).map_or(1, |(input, axis)| input[axis])];
    let arrays = gamma_and_beta(fields, context, &shape);
    let has = arrays.each_ref().map(Option::is_some);
    let moving = [("moving_mean", 0.0), ("moving_variance", 1.0)].map(|(name, value)| {
        let default = Initializer::Constant(value);
        let array = weight(fields, context, name, name, shape.to_vec(), default);
        Weight { is_trainable: false, regularizer: None, ..array }
    });
    let (input, axis) = (input?.to_vec(), axis?);
    let operation = Operation::BatchNormalization(BatchNormalization {
        axis,
        momentum,
        epsilon,
        has_gamma: has[0],
        has_beta: has[1],
        is_unbiased: context.keras_major < 3 && is_fused(input.len(), axis),
        is_frozen: !context.is_trainable,
    });
    let weights = arrays.into_iter().flatten().chain(moving).collect();
    Some(Fitted::of(operation, input).weighted(weights, 0).masked(MaskRule::Pass))
}

/// Whether Keras 2 leaves it to TensorFlow's fused kernel, whose moving variance is of the n/(n−1)
/// kind: images and volumes with channels first or last.
fn is_fused(rank: usize, axis: usize) -> bool {
    matches!(rank, 3 | 4) && (axis == 0 || axis + 1 == rank)
}

/// Reads LayerNormalization.
pub(super) fn layer(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let epsilon = options::epsilon(fields);
    options::refuse_set(fields, &["rms_scaling"]);
    let axes = options::axes(fields, "axis", -1, input);
    let shape: Vec<usize> = match input.zip(axes.as_ref()) {
        Some((input, axes)) => axes.iter().map(|&axis| input[axis]).collect(),
        None => vec![1],
    };
    let arrays = gamma_and_beta(fields, context, &shape);
    let [has_gamma, has_beta] = arrays.each_ref().map(Option::is_some);
    let operation = Operation::LayerNormalization { axes: axes?, epsilon, has_gamma, has_beta };
    let weights = arrays.into_iter().flatten().collect();
    Some(Fitted::of(operation, input?.to_vec()).weighted(weights, 0).masked(MaskRule::Pass))
}

/// Reads GroupNormalization; −1 groups are as many as there are channels.
pub(super) fn group(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let epsilon = options::epsilon(fields);
    let axis = options::axis(fields, "axis", -1, input);
    let channels = input.zip(axis).map_or(1, |(input, axis)| input[axis]);
    let is_by_channel = fields.value("groups").is_some_and(|value| value.as_i64() == Some(-1));
    let groups = if is_by_channel { channels } else { fields.size("groups", 32) };
    if axis.is_some() && !channels.is_multiple_of(groups) {
        fields.problem("groups", format!("{groups} does not divide the {channels} channels"));
    }
    let arrays = gamma_and_beta(fields, context, &[channels]);
    let [has_gamma, has_beta] = arrays.each_ref().map(Option::is_some);
    let axis = axis?;
    let operation = Operation::GroupNormalization { groups, axis, epsilon, has_gamma, has_beta };
    let weights = arrays.into_iter().flatten().collect();
    Some(Fitted::of(operation, input?.to_vec()).weighted(weights, 0).masked(MaskRule::Pass))
}

/// Reads Rescaling.
pub(super) fn rescaling(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    if fields.value("scale").is_none() {
        fields.problem("scale", "is missing");
    }
    let (scale, offset) = (fields.number("scale", 1.0), fields.number("offset", 0.0));
    let operation = Operation::Rescaling { scale, offset };
    Some(Fitted::of(operation, input?.to_vec()).masked(MaskRule::Pass))
}
