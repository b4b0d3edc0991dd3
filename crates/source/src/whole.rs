//! One column of whole numbers: sequences of tokens, brought to one length, or the places of ones in
//! a vector. Both are kept as the numbers that they are.

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrowhop_types::{Dtype, Encoding, InputSpec, Problems};

use crate::numbers::{Numbers, number_type};
use crate::spec::{ELEMENTS_MAX, Side};
use crate::table::{Chunk, Table};

/// Tokens are below this: trainers hand them on as f32, which counts so far by ones.
const TOKENS_MAX: i32 = 1 << 24;

/// How a column becomes an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WholeEncoder {
    /// The column.
    pub(crate) column: String,
    /// Numbers of every example.
    pub(crate) length: usize,
    /// What they are.
    pub(crate) meaning: Meaning,
}

/// What the numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Tokens. Short sequences get zeros on one side, long ones are cut on one.
    Tokens { padding: Side, truncating: Side },
    /// Places of ones in a vector of this length; all rows have as many.
    OneHot { width: u32 },
}

impl WholeEncoder {
    /// Finds out how long sequences of a training file are, from `rows` (ascending).
    pub(crate) fn tokens(
        table: &Table,
        column: &str,
        length: Option<usize>,
        [padding, truncating]: [Side; 2],
        rows: &[u32],
    ) -> Result<Self, Problems> {
        check_type(table, column)?;
        let length = match length {
            Some(length) => length,
            None => longest(table, column, rows)?,
        };
        let meaning = Meaning::Tokens { padding, truncating };
        Ok(Self { column: column.to_owned(), length, meaning })
    }

    /// Finds out how many places a training file's rows have, from the first row used.
    pub(crate) fn one_hot(
        table: &Table,
        column: &str,
        width: u32,
        row: u32,
    ) -> Result<Self, Problems> {
        check_type(table, column)?;
        let length = longest(table, column, &[row])?;
        Ok(Self { column: column.to_owned(), length, meaning: Meaning::OneHot { width } })
    }

    /// What rows become. How many tokens there are is not known yet.
    pub(crate) fn input(&self, name: &str) -> InputSpec {
        let encoding = match self.meaning {
            Meaning::Tokens { .. } => Encoding::Tokens { vocabulary: 0 },
            Meaning::OneHot { width } => Encoding::OneHot { width },
        };
        InputSpec { name: name.to_owned(), shape: vec![self.length], dtype: Dtype::I32, encoding }
    }

    /// Whether a file has such a column.
    pub(crate) fn check(&self, table: &Table) -> Result<(), Problems> {
        check_type(table, &self.column)
    }

    /// Writes rows into their places, which are zero.
    pub(crate) fn encode(
        &self,
        table: &Table,
        chunk: Chunk<'_, &mut [i32]>,
    ) -> Result<(), Problems> {
        let numbers = numbers(table, &self.column, &chunk.column(&self.column))?;
        let mut problems = Problems::new();
        for (i, (row, place)) in chunk.rows.iter().zip(chunk.items).enumerate() {
            let written = numbers
                .list_i32(i)
                .map_err(|fault| fault.to_string())
                .and_then(|found| self.write(found, place));
            if let Err(text) = written {
                problems.push(table.row_place(&self.column, *row), text);
            }
        }
        problems.or(())
    }

    fn write(&self, found: &[i32], place: &mut [i32]) -> Result<(), String> {
        let (limit, what) = match self.meaning {
            Meaning::Tokens { .. } => (TOKENS_MAX, "tokens"),
            Meaning::OneHot { width } => (i32::try_from(width).unwrap_or(i32::MAX), "places"),
        };
        if let Some(value) = found.iter().find(|value| !(0..limit).contains(value)) {
            return Err(format!("holds {value}, but {what} are 0 to {}", limit - 1));
        }
        let (length, count) = (self.length, found.len());
        match self.meaning {
            Meaning::OneHot { .. } if count != length => {
                return Err(format!("has {count} places, where other rows have {length}"));
            }
            Meaning::Tokens { truncating: Side::Start, .. } if count > length => {
                place.copy_from_slice(&found[count - length..]);
            }
            Meaning::Tokens { .. } if count > length => place.copy_from_slice(&found[..length]),
            Meaning::Tokens { padding: Side::Start, .. } => {
                place[length - count..].copy_from_slice(found);
            }
            Meaning::Tokens { .. } | Meaning::OneHot { .. } => {
                place[..count].copy_from_slice(found);
            }
        }
        Ok(())
    }
}

