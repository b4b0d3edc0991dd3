//! Cells of recurrent layers: what one step makes of its input and of the states before it.
//!
//! Source: Keras's `SimpleRNNCell`, `LSTMCell` and `GRUCell`. Dropout follows them, too: one mask
//! serves a sequence's steps, and all gates share it; with recurrent dropout, each gate of an LSTM or
//! GRU has its own masks, of the inputs as of the state.

use burn::tensor::{Device, Tensor};

use super::{Mode, Weights, noise};
use crate::layer::{Cell, Recurrent};
use crate::value::Value;

/// A layer's cell with its weights and dropout masks, ready for one batch of sequences.
pub(super) struct Unrolled<'a> {
    layer: &'a Recurrent,
    inputs: Vec<Product>,
    states: Vec<Product>,
}

/// The product of vectors with the kernels of some gates, which stand side by side.
struct Product {
    /// (width, gates · units).
    kernel: Tensor<2>,
    /// (1, gates · units).
    bias: Option<Tensor<2>>,
    /// (batch, width): multiplies the vectors.
    mask: Option<Tensor<2>>,
}

impl<'a> Unrolled<'a> {
    /// For sequences of `width` elements a step; draws its masks in training.
    pub(super) fn new(
        layer: &'a Recurrent,
        [batch, width]: [usize; 2],
        weights: &Weights<'_>,
        mode: &mut Mode<'_>,
    ) -> Self {
        let (kernel, recurrent) = (weights.get::<2>(0), weights.get::<2>(1));
        let [input_bias, state_bias] = biases(layer, weights);
        let gates = layer.cell.gates();
        let masks = if is_dropped(layer.recurrent_dropout) { gates } else { 1 };
        let device = kernel.device();
        let of_inputs = masks_of(layer.dropout, masks, [batch, width], mode, &device);
        let of_states =
            masks_of(layer.recurrent_dropout, gates, [batch, layer.units], mode, &device);
        let state_groups = match layer.cell {
            Cell::Gru { resets_after: false } => vec![2, 1],
            _ => vec![gates],
        };
        Self {
            layer,
            inputs: products(kernel, input_bias, of_inputs, vec![gates], layer.units),
            states: products(recurrent, state_bias, of_states, state_groups, layer.units),
        }
    }

    /// What each step adds to the gates, (batch, gates · units), from the sequences
    /// (batch, steps, width): one matrix product for all steps.
    pub(super) fn project(&self, sequences: Tensor<3>) -> Vec<Tensor<2>> {
        let [batch, steps, width] = sequences.dims();
        let rows = sequences.swap_dims(0, 1).reshape([steps * batch, width]);
        unstack(side_by_side(&self.inputs, &rows), steps)
    }

    /// The states after a step; the first is its output.
    pub(super) fn step(&self, x: Tensor<2>, states: &[Tensor<2>]) -> Vec<Tensor<2>> {
        let h = &states[0];
        match self.layer.cell {
            Cell::Simple => {
                vec![self.layer.activation.apply(x + side_by_side(&self.states, h))]
            }
            Cell::Lstm => self.step_lstm(x + side_by_side(&self.states, h), &states[1]),
            Cell::Gru { resets_after } => vec![self.step_gru(&x, h, resets_after)],
        }
    }

    /// Gates i, f, c, o.
    fn step_lstm(&self, gates: Tensor<2>, carry: &Tensor<2>) -> Vec<Tensor<2>> {
        let Recurrent { activation, gate_activation, .. } = *self.layer;
        let open = |i: usize| gate_activation.apply(self.gate(&gates, i));
        let candidate = activation.apply(self.gate(&gates, 2));
        let carry = open(1) * carry.clone() + open(0) * candidate;
        vec![open(3) * activation.apply(carry.clone()), carry]
    }

    /// Gates z, r, h.
    fn step_gru(&self, x: &Tensor<2>, h: &Tensor<2>, resets_after: bool) -> Tensor<2> {
        let Recurrent { activation, gate_activation, .. } = *self.layer;
        let last = self.states.len() - 1;
        let products = if resets_after { &self.states[..] } else { &self.states[..last] };
        let inner = side_by_side(products, h);
        let open = |i: usize| gate_activation.apply(self.gate(x, i) + self.gate(&inner, i));
        let (update, reset) = (open(0), open(1));
        let candidate = if resets_after {
            reset * self.gate(&inner, 2)
        } else {
            self.states[last].of(reset * h.clone())
        };
        let candidate = activation.apply(self.gate(x, 2) + candidate);
        update.clone() * h.clone() + (-update + 1.0) * candidate
    }

    fn gate(&self, gates: &Tensor<2>, i: usize) -> Tensor<2> {
        let units = self.layer.units;
        gates.clone().narrow(1, i * units, units)
    }
}

