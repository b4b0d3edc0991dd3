//! Scalar columns of mixed types as one vector: numbers, scaled or not, or in buckets; strings
//! and booleans as one-hot vectors over the training rows' categories, or hashed.
//!
//! A missing number becomes the training mean; a missing string or boolean is a category of its
//! own, first in order; a category that training did not see is all zeros. Where every column is in
//! buckets or hashed, each row has just one 1 for each column, and the vector is kept as their
//! places.

use arrowhop_types::{Dtype, Encoding, InputSpec, Problems};

use crate::error::gather;
use crate::scalars::{is_number, numbers, strings};
use crate::spec::{ELEMENTS_MAX, Scale, TableInputs};
use crate::statistics::Statistics;
use crate::table::{Chunk, Table};

/// Columns that number rows rather than describe them (the second is how pandas writes an index).
const ROW_NAMES: [&str; 2] = ["id", "__index_level_0__"];

/// How columns become an input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TableEncoder {
    /// What is done with numbers.
    pub(crate) scale: Scale,
    /// The columns, in order.
    pub(crate) columns: Vec<TableColumn>,
}

/// One column and what is known of it.
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
    /// Numbers, with the training rows' mean, population standard deviation and range.
    Number { mean: f64, deviation: f64, least: f64, greatest: f64 },
    /// One of the training rows' values, sorted; `None`, a missing value, first.
    Category(Vec<Option<String>>),
    /// Numbers that fall into buckets between these bounds.
    Bucket(Vec<f64>),
    /// Texts that are hashed into so many buckets. Numbers may be written as texts.
    Hash { buckets: u32, is_number: bool },
}

/// What is asked of a column before any row is read.
enum Wanted {
    /// Numbers or categories, by what the training rows say.
    Statistics { is_number: bool },
    /// This.
    Given(ColumnKind),
}

impl TableEncoder {
    /// Chooses columns of a training file and takes their statistics over `rows` (ascending).
    pub(crate) fn resolve(
        table: &Table,
        inputs: &TableInputs,
        taken: &[&str],
        rows: &[u32],
    ) -> Result<Self, Problems> {
        let names: Vec<&str> = match &inputs.columns {
            Some(columns) => columns.iter().map(String::as_str).collect(),
            None => {
                let fields = table.schema().fields().iter().map(|field| field.name().as_str());
                fields.filter(|name| !taken.contains(name) && !ROW_NAMES.contains(name)).collect()
            }
        };
        if names.is_empty() {
            return Err(Problems::one(table.name(), "has no column but the target and ids"));
        }
        let mut problems = Problems::new();
        let wanted: Vec<Wanted> = names
            .iter()
            .filter_map(|name| gather(&mut problems, Wanted::of(table, inputs, name)))
            .collect();
        let mut seen =
            problems.or(()).and_then(|()| statistics(table, &names, &wanted, rows))?.into_iter();
        let mut problems = Problems::new();
        let columns = names.iter().zip(wanted).filter_map(|(name, wanted)| match wanted {
            Wanted::Given(kind) => Some(TableColumn { name: (*name).to_owned(), kind }),
            Wanted::Statistics { .. } => {
                let total = seen.next().expect("each column that needs statistics has them");
                gather(&mut problems, total.column(table, name))
            }
        });
        let columns = columns.collect();
        let encoder = problems.or(Self { scale: inputs.scale, columns })?;
        if encoder.width() > ELEMENTS_MAX {
            let text = format!("becomes {} inputs, over {ELEMENTS_MAX}", encoder.width());
            return Err(Problems::one(table.name(), text));
        }
        Ok(encoder)
    }

    /// What rows become.
    pub(crate) fn input(&self, name: &str) -> InputSpec {
        let width = self.width();
        if self.has_places() {
            let width = u32::try_from(width).expect("an example has at most 2^24 elements");
            return InputSpec {
                name: name.to_owned(),
                shape: vec![self.columns.len()],
                dtype: Dtype::I32,
                encoding: Encoding::OneHot { width },
            };
        }
        InputSpec { name: name.to_owned(), ..InputSpec::numbers(vec![width], Dtype::F32, 1.0) }
    }

