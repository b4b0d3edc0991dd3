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

use super::array::{Array, Layout};
use super::kind::{Kind, Scalar};
use super::numeric;

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL's dates begin.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROSECONDS: i64 = 10_957 * 86_400_000_000;

/// Why bytes are no value of their column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

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

    /// Adds floats of the binary protocol, each with its length of four before it, if that is what
    /// this column and these bytes are: images as arrays have thousands of them.
    pub(super) fn push_floats(&mut self, bytes: &[u8], count: usize) -> bool {
        let Values::F32(values) = &mut self.values else { return false };
        let (chunks, rest) = bytes.as_chunks::<8>();
        let is_plain = rest.is_empty()
            && chunks.len() == count
            && chunks.iter().all(|chunk| chunk[..4] == [0, 0, 0, 4]);
        if is_plain {
            values.extend(chunks.iter().map(|&[.., a, b, c, d]| f32::from_be_bytes([a, b, c, d])));
            self.push_valid(count);
        }
        is_plain
    }

    /// The length of each value, where it is fixed.
    pub(super) fn fixed_length(&self) -> Option<usize> {
        self.kind.scalar().fixed_length()
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

    /// Notes so many values that were pushed.
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
                if array.shape() != shape {
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
