//! Random runs and random faults.

use std::time::Duration;

use arrowhop_schedule::{Entrant, Estimates, Layout, Options, Progress, Schedule};
use arrowhop_types::{ModelId, SegmentId, ShardId, SlotId, VisitId, VisitKind};
use proptest::prelude::*;

/// A random run: everything that does not change while it goes on.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) layout: Layout,
    pub(crate) options: Options,
    models: u32,
    /// Visits' durations follow from this.
    salt: u64,
    /// Prescribed visits per model, up to all of them.
    prescribed: usize,
}

/// What goes wrong next; the number picks among what there is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    Nothing,
    AbandonVisit(usize),
    EndModel(usize),
    AddModelAgain(usize),
    LoseSegment(usize),
    ReturnSegment(usize),
    RepeatReport(usize),
}

impl Setting {
    pub(crate) fn model_ids(&self) -> impl Iterator<Item = ModelId> {
        (1..=self.models).map(ModelId)
    }

    pub(crate) fn shards(&self) -> usize {
        self.layout.shards().len()
    }

    /// Between 1 and 64 ms, the same whenever it is asked.
    pub(crate) fn took(&self, model: ModelId, shard: ShardId, kind: VisitKind) -> Duration {
        let mixed = (u64::from(model.0) << 32 | u64::from(shard.0) << 8 | kind as u64)
            .wrapping_add(self.salt)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Duration::from_millis(1 + (mixed >> 58))
    }

    /// Some order of all training visits: each epoch's is rotated by the model's number.
    pub(crate) fn prescribed(&self, model: ModelId) -> Vec<ShardId> {
        let shards = u32::try_from(self.shards()).unwrap();
        let in_epoch = |epoch| (0..shards).map(move |i| ShardId((i + model.0 + epoch) % shards));
        (0..self.options.epochs).flat_map(in_epoch).take(self.prescribed).collect()
    }

    pub(crate) fn entrant(&self, model: ModelId, start: Progress) -> Entrant {
        let trained = usize::try_from(start.version.0).unwrap();
        let prescribed = self.prescribed(model).into_iter().skip(trained).collect();
        let estimate = Duration::from_millis(10);
        Entrant::new(&self.layout, &self.options, model, start, prescribed, estimate).unwrap()
    }

    /// A schedule that learns how long visits take.
    pub(crate) fn learning(&self) -> Schedule {
        let estimates = Estimates::learned(&self.layout);
        Schedule::new(self.layout.clone(), self.options, estimates)
    }

    pub(crate) fn known(&self) -> Estimates {
        let row = |model| {
            let shards = (0..u32::try_from(self.shards()).unwrap()).map(ShardId);
            (model, shards.map(|shard| self.took(model, shard, VisitKind::Train)).collect())
        };
        Estimates::known(self.model_ids().map(row))
    }
}
pub(crate) fn settings() -> impl Strategy<Value = Setting> {
    let cluster = prop::collection::vec((1_u32..=3, 1_usize..=3), 1..=4);
    let run = (1_u32..=3, any::<bool>(), any::<bool>(), 1_u32..=9, any::<u64>(), 0_usize..=40);
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
        let options = Options { epochs, evaluates, prefetch, first_visit: VisitId(1) };
        // Half of the runs prescribe nothing.
        let prescribed = usize::saturating_sub(prescribed, 20);
        Setting { layout, options, models, salt, prescribed }
    })
}

pub(crate) fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let fault = prop_oneof![
        12 => Just(Fault::Nothing),
        3 => any::<usize>().prop_map(Fault::AbandonVisit),
        1 => any::<usize>().prop_map(Fault::EndModel),
        1 => any::<usize>().prop_map(Fault::AddModelAgain),
        1 => any::<usize>().prop_map(Fault::LoseSegment),
        1 => any::<usize>().prop_map(Fault::ReturnSegment),
        3 => any::<usize>().prop_map(Fault::RepeatReport),
    ];
    prop::collection::vec(fault, 0..80)
}
