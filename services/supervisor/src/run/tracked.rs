//! One model of an active run: where its states are, how far it is, what it scored.

use std::collections::BTreeMap;

use arrowhop_types::{
    Digest, EpochRecord, LiveModel, ModelId, ModelStatus, Score, SegmentId, ShardId, Timestamp,
    TrainMetrics, Version, VisitKind, VisitRecord,
};

/// A model as the supervisor follows it. Derived from the hop log alone when a run is opened.
#[derive(Debug)]
pub(super) struct Tracked {
    pub(super) model: ModelId,
    pub(super) status: ModelStatus,
    pub(super) version: Version,
    /// Of that version; `None` for a version 0 that nobody made yet.
    pub(super) digest: Option<Digest>,
    /// The segment that has that version; `None` where only the model store has it.
    pub(super) home: Option<SegmentId>,
    /// The lowest version that each segment may still hold.
    pub(super) holders: BTreeMap<SegmentId, Version>,
    /// The latest version in the model store.
    pub(super) kept: Version,
    /// Versions on their way to the model store, and the segment each is fetched from.
    pub(super) keeping: BTreeMap<Version, SegmentId>,
    pub(super) epoch: u32,
    /// Training scores of the current epoch, by shard.
    pub(super) trained: BTreeMap<ShardId, Score>,
    /// Training and validation scores of the current epoch's evaluation, by shard.
    pub(super) evaluated: BTreeMap<ShardId, (Score, Score)>,
    pub(super) last_epoch: Option<EpochRecord>,
    /// When it last became ready for a visit.
    pub(super) ready_at: Timestamp,
    /// Tries of its next visit that came to nothing.
    pub(super) failures: u32,
    /// Where it is training, and its running loss there.
    pub(super) visiting: Option<(ShardId, Option<f64>)>,
}

impl Tracked {
    pub(super) fn new(model: ModelId) -> Self {
        Self {
            model,
            status: ModelStatus::Running,
            version: Version(0),
            digest: None,
            home: None,
            holders: BTreeMap::new(),
            kept: Version(0),
            keeping: BTreeMap::new(),
            epoch: 0,
            trained: BTreeMap::new(),
            evaluated: BTreeMap::new(),
            last_epoch: None,
            ready_at: Timestamp::default(),
            failures: 0,
            visiting: None,
        }
    }

    /// Takes in a committed visit.
    pub(super) fn commit(&mut self, record: &VisitRecord) {
        if record.epoch != self.epoch {
            self.trained.clear();
            self.evaluated.clear();
            self.epoch = record.epoch;
        }
        match record.kind {
            VisitKind::Train => {
                self.trained.insert(record.shard, record.train.clone());
            }
            VisitKind::Evaluate => {
                let scores = (record.train.clone(), record.validation.clone());
                self.evaluated.insert(record.shard, scores);
            }
        }
        self.version = record.version;
        self.digest = Some(record.digest);
        self.home = Some(record.slot.segment);
        self.ready_at = record.ended_at;
        self.failures = 0;
        self.visiting = None;
    }

    /// The metrics of the epoch that has just ended. Shards add up in their order, so that the
    /// sums do not depend on the order of visits.
    pub(super) fn end_epoch(
        &mut self,
        epoch: u32,
        metrics: TrainMetrics,
        now: Timestamp,
    ) -> EpochRecord {
        let (mut train, mut validation) = (Score::default(), Score::default());
        if metrics == TrainMetrics::Running {
            self.trained.values().for_each(|score| train.add(score));
        }
        for (train_score, validation_score) in self.evaluated.values() {
            if metrics == TrainMetrics::Evaluate {
                train.add(train_score);
            }
            validation.add(validation_score);
        }
        let (train, validation) = (train.measures(), validation.measures());
        let record = EpochRecord { epoch, train, validation, ended_at: now };
        self.last_epoch = Some(record.clone());
        self.trained.clear();
        self.evaluated.clear();
        self.epoch = epoch + 1;
        record
    }

    /// The segments that hold states below what is still needed, with that version.
    pub(super) fn release(&mut self) -> Vec<(SegmentId, Version)> {
        let needed =
            self.keeping.keys().next().map_or(self.version, |&kept| kept.min(self.version));
        let mut released = Vec::new();
        for (&segment, lowest) in &mut self.holders {
            if *lowest < needed {
                *lowest = needed;
                released.push((segment, needed));
            }
        }
        released
    }

    /// How far it is, for people. `shards` is the number of shards, `epochs` that of epochs.
    pub(super) fn live(&self, shards: usize, epochs: u32) -> LiveModel {
        let evaluating = self.trained.len() == shards;
        let (phase, visited) = if evaluating {
            (VisitKind::Evaluate, self.evaluated.len())
        } else {
            (VisitKind::Train, self.trained.len())
        };
        LiveModel {
            model: self.model,
            status: self.status.clone(),
            epoch: self.epoch.min(epochs),
            phase,
            shards_visited: u32::try_from(visited).expect("at most 65,535 shards"),
            visiting: self.visiting.map(|(shard, _)| shard),
            visit_loss: self.visiting.and_then(|(_, loss)| loss),
            last_epoch: self.last_epoch.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(rows: u64, loss_sum: f64) -> Score {
        Score { rows, loss_sum, metrics: Vec::new() }
    }

    #[test]
    fn an_epoch_adds_up_either_way() {
        let mut tracked = Tracked::new(ModelId(1));
        tracked.trained.insert(ShardId(0), score(2, 8.0));
        tracked.evaluated.insert(ShardId(0), (score(2, 2.0), score(1, 3.0)));
        tracked.evaluated.insert(ShardId(1), (score(2, 4.0), score(1, 5.0)));
        let record = tracked.end_epoch(3, TrainMetrics::Evaluate, Timestamp(9));
        assert_eq!((record.train.loss, record.validation.loss), (Some(1.5), Some(4.0)));
        assert_eq!(tracked.epoch, 4);
        tracked.trained.insert(ShardId(0), score(2, 8.0));
        let record = tracked.end_epoch(4, TrainMetrics::Running, Timestamp(10));
        assert_eq!((record.train.loss, record.validation.loss), (Some(4.0), None));
    }

    #[test]
    fn run_3_a_state_on_its_way_to_the_store_is_not_released() {
        let mut tracked = Tracked::new(ModelId(1));
        tracked.version = Version(5);
        tracked.holders = [(SegmentId(0), Version(3)), (SegmentId(1), Version(5))].into();
        tracked.keeping.insert(Version(4), SegmentId(0));
        assert_eq!(tracked.release(), [(SegmentId(0), Version(4))]);
        assert_eq!(tracked.release(), []);
        tracked.keeping.clear();
        assert_eq!(tracked.release(), [(SegmentId(0), Version(5))]);
    }
}
