//! One active run: facts in, effects out. It owns the schedule, writes the hop log, and knows no
//! actor, channel or clock, so that tests drive it with plain values.
//!
//! ```text
//! opening ──all RunOpened──▶ running ──Drained──▶ draining ──every state kept──▶ over
//!    │                          │  ▲
//!    └── a problem ─────────────┴──┴── Stop, a segment lost: nothing more starts, then draining
//! ```
//!
//! - **RUN-1**: an intent is in the hop log before its command leaves.
//! - **RUN-2**: a visit commits once, by compare-and-swap on its model's version; a late or doubled
//!   report changes nothing.
//! - **RUN-3**: a state is released only when a newer one is committed and no store waits for it.

mod facts;
mod initial;
mod open;
#[cfg(test)]
mod tests;
mod tracked;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arrowhop_catalog::{Catalog, IntendedVisit};
use arrowhop_schedule::{Event, Schedule, Visit};
use arrowhop_types::{
    CheckpointPolicy, Digest, LiveRun, ModelId, ModelStatus, RunId, RunSpec, RunStatus, SegmentId,
    Timestamp, Version, VisitId, VisitKind,
};
use arrowhop_wire::{Command, StartVisit};

pub(crate) use self::initial::{adopt, check_initial};
pub(crate) use self::open::{Opening, open};
use self::tracked::Tracked;
use crate::SupervisorError;

/// Tries of one visit before its model fails.
const ATTEMPTS_MAX: u32 = 3;

/// What must be done, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Effect {
    /// Send a command to a segment.
    Tell(SegmentId, Command),
    /// Copy a state into the model store.
    Keep { model: ModelId, version: Version, digest: Digest, from: SegmentId },
    /// Call [`ActiveRun::wake`] at this time.
    Wake(Timestamp),
}

/// A visit that was ordered and has not ended.
#[derive(Debug)]
struct Flying {
    visit: Visit,
    attempt: u32,
    /// When its slot began; `None` while it is only reserved.
    started_at: Option<Timestamp>,
    queue: Duration,
}

/// A run that is going on.
pub(crate) struct ActiveRun {
    run: RunId,
    spec: Arc<RunSpec>,
    schedule: Schedule,
    entrants: Vec<Event>,
    models: BTreeMap<ModelId, Tracked>,
    flying: BTreeMap<VisitId, Flying>,
    uris: BTreeMap<SegmentId, String>,
    store_uri: String,
    /// Segments that have not yet said that they are ready.
    opening: BTreeSet<SegmentId>,
    drained: bool,
    stopping: Option<RunStatus>,
    /// States are no longer kept: the run was aborted.
    aborted: bool,
    slots: usize,
    measured: Measured,
}

/// Running sums of visit times, for the estimate of what is left.
#[derive(Debug, Default)]
struct Measured {
    by_model: BTreeMap<(ModelId, VisitKind), (Duration, u32)>,
}

impl ActiveRun {
    /// What to do first: tell every segment of the run.
    pub(crate) fn begin(&self, placement: &[SegmentId]) -> Vec<Effect> {
        self.uris
            .keys()
            .map(|&segment| {
                let shards = self.spec.data.shards.iter().map(|info| info.shard);
                let shards = shards.zip(placement).filter(|(_, at)| **at == segment);
                let shards = shards.map(|(shard, _)| shard).collect();
                let spec = Box::new((*self.spec).clone());
                Effect::Tell(segment, Command::OpenRun { run: self.run, spec, shards })
            })
            .collect()
    }

    /// The run's number.
    pub(crate) fn id(&self) -> RunId {
        self.run
    }

    /// Asks the run to end: after the visits going on, or within a batch.
    pub(crate) fn stop(
        &mut self,
        catalog: &mut Catalog,
        status: RunStatus,
        abort: bool,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        let mut effects = Vec::new();
        self.stopping.get_or_insert(status);
        if abort && !self.aborted {
            self.aborted = true;
            for &segment in self.uris.keys() {
                effects.push(Effect::Tell(segment, Command::Abort { run: self.run }));
            }
        }
        if !self.opening.is_empty() {
            self.opening.clear();
            self.drained = true;
            return Ok(effects);
        }
        effects.extend(self.advance(catalog, &[Event::StopAfterVisits], now)?);
        Ok(effects)
    }

