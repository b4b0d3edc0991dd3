//! How much memory a step takes on the CPU, worked out from the graph before anything is computed.
//!
//! The forward pass is followed call by call, then the backward pass in the reverse order, with the
//! values that are alive at each point: those still to be used, those that a gradient will need, the
//! gradients on their way, and those of the weights so far. The largest sum is the step's.
//!
//! What a gradient needs, in floats of its call's inputs (i) and outputs (o):
//!
//! | call | keeps |
//! |---|---|
//! | dense, convolution by our kernels | its input; its output, where that is rectified |
//! | convolution by Burn | its input, in a layout of its own |
//! | maximum over windows | a place for each of o |
//! | batch normalisation | its input; layer and group normalisation 3 i |
//! | dropout and noise | a factor for each of i |
//! | product of values, embedding | its inputs |
//! | recurrent | for each step its gates and states, before and after their activations |
//! | attention | queries, keys, values, what is attended to, and three times the scores |
//! | activations | their output, softmax; those of several operations 3 o |

use crate::activation::Activation;
use crate::graph::Graph;
use crate::layer::{Call, Cell, ConvolutionKind, Layout, Merge, Operation, Pool, Recurrent};

/// Bytes of a float.
const FLOAT: u64 = 4;
/// No array counts as more, 64 TiB, so that sums over all calls stay below 2^64.
const ARRAY_MAX: u64 = 1 << 46;

/// Bytes of so many floats for each row.
fn bytes(rows: u64, floats: u64) -> u64 {
    FLOAT.saturating_mul(rows).saturating_mul(floats).min(ARRAY_MAX)
}

/// A step's values, one by one. Values that share memory are one: the first of them.
struct Step<'a> {
    graph: &'a Graph,
    /// The first of those that share its memory, of each value.
    first: Vec<usize>,
    /// Bytes of each value for the whole batch.
    values: Vec<u64>,
    /// Which ones a gradient needs.
    is_kept: Vec<bool>,
    /// Whether a trainable weight stands behind each.
    is_tracked: Vec<bool>,
    alive: u64,
    peak: u64,
}

/// Bytes that a training step of so many rows takes at most, gradients of weights included, weights
/// themselves not. `inputs` are the floats of a row of each input, as they are gathered.
pub(crate) fn of_training(graph: &Graph, rows: u64, inputs: &[u64]) -> u64 {
    let mut step = Step::new(graph, rows, inputs);
    step.forward(rows, true);
    step.backward(rows);
    step.peak
}

/// The same of inference.
pub(crate) fn of_inference(graph: &Graph, rows: u64, inputs: &[u64]) -> u64 {
    let mut step = Step::new(graph, rows, inputs);
    step.is_kept.fill(false);
    step.forward(rows, false);
    step.peak
}

impl<'a> Step<'a> {
    fn new(graph: &'a Graph, rows: u64, inputs: &[u64]) -> Self {
        let mut values: Vec<u64> = inputs.iter().map(|&floats| bytes(rows, floats)).collect();
        for call in &graph.calls {
            values.extend(call.outputs.iter().map(|shape| bytes(rows, elements(shape))));
        }
        let mut first: Vec<usize> = (0..values.len()).collect();
        let mut is_kept = vec![false; values.len()];
        let mut is_tracked = vec![false; values.len()];
        let mut next = inputs.len();
        for call in &graph.calls {
            let learns = graph.layers[call.layer].weights.iter().any(|weight| weight.is_trainable);
            let tracked = learns || call.inputs.iter().any(|&value| is_tracked[first[value]]);
            for value in next..next + call.outputs.len() {
                if shares(call) {
                    first[value] = first[call.inputs[0]];
                }
                is_tracked[first[value]] |= tracked;
                is_kept[first[value]] |= tracked && keeps_output(call);
            }
            next += call.outputs.len();
            for &value in call.inputs.iter().filter(|_| tracked && keeps_input(call)) {
                is_kept[first[value]] = true;
            }
        }
        Self { graph, first, values, is_kept, is_tracked, alive: 0, peak: 0 }
    }

    fn forward(&mut self, rows: u64, trains: bool) {
        let inputs = self.graph.inputs.len();
        let mut uses = vec![0_u32; self.values.len()];
        let used =
            self.graph.calls.iter().filter(|call| !shares(call)).flat_map(|call| &call.inputs);
        for &value in used.chain(self.graph.outputs.iter().map(|output| &output.value)) {
            uses[self.first[value]] += 1;
        }
        self.take(self.values[..inputs].iter().sum());
        let mut next = inputs;
        for call in &self.graph.calls {
            let made = next..next + call.outputs.len();
            next = made.end;
            if shares(call) {
                continue;
            }
            self.take(self.values[made].iter().sum());
            let kept = self.extra(call, rows);
            self.take(kept);
            if !trains {
                self.alive -= kept;
            }
            for &value in &call.inputs {
                let value = self.first[value];
                uses[value] -= 1;
                if uses[value] == 0 && !self.is_kept[value] {
                    self.alive -= self.values[value];
                }
            }
        }
    }

