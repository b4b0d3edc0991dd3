//! Which slots are idle, in which order they choose, and how a chosen visit begins.

use std::time::Duration;

use arrowhop_types::{ModelId, Timestamp, VisitId};

use crate::{Command, Schedule, Visit, course::Status, layout::shard_at, schedule::Running};

impl Schedule {
    /// Starts what can be started: first the visits reserved for slots that are free now, then for
    /// each other idle slot the model that is chosen.
    pub(crate) fn start_visits(&mut self, now: Timestamp, commands: &mut Vec<Command>) {
        let mut idle = Vec::new();
        for slot in 0..self.slots.len() {
            if self.slots[slot].running.is_some() || self.is_lost[self.layout.segment_of_slot[slot]]
            {
                continue;
            }
            match self.slots[slot].next.take() {
                Some(visit) => {
                    self.run(slot, visit, now, 0.0);
                    commands.push(Command::Start(visit));
                }
                None => idle.push(slot),
            }
        }
        self.sort_by_load(&mut idle);
        for slot in idle {
            let segment = &self.layout.segments[self.layout.segment_of_slot[slot]];
            let chosen = self.ready.choose(segment, &self.courses, &self.loads, &[]);
            if let Some((model, shard)) = chosen {
                let visit = self.take(model, shard, slot);
                let fetch = if visit.hops() { self.fetch.value_or(0.0) } else { 0.0 };
                self.run(slot, visit, now, fetch);
                commands.push(Command::Start(visit));
            }
        }
    }

    /// Sorts slots by their remaining load, longest first; equals keep their order.
    pub(crate) fn sort_by_load(&self, slots: &mut [usize]) {
        let load = |&slot: &usize| {
            let segment = &self.layout.segments[self.layout.segment_of_slot[slot]];
            let load: u128 = segment.shards.iter().map(|&shard| self.loads[shard]).sum();
            (load, u128::from(segment.slots))
        };
        // a/x against b/y without a division: a·y against b·x.
        slots.sort_by(|a, b| {
            let ((a, x), (b, y)) = (load(a), load(b));
            (b * x).cmp(&(a * y))
        });
    }

    /// Makes a visit of a ready model; it is reserved for the slot until it runs.
    pub(crate) fn take(&mut self, model: ModelId, shard: usize, slot: usize) -> Visit {
        let course = self.courses.get_mut(&model).expect("HOP-3: a ready model has work");
        self.ready.remove(course);
        course.status = Status::Reserved(slot);
        let id = self.next_visit;
        self.next_visit = VisitId(id.0 + 1);
        self.visits.insert(id, slot);
        Visit {
            id,
            model,
            epoch: course.epoch,
            kind: course.kind,
            shard: shard_at(shard),
            slot: self.layout.slots[slot],
            from: course.home,
            version: course.version,
        }
    }

    /// Marks a visit as running, after a fetch expected to take `fetch` seconds.
    fn run(&mut self, slot: usize, visit: Visit, now: Timestamp, fetch: f64) {
        let course = self.courses.get_mut(&visit.model).expect("HOP-3: a taken model has work");
        assert_eq!(course.status, Status::Reserved(slot), "HOP-3: a model is in one visit");
        course.status = Status::Running(slot);
        let work = self.estimates.of(visit.model).visit(visit.shard.0 as usize, visit.kind);
        let fetch = Duration::from_secs_f64(fetch);
        let ends_at = now + fetch + Duration::from_micros(work);
        let running = Running { visit, ends_at, is_orphan: false };
        let before = self.slots[slot].running.replace(running);
        assert!(before.is_none(), "HOP-2: a slot runs one visit at a time");
    }
}
