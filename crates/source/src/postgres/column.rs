//! Columns as they grow, value by value: from the binary protocol (big-endian) or from a heap tuple
//! (this machine's order), into Arrow's buffers. Bytes are checked, never trusted.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, Date32Array, FixedSizeBinaryArray,
    FixedSizeListArray, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, ListArray,
    StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt32Array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};

use super::kind::{Kind, Scalar};
use super::numeric;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's dates begin.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROSECONDS: i64 = 10_957 * 86_400_000_000;
/// An array has at most this many axes (`MAXDIM`).
const AXES_MAX: usize = 6;

/// Why bytes are no value of their column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

/// Which way bytes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As `typsend` writes them.
    Wire,
    /// As in a heap tuple, without the length of those that vary.
    Heap,
}

/// A column that grows.
pub(super) struct Column {
    kind: Kind,
    values: Values,
    nulls: Nulls,
    rows: usize,
}

/// What has been pushed, without nulls' places.
pub(super) enum Values {
    Bool(BooleanBufferBuilder),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U32(Vec<u32>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Uuid(Vec<u8>),
    Bytes { ends: Vec<i32>, bytes: Vec<u8> },
    List { ends: Vec<i32>, elements: Box<Column> },
    Tensor { length: usize, elements: Box<Column> },
}

/// Which rows are null; made when the first one is.
#[derive(Default)]
struct Nulls(Option<BooleanBufferBuilder>);

impl Nulls {
    fn push(&mut self, rows: usize, is_valid: bool) {
        match &mut self.0 {
            Some(bits) => bits.append(is_valid),
            None if is_valid => {}
            None => {
                let mut bits = BooleanBufferBuilder::new(rows + 1);
                bits.append_n(rows, true);
                bits.append(false);
                self.0 = Some(bits);
            }
        }
    }