    /// The columns' names.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|column| column.name.as_str()).collect()
    }

    /// Whether a file has these columns, with types that fit.
    pub(crate) fn check(&self, table: &Table) -> Result<(), Problems> {
        let mut problems = Problems::new();
        for column in &self.columns {
            let wanted = match column.kind {
                ColumnKind::Number { .. } | ColumnKind::Bucket(_) => true,
                ColumnKind::Category(_) => false,
                ColumnKind::Hash { is_number, .. } => is_number,
            };
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
            let places = places.iter_mut().map(|place| &mut place[start..start + width]);
            let done = if let ColumnKind::Number { mean, deviation, least, greatest } = column.kind
            {
                numbers(table, &chunk, &column.name).map(|values| {
                    let (zero, unit) = match self.scale {
                        Scale::Unscaled => (0.0, 1.0),
                        Scale::Standardise => (mean, deviation),
                        Scale::MinMax => (least, greatest - least),
                    };
                    for (value, place) in values.iter().zip(places) {
                        place[0] = scaled(value.unwrap_or(mean), zero, unit);
                    }
                })
            } else {
                column.each_place(table, &chunk, places, |place, one| {
                    if let Some(one) = one {
                        place[one] = 1.0;
                    }
                })
            };
            gather(&mut problems, done);
            start += width;
        }
        problems.or(())
    }

    /// Writes the places of the rows' ones, one for each column.
    pub(crate) fn encode_places(
        &self,
        table: &Table,
        mut chunk: Chunk<'_, &mut [i32]>,
    ) -> Result<(), Problems> {
        let mut problems = Problems::new();
        let mut rows = std::mem::take(&mut chunk.items);
        let mut start = 0;
        for (number, column) in self.columns.iter().enumerate() {
            let places = rows.iter_mut().map(|row| &mut row[number]);
            let done = column.each_place(table, &chunk, places, |place, one| {
                let one = start + one.expect("buckets and hashes know every value");
                *place = i32::try_from(one).expect("an example has at most 2^24 elements");
            });
            gather(&mut problems, done);
            start += column.width();
        }
        problems.or(())
    }

    /// Whether every row has just one 1 for each column.
    fn has_places(&self) -> bool {
        let has =
            |kind: &ColumnKind| matches!(kind, ColumnKind::Bucket(_) | ColumnKind::Hash { .. });
        self.columns.iter().all(|column| has(&column.kind))
    }

    fn width(&self) -> usize {
        self.columns.iter().map(TableColumn::width).sum()
    }
}

impl Wanted {
    fn of(table: &Table, inputs: &TableInputs, name: &str) -> Result<Self, Problems> {
        let is_number = is_number(table, name)?;
        let is_category = !is_number || inputs.categories.iter().any(|other| other == name);
        Ok(match (is_category, inputs.hash_buckets) {
            (true, Some(buckets)) => Self::Given(ColumnKind::Hash { buckets, is_number }),
            (true, None) if is_number => {
                let text = "is to be categories, and numbers are only hashed: give hash_buckets";
                return Err(Problems::one(table.column_place(name), text));
            }
            (true, None) => Self::Statistics { is_number: false },
            (false, _) if inputs.bounds.is_empty() => Self::Statistics { is_number: true },
            (false, _) => Self::Given(ColumnKind::Bucket(inputs.bounds.clone())),
        })
    }
}

