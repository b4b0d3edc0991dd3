//! The one table between error classes and gRPC statuses. The class travels in the metadata, so
//! that a peer decides from data and never from a text; the code serves foreign clients.

use std::error::Error;

use arrowhop_types::{Classify, ErrorClass};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// Metadata key of the class.
pub const CLASS_KEY: &str = "arrowhop-class";

/// A message travels percent-encoded, at three times its length at worst, in an HTTP header block
/// that peers limit to 16 KiB.
const MESSAGE_BYTES_MAX: usize = 4_000;

const TABLE: [(ErrorClass, Code); 6] = [
    (ErrorClass::Invalid, Code::InvalidArgument),
    (ErrorClass::Missing, Code::NotFound),
    (ErrorClass::Conflict, Code::FailedPrecondition),
    (ErrorClass::Overloaded, Code::ResourceExhausted),
    (ErrorClass::Unavailable, Code::Unavailable),
    (ErrorClass::Bug, Code::Internal),
];

/// The status that says what `error` says: its class as code and metadata, its chain of sources
/// as message.
#[must_use]
pub fn status_of(error: &(impl Classify + Error)) -> Status {
    let class = error.class();
    let code = TABLE.iter().find(|row| row.0 == class).expect("TABLE has every class").1;
    let mut metadata = MetadataMap::new();
    metadata.insert(CLASS_KEY, MetadataValue::from_static(class.name()));
    Status::with_metadata(code, chain(error), metadata)
}

/// The class of a status: what its sender said, else what its code means.
#[must_use]
pub fn class_of(status: &Status) -> ErrorClass {
    let said = status.metadata().get(CLASS_KEY).and_then(|value| value.to_str().ok());
    TABLE
        .iter()
        .find(|(class, _)| said == Some(class.name()))
        .map_or_else(|| class_of_code(status.code()), |row| row.0)
}

/// Our peers always name the class; without one the status comes from a foreign server or, far
/// more often, from the transport, whose broken connections are `Unknown` and `Cancelled`.
fn class_of_code(code: Code) -> ErrorClass {
    match code {
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated
        | Code::PermissionDenied => ErrorClass::Invalid,
        Code::NotFound => ErrorClass::Missing,
        Code::FailedPrecondition | Code::AlreadyExists | Code::Aborted => ErrorClass::Conflict,
        Code::ResourceExhausted => ErrorClass::Overloaded,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => {
            ErrorClass::Unavailable
        }
        Code::Ok | Code::Internal | Code::DataLoss => ErrorClass::Bug,
    }
}

/// `error` and its sources, outermost first. A source that the text before it already ends with
/// is not said twice: not every library keeps its sources out of its texts.
pub fn chain(error: &impl Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = cause.source();
    }
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("start visit 7")]
    struct Outer {
        class: ErrorClass,
        source: Middle,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("read shard 3: {source}")]
    struct Middle {
        source: std::io::Error,
    }

    impl Classify for Outer {
        fn class(&self) -> ErrorClass {
            self.class
        }
    }

    fn outer(class: ErrorClass, cause: &str) -> Outer {
        Outer { class, source: Middle { source: std::io::Error::other(cause.to_owned()) } }
    }

    #[test]
    fn every_class_survives_the_way_there_and_back() {
        for (class, code) in TABLE {
            let status = status_of(&outer(class, "connection reset"));
            assert_eq!(status.code(), code);
            assert_eq!(status.message(), "start visit 7: read shard 3: connection reset");
            assert_eq!(class_of(&status), class);
            assert_eq!(class_of(&Status::new(code, "from a foreign server")), class);
        }
    }

    #[test]
    fn the_metadata_outranks_the_code() {
        let mut status = Status::new(Code::Unknown, "");
        assert_eq!(class_of(&status), ErrorClass::Unavailable);
        status.metadata_mut().insert(CLASS_KEY, MetadataValue::from_static("conflict"));
        assert_eq!(class_of(&status), ErrorClass::Conflict);
        status.metadata_mut().insert(CLASS_KEY, MetadataValue::from_static("nonsense"));
        assert_eq!(class_of(&status), ErrorClass::Unavailable);
    }

    #[test]
    fn a_message_fits_into_a_header() {
        let status = status_of(&outer(ErrorClass::Invalid, &"é".repeat(9_000)));
        assert!(status.message().len() <= MESSAGE_BYTES_MAX + '…'.len_utf8());
        assert!(status.message().ends_with('…'));
    }
}