    fn push_valid(&mut self, rows: usize) {
        if let Some(bits) = &mut self.0 {
            bits.append_n(rows, true);
        }
    }
}

impl Column {
    /// An empty column with room for so many rows.
    pub(super) fn new(kind: &Kind, rows: usize) -> Self {
        let values = match kind {
            Kind::Scalar(scalar) => Values::new(*scalar, rows),
            Kind::List(scalar) => Values::List {
                ends: starts(rows),
                elements: Box::new(Self::new(&Kind::Scalar(*scalar), rows)),
            },
            Kind::Tensor(scalar, shape) => {
                let length = shape.iter().product();
                let elements = Box::new(Self::new(&Kind::Scalar(*scalar), length));
                Values::Tensor { length, elements }
            }
        };
        Self { kind: kind.clone(), values, nulls: Nulls::default(), rows: 0 }
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of values whose length varies.
    pub(super) fn bytes(&self) -> usize {
        match &self.values {
            Values::Bytes { bytes, .. } => bytes.len(),
            Values::List { elements, .. } | Values::Tensor { elements, .. } => {
                elements.rows * elements.kind.scalar().fixed_length().unwrap_or(0)
            }
            _ => 0,
        }
    }

    /// Adds a null.
    pub(super) fn push_null(&mut self) {
        self.nulls.push(self.rows, false);
        self.rows += 1;
        match &mut self.values {
            Values::Bool(bits) => bits.append(false),
            Values::I16(values) => values.push(0),
            Values::I32(values) => values.push(0),
            Values::I64(values) => values.push(0),
            Values::U32(values) => values.push(0),
            Values::F32(values) => values.push(0.0),
            Values::F64(values) => values.push(0.0),
            Values::Uuid(bytes) => bytes.extend([0; 16]),
            Values::Bytes { ends, .. } | Values::List { ends, .. } => {
                ends.push(*ends.last().expect("it begins with a zero"));
            }
            Values::Tensor { length, elements } => (0..*length).for_each(|_| elements.push_null()),
        }
    }

    /// Adds a value of the binary protocol.
    pub(super) fn push_wire(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let scalar = self.kind.scalar();
        match &mut self.values {
            Values::Bool(bits) => bits.append(boolean(bytes)?),
            Values::I16(values) => values.push(i16::from_be_bytes(exactly(bytes)?)),
            Values::I32(values) => values.push(day(scalar, i32::from_be_bytes(exactly(bytes)?))?),
            Values::I64(values) => {
                values.push(moment(scalar, i64::from_be_bytes(exactly(bytes)?))?)
            }
            Values::U32(values) => values.push(u32::from_be_bytes(exactly(bytes)?)),
            Values::F32(values) => values.push(f32::from_be_bytes(exactly(bytes)?)),
            Values::F64(values) if scalar == Scalar::Numeric => {
                values.push(numeric::from_wire(bytes)?);
            }
            Values::F64(values) => values.push(f64::from_be_bytes(exactly(bytes)?)),
            Values::Uuid(all) => all.extend(exactly::<16>(bytes)?),
            Values::Bytes { ends, bytes: all } => {
                let text = match (scalar, bytes) {
                    (Scalar::Jsonb, [1, text @ ..]) => text,
                    (Scalar::Jsonb, _) => return Err(Malformed("is jsonb of an unknown version")),
                    _ => bytes,
                };
                all.extend_from_slice(text);
                ends.push(end(all.len())?);
            }
            Values::List { .. } | Values::Tensor { .. } => self.push_array(bytes, Layout::Wire)?,
        }
        self.push_valid(1);
        Ok(())
    }

    /// Adds a value of a heap tuple, without the length of those that vary.
    pub(super) fn push_heap(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        let scalar = self.kind.scalar();
        match &mut self.values {
            Values::Bool(bits) => bits.append(boolean(bytes)?),
            Values::I16(values) => values.push(i16::from_le_bytes(exactly(bytes)?)),
            Values::I32(values) => values.push(day(scalar, i32::from_le_bytes(exactly(bytes)?))?),
            Values::I64(values) => {
                values.push(moment(scalar, i64::from_le_bytes(exactly(bytes)?))?)
            }
            Values::U32(values) => values.push(u32::from_le_bytes(exactly(bytes)?)),
            Values::F32(values) => values.push(f32::from_le_bytes(exactly(bytes)?)),
            Values::F64(values) if scalar == Scalar::Numeric => {
                values.push(numeric::from_heap(bytes)?);
            }
            Values::F64(values) => values.push(f64::from_le_bytes(exactly(bytes)?)),
            Values::Uuid(all) => all.extend(exactly::<16>(bytes)?),
            Values::Bytes { ends, bytes: all } => {
                all.extend_from_slice(bytes);
                ends.push(end(all.len())?);
            }
            Values::List { .. } | Values::Tensor { .. } => self.push_array(bytes, Layout::Heap)?,
        }
        self.push_valid(1);
        Ok(())
    }

    /// Adds a long value of a heap tuple without a copy in between: `write` appends its bytes. When
    /// it fails, nothing is added.
    pub(super) fn push_written<E: From<Malformed>>(
        &mut self,
        scratch: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Values::Bytes { ends, bytes } = &mut self.values else {
            scratch.clear();
            write(scratch)?;
            return Ok(self.push_heap(scratch)?);
        };
        let before = bytes.len();
        let done = write(bytes).and_then(|()| Ok(end(bytes.len())?));
        match done {
            Ok(end) => ends.push(end),
            Err(error) => {
                bytes.truncate(before);
                return Err(error);
            }
        }
        self.push_valid(1);
        Ok(())
    }

    /// Adds one value of fixed length from each of these places in a page, all valid. The caller has
    /// checked that they lie in it.
    pub(super) fn push_strided(
        &mut self,
        page: &[u8],
        places: impl ExactSizeIterator<Item = usize>,
    ) -> Result<(), Malformed> {
        let rows = places.len();
        match &mut self.values {
            Values::I16(values) => {
                values.extend(places.map(|at| i16::from_le_bytes(chunk(page, at))));
            }
            Values::I32(values) if self.kind != Kind::Scalar(Scalar::Date) => {
                values.extend(places.map(|at| i32::from_le_bytes(chunk(page, at))));
            }
            Values::U32(values) => {
                values.extend(places.map(|at| u32::from_le_bytes(chunk(page, at))));
            }
            Values::F32(values) => {
                values.extend(places.map(|at| f32::from_le_bytes(chunk(page, at))));
            }
            Values::F64(values) => {
                values.extend(places.map(|at| f64::from_le_bytes(chunk(page, at))));
            }
            _ => {
                let length = self.kind.scalar().fixed_length();
                let length = length.expect("only values of fixed length lie at a stride");
                for at in places {
                    self.push_heap(&page[at..at + length])?;
                }
                return Ok(());
            }
        }
        self.push_valid(rows);
        Ok(())
    }

    /// Takes the last rows away again, so that as many as this are left; also those that were only
    /// half pushed.
    pub(super) fn truncate(&mut self, rows: usize) {
        if let Some(bits) = &mut self.nulls.0 {
            bits.truncate(rows);
        }
        self.rows = rows;
        match &mut self.values {
            Values::Bool(bits) => bits.truncate(rows),
            Values::I16(values) => values.truncate(rows),
            Values::I32(values) => values.truncate(rows),
            Values::I64(values) => values.truncate(rows),
            Values::U32(values) => values.truncate(rows),
            Values::F32(values) => values.truncate(rows),
            Values::F64(values) => values.truncate(rows),
            Values::Uuid(bytes) => bytes.truncate(16 * rows),
            Values::Bytes { ends, bytes } => {
                ends.truncate(rows + 1);
                bytes.truncate(place(ends[rows]));
            }
            Values::List { ends, elements } => {
                ends.truncate(rows + 1);
                elements.truncate(place(ends[rows]));
            }
            Values::Tensor { length, elements } => elements.truncate(*length * rows),
        }
    }

    fn push_valid(&mut self, rows: usize) {
        self.nulls.push_valid(rows);
        self.rows += rows;
    }

    /// Adds an array's elements, and where they end.
    fn push_array(&mut self, bytes: &[u8], layout: Layout) -> Result<(), Malformed> {
        let array = Array::read(bytes, layout)?;
        match (&mut self.values, &self.kind) {
            (Values::List { ends, elements }, _) => {
                let before = elements.rows;
                let done = array.push_into(elements).and_then(|()| end(elements.rows));
                match done {
                    Ok(end) => ends.push(end),
                    Err(error) => {
                        elements.truncate(before);
                        return Err(error);
                    }
                }
            }
            (Values::Tensor { elements, .. }, Kind::Tensor(_, shape)) => {
                if array.axes[..array.axis_count] != shape[..] {
                    return Err(Malformed(
                        "is an array of another shape than the column's first one; give all rows \
                         one shape",
                    ));
                }
                let before = elements.rows;
                if let Err(error) = array.push_into(elements) {
                    elements.truncate(before);
                    return Err(error);
                }
            }
            _ => unreachable!("only lists and tensors hold arrays"),
        }
        Ok(())
    }

    /// The column as it is, once text is known to be UTF-8.
    pub(super) fn finish(self) -> Result<ArrayRef, Malformed> {
        let nulls = self.nulls.0.map(|mut bits| NullBuffer::new(bits.finish()));
        let scalar = self.kind.scalar();
        let item = || Arc::new(Field::new_list_field(scalar.data_type(), true));
        Ok(match self.values {
            Values::Bool(mut bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::I16(values) => Arc::new(Int16Array::new(values.into(), nulls)),
            Values::I32(values) if scalar == Scalar::Date => {
                Arc::new(Date32Array::new(values.into(), nulls))
            }
            Values::I32(values) => Arc::new(Int32Array::new(values.into(), nulls)),
            Values::I64(values) => match scalar.data_type() {
                DataType::Time64(_) => Arc::new(Time64MicrosecondArray::new(values.into(), nulls)),
                DataType::Timestamp(_, zone) => Arc::new(
                    TimestampMicrosecondArray::new(values.into(), nulls).with_timezone_opt(zone),
                ),
                _ => Arc::new(Int64Array::new(values.into(), nulls)),
            },
            Values::U32(values) => Arc::new(UInt32Array::new(values.into(), nulls)),
            Values::F32(values) => Arc::new(Float32Array::new(values.into(), nulls)),
            Values::F64(values) => Arc::new(Float64Array::new(values.into(), nulls)),
            Values::Uuid(bytes) => {
                Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(bytes), nulls))
            }
            Values::Bytes { ends, bytes } => {
                let (offsets, bytes) = (OffsetBuffer::new(ends.into()), Buffer::from_vec(bytes));
                match scalar {
                    Scalar::Bytes => Arc::new(BinaryArray::new(offsets, bytes, nulls)),
                    _ => Arc::new(
                        StringArray::try_new(offsets, bytes, nulls)
                            .map_err(|_| Malformed("holds text that is not UTF-8"))?,
                    ),
                }
            }
            Values::List { ends, elements } => {
                let offsets = OffsetBuffer::new(ends.into());
                Arc::new(ListArray::new(item(), offsets, elements.finish()?, nulls))
            }
            Values::Tensor { length, elements } => {
                let length = i32::try_from(length).expect("a probed shape is bounded");
                Arc::new(FixedSizeListArray::new(item(), length, elements.finish()?, nulls))
            }
        })
    }
}

impl Values {
    fn new(scalar: Scalar, rows: usize) -> Self {
        match scalar {
            Scalar::Bool => Self::Bool(BooleanBufferBuilder::new(rows)),
            Scalar::Int2 => Self::I16(Vec::with_capacity(rows)),
            Scalar::Int4 | Scalar::Date => Self::I32(Vec::with_capacity(rows)),
            Scalar::Int8 | Scalar::Time | Scalar::Timestamp | Scalar::TimestampTz => {
                Self::I64(Vec::with_capacity(rows))
            }
            Scalar::Oid => Self::U32(Vec::with_capacity(rows)),
            Scalar::Float4 => Self::F32(Vec::with_capacity(rows)),
            Scalar::Float8 | Scalar::Numeric => Self::F64(Vec::with_capacity(rows)),
            Scalar::Uuid => Self::Uuid(Vec::with_capacity(16 * rows)),
            Scalar::Bytes | Scalar::Text | Scalar::Jsonb | Scalar::Cast => {
                Self::Bytes { ends: starts(rows), bytes: Vec::new() }
            }
        }
    }
}

/// An array value, its header read.
struct Array<'a> {
    axes: [usize; AXES_MAX],
    axis_count: usize,
    layout: Layout,
    /// Which elements are null; all but the heap's have them among the elements.
    nulls: Option<&'a [u8]>,
    elements: &'a [u8],
}

