//! Records of what happened, there and back.

use std::time::Duration;

use arrowhop_types::{
    Digest, EpochRecord, Measures, MetricSums, ModelId, ModelRecord, ModelStatus, RunId, RunRecord,
    RunStatus, Score, Version, VisitId, VisitRecord, VisitTiming,
};

use crate::WireError;
use crate::control as proto;
use crate::convert::{
    digest, micros, model, optional_digest, present, shard, term, timestamp, visit_kind,
};

impl From<Score> for proto::Score {
    fn from(score: Score) -> Self {
        let metrics = score.metrics.into_iter().map(|entry| proto::MetricSums {
            output: entry.output.unwrap_or_default(),
            metric: entry.metric.to_string(),
            sums: entry.sums,
        });
        Self { rows: score.rows, loss_sum: score.loss_sum, metrics: metrics.collect() }
    }
}

impl TryFrom<proto::Score> for Score {
    type Error = WireError;

    fn try_from(score: proto::Score) -> Result<Self, WireError> {
        let metrics = score.metrics.into_iter().map(|entry| {
            Ok(MetricSums {
                metric: term(&entry.metric, "score.metrics.metric")?,
                output: (!entry.output.is_empty()).then_some(entry.output),
                sums: entry.sums,
            })
        });
        let metrics = metrics.collect::<Result<_, _>>()?;
        Ok(Self { rows: score.rows, loss_sum: score.loss_sum, metrics })
    }
}

impl From<Measures> for proto::Measures {
    fn from(measures: Measures) -> Self {
        let metrics = measures.metrics.into_iter();
        Self {
            rows: measures.rows,
            loss: measures.loss,
            metrics: metrics.map(|(name, value)| proto::MetricValue { name, value }).collect(),
        }
    }
}

impl From<proto::Measures> for Measures {
    fn from(measures: proto::Measures) -> Self {
        let metrics = measures.metrics.into_iter();
        Self {
            rows: measures.rows,
            loss: measures.loss,
            metrics: metrics.map(|metric| (metric.name, metric.value)).collect(),
        }
    }
}

impl From<VisitTiming> for proto::VisitTiming {
    fn from(timing: VisitTiming) -> Self {
        Self {
            queue_us: micros(timing.queue),
            fetch_us: micros(timing.fetch),
            stall_us: micros(timing.stall),
            train_us: micros(timing.train),
            evaluate_us: micros(timing.evaluate),
            state_us: micros(timing.state),
            cpu_us: micros(timing.cpu),
            hop_bytes: timing.hop_bytes,
        }
    }
}

impl From<proto::VisitTiming> for VisitTiming {
    fn from(timing: proto::VisitTiming) -> Self {
        Self {
            queue: Duration::from_micros(timing.queue_us),
            fetch: Duration::from_micros(timing.fetch_us),
            stall: Duration::from_micros(timing.stall_us),
            train: Duration::from_micros(timing.train_us),
            evaluate: Duration::from_micros(timing.evaluate_us),
            state: Duration::from_micros(timing.state_us),
            cpu: Duration::from_micros(timing.cpu_us),
            hop_bytes: timing.hop_bytes,
        }
    }
}

impl From<EpochRecord> for proto::EpochRecord {
    fn from(record: EpochRecord) -> Self {
        Self {
            epoch: record.epoch,
            train: Some(record.train.into()),
            validation: Some(record.validation.into()),
            ended_at_us: record.ended_at.0,
        }
    }
}

impl TryFrom<proto::EpochRecord> for EpochRecord {
    type Error = WireError;

    fn try_from(record: proto::EpochRecord) -> Result<Self, WireError> {
        Ok(Self {
            epoch: record.epoch,
            train: present(record.train, "epoch.train")?.into(),
            validation: present(record.validation, "epoch.validation")?.into(),
            ended_at: timestamp(record.ended_at_us),
        })
    }
}

impl From<&RunStatus> for proto::RunStatus {
    fn from(status: &RunStatus) -> Self {
        let reason = match status {
            RunStatus::Failed { reason } => reason.clone(),
            _ => String::new(),
        };
        Self { name: status.name().into(), reason }
    }
}

impl TryFrom<proto::RunStatus> for RunStatus {
    type Error = WireError;

    fn try_from(status: proto::RunStatus) -> Result<Self, WireError> {
        Ok(match status.name.as_str() {
            "queued" => Self::Queued,
            "running" => Self::Running,
            "finished" => Self::Finished,
            "stopped" => Self::Stopped,
            "failed" => Self::Failed { reason: status.reason },
            _ => {
                return Err(WireError::Unknown { field: "run.status", value: status.name });
            }
        })
    }
}

impl From<&ModelStatus> for proto::ModelStatus {
    fn from(status: &ModelStatus) -> Self {
        let reason = status.reason().unwrap_or_default().to_owned();
        Self { name: status.name().into(), reason }
    }
}

impl TryFrom<proto::ModelStatus> for ModelStatus {
    type Error = WireError;

    fn try_from(status: proto::ModelStatus) -> Result<Self, WireError> {
        Ok(match status.name.as_str() {
            "running" => Self::Running,
            "finished" => Self::Finished,
            "diverged" => Self::Diverged { reason: status.reason },
            "failed" => Self::Failed { reason: status.reason },
            "stopped" => Self::Stopped,
            _ => {
                return Err(WireError::Unknown { field: "model.status", value: status.name });
            }
        })
    }
}

