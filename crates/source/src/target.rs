//! What is learned: classes, however a column names them, or numbers.

use arrow::array::ArrayRef;
use arrowhop_types::{ClassList, Dtype, Problems, Target, TargetColumn};

use crate::classes::{self, Finder, LabelType, plain};
use crate::numbers::{Numbers, number_type};
use crate::spec::{TargetKind, TargetSpec};
use crate::table::Table;

/// Values per row are at most this many: 2¹⁶.
const VALUES_MAX: usize = 1 << 16;

/// How a target column becomes a shard's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetEncoder {
    /// The shards' column.
    pub(crate) name: String,
    /// The column.
    pub(crate) column: String,
    /// What it becomes.
    pub(crate) kind: Learned,
}

/// What a target column becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Learned {
    /// Classes, which rows name in this way.
    Classes { list: ClassList, labels: LabelType },
    /// This many numbers.
    Values(usize),
}

/// The labels of a file's rows, by row number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Labels {
    Classes(Vec<i32>),
    Values { width: usize, values: Vec<f32> },
}

impl TargetEncoder {
    /// Finds out what a training file's column says.
    pub(crate) fn resolve(table: &Table, name: &str, spec: &TargetSpec) -> Result<Self, Problems> {
        let (name, column) = (name.to_owned(), spec.column.clone());
        let field = table.field(&column)?;
        let wrong = |text: String| Problems::one(table.column_place(&column), text);
        let labels = LabelType::of(plain(field));
        let are_classes = match spec.kind {
            TargetKind::Auto => labels.is_some_and(|labels| labels != LabelType::Float),
            TargetKind::Classes => labels.is_some(),
            TargetKind::Values => false,
        };
        let kind = if are_classes {
            let (list, labels) = classes::find(table, field, spec)?;
            Learned::Classes { list, labels }
        } else if spec.kind != TargetKind::Classes && number_type(field.data_type()).is_some() {
            for (key, is_given) in
                [("num_classes", spec.num_classes.is_some()), ("null_class", spec.null_class)]
            {
                if is_given {
                    let text = format!("holds numbers to learn, which {key} does not go with");
                    return Err(wrong(text));
                }
            }
            Learned::Values(value_count(table, &column)?)
        } else if spec.kind == TargetKind::Values {
            let text = format!("holds {}, which are no numbers to learn", field.data_type());
            return Err(wrong(text));
        } else {
            return Err(wrong(format!(
                "holds {}; a target is of strings, booleans, integers, floats or lists of numbers",
                field.data_type()
            )));
        };
        Ok(Self { name, column, kind })
    }

    /// What it becomes, by the shards' name.
    pub(crate) fn learned(&self) -> TargetColumn {
        let target = match &self.kind {
            Learned::Classes { list, .. } => Target::Classes(list.clone()),
            Learned::Values(width) => Target::Values(*width),
        };
        TargetColumn { name: self.name.clone(), target }
    }

    /// The labels of the first `rows` rows of a file, or every row that has none.
    pub(crate) fn labels(&self, table: &Table, rows: u32) -> Result<Labels, Problems> {
        let field = table.field(&self.column)?;
        match &self.kind {
            Learned::Classes { list, labels } => {
                classes::check(table, field, list, *labels)?;
                self.classes(table, &Finder::new(list, *labels), rows)
            }
            Learned::Values(width) => {
                if number_type(field.data_type()).is_none() {
                    let text = format!("holds {}, where numbers are expected", field.data_type());
                    return Err(Problems::one(table.column_place(&self.column), text));
                }
                self.values(table, *width, rows)
            }
        }
    }

    fn classes(&self, table: &Table, finder: &Finder<'_>, rows: u32) -> Result<Labels, Problems> {
        let parts = self.read(table, rows, |column, rows| {
            let found = finder
                .find(column)
                .map_err(|text| Problems::one(table.column_place(&self.column), text))?;
            let mut problems = Problems::new();
            let mut classes = Vec::with_capacity(rows.len());
            for (class, row) in found.into_iter().zip(rows) {
                match class {
                    Ok(class) => classes.push(class),
                    Err(text) => problems.push(table.row_place(&self.column, *row), text),
                }
            }
            problems.or(classes)
        })?;
        Ok(Labels::Classes(parts.concat()))
    }

