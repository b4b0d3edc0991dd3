//! A fleet of imaginary slots that keeps its own books, written from the rules and not from the
//! code, and checks each command against them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arrowhop_schedule::{Command, Event, Progress, Schedule, Visit};
use arrowhop_types::{ModelId, SegmentId, ShardId, Timestamp, Version, VisitId, VisitKind};

use crate::setting::{Fault, Setting};

/// What a visit does, whatever its number and its time.
pub(crate) type Deed = (ModelId, u32, VisitKind, ShardId);

pub(crate) fn deed(visit: &Visit) -> Deed {
    (visit.model, visit.epoch, visit.kind, visit.shard)
}
/// Imaginary slots, and the books about them.
pub(crate) struct Fleet<'a> {
    setting: &'a Setting,
    pub(crate) schedule: Schedule,
    pub(crate) now: Timestamp,
    wake_at: Option<Timestamp>,
    /// With the time when each ends.
    pub(crate) running: BTreeMap<VisitId, (Visit, Timestamp)>,
    /// With the time when its state arrives.
    pub(crate) reserved: BTreeMap<VisitId, (Visit, Option<Timestamp>)>,
    pub(crate) started: Vec<(Visit, Timestamp)>,
    pub(crate) completed: BTreeMap<Deed, VisitId>,
    homes: BTreeMap<ModelId, SegmentId>,
    pub(crate) alive: BTreeSet<ModelId>,
    /// Ended, and not added again.
    pub(crate) ended: BTreeSet<ModelId>,
    /// Running visits of models that ended since.
    orphans: BTreeSet<VisitId>,
    lost: BTreeSet<SegmentId>,
    pub(crate) is_stopped: bool,
    pub(crate) drained: usize,
}

impl<'a> Fleet<'a> {
    pub(crate) fn new(setting: &'a Setting, schedule: Schedule) -> Self {
        let mut fleet = Self {
            setting,
            schedule,
            now: Timestamp(0),
            wake_at: None,
            running: BTreeMap::new(),
            reserved: BTreeMap::new(),
            started: vec![],
            completed: BTreeMap::new(),
            homes: BTreeMap::new(),
            alive: setting.model_ids().collect(),
            ended: BTreeSet::new(),
            orphans: BTreeSet::new(),
            lost: BTreeSet::new(),
            is_stopped: false,
            drained: 0,
        };
        let enter = |model| Event::ModelAdded(setting.entrant(model, Progress::fresh()));
        fleet.give(&setting.model_ids().map(enter).collect::<Vec<_>>());
        fleet
    }

    pub(crate) fn give(&mut self, events: &[Event]) {
        for command in self.schedule.apply(events, self.now) {
            match command {
                Command::Start(visit) => self.start(visit),
                Command::Prefetch(visit) => {
                    assert!(visit.hops() && self.setting.options.prefetch);
                    self.check_new(&visit);
                    let arrives_at = self.now + Duration::from_millis(2);
                    self.reserved.insert(visit.id, (visit, Some(arrives_at)));
                }
                Command::WakeAt(wake_at) => {
                    assert!(wake_at > self.now);
                    self.wake_at = Some(wake_at);
                }
                Command::EpochEnded { model, epoch } => {
                    assert_eq!(self.count(model, epoch), self.visits_per_epoch());
                }
                Command::ModelFinished { model } => assert!(self.alive.remove(&model)),
                Command::Drained => self.drained += 1,
            }
        }
        self.check_no_stall();
    }

    fn start(&mut self, visit: Visit) {
        if let Some((reserved, _)) = self.reserved.remove(&visit.id) {
            assert_eq!(visit, reserved, "a reserved visit starts as it was announced");
        } else {
            self.check_new(&visit);
        }
        assert!(!self.lost.contains(&visit.slot.segment) && !self.is_stopped);
        let is_busy = self.running.values().any(|(other, _)| other.slot == visit.slot);
        assert!(!is_busy, "HOP-2: slot {} runs two visits", visit.slot);
        let took = self.setting.took(visit.model, visit.shard, visit.kind);
        self.running.insert(visit.id, (visit, self.now + took));
        self.started.push((visit, self.now));
    }

