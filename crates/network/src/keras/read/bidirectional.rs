//! Two recurrent layers over one sequence, one of them from its end.

use super::recurrent::{
    Direction, direction, ignores_mask, kernel_macs, mask_rule, result, sequence,
};
use super::sequence::wrapped;
use super::{Context, Fitted};
use crate::fields::Fields;
use crate::keras::options;
use crate::layer::{BidirectionalMerge, Operation, Recurrent, Shape};

/// Reads Bidirectional.
pub(super) fn bidirectional(
    fields: &mut Fields<'_>,
    inputs: Option<&[Shape]>,
    context: &Context,
) -> Option<Fitted> {
    let merge = merge_mode(fields);
    let width = inputs.and_then(|inputs| inputs.first()?.get(1).copied());
    let forward = wrapped_direction(fields, "layer", "forward", width, context);
    let backward = match fields.value("backward_layer") {
        Some(_) => wrapped_direction(fields, "backward_layer", "backward", width, context),
        None => wrapped_direction(fields, "layer", "backward", width, context).map(|mut made| {
            made.layer.goes_backwards = !made.layer.goes_backwards;
            made
        }),
    };
    let (mut forward, mut backward) = (forward?, backward?);
    check_pair(fields, &forward.layer, &backward.layer, merge)?;
    for direction in [&mut forward, &mut backward] {
        direction.layer.zeroes_hidden_steps = direction.layer.returns_sequences;
        direction.layer.ignores_mask = ignores_mask(inputs?, context);
    }
    let states = [&forward.layer, &backward.layer]
        .map(|layer| vec![vec![layer.units]; layer.cell.states()])
        .concat();
    let steps = sequence(fields, inputs?, &states)?;
    let mut outputs = merged(&forward.layer, &backward.layer, merge, steps);
    if forward.layer.returns_state {
        outputs.extend(states);
    }
    let mask = mask_rule(&forward.layer);
    let weights = [forward.weights, backward.weights].concat();
    let macs = kernel_macs(&weights, steps);
    let (forward, backward) = (forward.layer, backward.layer);
    let operation = Operation::Bidirectional { forward, backward, merge };
    let fitted = Fitted::of(operation, Shape::new()).weighted(weights, macs);
    Some(Fitted { outputs, ..fitted }.masked(mask))
}

/// Reads the layer under `key` as one direction. Keras names it after itself and the direction; Keras
/// 3 writes the name so.
fn wrapped_direction(
    fields: &mut Fields<'_>,
    key: &str,
    way: &str,
    width: Option<usize>,
    context: &Context,
) -> Option<Direction> {
    let (mut inner, class) = wrapped(fields, key)?;
    let is_trainable = context.is_trainable & inner.flag("trainable", true);
    let context = &Context { is_trainable, ..*context };
    options::refuse_unsupported(&mut inner);
    let name = inner.text("name").map_or_else(|| class.to_lowercase(), str::to_owned);
    let made = direction(class, &mut inner, width, context);
    inner.finish(fields.problems());
    let Some(mut made) = made else {
        if !matches!(class, "SimpleRNN" | "LSTM" | "GRU") {
            let class: String = class.chars().take(80).collect();
            let text = format!("{class:?} is not supported here, only SimpleRNN, LSTM and GRU");
            fields.problem(key, text);
        }
        return None;
    };
    let written = ["forward_", "backward_"].into_iter().find_map(|way| name.strip_prefix(way));
    let name = written.filter(|_| context.keras_major > 2).unwrap_or(&name);
    for weight in &mut made.weights {
        weight.name = format!("{way}_{name}/{}", weight.name);
    }
    Some(made)
}

/// Reads what becomes of the two results.
fn merge_mode(fields: &mut Fields<'_>) -> BidirectionalMerge {
    if fields.is_null("merge_mode") {
        return BidirectionalMerge::Separate;
    }
    match fields.text("merge_mode") {
        None | Some("concat") => BidirectionalMerge::Concatenate,
        Some("sum") => BidirectionalMerge::Sum,
        Some("mul") => BidirectionalMerge::Multiply,
        Some("ave") => BidirectionalMerge::Average,
        Some(name) => {
            let text = format!("{name:?} is not concat, sum, mul, ave or null");
            fields.problem("merge_mode", text);
            BidirectionalMerge::Concatenate
        }
    }
}

/// Whether two layers make a pair.
fn check_pair(
    fields: &mut Fields<'_>,
    forward: &Recurrent,
    backward: &Recurrent,
    merge: BidirectionalMerge,
) -> Option<()> {
    let common =
        |layer: &Recurrent| (layer.returns_sequences, layer.returns_state, layer.is_stateful);
    let problem = if common(forward) != common(backward) {
        "must be like layer in return_sequences, return_state and stateful"
    } else if forward.goes_backwards == backward.goes_backwards {
        "must have another go_backwards than layer"
    } else if forward.units != backward.units && needs_equal_units(merge) {
        "must have as many units as layer, or merge_mode be concat"
    } else {
        return Some(());
    };
    fields.problem("backward_layer", problem);
    None
}

fn needs_equal_units(merge: BidirectionalMerge) -> bool {
    !matches!(merge, BidirectionalMerge::Concatenate | BidirectionalMerge::Separate)
}

/// Shapes of the merged results.
fn merged(
    forward: &Recurrent,
    backward: &Recurrent,
    merge: BidirectionalMerge,
    steps: usize,
) -> Vec<Shape> {
    let mut result_of_both = result(forward, steps);
    match merge {
        BidirectionalMerge::Separate => return vec![result_of_both, result(backward, steps)],
        BidirectionalMerge::Concatenate => {
            if let Some(units) = result_of_both.last_mut() {
                *units += backward.units;
            }
        }
        BidirectionalMerge::Sum | BidirectionalMerge::Multiply | BidirectionalMerge::Average => {}
    }
    vec![result_of_both]
}