/// The statistics of the columns that need them, in their order.
fn statistics(
    table: &Table,
    names: &[&str],
    wanted: &[Wanted],
    rows: &[u32],
) -> Result<Vec<Statistics>, Problems> {
    let needed: Vec<(&str, bool)> = names
        .iter()
        .zip(wanted)
        .filter_map(|(name, wanted)| match wanted {
            Wanted::Statistics { is_number } => Some((*name, *is_number)),
            Wanted::Given(_) => None,
        })
        .collect();
    if needed.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<&str> = needed.iter().map(|(name, _)| *name).collect();
    let parts = table.scan(&names, rows, vec![(); rows.len()], |chunk| {
        let mut problems = Problems::new();
        let found: Vec<Statistics> = needed
            .iter()
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
    Ok(totals.expect("training has rows"))
}

impl TableColumn {
    fn width(&self) -> usize {
        match &self.kind {
            ColumnKind::Number { .. } => 1,
            ColumnKind::Category(categories) => categories.len(),
            ColumnKind::Bucket(bounds) => bounds.len() + 1,
            ColumnKind::Hash { buckets, .. } => *buckets as usize,
        }
    }

    /// Shows `write` each row's item and where within the column its 1 is.
    fn each_place<S, T>(
        &self,
        table: &Table,
        chunk: &Chunk<'_, S>,
        items: impl Iterator<Item = T>,
        mut write: impl FnMut(T, Option<usize>),
    ) -> Result<(), Problems> {
        match &self.kind {
            ColumnKind::Number { .. } => unreachable!("a number has no place"),
            ColumnKind::Category(categories) => {
                let values = strings(table, chunk, &self.name)?;
                for (value, item) in values.iter().zip(items) {
                    write(item, categories.binary_search_by(|c| c.as_deref().cmp(&value)).ok());
                }
            }
            ColumnKind::Bucket(bounds) => {
                let values = numbers(table, chunk, &self.name)?;
                for (value, item) in values.iter().zip(items) {
                    let below = |value| bounds.partition_point(|bound| *bound <= value);
                    write(item, Some(value.map_or(0, below)));
                }
            }
            ColumnKind::Hash { buckets, .. } => {
                let values = strings(table, chunk, &self.name)?;
                for (value, item) in values.iter().zip(items) {
                    write(item, Some(hash(value.unwrap_or_default(), *buckets)));
                }
            }
        }
        Ok(())
    }
}

/// The bucket of a text.
fn hash(text: &str, buckets: u32) -> usize {
    let digest = blake3::hash(text.as_bytes());
    let first = digest.as_bytes().first_chunk().expect("a digest has 32 bytes");
    let bucket = u64::from_le_bytes(*first) % u64::from(buckets);
    usize::try_from(bucket).expect("there are at most 2^24 buckets")
}

/// A constant column has a unit of 0 and becomes zeros.
#[expect(clippy::cast_possible_truncation, reason = "inputs are single precision")]
fn scaled(value: f64, zero: f64, unit: f64) -> f32 {
    if unit > 0.0 { ((value - zero) / unit) as f32 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use arrow::array::{
        BooleanArray, Date32Array, Float64Array, Int32Array, Int64Array, StringArray,
    };

    use crate::fixtures::{
        all_columns, column, file_spec, problems, train_of, validation_of, with_validation, write,
    };
    use crate::{Inputs, Scale, TableInputs, prepare};

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
        assert_eq!(prepared.data_set.inputs[0].shape, [6]);
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

    /// From 0 to 1 over the training rows that have a value; beyond them alike; a constant is 0 even where
    /// a new row differs, and a gap the training mean.
    #[test]
    fn numbers_are_brought_to_the_training_rows_range() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, a: &[Option<f64>], b: &[f64], y: &[i32]| {
            let columns = [
                column("a", Float64Array::from(a.to_vec())),
                column("b", Float64Array::from(b.to_vec())),
                column("y", Int32Array::from(y.to_vec())),
            ];
            write(dir.path(), name, &columns)
        };
        let ages = [Some(-2.0), Some(1.0), None, Some(6.0)];
        let train = file("train", &ages, &[0.7; 4], &[0, 1, 0, 1]);
        let others = file("others", &[Some(-10.0), Some(14.0)], &[0.7, 5.0], &[0, 1]);
        let inputs = Inputs::Table(TableInputs { scale: Scale::MinMax, ..TableInputs::default() });
        let spec = with_validation(file_spec(&train, inputs), &others);
        let prepared = prepare(&spec).unwrap();
        let sorted = |mut rows: Vec<crate::fixtures::Row>| {
            rows.sort_by_key(|(row, ..)| *row);
            rows.into_iter().map(|(_, x, _)| x).collect::<Vec<_>>()
        };
        let mean = 5.0_f64 / 3.0;
        #[expect(clippy::cast_possible_truncation, reason = "inputs are single precision")]
        let gap = ((mean + 2.0) / 8.0) as f32;
        assert_eq!(sorted(train_of(&prepared)), [[0.0, 0.0], [0.375, 0.0], [gap, 0.0], [1.0, 0.0]]);
        assert_eq!(sorted(validation_of(&prepared)), [[-1.0, 0.0], [2.0, 0.0]]);
        let preparation = &prepared.data_set.preparation;
        assert!(preparation.contains(r#""least":"-2","greatest":"6""#), "{preparation}");
    }

    #[test]
    fn named_columns_are_taken_in_their_order_and_gaps_become_the_mean() {
        let dir = tempfile::tempdir().unwrap();
        let columns = Some(vec!["id".into(), "age".into()]);
        let inputs = Inputs::Table(TableInputs { columns, ..TableInputs::default() });
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

    /// A number with a gap in three buckets, and a text with a gap and a number in five each.
    #[test]
    fn buckets_and_hashes_are_kept_as_the_places_of_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = people(dir.path());
        let table = TableInputs {
            columns: Some(vec!["age".into(), "job".into(), "id".into()]),
            categories: vec!["id".into()],
            bounds: vec![2.0, 5.0],
            hash_buckets: Some(5),
            ..TableInputs::default()
        };
        let prepared = prepare(&file_spec(&path, Inputs::Table(table.clone()))).unwrap();
        let input = &prepared.data_set.inputs[0];
        assert_eq!((input.dtype, input.shape.as_slice()), (Dtype::I32, [3].as_slice()));
        assert_eq!(input.encoding, Encoding::OneHot { width: 13 });
        let mut rows = train_of(&prepared);
        rows.sort_by_key(|(row, ..)| *row);
        let places: Vec<_> = rows.into_iter().map(|(_, x, _)| x).collect();
        let hashed = |text: &str| f32::from(u8::try_from(hash(text, 5)).unwrap());
        let ages = [0.0, 1.0, 0.0, 2.0];
        for (i, (job, id)) in [("b", "7"), ("", "8"), ("a", "9"), ("b", "10")].iter().enumerate() {
            assert_eq!(places[i], [ages[i], 3.0 + hashed(job), 8.0 + hashed(id)]);
        }
        assert_eq!(hash("arrowhop", 256), HASH_OF_ARROWHOP);

        // With a column that is not, the vector is written out.
        let table = TableInputs {
            columns: Some(vec!["age".into(), "is_new".into()]),
            hash_buckets: None,
            categories: Vec::new(),
            ..table
        };
        let prepared = prepare(&file_spec(&path, Inputs::Table(table.clone()))).unwrap();
        let mut rows = train_of(&prepared);
        rows.sort_by_key(|(row, ..)| *row);
        assert_eq!(rows[3].1, [0.0, 0.0, 1.0, 0.0, 1.0]);
        let categories = TableInputs { categories: vec!["age".into()], ..table };
        assert_eq!(
            problems(dir.path(), &file_spec(&path, Inputs::Table(categories))),
            "people, column `age`: is to be categories, and numbers are only hashed: give \
             hash_buckets"
        );
    }

    /// A change here changes every hashed data set: never edit it.
    const HASH_OF_ARROWHOP: usize = 45;

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
        let inputs = Inputs::Table(TableInputs {
            columns,
            scale: Scale::Standardise,
            ..TableInputs::default()
        });
        assert_eq!(
            problems(dir.path(), &file_spec(&path, inputs)),
            "dates, column `gone`: there is no such column; there are `born`, `n`, `text`, `y`"
        );
        let columns = Some(vec!["n".into(), "text".into()]);
        let inputs = Inputs::Table(TableInputs {
            columns,
            scale: Scale::Standardise,
            ..TableInputs::default()
        });
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
