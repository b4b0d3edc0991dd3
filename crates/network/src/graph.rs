//! A network as a graph: layers in Keras's order, and their calls in an order in which each finds its
//! inputs made.
//!
//! Values have numbers: the inputs' first, then those of the calls in turn.

use crate::activation::Activation;
use crate::layer::{Call, Layer, Operation, Shape};

/// One input of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    /// Its InputLayer's name.
    pub(crate) name: String,
    pub(crate) shape: Shape,
}

/// One output of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// Its layer's name.
    pub(crate) name: String,
    /// The value's number.
    pub(crate) value: usize,
    pub(crate) shape: Shape,
    /// The softmax that makes it is left to the loss.
    pub(crate) gives_logits: bool,
    /// A sequence some of whose steps may be hidden: its loss would be that of the others.
    pub(crate) hides_steps: bool,
}

/// A checked network.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Graph {
    pub(crate) inputs: Vec<Input>,
    /// In Keras's order, without InputLayers.
    pub(crate) layers: Vec<Layer>,
    pub(crate) calls: Vec<Call>,
    pub(crate) outputs: Vec<Output>,
}

impl Graph {
    /// Each layer's first weight among all weights.
    pub(crate) fn first_weights(&self) -> Vec<usize> {
        let counts = self.layers.iter().scan(0, |next, layer| {
            let first = *next;
            *next += layer.weights.len();
            Some(first)
        });
        counts.collect()
    }

    /// Leaves a softmax over the last axis to the loss where it makes an output that nothing else
    /// uses: the loss is more exact without it.
    pub(crate) fn leave_softmax_to_losses(&mut self) {
        let used: Vec<usize> = self.calls.iter().flat_map(|call| call.inputs.clone()).collect();
        let mut value = self.inputs.len();
        for call in &mut self.calls {
            let made = value;
            value += call.outputs.len();
            let mut named = self.outputs.iter_mut().filter(|output| output.value == made);
            if call.activation == Activation::Softmax
                && !used.contains(&made)
                && let (Some(output), None) = (named.next(), named.next())
            {
                call.activation = Activation::Linear;
                output.gives_logits = true;
            }
        }
    }

    /// Whether a value is made into what is asked of it by Dense layers alone, so that a one-hot
    /// vector need never be written out.
    pub(crate) fn feeds_dense_alone(&self, value: usize) -> bool {
        let is_output = self.outputs.iter().any(|output| output.value == value);
        let mut users = self.calls.iter().filter(|call| call.inputs.contains(&value));
        !is_output && users.all(|call| call.operation == Operation::Dense)
    }
}
