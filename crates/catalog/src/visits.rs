//! The commit of a visit, by compare-and-swap, and the hop log of committed visits.

use arrowhop_types::{ModelId, RunId, Version, VisitId, VisitKind, VisitRecord, VisitTiming};
use rusqlite::{Row, Transaction, params};

use crate::error::Fault;
use crate::intents::{self, IntendedVisit, VisitState};
use crate::words::Word;
use crate::{Catalog, CatalogError, models, row, runs, scores};

/// What became of something that was to be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// It is recorded.
    Committed,
    /// It came too late, or twice: nothing changed.
    Stale(Stale),
}

/// Why a report changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// The visit was never logged.
    #[error("it was never intended")]
    NeverIntended,
    /// The visit is no longer open.
    #[error("it is {state}")]
    Closed {
        /// How it stands.
        state: VisitState,
    },
    /// The visit is intended with another attempt.
    #[error("attempt {current} has taken its place")]
    Attempt {
        /// The attempt that may commit.
        current: u32,
    },
    /// The report is not of what was intended or made.
    #[error("its {column} is not the one in the hop log")]
    Differs {
        /// Where they differ: a column of the hop log.
        column: &'static str,
    },
    /// The model is not at the version the visit started from.
    #[error("the model is at version {current}")]
    Version {
        /// The model's version.
        current: Version,
    },
    /// Another visit has done the same shard in the same epoch.
    #[error("another visit has done its shard in this epoch")]
    ShardDone,
}

impl Catalog {
    /// Commits a visit: the only way a model's version advances. The visit must be intended with
    /// that same attempt, and the model be at the version from which the visit started; otherwise
    /// nothing changes. Durations are kept in whole microseconds.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::NoSuchModel`].
    pub fn commit(
        &mut self,
        run: RunId,
        record: &VisitRecord,
        attempt: u32,
    ) -> Result<CommitOutcome, CatalogError> {
        self.write("commit a visit", |transaction| {
            let current = models::version(transaction, run, record.model)?;
            let found = intents::find(transaction, run, record.visit)?;
            if let Some(stale) = judge(found, record, attempt, current) {
                return Ok(CommitOutcome::Stale(stale));
            }
            if is_shard_done(transaction, run, record)? {
                return Ok(CommitOutcome::Stale(Stale::ShardDone));
            }
            write(transaction, run, record)?;
            transaction
                .prepare_cached("UPDATE models SET version = ?3 WHERE run = ?1 AND model = ?2")?
                .execute(params![run.0, record.model.0, record.version.0])?;
            Ok(CommitOutcome::Committed)
        })
    }

    /// The committed visits of a run, in the order in which they were committed.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn visits(&self, run: RunId) -> Result<Vec<VisitRecord>, CatalogError> {
        self.read("read the hop log", |transaction| {
            runs::must_exist(transaction, run)?;
            let mut visits: Vec<VisitRecord> = transaction
                .prepare_cached(
                    "SELECT * FROM visits WHERE run = ?1 AND state = 'committed'
                     ORDER BY commit_number",
                )?
                .query_map([run.0], visit_record)?
                .collect::<Result<_, _>>()?;
            scores::read_visits(transaction, run, &mut visits)?;
            Ok(visits)
        })
    }
}

/// Why a report must not be committed, if so.
fn judge(
    found: Option<(VisitState, IntendedVisit)>,
    record: &VisitRecord,
    attempt: u32,
    current: Version,
) -> Option<Stale> {
    let Some((state, intended)) = found else {
        return Some(Stale::NeverIntended);
    };
    if state != VisitState::Intended {
        return Some(Stale::Closed { state });
    }
    if intended.attempt != attempt {
        return Some(Stale::Attempt { current: intended.attempt });
    }
    let made = match intended.kind {
        VisitKind::Train => intended.from_version.next(),
        VisitKind::Evaluate => intended.from_version,
    };
    let columns = [
        ("model", intended.model == record.model),
        ("epoch", intended.epoch == record.epoch),
        ("kind", intended.kind == record.kind),
        ("shard", intended.shard == record.shard),
        ("slot", intended.slot == record.slot),
        ("version", made == record.version),
    ];
    if let Some((column, _)) = columns.into_iter().find(|(_, is_same)| !is_same) {
        return Some(Stale::Differs { column });
    }
    (intended.from_version != current).then_some(Stale::Version { current })
}

