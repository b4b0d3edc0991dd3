//! Scalar columns of mixed types as one vector of f32: numbers, standardised or not, and strings
//! and booleans as one-hot vectors over the training rows' categories.
//!
//! A missing number becomes the training mean; a missing string or boolean is a category of its
//! own, first in order; a category that training did not see is all zeros.

use arrowhop_types::{Dtype, InputSpec, Problems};

use crate::error::gather;
use crate::scalars::{is_number, numbers, strings};
use crate::spec::ELEMENTS_MAX;
use crate::statistics::Statistics;
use crate::table::{Chunk, Table};

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
                let fields = table.schema().fields().iter().map(|field| field.name().as_str());
                fields.filter(|name| *name != target && !ROW_NAMES.contains(name)).collect()
            }
        };
        if names.is_empty() {
            return Err(Problems::one(table.name(), "has no column but the target and ids"));
        }
        let mut problems = Problems::new();
        let kinds: Vec<bool> =
            names.iter().filter_map(|name| gather(&mut problems, is_number(table, name))).collect();
        problems.or(())?;
        let parts = table.scan(&names, rows, vec![(); rows.len()], |chunk| {
            let mut problems = Problems::new();
            let found: Vec<Statistics> = names
                .iter()
                .zip(&kinds)
                .filter_map(|(name, is_number)| {
                    gather(&mut problems, Statistics::of(table, &chunk, name, *is_number))
                })
                .collect();
            problems.or(found)
        })?;
        let totals = parts.into_iter().reduce(|mut totals, part| {
            totals.iter_mut().zip(part).for_each(|(total, part)| total.add(part));
            totals
        });
        let mut problems = Problems::new();
        let columns: Vec<TableColumn> = names
            .iter()
            .zip(totals.expect("training has rows"))
            .filter_map(|(name, total)| gather(&mut problems, total.column(table, name)))
            .collect();
        let encoder = problems.or(Self { standardise, columns })?;
        if encoder.width() > ELEMENTS_MAX {
            let text = format!("becomes {} inputs, over {ELEMENTS_MAX}", encoder.width());
            return Err(Problems::one(table.name(), text));
        }
        Ok(encoder)
    }

    /// What rows become.
    pub(crate) fn input(&self) -> InputSpec {
        InputSpec { shape: vec![self.width()], dtype: Dtype::F32, normalize: 1.0 }
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
            let mut places = places.iter_mut().map(|place| &mut place[start..start + width]);
            let done = match &column.kind {
                ColumnKind::Number { mean, deviation } => {
                    numbers(table, &chunk, &column.name).map(|values| {
                        let scale = if self.standardise { (*mean, *deviation) } else { (0.0, 1.0) };
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
#[expect(clippy::cast_possible_truncation, reason = "inputs are single precision")]
fn standardised(value: f64, (mean, deviation): (f64, f64)) -> f32 {
    if deviation > 0.0 { ((value - mean) / deviation) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use arrow::array::{
        BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, StringArray,
    };

    use crate::fixtures::{
        all_columns, column, file_spec, problems, train_of, validation_of, with_validation, write,
    };
    use crate::{Inputs, prepare};

    /// Four rows: a number with a gap, a string with a gap, a boolean, and what is not an input.
    fn people(dir: &Path) -> PathBuf {
        let ages = Float64Array::from(vec![Some(1.0), Some(2.0), None, Some(6.0)]);
        let jobs = StringArray::from(vec![Some("b"), None, Some("a"), Some("b")]);
        write(
            dir,
            "people",
            &[
                column("id", Int64Array::from(vec![7, 8, 9, 10])),
                column("age", ages),
                column("y", Int32Array::from(vec![0, 1, 0, 1])),
                column("job", jobs),
                column("is_new", BooleanArray::from(vec![true, true, false, true])),
            ],
        )
    }

    #[test]
    fn numbers_are_standardised_and_categories_are_one_hot() {
        let dir = tempfile::tempdir().unwrap();
        let prepared = prepare(&file_spec(&people(dir.path()), all_columns())).unwrap();
        assert_eq!(prepared.data_set.input.shape, [6]);
        let mut rows = train_of(&prepared);
        rows.sort_by_key(|(row, ..)| *row);
        // Mean 3, squared distances 4, 1 and 9: deviation √(14/3).
        let deviation = (14.0_f32 / 3.0).sqrt();
        let expected = [
            [-2.0 / deviation, 0.0, 0.0, 1.0, 0.0, 1.0],
            [-1.0 / deviation, 1.0, 0.0, 0.0, 0.0, 1.0],
            [0.0, 0.0, 1.0, 0.0, 1.0, 0.0],
            [3.0 / deviation, 0.0, 0.0, 1.0, 0.0, 1.0],
        ];
        for ((_, x, _), expected) in rows.iter().zip(expected) {
            for (found, wanted) in x.iter().zip(expected) {
                assert!((found - wanted).abs() < 1e-6, "{x:?}");
            }
        }
    }

    #[test]
    fn named_columns_are_taken_in_their_order_and_gaps_become_the_mean() {
        let dir = tempfile::tempdir().unwrap();
        let columns = Some(vec!["id".into(), "age".into()]);
        let inputs = Inputs::Table { columns, standardise: false };
        let mut rows = train_of(&prepare(&file_spec(&people(dir.path()), inputs)).unwrap());
        rows.sort_by_key(|(row, ..)| *row);
        assert_eq!(rows[2].1, [9.0, 3.0]);
        assert_eq!(rows[3].1, [10.0, 6.0]);
    }

    #[test]
    fn statistics_are_those_of_the_training_rows_and_new_categories_are_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let train = people(dir.path());
        let validation = write(
            dir.path(),
            "validation",
            &[
                column("is_new", BooleanArray::from(vec![None])),
                column("job", StringArray::from(vec!["c"])),
                column("age", Int32Array::from(vec![3])),
                column("y", Int32Array::from(vec![1])),
            ],
        );
        let spec = with_validation(file_spec(&train, all_columns()), &validation);
        let prepared = prepare(&spec).unwrap();
        assert_eq!(validation_of(&prepared)[0].1, [0.0; 6]);
    }

    #[test]
    fn a_constant_column_becomes_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let same = column("same", Float64Array::from(vec![5.0; 3]));
        let y = column("y", Int32Array::from(vec![0, 1, 0]));
        let path = write(dir.path(), "constant", &[same, y]);
        let prepared = prepare(&file_spec(&path, all_columns())).unwrap();
        assert!(train_of(&prepared).iter().all(|(_, x, _)| *x == [0.0]));
    }

    #[test]
    fn columns_that_cannot_be_inputs_are_all_named() {
        let dir = tempfile::tempdir().unwrap();
        let rows = 10_001;
        let names = StringArray::from_iter_values((0..rows).map(|i| format!("name {i}")));
        let path = write(
            dir.path(),
            "bad",
            &[
                column("names", names),
                column("empty", Float64Array::from(vec![None; 10_001])),
                column("y", Int32Array::from_iter_values((0..rows).map(|i| i % 2))),
            ],
        );
        assert_eq!(
            problems(dir.path(), &file_spec(&path, all_columns())),
            "bad, column `names`: has over 10000 categories; leave it out of columns, or group \
             them\n\
             bad, column `empty`: has no value in any training row; leave it out of columns"
        );
        let path = write(
            dir.path(),
            "dates",
            &[
                column("born", Date32Array::from(vec![1, 2])),
                column("n", Float64Array::from(vec![1.0, f64::NAN])),
                column("text", StringArray::from(vec!["a".repeat(300).as_str(), "b"])),
                column("y", Int32Array::from(vec![0, 1])),
            ],
        );
        assert_eq!(
            problems(dir.path(), &file_spec(&path, all_columns())),
            "dates, column `born`: holds Date32; a table's columns are numbers, strings or \
             booleans: cast it, or leave it out of columns"
        );
        let columns = Some(vec!["n".into(), "text".into(), "gone".into()]);
        let inputs = Inputs::Table { columns, standardise: true };
        assert_eq!(
            problems(dir.path(), &file_spec(&path, inputs)),
            "dates, column `gone`: there is no such column; there are `born`, `n`, `text`, `y`"
        );
        let columns = Some(vec!["n".into(), "text".into()]);
        let inputs = Inputs::Table { columns, standardise: true };
        assert_eq!(
            problems(dir.path(), &file_spec(&path, inputs)),
            "dates, column `n`, row 1: is not finite as f32; make it null if it is missing\n\
             dates, column `text`, row 0: is a text of 300 bytes, no category"
        );
    }

    #[test]
    fn a_validation_column_of_another_kind_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let train = people(dir.path());
        let other = write(
            dir.path(),
            "other",
            &[
                column("age", StringArray::from(vec!["3"])),
                column("job", StringArray::from(vec!["b"])),
                column("y", Int32Array::from(vec![1])),
            ],
        );
        assert_eq!(
            problems(dir.path(), &with_validation(file_spec(&train, all_columns()), &other)),
            "other, column `age`: holds categories, where training had numbers\n\
             other, column `is_new`: there is no such column; there are `age`, `job`, `y`"
        );
    }
}
