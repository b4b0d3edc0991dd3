//! Columns as they grow, value by value: from the binary protocol (big-endian) or from a heap tuple
//! (this machine's order), into Arrow's buffers. Bytes are checked, never trusted.
//!
//! Values of fixed length lie in the column's region of their batch's memory, which goes along with
//! each call; all others in memory that grows.

use std::sync::Arc;

use arrow::array::{
    ArrayDataBuilder, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder,
    FixedSizeListArray, ListArray, StringArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::Field;

use super::array::Array;
use super::fixed::{self, Fixed};
use super::kind::{Kind, Scalar};
use super::room::Room;
use super::value::{Layout, Malformed};

/// A column that grows.
pub(super) struct Column {
    kind: Kind,
    values: Values,
    nulls: Nulls,
    rows: usize,
}

/// What has been pushed, without nulls' places.
enum Values {
    Bool(BooleanBufferBuilder),
    Fixed(Fixed),
    Bytes { ends: Vec<i32>, bytes: Room },
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
    /// An empty column for so many rows, and for so many bytes of values whose length varies.
    pub(super) fn new(kind: &Kind, rows: usize, bytes: usize) -> Self {
        let elements = |scalar: Scalar| {
            let width = fixed::width(scalar);
            let values = match width {
                Some(_) => Values::Fixed(Fixed::new(scalar, Some(Room::new(bytes)))),
                None => Values::new(scalar, rows, bytes),
            };
            Box::new(Self::of(Kind::Scalar(scalar), values))
        };
        let values = match kind {
            Kind::Scalar(scalar) => Values::new(*scalar, rows, bytes),
            Kind::List(scalar) => Values::List { ends: starts(rows), elements: elements(*scalar) },
            Kind::Tensor(scalar, shape) => {
                Values::Tensor { length: shape.iter().product(), elements: elements(*scalar) }
            }
        };
        Self::of(kind.clone(), values)
    }

    fn of(kind: Kind, values: Values) -> Self {
        Self { kind, values, nulls: Nulls::default(), rows: 0 }
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes so far of values whose length varies.
    pub(super) fn bytes(&self) -> usize {
        match &self.values {
            Values::Bool(_) | Values::Fixed(_) => 0,
            Values::Bytes { bytes, .. } => bytes.len(),
            Values::List { elements, .. } | Values::Tensor { elements, .. } => {
                elements.bytes() + elements.rows * fixed::width(self.kind.scalar()).unwrap_or(0)
            }
        }
    }

    /// The length of each value, where it is fixed.
    pub(super) fn fixed_length(&self) -> Option<usize> {
        self.kind.scalar().fixed_length()
    }

    /// Adds a null.
    pub(super) fn push_null(&mut self, region: &mut [u8]) {
        match &mut self.values {
            Values::Bool(bits) => bits.append(false),
            Values::Fixed(fixed) => fixed.push_null(region, self.rows),
            Values::Bytes { ends, .. } | Values::List { ends, .. } => {
                ends.push(*ends.last().expect("it begins with a zero"));
            }
            Values::Tensor { length, elements } => {
                (0..*length).for_each(|_| elements.push_null(&mut []));
            }
        }
        self.nulls.push(self.rows, false);
        self.rows += 1;
    }

    /// Adds a value, without the length of those that vary.
    pub(super) fn push(
        &mut self,
        region: &mut [u8],
        bytes: &[u8],
        layout: Layout,
    ) -> Result<(), Malformed> {
        match &mut self.values {
            Values::Bool(bits) => bits.append(boolean(bytes)?),
            Values::Fixed(fixed) => fixed.push(region, self.rows, bytes, layout)?,
            Values::Bytes { ends, bytes: all } => {
                let text = match (self.kind.scalar(), bytes) {
                    (Scalar::Jsonb, [1, text @ ..]) => text,
                    (Scalar::Jsonb, _) => return Err(Malformed("is jsonb of an unknown version")),
                    _ => bytes,
                };
                all.extend(text);
                ends.push(end(all.len())?);
            }
            Values::List { .. } | Values::Tensor { .. } => self.push_array(bytes, layout)?,
        }
        self.push_valid(1);
        Ok(())
    }

    /// Adds a value of a heap tuple that `write` appends to the column's memory where it can, and else
    /// to `scratch`.
    pub(super) fn push_written<E: From<Malformed>>(
        &mut self,
        region: &mut [u8],
        scratch: &mut Room,
        write: impl FnOnce(&mut Room) -> Result<(), E>,
    ) -> Result<(), E> {
        let Values::Bytes { ends, bytes } = &mut self.values else {
            scratch.truncate(0);
            write(scratch)?;
            return Ok(self.push(region, scratch.as_slice(), Layout::Heap)?);
        };
        write(bytes)?;
        ends.push(end(bytes.len())?);
        self.push_valid(1);
        Ok(())
    }

    /// Adds one value of fixed length from each of these places in a page, all valid. The caller has
    /// checked that they lie in it.
    pub(super) fn push_strided(
        &mut self,
        region: &mut [u8],
        page: &[u8],
        places: impl ExactSizeIterator<Item = usize> + Clone,
    ) -> Result<(), Malformed> {
        if let Values::Fixed(fixed) = &mut self.values
            && fixed.push_strided(region, self.rows, page, places.clone())
        {
            self.push_valid(places.len());
            return Ok(());
        }
        let length = self.fixed_length().expect("only values of fixed length lie at a stride");
        for at in places {
            self.push(region, &page[at..at + length], Layout::Heap)?;
        }
        Ok(())
    }

    /// Adds one value from each of these tuples of the binary protocol, all of `stride` bytes, if all
    /// have it at `at` with the length that its type has; whether it did.
    pub(super) fn push_tuples(
        &mut self,
        region: &mut [u8],
        tuples: &[u8],
        stride: usize,
        at: usize,
    ) -> bool {
        let Values::Fixed(fixed) = &mut self.values else { return false };
        let is_done = fixed.push_tuples(region, self.rows, tuples, stride, at);
        if is_done {
            self.push_valid(tuples.len() / stride);
        }
        is_done
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
            Values::Fixed(fixed) => fixed.truncate(rows),
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
                array.push_into(elements)?;
                ends.push(end(elements.rows)?);
                Ok(())
            }
            (Values::Tensor { elements, .. }, Kind::Tensor(_, shape)) => {
                if array.shape() != shape {
                    return Err(Malformed(
                        "is an array of another shape than the column's first one; give all rows \
                         one shape",
                    ));
                }
                array.push_into(elements)
            }
            _ => unreachable!("only lists and tensors hold arrays"),
        }
    }

    /// The column as it is, once text is known to be UTF-8; `region` is its part of the batch's memory.
    pub(super) fn finish(self, region: Buffer) -> Result<ArrayRef, Malformed> {
        let nulls = self.nulls.0.map(|mut bits| NullBuffer::new(bits.finish()));
        let scalar = self.kind.scalar();
        let item = || Arc::new(Field::new_list_field(scalar.data_type(), true));
        let none = || Buffer::from([0_u8; 0]);
        Ok(match self.values {
            Values::Bool(mut bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Values::Fixed(fixed) => {
                let data = ArrayDataBuilder::new(scalar.data_type())
                    .len(self.rows)
                    .nulls(nulls)
                    .add_buffer(fixed.into_buffer().unwrap_or(region))
                    .build();
                make_array(data.expect("a buffer of as many values as there are rows"))
            }
            Values::Bytes { ends, bytes } => {
                let (offsets, bytes) = (OffsetBuffer::new(ends.into()), bytes.into_buffer());
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
                Arc::new(ListArray::new(item(), offsets, elements.finish(none())?, nulls))
            }
            Values::Tensor { length, elements } => {
                let length = i32::try_from(length).expect("a probed shape is bounded");
                Arc::new(FixedSizeListArray::new(item(), length, elements.finish(none())?, nulls))
            }
        })
    }
}

impl Values {
    fn new(scalar: Scalar, rows: usize, bytes: usize) -> Self {
        match scalar {
            Scalar::Bool => Self::Bool(BooleanBufferBuilder::new(rows)),
            Scalar::Bytes | Scalar::Text | Scalar::Padded | Scalar::Jsonb | Scalar::Cast => {
                Self::Bytes { ends: starts(rows), bytes: Room::new(bytes) }
            }
            _ => Self::Fixed(Fixed::new(scalar, None)),
        }
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

fn boolean(bytes: &[u8]) -> Result<bool, Malformed> {
    match bytes {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Malformed("is neither true nor false")),
    }
}
