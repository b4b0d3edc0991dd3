//! Rows as they are read, cut into record batches.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrowhop_types::Problems;

use super::column::Column;
use super::condition::Condition;
use super::fixed;
use super::kind::{Kind, Scalar};
use super::room::Room;
use super::value::{Fields, Layout, Malformed};
use crate::error::SourceError;
use crate::workspace::Workspace;

/// A batch has at most this many rows.
const ROWS_MAX: usize = 1 << 16;
/// A batch ends when its values take about this many bytes.
const BYTES_MAX: usize = 16 << 20;
/// Tuples are gathered up to about this many bytes, which stay in a core's cache.
const GATHERED_BYTES: usize = 64 << 10;
/// What a stream of `COPY … (FORMAT binary)` begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// A column that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// What batches are of.
#[derive(Debug, Clone)]
pub(super) struct Form {
    /// The relation's name in messages.
    pub(super) place: String,
    pub(super) wanted: Arc<[Wanted]>,
    pub(super) schema: SchemaRef,
    /// Only rows that pass it are read. The form of a direct reading has its columns, too.
    pub(super) condition: Option<Arc<Condition>>,
    /// Where batches go that are too many for memory.
    workspace: Workspace,
}

impl Form {
    pub(super) fn new(place: String, wanted: Vec<Wanted>, condition: Option<Condition>) -> Self {
        let fields: Vec<Field> =
            wanted.iter().map(|column| column.kind.field(&column.name)).collect();
        let (wanted, schema) = (wanted.into(), Arc::new(Schema::new(fields)));
        let condition = condition.map(Arc::new);
        Self { place, wanted, schema, condition, workspace: Workspace::in_memory() }
    }

    /// The same, filled in a workspace.
    pub(super) fn within(self, workspace: &Workspace) -> Self {
        Self { workspace: workspace.clone(), ..self }
    }

    /// Those of these rows that pass the condition.
    pub(super) fn passing(
        &self,
        batches: Vec<RecordBatch>,
    ) -> Result<Vec<RecordBatch>, SourceError> {
        let Some(condition) = &self.condition else { return Ok(batches) };
        let mut kept = Vec::with_capacity(batches.len());
        for batch in batches {
            let passing = condition.bound.keep(&batch);
            let passing =
                passing.map_err(|error| Problems::one(self.place.clone(), error.to_string()))?;
            if passing.num_rows() > 0 {
                kept.push(self.workspace.hold(passing)?);
            }
        }
        Ok(kept)
    }

    /// What is wrong with a column, in a row of its part if that is known.
    fn wrong(&self, column: usize, row: Option<u64>, fault: Malformed) -> Problems {
        let column = format!("{}, column `{}`", self.place, self.wanted[column].name);
        let place =
            row.map_or_else(|| column.clone(), |row| format!("{column}, row {row} of its part"));
        Problems::one(place, fault.to_string())
    }
}

/// Batches being filled.
pub(super) struct Batches {
    form: Form,
    columns: Vec<Column>,
    /// The memory of all columns whose values have a fixed length, and where each one's begins.
    memory: Room,
    starts: Vec<usize>,
    /// Rows that there is room for.
    rows_max: usize,
    /// Bytes of each column's values, of those whose length varies, in the largest batch so far.
    expected: Vec<usize>,
    done: Vec<RecordBatch>,
}

impl Batches {
    /// Batches of at most so many rows.
    pub(super) fn new(form: &Form, rows_max: usize) -> Self {
        let mut starts = vec![0];
        for column in form.wanted.iter() {
            let bytes = match column.kind {
                Kind::Scalar(scalar) => fixed::region_bytes(scalar, rows_max),
                _ => 0,
            };
            starts.push(starts[starts.len() - 1] + bytes);
        }
        let mut new = Self {
            form: form.clone(),
            columns: Vec::new(),
            memory: Room::new(0),
            starts,
            rows_max,
            expected: vec![0; form.wanted.len()],
            done: Vec::new(),
        };
        new.begin();
        new
    }

