//! The actors of a supervisor, one file each.
//!
//! ```text
//!   front (gRPC) ──Submit, Watch, Stop──▶ Hopper ──Tell──▶ SegmentLink (one per segment) ──▶ Attach
//!                                          ▲ │ ▲                                               │
//!                                          │ │ └───────────────────Reported────────────────────┘
//!                                     Kept │ ▼ Keep
//!                                         Archive ──DoGet──▶ segments; writes the model store
//! ```

pub(crate) mod archive;
pub(crate) mod hopper;
pub(crate) mod segment_link;
