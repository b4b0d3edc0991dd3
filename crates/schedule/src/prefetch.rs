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
            let chosen = self
                .ready
                .choose(segment, &self.courses, &self.loads, &passed_over);
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
        if self
            .wake_at
            .is_none_or(|wake_at| wake_at <= now || wake_at > due_at)
        {
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
        let fetch_share = self
            .fetch
            .value()
            .zip(self.took.value())
            .map(|(fetch, took)| fetch / took);
        self.courses.len() <= self.slots.len()
            && fetch_share.is_some_and(|share| share < FETCH_SHARE_MIN)
    }
}
