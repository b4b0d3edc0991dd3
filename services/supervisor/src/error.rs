//! What can go wrong in a supervisor.

use std::path::PathBuf;

use arrowhop_catalog::CatalogError;
use arrowhop_flight::FlightError;
use arrowhop_runtime::AskError;
use arrowhop_types::{Classify, ErrorClass, Problems, RunId, SegmentId};
use arrowhop_wire::WireError;

/// A failure of a supervisor.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A run that cannot be run as submitted.
    #[error("{0}")]
    Invalid(#[from] Problems),
    /// A message that cannot be understood.
    #[error("read a request")]
    Wire(#[from] WireError),
    /// The catalog refused.
    #[error("use the catalog")]
    Catalog(#[from] CatalogError),
    /// The data plane.
    #[error("use Flight")]
    Flight(#[from] FlightError),
    /// An actor did not answer.
    #[error("ask an actor")]
    Ask(#[from] AskError),
    /// Another process is running it.
    #[error("run {run} is going on, here or in another process; stop it first")]
    Busy {
        /// The run.
        run: RunId,
    },
    /// It has ended already.
    #[error("run {run} is {status}; only a run that stopped or broke off can be resumed")]
    Over {
        /// The run.
        run: RunId,
        /// How it stands.
        status: &'static str,
    },
    /// It is not going on, so it cannot be stopped.
    #[error("run {run} is not going on here; `arrowhop runs` lists the runs")]
    NotRunning {
        /// The run.
        run: RunId,
    },
    /// Too many runs wait.
    #[error("{limit} runs are waiting already; submit again when one has ended")]
    QueueFull {
        /// How many may wait.
        limit: usize,
    },
    /// The number is taken.
    #[error("segment {segment} is attached already, from {uri}; give each segment its own number")]
    Duplicate {
        /// The number.
        segment: SegmentId,
        /// The segment that has it.
        uri: String,
    },
    /// The peer speaks another protocol.
    #[error(
        "the segment speaks protocol {theirs}, this supervisor {ours}; use one release for both"
    )]
    Protocol {
        /// The peer's version.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// It cannot listen where it should.
    #[error("start")]
    Listen(#[source] FlightError),
    /// A file of the state directory.
    #[error("use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
    /// Serving broke off.
    #[error("serve")]
    Serve(#[from] tonic::transport::Error),
}

impl Classify for SupervisorError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid(_) | Self::Protocol { .. } => ErrorClass::Invalid,
            Self::Wire(error) => error.class(),
            Self::Catalog(error) => error.class(),
            Self::Listen(error) | Self::Flight(error) => error.class(),
            Self::Ask(error) => error.class(),
            Self::Busy { .. }
            | Self::Over { .. }
            | Self::NotRunning { .. }
            | Self::Duplicate { .. } => ErrorClass::Conflict,
            Self::QueueFull { .. } => ErrorClass::Overloaded,
            Self::File { .. } | Self::Serve(_) => ErrorClass::Unavailable,
        }
    }
}
