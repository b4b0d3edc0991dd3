//! How much memory a visit will take, before it takes it.
//!
//! With P parameters and S numbers that the optimizer keeps:
//!
//! ```text
//! weights      4 P
//! optimizer    4 S
//! state        the encoded state that the visit starts from
//! step         gradients and what a batch takes between the layers, at its highest
//! result       the encoded state that the visit leaves, when the step's memory is free again
//! ```
//!
//! and the sum is weights + optimizer + state + max(step, result). The step is worked out call by call
//! (`NetworkSpec::training_bytes`); an evaluation's, in batches of its own, may be larger.
//! `tests/memory.rs` compares with what is allocated.

use arrowhop_types::Encoding;

use crate::evaluation::BATCH_ROWS;
use crate::state::State;
use crate::task::Task;

/// Predicted peak memory of a visit, in bytes, by what takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// The network's weights.
    pub weights: u64,
    /// The optimizer's slots.
    pub optimizer: u64,
    /// Gradients, and what a batch takes between the layers.
    pub step: u64,
    /// An encoded state; a visit has one, and at its end two.
    pub state: u64,
}

impl Footprint {
    /// Of the task's training and evaluation visits.
    #[must_use]
    pub fn of(task: &Task) -> Self {
        let network = &task.network;
        let inputs = row_floats(task);
        let training = network.training_bytes(u64::from(task.config.batch_rows), &inputs);
        let evaluation = network.inference_bytes(u64::from(BATCH_ROWS), &inputs);
        Self {
            weights: 4 * network.parameters(),
            optimizer: State::optimizer_bytes(task),
            step: training.max(evaluation),
            state: State::data_bytes(task),
        }
    }

    /// The sum.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        [self.weights, self.optimizer, self.state, self.step.max(self.state)]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// Floats of a row of each input in a batch.
fn row_floats(task: &Task) -> Vec<u64> {
    let inputs = task.inputs.iter().enumerate().map(|(number, input)| match input.encoding {
        Encoding::OneHot { width } if !task.network.takes_one_hot(number) => u64::from(width),
        _ => input.elements() as u64,
    });
    inputs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{adam, classifier};

    #[test]
    fn parts_are_what_they_hold_and_the_larger_of_step_and_result_counts() {
        let task = classifier(adam(0.01), 1000, 1);
        let (all, trainable) =
            (4 * 16 + 16 + 4 * 16 + 16 * 3 + 3, 4 * 16 + 16 + 2 * 16 + 16 * 3 + 3);
        let found = Footprint::of(&task);
        assert_eq!(found.weights, 4 * all);
        assert_eq!(found.optimizer, 2 * 4 * trainable);
        assert_eq!(found.state, 4 * (all + 2 * trainable));
        assert!(found.step > 4 * 1000 * (4 + 16 + 16), "at least what goes in and comes out");
        assert_eq!(found.bytes(), found.weights + found.optimizer + found.state + found.step);
        let small = Footprint { step: 1, ..found };
        assert_eq!(small.bytes(), found.weights + found.optimizer + 2 * found.state);
    }
}
