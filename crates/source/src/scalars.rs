//! Reads scalar columns of mixed types: numbers as f64, strings and booleans as strings.

use arrow::array::{AsArray, Float64Array, StringArray};
use arrow::datatypes::{DataType, Float64Type};
use arrowhop_types::Problems;

use crate::classes::texts;
use crate::numbers::cast_exactly;
use crate::table::{Chunk, Table};

/// Whether a column is one of numbers; else it is one of categories.
pub(crate) fn is_number(table: &Table, name: &str) -> Result<bool, Problems> {
    fn kind(data_type: &DataType) -> Option<bool> {
        match data_type {
            DataType::Dictionary(_, values) => kind(values),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean => {
                Some(false)
            }
            other => other.is_numeric().then_some(true),
        }
    }
    let data_type = table.field(name)?.data_type();
    kind(data_type).ok_or_else(|| {
        let text = format!(
            "holds {data_type}; a table's columns are numbers, strings or booleans: cast it, or \
             leave it out of columns"
        );
        Problems::one(table.column_place(name), text)
    })
}

/// A column of numbers; every one of them is finite as f32.
pub(crate) fn numbers<S>(
    table: &Table,
    chunk: &Chunk<'_, S>,
    name: &str,
) -> Result<Float64Array, Problems> {
    let values = cast_exactly(&chunk.column(name), &DataType::Float64)
        .map_err(|error| Problems::one(table.column_place(name), error.to_string()))?;
    let values = values.as_primitive::<Float64Type>().clone();
    let mut problems = Problems::new();
    for (value, row) in values.iter().zip(chunk.rows) {
        if value.is_some_and(|value| !value.is_finite() || value.abs() > f64::from(f32::MAX)) {
            let text = "is not finite as f32; make it null if it is missing";
            problems.push(table.row_place(name, *row), text);
        }
    }
    problems.or(values)
}

/// A column of strings or booleans, as strings.
pub(crate) fn strings<S>(
    table: &Table,
    chunk: &Chunk<'_, S>,
    name: &str,
) -> Result<StringArray, Problems> {
    texts(&chunk.column(name)).map_err(|text| Problems::one(table.column_place(name), text))
}
