//! Predictions of a supervisor's models for rows that clients stream in: `arrowhop predict`, by Flight.

use std::ops::ControlFlow;
use std::path::PathBuf;

use anyhow::Context;
use arrow::array::RecordBatch;
use arrowhop_flight::{FlightError, PredictRequest, Predictor};
use arrowhop_runtime::panics::contained;
use arrowhop_segment::inputs;
use arrowhop_source::{NewOptions, NewOrigin, TargetUse, prepare_new};
use arrowhop_train::{Model, TrainError};
use arrowhop_types::ErrorClass;

use crate::exit::class_of;
use crate::predictions::{Ranking, batch};
use crate::trained::Trained;

/// Rows that are prepared at a time: little memory, and soon done where a client has left.
const PIECE_ROWS: usize = 512;

type Rows<'a> = &'a mut dyn Iterator<Item = Result<RecordBatch, FlightError>>;
type Answers<'a> = &'a mut dyn FnMut(RecordBatch) -> ControlFlow<()>;

/// The models of a state folder.
#[derive(Debug)]
pub(crate) struct StoredModels {
    /// The folder.
    pub(crate) state: PathBuf,
}

impl Predictor for StoredModels {
    fn predict(
        &self,
        request: &PredictRequest,
        rows: Rows<'_>,
        answers: Answers<'_>,
    ) -> Result<(), FlightError> {
        let failed = |class, source| FlightError::Store { action: "predict", class, source };
        match contained(|| apply(self, request, rows, answers)) {
            Ok(Ok(())) => Ok(()),
            // What has no class lacks something that it may have later: a best model, a checkpoint.
            Ok(Err(error)) => {
                Err(failed(class_of(&error).unwrap_or(ErrorClass::Conflict), error.into()))
            }
            Err(panic) => Err(failed(ErrorClass::Bug, panic.into())),
        }
    }
}

/// The state and the task are read once, the rows as they come.
fn apply(
    models: &StoredModels,
    request: &PredictRequest,
    rows: Rows<'_>,
    answers: Answers<'_>,
) -> anyhow::Result<()> {
    let trained = Trained::open_in(&models.state, request.run, request.model)?;
    let task = &trained.task;
    let model = Model::open(task, &trained.state).context("open the model")?;
    let ranking = Ranking::new(task, request.top_k);
    let options = NewOptions { max_rows: None, target: TargetUse::Ignored };
    if answers(batch(&[])?).is_break() {
        return Ok(());
    }
    let mut row = 0;
    for batch_of_them in rows {
        let whole = batch_of_them?;
        for start in (0..whole.num_rows()).step_by(PIECE_ROWS) {
            let piece = whole.slice(start, PIECE_ROWS.min(whole.num_rows() - start));
            let origin = NewOrigin::Batch { name: "rows".into(), rows: piece, first_row: row };
            let new = prepare_new(&trained.record.spec.data.preparation, &origin, &options)?;
            let inputs = inputs(task, &new.batches)?;
            let mut unwritten = None;
            let mut sink = |outputs: &[Vec<f32>]| {
                let mut predictions = Vec::new();
                ranking.add(&mut row, outputs, &mut predictions);
                match batch(&predictions) {
                    Ok(batch) => answers(batch),
                    Err(error) => {
                        unwritten = Some(error);
                        ControlFlow::Break(())
                    }
                }
            };
            match model.predict(&inputs, &mut sink) {
                // The client has left.
                Err(TrainError::Stopped { .. }) => {
                    return unwritten.map_or(Ok(()), |e| Err(e.into()));
                }
                applied => applied.context("apply the model")?,
            }
        }
    }
    Ok(())
}
