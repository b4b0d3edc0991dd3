//! Scalar columns of mixed types as one vector of f32: numbers, standardised or not, and strings
//! and booleans as one-hot vectors over the training rows' categories.
//!
//! A missing number becomes the training mean; a missing string or boolean is a category of its
//! own, first in order; a category that training did not see is all zeros.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray, Float64Array};
use arrow::datatypes::{DataType, Float64Type};
use arrowhop_types::{Dtype, InputSpec, Problems};

use crate::error::gather;
use crate::numbers::cast_exactly;
use crate::spec::ELEMENTS_MAX;
use crate::table::{Chunk, Table};
use crate::target::texts;

/// Categories of one column are at most this many.
const CATEGORIES_MAX: usize = 10_000;
/// A category's text is at most this long, in bytes.
const CATEGORY_BYTES_MAX: usize = 256;
/// Columns that number rows rather than describe them (the second is how pandas writes an index).
const ROW_NAMES: [&str; 2] = ["id", "__index_level_0__"];

/// How columns become `x`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableEncoder {
    /// Numbers are standardised.
    pub(crate) standardise: bool,
    /// The columns, in order.
    pub(crate) columns: Vec<TableColumn>,
}

/// One column and what is known of it from the training rows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableColumn {
    /// Its name.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) kind: ColumnKind,
}

/// What a column holds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ColumnKind {
    /// Numbers, with their mean and population standard deviation.
    Number { mean: f64, deviation: f64 },
    /// One of these, sorted; `None`, a missing value, first.
    Category(Vec<Option<String>>),
}

impl TableEncoder {
    /// Chooses columns of a training file and takes their statistics over `rows` (ascending).
    pub(crate) fn resolve(
        table: &Table,
        columns: Option<&[String]>,
        target: &str,
        standardise: bool,
        rows: &[u32],
    ) -> Result<Self, Problems> {
        let names: Vec<&str> = match columns {
            Some(columns) => columns.iter().map(String::as_str).collect(),
            None => {
                let fields = table
                    .schema()
                    .fields()
                    .iter()
                    .map(|field| field.name().as_str());
                fields
                    .filter(|name| *name != target && !ROW_NAMES.contains(name))
                    .collect()
            }
        };
        if names.is_empty() {
            return Err(Problems::one(
                table.name(),
                "has no column but the target and ids",
            ));
        }
        let mut problems = Problems::new();
        let kinds: Vec<bool> = names
            .iter()
            .filter_map(|name| gather(&mut problems, is_number(table, name)))
            .collect();
        problems.or(())?;
        let parts = table.scan(&names, rows, vec![(); rows.len()], |chunk| {
            let mut problems = Problems::new();
            let found: Vec<Statistics> = names
                .iter()
                .zip(&kinds)
                .filter_map(|(name, is_number)| {
                    gather(
                        &mut problems,
                        Statistics::of(table, &chunk, name, *is_number),
                    )
                })
                .collect();
            problems.or(found)
        })?;
        let totals = parts.into_iter().reduce(|mut totals, part| {
            totals
                .iter_mut()
                .zip(part)
                .for_each(|(total, part)| total.add(part));
            totals
        });
        let mut problems = Problems::new();
        let columns: Vec<TableColumn> = names
            .iter()
            .zip(totals.expect("training has rows"))
            .filter_map(|(name, total)| gather(&mut problems, total.column(table, name)))
            .collect();
        let encoder = problems.or(Self {
            standardise,
            columns,
        })?;
        if encoder.width() > ELEMENTS_MAX {
            let text = format!("becomes {} inputs, over {ELEMENTS_MAX}", encoder.width());
            return Err(Problems::one(table.name(), text));
        }
        Ok(encoder)
    }

    /// What rows become.
    pub(crate) fn input(&self) -> InputSpec {
        InputSpec {
            shape: vec![self.width()],
            dtype: Dtype::F32,
            normalize: 1.0,
        }
    }

    /// Whether a file has these columns, with types that fit.
    pub(crate) fn check(&self, table: &Table) -> Result<(), Problems> {
        let mut problems = Problems::new();
        for column in &self.columns {
            let wanted = matches!(column.kind, ColumnKind::Number { .. });
            if let Some(found) = gather(&mut problems, is_number(table, &column.name))
                && found != wanted
            {
                let kind = |is_number| if is_number { "numbers" } else { "categories" };
                problems.push(
                    table.column_place(&column.name),
                    format!("holds {}, where training had {}", kind(found), kind(wanted)),
                );
            }
        }
        problems.or(())
    }

    /// Writes rows into their places, which are zero.
    pub(crate) fn encode(
        &self,
        table: &Table,
        mut chunk: Chunk<'_, &mut [f32]>,
    ) -> Result<(), Problems> {
        let mut problems = Problems::new();
        let mut places = std::mem::take(&mut chunk.items);
        let mut start = 0;
        for column in &self.columns {
            let width = column.width();
            let mut places = places
                .iter_mut()
                .map(|place| &mut place[start..start + width]);
            let done = match &column.kind {
                ColumnKind::Number { mean, deviation } => {
                    numbers(table, &chunk, &column.name).map(|values| {
                        let scale = if self.standardise {
                            (*mean, *deviation)
                        } else {
                            (0.0, 1.0)
                        };
                        for (value, place) in values.iter().zip(&mut places) {
                            place[0] = standardised(value.unwrap_or(*mean), scale);
                        }
                    })
                }
                ColumnKind::Category(categories) => {
                    strings(table, &chunk, &column.name).map(|values| {
                        for (value, place) in values.iter().zip(&mut places) {
                            let found = categories.binary_search_by(|c| c.as_deref().cmp(&value));
                            if let Ok(category) = found {
                                place[category] = 1.0;
                            }
                        }
                    })
                }
            };
            gather(&mut problems, done);
            start += width;
        }
        problems.or(())
    }

