//! What happened: the hop log, the metrics and the outcome of a run, as the catalog keeps them
//! and as people read them.

use std::time::Duration;

use crate::{
    Digest, ErrorClass, Metric, ModelConfig, ModelId, RunId, RunSpec, ShardId, SlotId, Timestamp,
    Version, VisitId,
};

/// Sums over rows, so that shards add up exactly like one pass over all rows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// Rows scored.
    pub rows: u64,
    /// Sum of the rows' losses.
    pub loss_sum: f64,
    /// Rows classified right; `None` where the target is not a class.
    pub correct: Option<u64>,
}

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
    /// Where the time went.
    pub timing: VisitTiming,
    /// Score on the training rows.
    pub train: Score,
    /// Score on the validation rows.
    pub validation: Score,
}

/// A model's metrics after an epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EpochRecord {
    /// From 0.
    pub epoch: u32,
    /// Over all training shards.
    pub train: Score,
    /// Over all validation shards.
    pub validation: Score,
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

impl Score {
    /// Mean loss per row; `None` without rows.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^53")]
    pub fn loss(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.loss_sum / self.rows as f64)
    }

    /// Share of rows classified right; `None` without rows or classes.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^53")]
    pub fn accuracy(&self) -> Option<f64> {
        self.correct.filter(|_| self.rows > 0).map(|correct| correct as f64 / self.rows as f64)
    }

    /// Adds the score of other rows.
    ///
    /// ```
    /// # use arrowhop_types::Score;
    /// let mut sum = Score::default();
    /// sum.add(&Score { rows: 4, loss_sum: 2.0, correct: Some(3) });
    /// assert_eq!((sum.loss(), sum.accuracy()), (Some(0.5), Some(0.75)));
    /// ```
    pub fn add(&mut self, other: &Self) {
        self.correct = match (self.rows, other.rows) {
            (0, _) => other.correct,
            (_, 0) => self.correct,
            _ => self.correct.zip(other.correct).map(|(a, b)| a + b),
        };
        self.rows += other.rows;
        self.loss_sum += other.loss_sum;
    }
}

impl EpochRecord {
    /// One of its metrics.
    #[must_use]
    pub fn metric(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::TrainLoss => self.train.loss(),
            Metric::TrainAccuracy => self.train.accuracy(),
            Metric::ValidationLoss => self.validation.loss(),
            Metric::ValidationAccuracy => self.validation.accuracy(),
        }
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
        let objective = self.spec.objective;
        let mut models: Vec<_> = self.models.iter().collect();
        models.sort_by(|a, b| {
            let key = |record: &ModelRecord| {
                let broken = record.status.reason().is_some();
                let value = record.epochs.last().and_then(|epoch| epoch.metric(objective.metric));
                let cost = value.map(|value| match objective.direction {
                    crate::Direction::Minimize => value,
                    crate::Direction::Maximize => -value,
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
            model.status.reason().is_none()
                && model
                    .epochs
                    .last()
                    .and_then(|epoch| epoch.metric(self.spec.objective.metric))
                    .is_some()
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
