//! Where each model stands, derived from the hop log alone; and undoing visits whose result is
//! lost.

use arrowhop_types::{Digest, ModelId, RunId, RunSpec, ShardId, Version, VisitKind};
use rusqlite::{Transaction, params};

use crate::error::Fault;
use crate::words::Word;
use crate::{Catalog, CatalogError, checkpoints, models, row, specs};

/// Where a model stands: what it needs to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelProgress {
    /// The model.
    pub model: ModelId,
    /// Its version: training visits committed.
    pub version: Version,
    /// Digest of that version's state; `None` for version 0.
    pub digest: Option<Digest>,
    /// The epoch it is in, from 0; the number of epochs when it has done them all.
    pub epoch: u32,
    /// What it owes the shards of this epoch now: training first, then evaluation if the run
    /// evaluates.
    pub phase: VisitKind,
    /// Shards that have had it, in the order of commits.
    pub done: Vec<ShardId>,
}

impl Catalog {
    /// Where each model of a run stands, by model.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::Contradiction`] when the hop log and the models
    /// disagree.
    pub fn progress(&self, run: RunId) -> Result<Vec<ModelProgress>, CatalogError> {
        self.read("read the progress", |transaction| {
            let spec = specs::read(transaction, run)?;
            spec.models()
                .map(|(model, _)| {
                    let recorded = models::version(transaction, run, model)?;
                    let progress = progress(transaction, run, model, &spec)?;
                    if progress.version == recorded {
                        return Ok(progress);
                    }
                    Err(CatalogError::Contradiction {
                        path: self.path().to_owned(),
                        run,
                        model,
                        recorded,
                        logged: progress.version,
                    }
                    .into())
                })
                .collect()
        })
    }

    /// The shards a model has trained on, over all epochs, in order.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::NoSuchModel`].
    pub fn training_order(&self, run: RunId, model: ModelId) -> Result<Vec<ShardId>, CatalogError> {
        self.read("read a model's training order", |transaction| {
            models::version(transaction, run, model)?;
            let order = transaction
                .prepare_cached(
                    "SELECT shard FROM visits WHERE run = ?1 AND model = ?2
                         AND state = 'committed' AND kind = 'train' ORDER BY version",
                )?
                .query_map(params![run.0, model.0], row::shard)?
                .collect::<Result<_, _>>()?;
            Ok(order)
        })
    }

    /// Undoes a model's visits after version `to`, whose state is lost, and closes its visits under
    /// way: their version may be made again, and a late report must not pass for the new one.
    /// Metrics of the epochs undone and checkpoints of versions undone go too. Returns the number
    /// of training visits that are owed again.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::NoSuchModel`], [`CatalogError::RollBackAhead`].
    pub fn roll_back(
        &mut self,
        run: RunId,
        model: ModelId,
        to: Version,
    ) -> Result<u64, CatalogError> {
        self.write("roll a model back", |transaction| {
            let current = models::version(transaction, run, model)?;
            if to > current {
                return Err(CatalogError::RollBackAhead { run, model, current, to }.into());
            }
            for statement in [
                "DELETE FROM epochs WHERE run = ?1 AND model = ?2 AND epoch >=
                     (SELECT min(epoch) FROM visits WHERE run = ?1 AND model = ?2
                          AND state = 'committed' AND version > ?3)",
                "UPDATE visits SET state = 'rolled back' WHERE run = ?1 AND model = ?2
                     AND (state = 'intended' OR (state = 'committed' AND version > ?3))",
                "DELETE FROM checkpoints WHERE run = ?1 AND model = ?2 AND version > ?3",
                "UPDATE models SET version = ?3 WHERE run = ?1 AND model = ?2",
            ] {
                transaction.prepare_cached(statement)?.execute(params![run.0, model.0, to.0])?;
            }
            Ok(current.0 - to.0)
        })
    }
}

