//! Runs a schedule on a virtual clock: the same machine, imaginary slots.

use std::{collections::BTreeMap, time::Duration};

use arrowhop_types::{Timestamp, VisitId};

use crate::{Command, Entrant, Event, Schedule, Visit};

/// What came of a simulation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The visits in the order in which they ended.
    pub visits: Vec<SimulatedVisit>,
    /// When the last one ended.
    pub makespan: Duration,
    /// Slot time until then that no visit worked in, waiting for states included.
    pub idle: Duration,
}

/// A visit that was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimulatedVisit {
    /// The visit.
    pub visit: Visit,
    /// When the slot began to work on it: its state was there.
    pub started_at: Timestamp,
    /// When the slot was free again.
    pub ended_at: Timestamp,
}

/// Slots that take as long as they are told, on a clock that jumps from event to event.
struct World<'a> {
    took: &'a mut dyn FnMut(&Visit) -> Duration,
    hop: Duration,
    /// What happens when; events of one moment are given together.
    agenda: BTreeMap<Timestamp, Vec<Event>>,
    /// When the state of a reserved visit arrives.
    arrivals: BTreeMap<VisitId, Timestamp>,
    visits: Vec<SimulatedVisit>,
}

/// Adds the models to the schedule at time 0 and carries out its commands until nothing happens
/// any more. A visit's work lasts as long as `took` says, and each hop of a state takes `hop`.
#[must_use]
pub fn simulate(
    mut schedule: Schedule,
    entrants: Vec<Entrant>,
    hop: Duration,
    mut took: impl FnMut(&Visit) -> Duration,
) -> Outcome {
    let slots = u32::try_from(schedule.layout().slots().len()).expect("a layout's slots fit");
    let joining = entrants.into_iter().map(Event::ModelAdded).collect();
    let mut world = World {
        took: &mut took,
        hop,
        agenda: BTreeMap::from([(Timestamp(0), joining)]),
        arrivals: BTreeMap::new(),
        visits: Vec::new(),
    };
    while let Some((now, events)) = world.agenda.pop_first() {
        for command in schedule.apply(&events, now) {
            world.carry_out(command, now);
        }
    }
    let mut visits = world.visits;
    visits.sort_by_key(|run| (run.ended_at, run.visit.id));
    let ended_at = visits.last().map_or(Timestamp(0), |run| run.ended_at);
    let makespan = ended_at.since(Timestamp(0));
    let busy: Duration = visits.iter().map(|run| run.ended_at.since(run.started_at)).sum();
    Outcome { idle: (makespan * slots).saturating_sub(busy), visits, makespan }
}

impl World<'_> {
    fn carry_out(&mut self, command: Command, now: Timestamp) {
        match command {
            Command::Start(visit) => self.start(visit, now),
            Command::Prefetch(visit) => {
                self.arrivals.insert(visit.id, now + self.hop);
                self.note(now + self.hop, Event::StateArrived { visit: visit.id, took: self.hop });
            }
            Command::WakeAt(wake_at) => self.note(wake_at, Event::Woken),
            Command::EpochEnded { .. } | Command::ModelFinished { .. } | Command::Drained => {}
        }
    }

    fn start(&mut self, visit: Visit, now: Timestamp) {
        let started_at = match self.arrivals.remove(&visit.id) {
            Some(arrives_at) => arrives_at.max(now),
            None if visit.hops() => now + self.hop,
            None => now,
        };
        let took = (self.took)(&visit);
        let ended_at = started_at + took;
        self.visits.push(SimulatedVisit { visit, started_at, ended_at });
        self.note(ended_at, Event::VisitEnded { visit: visit.id, took });
    }

    fn note(&mut self, at: Timestamp, event: Event) {
        self.agenda.entry(at).or_default().push(event);
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{ModelId, SegmentId, SlotId};

    use super::*;
    use crate::{Estimates, Layout, Options, Progress};

    const VISIT: u64 = 1_000_000;

    /// Eight models of near-equal size on four slots for three epochs.
    fn run(prefetch: bool, hop: Duration) -> Outcome {
        let segments: Vec<_> = (0..4).map(SegmentId).collect();
        let slots = segments.iter().map(|&segment| SlotId { segment, index: 0 }).collect();
        let layout = Layout::new(slots, segments).unwrap();
        let options = Options { epochs: 3, prefetch, ..Options::default() };
        let took = |model: ModelId, shard: u32| {
            Duration::from_micros(VISIT + u64::from(model.0 * 37 % 11 + shard * 5 % 7) * 20_000)
        };
        let models: Vec<_> = (1..=8).map(ModelId).collect();
        let enter = |&model: &ModelId| {
            let guess = Duration::from_micros(VISIT);
            Entrant::new(&layout, &options, model, Progress::fresh(), vec![], guess).unwrap()
        };
        let entrants = models.iter().map(enter).collect();
        let row = |&model: &ModelId| (model, (0..4).map(|shard| took(model, shard)).collect());
        let estimates = Estimates::known(models.iter().map(row));
        let schedule = Schedule::new(layout, options, estimates);
        simulate(schedule, entrants, hop, |visit| took(visit.model, visit.shard.0))
    }

    #[test]
    fn hops_hide_behind_training_when_prefetched() {
        let tenth = Duration::from_micros(VISIT / 10);
        let (free, waiting, hidden) =
            (run(true, Duration::ZERO), run(false, tenth), run(true, tenth));
        assert_eq!(hidden.visits.len(), 8 * 4 * 3);
        let ratio =
            |outcome: &Outcome| outcome.makespan.as_secs_f64() / free.makespan.as_secs_f64();
        assert!(ratio(&waiting) > 1.06, "{}", ratio(&waiting));
        assert!(ratio(&hidden) < 1.03, "{}", ratio(&hidden));
        assert!(hidden.idle < waiting.idle);
    }

    #[test]
    fn the_same_run_twice_is_the_same() {
        let hop = Duration::from_micros(VISIT / 20);
        assert_eq!(run(true, hop), run(true, hop));
    }
}
