//! Rows as they are read, cut into record batches.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrowhop_types::Problems;

use super::column::{Column, Fields, Malformed};
use super::kind::Kind;

/// A batch has at most this many rows.
const ROWS_MAX: usize = 1 << 16;
/// A batch ends when its values take about this many bytes.
const BYTES_MAX: usize = 16 << 20;
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
}

impl Form {
    pub(super) fn new(place: String, wanted: Vec<Wanted>) -> Self {
        let fields: Vec<Field> =
            wanted.iter().map(|column| column.kind.field(&column.name)).collect();
        Self { place, wanted: wanted.into(), schema: Arc::new(Schema::new(fields)) }
    }
}

/// Batches being filled.
pub(super) struct Batches {
    form: Form,
    pub(super) columns: Vec<Column>,
    bytes: usize,
    /// Rows of the largest batch so far, to make room for the next.
    expected: usize,
    done: Vec<RecordBatch>,
}

impl Batches {
    pub(super) fn new(form: &Form) -> Self {
        let mut new = Self {
            form: form.clone(),
            columns: Vec::new(),
            bytes: 0,
            expected: 0,
            done: Vec::new(),
        };
        new.columns = new.fresh();
        new
    }

    fn fresh(&self) -> Vec<Column> {
        self.form.wanted.iter().map(|column| Column::new(&column.kind, self.expected)).collect()
    }

    /// Rows in the batch that is being filled.
    pub(super) fn rows(&self) -> usize {
        self.columns.first().map_or(0, Column::rows)
    }

    /// Notes that values of so many bytes were pushed into the columns; a batch may end here.
    pub(super) fn pushed(&mut self, bytes: usize) -> Result<(), Problems> {
        self.bytes += bytes;
        if self.rows() >= ROWS_MAX || self.bytes >= BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Notes that a page's rows were pushed into the columns; a batch may end here.
    pub(super) fn pushed_page(&mut self) -> Result<(), Problems> {
        let bytes = self.columns.iter().map(Column::bytes).sum();
        self.bytes = bytes;
        self.pushed(0)
    }

    /// Ends the batch.
    pub(super) fn flush(&mut self) -> Result<(), Problems> {
        let rows = self.rows();
        if rows == 0 {
            return Ok(());
        }
        self.expected = self.expected.max(rows);
        self.bytes = 0;
        let fresh = self.fresh();
        let mut arrays = Vec::with_capacity(fresh.len());
        for (column, wanted) in
            std::mem::replace(&mut self.columns, fresh).into_iter().zip(self.form.wanted.iter())
        {
            let array = column.finish().map_err(|fault| {
                Problems::one(
                    format!("{}, column `{}`", self.form.place, wanted.name),
                    fault.to_string(),
                )
            })?;
            arrays.push(array);
        }
        let batch = RecordBatch::try_new(self.form.schema.clone(), arrays);
        self.done.push(batch.expect("columns are made to fit the schema"));
        Ok(())
    }

    /// All batches that ended, and the last one as it is.
    pub(super) fn take(&mut self) -> Result<Vec<RecordBatch>, Problems> {
        self.flush()?;
        Ok(std::mem::take(&mut self.done))
    }
}

/// A stream of `COPY … TO STDOUT (FORMAT binary)`, message by message: each holds whole tuples, the
/// first a header before them, the last a trailer.
pub(super) struct CopyStream {
    batches: Batches,
    has_begun: bool,
    rows: u64,
}

impl CopyStream {
    pub(super) fn new(form: &Form) -> Self {
        Self { batches: Batches::new(form), has_begun: false, rows: 0 }
    }

    /// Takes one message.
    pub(super) fn push(&mut self, message: &[u8]) -> Result<(), Problems> {
        let mut rest = message;
        if !self.has_begun {
            rest = header(message).map_err(|fault| self.wrong(None, fault))?;
            self.has_begun = true;
        }
        while !rest.is_empty() {
            let Some((count, fields)) = rest.split_first_chunk::<2>() else {
                return Err(self.wrong(None, Malformed("is cut short")));
            };
            let count = i16::from_be_bytes(*count);
            if count == -1 {
                return Ok(());
            }
            if usize::try_from(count) != Ok(self.batches.columns.len()) {
                return Err(
                    self.wrong(None, Malformed("has another number of columns than asked for"))
                );
            }
            let before = fields.len();
            let mut fields = Fields(fields);
            for i in 0..self.batches.columns.len() {
                let column = &mut self.batches.columns[i];
                let pushed = fields.next().and_then(|value| match value {
                    Some(value) => column.push_wire(value),
                    None => {
                        column.push_null();
                        Ok(())
                    }
                });
                pushed.map_err(|fault| self.wrong(Some(i), fault))?;
            }
            rest = fields.0;
            self.rows += 1;
            self.batches.pushed(before - rest.len())?;
        }
        Ok(())
    }

    /// All batches.
    pub(super) fn finish(mut self) -> Result<Vec<RecordBatch>, Problems> {
        self.batches.take()
    }

    fn wrong(&self, column: Option<usize>, fault: Malformed) -> Problems {
        let form = &self.batches.form;
        let row = self.rows + 1;
        let place = match column {
            Some(i) => {
                format!("{}, column `{}`, row {row} of its part", form.place, form.wanted[i].name)
            }
            None => format!("{}, row {row} of its part", form.place),
        };
        Problems::one(place, fault.to_string())
    }
}

/// What follows the stream's header.
fn header(message: &[u8]) -> Result<&[u8], Malformed> {
    const NO_COPY: Malformed = Malformed("does not begin as a binary copy does");
    let rest = message.strip_prefix(SIGNATURE).ok_or(NO_COPY)?;
    let (_flags, rest) = rest.split_first_chunk::<4>().ok_or(NO_COPY)?;
    let (extension, rest) = rest.split_first_chunk::<4>().ok_or(NO_COPY)?;
    rest.get(u32::from_be_bytes(*extension) as usize..).ok_or(NO_COPY)
}