impl<'a> Array<'a> {
    fn read(bytes: &'a [u8], layout: Layout) -> Result<Self, Malformed> {
        const SHORT: Malformed = Malformed("is an array that is cut short");
        let word = |at: usize| -> Result<usize, Malformed> {
            let bytes = bytes.get(at..at + 4).ok_or(SHORT)?;
            let bytes = bytes.try_into().expect("four bytes");
            let word = match layout {
                Layout::Wire => u32::from_be_bytes(bytes),
                Layout::Heap => u32::from_le_bytes(bytes),
            };
            Ok(word as usize)
        };
        let axis_count = word(0)?;
        if axis_count > AXES_MAX {
            return Err(Malformed("is an array of more than six axes"));
        }
        let mut axes = [0; AXES_MAX];
        for (i, axis) in axes.iter_mut().enumerate().take(axis_count) {
            // The protocol has length and lower bound in turn, the heap all lengths first.
            *axis = word(12 + if layout == Layout::Wire { 8 * i } else { 4 * i })?;
        }
        let header = 12 + 8 * axis_count;
        let (mut nulls, mut start) = (None, header);
        if layout == Layout::Heap && word(4)? != 0 {
            // Counted from the length before it.
            start = word(4)?.checked_sub(4).ok_or(SHORT)?;
            nulls = Some(bytes.get(header..start).ok_or(SHORT)?);
        }
        let elements = bytes.get(start..).ok_or(SHORT)?;
        Ok(Self { axes, axis_count, layout, nulls, elements })
    }

