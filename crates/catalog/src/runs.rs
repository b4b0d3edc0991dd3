//! How runs stand: their list, their records, their status and slots.

use std::time::Duration;

use arrowhop_types::{Direction, Objective, RunId, RunRecord, RunStatus, SlotId, Timestamp};
use rusqlite::{Row, Transaction, params};

use crate::error::Fault;
use crate::words::Word;
use crate::{Catalog, CatalogError, models, row, specs};

/// One line of the list of runs.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// The run.
    pub run: RunId,
    /// Its name.
    pub name: String,
    /// How it stands.
    pub status: RunStatus,
    /// Its data set, by the name in its experiment.
    pub data_set: String,
    /// Models.
    pub models: u32,
    /// Models that have finished all epochs.
    pub models_finished: u32,
    /// Epochs to train each for.
    pub epochs: u32,
    /// How its models are ranked.
    pub objective: Objective,
    /// The best of its models' latest values of the objective; diverged and failed models do not
    /// count.
    pub best: Option<f64>,
    /// Since the Unix epoch.
    pub submitted_at: Timestamp,
    /// Time spent running, over all its resumptions.
    pub elapsed: Duration,
}

impl Catalog {
    /// All runs, by number.
    ///
    /// # Errors
    /// Only when the catalog cannot be read.
    pub fn runs(&self) -> Result<Vec<RunSummary>, CatalogError> {
        self.read("list the runs", |transaction| {
            let mut summaries: Vec<RunSummary> = transaction
                .prepare_cached(
                    "SELECT *,
                         (SELECT count(*) FROM models WHERE run = id) AS models,
                         (SELECT count(*) FROM models WHERE run = id AND status = 'finished')
                             AS models_finished
                     FROM runs ORDER BY id",
                )?
                .query_map([], summary)?
                .collect::<Result<_, _>>()?;
            for summary in &mut summaries {
                summary.best = best(transaction, summary.run, &summary.objective)?;
            }
            Ok(summaries)
        })
    }

    /// A run as it stands, with all its models and their metrics.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn run(&self, run: RunId) -> Result<RunRecord, CatalogError> {
        self.read("read a run", |transaction| {
            let spec = specs::read(transaction, run)?;
            let models = models::read(transaction, run, &spec)?;
            let slots = transaction
                .prepare_cached("SELECT * FROM run_slots WHERE run = ?1 ORDER BY position")?
                .query_map([run.0], row::slot)?
                .collect::<Result<_, _>>()?;
            Ok(transaction.prepare_cached("SELECT * FROM runs WHERE id = ?1")?.query_row(
                [run.0],
                |row| {
                    Ok(RunRecord {
                        run,
                        spec,
                        status: status(row)?,
                        submitted_at: row::timestamp(row, "submitted_at")?,
                        elapsed: row::duration(row, "elapsed_us")?,
                        slots,
                        models,
                    })
                },
            )?)
        })
    }

    /// Says how a run stands.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn set_run_status(&mut self, run: RunId, status: &RunStatus) -> Result<(), CatalogError> {
        let reason = match status {
            RunStatus::Failed { reason } => Some(reason),
            RunStatus::Queued | RunStatus::Running | RunStatus::Finished | RunStatus::Stopped => {
                None
            }
        };
        self.write("set a run's status", |transaction| {
            let changed = transaction
                .prepare_cached("UPDATE runs SET status = ?2, reason = ?3 WHERE id = ?1")?
                .execute(params![run.0, status.name(), reason])?;
            exists(run, changed)
        })
    }

    /// Adds to the time a run has spent running; whole microseconds count.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn add_elapsed(&mut self, run: RunId, elapsed: Duration) -> Result<(), CatalogError> {
        self.write("add to a run's time", |transaction| {
            let changed = transaction
                .prepare_cached("UPDATE runs SET elapsed_us = elapsed_us + ?2 WHERE id = ?1")?
                .execute(params![run.0, row::micros(elapsed)])?;
            exists(run, changed)
        })
    }

    /// Says which slots a run is given, instead of those it had.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn set_slots(&mut self, run: RunId, slots: &[SlotId]) -> Result<(), CatalogError> {
        self.write("set a run's slots", |transaction| {
            must_exist(transaction, run)?;
            transaction.prepare_cached("DELETE FROM run_slots WHERE run = ?1")?.execute([run.0])?;
            let mut insert = transaction.prepare_cached(
                "INSERT INTO run_slots (run, position, segment, slot) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (position, slot) in slots.iter().enumerate() {
                insert.execute(params![run.0, position, slot.segment.0, slot.index])?;
            }
            Ok(())
        })
    }
}

/// Refuses a run that is not on record.
pub(crate) fn must_exist(transaction: &Transaction<'_>, run: RunId) -> Result<(), Fault> {
    let found = transaction
        .prepare_cached("SELECT count(*) FROM runs WHERE id = ?1")?
        .query_row([run.0], |row| row.get(0))?;
    exists(run, found)
}

fn exists(run: RunId, rows: usize) -> Result<(), Fault> {
    if rows == 0 { Err(CatalogError::NoSuchRun { run }.into()) } else { Ok(()) }
}

fn status(row: &Row<'_>) -> rusqlite::Result<RunStatus> {
    let word: String = row.get("status")?;
    match word.as_str() {
        "queued" => Ok(RunStatus::Queued),
        "running" => Ok(RunStatus::Running),
        "finished" => Ok(RunStatus::Finished),
        "stopped" => Ok(RunStatus::Stopped),
        "failed" => Ok(RunStatus::Failed { reason: row.get("reason")? }),
        _ => Err(row::unknown_word("status", word)),
    }
}