fn is_shard_done(
    transaction: &Transaction<'_>,
    run: RunId,
    record: &VisitRecord,
) -> Result<bool, Fault> {
    let is_done = transaction
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM visits WHERE run = ?1 AND model = ?2 AND epoch = ?3
                 AND kind = ?4 AND shard = ?5 AND state = 'committed')",
        )?
        .query_row(
            params![run.0, record.model.0, record.epoch, record.kind.word(), record.shard.0],
            |row| row.get(0),
        )?;
    Ok(is_done)
}

fn write(transaction: &Transaction<'_>, run: RunId, record: &VisitRecord) -> Result<(), Fault> {
    let timing = &record.timing;
    transaction
        .prepare_cached(
            "UPDATE visits SET state = 'committed',
                 commit_number =
                     (SELECT coalesce(max(commit_number), 0) + 1 FROM visits WHERE run = ?1),
                 version = ?3, digest = ?4, started_at = ?5, ended_at = ?6, queue_us = ?7,
                 fetch_us = ?8, stall_us = ?9, train_us = ?10, evaluate_us = ?11, state_us = ?12,
                 cpu_us = ?13, hop_bytes = ?14, train_rows = ?15, train_loss_sum = ?16,
                 validation_rows = ?17, validation_loss_sum = ?18, computed_by = ?19
             WHERE run = ?1 AND visit = ?2",
        )?
        .execute(params![
            run.0,
            record.visit.0,
            record.version.0,
            record.digest.to_string(),
            record.started_at.0,
            record.ended_at.0,
            row::micros(timing.queue),
            row::micros(timing.fetch),
            row::micros(timing.stall),
            row::micros(timing.train),
            row::micros(timing.evaluate),
            row::micros(timing.state),
            row::micros(timing.cpu),
            timing.hop_bytes,
            record.train.rows,
            record.train.loss_sum,
            record.validation.rows,
            record.validation.loss_sum,
            record.computed_by,
        ])?;
    scores::write_visit(transaction, run, record)
}

