//! A table, wherever it comes from: its columns are read a chunk of rows at a time, on all cores. Of
//! a Parquet file rows are decoded as they are needed; others are in memory. A decoder's panic is an
//! error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrowhop_types::Problems;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;

use crate::parallel;
use crate::parquet_file::ParquetFile;
use crate::progress::Progress;
use crate::workspace::Workspace;

/// Rows of a table are at most this many: 2³¹.
const ROWS_MAX: i64 = 1 << 31;
/// Rows handed out at a time fill about this many bytes.
pub(crate) const CHUNK_BYTES: i64 = 1 << 20;
/// Nor are they more than this.
pub(crate) const CHUNK_ROWS_MAX: usize = 8_192;
/// Columns named in a message about one that is missing.
const NAMES_SHOWN: usize = 20;

/// A table that can be read.
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) schema: SchemaRef,
    rows: u32,
    /// The number of its first row in messages.
    first_row: u64,
    pub(crate) body: Body,
    progress: Arc<Progress>,
}

/// Where its rows are.
pub(crate) enum Body {
    Parquet(ParquetFile),
    /// In memory, or in mapped files.
    Memory(Arc<[RecordBatch]>),
}

/// Some of the rows of a table, in its order, with one item of the caller's for each.
pub(crate) struct Chunk<'a, S> {
    /// The columns asked for.
    pub(crate) batch: RecordBatch,
    /// Each row's number in the table.
    pub(crate) rows: &'a [u32],
    /// Each row's item.
    pub(crate) items: Vec<S>,
}

impl Table {
    /// A table of a Parquet file.
    pub(crate) fn of_parquet(name: String, file: ParquetFile, workspace: &Workspace) -> Self {
        let (schema, rows) = (file.schema().clone(), file.rows());
        let progress = workspace.progress().clone();
        Self { name, schema, rows, first_row: 0, body: Body::Parquet(file), progress }
    }

    /// A table of these rows, by this name in messages.
    pub(crate) fn of(
        name: String,
        schema: SchemaRef,
        batches: Vec<RecordBatch>,
        workspace: &Workspace,
    ) -> Result<Self, Problems> {
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        let rows = check_rows(rows).map_err(|text| Problems::one(name.clone(), text))?;
        let (body, progress) = (Body::Memory(batches.into()), workspace.progress().clone());
        Ok(Self { name, schema, rows, first_row: 0, body, progress })
    }

    /// The same, as a part of something longer.
    pub(crate) fn numbered_from(self, first_row: u64) -> Self {
        Self { first_row, ..self }
    }

    /// How many rows it has.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Its columns.
    pub(crate) fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> String {
        self.name.clone()
    }

    /// A column's name in messages.
    pub(crate) fn column_place(&self, column: &str) -> String {
        format!("{}, column `{column}`", self.name)
    }

    /// A row's name in messages.
    pub(crate) fn row_place(&self, column: &str, row: u32) -> String {
        let row = self.first_row + u64::from(row);
        format!("{}, column `{column}`, row {row}", self.name)
    }

    /// A column by name.
    pub(crate) fn field(&self, column: &str) -> Result<&Field, Problems> {
        let missing = |_| Problems::one(self.column_place(column), missing_text(self.schema()));
        self.schema().field_with_name(column).map_err(missing)
    }