fn check_type(table: &Table, column: &str) -> Result<(), Problems> {
    let data_type = table.field(column)?.data_type();
    let is_list_of_lists = matches!(
        data_type,
        DataType::List(field) | DataType::LargeList(field) | DataType::FixedSizeList(field, _)
            if field.data_type().is_nested()
    );
    if is_list_of_lists || !number_type(data_type).is_some_and(DataType::is_integer) {
        let text = format!(
            "holds {data_type}; tokens and places of ones are whole numbers, alone or in lists"
        );
        return Err(Problems::one(table.column_place(column), text));
    }
    Ok(())
}

/// The numbers of the row that has most of them, among some.
fn longest(table: &Table, column: &str, rows: &[u32]) -> Result<usize, Problems> {
    let parts = table.scan(&[column], rows, vec![(); rows.len()], |chunk| {
        let numbers = numbers(table, column, &chunk.column(column))?;
        // A row that cannot be read is reported where it is decoded.
        let lengths =
            (0..chunk.rows.len()).filter_map(|row| Some(numbers.list_i32(row).ok()?.len()));
        Ok(lengths.max().unwrap_or(0))
    })?;
    match parts.into_iter().max().unwrap_or(0) {
        0 => Err(Problems::one(table.column_place(column), "has no number in any training row")),
        longest if longest > ELEMENTS_MAX => {
            let text =
                format!("has a row of {longest} numbers, over {ELEMENTS_MAX}; give `length`");
            Err(Problems::one(table.column_place(column), text))
        }
        longest => Ok(longest),
    }
}