    /// How many elements it has; more than there are bytes are none.
    fn count(&self) -> Result<usize, Malformed> {
        let axes = &self.axes[..self.axis_count];
        let count = axes.iter().try_fold(1_usize, |count, &axis| count.checked_mul(axis));
        let bound = 8 * (self.elements.len() + self.nulls.map_or(0, <[u8]>::len));
        match count {
            Some(_) if self.axis_count == 0 => Ok(0),
            Some(count) if count <= bound => Ok(count),
            _ => Err(Malformed("is an array of more elements than it has bytes for")),
        }
    }

    fn push_into(&self, column: &mut Column) -> Result<(), Malformed> {
        let count = self.count()?;
        match self.layout {
            Layout::Wire => push_wire_elements(column, self.elements, count),
            Layout::Heap => self.push_heap_elements(column, count),
        }
    }

    fn push_heap_elements(&self, column: &mut Column, count: usize) -> Result<(), Malformed> {
        const SHORT: Malformed = Malformed("is an array with fewer elements than it says");
        let length = column.kind.scalar().fixed_length();
        let length = length.expect("the heap's arrays are read where elements have fixed length");
        let Some(nulls) = self.nulls else {
            let bytes = self.elements.get(..count * length).ok_or(SHORT)?;
            return column.push_strided(bytes, (0..count).map(|i| i * length));
        };
        if nulls.len() * 8 < count {
            return Err(SHORT);
        }
        let mut rest = self.elements;
        for i in 0..count {
            if nulls[i / 8] & (1 << (i % 8)) == 0 {
                column.push_null();
            } else {
                let (element, after) = rest.split_at_checked(length).ok_or(SHORT)?;
                column.push_heap(element)?;
                rest = after;
            }
        }
        Ok(())
    }
}

