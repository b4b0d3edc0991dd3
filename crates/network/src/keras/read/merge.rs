//! Layers of several inputs, without weights.

use serde_json::Value;

use super::{Context, Fitted};
use crate::fields::Fields;
use crate::keras::options;
use crate::layer::{MaskRule, Merge, Operation, Shape};

/// Reads Add, Subtract, Multiply, Average, Maximum and Minimum.
pub(super) fn elementwise(
    fields: &mut Fields<'_>,
    merge: Merge,
    inputs: Option<&[Shape]>,
    context: &Context,
) -> Option<Fitted> {
    let inputs = inputs?;
    if merge == Merge::Subtract && inputs.len() != 2 {
        fields.problem_here(format!("Subtract takes two inputs, not {}", inputs.len()));
        return None;
    }
    let [first, rest @ ..] = inputs else {
        fields.problem_here("takes at least one input, not none");
        return None;
    };
    let output = rest.iter().try_fold(first.clone(), |output, shape| broadcast(&output, shape));
    let Some(output) = output else {
        fields.problem_here(format!("inputs of shapes {} do not match", shown(inputs)));
        return None;
    };
    Some(Fitted::of(Operation::Merge(merge), output).masked(mask_rule(context)))
}

/// Reads Concatenate.
pub(super) fn concatenate(
    fields: &mut Fields<'_>,
    inputs: Option<&[Shape]>,
    context: &Context,
) -> Option<Fitted> {
    let first = inputs.and_then(|inputs| inputs.first());
    let axis = options::axis(fields, "axis", -1, first.map(Vec::as_slice));
    let inputs = inputs?;
    let Some(first) = first else {
        fields.problem_here("takes at least one input, not none");
        return None;
    };
    let axis = axis?;
    let mut output = first.clone();
    for shape in &inputs[1..] {
        let mut expected = first.clone();
        if shape.len() == first.len() {
            expected[axis] = shape[axis];
        }
        if expected != *shape {
            let text = format!(
                "inputs of shapes {} may differ only along the axis of concatenation, {axis}",
                shown(inputs)
            );
            fields.problem_here(text);
            return None;
        }
        output[axis] += shape[axis];
    }
    let mask = match axis {
        _ if axis + 1 == first.len() => mask_rule(context),
        0 => MaskRule::Join,
        _ => MaskRule::Drop,
    };
    Some(Fitted::of(Operation::Concatenate { axis }, output).masked(mask))
}

/// Reads Dot.
pub(super) fn dot(fields: &mut Fields<'_>, inputs: Option<&[Shape]>) -> Option<Fitted> {
    let normalizes = fields.flag("normalize", false);
    if fields.value("axes").is_none() {
        fields.problem("axes", "is missing");
    }
    let numbers: Option<[i64; 2]> =
        fields.read("axes", "one axis, or one of each input", |value| {
            match value.as_array().map(Vec::as_slice) {
                Some([first, second]) => Some([first.as_i64()?, second.as_i64()?]),
                Some(_) => None,
                None => Some([Value::as_i64(value)?; 2]),
            }
        });
    let inputs = inputs?;
    let [first, second] = inputs else {
        fields.problem_here(format!("Dot takes two inputs, not {}", inputs.len()));
        return None;
    };
    let numbers = numbers?;
    let axes = [
        options::axis_of(fields, "axes", numbers[0], first)?,
        options::axis_of(fields, "axes", numbers[1], second)?,
    ];
    if first[axes[0]] != second[axes[1]] {
        let text = format!("{numbers:?} have other lengths in inputs of shapes {}", shown(inputs));
        fields.problem("axes", text);
        return None;
    }
    let others = |shape: &Shape, axis: usize| [&shape[..axis], &shape[axis + 1..]].concat();
    let mut output = [others(first, axes[0]), others(second, axes[1])].concat();
    if output.is_empty() {
        output.push(1);
    }
    Some(Fitted::of(Operation::Dot { axes, normalizes }, output))
}

fn mask_rule(context: &Context) -> MaskRule {
    if context.keras_major < 3 { MaskRule::All } else { MaskRule::Any }
}

/// The shape of two values element by element: axes of 1 are repeated, and axes are added in front
/// of the shorter shape.
fn broadcast(a: &[usize], b: &[usize]) -> Option<Shape> {
    let (long, short) = if a.len() < b.len() { (b, a) } else { (a, b) };
    let added = long.len() - short.len();
    let mut shape = long.to_vec();
    for (size, &other) in shape[added..].iter_mut().zip(short) {
        match (*size, other) {
            (1, _) => *size = other,
            (_, 1) => {}
            (size, other) if size == other => {}
            _ => return None,
        }
    }
    Some(shape)
}

/// Shapes for a message: the first few.
fn shown(shapes: &[Shape]) -> String {
    let first: Vec<String> = shapes.iter().take(4).map(|shape| format!("{shape:?}")).collect();
    let more = if shapes.len() > 4 { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}
