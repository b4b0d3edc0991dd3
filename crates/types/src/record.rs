//! What happened: the hop log, the metrics and the outcome of a run, as the catalog keeps them
//! and as people read them.

use std::time::Duration;

use crate::{
    Digest, Direction, ErrorClass, Measures, ModelConfig, ModelId, Objective, Part, RunId, RunSpec,
    Score, ShardId, SlotId, Timestamp, Version, VisitId,
};

/// What a visit does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VisitKind {
    /// Trains the model on the shard; makes a new version.
    Train,
    /// Scores the model on the shard; changes nothing.
    Evaluate,
}

/// Where a visit's time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VisitTiming {
    /// The model was ready and waited for a slot.
    pub queue: Duration,
    /// Its state was being fetched, whether or not the slot was busy meanwhile.
    pub fetch: Duration,
    /// The slot stood idle because the state had not arrived.
    pub stall: Duration,
    /// The slot trained.
    pub train: Duration,
    /// The slot evaluated.
    pub evaluate: Duration,
    /// The slot decoded, encoded and stored the state.
    pub state: Duration,
    /// CPU time of the trainer's thread while it trained or evaluated.
    pub cpu: Duration,
    /// Bytes that hopped; 0 when the model was already there.
    pub hop_bytes: u64,
}

/// A committed visit: one line of the hop log.
#[derive(Debug, Clone, PartialEq)]
pub struct VisitRecord {
    /// The visit.
    pub visit: VisitId,
    /// The model that visited.
    pub model: ModelId,
    /// Its epoch, from 0.
    pub epoch: u32,
    /// The shard it visited.
    pub shard: ShardId,
    /// Where.
    pub slot: SlotId,
    /// What it did.
    pub kind: VisitKind,
    /// The version it left with.
    pub version: Version,
    /// Digest of that version's state.
    pub digest: Digest,
    /// When the slot began, since the run's start.
    pub started_at: Timestamp,
    /// When the slot was free again, since the run's start.
    pub ended_at: Timestamp,
    /// What computed it, since bits depend on that: the instructions of the CPU's kernels, or the GPU's
    /// name.
    pub computed_by: String,
    /// Where the time went.
    pub timing: VisitTiming,
    /// Score on the training rows.
    pub train: Score,
    /// Score on the validation rows.
    pub validation: Score,
}

/// A model's metrics after an epoch.
#[derive(Debug, Clone, PartialEq)]
pub struct EpochRecord {
    /// From 0.
    pub epoch: u32,
    /// Over all training shards.
    pub train: Measures,
    /// Over all validation shards.
    pub validation: Measures,
    /// Since the run's start.
    pub ended_at: Timestamp,
}

/// How a model stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelStatus {
    /// Waiting or training.
    Running,
    /// All epochs done.
    Finished,
    /// Its loss became NaN or infinite.
    Diverged {
        /// Where it happened.
        reason: String,
    },
    /// It could not be trained.
    Failed {
        /// Why.
        reason: String,
    },
    /// The run was stopped before it had finished.
    Stopped,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunStatus {
    /// Submitted, not yet begun.
    Queued,
    /// Visits are going on.
    Running,
    /// Every model finished, diverged or failed.
    Finished,
    /// Stopped by request; can be resumed.
    Stopped,
    /// Broken off; can be resumed.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A model of a run, as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRecord {
    /// The model.
    pub model: ModelId,
    /// What it is.
    pub config: ModelConfig,
    /// How it stands.
    pub status: ModelStatus,
    /// Metrics of each epoch completed.
    pub epochs: Vec<EpochRecord>,
    /// The latest version in the model store, and its state's digest.
    pub checkpoint: Option<(Version, Digest)>,
    /// Digest of version 0's state where its weights were given; `None` where they were drawn.
    pub initial: Option<Digest>,
}

/// A run, as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// What was asked for.
    pub spec: RunSpec,
    /// How it stands.
    pub status: RunStatus,
    /// Since the Unix epoch.
    pub submitted_at: Timestamp,
    /// Time spent running, over all its resumptions.
    pub elapsed: Duration,
    /// Slots it ran on.
    pub slots: Vec<SlotId>,
    /// Its models, by number.
    pub models: Vec<ModelRecord>,
}

impl EpochRecord {
    /// What was measured on the rows of a part.
    #[must_use]
    pub fn measures(&self, part: Part) -> &Measures {
        match part {
            Part::Train => &self.train,
            Part::Validation => &self.validation,
        }
    }

    /// The value of an objective.
    #[must_use]
    pub fn value(&self, objective: &Objective) -> Option<f64> {
        self.measures(objective.part).value(&objective.metric)
    }
}

impl ModelRecord {
    /// The latest value of an objective.
    #[must_use]
    pub fn value(&self, objective: &Objective) -> Option<f64> {
        self.epochs.last()?.value(objective)
    }
}

impl ModelStatus {
    /// One word for tables and JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Diverged { .. } => "diverged",
            Self::Failed { .. } => "failed",
            Self::Stopped => "stopped",
        }
    }

    /// Why it diverged or failed.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Diverged { reason } | Self::Failed { reason } => Some(reason),
            Self::Running | Self::Finished | Self::Stopped => None,
        }
    }
}

impl RunStatus {
    /// One word for tables and JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Failed { .. } => "failed",
        }
    }

    /// Whether nothing more will happen unless somebody resumes it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Finished | Self::Stopped | Self::Failed { .. })
    }
}

impl RunRecord {
    /// Models from best to worst by the objective's latest value. Diverged and failed models come
    /// last, models without a value before them; ties keep the models' order.
    #[must_use]
    pub fn ranking(&self) -> Vec<&ModelRecord> {
        let objective = &self.spec.objective;
        let mut models: Vec<_> = self.models.iter().collect();
        models.sort_by(|a, b| {
            let key = |record: &ModelRecord| {
                let broken = record.status.reason().is_some();
                let cost = record.value(objective).map(|value| match objective.direction {
                    Direction::Minimize => value,
                    Direction::Maximize => -value,
                });
                (broken, cost.unwrap_or(f64::INFINITY))
            };
            let ((a_broken, a_cost), (b_broken, b_cost)) = (key(a), key(b));
            a_broken.cmp(&b_broken).then(a_cost.total_cmp(&b_cost))
        });
        models
    }

    /// The best model that did not break and has a value.
    #[must_use]
    pub fn best(&self) -> Option<&ModelRecord> {
        self.ranking().into_iter().find(|model| {
            model.status.reason().is_none() && model.value(&self.spec.objective).is_some()
        })
    }
}

impl ErrorClass {
    /// Its name in status metadata and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Missing => "missing",
            Self::Conflict => "conflict",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Bug => "bug",
        }
    }
}