    /// The time of an [`Effect::Wake`] has come.
    pub(crate) fn wake(
        &mut self,
        catalog: &mut Catalog,
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        self.advance(catalog, &[Event::Woken], now)
    }

    /// How the run ended, once it has.
    pub(crate) fn ended(&self) -> Option<RunStatus> {
        let keeping = self.models.values().any(|tracked| !tracked.keeping.is_empty());
        if !self.drained || (keeping && !self.aborted) {
            return None;
        }
        let unfinished = self.models.values().any(|t| t.status == ModelStatus::Running);
        match &self.stopping {
            Some(status) if unfinished || matches!(status, RunStatus::Failed { .. }) => {
                Some(status.clone())
            }
            _ => Some(RunStatus::Finished),
        }
    }

    /// Puts the books in order once the run has ended: models that did not finish are stopped.
    pub(crate) fn close(&mut self, catalog: &mut Catalog) -> Result<Vec<Effect>, SupervisorError> {
        for tracked in self.models.values_mut() {
            if tracked.status == ModelStatus::Running {
                tracked.status = ModelStatus::Stopped;
                catalog.set_model_status(self.run, tracked.model, &tracked.status)?;
            }
        }
        let close = |&segment| Effect::Tell(segment, Command::CloseRun { run: self.run });
        Ok(self.uris.keys().map(close).collect())
    }

    /// How the run stands, for people.
    pub(crate) fn live(&self, status: RunStatus, elapsed: Duration) -> LiveRun {
        let shards = self.spec.data.shards.len();
        let models = self.models.values();
        LiveRun {
            run: self.run,
            status,
            models: models.map(|tracked| tracked.live(shards, self.spec.epochs)).collect(),
            elapsed,
            remaining: self.remaining(),
        }
    }

    /// Feeds the schedule and carries its commands out.
    fn advance(
        &mut self,
        catalog: &mut Catalog,
        events: &[Event],
        now: Timestamp,
    ) -> Result<Vec<Effect>, SupervisorError> {
        use arrowhop_schedule::Command as Decided;
        let mut effects = Vec::new();
        for command in self.schedule.apply(events, now) {
            match command {
                Decided::Start(visit) => effects.push(self.start(catalog, visit, now)?),
                Decided::Prefetch(visit) => effects.push(self.prefetch(catalog, visit)?),
                Decided::WakeAt(at) => effects.push(Effect::Wake(at)),
                Decided::EpochEnded { model, epoch } => {
                    self.end_epoch(catalog, model, epoch, now)?;
                }
                Decided::ModelFinished { model } => {
                    let tracked = self.models.get_mut(&model).expect("RUN: a model of the run");
                    tracked.status = ModelStatus::Finished;
                    catalog.set_model_status(self.run, model, &ModelStatus::Finished)?;
                }
                Decided::Drained => {
                    self.drained = true;
                    effects.extend(self.keep_all());
                }
            }
        }
        Ok(effects)
    }

    fn start(
        &mut self,
        catalog: &mut Catalog,
        visit: Visit,
        now: Timestamp,
    ) -> Result<Effect, SupervisorError> {
        if !self.flying.contains_key(&visit.id) {
            self.intend(catalog, visit)?;
        }
        let tracked = self.models.get_mut(&visit.model).expect("RUN: a model of the run");
        tracked.visiting = Some((visit.shard, None));
        let queue = now.since(tracked.ready_at);
        let flying = self.flying.get_mut(&visit.id).expect("RUN-1: it was just intended");
        flying.started_at = Some(now);
        flying.queue = queue;
        Ok(Effect::Tell(visit.slot.segment, Command::Start(self.order(visit.id))))
    }

    fn prefetch(&mut self, catalog: &mut Catalog, visit: Visit) -> Result<Effect, SupervisorError> {
        self.intend(catalog, visit)?;
        Ok(Effect::Tell(visit.slot.segment, Command::Prefetch(self.order(visit.id))))
    }

    /// RUN-1: the hop log first.
    fn intend(&mut self, catalog: &mut Catalog, visit: Visit) -> Result<(), SupervisorError> {
        let tracked = self.models.get_mut(&visit.model).expect("RUN: a model of the run");
        let attempt = tracked.failures + 1;
        tracked.holders.entry(visit.slot.segment).or_insert(visit.version);
        catalog.intend(
            self.run,
            &IntendedVisit {
                visit: visit.id,
                model: visit.model,
                epoch: visit.epoch,
                kind: visit.kind,
                shard: visit.shard,
                slot: visit.slot,
                from_version: visit.version,
                attempt,
            },
        )?;
        let flying = Flying { visit, attempt, started_at: None, queue: Duration::ZERO };
        self.flying.insert(visit.id, flying);
        Ok(())
    }