    fn values(&self, table: &Table, width: usize, rows: u32) -> Result<Labels, Problems> {
        let parts = self.read(table, rows, |column, rows| {
            let numbers = Numbers::new(column, Dtype::F32).map_err(|error| {
                Problems::one(table.column_place(&self.column), error.to_string())
            })?;
            let lengths = if numbers.lengths(0).is_empty() { vec![] } else { vec![width] };
            let mut problems = Problems::new();
            let mut values = Vec::with_capacity(rows.len() * width);
            for (i, row) in rows.iter().enumerate() {
                match numbers.row_f32(i, &lengths) {
                    Ok(found) if found.iter().all(|value| value.is_finite()) => {
                        values.extend_from_slice(found);
                    }
                    Ok(_) => problems.push(table.row_place(&self.column, *row), NOT_FINITE),
                    Err(fault) => {
                        problems.push(table.row_place(&self.column, *row), fault.to_string());
                    }
                }
            }
            problems.or(values)
        })?;
        Ok(Labels::Values { width, values: parts.concat() })
    }

    fn read<R: Send>(
        &self,
        table: &Table,
        rows: u32,
        visit: impl Fn(&ArrayRef, &[u32]) -> Result<R, Problems> + Sync,
    ) -> Result<Vec<R>, Problems> {
        let rows: Vec<u32> = (0..rows).collect();
        let nothing = vec![(); rows.len()];
        table.scan(&[&self.column], &rows, nothing, |chunk| {
            visit(&chunk.column(&self.column), chunk.rows)
        })
    }
}

const NOT_FINITE: &str = "is not a finite number; fill it in or leave the row out";

