//! The model hopper: which model visits which shard, on which slot, and when.
//!
//! A [`Schedule`] is a state machine. Facts ([`Event`]) go in, orders ([`Command`]) come out; it
//! knows no clock, no thread, no file and no random draw, so that the supervisor on the real clock
//! and [`simulate`](simulate()) on a virtual one drive the very same code.
//!
//! ```text
//!                 ModelAdded            Prefetch               Start             VisitEnded
//!   (outside) ───────────────▶ ready ─────────────▶ reserved ─────────▶ running ───────────▶ ready
//!                                │  ◀──────────────────┘                 ▲  │
//!                                │      VisitAbandoned                   │  └▶ VisitAbandoned: ready,
//!                                └───────────────── Start ───────────────┘     the shard still owed
//! ```
//!
//! In each epoch a model owes one training visit to every shard and, where the run evaluates, then
//! one evaluation visit to every shard. There is no barrier between models: one may be epochs
//! ahead of another. The policy is two-sided longest remaining processing time (LRPT-2); see
//! [`Schedule`].
//!
//! Invariants, each with a property test:
//!
//! - **HOP-1**: each (model, epoch, shard, kind) is completed exactly once; a late or doubled
//!   report changes nothing.
//! - **HOP-2**: a slot runs one visit at a time.
//! - **HOP-3**: a model is in one visit at a time.
//! - **HOP-4**: no stall: as long as work is owed, the run is not stopped and no segment is lost,
//!   something runs; and no slot stands idle while a ready model owes it a visit.
//! - **HOP-5**: a schedule rebuilt from its models' [`Progress`] and the same estimates goes on as
//!   the one it replaces would have; only how long fetches take is learned anew.

mod bound;
mod course;
mod dispatch;
mod entrant;
mod estimates;
mod layout;
mod message;
mod plan;
mod prefetch;
mod ready;
mod schedule;
mod simulate;

pub use bound::{lower_bound, measured_lower_bound};
pub use entrant::{Entrant, Progress};
pub use estimates::Estimates;
pub use layout::{Layout, Options};
pub use message::{Command, Event, Visit};
pub use plan::plan;
pub use schedule::Schedule;
pub use simulate::{Outcome, SimulatedVisit, simulate};
