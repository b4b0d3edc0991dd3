//! Recurrent layers over the steps of sequences, one way or both ways.
//!
//! A step that the mask hides keeps the states, and its output is the one before it: zeros where
//! there is none.

use burn::tensor::{Bool, Tensor};

use super::cell::Unrolled;
use super::{Mode, Weights};
use crate::layer::{BidirectionalMerge, Recurrent};
use crate::value::Value;

/// A batch of sequences.
#[derive(Clone)]
struct Sequences {
    /// (batch, steps, width).
    x: Tensor<3>,
    /// (batch, steps).
    mask: Option<Tensor<2>>,
}

/// What one pass over the steps gives.
struct Pass {
    /// (batch, units) by step, in the order in which they were taken; without returned sequences the
    /// last one alone.
    outputs: Vec<Tensor<2>>,
    /// The final ones: (batch, units).
    states: Vec<Tensor<2>>,
}

/// The layer's result, then its final states where it returns them.
pub(super) fn recurrent(
    number: usize,
    layer: &Recurrent,
    inputs: Vec<Value>,
    weights: &Weights<'_>,
    mode: &mut Mode<'_>,
) -> Vec<Value> {
    let (sequences, given) = take(inputs);
    let states = start(number, &[layer], &sequences, given, mode);
    let pass = run(layer, sequences, states, weights, mode);
    remember(number, layer, &pass.states, mode);
    let mut made = vec![joined(layer, pass.outputs)];
    if layer.returns_state {
        made.extend(pass.states.into_iter().map(Value::of));
    }
    made
}

/// The merged results of both directions, or one after the other; then their final states where they
/// return them.
pub(super) fn bidirectional(
    number: usize,
    [forward, backward]: [&Recurrent; 2],
    merge: BidirectionalMerge,
    inputs: Vec<Value>,
    weights: &Weights<'_>,
    mode: &mut Mode<'_>,
) -> Vec<Value> {
    let (sequences, given) = take(inputs);
    let mut states = start(number, &[forward, backward], &sequences, given, mode);
    let of_backward = states.split_off(forward.cell.states());
    let arrays = if forward.has_bias { 3 } else { 2 };
    let ahead = run(forward, sequences.clone(), states, weights, mode);
    let mut back = run(backward, sequences, of_backward, &weights.from(arrays), mode);
    back.outputs.reverse();
    let states = [ahead.states, back.states].concat();
    remember(number, forward, &states, mode);
    let results = [joined(forward, ahead.outputs), joined(backward, back.outputs)];
    let mut made = merged(merge, results);
    if forward.returns_state {
        made.extend(states.into_iter().map(Value::of));
    }
    made
}

/// The sequences, and the initial states where they are given.
fn take(inputs: Vec<Value>) -> (Sequences, Vec<Tensor<2>>) {
    let mut inputs = inputs.into_iter();
    let sequences = inputs.next().expect("a recurrent layer has an input");
    let mask = sequences.mask.clone();
    (Sequences { x: sequences.tensor(), mask }, inputs.map(Value::rows).collect())
}

/// The states before the first step: the given ones; those after the batch before, for a stateful
/// layer in inference; or zeros.
fn start(
    number: usize,
    layers: &[&Recurrent],
    sequences: &Sequences,
    given: Vec<Tensor<2>>,
    mode: &Mode<'_>,
) -> Vec<Tensor<2>> {
    if !given.is_empty() {
        return given;
    }
    let [batch, ..] = sequences.x.dims();
    if let Mode::Inference { memory } = mode
        && let Some((_, states)) = memory.states.iter().find(|(call, _)| *call == number)
    {
        let remembered = states[0].dims()[0];
        assert_eq!(remembered, batch, "a stateful layer takes batches of one size");
        return states.clone();
    }
    let device = sequences.x.device();
    let zeros = |layer: &&Recurrent| {
        vec![Tensor::zeros([batch, layer.units], &device); layer.cell.states()]
    };
    layers.iter().flat_map(zeros).collect()
}

/// Keeps a stateful layer's states for the next batch.
fn remember(number: usize, layer: &Recurrent, states: &[Tensor<2>], mode: &mut Mode<'_>) {
    let Mode::Inference { memory } = mode else { return };
    if layer.is_stateful {
        memory.states.retain(|(call, _)| *call != number);
        memory.states.push((number, states.iter().cloned().map(Tensor::detach).collect()));
    }
}

