//! Layers over the last axis, or element by element, that have weights.

use super::arrays::{kernel_and_bias, weight};
use super::{Context, Fitted, macs};
use crate::activation::Activation;
use crate::fields::Fields;
use crate::initializer::Initializer;
use crate::keras::options;
use crate::layer::{MaskRule, Operation};

/// Reads Dense, which is applied along the last axis of an input of any rank.
pub(super) fn dense(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let units = fields.required_size("units");
    let activation =
        options::activation(fields, "activation", Activation::Linear, context.keras_major);
    let width = input.and_then(|input| input.last().copied()).unwrap_or(1);
    let weights = kernel_and_bias(fields, context, vec![width, units.unwrap_or(1)]);
    let mut output = input?.to_vec();
    *output.last_mut()? = units?;
    let macs = macs(output.iter().copied().chain([width]));
    let fitted = Fitted::of(Operation::Dense, output).weighted(weights, macs);
    Some(fitted.activated(activation).masked(MaskRule::Pass))
}

/// Reads PReLU, whose slopes are shared along some axes, counted from 1.
pub(super) fn parametric_relu(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    let shared = match fields.value("shared_axes") {
        Some(_) => options::axes(fields, "shared_axes", 1, input),
        None => Some(Vec::new()),
    };
    let mut shape = input.map_or_else(|| vec![1], <[usize]>::to_vec);
    for axis in shared.iter().flatten() {
        shape[*axis] = 1;
    }
    let alpha = weight(fields, context, "alpha", "alpha", shape, Initializer::Constant(0.0));
    shared?;
    let fitted = Fitted::of(Operation::ParametricRelu, input?.to_vec()).weighted(vec![alpha], 0);
    Some(fitted.masked(MaskRule::Pass))
}
