//! The catalog: the durable record of runs, their models, their hop log and their checkpoints, in
//! one SQLite file that people can read with `sqlite3`. It records and checks what it is told; it
//! never decides what to do next, and it holds no weights.
//!
//! ```text
//!            intend                    commit
//!   (none) ─────────▶ intended ───────────────────▶ committed
//!                      │    ▲ intend, higher attempt    │
//!   abandon,           ▼    │                           │ roll_back
//!   clear_intents   abandoned                           ▼
//!                      intended ──── roll_back ───▶ rolled back
//! ```
//!
//! A visit commits once, by compare-and-swap: only while it is intended with that same attempt, and
//! only onto the version it started from. A late or doubled report changes nothing.
//!
//! The API blocks; a service calls it from a thread of its own.

mod catalog;
mod checkpoints;
mod configs;
mod data_sets;
mod error;
mod intents;
mod models;
mod optimizers;
mod progress;
mod row;
mod runs;
#[cfg(test)]
mod samples;
mod scores;
mod specs;
mod visits;
mod words;

pub use catalog::Catalog;
pub use checkpoints::Checkpoint;
pub use error::CatalogError;
pub use intents::{IntendedVisit, VisitState};
pub use progress::ModelProgress;
pub use runs::RunSummary;
pub use visits::{CommitOutcome, Stale};