impl Product {
    /// Of (batch, width), or of many such under one another.
    fn of(&self, mut x: Tensor<2>) -> Tensor<2> {
        if let Some(mask) = &self.mask {
            let ([rows, width], [batch, _]) = (x.dims(), mask.dims());
            let mask = mask.clone().unsqueeze::<3>().expand([rows / batch, batch, width]);
            x = x * mask.reshape([rows, width]);
        }
        let product = x.matmul(self.kernel.clone());
        match &self.bias {
            Some(bias) => product + bias.clone(),
            None => product,
        }
    }
}

fn side_by_side(products: &[Product], x: &Tensor<2>) -> Tensor<2> {
    match products {
        [all] => all.of(x.clone()),
        _ => Tensor::cat(products.iter().map(|product| product.of(x.clone())).collect(), 1),
    }
}

/// Splits a kernel into groups of so many gates, each with its bias and mask; with several masks,
/// into single gates.
fn products(
    kernel: Tensor<2>,
    bias: Option<Tensor<2>>,
    masks: Vec<Tensor<2>>,
    mut groups: Vec<usize>,
    units: usize,
) -> Vec<Product> {
    if masks.len() > 1 {
        groups = vec![1; masks.len()];
    }
    let mut masks = masks.into_iter();
    let mut first = 0;
    let product = |gates: usize| {
        let cut = |array: &Tensor<2>| array.clone().narrow(1, first, gates * units);
        let (kernel, bias) = (cut(&kernel), bias.as_ref().map(cut));
        first += gates * units;
        Product { kernel, bias, mask: masks.next() }
    };
    groups.into_iter().map(product).collect()
}

/// The biases (1, gates · units) of the inputs' product and of the states'.
fn biases(layer: &Recurrent, weights: &Weights<'_>) -> [Option<Tensor<2>>; 2] {
    if !layer.has_bias {
        return [None, None];
    }
    if layer.cell == (Cell::Gru { resets_after: true }) {
        let rows = weights.get::<2>(2);
        return [Some(rows.clone().narrow(0, 0, 1)), Some(rows.narrow(0, 1, 1))];
    }
    [Some(weights.get::<1>(2).unsqueeze()), None]
}

/// Keras takes a rate of 1 for none.
fn is_dropped(rate: f64) -> bool {
    rate > 0.0 && rate < 1.0
}

/// Dropout masks of this shape: none in inference.
fn masks_of(
    rate: f64,
    count: usize,
    shape: [usize; 2],
    mode: &mut Mode<'_>,
    device: &Device,
) -> Vec<Tensor<2>> {
    if !is_dropped(rate) || matches!(mode, Mode::Inference { .. }) {
        return Vec::new();
    }
    let ones = || Value::of(Tensor::<2>::ones(shape, device));
    (0..count).map(|_| noise::dropout(rate, &[false], false, ones(), mode).rows()).collect()
}

/// Cuts rows into equal parts. By halves, because the gradient of each cut fills as many rows as were
/// cut from: one after the other, they would cost the square of the parts.
fn unstack(rows: Tensor<2>, parts: usize) -> Vec<Tensor<2>> {
    if parts == 1 {
        return vec![rows];
    }
    let (half, height) = (parts / 2, rows.dims()[0] / parts);
    let mut cut = unstack(rows.clone().narrow(0, 0, half * height), half);
    cut.extend(unstack(rows.narrow(0, half * height, (parts - half) * height), parts - half));
    cut
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::compute::check::floats;
    use crate::compute::probe::{Arrays, train};

    /// With weights and inputs of 1, what gates are given shows their masks.
    #[test]
    fn gates_share_a_mask_but_with_recurrent_dropout() {
        let device = Device::flex();
        let plain = Recurrent {
            cell: Cell::Lstm,
            units: 1,
            activation: Activation::Tanh,
            gate_activation: Activation::Sigmoid,
            has_bias: false,
            returns_sequences: false,
            returns_state: false,
            goes_backwards: false,
            is_stateful: false,
            dropout: 0.5,
            recurrent_dropout: 0.0,
            zeroes_hidden_steps: false,
            ignores_mask: false,
        };
        let arrays = Arrays::ones(&[&[3, 4], &[1, 4]], &device);
        let differ = |layer: &Recurrent| {
            let steps = train(1, |mode| {
                let cell = Unrolled::new(layer, [8, 3], &arrays.weights(), mode);
                cell.project(Tensor::ones([8, 2, 3], &device))
            });
            let [first, second]: [Vec<f32>; 2] =
                steps.into_iter().map(floats).collect::<Vec<_>>().try_into().unwrap();
            assert_eq!(first, second);
            first.chunks(4).any(|gates| gates != [gates[0]; 4])
        };
        assert!(!differ(&plain));
        assert!(differ(&Recurrent { recurrent_dropout: 0.5, ..plain }));
    }
}
