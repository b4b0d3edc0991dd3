//! Rows of numbers: scalars, lists and lists of lists, as one flat run of values per row whose
//! lengths are checked along every axis.

use std::fmt;
use std::ops::Range;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, Int32Array, UInt8Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Float32Type, Int32Type, UInt8Type};
use arrow::error::ArrowError;
use arrowhop_types::Dtype;

/// A column of numbers, nested or not.
pub(crate) struct Numbers {
    levels: Vec<Level>,
    values: Values,
}

/// One axis: where each list of it lies in the axis below.
struct Level {
    offsets: Offsets,
    nulls: Option<NullBuffer>,
}

enum Offsets {
    Small(OffsetBuffer<i32>),
    Large(OffsetBuffer<i64>),
    Fixed(usize),
}

enum Values {
    U8(UInt8Array),
    I32(Int32Array),
    F32(Float32Array),
}

/// Why a row is not a tensor of the lengths expected.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It, or something in it, is null.
    Null,
    /// A list has another length than expected along its axis.
    Ragged {
        /// From 0.
        axis: usize,
        /// Its length.
        found: usize,
        /// The length expected.
        wanted: usize,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => write!(f, "is null or holds a null; fill it in or leave the row out"),
            Self::Ragged { axis, found, wanted } => write!(
                f,
                "is ragged: a list of {found} along axis {axis}, where {wanted} are expected"
            ),
        }
    }
}

/// The type of the numbers in a column of lists, however deep, or of a scalar column; nothing if
/// these are not numbers.
pub(crate) fn number_type(data_type: &DataType) -> Option<&DataType> {
    match data_type {
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _) => {
            number_type(field.data_type())
        }
        other => other.is_numeric().then_some(other),
    }
}

/// Casts, and fails where a value does not fit, rather than make a null of it.
pub(crate) fn cast_exactly(array: &dyn Array, to: &DataType) -> Result<ArrayRef, ArrowError> {
    cast_with_options(array, to, &CastOptions { safe: false, ..CastOptions::default() })
}

impl Numbers {
    /// Views a column as numbers of this type. Its type must have passed [`number_type`].
    pub(crate) fn new(column: &ArrayRef, dtype: Dtype) -> Result<Self, ArrowError> {
        let mut levels = Vec::new();
        let mut array = column.clone();
        loop {
            let (offsets, below) = match array.data_type() {
                DataType::List(_) => {
                    let list = array.as_list::<i32>();
                    (Offsets::Small(list.offsets().clone()), list.values().clone())
                }
                DataType::LargeList(_) => {
                    let list = array.as_list::<i64>();
                    (Offsets::Large(list.offsets().clone()), list.values().clone())
                }
                DataType::FixedSizeList(_, length) => {
                    let length = usize::try_from(*length).unwrap_or(0);
                    (Offsets::Fixed(length), array.as_fixed_size_list().values().clone())
                }
                _ => break,
            };
            levels.push(Level { offsets, nulls: array.nulls().cloned() });
            array = below;
        }
        let values = match dtype {
            Dtype::U8 => Values::U8(
                cast_exactly(&array, &DataType::UInt8)?.as_primitive::<UInt8Type>().clone(),
            ),
            Dtype::I32 => Values::I32(
                cast_exactly(&array, &DataType::Int32)?.as_primitive::<Int32Type>().clone(),
            ),
            Dtype::F32 => Values::F32(
                cast_exactly(&array, &DataType::Float32)?.as_primitive::<Float32Type>().clone(),
            ),
        };
        Ok(Self { levels, values })
    }

    /// The lengths of a row, as its first element along each axis has them.
    pub(crate) fn lengths(&self, row: usize) -> Vec<usize> {
        let mut at = row..row + 1;
        let mut lengths = Vec::new();
        for level in &self.levels {
            at = if at.is_empty() { at.start..at.start } else { level.range(at.start) };
            lengths.push(at.len());
        }
        lengths
    }

    /// A row's bytes.
    pub(crate) fn row_u8(&self, row: usize, lengths: &[usize]) -> Result<&[u8], Fault> {
        let Values::U8(values) = &self.values else { panic!("these numbers are not bytes") };
        let range = self.range(row, lengths)?;
        without_nulls(values.nulls(), &range)?;
        Ok(&values.values()[range])
    }

    /// A row's floats.
    pub(crate) fn row_f32(&self, row: usize, lengths: &[usize]) -> Result<&[f32], Fault> {
        let Values::F32(values) = &self.values else { panic!("these numbers are not floats") };
        let range = self.range(row, lengths)?;
        without_nulls(values.nulls(), &range)?;
        Ok(&values.values()[range])
    }