/// Elements with a length before each, −1 for null.
fn push_wire_elements(column: &mut Column, bytes: &[u8], count: usize) -> Result<(), Malformed> {
    // Images as arrays have thousands of floats each.
    if let Values::F32(values) = &mut column.values
        && let (chunks, []) = bytes.as_chunks::<8>()
        && chunks.len() == count
        && chunks.iter().all(|chunk| chunk[..4] == [0, 0, 0, 4])
    {
        let floats = chunks.iter().map(|&[.., a, b, c, d]| f32::from_be_bytes([a, b, c, d]));
        values.extend(floats);
        column.push_valid(count);
        return Ok(());
    }
    let mut fields = Fields(bytes);
    for _ in 0..count {
        match fields.next()? {
            Some(element) => column.push_wire(element)?,
            None => column.push_null(),
        }
    }
    if fields.0.is_empty() { Ok(()) } else { Err(Malformed("has bytes behind its last element")) }
}

/// Values with a length before each, as tuples and arrays of the binary protocol have them.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next value; nothing for null.
    pub(super) fn next(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        const SHORT: Malformed = Malformed("is cut short");
        let (length, rest) = self.0.split_first_chunk::<4>().ok_or(SHORT)?;
        let length = i32::from_be_bytes(*length);
        if length == -1 {
            self.0 = rest;
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Malformed("has a negative length"))?;
        let (value, rest) = rest.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        Ok(Some(value))
    }
}

fn starts(rows: usize) -> Vec<i32> {
    let mut ends = Vec::with_capacity(rows + 1);
    ends.push(0);
    ends
}

fn end(at: usize) -> Result<i32, Malformed> {
    i32::try_from(at).map_err(|_| Malformed("makes a batch of more than 2 GiB"))
}

fn place(end: i32) -> usize {
    usize::try_from(end).expect("ends are never negative")
}

fn exactly<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    bytes.try_into().map_err(|_| Malformed("has another length than its type"))
}

fn chunk<const N: usize>(page: &[u8], at: usize) -> [u8; N] {
    page[at..at + N].try_into().expect("a range of N bytes has N bytes")
}

fn boolean(bytes: &[u8]) -> Result<bool, Malformed> {
    match bytes {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Malformed("is neither true nor false")),
    }
}

fn day(scalar: Scalar, value: i32) -> Result<i32, Malformed> {
    if scalar != Scalar::Date {
        return Ok(value);
    }
    let day = value.checked_add(EPOCH_DAYS).filter(|_| value != i32::MIN);
    day.ok_or(Malformed("is an infinite date, which Arrow has no value for; make it null"))
}

fn moment(scalar: Scalar, value: i64) -> Result<i64, Malformed> {
    if !matches!(scalar, Scalar::Timestamp | Scalar::TimestampTz) {
        return Ok(value);
    }
    let moment = value.checked_add(EPOCH_MICROSECONDS).filter(|_| value != i64::MIN);
    moment.ok_or(Malformed("is an infinite timestamp, which Arrow has no value for; make it null"))
}
