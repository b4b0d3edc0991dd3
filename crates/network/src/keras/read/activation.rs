//! Activations as layers of their own.

use super::{Context, Fitted};
use crate::activation::Activation;
use crate::fields::Fields;
use crate::keras::options;
use crate::layer::{MaskRule, Operation, Shape};

/// Reads Activation.
pub(super) fn by_name(
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
    context: &Context,
) -> Option<Fitted> {
    if fields.value("activation").is_none() {
        fields.problem("activation", "is missing");
    }
    let default = Activation::Linear;
    let activation = options::activation(fields, "activation", default, context.keras_major);
    Some(applied(activation, input?.to_vec()))
}

/// Reads ReLU, LeakyReLU, ELU and ThresholdedReLU.
pub(super) fn by_class(
    class: &str,
    fields: &mut Fields<'_>,
    input: Option<&[usize]>,
) -> Option<Fitted> {
    let activation = function(class, fields)?;
    Some(applied(activation, input?.to_vec()))
}

/// Reads Softmax.
pub(super) fn softmax(fields: &mut Fields<'_>, input: Option<&[usize]>) -> Option<Fitted> {
    let axis = options::axis(fields, "axis", -1, input);
    let input = input?.to_vec();
    let axis = axis?;
    if axis + 1 == input.len() {
        return Some(applied(Activation::Softmax, input));
    }
    Some(Fitted::of(Operation::SoftmaxOver { axis }, input).masked(MaskRule::Pass))
}

/// The function of an activation layer that has neither weights nor axes; `None` for another class.
pub(in crate::keras) fn function(class: &str, fields: &mut Fields<'_>) -> Option<Activation> {
    Some(match class {
        "ReLU" => relu(fields),
        "LeakyReLU" => {
            let key = if fields.value("alpha").is_some() { "alpha" } else { "negative_slope" };
            Activation::LeakyRelu { slope: fields.number(key, 0.3) }
        }
        "ELU" => Activation::Elu { alpha: fields.number("alpha", 1.0) },
        "ThresholdedReLU" => {
            let threshold = fields.number("theta", 1.0);
            Activation::BoundedRelu { max: None, slope: 0.0, threshold }
        }
        _ => return None,
    })
}

fn relu(fields: &mut Fields<'_>) -> Activation {
    let max = fields.value("max_value").is_some().then(|| fields.number("max_value", 0.0));
    let (slope, threshold) =
        (fields.number("negative_slope", 0.0), fields.number("threshold", 0.0));
    let numbers = [("max_value", max.unwrap_or(0.0)), ("negative_slope", slope)];
    for (key, number) in numbers.into_iter().chain([("threshold", threshold)]) {
        if number < 0.0 {
            fields.problem(key, "must not be negative");
        }
    }
    match (max, slope == 0.0, threshold == 0.0) {
        (None, true, true) => Activation::Relu,
        (None, false, true) => Activation::LeakyRelu { slope },
        _ => Activation::BoundedRelu { max, slope, threshold },
    }
}

fn applied(activation: Activation, input: Shape) -> Fitted {
    Fitted::of(Operation::Identity, input).activated(activation).masked(MaskRule::Pass)
}