fn visit_record(row: &Row<'_>) -> rusqlite::Result<VisitRecord> {
    Ok(VisitRecord {
        visit: VisitId(row.get("visit")?),
        model: ModelId(row.get("model")?),
        epoch: row.get("epoch")?,
        shard: row::shard(row)?,
        slot: row::slot(row)?,
        kind: row::word(row, "kind")?,
        version: row::version(row, "version")?,
        digest: row::digest(row, "digest")?,
        started_at: row::timestamp(row, "started_at")?,
        ended_at: row::timestamp(row, "ended_at")?,
        computed_by: row.get("computed_by")?,
        timing: VisitTiming {
            queue: row::duration(row, "queue_us")?,
            fetch: row::duration(row, "fetch_us")?,
            stall: row::duration(row, "stall_us")?,
            train: row::duration(row, "train_us")?,
            evaluate: row::duration(row, "evaluate_us")?,
            state: row::duration(row, "state_us")?,
            cpu: row::duration(row, "cpu_us")?,
            hop_bytes: row.get("hop_bytes")?,
        },
        train: row::score(row, "train")?,
        validation: row::score(row, "validation")?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use arrowhop_types::{MetricSums, Score, SegmentId, ShardId, SlotId, Timestamp};

    use super::*;
    use crate::samples::{self, Ledger};

    fn stale(ledger: &mut Ledger, record: &VisitRecord, attempt: u32) -> Stale {
        let before = ledger.catalog.visits(ledger.run).unwrap();
        let outcome = ledger.catalog.commit(ledger.run, record, attempt).unwrap();
        assert_eq!(ledger.catalog.visits(ledger.run).unwrap(), before);
        let CommitOutcome::Stale(stale) = outcome else { panic!("committed: {record:?}") };
        stale
    }

    fn version(ledger: &Ledger) -> Version {
        ledger.catalog.progress(ledger.run).unwrap()[0].version
    }

    #[test]
    fn committed_visits_come_back_whole_and_in_commit_order() {
        let mut ledger = Ledger::new(2, 2);
        let run = ledger.run;
        let visits = [samples::train(1, 1, 0, 0, 0), samples::train(2, 2, 0, 1, 0)];
        for visit in &visits {
            ledger.catalog.intend(run, visit).unwrap();
        }
        let records = [visits[1], visits[0]].map(|visit| samples::record(&visit, Timestamp(3)));
        for record in &records {
            let outcome = ledger.catalog.commit(run, record, 1).unwrap();
            assert_eq!(outcome, CommitOutcome::Committed);
        }
        assert_eq!(ledger.catalog.visits(run).unwrap(), records);
    }

    #[test]
    fn a_loss_that_is_not_a_number_is_kept_as_such() {
        let mut ledger = Ledger::new(1, 1);
        let visit = samples::train(1, 1, 0, 0, 0);
        ledger.catalog.intend(ledger.run, &visit).unwrap();
        let mse = "mse".parse().unwrap();
        let metrics = vec![MetricSums { output: None, metric: mse, sums: vec![f64::NAN, 5.0] }];
        let train = Score { rows: 5, loss_sum: f64::NAN, metrics };
        let record = VisitRecord { train, ..samples::record(&visit, Timestamp(0)) };
        ledger.catalog.commit(ledger.run, &record, 1).unwrap();
        let read = ledger.catalog.visits(ledger.run).unwrap().swap_remove(0).train;
        assert!(read.loss_sum.is_nan());
        let [nan, rows] = read.metrics[0].sums[..] else { panic!("{read:?}") };
        assert!(nan.is_nan());
        assert_eq!((read.rows, rows), (5, 5.0));
    }

    #[test]
    fn a_second_commit_of_the_same_visit_changes_nothing() {
        let mut ledger = Ledger::new(1, 2);
        let record = ledger.visit(&samples::train(1, 1, 0, 0, 0));
        let expected = Stale::Closed { state: VisitState::Committed };
        assert_eq!(stale(&mut ledger, &record, 1), expected);
        assert_eq!(expected.to_string(), "it is committed");
        assert_eq!(version(&ledger), Version(1));
    }

    #[test]
    fn a_late_report_of_an_old_attempt_changes_nothing() {
        let mut ledger = Ledger::new(1, 2);
        let first = samples::train(1, 1, 0, 0, 0);
        let second = IntendedVisit { attempt: 2, ..first };
        ledger.catalog.intend(ledger.run, &first).unwrap();
        ledger.catalog.intend(ledger.run, &second).unwrap();
        let record = samples::record(&first, Timestamp(0));
        assert_eq!(stale(&mut ledger, &record, 1), Stale::Attempt { current: 2 });
        assert_eq!(version(&ledger), Version(0));
        let outcome = ledger.catalog.commit(ledger.run, &record, 2).unwrap();
        assert_eq!(outcome, CommitOutcome::Committed);
        assert_eq!(version(&ledger), Version(1));
    }

    #[test]
    fn only_an_open_visit_commits() {
        let mut ledger = Ledger::new(1, 2);
        let visit = samples::train(1, 1, 0, 0, 0);
        let record = samples::record(&visit, Timestamp(0));
        assert_eq!(stale(&mut ledger, &record, 1), Stale::NeverIntended);
        ledger.catalog.intend(ledger.run, &visit).unwrap();
        ledger.catalog.abandon(ledger.run, visit.visit, 1).unwrap();
        let expected = Stale::Closed { state: VisitState::Abandoned };
        assert_eq!(stale(&mut ledger, &record, 1), expected);
    }

    #[test]
    fn a_report_of_something_else_than_intended_changes_nothing() {
        let mut ledger = Ledger::new(2, 2);
        let visit = samples::train(1, 1, 0, 0, 0);
        ledger.catalog.intend(ledger.run, &visit).unwrap();
        let record = samples::record(&visit, Timestamp(0));
        let slot = SlotId { segment: SegmentId(9), index: 0 };
        let others = [
            ("model", VisitRecord { model: ModelId(2), ..record.clone() }),
            ("epoch", VisitRecord { epoch: 1, ..record.clone() }),
            ("kind", VisitRecord { kind: VisitKind::Evaluate, ..record.clone() }),
            ("shard", VisitRecord { shard: ShardId(1), ..record.clone() }),
            ("slot", VisitRecord { slot, ..record.clone() }),
            ("version", VisitRecord { version: Version(2), ..record.clone() }),
        ];
        for (column, other) in others {
            assert_eq!(stale(&mut ledger, &other, 1), Stale::Differs { column });
        }
    }

    #[test]
    fn a_visit_from_another_version_than_the_models_changes_nothing() {
        let mut ledger = Ledger::new(1, 3);
        ledger.visit(&samples::train(1, 1, 0, 0, 0));
        for late in [samples::train(2, 1, 0, 1, 0), samples::evaluate(3, 1, 0, 1, 2)] {
            ledger.catalog.intend(ledger.run, &late).unwrap();
            let record = samples::record(&late, Timestamp(0));
            let expected = Stale::Version { current: Version(1) };
            assert_eq!(stale(&mut ledger, &record, 1), expected);
        }
    }

    #[test]
    fn a_shard_counts_once_per_epoch_and_kind() {
        let mut ledger = Ledger::new(1, 2);
        ledger.visit(&samples::train(1, 1, 0, 0, 0));
        ledger.visit(&samples::evaluate(2, 1, 0, 0, 1));
        for again in [samples::train(3, 1, 0, 0, 1), samples::evaluate(4, 1, 0, 0, 1)] {
            ledger.catalog.intend(ledger.run, &again).unwrap();
            let record = samples::record(&again, Timestamp(0));
            assert_eq!(stale(&mut ledger, &record, 1), Stale::ShardDone);
        }
        ledger.visit(&samples::train(5, 1, 1, 0, 1));
    }

    #[test]
    fn of_two_connections_that_race_to_commit_one_wins() {
        let mut ledger = Ledger::new(1, 20);
        for shard in 0..20 {
            let visits = [0, 1].map(|side| {
                samples::train(u64::from(2 * shard + side + 1), 1, 0, shard, u64::from(shard))
            });
            for visit in &visits {
                ledger.catalog.intend(ledger.run, visit).unwrap();
            }
            let (start, run) = (Barrier::new(2), ledger.run);
            let race = |visit: IntendedVisit| {
                let mut catalog = Catalog::open_existing(ledger.state.path()).unwrap();
                start.wait();
                catalog.commit(run, &samples::record(&visit, Timestamp(0)), 1).unwrap()
            };
            let outcomes = std::thread::scope(|scope| {
                let racers = visits.map(|visit| scope.spawn(move || race(visit)));
                racers.map(|racer| racer.join().unwrap())
            });
            let current = Version(u64::from(shard) + 1);
            let lost = CommitOutcome::Stale(Stale::Version { current });
            assert!(
                outcomes == [CommitOutcome::Committed, lost]
                    || outcomes == [lost, CommitOutcome::Committed],
                "{outcomes:?}"
            );
            assert_eq!(version(&ledger), current);
        }
        assert_eq!(ledger.catalog.visits(ledger.run).unwrap().len(), 20);
    }
}