    fn backward(&mut self, rows: u64) {
        let mut gradients = vec![0; self.values.len()];
        for output in &self.graph.outputs {
            let value = self.first[output.value];
            if self.is_tracked[value] {
                gradients[value] = self.values[value];
            }
        }
        // The loss's slopes, and their products with the outputs.
        self.take(2 * gradients.iter().sum::<u64>());
        let mut next = self.values.len();
        for call in self.graph.calls.iter().rev() {
            let made = next - call.outputs.len()..next;
            next = made.start;
            if shares(call) || !made.clone().any(|value| self.is_tracked[self.first[value]]) {
                continue;
            }
            let of_outputs: u64 = made.clone().map(|value| gradients[value]).sum();
            if call.activation != Activation::Linear {
                // An array of its own, which takes the place of that it came from.
                self.take(of_outputs);
                self.alive -= of_outputs;
            }
            let weights = self.graph.layers[call.layer].weights.iter();
            let learned = weights.filter(|weight| weight.is_trainable);
            self.take(learned.map(|weight| FLOAT * elements(&weight.shape)).sum());
            for &value in &call.inputs {
                let value = self.first[value];
                if !self.is_tracked[value] {
                    continue;
                }
                // Where several calls took a value, their gradients are added up.
                self.take(self.values[value]);
                if gradients[value] > 0 {
                    self.alive -= self.values[value];
                }
                gradients[value] = self.values[value];
            }
            let kept: u64 = made.filter(|&v| self.is_kept[v]).map(|value| self.values[value]).sum();
            let done = of_outputs + self.extra(call, rows) + kept;
            self.alive = self.alive.saturating_sub(done);
        }
    }

    fn take(&mut self, bytes: u64) {
        self.alive = self.alive.saturating_add(bytes);
        self.peak = self.peak.max(self.alive);
    }

    /// Bytes that a call keeps besides its inputs and outputs.
    fn extra(&self, call: &Call, rows: u64) -> u64 {
        let output: u64 = call.outputs.iter().map(|shape| elements(shape)).sum();
        let input: u64 = call.inputs.iter().map(|&value| self.values[value]).sum::<u64>()
            / (FLOAT * rows).max(1);
        let of_activation = match call.activation {
            Activation::Linear | Activation::Relu | Activation::Sigmoid | Activation::Tanh => 0,
            Activation::Softmax | Activation::LogSoftmax => output,
            _ => 3 * output,
        };
        let of_operation = match &call.operation {
            Operation::Convolution(convolution) if !is_ours(convolution) => input,
            Operation::Pooling { kind: Pool::Max, .. } => output,
            Operation::LayerNormalization { .. } | Operation::GroupNormalization { .. } => {
                3 * input
            }
            Operation::BatchNormalization(layer) if layer.is_frozen => input,
            Operation::Dropout { .. }
            | Operation::GaussianNoise { .. }
            | Operation::GaussianDropout { .. } => input,
            Operation::AlphaDropout { .. } => 2 * input,
            Operation::Recurrent(layer) => steps_of(call) * of_step(layer),
            Operation::Bidirectional { forward, backward, .. } => {
                steps_of(call) * (of_step(forward) + of_step(backward))
            }
            Operation::MultiHeadAttention(attention) => {
                let steps = steps_of(call);
                let width = (attention.heads * (attention.key_size + attention.value_size)) as u64;
                2 * steps * width + 3 * attention.heads as u64 * steps * steps
            }
            _ => 0,
        };
        bytes(rows, of_activation + of_operation)
    }
}

/// Floats that a step of a recurrent layer keeps: what its gates add up, what their activations make
/// of it, products of these, and the states.
fn of_step(layer: &Recurrent) -> u64 {
    let each = match layer.cell {
        Cell::Simple => 3,
        Cell::Lstm => 24,
        Cell::Gru { .. } => 23,
    };
    each * layer.units as u64
}

fn steps_of(call: &Call) -> u64 {
    call.outputs.first().and_then(|shape| shape.first()).map_or(1, |&steps| steps as u64)
}

fn is_ours(convolution: &crate::layer::Convolution) -> bool {
    matches!(convolution.kind, ConvolutionKind::Plain { groups: 1 })
        && convolution.layout == Layout::ChannelsLast
        && convolution.window.axes.len() < 3
}

/// Whether a call's gradient needs its inputs.
fn keeps_input(call: &Call) -> bool {
    match &call.operation {
        Operation::Dense
        | Operation::BatchNormalization(_)
        | Operation::ParametricRelu
        | Operation::Dot { .. }
        | Operation::Embedding
        | Operation::Recurrent(_)
        | Operation::Bidirectional { .. }
        | Operation::TimeDistributed { .. }
        | Operation::MultiHeadAttention(_)
        | Operation::Merge(Merge::Multiply | Merge::Maximum | Merge::Minimum) => true,
        Operation::Convolution(convolution) => is_ours(convolution),
        _ => false,
    }
}

/// Whether a call's gradient needs its outputs.
fn keeps_output(call: &Call) -> bool {
    matches!(
        call.activation,
        Activation::Relu
            | Activation::Sigmoid
            | Activation::Tanh
            | Activation::Softmax
            | Activation::LogSoftmax
    )
}

/// Whether a call's output is its input's memory.
fn shares(call: &Call) -> bool {
    call.activation == Activation::Linear
        && matches!(
            call.operation,
            Operation::Identity | Operation::Reshape | Operation::Flatten { .. }
        )
}

fn elements(shape: &[usize]) -> u64 {
    shape.iter().map(|&size| size as u64).fold(1, u64::saturating_mul)
}
