//! The state machine and how it takes in facts. What it then decides is in `dispatch` and
//! `prefetch`, the choice among ready models in `ready`, what a model owes in `course`.

use std::collections::BTreeMap;

use arrowhop_types::{ModelId, SegmentId, Timestamp, VisitId};

use crate::{
    Command, Entrant, Estimates, Event, Layout, Options, Progress, Visit,
    course::{Course, Status},
    estimates::Mean,
    ready::Ready,
};

/// When guesses for models that have not run turn out wrong by more than this, all models are
/// weighed again; otherwise a model is weighed after each of its own visits.
const CALIBRATION_SLACK: f64 = 0.1;

/// Decides visits by two-sided LRPT.
///
/// After all events of one time stamp are taken in, the idle slots are served in the order of
/// their remaining load: the expected time of all visits to their segment's shards not yet
/// completed, over all epochs and models, divided by the segment's slots; ties go to the slot that
/// comes first in the layout. Each takes, among the ready models that may visit one of its shards
/// now, the one with the longest remaining work over all epochs; ties go to the lower number.
/// No slot is left idle for the sake of a better model later.
///
/// Source: the open-shop heuristic "longest remaining processing time", applied to machines and
/// jobs alike; Gonzalez, Sahni, *Open Shop Scheduling to Minimize Finish Time*, JACM 23(4), 1976,
/// for the problem and its bound.
///
/// ```
/// use std::time::Duration;
/// use arrowhop_schedule::{
///     Command, Entrant, Estimates, Event, Layout, Options, Progress, Schedule,
/// };
/// use arrowhop_types::{ModelId, SegmentId, SlotId, Timestamp};
///
/// let segment = SegmentId(0);
/// let layout = Layout::new(vec![SlotId { segment, index: 0 }], vec![segment])?;
/// let options = Options::default();
/// let guess = Duration::from_secs(1);
/// let model = Entrant::new(&layout, &options, ModelId(1), Progress::fresh(), vec![], guess)?;
///
/// let estimates = Estimates::learned(&layout);
/// let mut schedule = Schedule::new(layout, options, estimates);
/// let commands = schedule.apply(&[Event::ModelAdded(model)], Timestamp(0));
/// let [Command::Start(visit)] = commands[..] else { panic!("one slot, one model") };
///
/// let ended = Event::VisitEnded { visit: visit.id, took: Duration::from_secs(2) };
/// let commands = schedule.apply(&[ended], Timestamp(2_000_000));
/// assert_eq!(
///     commands,
///     [
///         Command::EpochEnded { model: ModelId(1), epoch: 0 },
///         Command::ModelFinished { model: ModelId(1) },
///         Command::Drained,
///     ]
/// );
/// # Ok::<(), arrowhop_types::Problems>(())
/// ```
#[derive(Debug, Clone)]
pub struct Schedule {
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    pub(crate) estimates: Estimates,
    /// The estimates' calibration when all models were last weighed.
    calibration: f64,
    pub(crate) courses: BTreeMap<ModelId, Course>,
    pub(crate) ready: Ready,
    /// Expected microseconds of all visits to each shard not yet completed.
    pub(crate) loads: Vec<u128>,
    /// As in the layout.
    pub(crate) slots: Vec<Slot>,
    /// Which of the layout's segments are lost.
    pub(crate) is_lost: Vec<bool>,
    /// The slot of each visit that is running or reserved.
    pub(crate) visits: BTreeMap<VisitId, usize>,
    pub(crate) next_visit: VisitId,
    pub(crate) fetch: Mean,
    pub(crate) took: Mean,
    /// The last moment that a wake-up was asked for.
    pub(crate) wake_at: Option<Timestamp>,
    is_stopped: bool,
    is_drained: bool,
}

/// What a slot does now, and next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slot {
    pub(crate) running: Option<Running>,
    /// Reserved: it starts as soon as the slot is free.
    pub(crate) next: Option<Visit>,
}

/// A visit under way.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) visit: Visit,
    /// As expected.
    pub(crate) ends_at: Timestamp,
    /// The model ended meanwhile; the visit only keeps the slot busy.
    pub(crate) is_orphan: bool,
}

impl Schedule {
    /// A schedule without models.
    #[must_use]
    pub fn new(layout: Layout, options: Options, estimates: Estimates) -> Self {
        let shards = layout.shards.len();
        Self {
            calibration: estimates.calibration(),
            estimates,
            courses: BTreeMap::new(),
            ready: Ready::new(shards),
            loads: vec![0; shards],
            slots: vec![Slot::default(); layout.slots.len()],
            is_lost: vec![false; layout.segments.len()],
            visits: BTreeMap::new(),
            next_visit: options.first_visit,
            fetch: Mean::default(),
            took: Mean::default(),
            wake_at: None,
            is_stopped: false,
            is_drained: false,
            layout,
            options,
        }
    }

    /// Takes in facts of one moment, in order, and then says what must now be done, in order.
    /// `now` never goes back from one call to the next.
    ///
    /// # Panics
    /// When an [`Entrant`] was checked against another layout or other options.
    pub fn apply(&mut self, events: &[Event], now: Timestamp) -> Vec<Command> {
        let mut commands = Vec::new();
        for event in events {
            self.take_in(event, &mut commands);
        }
        self.weigh_again_if_guesses_were_wrong();
        if !self.is_stopped {
            self.start_visits(now, &mut commands);
            self.look_ahead(now, &mut commands);
        }
        let is_idle = self.slots.iter().all(|slot| slot.running.is_none());
        let was_drained = self.is_drained;
        self.is_drained = is_idle && (self.is_stopped || self.courses.is_empty());
        if self.is_drained && !was_drained {
            commands.push(Command::Drained);
        }
        commands
    }

