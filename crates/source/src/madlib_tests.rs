//! What MADlib's preprocessor makes of its own tests' tables, made here. The facts are no part of this
//! project: where they are not beside it, these tests say so and pass.

use std::path::{Path, PathBuf};

use arrow::array::{Array, BooleanArray, Float64Array, Int64Array, ListArray, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use arrowhop_types::Target;
use serde_json::Value;

use crate::fixtures::{
    column, file_spec, problems, tensor, train_of, validation_of, with_validation, write,
};
use crate::{DataSpec, Origin, TargetKind, TargetSpec, prepare};

fn facts() -> Option<Value> {
    let path = "../../../shared/fixtures/madlib_checks/cases.json";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: MADlib's checks are not there");
        return None;
    };
    let facts: Value = serde_json::from_str(&text).unwrap();
    Some(facts["preprocessor"].clone())
}

fn cells(table: &Value, name: &str) -> Vec<Value> {
    table.as_array().unwrap().iter().map(|row| row[name].clone()).collect()
}

/// A file with the table's `x`, and these labels as `y`.
fn file(dir: &Path, name: &str, table: &Value, y: impl Array + 'static) -> PathBuf {
    let lists = cells(table, "x").into_iter().map(|cell| {
        let values = cell.as_array().unwrap().iter().map(Value::as_f64).collect::<Vec<_>>();
        Some(values)
    });
    let x = ListArray::from_iter_primitive::<Float64Type, _, _>(lists);
    write(dir, name, &[column("x", x), column("y", y)])
}

fn strings(cells: &[Value]) -> StringArray {
    cells.iter().map(Value::as_str).collect()
}

fn integers(cells: &[Value]) -> Int64Array {
    cells.iter().map(Value::as_i64).collect()
}

fn learn(path: &Path, kind: TargetKind, num_classes: Option<u32>) -> DataSpec {
    let mut spec = file_spec(path, tensor());
    let Origin::Tables { targets, .. } = &mut spec.origin else { panic!("no files") };
    let target = TargetSpec { kind, num_classes, null_class: true, ..targets[0].clone() };
    targets[0] = TargetSpec { null_class: kind != TargetKind::Values, ..target };
    spec
}

/// The class list as MADlib writes it, with numbers as numbers, and the class of each training row.
fn classes(spec: &DataSpec, is_text: bool) -> (Value, Vec<f32>) {
    let prepared = prepare(spec).unwrap();
    let Target::Classes(list) = &prepared.data_set.targets[0].target else { panic!("values") };
    let name = |name: &Option<String>| match name {
        Some(name) if !is_text => serde_json::from_str(name).unwrap(),
        other => Value::from(other.clone()),
    };
    let list = Value::Array(list.names().iter().map(name).collect());
    let mut rows = train_of(&prepared);
    rows.sort_by_key(|(row, ..)| *row);
    (list, rows.into_iter().map(|(_, _, y)| y[0]).collect())
}

/// Where a vector has its 1.
fn place(vector: &Value) -> f32 {
    let ones = vector.as_array().unwrap().iter().position(|value| value == 1);
    f32::from(u8::try_from(ones.unwrap()).unwrap())
}

