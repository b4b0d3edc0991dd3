//! Small pieces shared by all translations.

use std::str::FromStr;
use std::time::Duration;

use arrowhop_types::{
    Classify, DataSetId, Digest, ErrorClass, ModelId, Part, RunId, SegmentId, ShardId, SlotId,
    Timestamp, VisitKind,
};

use crate::control as proto;

/// A message that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field that must be there is not.
    #[error("the message lacks {field}")]
    Absent {
        /// The field's name in the protocol.
        field: &'static str,
    },
    /// A field says something that this version does not know.
    #[error("{field} holds {value}, which this version does not understand")]
    Unknown {
        /// The field's name in the protocol.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

impl Classify for WireError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}

pub(crate) fn present<T>(value: Option<T>, field: &'static str) -> Result<T, WireError> {
    value.ok_or(WireError::Absent { field })
}

pub(crate) fn digest(bytes: &[u8], field: &'static str) -> Result<Digest, WireError> {
    let bytes = bytes.try_into().map_err(|_| WireError::Unknown {
        field,
        value: format!("{} bytes instead of 32", bytes.len()),
    })?;
    Ok(Digest(bytes))
}

pub(crate) fn optional_digest(
    bytes: &[u8],
    field: &'static str,
) -> Result<Option<Digest>, WireError> {
    if bytes.is_empty() { Ok(None) } else { digest(bytes, field).map(Some) }
}

pub(crate) fn data_set_id(bytes: &[u8]) -> Result<DataSetId, WireError> {
    digest(bytes, "data.id").map(DataSetId)
}

pub(crate) fn size(value: u64, field: &'static str) -> Result<usize, WireError> {
    usize::try_from(value).map_err(|_| WireError::Unknown { field, value: value.to_string() })
}

/// Microseconds, saturating: a duration of 584,000 years is as good as any longer one.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl From<VisitKind> for proto::VisitKind {
    fn from(kind: VisitKind) -> Self {
        match kind {
            VisitKind::Train => Self::Train,
            VisitKind::Evaluate => Self::Evaluate,
        }
    }
}

pub(crate) fn visit_kind(value: i32) -> Result<VisitKind, WireError> {
    match proto::VisitKind::try_from(value) {
        Ok(proto::VisitKind::Train) => Ok(VisitKind::Train),
        Ok(proto::VisitKind::Evaluate) => Ok(VisitKind::Evaluate),
        _ => Err(WireError::Unknown { field: "visit.kind", value: value.to_string() }),
    }
}

impl From<SlotId> for proto::Slot {
    fn from(slot: SlotId) -> Self {
        Self { segment: slot.segment.0, index: slot.index }
    }
}

impl From<proto::Slot> for SlotId {
    fn from(slot: proto::Slot) -> Self {
        Self { segment: SegmentId(slot.segment), index: slot.index }
    }
}

/// A loss or a metric by its text.
pub(crate) fn term<T: FromStr>(text: &str, field: &'static str) -> Result<T, WireError> {
    text.parse().map_err(|_| WireError::Unknown { field, value: text.to_owned() })
}

impl From<Part> for proto::Part {
    fn from(part: Part) -> Self {
        match part {
            Part::Train => Self::Train,
            Part::Validation => Self::Validation,
        }
    }
}

pub(crate) fn part(value: i32) -> Result<Part, WireError> {
    match proto::Part::try_from(value) {
        Ok(proto::Part::Train) => Ok(Part::Train),
        Ok(proto::Part::Validation) => Ok(Part::Validation),
        _ => Err(WireError::Unknown { field: "objective.part", value: value.to_string() }),
    }
}

impl From<RunId> for proto::RunRef {
    fn from(run: RunId) -> Self {
        Self { run: run.0 }
    }
}

impl From<proto::RunRef> for RunId {
    fn from(reference: proto::RunRef) -> Self {
        Self(reference.run)
    }
}

pub(crate) fn model(id: u32) -> ModelId {
    ModelId(id)
}

pub(crate) fn shard(id: u32) -> ShardId {
    ShardId(id)
}

pub(crate) fn timestamp(micros: u64) -> Timestamp {
    Timestamp(micros)
}