/// Where a model stands by the hop log: its last epoch there, and what is left to do in it.
fn progress(
    transaction: &Transaction<'_>,
    run: RunId,
    model: ModelId,
    spec: &RunSpec,
) -> Result<ModelProgress, Fault> {
    let (version, last_epoch) = transaction
        .prepare_cached(
            "SELECT coalesce(max(version), 0) AS version, max(epoch) AS epoch FROM visits
             WHERE run = ?1 AND model = ?2 AND state = 'committed' AND kind = 'train'",
        )?
        .query_row(params![run.0, model.0], |row| {
            Ok((row::version(row, "version")?, row.get::<_, Option<u32>>("epoch")?))
        })?;
    let digest = checkpoints::digest_of(transaction, run, model, version)?;
    let at = |epoch, phase, done| ModelProgress { model, version, digest, epoch, phase, done };
    let Some(epoch) = last_epoch else {
        return Ok(at(0, VisitKind::Train, Vec::new()));
    };

    let shards = spec.data.shards.len();
    let trained = shards_done(transaction, run, model, epoch, VisitKind::Train)?;
    if trained.len() < shards {
        return Ok(at(epoch, VisitKind::Train, trained));
    }
    if spec.evaluates() {
        let evaluated = shards_done(transaction, run, model, epoch, VisitKind::Evaluate)?;
        if evaluated.len() < shards {
            return Ok(at(epoch, VisitKind::Evaluate, evaluated));
        }
    }
    Ok(at(epoch + 1, VisitKind::Train, Vec::new()))
}

