//! What can go wrong in a segment host.

use arrowhop_flight::FlightError;
use arrowhop_runtime::AskError;
use arrowhop_types::{Classify, ErrorClass, Problems};

/// A failure of a segment host.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Settings that make no sense.
    #[error("{0}")]
    Settings(Problems),
    /// A second supervisor came.
    #[error("a supervisor is attached already; a segment serves one at a time")]
    Attached,
    /// The supervisor could not be reached.
    #[error("join the supervisor at {uri}; is it running?")]
    Join {
        /// Where it should be.
        uri: String,
        /// Why not.
        source: Box<tonic::Status>,
    },
    /// It cannot listen where it should.
    #[error("start")]
    Listen(#[source] FlightError),
    /// An actor did not answer.
    #[error("ask an actor")]
    Ask(#[from] AskError),
    /// The data plane.
    #[error("use Flight")]
    Flight(#[from] FlightError),
    /// Serving broke off.
    #[error("serve")]
    Serve(#[from] tonic::transport::Error),
}

impl Classify for SegmentError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Settings(_) => ErrorClass::Invalid,
            Self::Attached => ErrorClass::Conflict,
            Self::Join { .. } | Self::Serve(_) => ErrorClass::Unavailable,
            Self::Ask(error) => error.class(),
            Self::Listen(error) | Self::Flight(error) => error.class(),
        }
    }
}