    /// One value of a column.
    pub(crate) fn value(&self, column: &str, row: u32) -> Result<ArrayRef, Problems> {
        let found = self.scan(&[column], &[row], vec![()], |chunk| Ok(chunk.column(column)))?;
        Ok(found.into_iter().next().expect("a scan of one row has one chunk"))
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
        let feeds = Feeds::new(self, columns, rows, items);
        let results = parallel::spawn(parallel::workers(), || {
            let mut done = Vec::new();
            let mut at = feeds.begin();
            while let Some((number, chunk)) = feeds.next(&mut at) {
                let rows = chunk.as_ref().map_or(0, |chunk| chunk.rows.len() as u64);
                done.push((number, chunk.map_err(damaged).and_then(&visit)));
                if self.progress.add_rows(rows).is_err() {
                    break;
                }
            }
            done
        });
        self.progress.check().map_err(|stopped| Problems::one(self.name(), stopped.to_string()))?;
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

    /// Reads `rows` of one of the groups, whose first row is `first`.
    fn reader(
        &self,
        columns: &[&str],
        group: usize,
        first: u32,
        rows: &[u32],
    ) -> Result<Reader, parquet::errors::ParquetError> {
        let places: Vec<usize> =
            columns.iter().filter_map(|column| self.schema.index_of(column).ok()).collect();
        Ok(match &self.body {
            Body::Parquet(file) => {
                Reader::Parquet(Box::new(file.reader(&places, group, first, rows)?))
            }
            Body::Memory(batches) => {
                Reader::Memory { batch: batches[group].project(&places)?, first }
            }
        })
    }

    /// How many rows each group has: row groups of Parquet, batches in memory.
    fn group_rows(&self) -> Vec<u32> {
        match &self.body {
            Body::Parquet(file) => file.group_rows(),
            Body::Memory(batches) => {
                let rows = batches.iter().map(RecordBatch::num_rows);
                rows.map(|rows| u32::try_from(rows).expect("row counts were checked")).collect()
            }
        }
    }
}

/// Hands out the rows asked for of one group, a batch at a time.
enum Reader {
    Parquet(Box<ParquetRecordBatchReader>),
    Memory { batch: RecordBatch, first: u32 },
}

impl Reader {
    /// The next of `rows`, which are those that have not been handed out.
    fn next(&mut self, rows: &[u32]) -> Result<Option<RecordBatch>, ArrowError> {
        let (batch, first) = match self {
            Self::Parquet(reader) => return reader.next().transpose(),
            Self::Memory { batch, first } => (batch, *first),
        };
        let batch_bytes = batch.get_array_memory_size() / batch.num_rows().max(1);
        let row_bytes = i64::try_from(batch_bytes).unwrap_or(i64::MAX).max(1);
        let most = usize::try_from(CHUNK_BYTES / row_bytes).unwrap_or(0).clamp(16, CHUNK_ROWS_MAX);
        let rows = &rows[..rows.len().min(most)];
        let [row, .., last] = rows else {
            return Ok(rows.first().map(|row| batch.slice((row - first) as usize, 1)));
        };
        if (last - row) as usize == rows.len() - 1 {
            return Ok(Some(batch.slice((row - first) as usize, rows.len())));
        }
        let places = UInt32Array::from_iter_values(rows.iter().map(|row| row - first));
        take_record_batch(batch, &places).map(Some)
    }
}

impl<S> Chunk<'_, S> {
    /// One of the columns asked for.
    pub(crate) fn column(&self, name: &str) -> ArrayRef {
        let column = self.batch.column_by_name(name);
        column.expect("a chunk has the columns that were asked for").clone()
    }
}

/// Hands out the chunks of a scan to several threads. Groups are decoded side by side; where there are
/// fewer of them than threads, a thread decodes while others work on what it decoded before.
struct Feeds<'a, S> {
    table: &'a Table,
    columns: &'a [&'a str],
    feeds: Vec<Mutex<Feed<'a, S>>>,
    threads: AtomicUsize,
}

/// The rows asked for of one group.
struct Feed<'a, S> {
    group: usize,
    /// The number of the group's first row, and how many of the rows asked for are before it.
    first: u32,
    before: usize,
    rows: &'a [u32],
    items: std::vec::IntoIter<S>,
    taken: usize,
    /// Made when the first chunk is asked for.
    reader: Option<Reader>,
}