    /// A visit that is decided: its model is free, it owes this, and its state is said right.
    fn check_new(&self, visit: &Visit) {
        assert!(!self.taken().contains(&visit.model), "HOP-3: {visit:?}");
        assert!(self.alive.contains(&visit.model));
        assert!(self.owes_next(visit.model, visit.shard), "HOP-1: not owed now: {visit:?}");
        assert_eq!((visit.epoch, visit.kind), self.phase(visit.model));
        assert_eq!(visit.version, Version(self.trainings(visit.model) as u64));
        assert_eq!(visit.from, self.homes.get(&visit.model).copied());
        assert_eq!(self.setting.layout.shards()[visit.shard.0 as usize], visit.slot.segment);
    }

    /// Models in a visit or reserved for one.
    fn taken(&self) -> BTreeSet<ModelId> {
        let running = self.running.values().filter(|(visit, _)| !self.orphans.contains(&visit.id));
        let running = running.map(|(visit, _)| visit.model);
        running.chain(self.reserved.values().map(|(visit, _)| visit.model)).collect()
    }

    pub(crate) fn count(&self, model: ModelId, epoch: u32) -> usize {
        let of_epoch = |deed: &&Deed| deed.0 == model && deed.1 == epoch;
        self.completed.keys().filter(of_epoch).count()
    }

    fn trainings(&self, model: ModelId) -> usize {
        let is_training = |deed: &&Deed| deed.0 == model && deed.2 == VisitKind::Train;
        self.completed.keys().filter(is_training).count()
    }

    pub(crate) fn visits_per_epoch(&self) -> usize {
        self.setting.shards() * if self.setting.options.evaluates { 2 } else { 1 }
    }

    fn phase(&self, model: ModelId) -> (u32, VisitKind) {
        let mut epochs = 0..self.setting.options.epochs;
        let epoch = epochs.find(|&epoch| self.count(model, epoch) < self.visits_per_epoch());
        let epoch = epoch.expect("a living model has an epoch left");
        let is_trained = self.count(model, epoch) >= self.setting.shards();
        (epoch, if is_trained { VisitKind::Evaluate } else { VisitKind::Train })
    }

    /// A model's progress as the books tell, its state in the model store.
    fn booked_progress(&self, model: ModelId) -> Progress {
        let (epoch, kind) = self.phase(model);
        let of_phase = |deed: &&Deed| (deed.0, deed.1, deed.2) == (model, epoch, kind);
        let done = self.completed.keys().filter(of_phase).map(|deed| deed.3).collect();
        let version = Version(self.trainings(model) as u64);
        Progress { epoch, kind, done, version, home: None }
    }

    fn owes_next(&self, model: ModelId, shard: ShardId) -> bool {
        let (epoch, kind) = self.phase(model);
        let prescribed = self.setting.prescribed(model);
        let is_prescribed = prescribed.get(self.trainings(model)).is_none_or(|next| *next == shard);
        !self.completed.contains_key(&(model, epoch, kind, shard))
            && (kind == VisitKind::Evaluate || is_prescribed)
    }

    /// HOP-4: no slot is idle while a free model could visit it.
    fn check_no_stall(&self) {
        if self.is_stopped {
            assert_eq!(self.drained > 0, self.running.is_empty());
            return;
        }
        let taken = self.taken();
        let busy: BTreeSet<_> = self.running.values().map(|(visit, _)| visit.slot).collect();
        for slot in self.setting.layout.slots().iter().filter(|slot| !busy.contains(slot)) {
            for model in self.alive.difference(&taken) {
                let homes = (0..).map(ShardId).zip(self.setting.layout.shards());
                let here = homes.filter(|(_, segment)| **segment == slot.segment);
                let mut owed = here.filter(|(shard, _)| self.owes_next(*model, *shard));
                let is_stalled = !self.lost.contains(&slot.segment) && owed.next().is_some();
                assert!(!is_stalled, "HOP-4: slot {slot} is idle, model {model} is ready");
            }
        }
        let is_over = self.alive.is_empty() && self.running.is_empty();
        assert_eq!(self.drained, usize::from(is_over), "drained when, and only when, all is over");
        assert!(!self.running.is_empty() || is_over || !self.lost.is_empty(), "HOP-4: a stall");
    }