fn run(
    layer: &Recurrent,
    sequences: Sequences,
    mut states: Vec<Tensor<2>>,
    weights: &Weights<'_>,
    mode: &mut Mode<'_>,
) -> Pass {
    let [batch, steps, width] = sequences.x.dims();
    let mask = sequences.mask.filter(|_| !layer.ignores_mask);
    let hidden = hidden_steps(mask, steps, layer.units);
    let nothing = Tensor::<2>::zeros([batch, layer.units], &sequences.x.device());
    let cell = Unrolled::new(layer, [batch, width], weights, mode);
    let mut turns: Vec<_> = cell.project(sequences.x).into_iter().zip(hidden).collect();
    if layer.goes_backwards {
        turns.reverse();
    }
    let mut outputs: Vec<Tensor<2>> = Vec::with_capacity(steps);
    for (x, hidden) in turns {
        let mut next = cell.step(x, &states);
        let mut output = next[0].clone();
        if let Some(hidden) = hidden {
            let kept = next.into_iter().zip(states);
            next = kept.map(|(new, old)| new.mask_where(hidden.clone(), old)).collect();
            let before = outputs.last().filter(|_| !layer.zeroes_hidden_steps);
            output = output.mask_where(hidden, before.unwrap_or(&nothing).clone());
        }
        states = next;
        if !layer.returns_sequences {
            outputs.clear();
        }
        outputs.push(output);
    }
    Pass { outputs, states }
}

/// Which rows each step leaves as they were: (batch, units).
fn hidden_steps(
    mask: Option<Tensor<2>>,
    steps: usize,
    units: usize,
) -> Vec<Option<Tensor<2, Bool>>> {
    let Some(mask) = mask else { return vec![None; steps] };
    let batch = mask.dims()[0];
    let hidden = mask.lower_elem(0.5);
    (0..steps).map(|i| Some(hidden.clone().narrow(1, i, 1).expand([batch, units]))).collect()
}

/// (steps, units) for each sequence, or (units).
fn joined(layer: &Recurrent, mut outputs: Vec<Tensor<2>>) -> Value {
    if layer.returns_sequences {
        return Value::of(Tensor::stack::<3>(outputs, 1));
    }
    Value::of(outputs.pop().expect("a sequence has a step"))
}

