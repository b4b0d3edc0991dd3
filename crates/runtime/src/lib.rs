//! How a process lives: what it logs, how its actors are asked, how it stops, what a panic does. Every service is built on these; none of them knows what a run is.

mod actors;
mod ask;
mod error;
pub mod panics;
mod serving;
mod shutdown;
pub mod telemetry;

pub use actors::Actors;
pub use ask::{AskError, ask, tell};
pub use error::RuntimeError;
pub use serving::{Serving, until_stopped};
pub use shutdown::{Stop, StopSignal};
