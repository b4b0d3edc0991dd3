//! What goes into a schedule and what comes out of it.

use std::time::Duration;

use arrowhop_types::{ModelId, SegmentId, ShardId, SlotId, Timestamp, Version, VisitId, VisitKind};

use crate::Entrant;

/// A fact, in the past tense. One that refers to something the schedule no longer knows — a
/// doubled report, a visit of a model that was dropped — changes nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A model joins, fresh or with the progress it had. One that is there already stays as it is.
    ModelAdded(Entrant),
    /// A visit is committed.
    VisitEnded {
        /// The visit, which was started.
        visit: VisitId,
        /// How long the slot worked on it, without waiting for the model's state.
        took: Duration,
    },
    /// A visit, running or reserved, came to nothing: its slot is free and its shard still owed.
    VisitAbandoned {
        /// The visit.
        visit: VisitId,
    },
    /// A model diverged or failed: it owes nothing any more. A visit of it that is running keeps
    /// its slot until that visit's own `VisitEnded` or `VisitAbandoned`. The model may be added
    /// again, for example from an older checkpoint.
    ModelEnded {
        /// The model.
        model: ModelId,
    },
    /// The state that a [`Command::Prefetch`] asked for is there.
    StateArrived {
        /// The reserved visit.
        visit: VisitId,
        /// How long the fetch took.
        took: Duration,
    },
    /// A segment is gone: its visits are abandoned, as are reserved ones whose state was to come
    /// from it; its slots are closed, and the models whose state lived there are taken to be in
    /// the model store. Where the store has only an older version,
    /// end the model and add it again from that.
    SegmentLost {
        /// The segment.
        segment: SegmentId,
    },
    /// A lost segment is back, with its shards.
    SegmentReturned {
        /// The segment.
        segment: SegmentId,
    },
    /// Nothing more is to be started; running visits end as they will.
    StopAfterVisits,
    /// The moment of a [`Command::WakeAt`] has come.
    Woken,
}

/// An order, to be carried out in the sequence given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Begin this visit now.
    Start(Visit),
    /// Fetch the model's state to the slot's segment, which is still busy. When the slot is free a
    /// `Start` of the same visit follows, whether or not the state has arrived. Nothing follows if
    /// the visit is abandoned, its model ends, the segment is lost or the run is stopped.
    Prefetch(Visit),
    /// Give [`Event::Woken`] at this time. It replaces a time that has not yet come.
    WakeAt(Timestamp),
    /// All the model's visits of this epoch are completed.
    EpochEnded {
        /// The model.
        model: ModelId,
        /// The epoch, from 0.
        epoch: u32,
    },
    /// All the model's epochs are completed.
    ModelFinished {
        /// The model.
        model: ModelId,
    },
    /// Nothing runs and nothing will start: every model has finished or ended, or the run was
    /// stopped. Said once, and again after models were added to a drained schedule.
    Drained,
}

/// A visit as decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// Its number.
    pub id: VisitId,
    /// The model that visits.
    pub model: ModelId,
    /// Its epoch, from 0.
    pub epoch: u32,
    /// What it does there.
    pub kind: VisitKind,
    /// The shard it visits.
    pub shard: ShardId,
    /// Where.
    pub slot: SlotId,
    /// The segment where the model's state was left, perhaps the slot's own. `None`: the model is
    /// fresh (version 0), or its state is in the model store.
    pub from: Option<SegmentId>,
    /// The version it starts from.
    pub version: Version,
}

impl Visit {
    /// Whether the model's state must be brought to the slot's segment.
    #[must_use]
    pub fn hops(&self) -> bool {
        hops(self.from, self.version, self.slot.segment)
    }
}

/// Whether a state must be fetched to be at `to`; a fresh model is made where it is needed.
pub(crate) fn hops(home: Option<SegmentId>, version: Version, to: SegmentId) -> bool {
    home.map_or(version > Version(0), |home| home != to)
}
