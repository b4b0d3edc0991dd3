//! What the training rows say of a scalar column: mean, deviation and range, or its categories. Chunks are
//! summed up alone and then added in the file's order, so that threads change no bit.

use std::collections::BTreeSet;

use arrow::array::Array;
use arrowhop_types::Problems;

use crate::scalars::{numbers, strings};
use crate::table::{Chunk, Table};
use crate::tabular::{ColumnKind, TableColumn};

/// Categories of one column are at most this many.
const CATEGORIES_MAX: usize = 10_000;
/// A category's text is at most this long, in bytes.
const CATEGORY_BYTES_MAX: usize = 256;

/// What is known of a column from some of its rows.
pub(crate) enum Statistics {
    /// Count, mean, sum of squared distances from the mean, least and greatest.
    Number { count: f64, mean: f64, squares: f64, least: f64, greatest: f64 },
    /// Whether a value is missing, and the values there are.
    Category { has_missing: bool, values: BTreeSet<String> },
}

impl Statistics {
    /// Of one chunk of a column.
    pub(crate) fn of(
        table: &Table,
        chunk: &Chunk<'_, ()>,
        name: &str,
        is_number: bool,
    ) -> Result<Self, Problems> {
        if is_number {
            let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
            let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
            // B. P. Welford, Technometrics 4(3), 1962: one pass, no cancellation.
            for value in numbers(table, chunk, name)?.iter().flatten() {
                count += 1.0;
                let distance = value - mean;
                mean += distance / count;
                squares += distance * (value - mean);
                least = least.min(value);
                greatest = greatest.max(value);
            }
            return Ok(Self::Number { count, mean, squares, least, greatest });
        }
        let column = strings(table, chunk, name)?;
        let mut values = BTreeSet::new();
        let mut problems = Problems::new();
        for (value, row) in column.iter().zip(chunk.rows) {
            match value {
                Some(text) if text.len() > CATEGORY_BYTES_MAX => {
                    let text = format!("is a text of {} bytes, no category", text.len());
                    problems.push(table.row_place(name, *row), text);
                }
                Some(text) if !values.contains(text) && values.len() <= CATEGORIES_MAX => {
                    values.insert(text.to_owned());
                }
                _ => {}
            }
        }
        problems.or(Self::Category { has_missing: column.null_count() > 0, values })
    }

    /// Adds another run of rows. Numbers: T. F. Chan, G. H. Golub, R. J. LeVeque, *Updating
    /// Formulae and a Pairwise Algorithm for Computing Sample Variances*, 1979, formula 2.1.
    pub(crate) fn add(&mut self, other: Self) {
        match (self, other) {
            (
                Self::Number { count, mean, squares, least, greatest },
                Self::Number {
                    count: more,
                    mean: other_mean,
                    squares: other_squares,
                    least: other_least,
                    greatest: other_greatest,
                },
            ) => {
                *least = least.min(other_least);
                *greatest = greatest.max(other_greatest);
                let total = *count + more;
                if total > 0.0 {
                    let distance = other_mean - *mean;
                    *squares += other_squares + distance * distance * *count * more / total;
                    *mean += distance * more / total;
                    *count = total;
                }
            }
            (
                Self::Category { has_missing, values },
                Self::Category { has_missing: also, values: more },
            ) => {
                *has_missing |= also;
                if values.len() <= CATEGORIES_MAX {
                    values.extend(more);
                }
            }
            _ => unreachable!("a column is of one kind in all chunks"),
        }
    }

    /// The column, once all training rows were seen.
    pub(crate) fn column(self, table: &Table, name: &str) -> Result<TableColumn, Problems> {
        let wrong = |text: String| Err(Problems::one(table.column_place(name), text));
        let kind = match self {
            Self::Number { count: 0.0, .. } => {
                return wrong("has no value in any training row; leave it out of columns".into());
            }
            Self::Number { count, mean, squares, least, greatest } => {
                let deviation = (squares / count).sqrt();
                ColumnKind::Number { mean, deviation, least, greatest }
            }
            Self::Category { values, .. } if values.len() > CATEGORIES_MAX => {
                return wrong(format!(
                    "has over {CATEGORIES_MAX} categories; leave it out of columns, or group them"
                ));
            }
            Self::Category { has_missing, values } => {
                let missing = has_missing.then_some(None);
                ColumnKind::Category(
                    missing.into_iter().chain(values.into_iter().map(Some)).collect(),
                )
            }
        };
        Ok(TableColumn { name: name.to_owned(), kind })
    }
}