    /// Lets time pass until the next thing happens; false when nothing will.
    pub(crate) fn step(&mut self) -> bool {
        let ends = self.running.values().map(|(_, ends_at)| *ends_at);
        let arrivals = self.reserved.values().filter_map(|(_, arrives_at)| *arrives_at);
        let wakes = self.wake_at;
        let Some(next) = ends.chain(arrivals).chain(wakes).min() else {
            return false;
        };
        self.now = self.now.max(next);
        let mut events = vec![];
        if self.wake_at.is_some_and(|wake_at| wake_at <= self.now) {
            self.wake_at = None;
            events.push(Event::Woken);
        }
        for (id, (_, arrives_at)) in &mut self.reserved {
            if arrives_at.take_if(|arrives_at| *arrives_at <= self.now).is_some() {
                events.push(Event::StateArrived { visit: *id, took: Duration::from_millis(2) });
            }
        }
        for (id, (visit, _)) in self.running.extract_if(.., |_, (_, ends_at)| *ends_at <= self.now)
        {
            let took = self.setting.took(visit.model, visit.shard, visit.kind);
            events.push(Event::VisitEnded { visit: id, took });
            if !self.orphans.contains(&id) {
                let before = self.completed.insert(deed(&visit), id);
                assert_eq!(before, None, "HOP-1: completed twice: {visit:?}");
                self.homes.insert(visit.model, visit.slot.segment);
            }
        }
        self.give(&events);
        true
    }

    pub(crate) fn suffer(&mut self, fault: Fault) {
        match fault {
            Fault::Nothing => {}
            Fault::AbandonVisit(pick) => {
                let visits = self.running.keys().chain(self.reserved.keys());
                if let Some(visit) = pick_of(visits.copied(), pick) {
                    self.running.remove(&visit);
                    self.reserved.remove(&visit);
                    self.give(&[Event::VisitAbandoned { visit }]);
                }
            }
            Fault::EndModel(pick) => {
                if let Some(model) = pick_of(self.alive.iter().copied(), pick) {
                    self.alive.remove(&model);
                    self.ended.insert(model);
                    let of_model = self.running.values().filter(|(visit, _)| visit.model == model);
                    self.orphans.extend(of_model.map(|(visit, _)| visit.id));
                    self.reserved.retain(|_, (visit, _)| visit.model != model);
                    self.give(&[Event::ModelEnded { model }]);
                }
            }
            Fault::AddModelAgain(pick) => {
                if let Some(model) = pick_of(self.ended.iter().copied(), pick) {
                    self.ended.remove(&model);
                    self.alive.insert(model);
                    self.homes.remove(&model);
                    self.drained = 0;
                    let entrant = self.setting.entrant(model, self.booked_progress(model));
                    self.give(&[Event::ModelAdded(entrant)]);
                }
            }
            Fault::LoseSegment(pick) => {
                let segments = self.setting.layout.shards().iter().copied();
                let segment = pick_of(segments, pick).unwrap();
                self.lost.insert(segment);
                self.running.retain(|_, (visit, _)| visit.slot.segment != segment);
                self.reserved.retain(|_, (visit, _)| {
                    visit.slot.segment != segment && visit.from != Some(segment)
                });
                self.homes.retain(|_, home| *home != segment);
                self.give(&[Event::SegmentLost { segment }]);
            }
            Fault::ReturnSegment(pick) => {
                if let Some(segment) = pick_of(self.lost.iter().copied(), pick) {
                    self.lost.remove(&segment);
                    self.give(&[Event::SegmentReturned { segment }]);
                }
            }
            Fault::RepeatReport(pick) => {
                if let Some(visit) = pick_of(self.completed.values().copied(), pick) {
                    let before: Vec<_> = self.progress().collect();
                    let took = Duration::from_millis(1);
                    self.give(&[
                        Event::VisitEnded { visit, took },
                        Event::VisitAbandoned { visit },
                    ]);
                    assert!(self.progress().eq(before), "HOP-1: a repeated report counted");
                }
            }
        }
    }

    fn progress(&self) -> impl Iterator<Item = Option<Progress>> {
        self.setting.model_ids().map(|model| self.schedule.progress(model))
    }

    /// Ends all faults and lets the run go to its end.
    pub(crate) fn finish(&mut self) {
        while !self.lost.is_empty() {
            self.suffer(Fault::ReturnSegment(0));
        }
        while self.step() {}
    }
}
fn pick_of<T>(items: impl Iterator<Item = T>, pick: usize) -> Option<T> {
    let mut items: Vec<_> = items.collect();
    let count = items.len();
    (count > 0).then(|| items.swap_remove(pick % count))
}