    /// Batches of as many rows as are a stretch of a stream.
    pub(super) fn of_stream(form: &Form) -> Self {
        let row_bytes: usize = form
            .wanted
            .iter()
            .map(|column| match column.kind {
                Kind::Scalar(scalar) => fixed::width(scalar).unwrap_or(0),
                _ => 0,
            })
            .sum();
        Self::new(form, (BYTES_MAX / row_bytes.max(1)).min(ROWS_MAX))
    }

    fn begin(&mut self) -> (Vec<Column>, Room) {
        let columns = self.form.wanted.iter().zip(&self.expected);
        let rows = self.rows_max;
        let columns = columns.map(|(column, &bytes)| Column::new(&column.kind, rows, bytes));
        let bytes = self.starts[self.starts.len() - 1];
        let mut memory = Room::new(bytes);
        memory.grow(bytes);
        let columns = std::mem::replace(&mut self.columns, columns.collect());
        (columns, std::mem::replace(&mut self.memory, memory))
    }

    /// A column, with its region.
    pub(super) fn column(&mut self, i: usize) -> (&mut Column, &mut [u8]) {
        let region = &mut self.memory.as_mut_slice()[self.starts[i]..self.starts[i + 1]];
        (&mut self.columns[i], region)
    }

    /// Rows in the batch that is being filled.
    pub(super) fn rows(&self) -> usize {
        self.columns.first().map_or(0, Column::rows)
    }

    /// Columns.
    pub(super) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Takes the last rows away again, also those that were only half pushed.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
    }

    /// Makes sure that so many rows find room: a batch may end here.
    pub(super) fn reserve(&mut self, rows: usize) -> Result<(), SourceError> {
        let bytes: usize = self.columns.iter().map(Column::bytes).sum();
        if self.rows() + rows > self.rows_max || bytes >= BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Ends the batch.
    pub(super) fn flush(&mut self) -> Result<(), SourceError> {
        if self.rows() == 0 {
            return Ok(());
        }
        for (expected, column) in self.expected.iter_mut().zip(&self.columns) {
            *expected = column.bytes().max(*expected);
        }
        let (columns, memory) = self.begin();
        let memory = memory.into_buffer();
        let mut arrays = Vec::with_capacity(columns.len());
        for (i, column) in columns.into_iter().enumerate() {
            let (start, end) = (self.starts[i], self.starts[i + 1]);
            let array = column.finish(memory.slice_with_length(start, end - start));
            arrays.push(array.map_err(|fault| self.form.wrong(i, None, fault))?);
        }
        let batch = RecordBatch::try_new(self.form.schema.clone(), arrays);
        let batch = batch.expect("columns are made to fit the schema");
        self.done.push(self.form.workspace.keep(batch)?);
        Ok(())
    }

    /// All batches that ended, and the last one as it is.
    pub(super) fn take(&mut self) -> Result<Vec<RecordBatch>, SourceError> {
        self.flush()?;
        Ok(std::mem::take(&mut self.done))
    }
}

/// A stream of `COPY … TO STDOUT (FORMAT binary)`, message by message: each holds whole tuples, the
/// first a header before them, the last a trailer. Tuples of a form without nulls or text are all
/// equally long; these are gathered, and taken apart column by column.
pub(super) struct CopyStream {
    batches: Batches,
    has_begun: bool,
    rows: u64,
    /// The length of a tuple without nulls, if it is always the same, and where its values begin.
    stride: Option<usize>,
    places: Vec<usize>,
    gathered: Vec<u8>,
}

impl CopyStream {
    pub(super) fn new(form: &Form) -> Self {
        let mut places = Vec::new();
        let mut at = Some(2);
        for column in form.wanted.iter() {
            places.extend(at);
            let length = match column.kind {
                Kind::Scalar(Scalar::Numeric) => None,
                Kind::Scalar(scalar) => scalar.fixed_length(),
                _ => None,
            };
            at = at.zip(length).map(|(at, length)| at + 4 + length);
        }
        let gathered = Vec::new();
        let batches = Batches::of_stream(form);
        Self { batches, has_begun: false, rows: 0, stride: at, places, gathered }
    }

    /// Of tuples without a header before them.
    pub(super) fn of_tuples(form: &Form) -> Self {
        Self { has_begun: true, ..Self::new(form) }
    }

