//! A run's specification, there and back.

use arrowhop_types::{
    Architecture, CheckpointPolicy, Direction, ModelConfig, Objective, OutputConfig, Precision,
    RunId, RunSpec, ShardId, TrainMetrics, VisitOrder,
};

use crate::WireError;
use crate::control as proto;
use crate::convert::{part, present, shard, term};

impl From<RunSpec> for proto::Run {
    fn from(spec: RunSpec) -> Self {
        Self {
            name: spec.name,
            seed: spec.seed,
            epochs: spec.epochs,
            architectures: spec.architectures.into_iter().map(Into::into).collect(),
            configs: spec.configs.into_iter().map(Into::into).collect(),
            data: Some(spec.data.into()),
            objective: Some(spec.objective.into()),
            train_metrics: match spec.train_metrics {
                TrainMetrics::Evaluate => proto::TrainMetrics::Evaluate,
                TrainMetrics::Running => proto::TrainMetrics::Running,
            }
            .into(),
            order: Some(spec.order.into()),
            prescribed: spec.prescribed.into_iter().map(shard_list).collect(),
            checkpoints: match spec.checkpoints {
                CheckpointPolicy::EveryVisit => proto::CheckpointPolicy::EveryVisit,
                CheckpointPolicy::EveryEpoch => proto::CheckpointPolicy::EveryEpoch,
            }
            .into(),
            reset_optimizer_each_visit: spec.reset_optimizer_each_visit,
            bounds: spec.bounds,
            experiment: spec.experiment,
            sources: spec.sources.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::Run> for RunSpec {
    type Error = WireError;

    fn try_from(run: proto::Run) -> Result<Self, WireError> {
        Ok(Self {
            name: run.name,
            seed: run.seed,
            epochs: run.epochs,
            architectures: run.architectures.into_iter().map(Into::into).collect(),
            configs: run.configs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            data: present(run.data, "run.data")?.try_into()?,
            objective: present(run.objective, "run.objective")?.try_into()?,
            train_metrics: train_metrics(run.train_metrics)?,
            order: present(run.order, "run.order")?.try_into()?,
            prescribed: run
                .prescribed
                .into_iter()
                .map(|list| list.shards.into_iter().map(shard).collect())
                .collect(),
            checkpoints: checkpoints(run.checkpoints)?,
            reset_optimizer_each_visit: run.reset_optimizer_each_visit,
            bounds: run.bounds,
            experiment: run.experiment,
            sources: run.sources.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
        })
    }
}

fn shard_list(shards: Vec<ShardId>) -> proto::ShardList {
    proto::ShardList { shards: shards.into_iter().map(|shard| shard.0).collect() }
}

fn train_metrics(value: i32) -> Result<TrainMetrics, WireError> {
    match proto::TrainMetrics::try_from(value) {
        Ok(proto::TrainMetrics::Evaluate) => Ok(TrainMetrics::Evaluate),
        Ok(proto::TrainMetrics::Running) => Ok(TrainMetrics::Running),
        _ => Err(unknown("run.train_metrics", value)),
    }
}

fn checkpoints(value: i32) -> Result<CheckpointPolicy, WireError> {
    match proto::CheckpointPolicy::try_from(value) {
        Ok(proto::CheckpointPolicy::EveryVisit) => Ok(CheckpointPolicy::EveryVisit),
        Ok(proto::CheckpointPolicy::EveryEpoch) => Ok(CheckpointPolicy::EveryEpoch),
        _ => Err(unknown("run.checkpoints", value)),
    }
}

fn unknown(field: &'static str, value: i32) -> WireError {
    WireError::Unknown { field, value: value.to_string() }
}

impl From<Objective> for proto::Objective {
    fn from(objective: Objective) -> Self {
        Self {
            part: proto::Part::from(objective.part).into(),
            metric: objective.metric,
            maximize: objective.direction == Direction::Maximize,
        }
    }
}

impl TryFrom<proto::Objective> for Objective {
    type Error = WireError;

    fn try_from(objective: proto::Objective) -> Result<Self, WireError> {
        let direction = if objective.maximize { Direction::Maximize } else { Direction::Minimize };
        Ok(Self { part: part(objective.part)?, metric: objective.metric, direction })
    }
}

impl From<VisitOrder> for proto::VisitOrder {
    fn from(order: VisitOrder) -> Self {
        use proto::visit_order::Kind;
        Self {
            kind: Some(match order {
                VisitOrder::Free => Kind::Free(true),
                VisitOrder::Planned => Kind::Planned(true),
                VisitOrder::As(run) => Kind::AsRun(run.0),
            }),
        }
    }
}

impl TryFrom<proto::VisitOrder> for VisitOrder {
    type Error = WireError;

    fn try_from(order: proto::VisitOrder) -> Result<Self, WireError> {
        use proto::visit_order::Kind;
        Ok(match present(order.kind, "run.order.kind")? {
            Kind::Free(_) => Self::Free,
            Kind::Planned(_) => Self::Planned,
            Kind::AsRun(run) => Self::As(RunId(run)),
        })
    }
}

impl From<Architecture> for proto::Architecture {
    fn from(architecture: Architecture) -> Self {
        Self { name: architecture.name, keras_json: architecture.keras_json }
    }
}

impl From<proto::Architecture> for Architecture {
    fn from(architecture: proto::Architecture) -> Self {
        Self { name: architecture.name, keras_json: architecture.keras_json }
    }
}

impl From<ModelConfig> for proto::ModelConfig {
    fn from(config: ModelConfig) -> Self {
        Self {
            architecture: config.architecture,
            optimizer: Some(config.optimizer.into()),
            outputs: config.outputs.into_iter().map(Into::into).collect(),
            class_weights: config.class_weights,
            batch_rows: config.batch_rows,
            passes: config.passes,
            precision: config.precision.name().to_owned(),
        }
    }
}

impl TryFrom<proto::ModelConfig> for ModelConfig {
    type Error = WireError;

    fn try_from(config: proto::ModelConfig) -> Result<Self, WireError> {
        Ok(Self {
            architecture: config.architecture,
            optimizer: present(config.optimizer, "config.optimizer")?.try_into()?,
            outputs: config.outputs.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            class_weights: config.class_weights,
            batch_rows: config.batch_rows,
            passes: config.passes,
            precision: match config.precision.as_str() {
                "" => Precision::F32,
                name => term(name, "config.precision")?,
            },
        })
    }
}

impl From<OutputConfig> for proto::OutputConfig {
    fn from(output: OutputConfig) -> Self {
        Self {
            loss: output.loss.to_string(),
            loss_weight: output.loss_weight,
            metrics: output.metrics.iter().map(ToString::to_string).collect(),
        }
    }
}

impl TryFrom<proto::OutputConfig> for OutputConfig {
    type Error = WireError;

    fn try_from(output: proto::OutputConfig) -> Result<Self, WireError> {
        let metrics = output.metrics.iter().map(|text| term(text, "config.outputs.metrics"));
        Ok(Self {
            loss: term(&output.loss, "config.outputs.loss")?,
            loss_weight: output.loss_weight,
            metrics: metrics.collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{Crossentropy, Loss, Metric, Part};

    use super::*;

    #[test]
    fn what_outputs_are_held_to_comes_back_as_it_went_in() {
        let smoothed = Crossentropy { from_logits: true, label_smoothing: 0.1 };
        let output = OutputConfig {
            loss: Loss::BinaryCrossentropy(smoothed),
            loss_weight: 0.5,
            metrics: vec![Metric::Accuracy, Metric::TopKCategoricalAccuracy { k: 3 }],
        };
        assert_eq!(OutputConfig::try_from(proto::OutputConfig::from(output.clone())), Ok(output));
        let direction = Direction::Maximize;
        let objective = Objective { part: Part::Validation, metric: "auc".into(), direction };
        let sent = proto::Objective::from(objective.clone());
        assert_eq!(Objective::try_from(sent.clone()), Ok(objective));
        let error = Objective::try_from(proto::Objective { part: 0, ..sent }).unwrap_err();
        let expected = "objective.part holds 0, which this version does not understand";
        assert_eq!(error.to_string(), expected);
    }
}
