//! Scoring and predicting: inference only, in large batches of a fixed order.

use std::ops::ControlFlow;

use arrowhop_network::Network;
use arrowhop_types::Score;
use burn::tensor::{Device, Tensor, TensorData};

use crate::error::TrainError;
use crate::rows::{Inputs, Rows};
use crate::state::State;
use crate::task::Task;
use crate::visit::{Control, floats};

/// Rows per batch: enough for full kernels, little enough memory. Measured no slower than 256.
pub(crate) const BATCH_ROWS: u32 = 64;

/// Scores the model of this encoded state on these rows.
///
/// # Errors
/// When the state is not the task's, or the control ends the evaluation.
pub fn evaluate(
    task: &Task,
    state: &[u8],
    rows: &Rows<'_>,
    control: &mut dyn Control,
) -> Result<Score, TrainError> {
    let inference = Inference::start(task, state)?;
    let mut score = Score::default();
    for indices in batches(rows.rows()) {
        let output = floats(inference.network.forward(inference.batch(rows.inputs(), &indices)));
        score.add(&task.objective.score(&[&output], &[rows.targets(&indices)]));
        if control.batch_done(score.rows, &score).is_break() {
            return Err(TrainError::Stopped { rows_done: score.rows });
        }
    }
    Ok(score)
}

/// Gives `sink` the outputs of the rows, batch after batch in the rows' order: row-major, as many
/// per row as the network has outputs; probabilities where it ends in a softmax.
///
/// # Errors
/// When the state is not the task's, or `sink` breaks.
pub fn predict(
    task: &Task,
    state: &[u8],
    inputs: &Inputs<'_>,
    sink: &mut dyn FnMut(&[f32]) -> ControlFlow<()>,
) -> Result<(), TrainError> {
    let inference = Inference::start(task, state)?;
    let mut rows_done = 0;
    for indices in batches(inputs.rows()) {
        rows_done += indices.len() as u64;
        let output = inference.network.predict(inference.batch(inputs, &indices));
        if sink(&floats(output)).is_break() {
            return Err(TrainError::Stopped { rows_done });
        }
    }
    Ok(())
}

/// A network that does not learn.
struct Inference {
    network: Network,
    elements: usize,
    device: Device,
}

impl Inference {
    fn start(task: &Task, state: &[u8]) -> Result<Self, TrainError> {
        let device = Device::flex();
        let mut state = State::decode(task, state)?;
        state.use_averages(task);
        let network = Network::from_weights(&task.network, state.weights, &device)?;
        Ok(Self { network, elements: task.network.input_elements(), device })
    }

    fn batch(&self, inputs: &Inputs<'_>, indices: &[u32]) -> Tensor<2> {
        let mut batch = Vec::new();
        inputs.gather(indices, &mut batch);
        Tensor::from_data(TensorData::new(batch, [indices.len(), self.elements]), &self.device)
    }
}

/// The rows in order, in batches.
fn batches(rows: usize) -> impl Iterator<Item = Vec<u32>> {
    let rows = u32::try_from(rows).expect("a view has fewer than 2^32 rows");
    (0..rows)
        .step_by(BATCH_ROWS as usize)
        .map(move |start| (start..rows.min(start.saturating_add(BATCH_ROWS))).collect())
}
