//! Visits before they commit: logged before they are sent, abandoned when they will not be heard
//! of again.

use std::fmt;

use arrowhop_types::{ModelId, RunId, ShardId, SlotId, Version, VisitId, VisitKind};
use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::error::Fault;
use crate::words::Word;
use crate::{Catalog, CatalogError, models, row, runs};

/// A visit as it is about to be sent to a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntendedVisit {
    /// The visit.
    pub visit: VisitId,
    /// The model that visits.
    pub model: ModelId,
    /// Its epoch, from 0.
    pub epoch: u32,
    /// What it does.
    pub kind: VisitKind,
    /// The shard it visits.
    pub shard: ShardId,
    /// Where.
    pub slot: SlotId,
    /// The version it starts from.
    pub from_version: Version,
    /// The fencing token: a commit must carry the same.
    pub attempt: u32,
}

/// How a visit stands in the hop log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisitState {
    /// Logged, and about to be sent or sent.
    Intended,
    /// Done, for good unless it is rolled back.
    Committed,
    /// The version it made, or started from, was lost.
    RolledBack,
    /// It will not be heard of again; if it is, that changes nothing.
    Abandoned,
}

impl VisitState {
    /// Its word in the hop log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Committed => "committed",
            Self::RolledBack => "rolled back",
            Self::Abandoned => "abandoned",
        }
    }
}

impl fmt::Display for VisitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Catalog {
    /// Logs a visit before it is sent. A visit that is intended or abandoned may be intended again
    /// with a higher attempt, anywhere; repeating an intent changes nothing.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`], [`CatalogError::NoSuchModel`], [`CatalogError::VisitOnRecord`]
    /// when the visit is closed or its attempt is not higher.
    pub fn intend(&mut self, run: RunId, intended: &IntendedVisit) -> Result<(), CatalogError> {
        self.write("log an intended visit", |transaction| {
            models::version(transaction, run, intended.model)?;
            if let Some((state, recorded)) = find(transaction, run, intended.visit)? {
                if state == VisitState::Intended && recorded == *intended {
                    return Ok(());
                }
                let is_open = matches!(state, VisitState::Intended | VisitState::Abandoned);
                if !is_open || intended.attempt <= recorded.attempt {
                    let (visit, attempt) = (intended.visit, recorded.attempt);
                    return Err(CatalogError::VisitOnRecord { run, visit, state, attempt }.into());
                }
            }
            write(transaction, run, intended)
        })
    }

    /// Gives an intended visit up, as its segment is lost or its attempt failed. Returns whether it
    /// was intended with that attempt; otherwise nothing changes.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn abandon(
        &mut self,
        run: RunId,
        visit: VisitId,
        attempt: u32,
    ) -> Result<bool, CatalogError> {
        self.write("abandon a visit", |transaction| {
            runs::must_exist(transaction, run)?;
            let changed = transaction
                .prepare_cached(
                    "UPDATE visits SET state = 'abandoned'
                     WHERE run = ?1 AND visit = ?2 AND attempt = ?3 AND state = 'intended'",
                )?
                .execute(params![run.0, visit.0, attempt])?;
            Ok(changed == 1)
        })
    }

    /// The visits that were sent and not heard of, in the order in which they were decided.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn intents(&self, run: RunId) -> Result<Vec<IntendedVisit>, CatalogError> {
        self.read("read the intended visits", |transaction| read(transaction, run))
    }

    /// Abandons every intended visit, as the process that sent them died, and returns them.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn clear_intents(&mut self, run: RunId) -> Result<Vec<IntendedVisit>, CatalogError> {
        self.write("clear the intended visits", |transaction| {
            let intents = read(transaction, run)?;
            transaction
                .prepare_cached(
                    "UPDATE visits SET state = 'abandoned' WHERE run = ?1 AND state = 'intended'",
                )?
                .execute([run.0])?;
            Ok(intents)
        })
    }

    /// The number for the next visit: above all in the hop log, whatever became of them.
    ///
    /// # Errors
    /// [`CatalogError::NoSuchRun`].
    pub fn next_visit(&self, run: RunId) -> Result<VisitId, CatalogError> {
        self.read("number a visit", |transaction| {
            runs::must_exist(transaction, run)?;
            let next = transaction
                .prepare_cached("SELECT coalesce(max(visit), 0) + 1 FROM visits WHERE run = ?1")?
                .query_row([run.0], |row| row.get(0))?;
            Ok(VisitId(next))
        })
    }
}

/// A visit's state and its latest intent.
pub(crate) fn find(
    transaction: &Transaction<'_>,
    run: RunId,
    visit: VisitId,
) -> Result<Option<(VisitState, IntendedVisit)>, Fault> {
    let found = transaction
        .prepare_cached("SELECT * FROM visits WHERE run = ?1 AND visit = ?2")?
        .query_row(params![run.0, visit.0], |row| Ok((row::word(row, "state")?, intended(row)?)))
        .optional()?;
    Ok(found)
}

fn read(transaction: &Transaction<'_>, run: RunId) -> Result<Vec<IntendedVisit>, Fault> {
    runs::must_exist(transaction, run)?;
    let intents = transaction
        .prepare_cached(
            "SELECT * FROM visits WHERE run = ?1 AND state = 'intended' ORDER BY visit",
        )?
        .query_map([run.0], intended)?
        .collect::<Result<_, _>>()?;
    Ok(intents)
}

