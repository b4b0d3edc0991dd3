//! What can go wrong while data is prepared or written, and how problems of one input are gathered.

use std::path::PathBuf;

use arrowhop_types::{Classify, ErrorClass, Problems};

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The data, or what was asked of it, is wrong: every problem with its file, column and row.
    #[error(transparent)]
    Input(#[from] Problems),
    /// A preparation is not JSON that this program wrote.
    #[error("read the preparation kept with the model")]
    Preparation {
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A preparation was written by another version of this program.
    #[error(
        "the preparation has version {found}, and this program reads version {supported}; \
         use the program that trained the model"
    )]
    PreparationVersion {
        /// Its version.
        found: u64,
        /// The version this program reads.
        supported: u64,
    },
    /// The prepared rows do not fit into memory.
    #[error("{bytes} bytes for the prepared rows are not to be had; bound them with max_rows")]
    Memory {
        /// What they need.
        bytes: u64,
    },
    /// Rows that are more than memory holds found no room in a folder.
    #[error("keep rows that are too many for memory in {}", folder.display())]
    Spill {
        /// Which.
        folder: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Rows of the shards are not those that were read: a fault of this program.
    #[error("the shards' rows are not those that were read: {what}; report this")]
    Lost {
        /// The digests of both.
        what: String,
    },
    /// Somebody stopped it.
    #[error("the preparation was stopped")]
    Stopped,
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An object of a store could not be read.
    #[error("read {url}")]
    Object {
        /// Which.
        url: String,
        /// Why.
        source: object_store::Error,
    },
    /// PostgreSQL did not do what it was asked.
    #[error("{doing}")]
    Postgres {
        /// What it was asked, and where.
        doing: String,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// A thread could not be started.
    #[error("start a thread")]
    Thread {
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A table could not be encoded.
    #[error("write the table {}", path.display())]
    Encode {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: arrow::error::ArrowError,
    },
}

impl SourceError {
    /// PostgreSQL's code of an error (SQLSTATE).
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Postgres { source, .. } => source.code().map(|code| code.code()),
            _ => None,
        }
    }
}

impl Classify for SourceError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Input(_) | Self::Preparation { .. } => ErrorClass::Invalid,
            Self::PreparationVersion { .. } | Self::Stopped => ErrorClass::Conflict,
            Self::Memory { .. } | Self::Spill { .. } => ErrorClass::Overloaded,
            Self::Postgres { source, .. } => of_postgres(source),
            Self::Object { source: object_store::Error::NotFound { .. }, .. } => {
                ErrorClass::Missing
            }
            Self::Object { .. } => ErrorClass::Unavailable,
            Self::Read { .. } | Self::Write { .. } | Self::Thread { .. } => ErrorClass::Unavailable,
            Self::Encode { .. } | Self::Lost { .. } => ErrorClass::Bug,
        }
    }
}

/// A server that answers says what is wrong with the request, or that something is short or in use
/// (classes 53 and 55 of SQLSTATE), or that it goes (08 and 57); one that does not is not there.
fn of_postgres(error: &tokio_postgres::Error) -> ErrorClass {
    match error.code().map(|code| &code.code()[..2]) {
        Some("53" | "55") => ErrorClass::Overloaded,
        Some("08" | "57") | None => ErrorClass::Unavailable,
        Some(_) => ErrorClass::Invalid,
    }
}

/// The value, or nothing with its problems added to `problems`: so that one pass finds them all.
pub(crate) fn gather<T>(problems: &mut Problems, result: Result<T, Problems>) -> Option<T> {
    result.map_err(|found| problems.extend("", &found)).ok()
}

/// The same, where other failures end the pass.
pub(crate) fn gather_input<T>(
    problems: &mut Problems,
    result: Result<T, SourceError>,
) -> Result<Option<T>, SourceError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(SourceError::Input(found)) => Ok(gather(problems, Err(found))),
        Err(other) => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_keeps_values_and_collects_problems_in_order() {
        let mut problems = Problems::new();
        assert_eq!(gather(&mut problems, Ok(7)), Some(7));
        assert_eq!(gather::<()>(&mut problems, Err(Problems::one("a", "is wrong"))), None);
        assert_eq!(gather::<()>(&mut problems, Err(Problems::one("b", "too"))), None);
        assert_eq!(problems.to_string(), "a: is wrong\nb: too");
        assert_eq!(SourceError::from(problems).class(), ErrorClass::Invalid);
    }
}
