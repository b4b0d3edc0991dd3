//! The invariants HOP-1 to HOP-5 under random layouts, durations and faults. A fleet of imaginary
//! slots keeps its own books, written from the rules and not from the code, and checks each
//! command against them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use arrowhop_schedule::{
    Command, Entrant, Estimates, Event, Layout, Options, Progress, Schedule, Visit, simulate,
};
use arrowhop_types::{ModelId, SegmentId, ShardId, SlotId, Timestamp, Version, VisitId, VisitKind};
use proptest::{prelude::*, test_runner::RngSeed};

/// A random run: everything that does not change while it goes on.
#[derive(Debug, Clone)]
struct Setting {
    layout: Layout,
    options: Options,
    models: u32,
    /// Visits' durations follow from this.
    salt: u64,
    /// Prescribed visits per model, up to all of them.
    prescribed: usize,
}

/// What goes wrong next; the number picks among what there is.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Nothing,
    AbandonVisit(usize),
    EndModel(usize),
    LoseSegment(usize),
    ReturnSegment(usize),
    RepeatReport(usize),
}

impl Setting {
    fn model_ids(&self) -> impl Iterator<Item = ModelId> {
        (1..=self.models).map(ModelId)
    }

    fn shards(&self) -> usize {
        self.layout.shards().len()
    }

    /// Between 1 and 64 ms, the same whenever it is asked.
    fn took(&self, model: ModelId, shard: ShardId, kind: VisitKind) -> Duration {
        let mixed = (u64::from(model.0) << 32 | u64::from(shard.0) << 8 | kind as u64)
            .wrapping_add(self.salt)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Duration::from_millis(1 + (mixed >> 58))
    }

    /// Some order of all training visits: each epoch's is rotated by the model's number.
    fn prescribed(&self, model: ModelId) -> Vec<ShardId> {
        let shards = u32::try_from(self.shards()).unwrap();
        let in_epoch = |epoch| (0..shards).map(move |i| ShardId((i + model.0 + epoch) % shards));
        (0..self.options.epochs)
            .flat_map(in_epoch)
            .take(self.prescribed)
            .collect()
    }

    fn entrant(&self, model: ModelId, start: Progress) -> Entrant {
        let trained = usize::try_from(start.version.0).unwrap();
        let prescribed = self.prescribed(model).into_iter().skip(trained).collect();
        let estimate = Duration::from_millis(10);
        Entrant::new(
            &self.layout,
            &self.options,
            model,
            start,
            prescribed,
            estimate,
        )
        .unwrap()
    }

    fn known(&self) -> Estimates {
        let row = |model| {
            let shards = (0..u32::try_from(self.shards()).unwrap()).map(ShardId);
            (
                model,
                shards
                    .map(|shard| self.took(model, shard, VisitKind::Train))
                    .collect(),
            )
        };
        Estimates::known(self.model_ids().map(row))
    }
}

/// What a visit does, whatever its number and its time.
type Deed = (ModelId, u32, VisitKind, ShardId);

fn deed(visit: &Visit) -> Deed {
    (visit.model, visit.epoch, visit.kind, visit.shard)
}

/// Imaginary slots, and the books about them.
struct Fleet<'a> {
    setting: &'a Setting,
    schedule: Schedule,
    now: Timestamp,
    wake_at: Option<Timestamp>,
    /// With the time when each ends.
    running: BTreeMap<VisitId, (Visit, Timestamp)>,
    /// With the time when its state arrives.
    reserved: BTreeMap<VisitId, (Visit, Option<Timestamp>)>,
    started: Vec<(Visit, Timestamp)>,
    completed: BTreeMap<Deed, VisitId>,
    homes: BTreeMap<ModelId, SegmentId>,
    alive: BTreeSet<ModelId>,
    lost: BTreeSet<SegmentId>,
    is_stopped: bool,
    drained: usize,
}