    /// How far a model has come; `None` once it has finished or ended.
    #[must_use]
    pub fn progress(&self, model: ModelId) -> Option<Progress> {
        self.courses.get(&model).map(Course::progress)
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn take_in(&mut self, event: &Event, commands: &mut Vec<Command>) {
        match event {
            Event::ModelAdded(entrant) => self.add_model(entrant, commands),
            Event::VisitEnded { visit, took } => {
                if let Some(running) = self.end_running(*visit) {
                    self.took.add(took.as_secs_f64());
                    if !running.is_orphan {
                        let visit = running.visit;
                        self.estimates.record(visit.model, visit.shard, visit.kind, *took);
                        self.complete(&visit, commands);
                    }
                }
            }
            Event::VisitAbandoned { visit } => self.abandon(*visit),
            Event::ModelEnded { model } => self.end_model(*model),
            Event::StateArrived { visit: _, took } => self.fetch.add(took.as_secs_f64()),
            Event::SegmentLost { segment } => self.lose(*segment),
            Event::SegmentReturned { segment } => {
                if let Some(place) = self.place_of(*segment) {
                    self.is_lost[place] = false;
                }
            }
            Event::StopAfterVisits => self.stop(),
            Event::Woken => {}
        }
    }

    fn add_model(&mut self, entrant: &Entrant, commands: &mut Vec<Command>) {
        let model = entrant.model;
        if self.courses.contains_key(&model) {
            return;
        }
        self.is_drained = false;
        self.estimates.expect(model, entrant.estimate);
        let mut course = Course::new(entrant.clone(), &self.layout);
        if !course.advance(&self.options, commands) {
            course.weigh(&self.estimates.of(model), &self.options, &mut self.loads);
            self.ready.insert(&course);
            self.courses.insert(model, course);
        }
    }

    /// Frees the slot where this visit runs; `None` where it does not run.
    fn end_running(&mut self, visit: VisitId) -> Option<Running> {
        let slot = &mut self.slots[*self.visits.get(&visit)?];
        let running = slot.running.take_if(|running| running.visit.id == visit)?;
        self.visits.remove(&visit);
        Some(running)
    }

    fn complete(&mut self, visit: &Visit, commands: &mut Vec<Command>) {
        let course = self.courses.get_mut(&visit.model).expect("HOP-3: a running model has work");
        course.complete(visit.shard.0 as usize, visit.slot.segment);
        if course.advance(&self.options, commands) {
            course.withdraw(&mut self.loads);
            self.courses.remove(&visit.model);
        } else {
            course.weigh(&self.estimates.of(visit.model), &self.options, &mut self.loads);
            self.ready.insert(course);
        }
    }

    fn abandon(&mut self, visit: VisitId) {
        if let Some(running) = self.end_running(visit) {
            if !running.is_orphan {
                self.make_ready(running.visit.model);
            }
        } else if let Some(slot) = self.visits.remove(&visit) {
            let reserved = self.slots[slot].next.take().expect("HOP-2: it was running or reserved");
            self.make_ready(reserved.model);
        }
    }

    fn make_ready(&mut self, model: ModelId) {
        let course = self.courses.get_mut(&model).expect("HOP-3: a visiting model has work");
        course.status = Status::Ready;
        self.ready.insert(course);
    }

    fn end_model(&mut self, model: ModelId) {
        let Some(course) = self.courses.remove(&model) else {
            return;
        };
        course.withdraw(&mut self.loads);
        match course.status {
            Status::Ready => self.ready.remove(&course),
            Status::Reserved(slot) => {
                let reserved = self.slots[slot].next.take().expect("HOP-2: the slot is reserved");
                self.visits.remove(&reserved.id);
            }
            Status::Running(slot) => {
                let running = self.slots[slot].running.as_mut().expect("HOP-2: the slot is busy");
                running.is_orphan = true;
            }
        }
    }

    fn lose(&mut self, segment: SegmentId) {
        let Some(place) = self.place_of(segment) else {
            return;
        };
        self.is_lost[place] = true;
        let is_there = |visit: &Visit| visit.slot.segment == segment;
        let comes_from_there = |visit: &Visit| is_there(visit) || visit.from == Some(segment);
        self.abandon_where(|slot| {
            let running = slot.running.as_ref().map(|running| running.visit);
            [running.filter(is_there), slot.next.filter(comes_from_there)]
        });
        for course in self.courses.values_mut() {
            course.home = course.home.filter(|&home| home != segment);
        }
    }

    fn stop(&mut self) {
        self.is_stopped = true;
        self.abandon_where(|slot| [None, slot.next]);
    }

    fn abandon_where(&mut self, select: impl Fn(&Slot) -> [Option<Visit>; 2]) {
        let visits: Vec<_> = self.slots.iter().flat_map(select).flatten().collect();
        for visit in visits {
            self.abandon(visit.id);
        }
    }

    fn place_of(&self, segment: SegmentId) -> Option<usize> {
        self.layout.segments.iter().position(|known| known.id == segment)
    }

    fn weigh_again_if_guesses_were_wrong(&mut self) {
        let calibration = self.estimates.calibration();
        if (calibration / self.calibration - 1.0).abs() <= CALIBRATION_SLACK {
            return;
        }
        self.calibration = calibration;
        for (&model, course) in &mut self.courses {
            let is_ready = course.status == Status::Ready;
            if is_ready {
                self.ready.remove(course);
            }
            course.weigh(&self.estimates.of(model), &self.options, &mut self.loads);
            if is_ready {
                self.ready.insert(course);
            }
        }
    }
}