fn shards_done(
    transaction: &Transaction<'_>,
    run: RunId,
    model: ModelId,
    epoch: u32,
    kind: VisitKind,
) -> Result<Vec<ShardId>, Fault> {
    let shards = transaction
        .prepare_cached(
            "SELECT shard FROM visits WHERE run = ?1 AND model = ?2 AND epoch = ?3 AND kind = ?4
                 AND state = 'committed' ORDER BY commit_number",
        )?
        .query_map(params![run.0, model.0, epoch, kind.word()], row::shard)?
        .collect::<Result<_, _>>()?;
    Ok(shards)
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{EpochRecord, Measures, Timestamp, TrainMetrics};
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    use super::*;
    use crate::samples::{self, Ledger};
    use crate::{Checkpoint, CommitOutcome, Stale, VisitState};

    const MODEL: ModelId = ModelId(1);

    fn stands(ledger: &Ledger) -> (u64, u32, VisitKind, Vec<u32>) {
        let progress = ledger.catalog.progress(ledger.run).unwrap().remove(0);
        let done = progress.done.iter().map(|shard| shard.0).collect();
        (progress.version.0, progress.epoch, progress.phase, done)
    }

    /// One epoch of model 1 over two shards: visits 1 and 2 train, 3 and 4 evaluate.
    fn one_epoch(ledger: &mut Ledger) {
        ledger.visit(&samples::train(1, 1, 0, 1, 0));
        ledger.visit(&samples::train(2, 1, 0, 0, 1));
        ledger.visit(&samples::evaluate(3, 1, 0, 0, 2));
        ledger.visit(&samples::evaluate(4, 1, 0, 1, 2));
        record_epoch(ledger, 0);
    }

    fn record_epoch(ledger: &mut Ledger, epoch: u32) {
        let measured = Measures { rows: 4, loss: Some(0.5), metrics: vec![("auc".into(), 1.0)] };
        let record = EpochRecord {
            epoch,
            train: measured.clone(),
            validation: measured.clone(),
            ended_at: Timestamp(99),
        };
        ledger.catalog.record_epoch(ledger.run, MODEL, &record).unwrap();
    }

    fn epochs(ledger: &Ledger) -> usize {
        ledger.catalog.run(ledger.run).unwrap().models[0].epochs.len()
    }

    #[test]
    fn progress_follows_the_hop_log_through_the_phases() {
        let mut ledger = Ledger::new(1, 2);
        assert_eq!(stands(&ledger), (0, 0, VisitKind::Train, vec![]));
        ledger.visit(&samples::train(1, 1, 0, 1, 0));
        assert_eq!(stands(&ledger), (1, 0, VisitKind::Train, vec![1]));
        ledger.visit(&samples::train(2, 1, 0, 0, 1));
        assert_eq!(stands(&ledger), (2, 0, VisitKind::Evaluate, vec![]));
        ledger.visit(&samples::evaluate(3, 1, 0, 1, 2));
        assert_eq!(stands(&ledger), (2, 0, VisitKind::Evaluate, vec![1]));
        ledger.visit(&samples::evaluate(4, 1, 0, 0, 2));
        assert_eq!(stands(&ledger), (2, 1, VisitKind::Train, vec![]));
        let progress = ledger.catalog.progress(ledger.run).unwrap().remove(0);
        assert_eq!(progress.digest, Some(samples::digest(MODEL, Version(2))));
        let order = ledger.catalog.training_order(ledger.run, MODEL).unwrap();
        assert_eq!(order, [ShardId(1), ShardId(0)]);
    }

    #[test]
    fn a_run_that_does_not_evaluate_goes_straight_to_the_next_epoch() {
        let mut ledger = Ledger::new(1, 1);
        let mut spec = samples::spec(1, 2);
        spec.train_metrics = TrainMetrics::Running;
        spec.data.shards.iter_mut().for_each(|shard| shard.validation_rows = 0);
        ledger.run = ledger.catalog.submit(&spec, Timestamp(0)).unwrap();
        ledger.visit(&samples::train(1, 1, 0, 0, 0));
        ledger.visit(&samples::train(2, 1, 0, 1, 1));
        assert_eq!(stands(&ledger), (2, 1, VisitKind::Train, vec![]));
    }

    #[test]
    fn an_intent_is_not_progress() {
        let mut ledger = Ledger::new(1, 2);
        ledger.catalog.intend(ledger.run, &samples::train(1, 1, 0, 0, 0)).unwrap();
        assert_eq!(stands(&ledger), (0, 0, VisitKind::Train, vec![]));
        assert!(ledger.catalog.training_order(ledger.run, MODEL).unwrap().is_empty());
    }

    #[test]
    fn rolling_back_into_an_epoch_owes_its_shards_and_metrics_again() {
        let mut ledger = Ledger::new(1, 2);
        one_epoch(&mut ledger);
        ledger.visit(&samples::train(5, 1, 1, 0, 2));
        assert_eq!(ledger.catalog.roll_back(ledger.run, MODEL, Version(1)).unwrap(), 2);
        assert_eq!(stands(&ledger), (1, 0, VisitKind::Train, vec![1]));
        assert_eq!(epochs(&ledger), 0);
        assert_eq!(ledger.catalog.visits(ledger.run).unwrap().len(), 1);
        ledger.visit(&samples::train(6, 1, 0, 0, 1));
        ledger.visit(&samples::evaluate(7, 1, 0, 0, 2));
        assert_eq!(stands(&ledger), (2, 0, VisitKind::Evaluate, vec![0]));
    }

    #[test]
    fn rolling_back_to_an_epochs_end_keeps_the_epoch() {
        let mut ledger = Ledger::new(1, 2);
        one_epoch(&mut ledger);
        ledger.visit(&samples::train(5, 1, 1, 0, 2));
        assert_eq!(ledger.catalog.roll_back(ledger.run, MODEL, Version(2)).unwrap(), 1);
        assert_eq!(stands(&ledger), (2, 1, VisitKind::Train, vec![]));
        assert_eq!(epochs(&ledger), 1);
        assert_eq!(ledger.catalog.roll_back(ledger.run, MODEL, Version(2)).unwrap(), 0);
        assert_eq!(epochs(&ledger), 1);
    }

    #[test]
    fn rolling_back_leaves_other_models_alone_and_cannot_go_ahead() {
        let mut ledger = Ledger::new(2, 2);
        ledger.visit(&samples::train(1, 1, 0, 0, 0));
        ledger.visit(&samples::train(2, 2, 0, 1, 0));
        ledger.catalog.roll_back(ledger.run, MODEL, Version(0)).unwrap();
        let versions: Vec<_> = ledger.catalog.progress(ledger.run).unwrap();
        let versions: Vec<_> = versions.iter().map(|progress| progress.version.0).collect();
        assert_eq!(versions, [0, 1]);
        let error = ledger.catalog.roll_back(ledger.run, MODEL, Version(3)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "model 1 of run 1 is at version 0; it cannot be rolled back to 3"
        );
    }

    /// Visit 2 goes from version 1 to 2; version 1 is lost and made again; the late report of
    /// visit 2 must not pass for a successor of the new version 1.
    #[test]
    fn a_report_from_before_a_roll_back_never_commits_onto_the_version_made_again() {
        let mut ledger = Ledger::new(1, 3);
        ledger.visit(&samples::train(1, 1, 0, 0, 0));
        let late = samples::train(2, 1, 0, 1, 1);
        ledger.catalog.intend(ledger.run, &late).unwrap();
        ledger.catalog.roll_back(ledger.run, MODEL, Version(0)).unwrap();
        ledger.visit(&samples::train(3, 1, 0, 2, 0));
        let record = samples::record(&late, Timestamp(0));
        let outcome = ledger.catalog.commit(ledger.run, &record, 1).unwrap();
        let state = VisitState::RolledBack;
        assert_eq!(outcome, CommitOutcome::Stale(Stale::Closed { state }));
        assert_eq!(stands(&ledger), (1, 0, VisitKind::Train, vec![2]));
    }

    #[test]
    fn rolling_back_forgets_checkpoints_of_versions_undone() {
        let mut ledger = Ledger::new(1, 3);
        let checkpoint = |version| Checkpoint {
            version,
            digest: samples::digest(MODEL, version),
            bytes: 10,
            path: format!("models/1/1/{version}"),
            kept_at: Timestamp(1),
        };
        for from in 0..3 {
            ledger.visit(&samples::train(from + 1, 1, 0, u32::try_from(from).unwrap(), from));
            let made = checkpoint(Version(from + 1));
            ledger.catalog.checkpoint(ledger.run, MODEL, &made).unwrap();
        }
        ledger.catalog.roll_back(ledger.run, MODEL, Version(2)).unwrap();
        let latest = ledger.catalog.latest_checkpoint(ledger.run, MODEL).unwrap();
        assert_eq!(latest, Some(checkpoint(Version(2))));
    }

    #[test]
    fn a_hop_log_that_contradicts_the_models_is_reported() {
        let mut ledger = Ledger::new(1, 2);
        ledger.visit(&samples::train(1, 1, 0, 0, 0));
        let tampered = ledger.catalog.write("test", |transaction| {
            transaction.execute("UPDATE models SET version = 2", [])?;
            Ok(())
        });
        tampered.unwrap();
        let error = ledger.catalog.progress(ledger.run).unwrap_err();
        let CatalogError::Contradiction { recorded, logged, .. } = error else { panic!("{error}") };
        assert_eq!((recorded, logged), (Version(2), Version(1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 24,
            rng_seed: RngSeed::Fixed(11),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Whatever is rolled back on the way, in the end each shard was trained on once per epoch,
        /// by versions without gaps.
        #[test]
        fn a_run_with_setbacks_trains_each_shard_once_per_epoch(
            setbacks in proptest::collection::vec((0_u64..8, any::<bool>()), 0..12),
        ) {
            let mut ledger = Ledger::new(1, 3);
            let mut setbacks = setbacks.into_iter();
            for visit in 1.. {
                let progress = ledger.catalog.progress(ledger.run).unwrap().remove(0);
                if progress.epoch == 2 {
                    break;
                }
                let owed = (0..3).find(|shard| !progress.done.contains(&ShardId(*shard))).unwrap();
                let from = progress.version.0;
                let make = match progress.phase {
                    VisitKind::Train => samples::train,
                    VisitKind::Evaluate => samples::evaluate,
                };
                let intended = make(visit, 1, progress.epoch, owed, from);
                ledger.visit(&intended);
                if let Some((lost, true)) = setbacks.next() {
                    let version = ledger.catalog.progress(ledger.run).unwrap()[0].version;
                    let to = Version(version.0.saturating_sub(lost));
                    let undone = ledger.catalog.roll_back(ledger.run, MODEL, to).unwrap();
                    prop_assert_eq!(undone, version.0 - to.0);
                    prop_assert_eq!(ledger.catalog.progress(ledger.run).unwrap()[0].version, to);
                }
            }
            let mut order = ledger.catalog.training_order(ledger.run, MODEL).unwrap();
            prop_assert_eq!(order.len(), 6);
            order[..3].sort_unstable();
            order[3..].sort_unstable();
            prop_assert_eq!(order, [0, 1, 2, 0, 1, 2].map(ShardId));
            let visits = ledger.catalog.visits(ledger.run).unwrap();
            let trained: Vec<_> = visits
                .iter()
                .filter(|visit| visit.kind == VisitKind::Train)
                .map(|visit| visit.version.0)
                .collect();
            prop_assert_eq!(trained, [1, 2, 3, 4, 5, 6]);
            prop_assert_eq!(visits.len(), 12);
        }
    }
}
