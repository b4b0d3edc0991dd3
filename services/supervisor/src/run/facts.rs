//! What a run does with the facts that segments and the model store report.

use std::time::Duration;

use arrowhop_catalog::{Catalog, Checkpoint, CommitOutcome};
use arrowhop_schedule::Event;
use arrowhop_types::{
    ModelId, ModelStatus, RunStatus, SegmentId, Timestamp, Version, VisitId, VisitRecord,
    VisitTiming,
};
use arrowhop_wire::{Command, Fact, VisitOutcome, VisitReport};
use tracing::{info, warn};

use super::{ATTEMPTS_MAX, ActiveRun, Effect, Flying, keep, wants_kept};
use crate::SupervisorError;

impl ActiveRun {
    /// Takes in a fact that a segment reported.
    pub(crate) fn fact(
        &mut self,
        catalog: &mut Catalog,
        segment: SegmentId,
        fact: Fact,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        match fact {
            Fact::Heartbeat => Ok(Vec::new()),
            Fact::RunOpened { problem: None, .. } => self.opened(catalog, segment, now),
            Fact::RunOpened { problem: Some(problem), .. } => {
                let reason = format!("segment {segment} cannot run it: {problem}");
                self.stop(catalog, RunStatus::Failed { reason }, true, now)
            }
            Fact::StateArrived { visit, took, .. } => {
                self.advance(catalog, &[Event::StateArrived { visit, took }], now)
            }
            Fact::VisitProgress { visit, loss, .. } => {
                if let Some(flying) = self.flying.get(&visit)
                    && let Some(tracked) = self.models.get_mut(&flying.visit.model)
                {
                    tracked.visiting = Some((flying.visit.shard, Some(loss)));
                }
                Ok(Vec::new())
            }
            Fact::VisitEnded { visit, attempt, outcome, .. } => {
                self.visit_ended(catalog, visit, attempt, outcome, now)
            }
        }
    }

    /// A segment is gone. What it held since the last checkpoint is lost with it, so the run ends
    /// and can be resumed from the store.
    pub(crate) fn segment_lost(
        &mut self,
        catalog: &mut Catalog,
        segment: SegmentId,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        if self.uris.remove(&segment).is_none() {
            return Ok(Vec::new());
        }
        let reason = format!(
            "segment {segment} was lost; start it again and resume with `arrowhop fit --resume {}`",
            self.run
        );
        for tracked in self.models.values_mut() {
            tracked.holders.remove(&segment);
            tracked.home = tracked.home.filter(|home| *home != segment);
            tracked.keeping.retain(|_, from| *from != segment);
        }
        self.flying.retain(|_, flying| flying.visit.slot.segment != segment);
        let mut effects = self.stop(catalog, RunStatus::Failed { reason }, true, now)?;
        effects.extend(self.advance(catalog, &[Event::SegmentLost { segment }], now)?);
        Ok(effects)
    }

    /// The model store has a version, or could not take it.
    pub(crate) fn kept(
        &mut self,
        catalog: &mut Catalog,
        model: ModelId,
        version: Version,
        result: Result<Checkpoint, String>,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        let Some(tracked) = self.models.get_mut(&model) else { return Ok(Vec::new()) };
        tracked.keeping.remove(&version);
        match result {
            Ok(checkpoint) => {
                match catalog.checkpoint(self.run, model, &checkpoint)? {
                    CommitOutcome::Committed => tracked.kept = tracked.kept.max(version),
                    CommitOutcome::Stale(why) => {
                        warn!(run = %self.run, %model, %version, ?why, "checkpoint is stale");
                    }
                }
                Ok(self.release(model))
            }
            Err(reason) => {
                let reason = format!("keep model {model} version {version}: {reason}");
                self.stop(catalog, RunStatus::Failed { reason }, false, now)
            }
        }
    }

    fn opened(
        &mut self,
        catalog: &mut Catalog,
        segment: SegmentId,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        if !self.opening.remove(&segment) || !self.opening.is_empty() {
            return Ok(Vec::new());
        }
        let entrants = std::mem::take(&mut self.entrants);
        if entrants.is_empty() {
            self.drained = true;
        }
        self.advance(catalog, &entrants, now)
    }

