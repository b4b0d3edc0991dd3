//! What the supervisor tells a segment.

use arrowhop_types::{Digest, ModelId, RunId, RunSpec, ShardId, Version, VisitId, VisitKind};

use crate::WireError;
use crate::control as proto;
use crate::convert::{model, optional_digest, present, shard, visit_kind};

/// A command on the `Attach` stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// First on the stream.
    Hello {
        /// The supervisor's protocol version.
        protocol: u32,
    },
    /// Get ready for a run.
    OpenRun {
        /// The run.
        run: RunId,
        /// What it is.
        spec: Box<RunSpec>,
        /// The shards that the segment must hold.
        shards: Vec<ShardId>,
    },
    /// Fetch the state of a slot's next visit.
    Prefetch(StartVisit),
    /// Begin a visit.
    Start(StartVisit),
    /// States below a version may go.
    Release {
        /// The run.
        run: RunId,
        /// The model.
        model: ModelId,
        /// The first version still needed.
        below: Version,
    },
    /// Give up a run's visits within a batch.
    Abort {
        /// The run.
        run: RunId,
    },
    /// Forget a run.
    CloseRun {
        /// The run.
        run: RunId,
    },
}

/// One visit, as ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartVisit {
    /// The run.
    pub run: RunId,
    /// The visit.
    pub visit: VisitId,
    /// Counts the tries at this visit, from 1; a report of an earlier try changes nothing.
    pub attempt: u32,
    /// The model that visits.
    pub model: ModelId,
    /// Its epoch, from 0.
    pub epoch: u32,
    /// What it does.
    pub kind: VisitKind,
    /// The shard it visits.
    pub shard: ShardId,
    /// The slot's number within the segment.
    pub slot: u32,
    /// The version it starts from.
    pub version: Version,
    /// Who has that version, if this segment has not.
    pub from_uri: Option<String>,
    /// That version's digest; `None` for a version 0 whose weights are drawn on the spot.
    pub digest: Option<Digest>,
}

impl From<StartVisit> for proto::Visit {
    fn from(order: StartVisit) -> Self {
        Self {
            run: order.run.0,
            visit: order.visit.0,
            attempt: order.attempt,
            model: order.model.0,
            epoch: order.epoch,
            kind: proto::VisitKind::from(order.kind).into(),
            shard: order.shard.0,
            slot: order.slot,
            version: order.version.0,
            from_uri: order.from_uri.unwrap_or_default(),
            digest: order.digest.map(|digest| digest.0.to_vec()).unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::Visit> for StartVisit {
    type Error = WireError;

    fn try_from(visit: proto::Visit) -> Result<Self, WireError> {
        Ok(Self {
            run: RunId(visit.run),
            visit: VisitId(visit.visit),
            attempt: visit.attempt,
            model: model(visit.model),
            epoch: visit.epoch,
            kind: visit_kind(visit.kind)?,
            shard: shard(visit.shard),
            slot: visit.slot,
            version: Version(visit.version),
            from_uri: (!visit.from_uri.is_empty()).then_some(visit.from_uri),
            digest: optional_digest(&visit.digest, "visit.digest")?,
        })
    }
}

impl From<Command> for proto::Command {
    fn from(command: Command) -> Self {
        use proto::command::Kind;
        Self {
            kind: Some(match command {
                Command::Hello { protocol } => Kind::Hello(proto::Hello { protocol }),
                Command::OpenRun { run, spec, shards } => Kind::OpenRun(proto::OpenRun {
                    run: run.0,
                    spec: Some((*spec).into()),
                    shards: shards.into_iter().map(|shard| shard.0).collect(),
                }),
                Command::Prefetch(order) => Kind::Prefetch(order.into()),
                Command::Start(order) => Kind::Start(order.into()),
                Command::Release { run, model, below } => Kind::Release(proto::Release {
                    run: run.0,
                    model: model.0,
                    below_version: below.0,
                }),
                Command::Abort { run } => Kind::Abort(proto::Abort { run: run.0 }),
                Command::CloseRun { run } => Kind::CloseRun(proto::CloseRun { run: run.0 }),
            }),
        }
    }
}

impl TryFrom<proto::Command> for Command {
    type Error = WireError;

    fn try_from(command: proto::Command) -> Result<Self, WireError> {
        use proto::command::Kind;
        Ok(match present(command.kind, "command.kind")? {
            Kind::Hello(hello) => Self::Hello { protocol: hello.protocol },
            Kind::OpenRun(open) => Self::OpenRun {
                run: RunId(open.run),
                spec: Box::new(present(open.spec, "open_run.spec")?.try_into()?),
                shards: open.shards.into_iter().map(shard).collect(),
            },
            Kind::Prefetch(visit) => Self::Prefetch(visit.try_into()?),
            Kind::Start(visit) => Self::Start(visit.try_into()?),
            Kind::Release(release) => Self::Release {
                run: RunId(release.run),
                model: model(release.model),
                below: Version(release.below_version),
            },
            Kind::Abort(abort) => Self::Abort { run: RunId(abort.run) },
            Kind::CloseRun(close) => Self::CloseRun { run: RunId(close.run) },
        })
    }
}