impl<'a> Fleet<'a> {
    fn new(setting: &'a Setting, schedule: Schedule) -> Self {
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
            lost: BTreeSet::new(),
            is_stopped: false,
            drained: 0,
        };
        let enter = |model| Event::ModelAdded(setting.entrant(model, Progress::fresh()));
        fleet.give(&setting.model_ids().map(enter).collect::<Vec<_>>());
        fleet
    }

    fn give(&mut self, events: &[Event]) {
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
            assert_eq!(
                visit, reserved,
                "a reserved visit starts as it was announced"
            );
        } else {
            self.check_new(&visit);
        }
        assert!(!self.lost.contains(&visit.slot.segment) && !self.is_stopped);
        let is_busy = self
            .running
            .values()
            .any(|(other, _)| other.slot == visit.slot);
        assert!(!is_busy, "HOP-2: slot {} runs two visits", visit.slot);
        let took = self.setting.took(visit.model, visit.shard, visit.kind);
        self.running.insert(visit.id, (visit, self.now + took));
        self.started.push((visit, self.now));
    }

    /// A visit that is decided: its model is free, it owes this, and its state is said right.
    fn check_new(&self, visit: &Visit) {
        let taken = self.running.values().map(|(other, _)| other);
        let mut taken = taken.chain(self.reserved.values().map(|(other, _)| other));
        assert!(
            taken.all(|other| other.model != visit.model),
            "HOP-3: {visit:?}"
        );
        assert!(self.alive.contains(&visit.model));
        assert!(
            self.owes_next(visit.model, visit.shard),
            "HOP-1: not owed now: {visit:?}"
        );
        assert_eq!((visit.epoch, visit.kind), self.phase(visit.model));
        assert_eq!(visit.version, Version(self.trainings(visit.model) as u64));
        assert_eq!(visit.from, self.homes.get(&visit.model).copied());
        assert_eq!(
            self.setting.layout.shards()[visit.shard.0 as usize],
            visit.slot.segment
        );
    }

    fn count(&self, model: ModelId, epoch: u32) -> usize {
        let of_epoch = |deed: &&Deed| deed.0 == model && deed.1 == epoch;
        self.completed.keys().filter(of_epoch).count()
    }

    fn trainings(&self, model: ModelId) -> usize {
        let is_training = |deed: &&Deed| deed.0 == model && deed.2 == VisitKind::Train;
        self.completed.keys().filter(is_training).count()
    }

    fn visits_per_epoch(&self) -> usize {
        self.setting.shards() * if self.setting.options.evaluates { 2 } else { 1 }
    }

    fn phase(&self, model: ModelId) -> (u32, VisitKind) {
        let mut epochs = 0..self.setting.options.epochs;
        let epoch = epochs.find(|&epoch| self.count(model, epoch) < self.visits_per_epoch());
        let epoch = epoch.expect("a living model has an epoch left");
        let is_trained = self.count(model, epoch) >= self.setting.shards();
        (
            epoch,
            if is_trained {
                VisitKind::Evaluate
            } else {
                VisitKind::Train
            },
        )
    }

    fn owes_next(&self, model: ModelId, shard: ShardId) -> bool {
        let (epoch, kind) = self.phase(model);
        let prescribed = self.setting.prescribed(model);
        let is_prescribed = prescribed
            .get(self.trainings(model))
            .is_none_or(|next| *next == shard);
        !self.completed.contains_key(&(model, epoch, kind, shard))
            && (kind == VisitKind::Evaluate || is_prescribed)
    }

    /// HOP-4: no slot is idle while a free model could visit it.
    fn check_no_stall(&self) {
        if self.is_stopped {
            assert_eq!(self.drained > 0, self.running.is_empty());
            return;
        }
        let taken = self.running.values().map(|(visit, _)| visit.model);
        let taken: BTreeSet<_> = taken
            .chain(self.reserved.values().map(|(visit, _)| visit.model))
            .collect();
        let busy: BTreeSet<_> = self.running.values().map(|(visit, _)| visit.slot).collect();
        for slot in self
            .setting
            .layout
            .slots()
            .iter()
            .filter(|slot| !busy.contains(slot))
        {
            for model in self.alive.difference(&taken) {
                let homes = (0..).map(ShardId).zip(self.setting.layout.shards());
                let here = homes.filter(|(_, segment)| **segment == slot.segment);
                let mut owed = here.filter(|(shard, _)| self.owes_next(*model, *shard));
                let is_stalled = !self.lost.contains(&slot.segment) && owed.next().is_some();
                assert!(
                    !is_stalled,
                    "HOP-4: slot {slot} is idle, model {model} is ready"
                );
            }
        }
        let is_over = self.alive.is_empty() && self.running.is_empty();
        assert_eq!(
            self.drained,
            usize::from(is_over),
            "drained when, and only when, all is over"
        );
        assert!(
            !self.running.is_empty() || is_over || !self.lost.is_empty(),
            "HOP-4: a stall"
        );
    }

    /// Lets time pass until the next thing happens; false when nothing will.
    fn step(&mut self) -> bool {
        let ends = self.running.values().map(|(_, ends_at)| *ends_at);
        let arrivals = self
            .reserved
            .values()
            .filter_map(|(_, arrives_at)| *arrives_at);
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
            if arrives_at
                .take_if(|arrives_at| *arrives_at <= self.now)
                .is_some()
            {
                events.push(Event::StateArrived {
                    visit: *id,
                    took: Duration::from_millis(2),
                });
            }
        }
        for (id, (visit, _)) in self
            .running
            .extract_if(.., |_, (_, ends_at)| *ends_at <= self.now)
        {
            let took = self.setting.took(visit.model, visit.shard, visit.kind);
            events.push(Event::VisitEnded { visit: id, took });
            if self.alive.contains(&visit.model) {
                let before = self.completed.insert(deed(&visit), id);
                assert_eq!(before, None, "HOP-1: completed twice: {visit:?}");
                self.homes.insert(visit.model, visit.slot.segment);
            }
        }
        self.give(&events);
        true
    }

    fn suffer(&mut self, fault: Fault) {
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
                    self.reserved.retain(|_, (visit, _)| visit.model != model);
                    self.give(&[Event::ModelEnded { model }]);
                }
            }
            Fault::LoseSegment(pick) => {
                let segments = self.setting.layout.shards().iter().copied();
                let segment = pick_of(segments, pick).unwrap();
                self.lost.insert(segment);
                self.running
                    .retain(|_, (visit, _)| visit.slot.segment != segment);
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
                    assert!(
                        self.progress().eq(before),
                        "HOP-1: a repeated report counted"
                    );
                }
            }
        }
    }

    fn progress(&self) -> impl Iterator<Item = Option<Progress>> {
        self.setting
            .model_ids()
            .map(|model| self.schedule.progress(model))
    }

    /// Ends all faults and lets the run go to its end.
    fn finish(&mut self) {
        while !self.lost.is_empty() {
            self.suffer(Fault::ReturnSegment(0));
        }
        while self.step() {}
    }
}

