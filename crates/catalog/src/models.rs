//! How models stand: their status and their metrics after each epoch.

use arrowhop_types::{EpochRecord, ModelId, ModelRecord, ModelStatus, RunId, RunSpec, Version};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::error::Fault;
use crate::{Catalog, CatalogError, checkpoints, row, runs};

impl Catalog {
    /// Says how a model stands.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::NoSuchModel`].
    pub fn set_model_status(
        &mut self,
        run: RunId,
        model: ModelId,
        status: &ModelStatus,
    ) -> Result<(), CatalogError> {
        self.write("set a model's status", |transaction| {
            version(transaction, run, model)?;
            transaction
                .prepare_cached(
                    "UPDATE models SET status = ?3, reason = ?4 WHERE run = ?1 AND model = ?2",
                )?
                .execute(params![run.0, model.0, status.name(), status.reason()])?;
            Ok(())
        })
    }

    /// Records a model's metrics after an epoch; those of the same epoch are replaced.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::NoSuchModel`].
    pub fn record_epoch(
        &mut self,
        run: RunId,
        model: ModelId,
        record: &EpochRecord,
    ) -> Result<(), CatalogError> {
        self.write("record an epoch", |transaction| {
            version(transaction, run, model)?;
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO epochs (run, model, epoch, train_rows, train_loss_sum,
                         train_correct, validation_rows, validation_loss_sum, validation_correct,
                         ended_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                )?
                .execute(params![
                    run.0,
                    model.0,
                    record.epoch,
                    record.train.rows,
                    record.train.loss_sum,
                    record.train.correct,
                    record.validation.rows,
                    record.validation.loss_sum,
                    record.validation.correct,
                    record.ended_at.0,
                ])?;
            Ok(())
        })
    }
}

/// All models of a run, as they stand.
pub(crate) fn read(
    transaction: &Transaction<'_>,
    run: RunId,
    spec: &RunSpec,
) -> Result<Vec<ModelRecord>, Fault> {
    let mut select = transaction
        .prepare_cached("SELECT status, reason FROM models WHERE run = ?1 AND model = ?2")?;
    let mut select_epochs = transaction
        .prepare_cached("SELECT * FROM epochs WHERE run = ?1 AND model = ?2 ORDER BY epoch")?;
    spec.models()
        .map(|(model, config)| {
            let key = params![run.0, model.0];
            let latest = checkpoints::latest(transaction, run, model)?;
            Ok(ModelRecord {
                model,
                config: config.clone(),
                status: select.query_row(key, status)?,
                epochs: select_epochs.query_map(key, epoch_record)?.collect::<Result<_, _>>()?,
                checkpoint: latest.map(|checkpoint| (checkpoint.version, checkpoint.digest)),
                initial: checkpoints::initial(transaction, run, model)?,
            })
        })
        .collect()
}

/// A model's version: how many training visits it has committed.
pub(crate) fn version(
    transaction: &Transaction<'_>,
    run: RunId,
    model: ModelId,
) -> Result<Version, Fault> {
    let version = transaction
        .prepare_cached("SELECT version FROM models WHERE run = ?1 AND model = ?2")?
        .query_row(params![run.0, model.0], |row| row::version(row, "version"))
        .optional()?;
    if let Some(version) = version {
        return Ok(version);
    }
    runs::must_exist(transaction, run)?;
    Err(CatalogError::NoSuchModel { run, model }.into())
}

/// A row of `epochs`.
pub(crate) fn epoch_record(row: &Row<'_>) -> rusqlite::Result<EpochRecord> {
    Ok(EpochRecord {
        epoch: row.get("epoch")?,
        train: row::score(row, "train")?,
        validation: row::score(row, "validation")?,
        ended_at: row::timestamp(row, "ended_at")?,
    })
}

fn status(row: &Row<'_>) -> rusqlite::Result<ModelStatus> {
    let word: String = row.get("status")?;
    match word.as_str() {
        "running" => Ok(ModelStatus::Running),
        "finished" => Ok(ModelStatus::Finished),
        "diverged" => Ok(ModelStatus::Diverged { reason: row.get("reason")? }),
        "failed" => Ok(ModelStatus::Failed { reason: row.get("reason")? }),
        "stopped" => Ok(ModelStatus::Stopped),
        _ => Err(row::unknown_word("status", word)),
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{Score, Timestamp};

    use super::*;
    use crate::samples::Ledger;

    #[test]
    fn every_status_comes_back() {
        let mut ledger = Ledger::new(2, 1);
        let reason = || "epoch 1, shard 0: loss is NaN".to_owned();
        for status in [
            ModelStatus::Finished,
            ModelStatus::Diverged { reason: reason() },
            ModelStatus::Failed { reason: reason() },
            ModelStatus::Stopped,
            ModelStatus::Running,
        ] {
            ledger.catalog.set_model_status(ledger.run, ModelId(2), &status).unwrap();
            let models = ledger.catalog.run(ledger.run).unwrap().models;
            assert_eq!(models[0].status, ModelStatus::Running);
            assert_eq!(models[1].status, status);
        }
        let error = ledger
            .catalog
            .set_model_status(ledger.run, ModelId(3), &ModelStatus::Finished)
            .unwrap_err();
        assert_eq!(error.to_string(), "run 1 has no model 3; `arrowhop results 1` lists them");
    }

    #[test]
    fn epochs_come_back_in_order_and_a_repeated_one_replaces_itself() {
        let mut ledger = Ledger::new(1, 1);
        let record = |epoch, loss_sum| EpochRecord {
            epoch,
            train: Score { rows: 10, loss_sum, correct: None },
            validation: Score::default(),
            ended_at: Timestamp(u64::from(epoch) + 1),
        };
        for made in [record(1, 3.0), record(0, 9.0), record(1, 2.5)] {
            ledger.catalog.record_epoch(ledger.run, ModelId(1), &made).unwrap();
        }
        let epochs = &ledger.catalog.run(ledger.run).unwrap().models[0].epochs;
        assert_eq!(*epochs, [record(0, 9.0), record(1, 2.5)]);
        let (loss, accuracy): (f64, Option<f64>) = ledger
            .catalog
            .read("test", |transaction| {
                Ok(transaction.query_row(
                    "SELECT train_loss, train_accuracy FROM metrics WHERE epoch = 1",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )?)
            })
            .unwrap();
        assert_eq!((loss, accuracy), (0.25, None));
    }
}
