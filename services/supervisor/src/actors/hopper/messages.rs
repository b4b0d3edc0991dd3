//! What the hopper is told and asked.

use actix::{Message, Recipient};
use arrowhop_catalog::Checkpoint;
use arrowhop_flight::ModelTicket;
use arrowhop_types::{Digest, LiveRun, ModelId, RunId, RunSpec, SegmentId, Timestamp};
use arrowhop_wire::Fact;
use arrowhop_wire::control::SegmentInfo;
use tokio::sync::watch;

use crate::SupervisorError;
use crate::actors::archive::{Discard, Keep};

/// Where states are kept; said once, before anything else.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct UseArchive(pub(crate) Recipient<Keep>, pub(crate) Recipient<Discard>);

/// A segment reports for duty.
#[derive(Message)]
#[rtype(result = "Result<(), SupervisorError>")]
pub(crate) struct Join(pub(crate) SegmentInfo);

/// A link stands.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Attached {
    pub(crate) segment: SegmentId,
}

/// A segment reported a fact.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Reported {
    pub(crate) segment: SegmentId,
    pub(crate) fact: Fact,
}

/// A segment's link broke.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Lost {
    pub(crate) segment: SegmentId,
    pub(crate) reason: String,
}

/// A state is in the model store, or could not be kept.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Kept {
    pub(crate) ticket: ModelTicket,
    pub(crate) result: Result<Checkpoint, String>,
}

/// The segments that are attached.
#[derive(Message)]
#[rtype(result = "Vec<SegmentInfo>")]
pub(crate) struct ListSegments;

/// Record a run and queue it.
#[derive(Message)]
#[rtype(result = "Result<RunId, SupervisorError>")]
pub(crate) struct Submit {
    pub(crate) spec: Box<RunSpec>,
    pub(crate) placement: Vec<SegmentId>,
    /// Version 0 of models whose first weights are given: states that wait in the model store.
    pub(crate) initial: Vec<(ModelId, Digest)>,
    pub(crate) now: Timestamp,
}

/// Queue a stopped or broken run again.
#[derive(Message)]
#[rtype(result = "Result<(), SupervisorError>")]
pub(crate) struct Resume {
    pub(crate) run: RunId,
    pub(crate) placement: Vec<SegmentId>,
}

/// How a run stands, now and later.
#[derive(Message)]
#[rtype(result = "Result<watch::Receiver<LiveRun>, SupervisorError>")]
pub(crate) struct Watch(pub(crate) RunId);

/// Stop a run, after its visits or at once.
#[derive(Message)]
#[rtype(result = "Result<(), SupervisorError>")]
pub(crate) struct StopRun {
    pub(crate) run: RunId,
    pub(crate) now: bool,
}
