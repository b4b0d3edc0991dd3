//! Exit codes, the same for every command.

use std::process::ExitCode;

use arrowhop_types::{Classify, ErrorClass, Problems};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// All is well.
    Done = 0,
    /// It failed while it ran.
    Failed = 1,
    /// What was asked for is wrong.
    Usage = 2,
    /// The run ended, but some of its models failed.
    ModelsFailed = 3,
    /// What was asked for does not exist.
    Missing = 5,
    /// A peer cannot be reached; trying again may help.
    Unavailable = 6,
    /// Interrupted; the run can be resumed.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// The exit code of an error, by its class.
#[must_use]
pub fn exit_of(error: &anyhow::Error) -> Exit {
    match class_of(error) {
        Some(ErrorClass::Invalid) => Exit::Usage,
        Some(ErrorClass::Missing) => Exit::Missing,
        Some(ErrorClass::Unavailable | ErrorClass::Overloaded) => Exit::Unavailable,
        Some(ErrorClass::Conflict | ErrorClass::Bug) | None => Exit::Failed,
    }
}

/// The class of the first error in a chain that has one.
pub(crate) fn class_of(error: &anyhow::Error) -> Option<ErrorClass> {
    error.chain().find_map(|cause| {
        None.or_else(|| class::<Problems>(cause))
            .or_else(|| class::<arrowhop_source::SourceError>(cause))
            .or_else(|| class::<arrowhop_catalog::CatalogError>(cause))
            .or_else(|| class::<arrowhop_flight::FlightError>(cause))
            .or_else(|| class::<arrowhop_supervisor::SupervisorError>(cause))
            .or_else(|| class::<arrowhop_segment::SegmentError>(cause))
            .or_else(|| class::<arrowhop_train::TrainError>(cause))
            .or_else(|| class::<arrowhop_weights::WriteError>(cause))
            .or_else(|| class::<arrowhop_wire::WireError>(cause))
            .or_else(|| {
                let status = cause.downcast_ref::<tonic::Status>()?;
                Some(arrowhop_wire::status::class_of(status))
            })
            .or_else(|| {
                let error = cause.downcast_ref::<std::io::Error>()?;
                (error.kind() == std::io::ErrorKind::NotFound).then_some(ErrorClass::Missing)
            })
    })
}

fn class<E: Classify + std::error::Error + 'static>(
    cause: &(dyn std::error::Error + 'static),
) -> Option<ErrorClass> {
    cause.downcast_ref::<E>().map(Classify::class)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_wrong_request_and_a_missing_thing_have_their_own_codes() {
        let wrong = Err::<(), _>(Problems::one("epochs", "is 0")).context("read it");
        assert_eq!(exit_of(&wrong.unwrap_err()), Exit::Usage);
        let missing = std::fs::read("no/such/file").context("read it");
        assert_eq!(exit_of(&missing.unwrap_err()), Exit::Missing);
        let status = Err::<(), _>(tonic::Status::unavailable("gone")).context("ask");
        assert_eq!(exit_of(&status.unwrap_err()), Exit::Unavailable);
        assert_eq!(exit_of(&anyhow::anyhow!("odd")), Exit::Failed);
    }
}
