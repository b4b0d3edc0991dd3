//! Looking ahead: a busy slot's next model is chosen, and its state fetched, just before the slot
//! is free, so that the hop hides behind the training of the model before it. Earlier would
//! commit to a worse model; later would leave the slot waiting.

use std::time::Duration;

use arrowhop_types::Timestamp;

use crate::{Command, Schedule, message::hops};

/// How long before its slot is free a state is fetched, until a fetch was measured.
const LEAD_UNMEASURED: Duration = Duration::from_millis(20);
/// Added to twice the mean fetch.
const LEAD_MARGIN: Duration = Duration::from_millis(5);
/// With no more models than slots, a fetch shorter than this share of a visit is not worth the
/// early choice: measured, makespan over the bound rises from 1.154 to 1.187.
const FETCH_SHARE_MIN: f64 = 0.05;

impl Schedule {
    /// Reserves models for the slots that are about to be free, and asks to be woken when the next
    /// one is.
    pub(crate) fn look_ahead(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        if !self.options.prefetch || self.ready.is_empty() || self.early_choice_hurts() {
            return;
        }
        let horizon = now + self.lead();
        let mut due = Vec::new();
        let mut next_due = None;
        for (slot, state) in self.slots.iter().enumerate() {
            match &state.running {
                Some(running) if state.next.is_none() && running.ends_at <= horizon => {
                    due.push(slot);
                }
                Some(running) if state.next.is_none() => {
                    let wait = running.ends_at.since(horizon);
                    next_due = next_due.into_iter().chain([now + wait]).min();
                }
                _ => {}
            }
        }
        self.sort_by_load(&mut due);
        self.reserve(&due, commands);
        if let Some(due_at) = next_due.filter(|_| !self.ready.is_empty()) {
            self.wake_by(due_at, now, commands);
        }
    }

    /// Reserves the model that each slot would take, unless it is there already: then there is
    /// nothing to fetch, and the slot may choose when it is free.
    fn reserve(&mut self, due: &[usize], commands: &mut Vec<Command>) {
        let mut passed_over = Vec::new();
        for &slot in due {
            let segment = &self.layout.segments[self.layout.segment_of_slot[slot]];
            let chosen = self.ready.choose(segment, &self.courses, &self.loads, &passed_over);
            let Some((model, shard)) = chosen else {
                continue;
            };
            let course = &self.courses[&model];
            if hops(course.home, course.version, segment.id) {
                let visit = self.take(model, shard, slot);
                self.slots[slot].next = Some(visit);
                commands.push(Command::Prefetch(visit));
            } else {
                passed_over.push(model);
            }
        }
    }

    /// Asks for a wake-up unless one is due no later than this.
    fn wake_by(&mut self, due_at: Timestamp, now: Timestamp, commands: &mut Vec<Command>) {
        if self.wake_at.is_none_or(|wake_at| wake_at <= now || wake_at > due_at) {
            self.wake_at = Some(due_at);
            commands.push(Command::WakeAt(due_at));
        }
    }

    fn lead(&self) -> Duration {
        self.fetch.value().map_or(LEAD_UNMEASURED, |fetch| {
            Duration::from_secs_f64(2.0 * fetch).saturating_add(LEAD_MARGIN)
        })
    }

    fn early_choice_hurts(&self) -> bool {
        let fetch_share =
            self.fetch.value().zip(self.took.value()).map(|(fetch, took)| fetch / took);
        self.courses.len() <= self.slots.len()
            && fetch_share.is_some_and(|share| share < FETCH_SHARE_MIN)
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{ModelId, SegmentId, SlotId, VisitId};

    use super::*;
    use crate::{Entrant, Estimates, Event, Layout, Options, Progress, Visit};

    const VISIT: Duration = Duration::from_millis(100);

    /// Two segments with a slot and a shard each, and the visits that it starts with.
    fn begin(models: u32) -> (Schedule, Vec<Visit>) {
        let segments: Vec<_> = (0..2).map(SegmentId).collect();
        let slots = segments.iter().map(|&segment| SlotId { segment, index: 0 }).collect();
        let layout = Layout::new(slots, segments).unwrap();
        let options = Options { epochs: 3, ..Options::default() };
        let enter = |model| {
            let start = Progress::fresh();
            let entrant =
                Entrant::new(&layout, &options, ModelId(model), start, vec![], VISIT).unwrap();
            Event::ModelAdded(entrant)
        };
        let joining: Vec<_> = (1..=models).map(enter).collect();
        let estimates =
            Estimates::known((1..=models).map(|model| (ModelId(model), vec![VISIT; 2])));
        let mut schedule = Schedule::new(layout, options, estimates);
        let commands = schedule.apply(&joining, Timestamp(0));
        (schedule, started(&commands))
    }

    fn started(commands: &[Command]) -> Vec<Visit> {
        let visits = commands.iter().filter_map(|command| match command {
            Command::Start(visit) => Some(*visit),
            _ => None,
        });
        visits.collect()
    }

    fn ended(visit: VisitId) -> Event {
        Event::VisitEnded { visit, took: VISIT }
    }

    #[test]
    fn a_slot_is_woken_for_just_before_it_is_free_and_its_next_model_fetched() {
        let (mut schedule, visits) = begin(3);
        // Model 3 is ready but fresh: nothing to fetch, and slot 1 keeps its choice.
        let commands = schedule.apply(&[Event::Woken], Timestamp(80_000));
        assert_eq!(commands, []);
        // Model 1 comes free from slot 0, which takes model 3; slot 1 is due and reserves model 1.
        let commands = schedule.apply(&[ended(visits[0].id)], Timestamp(99_000));
        let [Command::Start(third), Command::Prefetch(reserved)] = commands[..] else {
            panic!("{commands:?}");
        };
        assert_eq!((third.model, third.slot.segment), (ModelId(3), SegmentId(0)));
        assert_eq!((reserved.model, reserved.from), (ModelId(1), Some(SegmentId(0))));
        assert_eq!(reserved.slot.segment, SegmentId(1));
        // Its state is not there yet, but the slot is its own. Slot 0 ends at 199 ms; 20 ms before
        // that is the time to look for its next.
        let commands = schedule.apply(&[ended(visits[1].id)], Timestamp(101_000));
        assert_eq!(commands, [Command::Start(reserved), Command::WakeAt(Timestamp(179_000))]);
    }

    #[test]
    fn a_short_fetch_is_not_worth_an_early_choice_without_spare_models() {
        for (fetch, reserves) in [(4, false), (6, true)] {
            let (mut schedule, visits) = begin(2);
            let arrived =
                Event::StateArrived { visit: visits[0].id, took: Duration::from_millis(fetch) };
            let commands = schedule.apply(&[arrived, ended(visits[0].id)], Timestamp(95_000));
            let is_prefetch = |command: &Command| matches!(command, Command::Prefetch(_));
            assert_eq!(commands.iter().any(is_prefetch), reserves, "a fetch of {fetch} ms");
        }
    }
}
