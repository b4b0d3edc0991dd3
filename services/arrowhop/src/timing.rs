//! Where a run's time went: per model, per slot, and against the schedule's lower bound.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use arrowhop_schedule::{Layout, measured_lower_bound};
use arrowhop_types::{ModelId, RunRecord, ShardId, SlotId, VisitRecord, VisitTiming};
use serde_json::{Value, json};

use crate::report::{print, table};

/// Sums over visits.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    visits: u64,
    timing: VisitTiming,
}

/// Where a run's time went.
pub(crate) struct Timing {
    models: BTreeMap<ModelId, Sum>,
    slots: BTreeMap<SlotId, Sum>,
    total: Sum,
    elapsed: Duration,
    /// From the first visit's start to the last one's end, without pauses between resumptions.
    makespan: Duration,
    lower_bound: Duration,
}

impl Timing {
    pub(crate) fn of(record: &RunRecord, visits: &[VisitRecord]) -> anyhow::Result<Self> {
        let (mut models, mut slots) = (BTreeMap::new(), BTreeMap::new());
        let mut total = Sum::default();
        for slot in &record.slots {
            slots.insert(*slot, Sum::default());
        }
        for visit in visits {
            models.entry(visit.model).or_insert_with(Sum::default).add(&visit.timing);
            slots.entry(visit.slot).or_insert_with(Sum::default).add(&visit.timing);
            total.add(&visit.timing);
        }
        let shards = record.spec.data.shards.len();
        let layout = Layout::new(slots.keys().copied().collect(), homes(visits, shards))?;
        let worked = visits.iter().map(|visit| (visit.model, visit.slot, busy(&visit.timing)));
        let lower_bound = measured_lower_bound(&layout, worked);
        let began_at = visits.iter().map(|visit| visit.started_at).min().unwrap_or_default();
        let ended_at = visits.iter().map(|visit| visit.ended_at).max().unwrap_or_default();
        let (elapsed, makespan) = (record.elapsed, ended_at.since(began_at));
        Ok(Self { models, slots, total, elapsed, makespan, lower_bound })
    }

    pub(crate) fn print(&self) -> io::Result<()> {
        let header = [
            "model",
            "visits",
            "queue s",
            "fetch s",
            "train s",
            "evaluate s",
            "state s",
            "cpu s",
            "hopped MB",
        ];
        let mut by_model = table(header, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        for (model, sum) in &self.models {
            let timing = &sum.timing;
            by_model.add_row([
                model.to_string(),
                sum.visits.to_string(),
                seconds(timing.queue),
                seconds(timing.fetch),
                seconds(timing.train),
                seconds(timing.evaluate),
                seconds(timing.state),
                seconds(timing.cpu),
                megabytes(timing.hop_bytes),
            ]);
        }
        let header = ["slot", "visits", "train s", "evaluate s", "state s", "stall s", "idle s"];
        let mut by_slot = table(header, &[1, 2, 3, 4, 5, 6]);
        for (slot, sum) in &self.slots {
            let timing = &sum.timing;
            by_slot.add_row([
                slot.to_string(),
                sum.visits.to_string(),
                seconds(timing.train),
                seconds(timing.evaluate),
                seconds(timing.state),
                seconds(timing.stall),
                seconds(self.idle(sum)),
            ]);
        }
        print(&format!("{by_model}\n{by_slot}\n{}\n", self.summary()))
    }

    pub(crate) fn json(&self) -> Value {
        let models = self.models.iter().map(|(model, sum)| {
            let mut entry = sum.json();
            entry["model"] = model.0.into();
            entry
        });
        let slots = self.slots.iter().map(|(slot, sum)| {
            let mut entry = sum.json();
            entry["slot"] = slot.to_string().into();
            entry["idle_seconds"] = self.idle(sum).as_secs_f64().into();
            entry
        });
        json!({
            "elapsed_seconds": self.elapsed.as_secs_f64(),
            "makespan_seconds": self.makespan.as_secs_f64(),
            "lower_bound_seconds": self.lower_bound.as_secs_f64(),
            "makespan_over_lower_bound": self.ratio(),
            "total": self.total.json(),
            "models": models.collect::<Vec<_>>(),
            "slots": slots.collect::<Vec<_>>(),
        })
    }

    fn idle(&self, sum: &Sum) -> Duration {
        self.makespan.saturating_sub(busy(&sum.timing))
    }

    fn ratio(&self) -> Option<f64> {
        let bound = self.lower_bound.as_secs_f64();
        (bound > 0.0).then(|| self.makespan.as_secs_f64() / bound)
    }

    fn summary(&self) -> String {
        format!(
            "makespan {} s, {:.3} times the schedule's lower bound of {} s; {} MB hopped in {} visits",
            seconds(self.makespan),
            self.ratio().unwrap_or(f64::NAN),
            seconds(self.lower_bound),
            megabytes(self.total.timing.hop_bytes),
            self.total.visits,
        )
    }
}

impl Sum {
    fn add(&mut self, timing: &VisitTiming) {
        self.visits += 1;
        self.timing.queue += timing.queue;
        self.timing.fetch += timing.fetch;
        self.timing.stall += timing.stall;
        self.timing.train += timing.train;
        self.timing.evaluate += timing.evaluate;
        self.timing.state += timing.state;
        self.timing.cpu += timing.cpu;
        self.timing.hop_bytes += timing.hop_bytes;
    }

    fn json(&self) -> Value {
        let timing = &self.timing;
        json!({
            "visits": self.visits,
            "queue_seconds": timing.queue.as_secs_f64(),
            "fetch_seconds": timing.fetch.as_secs_f64(),
            "stall_seconds": timing.stall.as_secs_f64(),
            "train_seconds": timing.train.as_secs_f64(),
            "evaluate_seconds": timing.evaluate.as_secs_f64(),
            "state_seconds": timing.state.as_secs_f64(),
            "cpu_seconds": timing.cpu.as_secs_f64(),
            "hop_bytes": timing.hop_bytes,
        })
    }
}

/// The slot's time without waiting for states.
fn busy(timing: &VisitTiming) -> Duration {
    timing.train + timing.evaluate + timing.state
}

/// The segment of each shard, as the visits tell; a shard that was never visited is nobody's load.
fn homes(visits: &[VisitRecord], shards: usize) -> Vec<arrowhop_types::SegmentId> {
    let first = visits.first().map(|visit| visit.slot.segment);
    let home = |shard: usize| {
        let shard = u32::try_from(shard).map(ShardId).ok();
        let visit = visits.iter().find(|visit| Some(visit.shard) == shard);
        visit.map(|visit| visit.slot.segment).or(first)
    };
    (0..shards).filter_map(home).collect()
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn megabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1e6)
}
