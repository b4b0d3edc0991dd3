//! Files that are read into memory as a whole: Arrow IPC, CSV, numpy's arrays, and folders of images. Parquet, which
//! is read row by row, is `table.rs`'s own.

mod arrow_file;
mod csv;
mod image_folder;
mod numpy;

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrowhop_types::Problems;
use bytes::Bytes;

pub(crate) use self::arrow_file::decode_file as arrow_file;
pub(crate) use self::image_folder::read as image_folder;
use crate::error::SourceError;
use crate::workspace::Workspace;

/// Rows in memory, with their columns.
pub(crate) type Rows = (SchemaRef, Vec<RecordBatch>);

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Parquet, or nothing that is known.
    Parquet,
    ArrowFile,
    ArrowStream,
    /// Fields divided by this byte.
    Csv(u8),
    NumpyArray,
    NumpyArchive,
    /// A folder for each class.
    ImageFolder,
}

impl Format {
    /// So many bytes at the beginning tell.
    pub(crate) const FIRST_BYTES: u64 = 6;

    /// By the first bytes, or by the end of the name where there are none that tell.
    pub(crate) fn of(first: &[u8], end: &str) -> Self {
        match first {
            b"ARROW1" => Self::ArrowFile,
            [0xff, 0xff, 0xff, 0xff, ..] => Self::ArrowStream,
            b"\x93NUMPY" => Self::NumpyArray,
            [b'P', b'K', 3, 4, ..] => Self::NumpyArchive,
            _ if end.eq_ignore_ascii_case("csv") => Self::Csv(b','),
            _ if end.eq_ignore_ascii_case("tsv") => Self::Csv(b'\t'),
            _ => Self::Parquet,
        }
    }

    /// What is at a path of this machine.
    pub(crate) fn of_path(path: &Path) -> Result<Self, Problems> {
        let wrong = |text: String| Problems::one(path.display().to_string(), text);
        let read = || -> std::io::Result<Option<Vec<u8>>> {
            if path.metadata()?.is_dir() {
                return Ok(None);
            }
            let mut first = Vec::new();
            File::open(path)?.take(Self::FIRST_BYTES).read_to_end(&mut first)?;
            Ok(Some(first))
        };
        let first = read().map_err(|error| match error.kind() {
            ErrorKind::NotFound => wrong("does not exist; check the path".into()),
            _ => wrong(format!("cannot be opened: {error}")),
        })?;
        let Some(first) = first else { return Ok(Self::ImageFolder) };
        let end = path.extension().and_then(|end| end.to_str()).unwrap_or_default();
        Ok(Self::of(&first, end))
    }

    /// All rows of a file that is read as a whole, by its name in messages; of an archive of arrays the
    /// columns that are named.
    pub(crate) fn decode(
        self,
        name: &str,
        bytes: Bytes,
        columns: Option<&[String]>,
        workspace: &Workspace,
    ) -> Result<Rows, SourceError> {
        let (schema, batches) = match self {
            // These lie in the bytes, wherever the bytes are.
            Self::ArrowFile => return Ok(arrow_file::decode_file(name, bytes)?),
            Self::ArrowStream => return Ok(arrow_file::decode_stream(name, bytes)?),
            Self::Csv(delimiter) => return csv::decode(name, &bytes, delimiter, workspace),
            Self::NumpyArray => numpy::decode_array(name, &bytes)?,
            Self::NumpyArchive => numpy::decode_archive(name, &bytes, columns)?,
            Self::Parquet | Self::ImageFolder => unreachable!("these are not read as a whole"),
        };
        let batches = batches.into_iter().map(|batch| workspace.keep(batch));
        Ok((schema, batches.collect::<Result<_, _>>()?))
    }
}