impl<'a, S> Feeds<'a, S> {
    fn new(table: &'a Table, columns: &'a [&'a str], rows: &'a [u32], items: Vec<S>) -> Self {
        let mut items = items.into_iter();
        let mut feeds = Vec::new();
        let (mut first, mut before) = (0, 0);
        for (group, count) in table.group_rows().into_iter().enumerate() {
            let end = before + rows[before..].partition_point(|&row| row < first + count);
            if end > before {
                let (rows, items) = (&rows[before..end], items.by_ref().take(end - before));
                let items = items.collect::<Vec<_>>().into_iter();
                let feed = Feed { group, first, before, rows, items, taken: 0, reader: None };
                feeds.push(Mutex::new(feed));
            }
            (first, before) = (first + count, end);
        }
        Self { table, columns, feeds, threads: AtomicUsize::new(0) }
    }

    /// Where one more thread begins.
    fn begin(&self) -> usize {
        self.threads.fetch_add(1, Ordering::Relaxed)
    }

    /// The next chunk, or what is wrong with it, numbered by the rows before it: of the group the
    /// thread is at, else of one that no other thread is decoding, else of any.
    fn next(&self, at: &mut usize) -> Option<(usize, Result<Chunk<'a, S>, String>)> {
        for waits in [false, true] {
            for step in 0..self.feeds.len() {
                let place = (*at + step) % self.feeds.len();
                // A panic under this lock was caught, so a poisoned feed is whole.
                let mut feed = match self.feeds[place].try_lock() {
                    Ok(feed) => feed,
                    Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                    Err(TryLockError::WouldBlock) if waits => {
                        self.feeds[place].lock().unwrap_or_else(PoisonError::into_inner)
                    }
                    Err(TryLockError::WouldBlock) => continue,
                };
                if let Some(chunk) = feed.next(self.table, self.columns) {
                    *at = place;
                    return Some(chunk);
                }
            }
        }
        None
    }
}

impl<'a, S> Feed<'a, S> {
    /// The next chunk of the group. Nothing of it follows an error.
    fn next(
        &mut self,
        table: &Table,
        columns: &[&str],
    ) -> Option<(usize, Result<Chunk<'a, S>, String>)> {
        let taken = self.taken;
        let Some(&row) = self.rows.get(taken) else {
            self.reader = None;
            return None;
        };
        self.taken = self.rows.len();
        let chunk = self
            .read(table, columns, &self.rows[taken..])
            .map_err(|text| format!("is damaged at or after row {row}: {text}"))
            .and_then(|batch| match batch {
                Some(batch) if batch.num_rows() <= self.rows.len() - taken => Ok(batch),
                _ => Err(format!("is damaged: its columns do not go on at row {row}")),
            })
            .map(|batch| {
                self.taken = taken + batch.num_rows();
                let items = self.items.by_ref().take(batch.num_rows()).collect();
                Chunk { batch, rows: &self.rows[taken..self.taken], items }
            });
        Some((self.before + taken, chunk))
    }