    /// Takes one message.
    pub(super) fn push(&mut self, message: &[u8]) -> Result<(), SourceError> {
        let mut rest = message;
        if !self.has_begun {
            rest = header(message).map_err(|fault| self.wrong(None, fault))?;
            self.has_begun = true;
        }
        if Some(rest.len()) == self.stride {
            self.gathered.extend_from_slice(rest);
            let is_full = self.gathered.len() >= GATHERED_BYTES;
            return if is_full { self.spread() } else { Ok(()) };
        }
        self.spread()?;
        while !rest.is_empty() {
            rest = self.tuple(rest)?;
        }
        Ok(())
    }

    /// Takes gathered tuples apart.
    fn spread(&mut self) -> Result<(), SourceError> {
        let gathered = std::mem::take(&mut self.gathered);
        let Some(stride) = self.stride.filter(|_| !gathered.is_empty()) else { return Ok(()) };
        let count = gathered.len() / stride;
        let columns = self.batches.width();
        let has_all = gathered.chunks_exact(stride).all(|tuple| has_columns(tuple, columns));
        self.batches.reserve(count)?;
        let before = self.batches.rows();
        let is_done = has_all
            && (0..columns).all(|i| {
                let (column, region) = self.batches.column(i);
                column.push_tuples(region, &gathered, stride, self.places[i])
            });
        if is_done {
            self.rows += count as u64;
        } else {
            self.batches.truncate(before);
            for tuple in gathered.chunks_exact(stride) {
                let mut rest = tuple;
                while !rest.is_empty() {
                    rest = self.tuple(rest)?;
                }
            }
        }
        self.gathered = gathered;
        self.gathered.clear();
        Ok(())
    }

    /// Takes one tuple apart; what follows it.
    fn tuple<'m>(&mut self, message: &'m [u8]) -> Result<&'m [u8], SourceError> {
        let Some((count, fields)) = message.split_first_chunk::<2>() else {
            return Err(self.wrong(None, Malformed("is cut short")).into());
        };
        if i16::from_be_bytes(*count) == -1 {
            return Ok(&[]);
        }
        if !has_columns(message, self.batches.width()) {
            let fault = Malformed("has another number of columns than asked for");
            return Err(self.wrong(None, fault).into());
        }
        self.batches.reserve(1)?;
        let mut fields = Fields(fields);
        for i in 0..self.batches.width() {
            let (column, region) = self.batches.column(i);
            let pushed = fields.next().and_then(|value| match value {
                Some(value) => column.push(region, value, Layout::Wire),
                None => {
                    column.push_null(region);
                    Ok(())
                }
            });
            pushed.map_err(|fault| self.wrong(Some(i), fault))?;
        }
        self.rows += 1;
        Ok(fields.0)
    }

    /// All batches.
    pub(super) fn finish(mut self) -> Result<Vec<RecordBatch>, SourceError> {
        self.spread()?;
        self.batches.take()
    }

    fn wrong(&self, column: Option<usize>, fault: Malformed) -> Problems {
        let (form, row) = (&self.batches.form, self.rows + 1);
        match column {
            Some(i) => form.wrong(i, Some(row), fault),
            None => {
                Problems::one(format!("{}, row {row} of its part", form.place), fault.to_string())
            }
        }
    }
}

/// Whether a tuple says that it has so many columns.
fn has_columns(tuple: &[u8], columns: usize) -> bool {
    tuple.first_chunk::<2>().is_some_and(|count| usize::from(u16::from_be_bytes(*count)) == columns)
}

/// What follows the stream's header.
fn header(message: &[u8]) -> Result<&[u8], Malformed> {
    const NO_COPY: Malformed = Malformed("does not begin as a binary copy does");
    let rest = message.strip_prefix(SIGNATURE).ok_or(NO_COPY)?;
    let (_flags, rest) = rest.split_first_chunk::<4>().ok_or(NO_COPY)?;
    let (extension, rest) = rest.split_first_chunk::<4>().ok_or(NO_COPY)?;
    rest.get(u32::from_be_bytes(*extension) as usize..).ok_or(NO_COPY)
}
