//! Reads columns of one Parquet file, a chunk of rows at a time, on all cores. It trusts nothing
//! in the file: sizes are checked before anything is read, and a decoder's panic is an error.

use std::fs::File;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use arrowhop_types::Problems;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::ParquetMetaData;

use crate::parallel;

/// Rows of a file are at most this many: 2³¹.
const ROWS_MAX: i64 = 1 << 31;
/// A column chunk is at most this large when unpacked: 8 GiB.
const CHUNK_BYTES_MAX: i64 = 8 << 30;
/// A column chunk unpacks to at most this many times the size of the file.
const EXPANSION_MAX: i64 = 10_000;
/// Rows handed out at a time fill about this many bytes.
const CHUNK_BYTES: i64 = 1 << 20;
/// Columns named in a message about one that is missing.
const NAMES_SHOWN: usize = 20;

/// An open Parquet file.
pub(crate) struct Table {
    path: PathBuf,
    file: File,
    footer: ArrowReaderMetadata,
    rows: u32,
}

/// Some of the rows of a file, in its order, with one item of the caller's for each.
pub(crate) struct Chunk<'a, S> {
    /// The columns asked for.
    pub(crate) batch: RecordBatch,
    /// Each row's number in the file.
    pub(crate) rows: &'a [u32],
    /// Each row's item.
    pub(crate) items: Vec<S>,
}

impl Table {
    /// Opens a file and checks what its footer declares.
    pub(crate) fn open(path: &Path) -> Result<Self, Problems> {
        let wrong = |text: String| Problems::one(path.display().to_string(), text);
        let file = File::open(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => wrong("does not exist; check the path".into()),
            _ => wrong(format!("cannot be opened: {error}")),
        })?;
        let facts = file
            .metadata()
            .map_err(|error| wrong(format!("cannot be read: {error}")))?;
        if !facts.is_file() {
            return Err(wrong("is not a file; name one parquet file".into()));
        }
        let footer = guarded(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()))
            .map_err(|text| {
                wrong(format!(
                    "is not a parquet file, or is damaged: {text}; write it anew"
                ))
            })?;
        let bytes = i64::try_from(facts.len()).unwrap_or(i64::MAX);
        let rows = check_footer(footer.metadata(), bytes).map_err(wrong)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            footer,
            rows,
        })
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Its columns.
    pub(crate) fn schema(&self) -> &Schema {
        self.footer.schema()
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> String {
        self.path.display().to_string()
    }

    /// A column's name in messages.
    pub(crate) fn column_place(&self, column: &str) -> String {
        format!("{}, column `{column}`", self.path.display())
    }

    /// A row's name in messages.
    pub(crate) fn row_place(&self, column: &str, row: u32) -> String {
        format!("{}, column `{column}`, row {row}", self.path.display())
    }

    /// A column by name.
    pub(crate) fn field(&self, column: &str) -> Result<&Field, Problems> {
        self.schema().field_with_name(column).map_err(|_| {
            let names: Vec<_> = self
                .schema()
                .fields()
                .iter()
                .map(|field| format!("`{}`", field.name()))
                .collect();
            let more = if names.len() > NAMES_SHOWN {
                ", …"
            } else {
                ""
            };
            let shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
            let text = format!("there is no such column; there are {shown}{more}");
            Problems::one(self.column_place(column), text)
        })
    }

    /// One value of a column.
    pub(crate) fn value(&self, column: &str, row: u32) -> Result<ArrayRef, Problems> {
        let found = self.scan(
            &[column],
            &[row],
            vec![()],
            |chunk| Ok(chunk.column(column)),
        )?;
        Ok(found
            .into_iter()
            .next()
            .expect("a scan of one row has one chunk"))
    }

    /// Reads `rows` (ascending numbers) of `columns` and calls `visit` with chunks of them, on all
    /// cores. `items` belong to the rows, one each. Returns the visits' results in the file's
    /// order, or all problems in that order.
    pub(crate) fn scan<S: Send, R: Send>(
        &self,
        columns: &[&str],
        rows: &[u32],
        items: Vec<S>,
        visit: impl Fn(Chunk<'_, S>) -> Result<R, Problems> + Sync,
    ) -> Result<Vec<R>, Problems> {
        let damaged = |text: String| Problems::one(self.name(), text);
        let reader = guarded(|| self.reader(columns, rows))
            .map_err(|text| damaged(format!("cannot be read: {text}")))?;
        let feed = Mutex::new(Feed {
            reader,
            rows,
            items: items.into_iter(),
            taken: 0,
        });
        let results = parallel::spawn(parallel::workers(), || {
            let mut done = Vec::new();
            loop {
                // A panic under this lock was caught, so a poisoned feed is whole.
                let next = feed.lock().unwrap_or_else(PoisonError::into_inner).next();
                match next {
                    Ok(Some((number, chunk))) => done.push((number, visit(chunk))),
                    Ok(None) => return done,
                    Err((number, text)) => done.push((number, Err(damaged(text)))),
                }
            }
        });
        let mut problems = Problems::new();
        let mut values = Vec::new();
        for result in parallel::in_order(results) {
            match result {
                Ok(value) => values.push(value),
                Err(found) => problems.extend("", &found),
            }
        }
        problems.or(values)
    }

    fn reader(
        &self,
        columns: &[&str],
        rows: &[u32],
    ) -> Result<ParquetRecordBatchReader, parquet::errors::ParquetError> {
        let roots = columns
            .iter()
            .filter_map(|column| self.schema().index_of(column).ok());
        let mask = ProjectionMask::roots(self.footer.parquet_schema(), roots);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            self.file.try_clone()?,
            self.footer.clone(),
        )
        .with_batch_size(self.chunk_rows(&mask))
        .with_projection(mask);
        if rows.len() < self.rows as usize {
            let ranges = rows.iter().map(|&row| row as usize..row as usize + 1);
            let selection = RowSelection::from_consecutive_ranges(ranges, self.rows as usize);
            builder = builder.with_row_selection(selection);
        }
        builder.build()
    }

    fn chunk_rows(&self, mask: &ProjectionMask) -> usize {
        let groups = self.footer.metadata().row_groups();
        let chunks = groups
            .iter()
            .flat_map(|group| group.columns().iter().enumerate());
        let bytes: i64 = chunks
            .filter(|(leaf, _)| mask.leaf_included(*leaf))
            .fold(0, |sum, (_, chunk)| {
                sum.saturating_add(chunk.uncompressed_size())
            });
        let row_bytes = (bytes / i64::from(self.rows.max(1))).max(1);
        usize::try_from(CHUNK_BYTES / row_bytes)
            .unwrap_or(0)
            .clamp(16, 8_192)
    }
}