#[test]
fn class_lists_and_classes_are_madlibs() {
    let Some(facts) = facts() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (table, nulls) = (&facts["table_types"], &facts["table_nulls"]);
    let (lists, one_hot) = (&facts["expected"]["class_values"], &facts["expected"]["one_hot"]);
    let auto = TargetKind::Auto;

    let y = file(dir.path(), "y", table, integers(&cells(table, "y")));
    let (list, rows) = classes(&learn(&y, auto, Some(16)), false);
    assert_eq!(list, lists["y (num_classes 16)"]);
    assert_eq!(rows[0], place(&one_hot["y=4 with 16 classes"]));

    let truths: BooleanArray = cells(table, "y1").iter().map(Value::as_bool).collect();
    let y1 = file(dir.path(), "y1", table, truths);
    assert_eq!(classes(&learn(&y1, auto, None), false).0, lists["y1"]);
    let y2 = file(dir.path(), "y2", table, strings(&cells(table, "y2")));
    assert_eq!(classes(&learn(&y2, auto, None), true).0, lists["y2"]);
    let floats: Float64Array = cells(table, "y3").iter().map(Value::as_f64).collect();
    let y3 = file(dir.path(), "y3", table, floats);
    assert_eq!(classes(&learn(&y3, TargetKind::Classes, None), false).0, lists["y3"]);

    let label = file(dir.path(), "label", nulls, strings(&cells(nulls, "label")));
    let (list, rows) = classes(&learn(&label, auto, Some(5)), true);
    assert_eq!(list, lists["label with nulls (num_classes 5)"]);
    assert_eq!(rows[0], place(&one_hot["label 'a' of {NULL,a,b}"]));
    assert_eq!(rows[2], place(&one_hot["label NULL"]));
    let none = StringArray::from(vec![None::<&str>; nulls.as_array().unwrap().len()]);
    let none = file(dir.path(), "none", nulls, none);
    let (list, rows) = classes(&learn(&none, auto, Some(3)), true);
    assert_eq!(list, lists["only-null label (num_classes 3)"]);
    assert!(rows.iter().all(|row| *row == place(&one_hot["only-null"])));
}

#[test]
fn numeric_arrays_pass_through() {
    let Some(facts) = facts() else { return };
    let dir = tempfile::tempdir().unwrap();
    let table = &facts["table_types"];
    let lists = cells(table, "y5")
        .into_iter()
        .map(|cell| Some(cell.as_array().unwrap().iter().map(Value::as_i64).collect::<Vec<_>>()));
    let y5 = ListArray::from_iter_primitive::<Int64Type, _, _>(lists);
    let path = file(dir.path(), "y5", table, y5);
    let prepared = prepare(&learn(&path, TargetKind::Values, None)).unwrap();
    assert_eq!(prepared.data_set.targets[0].target, Target::Values(2));
    let row = train_of(&prepared).into_iter().find(|(row, ..)| *row == 0).unwrap();
    let wanted = &facts["expected"]["one_hot"]["y4 row 0 passes through"];
    let wanted: Vec<_> = wanted.as_array().unwrap().iter().map(Value::as_f64).collect();
    assert_eq!(row.2.iter().map(|&value| Some(f64::from(value))).collect::<Vec<_>>(), wanted);
}

/// Rows of some classes, in another order, are of the classes of training; others are an error.
#[test]
fn validation_is_of_the_training_classes() {
    let Some(facts) = facts() else { return };
    let dir = tempfile::tempdir().unwrap();
    let table = &facts["table_types"];
    let labels = cells(table, "y");
    let train = file(dir.path(), "train", table, integers(&labels));
    let few = Value::Array(table.as_array().unwrap()[..2].to_vec());
    let own = file(dir.path(), "own", &few, integers(&labels[..2]));
    let spec = learn(&train, TargetKind::Auto, Some(16));
    let prepared = prepare(&with_validation(spec.clone(), &own)).unwrap();
    let mut rows = validation_of(&prepared);
    rows.sort_by_key(|(row, ..)| *row);
    assert_eq!(rows[0].2[0], place(&facts["expected"]["one_hot"]["y=4 with 16 classes"]));
    let unknown = file(dir.path(), "unknown", &few, Int64Array::from(vec![4, 77]));
    assert_eq!(
        problems(dir.path(), &with_validation(spec.clone(), &unknown)),
        "unknown, column `y`, row 1: is `77`, which is no class of the training file"
    );
    let texts = file(dir.path(), "texts", &few, StringArray::from(vec!["4", "3"]));
    assert_eq!(
        problems(dir.path(), &with_validation(spec, &texts)),
        "texts, column `y`: holds Utf8, where integers are expected, as in training"
    );
    assert_eq!(facts["expected"]["errors"].as_array().unwrap().len(), 2);
}
