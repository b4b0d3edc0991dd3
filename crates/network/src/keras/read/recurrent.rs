//! Recurrent layers.

use super::arrays::{GLOROT_UNIFORM, bias, weight};
use super::{Context, Fitted, macs};
use crate::activation::Activation;
use crate::fields::Fields;
use crate::initializer::Initializer;
use crate::keras::options;
use crate::layer::{Cell, MaskRule, Operation, Recurrent, Shape, Weight};

/// A recurrent layer and its weights.
pub(super) struct Direction {
    pub(super) layer: Recurrent,
    pub(super) weights: Vec<Weight>,
}

/// Reads SimpleRNN, LSTM and GRU.
pub(super) fn recurrent(
    class: &str,
    fields: &mut Fields<'_>,
    inputs: Option<&[Shape]>,
    context: &Context,
) -> Option<Fitted> {
    let width = inputs.and_then(|inputs| inputs.first()?.get(1).copied());
    let direction = direction(class, fields, width, context);
    let (inputs, Direction { mut layer, weights }) = inputs.zip(direction)?;
    layer.ignores_mask = ignores_mask(inputs, context);
    let states = vec![vec![layer.units]; layer.cell.states()];
    let steps = sequence(fields, inputs, &states)?;
    let mut outputs = vec![result(&layer, steps)];
    if layer.returns_state {
        outputs.extend(states);
    }
    let (mask, macs) = (mask_rule(&layer), kernel_macs(&weights, steps));
    let output = outputs[0].clone();
    let fitted = Fitted::of(Operation::Recurrent(layer), output).weighted(weights, macs);
    Some(Fitted { outputs, ..fitted }.masked(mask))
}

/// Reads the options of a layer of this class over steps of this width.
pub(super) fn direction(
    class: &str,
    fields: &mut Fields<'_>,
    width: Option<usize>,
    context: &Context,
) -> Option<Direction> {
    let (cell, name) = cell(class, fields)?;
    let units = fields.required_size("units");
    let major = context.keras_major;
    let activation = options::activation(fields, "activation", Activation::Tanh, major);
    let gate_activation = match cell {
        Cell::Simple => Activation::Sigmoid,
        Cell::Lstm | Cell::Gru { .. } => {
            options::activation(fields, "recurrent_activation", Activation::Sigmoid, major)
        }
    };
    options::refuse_set(fields, &["time_major"]);
    let sizes = (width.unwrap_or(1), units.unwrap_or(1));
    let weights = weights(cell, name, fields, sizes, context);
    let layer = Recurrent {
        cell,
        units: sizes.1,
        activation,
        gate_activation,
        has_bias: weights.len() == 3,
        returns_sequences: fields.flag("return_sequences", false),
        returns_state: fields.flag("return_state", false),
        goes_backwards: fields.flag("go_backwards", false),
        is_stateful: fields.flag("stateful", false),
        dropout: options::rate(fields, "dropout", 0.0),
        recurrent_dropout: options::rate(fields, "recurrent_dropout", 0.0),
        zeroes_hidden_steps: fields.flag("zero_output_for_mask", false),
        ignores_mask: false,
    };
    units?;
    Some(Direction { layer, weights })
}

/// The cell of a class, and Keras's name for it.
fn cell(class: &str, fields: &mut Fields<'_>) -> Option<(Cell, &'static str)> {
    Some(match class {
        "SimpleRNN" => (Cell::Simple, "simple_rnn_cell"),
        "LSTM" => (Cell::Lstm, "lstm_cell"),
        "GRU" => (Cell::Gru { resets_after: fields.flag("reset_after", true) }, "gru_cell"),
        _ => return None,
    })
}

/// Reads kernel, recurrent kernel and, where there is one, bias.
fn weights(
    cell: Cell,
    name: &str,
    fields: &mut Fields<'_>,
    (width, units): (usize, usize),
    context: &Context,
) -> Vec<Weight> {
    let gates = cell.gates() * units;
    let name = |array: &str| format!("{name}/{array}");
    let shape = vec![width, gates];
    let kernel = weight(fields, context, &name("kernel"), "kernel", shape, GLOROT_UNIFORM);
    let (shape, orthogonal) = (vec![units, gates], Initializer::Orthogonal { gain: 1.0 });
    let recurrent =
        weight(fields, context, &name("recurrent_kernel"), "recurrent", shape, orthogonal);
    let shape = match cell {
        Cell::Gru { resets_after: true } => vec![2, gates],
        Cell::Simple | Cell::Lstm | Cell::Gru { .. } => vec![gates],
    };
    let bias = bias(fields, context, shape).map(|bias| {
        let is_open = cell == Cell::Lstm && fields.flag("unit_forget_bias", true);
        let initializer = match is_open {
            true => Initializer::OpenForgetGate(Box::new(bias.initializer)),
            false => bias.initializer,
        };
        Weight { name: name("bias"), initializer, ..bias }
    });
    [kernel, recurrent].into_iter().chain(bias).collect()
}

/// The steps of the sequence; notes a problem where there is none, or where the inputs behind it are
/// not the states.
pub(super) fn sequence(
    fields: &mut Fields<'_>,
    inputs: &[Shape],
    states: &[Shape],
) -> Option<usize> {
    let [sequence, given @ ..] = inputs else { return None };
    let &[steps, _] = sequence.as_slice() else {
        let text = format!("needs an input of steps and elements, but it has shape {sequence:?}");
        fields.problem_here(text);
        return None;
    };
    if !given.is_empty() && given != states {
        let text = format!(
            "takes a sequence alone, or with {} initial states of shape {:?}; not {given:?}",
            states.len(),
            states[0]
        );
        fields.problem_here(text);
        return None;
    }
    Some(steps)
}

/// The shape of what a layer gives besides its states.
pub(super) fn result(layer: &Recurrent, steps: usize) -> Shape {
    if layer.returns_sequences { vec![steps, layer.units] } else { vec![layer.units] }
}

/// Only a sequence has hidden steps.
pub(super) fn mask_rule(layer: &Recurrent) -> MaskRule {
    if layer.returns_sequences { MaskRule::Pass } else { MaskRule::Consume }
}

/// Keras 3 gives no mask to a layer that is given initial states.
pub(super) fn ignores_mask(inputs: &[Shape], context: &Context) -> bool {
    inputs.len() > 1 && context.keras_major > 2
}

/// Both kernels are applied at each step.
pub(super) fn kernel_macs(weights: &[Weight], steps: usize) -> u64 {
    let kernels = weights.iter().filter(|weight| weight.name.ends_with("kernel"));
    let each = kernels.map(|kernel| macs(kernel.shape.iter().copied().chain([steps])));
    each.fold(0, u64::saturating_add)
}
