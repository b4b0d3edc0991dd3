//! How much memory a visit will take, before it takes it.
//!
//! With P parameters, P' of them trainable, S numbers that the optimizer keeps, B rows in a batch, and
//! for each layer the c copies of its output that the backward pass needs:
//!
//! ```text
//! weights      4 P
//! gradients    4 P'
//! optimizer    4 S
//! activations  4 B (input + Σ c · output) + working copies of the largest layer's input and output
//! state        2 · encoded state: the one read and the one written
//! ```
//!
//! c is 2 for a layer with a kernel (before and after its activation) and 3 for pooling (indices
//! are 64-bit), dropout (its mask) and batch normalisation. Working copies are the three that a
//! convolution's backward pass holds at once, between layouts. Measured on the networks of
//! `examples/throughput.rs` when convolutions still unfolded images, visits of convolutional networks
//! took 10 to 40 % less than this; not measured again with `arrowhop-kernels`, which keep fewer copies.

use arrowhop_types::Encoding;

use crate::evaluation::BATCH_ROWS;
use crate::state::State;
use crate::task::Task;

/// Copies of the largest layer's input and output at work in the backward pass.
const WORKING_COPIES: u64 = 3;

/// Predicted peak memory of a visit, in bytes, by what takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// The network's weights.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// The optimizer's slots.
    pub optimizer: u64,
    /// What a batch takes between the layers.
    pub activations: u64,
    /// Encoded states.
    pub state: u64,
}

impl Footprint {
    /// Of the task's training and evaluation visits.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let network = &task.network;
        let trainable = 4 * network.trainable_parameters();
        let batch_rows = u64::from(task.config.batch_rows);
        let (kept, working) = elements_per_row(task);
        let training = batch_rows.saturating_mul(kept + WORKING_COPIES * working);
        let evaluation = u64::from(BATCH_ROWS).saturating_mul(2 * working);
        Self {
            weights: 4 * network.parameters(),
            gradients: trainable,
            optimizer: State::optimizer_bytes(task),
            activations: training.max(evaluation).saturating_mul(4),
            state: 2 * State::data_bytes(task),
        }
    }

    /// The sum.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        [self.weights, self.gradients, self.optimizer, self.activations, self.state]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// Elements that one row keeps for the backward pass, and those of its largest layer.
fn elements_per_row(task: &Task) -> (u64, u64) {
    let mut input = input_elements(task);
    let (mut kept, mut working) = (input, 0);
    for layer in task.network.layers() {
        let output = layer.output.iter().product::<usize>() as u64;
        let copies = match layer.class.as_str() {
            "MaxPooling2D" | "AveragePooling2D" | "Dropout" | "BatchNormalization" => 3,
            _ => 2,
        };
        kept += copies * output;
        working = working.max(input + output);
        input = output;
    }
    (kept, working)
}

/// Elements of a row's inputs in a batch.
fn input_elements(task: &Task) -> u64 {
    let elements = task.inputs.iter().enumerate().map(|(number, input)| match input.encoding {
        Encoding::OneHot { width } if !task.network.takes_one_hot(number) => u64::from(width),
        _ => input.elements() as u64,
    });
    elements.sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{adam, classifier};

    #[test]
    fn each_part_is_what_the_formula_says() {
        let task = classifier(adam(0.01), 1000, 1);
        let (all, trainable) =
            (4 * 16 + 16 + 4 * 16 + 16 * 3 + 3, 4 * 16 + 16 + 2 * 16 + 16 * 3 + 3);
        let kept = 4 + 2 * 16 + 3 * 16 + 3 * 16 + 2 * 3;
        let expected = Footprint {
            weights: 4 * all,
            gradients: 4 * trainable,
            optimizer: 2 * 4 * trainable,
            activations: 4 * 1000 * (kept + 3 * (16 + 16)),
            state: 2 * 4 * (all + 2 * trainable),
        };
        assert_eq!(Footprint::of(&task), expected);
        assert_eq!(
            expected.bytes(),
            expected.weights
                + expected.gradients
                + expected.optimizer
                + expected.activations
                + expected.state
        );
    }
}