fn learning(setting: &Setting) -> Schedule {
    let estimates = Estimates::learned(&setting.layout);
    Schedule::new(setting.layout.clone(), setting.options, estimates)
}

fn pick_of<T>(items: impl Iterator<Item = T>, pick: usize) -> Option<T> {
    let mut items: Vec<_> = items.collect();
    let count = items.len();
    (count > 0).then(|| items.swap_remove(pick % count))
}

fn settings() -> impl Strategy<Value = Setting> {
    let cluster = prop::collection::vec((1_u32..=3, 1_usize..=3), 1..=4);
    let run = (
        1_u32..=3,
        any::<bool>(),
        any::<bool>(),
        1_u32..=9,
        any::<u64>(),
        0_usize..=40,
    );
    (cluster, run).prop_map(|(cluster, run)| {
        let (epochs, evaluates, prefetch, models, salt, prescribed) = run;
        let mut slots = vec![];
        let mut shards = vec![];
        for (segment, (slot_count, shard_count)) in (0..).map(SegmentId).zip(cluster) {
            slots.extend((0..slot_count).map(|index| SlotId { segment, index }));
            shards.extend(std::iter::repeat_n(segment, shard_count));
        }
        // Neighbouring shards lie on different segments.
        let turn = usize::try_from(salt % 5).unwrap() % shards.len();
        shards.rotate_left(turn);
        let layout = Layout::new(slots, shards).unwrap();
        let options = Options {
            epochs,
            evaluates,
            prefetch,
            first_visit: VisitId(1),
        };
        // Half of the runs prescribe nothing.
        let prescribed = if prescribed <= 20 { 0 } else { prescribed - 20 };
        Setting {
            layout,
            options,
            models,
            salt,
            prescribed,
        }
    })
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        12 => Just(Fault::Nothing),
        3 => any::<usize>().prop_map(Fault::AbandonVisit),
        1 => any::<usize>().prop_map(Fault::EndModel),
        1 => any::<usize>().prop_map(Fault::LoseSegment),
        1 => any::<usize>().prop_map(Fault::ReturnSegment),
        3 => any::<usize>().prop_map(Fault::RepeatReport),
    ];
    prop::collection::vec(fault, 0..80)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 300,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_210_714),
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn hop_1_hop_2_hop_3_hop_4_hold_whatever_goes_wrong(
        setting in settings(), faults in faults(),
    ) {
        let schedule = learning(&setting);
        let mut fleet = Fleet::new(&setting, schedule);
        let mut ended = BTreeSet::new();
        for fault in faults {
            let before = fleet.alive.clone();
            fleet.suffer(fault);
            ended.extend(before.difference(&fleet.alive).copied());
            fleet.step();
        }
        fleet.finish();
        prop_assert_eq!(fleet.drained, 1);
        let visits = fleet.visits_per_epoch() * setting.options.epochs as usize;
        for model in setting.model_ids().filter(|model| !ended.contains(model)) {
            let epochs = 0..setting.options.epochs;
            let done: usize = epochs.map(|epoch| fleet.count(model, epoch)).sum();
            prop_assert_eq!(done, visits, "HOP-1: model {}", model);
        }
    }

    #[test]
    fn a_stop_lets_running_visits_end_and_starts_no_more(setting in settings(), steps in 0_usize..40) {
        let schedule = learning(&setting);
        let mut fleet = Fleet::new(&setting, schedule);
        for _ in 0..steps {
            fleet.step();
        }
        let started = fleet.started.len();
        fleet.is_stopped = true;
        fleet.reserved.clear();
        fleet.give(&[Event::StopAfterVisits]);
        fleet.finish();
        prop_assert_eq!(fleet.started.len(), started);
        prop_assert_eq!(fleet.completed.len(), started);
        prop_assert_eq!(fleet.drained, 1);
    }

    #[test]
    fn hop_5_a_rebuilt_schedule_goes_on_as_the_one_it_replaces(
        setting in settings(), steps in 0_usize..60,
    ) {
        let mut setting = setting;
        setting.options.prefetch = false;
        let setting = &setting;
        let schedule =
            Schedule::new(setting.layout.clone(), setting.options, setting.known());
        let mut fleet = Fleet::new(setting, schedule);
        for _ in 0..steps {
            fleet.step();
        }
        let visits = std::mem::take(&mut fleet.running);
        let lost: Vec<_> =
            visits.into_keys().map(|visit| Event::VisitAbandoned { visit }).collect();
        let rebuilt =
            Schedule::new(setting.layout.clone(), setting.options, setting.known());
        let entrants = setting.model_ids().filter_map(|model| {
            Some(setting.entrant(model, fleet.schedule.progress(model)?))
        });
        let entrants = entrants.collect();
        let (crashed_at, started) = (fleet.now, fleet.started.len());
        fleet.give(&lost);
        fleet.finish();

        let outcome = simulate(rebuilt, entrants, Duration::ZERO, |visit| {
            setting.took(visit.model, visit.shard, visit.kind)
        });
        let place = |visit: &Visit, since: Duration| (since, visit.slot, deed(visit));
        let mut expected: Vec<_> = fleet.started[started..]
            .iter()
            .map(|(visit, started_at)| place(visit, started_at.since(crashed_at)))
            .collect();
        let mut resumed: Vec<_> = outcome
            .visits
            .iter()
            .map(|run| place(&run.visit, run.started_at.since(Timestamp(0))))
            .collect();
        expected.sort_unstable();
        resumed.sort_unstable();
        prop_assert_eq!(expected, resumed, "HOP-5");
    }
}