    fn read(
        &mut self,
        table: &Table,
        columns: &[&str],
        left: &[u32],
    ) -> Result<Option<RecordBatch>, String> {
        let (group, first, rows) = (self.group, self.first, self.rows);
        if self.reader.is_none() {
            self.reader = Some(guarded(|| table.reader(columns, group, first, rows))?);
        }
        let reader = self.reader.as_mut().expect("it was just made");
        guarded(|| reader.next(left))
    }
}

/// What is said of a column that is not there.
pub(crate) fn missing_text(schema: &Schema) -> String {
    let names: Vec<_> = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect();
    let more = if names.len() > NAMES_SHOWN { ", …" } else { "" };
    let shown = names[..names.len().min(NAMES_SHOWN)].join(", ");
    format!("there is no such column; there are {shown}{more}")
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

/// The number of rows, once it is one that is read.
pub(crate) fn check_rows(rows: i64) -> Result<u32, String> {
    match u32::try_from(rows) {
        Ok(0) => Err("has no rows".into()),
        Ok(count) if rows <= ROWS_MAX => Ok(count),
        _ => Err(format!("has {rows} rows; at most {ROWS_MAX} are read from one table")),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use arrow::array::{AsArray, Float64Array, Int32Array};
    use arrow::datatypes::Int32Type;

    use super::*;
    use crate::Location;
    use crate::fixtures::{column, file_spec, problems, tensor, with_validation, write};

    fn numbers(dir: &Path, name: &str, rows: i32) -> PathBuf {
        let x = Float64Array::from_iter_values((0..rows).map(f64::from));
        let y = Int32Array::from_iter_values((0..rows).map(|row| row * 3));
        write(dir, name, &[column("x", x), column("y", y)])
    }

    fn open(path: &Path) -> Table {
        Location::File(path.to_owned()).source().open(None, &Workspace::in_memory()).unwrap().0
    }

    fn in_memory(schema: SchemaRef, batches: Vec<RecordBatch>) -> Result<Table, Problems> {
        Table::of("m".into(), schema, batches, &Workspace::in_memory())
    }

    #[test]
    fn a_scan_meets_exactly_the_rows_asked_for_with_their_items() {
        let dir = tempfile::tempdir().unwrap();
        let table = open(&numbers(dir.path(), "t", 1_000));
        let rows: Vec<u32> = (0..1_000).filter(|row| row % 7 == 3 || *row > 900).collect();
        let found = table
            .scan(&["y"], &rows, rows.clone(), |chunk| {
                let y = chunk.column("y");
                assert_eq!(chunk.rows, chunk.items);
                assert_eq!(chunk.batch.num_columns(), 1);
                Ok(y.as_primitive::<Int32Type>().values().to_vec())
            })
            .unwrap();
        let expected: Vec<i32> = rows.iter().map(|&row| i32::try_from(row).unwrap() * 3).collect();
        assert_eq!(found.concat(), expected);
    }

    #[test]
    fn rows_in_memory_are_met_as_those_of_a_file_are() {
        let dir = tempfile::tempdir().unwrap();
        let file = open(&numbers(dir.path(), "t", 30_000));
        let all: Vec<u32> = (0..30_000).collect();
        let whole = file.scan(&["x", "y"], &all, vec![(); 30_000], |chunk| Ok(chunk.batch));
        let batches = whole.unwrap();
        let memory = in_memory(batches[0].schema(), batches).unwrap();
        let some = all.iter().copied().filter(|row| row % 7 == 3 || *row > 20_000).collect();
        for rows in [all, some, vec![], vec![29_999]] {
            let read = |table: &Table| {
                let found = table.scan(&["y"], &rows, rows.clone(), |chunk| {
                    assert_eq!(chunk.rows, chunk.items);
                    assert!(chunk.rows.len() <= CHUNK_ROWS_MAX);
                    Ok(chunk.column("y").as_primitive::<Int32Type>().values().to_vec())
                });
                found.unwrap().concat()
            };
            assert_eq!(read(&file), read(&memory));
        }
        let none = in_memory(memory.schema.clone(), Vec::new()).err().unwrap();
        assert_eq!(none.to_string(), "m: has no rows");
    }

    #[test]
    fn problems_of_a_scan_come_in_the_order_of_the_rows() {
        let dir = tempfile::tempdir().unwrap();
        let table = open(&numbers(dir.path(), "t", 30_000));
        let rows: Vec<u32> = (0..30_000).collect();
        let found = table.scan(&["y"], &rows, rows.clone(), |chunk| {
            Err::<(), _>(Problems::one(format!("{:05}", chunk.rows[0]), "is wrong"))
        });
        let found: Vec<_> = found.unwrap_err().iter().map(|p| p.place.clone()).collect();
        assert!(found.len() > 3 && found.is_sorted(), "{found:?}");
    }

    #[test]
    fn files_that_are_missing_or_no_parquet_are_all_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = dir.path().join("text");
        fs::write(&text, "a,b\n1,2\n").unwrap();
        let spec = with_validation(file_spec(&dir.path().join("gone"), tensor()), &text);
        let found = problems(dir.path(), &spec);
        let (first, second) = found.split_once('\n').unwrap();
        assert_eq!(first, "gone: does not exist; check the path");
        assert!(second.starts_with("text: is not a parquet file, or is damaged: "), "{second}");
        let found = problems(dir.path(), &file_spec(dir.path(), tensor()));
        let none = ": has no folders of images; make one for each class, or name one file";
        assert!(found.ends_with(none) || found.contains("lies beside"), "{found}");
        let empty = numbers(dir.path(), "empty", 0);
        assert_eq!(problems(dir.path(), &file_spec(&empty, tensor())), "empty: has no rows");
    }

    #[test]
    fn a_missing_column_is_answered_with_those_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let many: Vec<_> =
            (0..22).map(|i| column(&format!("c{i}"), Int32Array::from(vec![1]))).collect();
        let path = write(dir.path(), "many", &many[..2]);
        assert_eq!(
            problems(dir.path(), &file_spec(&path, tensor())),
            "many, column `x`: there is no such column; there are `c0`, `c1`\n\
             many, column `y`: there is no such column; there are `c0`, `c1`"
        );
        let path = write(dir.path(), "many", &many);
        let found = problems(dir.path(), &file_spec(&path, tensor()));
        assert!(found.lines().all(|line| line.ends_with("`c18`, `c19`, …")), "{found}");
    }

    #[test]
    fn damage_anywhere_is_an_error_and_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let whole = fs::read(numbers(dir.path(), "whole", 500)).unwrap();
        let path = dir.path().join("damaged");
        let mut failed = 0;
        for cut in (0..whole.len()).step_by(whole.len() / 40) {
            fs::write(&path, &whole[..cut]).unwrap();
            let found = problems(dir.path(), &file_spec(&path, tensor()));
            assert!(found.starts_with("damaged: "), "{found}");
        }
        for at in (0..whole.len()).step_by(whole.len() / 150) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0xa5;
            fs::write(&path, bytes).unwrap();
            failed += usize::from(crate::prepare(&file_spec(&path, tensor())).is_err());
        }
        assert!(failed > 20, "only {failed} flips were noticed");
    }
}
