//! Files that are read into memory as a whole: Arrow IPC, CSV, and folders of images. Parquet, which
//! is read row by row, is `table.rs`'s own.

mod arrow_file;
mod csv;
mod image_folder;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrowhop_types::Problems;

/// Rows in memory, with their columns.
pub(crate) type Rows = (SchemaRef, Vec<RecordBatch>);

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Parquet, or nothing that is known.
    Parquet,
    ArrowFile,
    ArrowStream,
    /// Fields divided by this byte.
    Csv(u8),
    /// A folder for each class.
    ImageFolder,
}

impl Format {
    /// By the first bytes, or by the end of the name where there are none that tell.
    pub(crate) fn of(path: &Path) -> Result<Self, Problems> {
        let wrong = |text: String| Problems::one(path.display().to_string(), text);
        let read = || -> std::io::Result<Option<Vec<u8>>> {
            if path.metadata()?.is_dir() {
                return Ok(None);
            }
            let mut first = Vec::new();
            File::open(path)?.take(6).read_to_end(&mut first)?;
            Ok(Some(first))
        };
        let first = read().map_err(|error| match error.kind() {
            ErrorKind::NotFound => wrong("does not exist; check the path".into()),
            _ => wrong(format!("cannot be opened: {error}")),
        })?;
        let Some(first) = first else { return Ok(Self::ImageFolder) };
        let end = path.extension().unwrap_or_default().to_ascii_lowercase();
        Ok(match first.as_slice() {
            b"ARROW1" => Self::ArrowFile,
            [0xff, 0xff, 0xff, 0xff, ..] => Self::ArrowStream,
            _ if end == "csv" => Self::Csv(b','),
            _ if end == "tsv" => Self::Csv(b'\t'),
            _ => Self::Parquet,
        })
    }

    /// All rows; nothing for Parquet.
    pub(crate) fn read(self, path: &Path) -> Result<Option<Rows>, Problems> {
        match self {
            Self::Parquet => Ok(None),
            Self::ArrowFile => arrow_file::read_file(path).map(Some),
            Self::ArrowStream => arrow_file::read_stream(path).map(Some),
            Self::Csv(delimiter) => csv::read(path, delimiter).map(Some),
            Self::ImageFolder => image_folder::read(path).map(Some),
        }
    }
}
