//! What is asked for: a run and the model configurations in it.

use crate::{
    DataSet, Loss, Metric, ModelId, Optimizer, Part, Precision, RunId, ShardId, SourceRecord,
};

/// A network's definition, as the user brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// The name that configurations refer to; a file's stem by default.
    pub name: String,
    /// The text of `model.to_json()`.
    pub keras_json: String,
}

/// What one output of a network is held to.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputConfig {
    /// What is minimised.
    pub loss: Loss,
    /// What it counts in the sum over outputs.
    pub loss_weight: f64,
    /// What is measured beside it, in the order of reports.
    pub metrics: Vec<Metric>,
}

/// One configuration: architecture, compile parameters, fit parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// Name of an [`Architecture`] of the run.
    pub architecture: String,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// One entry for each of the network's outputs, in their order; a single one is every output's.
    pub outputs: Vec<OutputConfig>,
    /// What a row's loss counts in training, by the row's class; empty where every class counts 1.
    pub class_weights: Vec<f64>,
    /// Rows per batch; a visit's last batch may be smaller.
    pub batch_rows: u32,
    /// Passes over the shard in one visit.
    pub passes: u32,
    /// Of the network's products, in training, evaluation and prediction.
    pub precision: Precision,
}

/// The name of the mean loss among those of metrics.
pub const LOSS: &str = "loss";

/// Which way a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smaller is better.
    Minimize,
    /// Larger is better.
    Maximize,
}

/// How models are ranked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objective {
    /// On which rows.
    pub part: Part,
    /// [`LOSS`], or the name of a metric.
    pub metric: String,
    /// Which way it improves.
    pub direction: Direction,
}

/// When a model's state is copied into the model store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointPolicy {
    /// After each training visit.
    EveryVisit,
    /// After each epoch.
    EveryEpoch,
}

/// Where the training loss and accuracy of an epoch come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrainMetrics {
    /// The finished model is evaluated on every training shard (MADlib's way).
    Evaluate,
    /// The running means of the training batches (Keras's `fit`): free, but the model was still
    /// learning, and dropout was on.
    Running,
}

/// In which order a model visits the shards of an epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisitOrder {
    /// As the slots become free: the shortest run. Final weights depend on timing; the order is
    /// in the hop log.
    Free,
    /// Planned before the run from estimated visit times: the same weights on any cluster.
    Planned,
    /// As in the hop log of an earlier run with the same models, shards and epochs.
    As(RunId),
}

/// A model selection, as submitted: complete, so that it can be run again from this alone.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSpec {
    /// For people.
    pub name: String,
    /// Root of every random stream.
    pub seed: u64,
    /// Epochs to train each model for.
    pub epochs: u32,
    /// The networks that configurations name.
    pub architectures: Vec<Architecture>,
    /// The models: `ModelId(1)` is the first.
    pub configs: Vec<ModelConfig>,
    /// What they are trained on.
    pub data: DataSet,
    /// Where its rows came from.
    pub sources: Vec<SourceRecord>,
    /// How they are ranked.
    pub objective: Objective,
    /// Training metrics of each epoch.
    pub train_metrics: TrainMetrics,
    /// Shard order.
    pub order: VisitOrder,
    /// For [`VisitOrder::As`] and [`VisitOrder::Planned`]: each model's training visits in order.
    pub prescribed: Vec<Vec<ShardId>>,
    /// Checkpoints.
    pub checkpoints: CheckpointPolicy,
    /// Restart the optimizer at each hop, as MADlib does.
    pub reset_optimizer_each_visit: bool,
    /// The bounds that cut this run short of its experiment (`--max-rows 1000`), for its record.
    pub bounds: Vec<String>,
    /// The experiment as it was written, for its record.
    pub experiment: String,
}

impl RunSpec {
    /// The models and their configurations, in order.
    pub fn models(&self) -> impl Iterator<Item = (ModelId, &ModelConfig)> {
        (1..).map(ModelId).zip(&self.configs)
    }

    /// A model's configuration.
    #[must_use]
    pub fn config(&self, model: ModelId) -> Option<&ModelConfig> {
        self.configs.get((model.0 as usize).checked_sub(1)?)
    }

    /// An architecture by name.
    #[must_use]
    pub fn architecture(&self, name: &str) -> Option<&Architecture> {
        self.architectures.iter().find(|architecture| architecture.name == name)
    }

    /// Whether evaluation visits follow each epoch's training visits.
    #[must_use]
    pub fn evaluates(&self) -> bool {
        self.train_metrics == TrainMetrics::Evaluate
            || self.data.shards.iter().any(|shard| shard.validation_rows > 0)
    }
}

impl OutputConfig {
    /// A loss of weight 1, and no metrics.
    #[must_use]
    pub fn new(loss: Loss) -> Self {
        Self { loss, loss_weight: 1.0, metrics: Vec::new() }
    }
}

impl ModelConfig {
    /// One loss for every output, no metrics, all classes alike, one pass, single precision.
    #[must_use]
    pub fn new(architecture: &str, optimizer: Optimizer, loss: Loss, batch_rows: u32) -> Self {
        Self {
            architecture: architecture.to_owned(),
            optimizer,
            outputs: vec![OutputConfig::new(loss)],
            class_weights: Vec::new(),
            batch_rows,
            passes: 1,
            precision: Precision::F32,
        }
    }
}

impl Objective {
    /// Its name in experiments, tables and JSON: `validation_loss`, `train_accuracy`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}_{}", self.part.name(), self.metric)
    }

    /// The part and the metric of such a name.
    #[must_use]
    pub fn split(name: &str) -> Option<(Part, &str)> {
        let parts = [Part::Train, Part::Validation].into_iter();
        let mut found = parts
            .filter_map(|part| Some((part, name.strip_prefix(part.name())?.strip_prefix('_')?)));
        found.next()
    }
}