    /// A row's whole numbers: all of its list, however long, or its scalar.
    pub(crate) fn list_i32(&self, row: usize) -> Result<&[i32], Fault> {
        let Values::I32(values) = &self.values else { panic!("these are no whole numbers") };
        let range = match self.levels.as_slice() {
            [] => row..row + 1,
            [level] => {
                without_nulls(level.nulls.as_ref(), &(row..row + 1))?;
                level.range(row)
            }
            _ => panic!("these are lists of lists"),
        };
        without_nulls(values.nulls(), &range)?;
        Ok(&values.values()[range])
    }

    /// Where a row's values lie, once every list in it has the length expected of its axis.
    fn range(&self, row: usize, lengths: &[usize]) -> Result<Range<usize>, Fault> {
        let mut at = row..row + 1;
        for (axis, (level, &wanted)) in self.levels.iter().zip(lengths).enumerate() {
            without_nulls(level.nulls.as_ref(), &at)?;
            let odd = at.clone().map(|i| level.range(i).len()).find(|&found| found != wanted);
            if let Some(found) = odd {
                return Err(Fault::Ragged { axis, found, wanted });
            }
            let start = if at.is_empty() { 0 } else { level.range(at.start).start };
            at = start..start + at.len() * wanted;
        }
        Ok(at)
    }
}

impl Level {
    fn range(&self, i: usize) -> Range<usize> {
        let place = |offset: i64| usize::try_from(offset).expect("list offsets are not negative");
        match &self.offsets {
            Offsets::Small(offsets) => place(offsets[i].into())..place(offsets[i + 1].into()),
            Offsets::Large(offsets) => place(offsets[i])..place(offsets[i + 1]),
            Offsets::Fixed(length) => i * length..(i + 1) * length,
        }
    }
}

fn without_nulls(nulls: Option<&NullBuffer>, range: &Range<usize>) -> Result<(), Fault> {
    match nulls {
        Some(nulls) if range.clone().any(|i| nulls.is_null(i)) => Err(Fault::Null),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{FixedSizeListArray, Float64Array, ListArray};
    use arrow::datatypes::{Float64Type, Int32Type};

    use super::*;

    #[test]
    fn lists_are_flat_runs_and_say_where_they_are_ragged() {
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), Some(2)]),
            Some(vec![Some(3), Some(4), Some(5)]),
            None,
            Some(vec![Some(6), None]),
        ]);
        let numbers = Numbers::new(&(Arc::new(lists) as ArrayRef), Dtype::F32).unwrap();
        let lengths = numbers.lengths(0);
        assert_eq!(lengths, [2]);
        assert_eq!(numbers.row_f32(0, &lengths), Ok([1.0, 2.0].as_slice()));
        let ragged = Fault::Ragged { axis: 0, found: 3, wanted: 2 };
        assert_eq!(numbers.row_f32(1, &lengths), Err(ragged));
        assert_eq!(numbers.row_f32(2, &lengths), Err(Fault::Null));
        assert_eq!(numbers.row_f32(3, &lengths), Err(Fault::Null));
    }

    #[test]
    fn nested_lists_are_checked_along_every_axis() {
        let inner = ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(3.0), Some(4.0)]),
            Some(vec![Some(5.0), Some(6.0)]),
            Some(vec![Some(7.0)]),
        ]);
        let field =
            Arc::new(arrow::datatypes::Field::new_list_field(inner.data_type().clone(), true));
        let outer = FixedSizeListArray::new(field, 2, Arc::new(inner), None);
        let numbers = Numbers::new(&(Arc::new(outer) as ArrayRef), Dtype::F32).unwrap();
        let lengths = numbers.lengths(0);
        assert_eq!(lengths, [2, 2]);
        assert_eq!(numbers.row_f32(0, &lengths), Ok([1.0, 2.0, 3.0, 4.0].as_slice()));
        let ragged = Fault::Ragged { axis: 1, found: 1, wanted: 2 };
        assert_eq!(numbers.row_f32(1, &lengths), Err(ragged));
    }

    #[test]
    fn scalars_are_rows_of_one_value() {
        let scalars: ArrayRef = Arc::new(Float64Array::from(vec![1.5, 2.5]));
        let numbers = Numbers::new(&scalars, Dtype::F32).unwrap();
        assert_eq!(numbers.lengths(1), Vec::<usize>::new());
        assert_eq!(numbers.row_f32(1, &[]), Ok([2.5].as_slice()));
    }
}
