//! How models stand: their status and their metrics after each epoch.

use arrowhop_types::{EpochRecord, ModelId, ModelRecord, ModelStatus, RunId, RunSpec, Version};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::error::Fault;
use crate::{Catalog, CatalogError, checkpoints, row, runs, scores};

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
            scores::write_epoch(transaction, run, model, record)
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
    spec.models()
        .map(|(model, config)| {
            let key = params![run.0, model.0];
            let latest = checkpoints::latest(transaction, run, model)?;
            Ok(ModelRecord {
                model,
                config: config.clone(),
                status: select.query_row(key, status)?,
                epochs: scores::read_epochs(transaction, run, model)?,
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
    use arrowhop_types::{Measures, Timestamp};

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
        let record = |epoch, loss, metrics: &[(&str, f64)]| EpochRecord {
            epoch,
            train: Measures {
                rows: 10,
                loss: Some(loss),
                metrics: metrics.iter().map(|(name, value)| ((*name).into(), *value)).collect(),
            },
            validation: Measures::default(),
            ended_at: Timestamp(u64::from(epoch) + 1),
        };
        let first = record(0, 9.0, &[("auc", 0.5), ("accuracy", 0.75)]);
        let repeated = record(1, f64::INFINITY, &[("accuracy", 0.25)]);
        let second = record(1, 2.5, &[("recall", 0.0)]);
        for made in [&repeated, &first, &second] {
            ledger.catalog.record_epoch(ledger.run, ModelId(1), made).unwrap();
        }
        let epochs = &ledger.catalog.run(ledger.run).unwrap().models[0].epochs;
        assert_eq!(*epochs, [first, second]);
        let texts = |query: &str| -> Vec<String> {
            let read = ledger.catalog.read("test", |transaction| {
                let mut select = transaction.prepare(query)?;
                let texts = select.query_map([], |row| row.get(0))?;
                Ok(texts.collect::<Result<_, _>>()?)
            });
            read.unwrap()
        };
        let wide = "SELECT epoch || ' ' || train_loss || ' ' || ifnull(train_accuracy, '-') \
                    || ifnull(validation_loss, '-') FROM metrics";
        assert_eq!(texts(wide), ["0 9.0 0.75-", "1 2.5 --"]);
        let long =
            "SELECT epoch || ' ' || part || ' ' || metric || ' ' || value FROM metric_values";
        let expected = [
            "0 train accuracy 0.75",
            "0 train auc 0.5",
            "0 train loss 9.0",
            "1 train loss 2.5",
            "1 train recall 0.0",
        ];
        assert_eq!(texts(long), expected);
    }
}
