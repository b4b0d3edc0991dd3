//! What can go wrong on the data plane, and what that means to the one who asked.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use arrow::error::ArrowError;
use arrowhop_types::{Classify, Digest, ErrorClass, Problems};
use arrowhop_wire::status::{class_of, status_of};
use arrowhop_wire::tickets::{ModelTicket, ShardTicket};
use tonic::Status;

/// A failure of a Flight stream, of either end.
#[derive(Debug, thiserror::Error)]
pub enum FlightError {
    /// What was sent is not what it should be.
    #[error("{0}")]
    Invalid(Problems),
    /// The shard is not kept here.
    #[error(
        "no {} rows of shard {} of data set {} here; ListFlights says what there is",
        .0.part.name(), .0.shard, .0.data_set
    )]
    MissingShard(ShardTicket),
    /// The shard is not kept here, but known to be elsewhere.
    #[error(
        "the {} rows of shard {} of data set {} are not here; read them at {location}",
        .shard.part.name(), .shard.shard, .shard.data_set
    )]
    Elsewhere {
        /// The shard.
        shard: ShardTicket,
        /// Where it is, such as `grpc://10.0.0.7:7410`.
        location: String,
    },
    /// The model's version is not kept here.
    #[error("no version {} of model {} of run {} here", .0.version, .0.model, .0.run)]
    MissingModel(ModelTicket),
    /// No such data set, or not that part of it.
    #[error("no data set {name} here; ListFlights names those that are")]
    MissingDataSet {
        /// As it was asked for.
        name: String,
    },
    /// Several data sets have the name.
    #[error("{count} data sets have the name {name}; use the id of one")]
    AmbiguousName {
        /// As it was asked for.
        name: String,
        /// How many have it.
        count: usize,
    },
    /// The memory set aside for shards is used up.
    #[error(
        "{wanted} bytes do not fit, {used} of {limit} are used; drop a data set or raise the limit"
    )]
    Full {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes in use.
        used: u64,
        /// Bytes that may be used.
        limit: u64,
    },
    /// An upload has the name.
    #[error("there is an upload {name} already; drop it, or give this one another name")]
    UploadExists {
        /// The name.
        name: String,
    },
    /// A file of an upload could not be used.
    #[error("use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// As many exchanges go on as may.
    #[error("{limit} exchanges are going on already; begin again when one has ended")]
    Busy {
        /// How many may.
        limit: usize,
    },
    /// A state is larger than the one who asked for it can take.
    #[error("the state has {bytes} bytes, more than the {limit} that it may have here")]
    StateTooLarge {
        /// Its size.
        bytes: u64,
        /// The largest acceptable size.
        limit: u64,
    },
    /// A state arrived damaged.
    #[error("the state's digest is {found}, but {expected} was announced; fetch it elsewhere")]
    WrongDigest {
        /// As announced.
        expected: Digest,
        /// As computed from what arrived.
        found: Digest,
    },
    /// The peer refused, broke off or was lost.
    #[error("{action}: {}", .status.message())]
    Peer {
        /// What was being done, as verb and object.
        action: &'static str,
        /// What the peer or the transport said; not a source, so that its code is not spelt out.
        status: Status,
    },
    /// The peer took too long.
    #[error("{action}: no answer within {limit:?}")]
    TimedOut {
        /// What was being done, as verb and object.
        action: &'static str,
        /// How long it might have taken.
        limit: Duration,
    },
    /// The address cannot be listened on.
    #[error("listen on {address}; give a free port of this host, port 0 for any, or unix:/path")]
    Listen {
        /// The address asked for.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// No connection came about.
    #[error("connect to {uri}")]
    Connect {
        /// Where to.
        uri: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// Arrow could not encode a batch that had passed all checks.
    #[error("encode a batch")]
    Encode {
        /// Why not.
        #[from]
        source: ArrowError,
    },
    /// A store failed in a way of its own.
    #[error("{action}")]
    Store {
        /// What was being done, as verb and object.
        action: &'static str,
        /// What that means to the one who asked.
        class: ErrorClass,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl Classify for FlightError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Invalid(_) => ErrorClass::Invalid,
            Self::MissingShard(_)
            | Self::Elsewhere { .. }
            | Self::MissingModel(_)
            | Self::MissingDataSet { .. } => ErrorClass::Missing,
            Self::AmbiguousName { .. } | Self::UploadExists { .. } => ErrorClass::Conflict,
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorClass::Overloaded
            }
            Self::File { .. } => ErrorClass::Unavailable,
            Self::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse | io::ErrorKind::AlreadyExists => ErrorClass::Conflict,
                io::ErrorKind::AddrNotAvailable
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied => ErrorClass::Invalid,
                _ => ErrorClass::Unavailable,
            },
            Self::Full { .. } | Self::Busy { .. } | Self::StateTooLarge { .. } => {
                ErrorClass::Overloaded
            }
            Self::TimedOut { .. } | Self::Connect { .. } | Self::WrongDigest { .. } => {
                ErrorClass::Unavailable
            }
            Self::Encode { .. } => ErrorClass::Bug,
            Self::Peer { status, .. } => class_of(status),
            Self::Store { class, .. } => *class,
        }
    }
}

impl From<Problems> for FlightError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

/// The edge of a server: the error is logged, for nobody else here will see it, and becomes a
/// status.
impl From<FlightError> for Status {
    fn from(error: FlightError) -> Self {
        let status = status_of(&error);
        match error.class() {
            ErrorClass::Bug => tracing::error!(error = status.message(), "flight request failed"),
            class => tracing::debug!(
                error = status.message(),
                class = class.name(),
                "flight request refused"
            ),
        }
        status
    }
}