    /// The order for a visit that is in the hop log.
    fn order(&self, id: VisitId) -> StartVisit {
        let Flying { visit, attempt, .. } = &self.flying[&id];
        let digest = self.models[&visit.model].digest;
        let from_uri = match visit.from {
            Some(segment) if segment == visit.slot.segment => None,
            Some(segment) => Some(self.uris[&segment].clone()),
            // A version 0 without a digest is in no store: its weights are drawn.
            None => digest.map(|_| self.store_uri.clone()),
        };
        StartVisit {
            run: self.run,
            visit: id,
            attempt: *attempt,
            model: visit.model,
            epoch: visit.epoch,
            kind: visit.kind,
            shard: visit.shard,
            slot: visit.slot.index,
            version: visit.version,
            from_uri,
            digest,
        }
    }

    fn end_epoch(
        &mut self,
        catalog: &mut Catalog,
        model: ModelId,
        epoch: u32,
        now: Timestamp,
    ) -> Result<(), SupervisorError> {
        let tracked = self.models.get_mut(&model).expect("RUN: a model of the run");
        let record = tracked.end_epoch(epoch, self.spec.train_metrics, now);
        catalog.record_epoch(self.run, model, &record)?;
        Ok(())
    }

    /// Keeps what is newer than the store has, of every model: the run is about to end.
    fn keep_all(&mut self) -> Vec<Effect> {
        if self.aborted {
            return Vec::new();
        }
        self.models.values_mut().filter_map(keep).collect()
    }

    /// Visits that are left times their mean duration so far, over the slots.
    fn remaining(&self) -> Option<Duration> {
        let shards = u32::try_from(self.spec.data.shards.len()).ok()?;
        let mut total = Duration::ZERO;
        for tracked in self.models.values().filter(|t| t.status == ModelStatus::Running) {
            let epochs = self.spec.epochs.saturating_sub(tracked.epoch);
            let mut add = |kind, done: usize| -> Option<()> {
                let left = (epochs * shards).saturating_sub(u32::try_from(done).ok()?);
                if left > 0 {
                    total += self.measured.mean(tracked.model, kind)? * left;
                }
                Some(())
            };
            add(VisitKind::Train, tracked.trained.len())?;
            if self.spec.evaluates() {
                add(VisitKind::Evaluate, tracked.evaluated.len())?;
            }
        }
        Some(total / u32::try_from(self.slots).ok()?.max(1))
    }
}

/// Whether the policy wants the version that a visit has just made.
fn wants_kept(spec: &RunSpec, tracked: &Tracked, kind: VisitKind) -> bool {
    kind == VisitKind::Train
        && match spec.checkpoints {
            CheckpointPolicy::EveryVisit => true,
            CheckpointPolicy::EveryEpoch => tracked.trained.len() == spec.data.shards.len(),
        }
}

/// Sends a model's current version to the store, if that has not got it.
fn keep(tracked: &mut Tracked) -> Option<Effect> {
    let (version, digest) = (tracked.version, tracked.digest?);
    if tracked.kept >= version || tracked.keeping.contains_key(&version) {
        return None;
    }
    let from = tracked.home?;
    tracked.keeping.insert(version, from);
    Some(Effect::Keep { model: tracked.model, version, digest, from })
}

impl Measured {
    fn add(&mut self, model: ModelId, kind: VisitKind, took: Duration) {
        let entry = self.by_model.entry((model, kind)).or_default();
        entry.0 += took;
        entry.1 += 1;
    }

    /// The model's own mean, else that of all models.
    fn mean(&self, model: ModelId, kind: VisitKind) -> Option<Duration> {
        if let Some((sum, count)) = self.by_model.get(&(model, kind)) {
            return Some(*sum / *count);
        }
        let all = self.by_model.iter().filter(|((_, of), _)| *of == kind);
        let (sum, count) = all.fold((Duration::ZERO, 0), |(sum, count), (_, (more, times))| {
            (sum + *more, count + times)
        });
        (count > 0).then(|| sum / count)
    }
}