fn numbers(table: &Table, column: &str, array: &ArrayRef) -> Result<Numbers, Problems> {
    Numbers::new(array, Dtype::I32)
        .map_err(|error| Problems::one(table.column_place(column), error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use arrow::array::{Array, Float64Array, Int32Array, ListArray};
    use arrow::datatypes::{Int64Type, UInt8Type};

    use super::*;
    use crate::fixtures::{column, file_spec, problems, train_of, with_validation, write};
    use crate::{Inputs, prepare};

    fn file(dir: &Path, name: &str, x: impl Array + 'static) -> PathBuf {
        let y = Int32Array::from_iter_values((0..x.len()).map(|i| i32::try_from(i % 2).unwrap()));
        write(dir, name, &[column("x", x), column("y", y)])
    }

    fn lists(rows: &[&[i64]]) -> ListArray {
        let rows = rows.iter().map(|row| Some(row.iter().map(|&value| Some(value))));
        ListArray::from_iter_primitive::<Int64Type, _, _>(rows)
    }

    fn tokens(length: Option<usize>, padding: Side, truncating: Side) -> Inputs {
        Inputs::Tokens { column: "x".into(), length, padding, truncating }
    }

    /// Rows in the file's order, and what they are.
    fn prepared(path: &Path, inputs: Inputs) -> (InputSpec, Vec<Vec<f32>>) {
        let prepared = prepare(&file_spec(path, inputs)).unwrap();
        let mut rows = train_of(&prepared);
        rows.sort_by_key(|(row, ..)| *row);
        (prepared.data_set.inputs[0].clone(), rows.into_iter().map(|(_, x, _)| x).collect())
    }

    #[test]
    fn sequences_are_padded_and_cut_on_the_sides_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "t", lists(&[&[1, 2, 3], &[], &[7], &[4, 5]]));
        let (input, rows) = prepared(&path, tokens(None, Side::Start, Side::Start));
        assert_eq!((input.shape, input.dtype), (vec![3], Dtype::I32));
        assert_eq!(input.encoding, Encoding::Tokens { vocabulary: 8 });
        assert_eq!(rows, [[1.0, 2.0, 3.0], [0.0; 3], [0.0, 0.0, 7.0], [0.0, 4.0, 5.0]]);
        let (_, rows) = prepared(&path, tokens(Some(2), Side::End, Side::Start));
        assert_eq!(rows, [[2.0, 3.0], [0.0; 2], [7.0, 0.0], [4.0, 5.0]]);
        let (_, rows) = prepared(&path, tokens(Some(2), Side::End, Side::End));
        assert_eq!(rows[0], [1.0, 2.0]);
    }

    #[test]
    fn a_number_is_a_sequence_of_one_and_bytes_are_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "t", Int32Array::from(vec![5, 0]));
        let (input, rows) = prepared(&path, tokens(None, Side::Start, Side::Start));
        assert_eq!((input.shape, rows), (vec![1], vec![vec![5.0], vec![0.0]]));
        let bytes = [[1_u8, 255], [0, 3]].map(|row| Some(row.map(Some)));
        let bytes = ListArray::from_iter_primitive::<UInt8Type, _, _>(bytes);
        let path = file(dir.path(), "bytes", bytes);
        let (input, _) = prepared(&path, Inputs::OneHot { column: "x".into(), width: 256 });
        assert_eq!((input.network_shape(), input.elements()), (vec![256], 2));
    }

    /// A validation file may have tokens that training does not.
    #[test]
    fn the_vocabulary_is_that_of_all_rows() {
        let dir = tempfile::tempdir().unwrap();
        let train = file(dir.path(), "train", lists(&[&[1], &[2]]));
        let other = file(dir.path(), "other", lists(&[&[9, 3]]));
        let spec = file_spec(&train, tokens(None, Side::Start, Side::Start));
        let set = prepare(&with_validation(spec, &other)).unwrap().data_set;
        assert_eq!(set.inputs[0].encoding, Encoding::Tokens { vocabulary: 4 });
        assert_eq!(set.inputs[0].shape, [1], "the longest training row's, cut at the start");
    }

    #[test]
    fn rows_that_are_no_tokens_or_places_are_all_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "t", lists(&[&[1, 2], &[-1, 0], &[1 << 24], &[3]]));
        assert_eq!(
            problems(dir.path(), &file_spec(&path, tokens(Some(1), Side::Start, Side::Start))),
            "t, column `x`, row 1: holds -1, but tokens are 0 to 16777215\n\
             t, column `x`, row 2: holds 16777216, but tokens are 0 to 16777215"
        );
        let first_row_counts = Inputs::OneHot { column: "x".into(), width: 3 };
        let found = problems(dir.path(), &file_spec(&path, first_row_counts));
        assert_eq!(
            found,
            "t, column `x`, row 1: holds -1, but places are 0 to 2\n\
             t, column `x`, row 2: holds 16777216, but places are 0 to 2\n\
             t, column `x`, row 3: holds 3, but places are 0 to 2"
        );
        let path = file(dir.path(), "short", lists(&[&[1, 2], &[1]]));
        let two = Inputs::OneHot { column: "x".into(), width: 3 };
        assert_eq!(
            problems(dir.path(), &file_spec(&path, two)),
            "short, column `x`, row 1: has 1 places, where other rows have 2"
        );
        let path = file(dir.path(), "floats", Float64Array::from(vec![1.0]));
        assert_eq!(
            problems(dir.path(), &file_spec(&path, tokens(None, Side::End, Side::End))),
            "floats, column `x`: holds Float64; tokens and places of ones are whole numbers, alone \
             or in lists"
        );
        let path = file(dir.path(), "none", lists(&[&[], &[]]));
        assert_eq!(
            problems(dir.path(), &file_spec(&path, tokens(None, Side::End, Side::End))),
            "none, column `x`: has no number in any training row"
        );
    }
}
