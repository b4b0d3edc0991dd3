//! What is learned: classes, however a column names them, or numbers. The classes are those of the
//! whole training file, so that neither a bound on rows nor a split changes a network's width.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrowhop_types::{Dtype, Problems, Target};

use crate::numbers::{Numbers, cast_exactly, number_type};
use crate::spec::{TargetKind, TargetSpec};
use crate::table::Table;

/// Classes are at most this many: 2¹⁶.
const CLASSES_MAX: usize = 1 << 16;
/// Values per row are at most this many: 2¹⁶.
const VALUES_MAX: usize = 1 << 16;

/// How a target column becomes `y`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetEncoder {
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
    pub(crate) fn resolve(table: &Table, spec: &TargetSpec) -> Result<Self, Problems> {
        let column = spec.column.clone();
        let field = table.field(&column)?;
        let wrong = |text: String| Problems::one(table.column_place(&column), text);
        let is_float = field.data_type().is_floating() || field.data_type().is_decimal();
        let target = match spec.kind {
            TargetKind::Auto | TargetKind::Classes if is_class_type(field.data_type()) => {
                if field.data_type().is_integer()
                    && let Some(names) = class_names(table, field).map_err(wrong)?
                {
                    return Ok(Self {
                        column,
                        target: Target::Classes(names),
                        is_index: true,
                    });
                }
                Target::Classes(distinct(table, field)?)
            }
            TargetKind::Auto | TargetKind::Values if number_type(field.data_type()).is_some() => {
                let first = table.value(&column, 0)?;
                let numbers = Numbers::new(&first, Dtype::F32).map_err(|e| wrong(e.to_string()))?;
                let width: usize = numbers.lengths(0).iter().product();
                if width == 0 || width > VALUES_MAX {
                    return Err(wrong(format!(
                        "has {width} values in its first row; give 1 to {VALUES_MAX}"
                    )));
                }
                Target::Values(width)
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
        Ok(Self {
            column,
            target,
            is_index: false,
        })
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
        let data_type = field.data_type();
        if !is_class_type(data_type) || (self.is_index && !data_type.is_integer()) {
            let expected = if self.is_index { "integers" } else { "classes" };
            return Err(wrong(format!(
                "holds {data_type}, where {expected} are expected"
            )));
        }
        let own = if self.is_index {
            class_names(table, field).map_err(wrong)?
        } else {
            None
        };
        if own.is_some_and(|own| own != names) {
            let text = "names other classes, or the same in another order, than the training file";
            return Err(wrong(text.into()));
        }
        Ok(())
    }

    fn classes(&self, table: &Table, names: &[String], rows: u32) -> Result<Labels, Problems> {
        let indices: BTreeMap<&str, i32> = names.iter().map(String::as_str).zip(0..).collect();
        let last = names.len().saturating_sub(1);
        let parts = self.read(table, rows, |column, rows| {
            let wrong = |text: String| Problems::one(table.column_place(&self.column), text);
            let mut problems = Problems::new();
            let mut push = |i: usize, text: String| {
                problems.push(table.row_place(&self.column, rows[i]), text);
                0
            };
            let labels: Vec<i32> = if self.is_index {
                let numbers = integers(column).map_err(wrong)?;
                let label = |i: usize| match (numbers.is_valid(i), numbers.value(i)) {
                    (false, _) => push(i, NULL.into()),
                    (true, value) => match i32::try_from(value) {
                        Ok(index) if (0..names.len()).contains(&(value as usize)) => index,
                        _ => push(i, format!("is {value}, but classes are 0 to {last}")),
                    },
                };
                (0..rows.len()).map(label).collect()
            } else {
                let texts = texts(column).map_err(wrong)?;
                let label = |i: usize| match (texts.is_valid(i), texts.value(i)) {
                    (false, _) => push(i, NULL.into()),
                    (true, name) => indices.get(name).copied().unwrap_or_else(|| {
                        push(
                            i,
                            format!("is `{name}`, which is no class of the training file"),
                        )
                    }),
                };
                (0..rows.len()).map(label).collect()
            };
            problems.or(labels)
        })?;
        Ok(Labels::Classes(parts.concat()))
    }

    fn values(&self, table: &Table, width: usize, rows: u32) -> Result<Labels, Problems> {
        let parts = self.read(table, rows, |column, rows| {
            let numbers = Numbers::new(column, Dtype::F32).map_err(|error| {
                Problems::one(table.column_place(&self.column), error.to_string())
            })?;
            let lengths = if numbers.lengths(0).is_empty() {
                vec![]
            } else {
                vec![width]
            };
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
        Ok(Labels::Values {
            width,
            values: parts.concat(),
        })
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

fn is_class_type(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_class_type(values),
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
    if field.data_type().is_integer() {
        names.sort_by_key(|name| name.parse::<i128>().ok());
    }
    Ok(names)
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
        return Err(format!(
            "must name 1 to {CLASSES_MAX} distinct classes in its metadata"
        ));
    }
    Ok(Some(names))
}

fn integers(column: &ArrayRef) -> Result<Int64Array, String> {
    let cast = cast_exactly(column, &DataType::Int64).map_err(|error| error.to_string())?;
    Ok(cast.as_primitive::<Int64Type>().clone())
}

/// Integers, booleans and strings as strings.
pub(crate) fn texts(column: &ArrayRef) -> Result<StringArray, String> {
    let cast = cast_exactly(column, &DataType::Utf8).map_err(|error| error.to_string())?;
    Ok(cast.as_string::<i32>().clone())
}