impl From<VisitRecord> for proto::VisitRecord {
    fn from(record: VisitRecord) -> Self {
        Self {
            visit: record.visit.0,
            model: record.model.0,
            epoch: record.epoch,
            shard: record.shard.0,
            slot: Some(record.slot.into()),
            kind: proto::VisitKind::from(record.kind).into(),
            version: record.version.0,
            digest: record.digest.0.to_vec(),
            started_at_us: record.started_at.0,
            ended_at_us: record.ended_at.0,
            computed_by: record.computed_by,
            timing: Some(record.timing.into()),
            train: Some(record.train.into()),
            validation: Some(record.validation.into()),
        }
    }
}

impl TryFrom<proto::VisitRecord> for VisitRecord {
    type Error = WireError;

    fn try_from(record: proto::VisitRecord) -> Result<Self, WireError> {
        Ok(Self {
            visit: VisitId(record.visit),
            model: model(record.model),
            epoch: record.epoch,
            shard: shard(record.shard),
            slot: present(record.slot, "visit.slot")?.into(),
            kind: visit_kind(record.kind)?,
            version: Version(record.version),
            digest: digest(&record.digest, "visit.digest")?,
            started_at: timestamp(record.started_at_us),
            ended_at: timestamp(record.ended_at_us),
            computed_by: record.computed_by,
            timing: present(record.timing, "visit.timing")?.into(),
            train: present(record.train, "visit.train")?.try_into()?,
            validation: present(record.validation, "visit.validation")?.try_into()?,
        })
    }
}

/// A model and the digest of the state that it starts from.
impl From<(ModelId, Digest)> for proto::InitialState {
    fn from((model, digest): (ModelId, Digest)) -> Self {
        Self { model: model.0, digest: digest.0.to_vec() }
    }
}

impl TryFrom<proto::InitialState> for (ModelId, Digest) {
    type Error = WireError;

    fn try_from(initial: proto::InitialState) -> Result<Self, WireError> {
        Ok((model(initial.model), digest(&initial.digest, "submit.initial.digest")?))
    }
}

impl From<RunRecord> for proto::RunRecord {
    fn from(record: RunRecord) -> Self {
        let models = record.models.into_iter().map(|model| proto::ModelRecord {
            model: model.model.0,
            status: Some((&model.status).into()),
            epochs: model.epochs.into_iter().map(Into::into).collect(),
            checkpoint: model.checkpoint.map(|(version, digest)| proto::Checkpoint {
                version: version.0,
                digest: digest.0.to_vec(),
            }),
            initial_digest: model.initial.map(|digest| digest.0.to_vec()).unwrap_or_default(),
        });
        Self {
            run: record.run.0,
            models: models.collect(),
            spec: Some(record.spec.into()),
            status: Some((&record.status).into()),
            submitted_at_us: record.submitted_at.0,
            elapsed_us: micros(record.elapsed),
            slots: record.slots.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<proto::RunRecord> for RunRecord {
    type Error = WireError;

    fn try_from(record: proto::RunRecord) -> Result<Self, WireError> {
        let spec: arrowhop_types::RunSpec = present(record.spec, "run.spec")?.try_into()?;
        let mut models = Vec::with_capacity(record.models.len());
        for entry in record.models {
            let id = model(entry.model);
            let config = spec.config(id).ok_or_else(|| WireError::Unknown {
                field: "run.models.model",
                value: entry.model.to_string(),
            })?;
            let epochs: Result<_, _> = entry.epochs.into_iter().map(TryInto::try_into).collect();
            let checkpoint = entry.checkpoint.map(|checkpoint| {
                digest(&checkpoint.digest, "checkpoint.digest")
                    .map(|digest| (Version(checkpoint.version), digest))
            });
            models.push(ModelRecord {
                model: id,
                config: config.clone(),
                status: present(entry.status, "model.status")?.try_into()?,
                epochs: epochs?,
                checkpoint: checkpoint.transpose()?,
                initial: optional_digest(&entry.initial_digest, "model.initial_digest")?,
            });
        }
        Ok(Self {
            run: RunId(record.run),
            spec,
            status: present(record.status, "run.status")?.try_into()?,
            submitted_at: timestamp(record.submitted_at_us),
            elapsed: Duration::from_micros(record.elapsed_us),
            slots: record.slots.into_iter().map(Into::into).collect(),
            models,
        })
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::Metric;

    use super::*;

    fn score() -> Score {
        let sums = |output: Option<&str>, metric, sums: &[f64]| MetricSums {
            output: output.map(str::to_owned),
            metric,
            sums: sums.to_vec(),
        };
        let metrics = vec![
            sums(None, Metric::Precision { threshold: 0.7 }, &[3.0, 1.0]),
            sums(Some("size"), Metric::RootMeanSquaredError, &[f64::INFINITY, 0.1]),
        ];
        Score { rows: 4, loss_sum: 0.3, metrics }
    }

    #[test]
    fn scores_and_what_they_amount_to_come_back_as_they_went_in() {
        assert_eq!(Score::try_from(proto::Score::from(score())), Ok(score()));
        for measures in [score().measures(), Measures::default()] {
            assert_eq!(Measures::from(proto::Measures::from(measures.clone())), measures);
        }
    }

    #[test]
    fn a_metric_that_is_not_known_is_refused_by_its_text() {
        let mut strange = proto::Score::from(score());
        strange.metrics[1].metric = "roc(points=3)".into();
        let error = Score::try_from(strange).unwrap_err().to_string();
        let expected =
            "score.metrics.metric holds roc(points=3), which this version does not understand";
        assert_eq!(error, expected);
    }
}