/// A summary that lacks its best value.
fn summary(row: &Row<'_>) -> rusqlite::Result<RunSummary> {
    Ok(RunSummary {
        run: RunId(row.get("id")?),
        name: row.get("name")?,
        status: status(row)?,
        data_set: row.get("data_set_name")?,
        models: row.get("models")?,
        models_finished: row.get("models_finished")?,
        epochs: row.get("epochs")?,
        objective: specs::objective(row)?,
        best: None,
        submitted_at: row::timestamp(row, "submitted_at")?,
        elapsed: row::duration(row, "elapsed_us")?,
    })
}

/// The best of the latest values of a run's unbroken models.
fn best(
    transaction: &Transaction<'_>,
    run: RunId,
    objective: &Objective,
) -> Result<Option<f64>, Fault> {
    let values: Vec<f64> = transaction
        .prepare_cached(
            "SELECT value FROM metric_values JOIN models USING (run, model)
             WHERE run = ?1 AND part = ?2 AND metric = ?3 AND value IS NOT NULL
                 AND status NOT IN ('diverged', 'failed') AND epoch =
                     (SELECT max(epoch) FROM epochs
                      WHERE epochs.run = ?1 AND epochs.model = metric_values.model)",
        )?
        .query_map(params![run.0, objective.part.word(), objective.metric], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let values = values.into_iter();
    Ok(match objective.direction {
        Direction::Minimize => values.min_by(f64::total_cmp),
        Direction::Maximize => values.max_by(f64::total_cmp),
    })
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{EpochRecord, Measures, ModelId, ModelStatus, Score, SegmentId};

    use super::*;
    use crate::samples::{self, Ledger};

    fn record_loss(catalog: &mut Catalog, run: RunId, model: u32, epoch: u32, loss_sum: f64) {
        let validation = Score { rows: 10, loss_sum, metrics: Vec::new() }.measures();
        let train = Measures::default();
        let record = EpochRecord { epoch, train, validation, ended_at: Timestamp(1) };
        catalog.record_epoch(run, ModelId(model), &record).unwrap();
    }

    #[test]
    fn every_status_comes_back() {
        let mut ledger = Ledger::new(1, 1);
        assert_eq!(ledger.catalog.runs().unwrap()[0].status, RunStatus::Queued);
        for status in [
            RunStatus::Running,
            RunStatus::Failed { reason: "segment 2 was lost".into() },
            RunStatus::Stopped,
            RunStatus::Finished,
            RunStatus::Queued,
        ] {
            ledger.catalog.set_run_status(ledger.run, &status).unwrap();
            assert_eq!(ledger.catalog.run(ledger.run).unwrap().status, status);
            assert_eq!(ledger.catalog.runs().unwrap()[0].status, status);
        }
    }

    #[test]
    fn time_adds_up_and_slots_are_replaced() {
        let mut ledger = Ledger::new(1, 1);
        let slot = |segment, index| SlotId { segment: SegmentId(segment), index };
        for slots in [vec![slot(0, 0), slot(0, 1), slot(1, 0)], vec![slot(2, 0), slot(1, 5)]] {
            ledger.catalog.set_slots(ledger.run, &slots).unwrap();
            ledger.catalog.add_elapsed(ledger.run, Duration::from_micros(1_500)).unwrap();
            assert_eq!(ledger.catalog.run(ledger.run).unwrap().slots, slots);
        }
        let elapsed = ledger.catalog.run(ledger.run).unwrap().elapsed;
        assert_eq!(elapsed, Duration::from_millis(3));
    }

    #[test]
    fn the_list_of_runs_gives_the_best_latest_value_of_unbroken_models() {
        let mut ledger = Ledger::new(4, 1);
        let (catalog, run) = (&mut ledger.catalog, ledger.run);
        assert_eq!(catalog.runs().unwrap()[0].best, None);
        record_loss(catalog, run, 1, 0, 1.0);
        record_loss(catalog, run, 1, 1, 5.0);
        record_loss(catalog, run, 2, 0, 7.0);
        record_loss(catalog, run, 3, 0, 2.0);
        record_loss(catalog, run, 4, 0, f64::NAN);
        let diverged = ModelStatus::Diverged { reason: "loss is NaN".into() };
        catalog.set_model_status(run, ModelId(3), &diverged).unwrap();
        catalog.set_model_status(run, ModelId(2), &ModelStatus::Finished).unwrap();
        let summary = catalog.runs().unwrap().remove(0);
        assert_eq!(summary.best, Some(0.5));
        assert_eq!((summary.models, summary.models_finished, summary.epochs), (4, 1, 2));
        assert_eq!((summary.name.as_str(), summary.data_set.as_str()), ("petals", "flowers"));
        let record = catalog.run(run).unwrap();
        assert_eq!(record.best().unwrap().model, ModelId(1));
    }

    #[test]
    fn the_best_value_of_a_maximised_objective_is_the_largest() {
        let mut ledger = Ledger::new(1, 1);
        let mut spec = samples::spec(2, 1);
        spec.objective.direction = Direction::Maximize;
        let run = ledger.catalog.submit(&spec, Timestamp(0)).unwrap();
        record_loss(&mut ledger.catalog, run, 1, 0, 1.0);
        record_loss(&mut ledger.catalog, run, 2, 0, 3.0);
        assert_eq!(ledger.catalog.runs().unwrap()[1].best, Some(0.3));
    }
}
