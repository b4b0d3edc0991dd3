//! A run as it stands while it goes on: what a progress display shows.

use std::time::Duration;

use crate::{EpochRecord, ModelId, ModelStatus, RunId, RunStatus, ShardId, VisitKind};

/// A run while it goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRun {
    /// The run.
    pub run: RunId,
    /// How it stands.
    pub status: RunStatus,
    /// Its models, by number.
    pub models: Vec<LiveModel>,
    /// Time spent running.
    pub elapsed: Duration,
    /// Work that is left over the slots, from the visits seen so far; `None` until one was seen.
    pub remaining: Option<Duration>,
}

/// A model while its run goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveModel {
    /// The model.
    pub model: ModelId,
    /// How it stands.
    pub status: ModelStatus,
    /// The epoch it is in, from 0.
    pub epoch: u32,
    /// Training or evaluating.
    pub phase: VisitKind,
    /// Shards visited in this phase.
    pub shards_visited: u32,
    /// The shard it is visiting now.
    pub visiting: Option<ShardId>,
    /// Running loss of that visit.
    pub visit_loss: Option<f64>,
    /// Metrics of the last epoch it completed.
    pub last_epoch: Option<EpochRecord>,
}
