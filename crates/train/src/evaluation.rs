//! Scoring and predicting: inference only, in large batches of a fixed order.

use std::ops::ControlFlow;

use arrowhop_network::Network;
use arrowhop_types::Score;
use burn::tensor::Device;

use crate::error::TrainError;
use crate::learner::floats;
use crate::rows::{Inputs, Rows};
use crate::state::State;
use crate::task::Task;
use crate::visit::Control;

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
    let inference = Inference::start(task, state, rows.inputs().device())?;
    let mut score = Score::default();
    for indices in batches(rows.rows()) {
        let outputs = inference.network.forward(rows.inputs().batch(&indices));
        let outputs: Vec<_> = outputs.into_iter().map(floats).collect();
        let outputs: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
        let mut batch = task.objective.score(&outputs, &rows.targets(&indices));
        batch.penalise(inference.penalty);
        score.add(&batch);
        if control.batch_done(score.rows, &score).is_break() {
            return Err(TrainError::Stopped { rows_done: score.rows });
        }
    }
    Ok(score)
}

/// Gives `sink` the rows' outputs, batch after batch in the rows' order: for each of the network's
/// outputs the elements of all rows, row-major; probabilities where it ends in a softmax.
///
/// # Errors
/// When the state is not the task's, or `sink` breaks.
pub fn predict(
    task: &Task,
    state: &[u8],
    inputs: &Inputs<'_>,
    sink: &mut dyn FnMut(&[Vec<f32>]) -> ControlFlow<()>,
) -> Result<(), TrainError> {
    Model(Inference::start(task, state, inputs.device())?).predict(inputs, sink)
}

/// A model that is ready to be applied to rows, again and again.
#[derive(Debug)]
pub struct Model(Inference);

impl Model {
    /// The model of this encoded state, on the CPU.
    ///
    /// # Errors
    /// When the state is not the task's.
    pub fn open(task: &Task, state: &[u8]) -> Result<Self, TrainError> {
        Inference::start(task, state, &Device::flex()).map(Self)
    }

    /// As [`predict`].
    ///
    /// # Errors
    /// When `sink` breaks.
    pub fn predict(
        &self,
        inputs: &Inputs<'_>,
        sink: &mut dyn FnMut(&[Vec<f32>]) -> ControlFlow<()>,
    ) -> Result<(), TrainError> {
        let mut rows_done = 0;
        for indices in batches(inputs.rows()) {
            rows_done += indices.len() as u64;
            let outputs = self.0.network.predict(inputs.batch(&indices));
            let outputs: Vec<_> = outputs.into_iter().map(floats).collect();
            if sink(&outputs).is_break() {
                return Err(TrainError::Stopped { rows_done });
            }
        }
        Ok(())
    }
}

/// A network that does not learn.
#[derive(Debug)]
struct Inference {
    network: Network,
    /// On the weights, by the network's regularizers.
    penalty: f64,
}

impl Inference {
    fn start(task: &Task, state: &[u8], device: &Device) -> Result<Self, TrainError> {
        let mut state = State::decode(task, state)?;
        state.use_averages(task);
        let penalty = task.network.penalty(&state.weights);
        let network = Network::from_weights(&task.network, state.weights, device)?;
        let network = network.with_precision(task.config.precision);
        Ok(Self { network, penalty })
    }
}

/// The rows in order, in batches.
fn batches(rows: usize) -> impl Iterator<Item = Vec<u32>> {
    let rows = u32::try_from(rows).expect("a view has fewer than 2^32 rows");
    (0..rows)
        .step_by(BATCH_ROWS as usize)
        .map(move |start| (start..rows.min(start.saturating_add(BATCH_ROWS))).collect())
}