    fn visit_ended(
        &mut self,
        catalog: &mut Catalog,
        visit: VisitId,
        attempt: u32,
        outcome: VisitOutcome,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        let known = self.flying.get(&visit).is_some_and(|flying| flying.attempt == attempt);
        if !known {
            warn!(run = %self.run, %visit, attempt, "a late or doubled report changes nothing");
            return Ok(Vec::new());
        }
        let flying = self.flying.remove(&visit).expect("it was just looked up");
        let model = flying.visit.model;
        match outcome {
            VisitOutcome::Done(report) => self.commit(catalog, &flying, *report, now),
            VisitOutcome::Aborted => {
                catalog.abandon(self.run, visit, attempt)?;
                self.advance(catalog, &[Event::VisitAbandoned { visit }], now)
            }
            VisitOutcome::Diverged(reason) => {
                info!(run = %self.run, %model, reason, "model diverged");
                catalog.abandon(self.run, visit, attempt)?;
                self.end_model(catalog, visit, model, ModelStatus::Diverged { reason }, now)
            }
            VisitOutcome::Failed(reason) => {
                warn!(run = %self.run, %model, %visit, attempt, reason, "visit failed");
                catalog.abandon(self.run, visit, attempt)?;
                let tracked = self.models.get_mut(&model).expect("RUN: a model of the run");
                tracked.failures += 1;
                tracked.visiting = None;
                if tracked.failures < ATTEMPTS_MAX {
                    return self.advance(catalog, &[Event::VisitAbandoned { visit }], now);
                }
                let reason = format!("{reason} (tried {ATTEMPTS_MAX} times)");
                self.end_model(catalog, visit, model, ModelStatus::Failed { reason }, now)
            }
        }
    }

    /// RUN-2: the hop log decides whether the visit counts.
    fn commit(
        &mut self,
        catalog: &mut Catalog,
        flying: &Flying,
        report: VisitReport,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        let visit = flying.visit;
        let record = VisitRecord {
            visit: visit.id,
            model: visit.model,
            epoch: visit.epoch,
            shard: visit.shard,
            slot: visit.slot,
            kind: visit.kind,
            version: report.version,
            digest: report.digest,
            started_at: flying.started_at.unwrap_or(now),
            ended_at: now,
            computed_by: report.computed_by,
            timing: VisitTiming { queue: flying.queue, ..report.timing },
            train: report.train,
            validation: report.validation,
        };
        if let CommitOutcome::Stale(why) = catalog.commit(self.run, &record, flying.attempt)? {
            warn!(run = %self.run, visit = %visit.id, ?why, "visit is stale; it does not count");
            return self.advance(catalog, &[Event::VisitAbandoned { visit: visit.id }], now);
        }
        let took = busy(&record.timing);
        self.measured.add(visit.model, visit.kind, took);
        let tracked = self.models.get_mut(&visit.model).expect("RUN: a model of the run");
        tracked.commit(&record);
        let mut effects = Vec::new();
        if wants_kept(&self.spec, tracked, visit.kind) && !self.aborted {
            effects.extend(keep(tracked));
        }
        effects.extend(self.release(visit.model));
        let ended = Event::VisitEnded { visit: visit.id, took };
        effects.extend(self.advance(catalog, &[ended], now)?);
        Ok(effects)
    }

    /// RUN-3.
    fn release(&mut self, model: ModelId) -> Vec<Effect> {
        let run = self.run;
        let tracked = self.models.get_mut(&model).expect("RUN: a model of the run");
        let released = tracked.release().into_iter();
        released
            .map(|(segment, below)| Effect::Tell(segment, Command::Release { run, model, below }))
            .collect()
    }

    fn end_model(
        &mut self,
        catalog: &mut Catalog,
        visit: VisitId,
        model: ModelId,
        status: ModelStatus,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        catalog.set_model_status(self.run, model, &status)?;
        let tracked = self.models.get_mut(&model).expect("RUN: a model of the run");
        tracked.status = status;
        tracked.visiting = None;
        let events = [Event::ModelEnded { model }, Event::VisitAbandoned { visit }];
        self.advance(catalog, &events, now)
    }
}

/// How long the slot worked, without waiting for the state.
pub(super) fn busy(timing: &VisitTiming) -> Duration {
    timing.train + timing.evaluate + timing.state
}