fn merged(merge: BidirectionalMerge, [ahead, back]: [Value; 2]) -> Vec<Value> {
    let mut shape = ahead.shape().to_vec();
    let elementwise = |merge: fn(Tensor<2>, Tensor<2>) -> Tensor<2>, ahead: Value, back: Value| {
        vec![Value::of_rows(merge(ahead.rows(), back.rows()), shape.clone())]
    };
    match merge {
        BidirectionalMerge::Separate => vec![ahead, back],
        BidirectionalMerge::Sum => elementwise(|a, b| a + b, ahead, back),
        BidirectionalMerge::Multiply => elementwise(|a, b| a * b, ahead, back),
        BidirectionalMerge::Average => elementwise(|a, b| (a + b) / 2.0, ahead, back),
        BidirectionalMerge::Concatenate => {
            let vectors = |value: Value| {
                let (batch, units) = (value.batch(), value.shape().last().copied().unwrap_or(1));
                let steps = value.shape().iter().product::<usize>() / units;
                value.rows().reshape([batch, steps, units])
            };
            let both = Value::of(Tensor::cat(vec![vectors(ahead), vectors(back)], 2));
            if let Some(units) = shape.last_mut() {
                *units = both.shape()[1];
            }
            vec![both.reshape(shape)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::compute::check::floats;
    use crate::compute::probe::{Arrays, assert_gives, check_gradients, infer, train, value};
    use crate::layer::{Cell, Recurrent};
    use crate::network::Memory;
    use burn::tensor::Device;

    const LSTM: [&[usize]; 3] = [&[2, 8], &[2, 8], &[8]];
    const GRU: [&[usize]; 3] = [&[2, 6], &[2, 6], &[2, 6]];
    const OLD_GRU: [&[usize]; 3] = [&[2, 6], &[2, 6], &[6]];
    const SIMPLE: [&[usize]; 3] = [&[2, 2], &[2, 2], &[2]];
    const AFTER: Cell = Cell::Gru { resets_after: true };
    const BEFORE: Cell = Cell::Gru { resets_after: false };
    const MASK: [[f32; 3]; 2] = [[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]];

    /// With two units, and Keras's defaults.
    fn layer(cell: Cell) -> Recurrent {
        Recurrent {
            cell,
            units: 2,
            activation: Activation::Tanh,
            gate_activation: Activation::Sigmoid,
            has_bias: true,
            returns_sequences: false,
            returns_state: false,
            goes_backwards: false,
            is_stateful: false,
            dropout: 0.0,
            recurrent_dropout: 0.0,
            zeroes_hidden_steps: false,
            ignores_mask: false,
        }
    }

    fn sequences(cell: Cell) -> Recurrent {
        Recurrent { returns_sequences: true, ..layer(cell) }
    }

    /// Two sequences of three steps of two elements, then `states` initial states.
    fn inputs(mask: bool, states: usize, device: &Device) -> Vec<Value> {
        let mask = mask.then(|| Tensor::from_floats(MASK, device));
        let mut inputs = vec![value(0, &[3, 2], device).with_mask(mask)];
        inputs.extend((1..=states).map(|seed| value(seed, &[2], device)));
        inputs
    }

    fn assert_all(name: &str, made: &[Value], expected: &[Vec<f32>]) {
        assert_eq!(made.len(), expected.len(), "{name}");
        made.iter().zip(expected).for_each(|(made, expected)| assert_gives(name, made, expected));
    }

    struct Case {
        name: &'static str,
        layer: Recurrent,
        arrays: &'static [&'static [usize]],
        is_masked: bool,
        states: usize,
        expected: Vec<Vec<f32>>,
    }

    /// Computed by Keras 3.15 on JAX.
    #[rustfmt::skip]
    fn cases() -> Vec<Case> {
        let keeps_state = |layer: Recurrent| Recurrent { returns_state: true, ..layer };
        let goes_back = |layer: Recurrent| Recurrent { goes_backwards: true, ..layer };
        let zeroes = |layer: Recurrent| Recurrent { zeroes_hidden_steps: true, ..layer };
        vec![
            Case { name: "simple", layer: sequences(Cell::Simple), arrays: &SIMPLE, is_masked: false, states: 0, expected: vec![
                vec![-0.9178332, -0.3888124, -0.8281279, -0.9077709, -0.1189907, -0.9253088, -0.9027898, -0.4407008, -0.7793429, -0.9122188, -0.0006346, -0.9274883],
            ]},
            Case {
                name: "simple, backwards, without a bias",
                layer: Recurrent { activation: Activation::Relu, has_bias: false, ..goes_back(sequences(Cell::Simple)) },
                arrays: &SIMPLE[..2], is_masked: false, states: 0, expected: vec![
                vec![0.6289002, 0.0, 0.3890842, 0.4026771, 0.0, 0.4242702, 0.7169002, 0.0, 0.5263642, 0.4218172, 0.0, 0.480819],
            ]},
            Case { name: "LSTM and its states", layer: keeps_state(sequences(Cell::Lstm)), arrays: &LSTM, is_masked: false, states: 0, expected: vec![
                vec![0.0175296, 0.0776775, 0.0575431, 0.1064718, 0.1258688, 0.0940468, 0.0205951, 0.0776045, 0.0655139, 0.1033896, 0.1352685, 0.0891049],
                vec![0.1258688, 0.0940468, 0.1352685, 0.0891049],
                vec![0.2687943, 0.3336051, 0.2704225, 0.3190446],
            ]},
            Case { name: "masked LSTM and its states", layer: keeps_state(sequences(Cell::Lstm)), arrays: &LSTM, is_masked: true, states: 0, expected: vec![
                vec![0.0175296, 0.0776775, 0.0575431, 0.1064718, 0.0575431, 0.1064718, 0.0, 0.0, 0.0509906, 0.0690155, 0.1219268, 0.0776257],
                vec![0.0575431, 0.1064718, 0.1219268, 0.0776257],
                vec![0.2059719, 0.3429038, 0.2413384, 0.2772186],
            ]},
            Case {
                name: "LSTM from initial states",
                layer: Recurrent { activation: Activation::Softsign, gate_activation: Activation::HardSigmoid3, ..layer(Cell::Lstm) },
                arrays: &LSTM, is_masked: false, states: 2, expected: vec![
                vec![0.0878175, 0.0885921, 0.1008179, 0.0400227],
            ]},
            Case { name: "masked LSTM with zeros", layer: zeroes(sequences(Cell::Lstm)), arrays: &LSTM, is_masked: true, states: 0, expected: vec![
                vec![0.0175296, 0.0776775, 0.0575431, 0.1064718, 0.0, 0.0, 0.0, 0.0, 0.0509906, 0.0690155, 0.1219268, 0.0776257],
            ]},
            Case { name: "last of a masked LSTM with zeros", layer: zeroes(layer(Cell::Lstm)), arrays: &LSTM, is_masked: true, states: 0, expected: vec![
                vec![0.0, 0.0, 0.1219268, 0.0776257],
            ]},
            Case { name: "last of a masked LSTM", layer: layer(Cell::Lstm), arrays: &LSTM, is_masked: true, states: 0, expected: vec![
                vec![0.0575431, 0.1064718, 0.1219268, 0.0776257],
            ]},
            Case {
                name: "last of an LSTM that ignores the mask",
                layer: Recurrent { ignores_mask: true, ..layer(Cell::Lstm) },
                arrays: &LSTM, is_masked: true, states: 0, expected: vec![
                vec![0.1258688, 0.0940468, 0.1352685, 0.0891049],
            ]},
            Case { name: "GRU and its state", layer: keeps_state(layer(AFTER)), arrays: &GRU, is_masked: false, states: 0, expected: vec![
                vec![0.2057258, 0.835368, 0.1244256, 0.8122147],
                vec![0.2057258, 0.835368, 0.1244256, 0.8122147],
            ]},
            Case {
                name: "GRU without a bias",
                layer: Recurrent { has_bias: false, ..sequences(AFTER) },
                arrays: &GRU[..2], is_masked: false, states: 0, expected: vec![
                vec![0.3964389, 0.2132522, 0.2949569, 0.1953629, -0.0507198, 0.1044099, 0.3623224, 0.1831353, 0.2242338, 0.1558004, -0.1325, 0.0621531],
            ]},
            Case { name: "masked GRU, backwards", layer: keeps_state(goes_back(sequences(AFTER))), arrays: &GRU, is_masked: true, states: 0, expected: vec![
                vec![0.0, 0.0, 0.5866693, 0.707012, 0.8277768, 0.887521, 0.0677666, 0.4305858, 0.5003021, 0.7412201, 0.5003021, 0.7412201],
                vec![0.8277768, 0.887521, 0.5003021, 0.7412201],
            ]},
            Case { name: "masked old GRU", layer: sequences(BEFORE), arrays: &OLD_GRU, is_masked: true, states: 0, expected: vec![
                vec![0.6756285, 0.6589826, 0.6070716, 0.7040582, 0.6070716, 0.7040582, 0.0, 0.0, 0.3361332, 0.4549057, -0.0480354, 0.4986387],
            ]},
            Case { name: "old GRU from an initial state", layer: layer(BEFORE), arrays: &OLD_GRU, is_masked: false, states: 1, expected: vec![
                vec![0.1794419, 0.7017015, 0.1028458, 0.7334679],
            ]},
        ]
    }

    #[test]
    fn recurrent_layers_give_what_keras_gives() {
        for device in [Device::flex(), Device::flex().autodiff()] {
            for Case { name, layer, arrays, is_masked, states, expected } in cases() {
                let arrays = Arrays::of(arrays, &device);
                let inputs = inputs(is_masked, states, &device);
                let made = infer(|mode| recurrent(0, &layer, inputs, &arrays.weights(), mode));
                assert_all(name, &made, &expected);
            }
        }
    }

    #[test]
    fn a_step_hidden_before_all_others_gives_zeros_and_keeps_the_initial_state() {
        let device = Device::flex();
        let (arrays, inputs) = (Arrays::of(&LSTM, &device), inputs(true, 2, &device));
        let hidden = Some(Tensor::from_floats([[0.0; 3], [1.0; 3]], &device));
        let inputs = inputs.into_iter().map(|value| value.with_mask(hidden.clone())).collect();
        let layer = Recurrent { returns_state: true, ..sequences(Cell::Lstm) };
        let made = infer(|mode| recurrent(0, &layer, inputs, &arrays.weights(), mode));
        let [outputs, states @ ..] = made.as_slice() else { panic!("there is an output") };
        assert_eq!(floats(outputs.clone().rows())[..6], [0.0; 6]);
        for (seed, state) in (1..).zip(states) {
            let initial = floats(value(seed, &[2], &device).rows());
            let kept = floats(state.clone().rows());
            assert_eq!(kept[..2], initial[..2]);
            assert_ne!(kept[2..], initial[2..]);
        }
    }

    fn both_ways(
        layer: &Recurrent,
        merge: BidirectionalMerge,
        arrays: [&[usize]; 3],
        inputs: Vec<Value>,
        mode: &mut Mode<'_>,
    ) -> Vec<Value> {
        let zeroes_hidden_steps = layer.returns_sequences;
        let forward = Recurrent { zeroes_hidden_steps, ..layer.clone() };
        let backward = Recurrent { goes_backwards: true, ..forward.clone() };
        let arrays = Arrays::of(&[arrays, arrays].concat(), &Device::flex());
        bidirectional(0, [&forward, &backward], merge, inputs, &arrays.weights(), mode)
    }

    /// Computed by Keras 3.15 on JAX.
    #[test]
    #[rustfmt::skip]
    fn both_directions_are_merged_as_keras_does() {
        let device = Device::flex();
        let run = |layer, merge, arrays, is_masked, states| {
            infer(|mode| both_ways(&layer, merge, arrays, inputs(is_masked, states, &device), mode))
        };
        let both = BidirectionalMerge::Concatenate;
        let keeps_state = Recurrent { returns_state: true, ..sequences(Cell::Lstm) };
        let made = run(keeps_state, both, LSTM, false, 0);
        assert_eq!(made[0].shape(), [3, 4]);
        assert_all("states", &made, &[
            vec![0.0175296, 0.0776775, -0.3700279, 0.3042333, 0.0575431, 0.1064718, -0.1665531, 0.2799643, 0.1258688, 0.0940468, 0.068976, 0.046434, 0.0205951, 0.0776045, -0.3419569, 0.3128536, 0.0655139, 0.1033896, -0.1349896, 0.2403146, 0.1352685, 0.0891049, 0.1038054, -0.0028299],
            vec![0.1258688, 0.0940468, 0.1352685, 0.0891049],
            vec![0.2687943, 0.3336051, 0.2704225, 0.3190446],
            vec![-0.3700279, 0.3042333, -0.3419569, 0.3128536],
            vec![-0.5549353, 0.6247651, -0.5089167, 0.6002024],
        ]);
        let made = run(layer(Cell::Lstm), both, LSTM, false, 0);
        assert_all("last", &made, &[
            vec![0.1258688, 0.0940468, -0.3700279, 0.3042333, 0.1352685, 0.0891049, -0.3419569, 0.3128536],
        ]);
        let made = run(layer(Cell::Lstm), both, LSTM, false, 4);
        assert_all("initial states", &made, &[
            vec![0.1262301, 0.1069533, -0.3713598, 0.3114958, 0.1339406, 0.0524624, -0.3396136, 0.3107205],
        ]);
        let made = run(layer(Cell::Simple), both, SIMPLE, true, 0);
        assert_all("masked, last", &made, &[
            vec![-0.8281279, -0.9077709, 0.9118342, 0.163234, -0.1240608, -0.9310949, 0.8910488, 0.3897288],
        ]);
        let gru = |merge| run(sequences(AFTER), merge, GRU, true, 0);
        assert_all("sum", &gru(BidirectionalMerge::Sum), &[
            vec![0.6875653, 0.9987648, 0.5764825, 0.9415673, 0.0, 0.0, 0.0, 0.0, 0.3428117, 0.6923468, -0.0362432, 0.6299869],
        ]);
        assert_all("product", &gru(BidirectionalMerge::Multiply), &[
            vec![-0.0922856, 0.1314737, -0.0522435, 0.0566749, 0.0, 0.0, 0.0, 0.0, -0.1038648, 0.0094143, -0.0146122, -0.0363573],
        ]);
        assert_all("average", &gru(BidirectionalMerge::Average), &[
            vec![0.3437826, 0.4993824, 0.2882413, 0.4707837, 0.0, 0.0, 0.0, 0.0, 0.1714059, 0.3461734, -0.0181216, 0.3149935],
        ]);
        assert_all("separate", &gru(BidirectionalMerge::Separate), &[
            vec![0.8025551, 0.8427613, 0.6561088, 0.8769392, 0.0, 0.0, 0.0, 0.0, 0.5364329, 0.678471, 0.1041101, 0.6832029],
            vec![-0.1149898, 0.1560035, -0.0796263, 0.0646281, 0.0, 0.0, 0.0, 0.0, -0.1936212, 0.0138758, -0.1403533, -0.0532159],
        ]);
    }

    /// The second call on the same input, computed by Keras 3.15 on JAX.
    #[test]
    fn stateful_layers_go_on_in_inference_only() {
        let device = Device::flex();
        let lstm = Recurrent { is_stateful: true, ..layer(Cell::Lstm) };
        let arrays = Arrays::of(&LSTM, &device);
        let call = |mode: &mut Mode<'_>| {
            recurrent(3, &lstm, inputs(false, 0, &device), &arrays.weights(), mode).remove(0)
        };
        let memory = &mut Memory::default();
        let first = vec![0.1258688, 0.0940468, 0.1352685, 0.0891049];
        assert_gives("first", &call(&mut Mode::Inference { memory }), &first);
        assert_gives("trained", &train(0, call), &first);
        let second = vec![0.1338242, 0.1076922, 0.1448788, 0.1008084];
        assert_gives("second", &call(&mut Mode::Inference { memory }), &second);

        let gru = Recurrent { is_stateful: true, ..layer(AFTER) };
        let merge = BidirectionalMerge::Concatenate;
        let call = |memory: &mut Memory| {
            let mode = &mut Mode::Inference { memory };
            both_ways(&gru, merge, GRU, inputs(false, 0, &device), mode).remove(0)
        };
        let memory = &mut Memory::default();
        call(memory);
        let second = [
            0.2044825, 0.8770322, -0.2992716, 0.2318799, 0.1228875, 0.8579155, -0.308973, 0.1961347,
        ];
        assert_gives("both ways", &call(memory), &second);
    }

    #[test]
    fn gradients_are_the_slopes() {
        let masked =
            |layer: &Recurrent, device: &Device, weights: &Weights<'_>, mode: &mut Mode<'_>| {
                recurrent(0, layer, inputs(true, 0, device), weights, mode)
            };
        for (cell, arrays) in
            [(Cell::Simple, SIMPLE), (Cell::Lstm, LSTM), (AFTER, GRU), (BEFORE, OLD_GRU)]
        {
            let plain = Recurrent { returns_state: true, ..sequences(cell) };
            let dropped = Recurrent { dropout: 0.3, recurrent_dropout: 0.4, ..plain.clone() };
            for layer in [plain, dropped] {
                check_gradients(&arrays, |device, weights, mode| {
                    masked(&layer, device, weights, mode)
                });
            }
        }
    }

    /// All weights are 1 and nothing is squashed, so that sums show what was dropped.
    #[test]
    fn one_dropout_mask_serves_all_steps() {
        let device = Device::flex();
        let linear = Recurrent {
            activation: Activation::Linear,
            has_bias: false,
            dropout: 0.5,
            units: 1,
            ..sequences(Cell::Simple)
        };
        let ones = Arrays::ones(&[&[2, 1], &[1, 1]], &device);
        let batch = 64;
        let steps = Value::of(Tensor::<3>::ones([batch, 3, 2], &device));
        let run = |layer: &Recurrent| -> Vec<f32> {
            let made = train(5, |mode| {
                recurrent(0, layer, vec![steps.clone()], &ones.weights(), mode).remove(0)
            });
            floats(made.rows())
        };
        let mut seen = Vec::new();
        for sums in run(&linear).chunks(3) {
            assert_eq!([sums[1], sums[2]], [2.0 * sums[0], 3.0 * sums[0]]);
            seen.push(sums[0]);
        }
        assert!([0.0, 2.0, 4.0].iter().all(|sum| seen.contains(sum)), "{seen:?}");

        let recurrent = Recurrent { dropout: 0.0, recurrent_dropout: 0.5, ..linear };
        let sums = run(&recurrent);
        for sums in sums.chunks(3) {
            assert!(sums == [2.0, 2.0, 2.0] || sums == [2.0, 6.0, 14.0], "{sums:?}");
        }
        assert!(sums.contains(&14.0) && sums.chunks(3).any(|sums| sums[2] == 2.0));
    }
}
