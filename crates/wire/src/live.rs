//! Live progress, there and back.

use std::time::Duration;

use arrowhop_types::{LiveModel, LiveRun, RunId};

use crate::WireError;
use crate::control as proto;
use crate::convert::{micros, model, present, shard, visit_kind};

impl From<LiveRun> for proto::RunProgress {
    fn from(live: LiveRun) -> Self {
        Self {
            run: live.run.0,
            status: Some((&live.status).into()),
            models: live.models.into_iter().map(Into::into).collect(),
            elapsed_us: micros(live.elapsed),
            remaining_us: live.remaining.map(micros),
        }
    }
}

impl TryFrom<proto::RunProgress> for LiveRun {
    type Error = WireError;

    fn try_from(progress: proto::RunProgress) -> Result<Self, WireError> {
        Ok(Self {
            run: RunId(progress.run),
            status: present(progress.status, "progress.status")?.try_into()?,
            models: progress.models.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            elapsed: Duration::from_micros(progress.elapsed_us),
            remaining: progress.remaining_us.map(Duration::from_micros),
        })
    }
}

impl From<LiveModel> for proto::ModelProgress {
    fn from(live: LiveModel) -> Self {
        Self {
            model: live.model.0,
            status: Some((&live.status).into()),
            epoch: live.epoch,
            phase: proto::VisitKind::from(live.phase).into(),
            shards_visited: live.shards_visited,
            shard: live.visiting.map(|shard| shard.0),
            visit_loss: live.visit_loss,
            last_epoch: live.last_epoch.map(Into::into),
        }
    }
}

impl TryFrom<proto::ModelProgress> for LiveModel {
    type Error = WireError;

    fn try_from(progress: proto::ModelProgress) -> Result<Self, WireError> {
        Ok(Self {
            model: model(progress.model),
            status: present(progress.status, "progress.models.status")?.try_into()?,
            epoch: progress.epoch,
            phase: visit_kind(progress.phase)?,
            shards_visited: progress.shards_visited,
            visiting: progress.shard.map(shard),
            visit_loss: progress.visit_loss,
            last_epoch: progress.last_epoch.map(TryInto::try_into).transpose()?,
        })
    }
}