impl<S> Chunk<'_, S> {
    /// One of the columns asked for.
    pub(crate) fn column(&self, name: &str) -> ArrayRef {
        let column = self.batch.column_by_name(name);
        column
            .expect("a chunk has the columns that were asked for")
            .clone()
    }
}

/// Hands out the chunks of a scan, numbered, one at a time.
struct Feed<'a, S> {
    reader: ParquetRecordBatchReader,
    rows: &'a [u32],
    items: std::vec::IntoIter<S>,
    taken: usize,
}

impl<'a, S> Feed<'a, S> {
    /// The next chunk with the number of its first row, or what is wrong there; nothing follows
    /// an error.
    fn next(&mut self) -> Result<Option<(usize, Chunk<'a, S>)>, (usize, String)> {
        let (taken, wanted) = (self.taken, self.rows.len());
        if taken == wanted {
            return Ok(None);
        }
        self.taken = wanted;
        let row = self.rows[taken];
        let batch = guarded(|| self.reader.next().transpose())
            .map_err(|text| (taken, format!("is damaged at or after row {row}: {text}")))?
            .filter(|batch| batch.num_rows() <= wanted - taken)
            .ok_or_else(|| (taken, format!("is damaged: its columns end at row {row}")))?;
        self.taken = taken + batch.num_rows();
        let items = self.items.by_ref().take(batch.num_rows()).collect();
        Ok(Some((
            taken,
            Chunk {
                batch,
                rows: &self.rows[taken..self.taken],
                items,
            },
        )))
    }
}

/// Runs a decoder; its error, or its panic, as text.
pub(crate) fn guarded<T, E: std::fmt::Display>(
    decode: impl FnOnce() -> Result<T, E>,
) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("its bytes made the decoder stop".into()),
    }
}

/// The number of rows, once the footer's sizes are plausible.
fn check_footer(footer: &ParquetMetaData, file_bytes: i64) -> Result<u32, String> {
    let rows = footer.file_metadata().num_rows();
    let group_rows = footer
        .row_groups()
        .iter()
        .try_fold(0_i64, |sum, group| sum.checked_add(group.num_rows()));
    if rows < 0 || group_rows != Some(rows) {
        return Err("is damaged: its footer's row counts do not add up; write it anew".into());
    }
    if rows > ROWS_MAX {
        return Err(format!(
            "has {rows} rows; at most {ROWS_MAX} are read from one file"
        ));
    }
    if rows == 0 {
        return Err("has no rows".into());
    }
    let limit = file_bytes
        .saturating_mul(EXPANSION_MAX)
        .min(CHUNK_BYTES_MAX);
    for chunk in footer.row_groups().iter().flat_map(|group| group.columns()) {
        let bytes = chunk.uncompressed_size();
        if !(0..=limit).contains(&bytes) {
            let column = chunk.column_path().string();
            return Err(format!(
                "declares {bytes} bytes in one chunk of column `{column}`, where {limit} are \
                 plausible; it is damaged, or needs smaller row groups"
            ));
        }
    }
    Ok(u32::try_from(rows).expect("at most 2^31 rows"))
}