/// How many values the first row has.
fn value_count(table: &Table, column: &str) -> Result<usize, Problems> {
    let wrong = |text: String| Problems::one(table.row_place(column, 0), text);
    let first = table.value(column, 0)?;
    let numbers = Numbers::new(&first, Dtype::F32).map_err(|error| wrong(error.to_string()))?;
    let lengths = numbers.lengths(0);
    match lengths.iter().product() {
        count @ 1..=VALUES_MAX if lengths.len() <= 1 => Ok(count),
        _ => Err(wrong(format!(
            "has the lengths {lengths:?}; a target is a number or one list of 1 to {VALUES_MAX}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::{
        Array, BooleanArray, DictionaryArray, Float64Array, Int8Array, Int64Array, ListArray,
        NullArray, StringArray,
    };
    use arrow::datatypes::{Float64Type, Int8Type};

    use super::*;
    use crate::fixtures::{
        column, column_with, file_spec, problems, tensor, train_of, with_validation, write,
    };
    use crate::{DataSpec, Origin, prepare};

    /// A file whose `x` numbers the rows and whose `y` is given.
    fn file(dir: &Path, name: &str, y: impl Array + 'static) -> std::path::PathBuf {
        let x = Float64Array::from_iter_values((0..y.len()).map(|i| i as f64));
        write(dir, name, &[column("x", x), column("y", y)])
    }

    fn learn_as(mut spec: DataSpec, as_kind: TargetKind) -> DataSpec {
        let Origin::Tables { targets, .. } = &mut spec.origin else { panic!("no files") };
        targets[0].kind = as_kind;
        spec
    }

    fn with_classes(mut spec: DataSpec, num_classes: Option<u32>, null_class: bool) -> DataSpec {
        let Origin::Tables { targets, .. } = &mut spec.origin else { panic!("no files") };
        targets[0] = TargetSpec { num_classes, null_class, ..targets[0].clone() };
        spec
    }

    /// Classes of a file and its labels by row.
    fn classes(y: impl Array + 'static) -> (Vec<String>, Vec<f32>) {
        let dir = tempfile::tempdir().unwrap();
        let prepared = prepare(&file_spec(&file(dir.path(), "t", y), tensor())).unwrap();
        let Target::Classes(list) = prepared.data_set.targets[0].target.clone() else {
            panic!("values")
        };
        let names = list.names().iter().map(|name| name.clone().unwrap()).collect();
        let mut rows = train_of(&prepared);
        rows.sort_by_key(|(row, ..)| *row);
        (names, rows.iter().map(|(_, _, y)| y[0]).collect())
    }

    #[test]
    fn classes_are_sorted_integers_by_value_and_texts_by_bytes() {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let numbers = Int64Array::from(vec![10, -2, 9, 10]);
        assert_eq!(classes(numbers), (owned(&["-2", "9", "10"]), vec![2.0, 0.0, 1.0, 2.0]));
        let texts = StringArray::from(vec!["b", "a", "B", "a"]);
        assert_eq!(classes(texts), (owned(&["B", "a", "b"]), vec![2.0, 1.0, 0.0, 1.0]));
        let truths = BooleanArray::from(vec![true, false, true]);
        assert_eq!(classes(truths), (owned(&["false", "true"]), vec![1.0, 0.0, 1.0]));
        let keys = Int8Array::from(vec![1, 0, 1]);
        let values = std::sync::Arc::new(Int64Array::from(vec![10, 9]));
        let dictionary = DictionaryArray::<Int8Type>::new(keys, values);
        assert_eq!(classes(dictionary), (owned(&["9", "10"]), vec![0.0, 1.0, 0.0]));
    }

    #[test]
    fn declared_classes_are_kept_in_order_and_bound_the_labels() {
        let dir = tempfile::tempdir().unwrap();
        let x = || column("x", Float64Array::from(vec![0.0, 1.0, 2.0]));
        let y = |labels: [i64; 3], names| {
            column_with("y", Int64Array::from(labels.to_vec()), "classes", names)
        };
        let good = write(dir.path(), "good", &[x(), y([1, 0, 1], r#"["no","yes","so"]"#)]);
        let prepared = prepare(&file_spec(&good, tensor())).unwrap();
        let list = ClassList::named(["no", "yes", "so"]);
        assert_eq!(prepared.data_set.targets[0].target, Target::Classes(list));

        let bad = write(dir.path(), "bad", &[x(), y([1, 3, -1], r#"["no","yes","so"]"#)]);
        assert_eq!(
            problems(dir.path(), &with_validation(file_spec(&good, tensor()), &bad)),
            "bad, column `y`, row 1: is 3, but classes are 0 to 2\n\
             bad, column `y`, row 2: is -1, but classes are 0 to 2"
        );
        let other = write(dir.path(), "other", &[x(), y([1, 0, 1], r#"["yes","no","so"]"#)]);
        assert_eq!(
            problems(dir.path(), &with_validation(file_spec(&good, tensor()), &other)),
            "other, column `y`: names other classes, or the same in another order, than the \
             training file"
        );
        let twice = write(dir.path(), "twice", &[x(), y([1, 0, 1], r#"["no","no"]"#)]);
        assert_eq!(
            problems(dir.path(), &file_spec(&twice, tensor())),
            "twice, column `y`: must name 1 to 65536 distinct classes in its metadata"
        );
        let odd = write(dir.path(), "odd", &[x(), y([1, 0, 1], "no, yes")]);
        assert_eq!(
            problems(dir.path(), &file_spec(&odd, tensor())),
            "odd, column `y`: has metadata `classes` that is no JSON list of strings"
        );
    }

    #[test]
    fn labels_that_are_missing_or_new_are_named_by_row() {
        let dir = tempfile::tempdir().unwrap();
        let train = file(dir.path(), "train", StringArray::from(vec![Some("a"), None, Some("b")]));
        assert_eq!(
            problems(dir.path(), &file_spec(&train, tensor())),
            "train, column `y`, row 1: is null; fill it in or leave the row out"
        );
        let train = file(dir.path(), "train", StringArray::from(vec!["a", "b"]));
        let other = file(dir.path(), "other", StringArray::from(vec!["b", "c"]));
        assert_eq!(
            problems(dir.path(), &with_validation(file_spec(&train, tensor()), &other)),
            "other, column `y`, row 1: is `c`, which is no class of the training file"
        );
        let floats = file(dir.path(), "floats", Float64Array::from(vec![1.0]));
        assert_eq!(
            problems(dir.path(), &with_validation(file_spec(&train, tensor()), &floats)),
            "floats, column `y`: holds Float64, where strings are expected, as in training"
        );
    }

    #[test]
    fn floats_and_lists_are_values() {
        let dir = tempfile::tempdir().unwrap();
        let floats = file(dir.path(), "floats", Float64Array::from(vec![1.5, -2.5]));
        let prepared = prepare(&file_spec(&floats, tensor())).unwrap();
        assert_eq!(prepared.data_set.targets[0].target, Target::Values(1));
        let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(3.0), Some(4.0)]),
        ]);
        let lists = file(dir.path(), "lists", lists);
        let prepared = prepare(&file_spec(&lists, tensor())).unwrap();
        assert_eq!(prepared.data_set.targets[0].target, Target::Values(2));
        for (row, _, y) in train_of(&prepared) {
            assert_eq!(y, if row == 0 { [1.0, 2.0] } else { [3.0, 4.0] });
        }
        let ragged = ListArray::from_iter_primitive::<Float64Type, _, _>([
            Some(vec![Some(1.0), Some(2.0)]),
            Some(vec![Some(3.0)]),
            Some(vec![Some(f64::NAN), Some(0.0)]),
        ]);
        let ragged = file(dir.path(), "ragged", ragged);
        assert_eq!(
            problems(dir.path(), &file_spec(&ragged, tensor())),
            "ragged, column `y`, row 1: is ragged: a list of 1 along axis 0, where 2 are expected\n\
             ragged, column `y`, row 2: is not a finite number; fill it in or leave the row out"
        );
    }

    #[test]
    fn types_that_do_not_fit_the_kind_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let texts = file_spec(&file(dir.path(), "t", StringArray::from(vec!["a"])), tensor());
        assert_eq!(
            problems(dir.path(), &learn_as(texts, TargetKind::Values)),
            "t, column `y`: holds Utf8, which are no numbers to learn"
        );
        let lists = ListArray::from_iter_primitive::<Float64Type, _, _>([Some(vec![Some(1.0)])]);
        let lists = file_spec(&file(dir.path(), "l", lists), tensor());
        assert!(
            problems(dir.path(), &learn_as(lists, TargetKind::Classes)).contains(
                "; a target is of strings, booleans, integers, floats or lists of numbers"
            )
        );
        let values = file_spec(&file(dir.path(), "v", Float64Array::from(vec![1.0])), tensor());
        assert_eq!(
            problems(dir.path(), &with_classes(values, Some(3), false)),
            "v, column `y`: holds numbers to learn, which num_classes does not go with"
        );
        let nothing = file_spec(&file(dir.path(), "n", NullArray::new(1)), tensor());
        assert_eq!(
            problems(dir.path(), &nothing),
            "n, column `y`: holds Null; a target is of strings, booleans, integers, floats or \
             lists of numbers"
        );
        let numbers = file_spec(&file(dir.path(), "i", Int64Array::from(vec![3, 4])), tensor());
        let prepared = prepare(&learn_as(numbers, TargetKind::Values)).unwrap();
        assert_eq!(prepared.data_set.targets[0].target, Target::Values(1));
    }

    #[test]
    fn a_hugging_face_label_names_its_classes() {
        let dir = tempfile::tempdir().unwrap();
        let features =
            r#"{"info":{"features":{"y":{"names":["cat","dog"],"_type":"ClassLabel"}}}}"#;
        let path = file(dir.path(), "plain", Int64Array::from(vec![1, 0]));
        let path = crate::fixtures::with_file_metadata(&path, "huggingface", features);
        let prepared = prepare(&file_spec(&path, tensor())).unwrap();
        let list = ClassList::named(["cat", "dog"]);
        assert_eq!(prepared.data_set.targets[0].target, Target::Classes(list));
    }

    /// The class list that a file of these labels gets, and the class of each row.
    fn found(dir: &Path, spec: &DataSpec) -> (Vec<Option<String>>, Vec<f32>) {
        let prepared = prepare(spec).unwrap_or_else(|error| {
            panic!("{}: {error}", dir.display());
        });
        let Target::Classes(list) = &prepared.data_set.targets[0].target else { panic!("values") };
        let mut rows = train_of(&prepared);
        rows.sort_by_key(|(row, ..)| *row);
        (list.names().to_vec(), rows.into_iter().map(|(_, _, y)| y[0]).collect())
    }

    fn names(names: &[Option<&str>]) -> Vec<Option<String>> {
        names.iter().map(|name| name.map(str::to_owned)).collect()
    }

    #[test]
    fn null_is_a_class_where_it_is_asked_for_and_there_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let labels = StringArray::from(vec![Some("b"), None, Some("a")]);
        let spec = file_spec(&file(dir.path(), "nulls", labels), tensor());
        let list = names(&[None, Some("a"), Some("b"), None]);
        let spec = with_classes(spec, Some(4), true);
        assert_eq!(found(dir.path(), &spec), (list, vec![2.0, 0.0, 1.0]));

        let whole = StringArray::from(vec![Some("b"), Some("a")]);
        let whole = file_spec(&file(dir.path(), "whole", whole), tensor());
        let whole = with_classes(whole, None, true);
        assert_eq!(found(dir.path(), &whole).0, names(&[Some("a"), Some("b")]));
        let other = file(dir.path(), "other", StringArray::from(vec![Some("b"), None]));
        assert_eq!(
            problems(dir.path(), &with_validation(whole, &other)),
            "other, column `y`, row 1: is null; fill it in or leave the row out"
        );
        let validated = prepare(&with_validation(spec, &other)).unwrap();
        let mut rows = crate::fixtures::validation_of(&validated);
        rows.sort_by_key(|(row, ..)| *row);
        assert_eq!(rows.iter().map(|(_, _, y)| y[0]).collect::<Vec<_>>(), [2.0, 0.0]);
    }

    #[test]
    fn padding_is_no_class_of_rows_and_is_not_too_short() {
        let dir = tempfile::tempdir().unwrap();
        let labels = || Int64Array::from(vec![3, 1, 2]);
        let spec = file_spec(&file(dir.path(), "t", labels()), tensor());
        assert_eq!(
            problems(dir.path(), &with_classes(spec, Some(2), false)),
            "t, column `y`: has 3 classes, over num_classes = 2; give more"
        );
        let indexed = |name: &str, labels: [i64; 2]| {
            let x = column("x", Float64Array::from(vec![0.0, 1.0]));
            let y = Int64Array::from(labels.to_vec());
            let y = column_with("y", y, "classes", r#"["no","yes",null]"#);
            write(dir.path(), name, &[x, y])
        };
        let spec = file_spec(&indexed("good", [1, 0]), tensor());
        assert_eq!(found(dir.path(), &spec).0, names(&[Some("no"), Some("yes"), None]));
        assert_eq!(
            problems(dir.path(), &file_spec(&indexed("bad", [1, 2]), tensor())),
            "bad, column `y`, row 1: is 2, which is padding and no class"
        );
        let nulls = StringArray::from(vec![None::<&str>, None]);
        let nulls = file_spec(&file(dir.path(), "n", nulls), tensor());
        assert!(problems(dir.path(), &with_classes(nulls, Some(3), false)).contains("is null"));
    }

    #[test]
    fn labels_of_another_type_are_refused_even_where_they_read_alike() {
        let dir = tempfile::tempdir().unwrap();
        let train = file(dir.path(), "train", Int64Array::from(vec![1, 2]));
        let texts = file(dir.path(), "texts", StringArray::from(vec!["1", "2"]));
        assert_eq!(
            problems(dir.path(), &with_validation(file_spec(&train, tensor()), &texts)),
            "texts, column `y`: holds Utf8, where integers are expected, as in training"
        );
        let narrow = file(dir.path(), "narrow", Int8Array::from(vec![2, 1]));
        prepare(&with_validation(file_spec(&train, tensor()), &narrow)).unwrap();
    }
}
