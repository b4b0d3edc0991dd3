//! What is learned: classes, however a column names them, or numbers. The classes are those of the
//! whole training file, so that neither a bound on rows nor a split changes a network's width.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrowhop_types::{Dtype, Problems, Target, TargetColumn};

use crate::numbers::{Numbers, cast_exactly, number_type};
use crate::spec::{TargetKind, TargetSpec};
use crate::table::Table;

/// Classes are at most this many: 2¹⁶.
const CLASSES_MAX: usize = 1 << 16;
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
    pub(crate) target: Target,
    /// Integers are indices into the classes, rather than their names.
    pub(crate) is_index: bool,
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
        let data_type = plain(field);
        let is_float = data_type.is_floating() || data_type.is_decimal();
        let target = match spec.kind {
            TargetKind::Auto | TargetKind::Classes if is_class_type(data_type) => {
                if data_type.is_integer()
                    && let Some(names) = class_names(table, field).map_err(wrong)?
                {
                    let target = Target::Classes(names);
                    return Ok(Self { name, column, target, is_index: true });
                }
                Target::Classes(distinct(table, field)?)
            }
            TargetKind::Auto | TargetKind::Values if number_type(field.data_type()).is_some() => {
                Target::Values(value_count(table, &column)?)
            }
            TargetKind::Classes if is_float => {
                let text = "holds floats, which name no classes; cast it to integers or strings, \
                            or learn it as values";
                return Err(wrong(text.into()));
            }
            TargetKind::Values => {
                let text = format!("holds {}, which are no numbers to learn", field.data_type());
                return Err(wrong(text));
            }
            TargetKind::Auto | TargetKind::Classes => {
                return Err(wrong(format!(
                    "holds {}; a target is of strings, booleans, integers, floats or lists of \
                     numbers",
                    field.data_type()
                )));
            }
        };
        Ok(Self { name, column, target, is_index: false })
    }

    /// What it becomes, by the shards' name.
    pub(crate) fn learned(&self) -> TargetColumn {
        TargetColumn { name: self.name.clone(), target: self.target.clone() }
    }

    /// The labels of the first `rows` rows of a file, or every row that has none.
    pub(crate) fn labels(&self, table: &Table, rows: u32) -> Result<Labels, Problems> {
        let field = table.field(&self.column)?;
        match &self.target {
            Target::Classes(names) => {
                self.check_classes(table, field, names)?;
                self.classes(table, names, rows)
            }
            Target::Values(width) => {
                if number_type(field.data_type()).is_none() {
                    let text = format!("holds {}, where numbers are expected", field.data_type());
                    return Err(Problems::one(table.column_place(&self.column), text));
                }
                self.values(table, *width, rows)
            }
        }
    }

    fn check_classes(
        &self,
        table: &Table,
        field: &Field,
        names: &[String],
    ) -> Result<(), Problems> {
        let wrong = |text: String| Problems::one(table.column_place(&self.column), text);
        let data_type = plain(field);
        if !is_class_type(data_type) || (self.is_index && !data_type.is_integer()) {
            let expected = if self.is_index { "integers" } else { "classes" };
            return Err(wrong(format!("holds {data_type}, where {expected} are expected")));
        }
        let own = if self.is_index { class_names(table, field).map_err(wrong)? } else { None };
        if own.is_some_and(|own| own != names) {
            let text = "names other classes, or the same in another order, than the training file";
            return Err(wrong(text.into()));
        }
        Ok(())
    }

    fn classes(&self, table: &Table, names: &[String], rows: u32) -> Result<Labels, Problems> {
        let indices: BTreeMap<&str, i32> = names.iter().map(String::as_str).zip(0..).collect();
        let parts = self.read(table, rows, |column, rows| {
            let found =
                if self.is_index { by_index(column, names) } else { by_name(column, &indices) }
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

const NULL: &str = "is null; fill it in or leave the row out";
const NOT_FINITE: &str = "is not a finite number; fill it in or leave the row out";

/// The type of a column's values, whether or not they are in a dictionary.
fn plain(field: &Field) -> &DataType {
    match field.data_type() {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

fn is_class_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Boolean => true,
        other => other.is_integer(),
    }
}

/// The distinct values of a column as texts: integers in numeric order, others by their bytes.
fn distinct(table: &Table, field: &Field) -> Result<Vec<String>, Problems> {
    let wrong = |text: String| Problems::one(table.column_place(field.name()), text);
    let rows: Vec<u32> = (0..table.rows()).collect();
    let nothing = vec![(); rows.len()];
    let parts = table.scan(&[field.name()], &rows, nothing, |chunk| {
        let texts = texts(&chunk.column(field.name())).map_err(wrong)?;
        let mut names = BTreeSet::new();
        for name in texts.iter().flatten() {
            if !names.contains(name) && names.len() <= CLASSES_MAX {
                names.insert(name.to_owned());
            }
        }
        Ok(names)
    })?;
    let names: BTreeSet<String> = parts.into_iter().flatten().collect();
    if names.len() > CLASSES_MAX {
        return Err(wrong(format!(
            "has over {CLASSES_MAX} distinct values, too many for classes; learn it as values"
        )));
    }
    let mut names: Vec<String> = names.into_iter().collect();
    if plain(field).is_integer() {
        names.sort_by_key(|name| name.parse::<i128>().ok());
    }
    Ok(names)
}

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

/// Class names that a file declares for indices: the field's metadata `classes`, else a Hugging
/// Face `ClassLabel`.
fn class_names(table: &Table, field: &Field) -> Result<Option<Vec<String>>, String> {
    let names: Vec<String> = if let Some(text) = field.metadata().get("classes") {
        serde_json::from_str(text)
            .map_err(|_| "has metadata `classes` that is no JSON list of strings".to_owned())?
    } else {
        let features = table.schema().metadata().get("huggingface");
        let features = features.and_then(|text| serde_json::from_str(text).ok());
        let features: serde_json::Value = features.unwrap_or_default();
        let names = &features["info"]["features"][field.name()]["names"];
        match serde_json::from_value(names.clone()) {
            Ok(names) => names,
            Err(_) => return Ok(None),
        }
    };
    let distinct: BTreeSet<&String> = names.iter().collect();
    if names.is_empty() || names.len() > CLASSES_MAX || distinct.len() < names.len() {
        return Err(format!("must name 1 to {CLASSES_MAX} distinct classes in its metadata"));
    }
    Ok(Some(names))
}

/// The class of each row of a column of indices, or what is wrong with the row.
fn by_index(column: &ArrayRef, names: &[String]) -> Result<Vec<Result<i32, String>>, String> {
    let indices = cast_exactly(column, &DataType::Int64).map_err(|error| error.to_string())?;
    let class = |index: Option<i64>| {
        let index = index.ok_or(NULL)?;
        i32::try_from(index)
            .ok()
            .filter(|_| usize::try_from(index).is_ok_and(|index| index < names.len()))
            .ok_or_else(|| format!("is {index}, but classes are 0 to {}", names.len() - 1))
    };
    Ok(indices.as_primitive::<Int64Type>().iter().map(class).collect())
}

/// The class of each row of a column of names, or what is wrong with the row.
fn by_name(
    column: &ArrayRef,
    indices: &BTreeMap<&str, i32>,
) -> Result<Vec<Result<i32, String>>, String> {
    let class = |name: Option<&str>| {
        let name = name.ok_or(NULL)?;
        let class = indices.get(name).copied();
        class.ok_or_else(|| format!("is `{name}`, which is no class of the training file"))
    };
    Ok(texts(column)?.iter().map(class).collect())
}

/// Integers, booleans and strings as strings.
pub(crate) fn texts(column: &ArrayRef) -> Result<StringArray, String> {
    let cast = cast_exactly(column, &DataType::Utf8).map_err(|error| error.to_string())?;
    Ok(cast.as_string::<i32>().clone())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use arrow::array::{
        Array, BooleanArray, DictionaryArray, Float64Array, Int8Array, Int64Array, ListArray,
        NullArray,
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

    /// Classes of a file and its labels by row.
    fn classes(y: impl Array + 'static) -> (Vec<String>, Vec<f32>) {
        let dir = tempfile::tempdir().unwrap();
        let prepared = prepare(&file_spec(&file(dir.path(), "t", y), tensor())).unwrap();
        let Target::Classes(names) = prepared.data_set.targets[0].target.clone() else {
            panic!("values")
        };
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
        let names = ["no", "yes", "so"].map(str::to_owned).to_vec();
        assert_eq!(prepared.data_set.targets[0].target, Target::Classes(names));

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
            "floats, column `y`: holds Float64, where classes are expected"
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
        let floats = file_spec(&file(dir.path(), "f", Float64Array::from(vec![1.0])), tensor());
        assert_eq!(
            problems(dir.path(), &learn_as(floats, TargetKind::Classes)),
            "f, column `y`: holds floats, which name no classes; cast it to integers or strings, \
             or learn it as values"
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
        let names = ["cat", "dog"].map(str::to_owned).to_vec();
        assert_eq!(prepared.data_set.targets[0].target, Target::Classes(names));
    }
}
