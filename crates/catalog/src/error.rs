//! What can go wrong with the catalog, and what a caller may do about it.

use std::path::{Path, PathBuf};

use arrowhop_types::{Classify, DataSetId, ErrorClass, ModelId, Problems, RunId, Version, VisitId};
use rusqlite::ErrorCode;

use crate::VisitState;

/// A failure of the catalog.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The directory holds no catalog.
    #[error(
        "no catalog in {}; name the state directory of an earlier run, or start a run with `arrowhop fit`",
        directory.display()
    )]
    NoCatalog {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// No such run.
    #[error("no run {run} in the catalog; `arrowhop runs` lists them")]
    NoSuchRun {
        /// The run asked for.
        run: RunId,
    },
    /// The run has no such model.
    #[error("run {run} has no model {model}; `arrowhop results {run}` lists them")]
    NoSuchModel {
        /// The run.
        run: RunId,
        /// The model asked for.
        model: ModelId,
    },
    /// The run as submitted cannot be recorded.
    #[error("the run cannot be recorded")]
    InvalidSpec(#[source] Problems),
    /// A data set of this id is on record with other content.
    #[error("data set {data_set} is on record with other content; prepare it again")]
    DataSetDiffers {
        /// The data set.
        data_set: DataSetId,
    },
    /// The visit is on record and cannot be intended again like this.
    #[error("visit {visit} of run {run} is {state} with attempt {attempt}; number a new visit")]
    VisitOnRecord {
        /// The run.
        run: RunId,
        /// The visit.
        visit: VisitId,
        /// How it stands.
        state: VisitState,
        /// The attempt on record.
        attempt: u32,
    },
    /// A model cannot be rolled back to a version it has not reached.
    #[error("model {model} of run {run} is at version {current}; it cannot be rolled back to {to}")]
    RollBackAhead {
        /// The run.
        run: RunId,
        /// The model.
        model: ModelId,
        /// Its version.
        current: Version,
        /// The version asked for.
        to: Version,
    },
    /// The hop log and the models table contradict each other.
    #[error(
        "model {model} of run {run} is at version {recorded}, but its hop log ends at {logged}; \
         restore {} from a backup",
        path.display()
    )]
    Contradiction {
        /// The catalog's file.
        path: PathBuf,
        /// The run.
        run: RunId,
        /// The model.
        model: ModelId,
        /// The version in the models table.
        recorded: Version,
        /// The last version in the hop log.
        logged: Version,
    },
    /// Another version of arrowhop wrote the catalog.
    #[error(
        "catalog {} has schema {found}, this arrowhop knows {known}; {}",
        path.display(),
        if found > known { "use a newer arrowhop" } else { "open it for writing once to migrate it" }
    )]
    OtherSchema {
        /// The catalog's file.
        path: PathBuf,
        /// Its schema version.
        found: i32,
        /// The newest schema version known here.
        known: i32,
    },
    /// The file is not a catalog, or is damaged.
    #[error("{action}: {} is not a catalog or is damaged; restore it from a backup", path.display())]
    Damaged {
        /// What was being done.
        action: &'static str,
        /// The catalog's file.
        path: PathBuf,
        /// What was found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another process held the catalog for too long.
    #[error("{action}: catalog {} is in use by another process", path.display())]
    Busy {
        /// What was being done.
        action: &'static str,
        /// The catalog's file.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
    /// The file system refused: permissions, a full disk.
    #[error("{action}: the file system refused {}", path.display())]
    FileSystem {
        /// What was being done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// Its words.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A migration failed.
    #[error("migrate catalog {}", path.display())]
    Migrate {
        /// The catalog's file.
        path: PathBuf,
        /// What failed.
        source: refinery::Error,
    },
    /// SQLite refused for a reason that is a fault of ours.
    #[error("{action} in catalog {}", path.display())]
    Storage {
        /// What was being done.
        action: &'static str,
        /// The catalog's file.
        path: PathBuf,
        /// SQLite's words.
        source: rusqlite::Error,
    },
}

/// A failure inside a transaction, before anybody said in which file and doing what.
#[derive(Debug)]
pub(crate) enum Fault {
    /// SQLite, or a value it gave.
    Storage(rusqlite::Error),
    /// A decision of the catalog's own.
    Refused(CatalogError),
}

impl CatalogError {
    /// Sorts SQLite's failure into a variant a caller can act on.
    pub(crate) fn sqlite(action: &'static str, path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        let path = path.to_owned();
        match (&source, source.sqlite_error_code()) {
            (_, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) => {
                Self::Busy { action, path, source }
            }
            (_, Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
            | (
                E::FromSqlConversionFailure(..)
                | E::IntegralValueOutOfRange(..)
                | E::InvalidColumnType(..)
                | E::Utf8Error(..),
                _,
            ) => Self::Damaged { action, path, source: source.into() },
            (
                _,
                Some(
                    ErrorCode::CannotOpen
                    | ErrorCode::DiskFull
                    | ErrorCode::PermissionDenied
                    | ErrorCode::ReadOnly
                    | ErrorCode::SystemIoFailure,
                ),
            ) => Self::FileSystem { action, path, source: source.into() },
            _ => Self::Storage { action, path, source },
        }
    }
}

impl Fault {
    /// The failure, with the file and the action.
    pub(crate) fn during(self, action: &'static str, path: &Path) -> CatalogError {
        match self {
            Self::Storage(source) => CatalogError::sqlite(action, path, source),
            Self::Refused(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<CatalogError> for Fault {
    fn from(error: CatalogError) -> Self {
        Self::Refused(error)
    }
}

impl Classify for CatalogError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::NoCatalog { .. } | Self::NoSuchRun { .. } | Self::NoSuchModel { .. } => {
                ErrorClass::Missing
            }
            Self::InvalidSpec(_) => ErrorClass::Invalid,
            Self::DataSetDiffers { .. }
            | Self::VisitOnRecord { .. }
            | Self::RollBackAhead { .. }
            | Self::OtherSchema { .. }
            | Self::Damaged { .. } => ErrorClass::Conflict,
            Self::Busy { .. } => ErrorClass::Overloaded,
            Self::FileSystem { .. } => ErrorClass::Unavailable,
            Self::Contradiction { .. } | Self::Migrate { .. } | Self::Storage { .. } => {
                ErrorClass::Bug
            }
        }
    }
}