    fn width(&self) -> usize {
        self.columns.iter().map(TableColumn::width).sum()
    }
}

impl TableColumn {
    fn width(&self) -> usize {
        match &self.kind {
            ColumnKind::Number { .. } => 1,
            ColumnKind::Category(categories) => categories.len(),
        }
    }
}

/// A constant column has deviation 0 and becomes zeros.
#[expect(
    clippy::cast_possible_truncation,
    reason = "inputs are single precision"
)]
fn standardised(value: f64, (mean, deviation): (f64, f64)) -> f32 {
    if deviation > 0.0 {
        ((value - mean) / deviation) as f32
    } else {
        0.0
    }
}

/// What is known of a column from some of its rows.
enum Statistics {
    /// Count, mean, and sum of squared distances from the mean.
    Number { count: f64, mean: f64, squares: f64 },
    /// Whether a value is missing, and the values there are.
    Category {
        has_missing: bool,
        values: BTreeSet<String>,
    },
}

impl Statistics {
    fn of(
        table: &Table,
        chunk: &Chunk<'_, ()>,
        name: &str,
        is_number: bool,
    ) -> Result<Self, Problems> {
        if is_number {
            let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
            // B. P. Welford, Technometrics 4(3), 1962: one pass, no cancellation.
            for value in numbers(table, chunk, name)?.iter().flatten() {
                count += 1.0;
                let distance = value - mean;
                mean += distance / count;
                squares += distance * (value - mean);
            }
            return Ok(Self::Number {
                count,
                mean,
                squares,
            });
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
        problems.or(Self::Category {
            has_missing: column.null_count() > 0,
            values,
        })
    }

    /// Adds another run of rows. Numbers: T. F. Chan, G. H. Golub, R. J. LeVeque, *Updating
    /// Formulae and a Pairwise Algorithm for Computing Sample Variances*, 1979, formula 2.1.
    fn add(&mut self, other: Self) {
        match (self, other) {
            (
                Self::Number {
                    count,
                    mean,
                    squares,
                },
                Self::Number {
                    count: more,
                    mean: other_mean,
                    squares: other_squares,
                },
            ) => {
                let total = *count + more;
                if total > 0.0 {
                    let distance = other_mean - *mean;
                    *squares += other_squares + distance * distance * *count * more / total;
                    *mean += distance * more / total;
                    *count = total;
                }
            }
            (
                Self::Category {
                    has_missing,
                    values,
                },
                Self::Category {
                    has_missing: also,
                    values: more,
                },
            ) => {
                *has_missing |= also;
                if values.len() <= CATEGORIES_MAX {
                    values.extend(more);
                }
            }
            _ => unreachable!("a column is of one kind in all chunks"),
        }
    }

    fn column(self, table: &Table, name: &str) -> Result<TableColumn, Problems> {
        let wrong = |text: String| Err(Problems::one(table.column_place(name), text));
        let kind = match self {
            Self::Number { count, .. } if count == 0.0 => {
                return wrong("has no value in any training row; leave it out of columns".into());
            }
            Self::Number {
                count,
                mean,
                squares,
            } => ColumnKind::Number {
                mean,
                deviation: (squares / count).sqrt(),
            },
            Self::Category { values, .. } if values.len() > CATEGORIES_MAX => {
                return wrong(format!(
                    "has over {CATEGORIES_MAX} categories; leave it out of columns, or group them"
                ));
            }
            Self::Category {
                has_missing,
                values,
            } => {
                let missing = has_missing.then_some(None);
                ColumnKind::Category(
                    missing
                        .into_iter()
                        .chain(values.into_iter().map(Some))
                        .collect(),
                )
            }
        };
        Ok(TableColumn {
            name: name.to_owned(),
            kind,
        })
    }
}

/// Whether a column is one of numbers; else it is one of categories.
fn is_number(table: &Table, name: &str) -> Result<bool, Problems> {
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

fn numbers<S>(table: &Table, chunk: &Chunk<'_, S>, name: &str) -> Result<Float64Array, Problems> {
    let values = cast_exactly(&chunk.column(name), &DataType::Float64)
        .map_err(|error| Problems::one(table.column_place(name), error.to_string()))?;
    let values = values.as_primitive::<Float64Type>().clone();
    let mut problems = Problems::new();
    for (value, row) in values.iter().zip(chunk.rows) {
        if value.is_some_and(|value| !standardised(value, (0.0, 1.0)).is_finite()) {
            let text = "is not finite as f32; make it null if it is missing";
            problems.push(table.row_place(name, *row), text);
        }
    }
    problems.or(values)
}

fn strings<S>(
    table: &Table,
    chunk: &Chunk<'_, S>,
    name: &str,
) -> Result<arrow::array::StringArray, Problems> {
    texts(&chunk.column(name)).map_err(|text| Problems::one(table.column_place(name), text))
}