fn write(transaction: &Transaction<'_>, run: RunId, intended: &IntendedVisit) -> Result<(), Fault> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO visits (run, visit, model, epoch, kind, shard, segment, slot,
                                            from_version, attempt, state)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'intended')",
        )?
        .execute(params![
            run.0,
            intended.visit.0,
            intended.model.0,
            intended.epoch,
            intended.kind.word(),
            intended.shard.0,
            intended.slot.segment.0,
            intended.slot.index,
            intended.from_version.0,
            intended.attempt,
        ])?;
    Ok(())
}

fn intended(row: &Row<'_>) -> rusqlite::Result<IntendedVisit> {
    Ok(IntendedVisit {
        visit: VisitId(row.get("visit")?),
        model: ModelId(row.get("model")?),
        epoch: row.get("epoch")?,
        kind: row::word(row, "kind")?,
        shard: row::shard(row)?,
        slot: row::slot(row)?,
        from_version: row::version(row, "from_version")?,
        attempt: row.get("attempt")?,
    })
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{Classify, ErrorClass, SegmentId, Timestamp};

    use super::*;
    use crate::samples::{self, Ledger};

    #[test]
    fn an_intent_may_be_repeated_and_raised_but_not_lowered() {
        let mut ledger = Ledger::new(1, 2);
        let first = samples::train(1, 1, 0, 0, 0);
        ledger.catalog.intend(ledger.run, &first).unwrap();
        ledger.catalog.intend(ledger.run, &first).unwrap();
        let elsewhere = SlotId { segment: SegmentId(3), index: 1 };
        let raised = IntendedVisit { attempt: 2, slot: elsewhere, ..first };
        ledger.catalog.intend(ledger.run, &raised).unwrap();
        assert_eq!(ledger.catalog.intents(ledger.run).unwrap(), [raised]);
        let error = ledger.catalog.intend(ledger.run, &first).unwrap_err();
        assert_eq!(error.class(), ErrorClass::Conflict);
        assert_eq!(
            error.to_string(),
            "visit 1 of run 1 is intended with attempt 2; number a new visit"
        );
        let moved = IntendedVisit { slot: first.slot, ..raised };
        assert!(ledger.catalog.intend(ledger.run, &moved).is_err());
        assert_eq!(ledger.catalog.intents(ledger.run).unwrap(), [raised]);
    }

    #[test]
    fn a_committed_visit_is_not_intended_again() {
        let mut ledger = Ledger::new(1, 2);
        let visit = samples::train(1, 1, 0, 0, 0);
        ledger.visit(&visit);
        let again = IntendedVisit { attempt: 9, ..visit };
        let error = ledger.catalog.intend(ledger.run, &again).unwrap_err();
        let CatalogError::VisitOnRecord { state, attempt, .. } = error else { panic!("{error}") };
        assert_eq!((state, attempt), (VisitState::Committed, 1));
    }

    #[test]
    fn abandoned_visits_are_listed_once_keep_their_numbers_and_may_be_tried_again() {
        let mut ledger = Ledger::new(2, 2);
        let run = ledger.run;
        assert_eq!(ledger.catalog.next_visit(run).unwrap(), VisitId(1));
        let visits = [samples::train(1, 1, 0, 0, 0), samples::train(2, 2, 0, 1, 0)];
        for visit in &visits {
            ledger.catalog.intend(run, visit).unwrap();
        }
        assert_eq!(ledger.catalog.clear_intents(run).unwrap(), visits);
        assert_eq!(ledger.catalog.clear_intents(run).unwrap(), []);
        assert_eq!(ledger.catalog.next_visit(run).unwrap(), VisitId(3));
        assert!(!ledger.catalog.abandon(run, VisitId(1), 1).unwrap());
        let again = IntendedVisit { attempt: 2, ..visits[0] };
        ledger.catalog.intend(run, &again).unwrap();
        assert!(!ledger.catalog.abandon(run, VisitId(1), 1).unwrap());
        assert!(ledger.catalog.abandon(run, VisitId(1), 2).unwrap());
        assert_eq!(ledger.catalog.intents(run).unwrap(), []);
    }

    #[test]
    fn unknown_runs_and_models_are_missing() {
        let mut ledger = Ledger::new(1, 1);
        let unknown = RunId(9);
        let visit = samples::train(1, 1, 0, 0, 0);
        let stranger = samples::train(1, 2, 0, 0, 0);
        let catalog = &mut ledger.catalog;
        let errors = [
            catalog.intend(unknown, &visit).unwrap_err(),
            catalog.intend(RunId(1), &stranger).unwrap_err(),
            catalog.abandon(unknown, visit.visit, 1).unwrap_err(),
            catalog.intents(unknown).unwrap_err(),
            catalog.clear_intents(unknown).unwrap_err(),
            catalog.next_visit(unknown).unwrap_err(),
            catalog.visits(unknown).unwrap_err(),
            catalog.progress(unknown).unwrap_err(),
            catalog.training_order(RunId(1), ModelId(7)).unwrap_err(),
            catalog.roll_back(unknown, ModelId(1), Version(0)).unwrap_err(),
            catalog.latest_checkpoint(unknown, ModelId(1)).unwrap_err(),
            catalog.set_slots(unknown, &[]).unwrap_err(),
            catalog.add_elapsed(unknown, std::time::Duration::ZERO).unwrap_err(),
            catalog.commit(unknown, &samples::record(&visit, Timestamp(0)), 1).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.class(), ErrorClass::Missing, "{error}");
            assert!(error.to_string().contains("`arrowhop "), "{error}");
        }
    }
}
