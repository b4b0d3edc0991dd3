//! The classes of a target column: which there are, and which of them a row is of. They are those of the
//! whole training table, so that neither a bound on rows nor a split changes a network's width.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type};
use arrowhop_types::{ClassList, Problems};

use crate::numbers::cast_exactly;
use crate::spec::{CLASSES_MAX, TargetSpec};
use crate::table::Table;

/// A field's metadata with the names of all classes, in order, where its values are such names; null
/// where a place has none.
pub(crate) const NAMES: &str = "class_names";
/// The same, where its values are indices.
pub(crate) const INDEXED: &str = "classes";

/// How a column says which class a row is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelType {
    /// By its index.
    Index,
    /// By its name, as values of this type are written.
    Text,
    Boolean,
    Integer,
    Float,
}

impl LabelType {
    /// By a column's type; nothing where values of this type name no class.
    pub(crate) fn of(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Some(Self::Text),
            DataType::Boolean => Some(Self::Boolean),
            other if other.is_integer() => Some(Self::Integer),
            other if other.is_floating() || other.is_decimal() => Some(Self::Float),
            _ => None,
        }
    }

    /// What a column of it holds.
    fn plural(self) -> &'static str {
        match self {
            Self::Index | Self::Integer => "integers",
            Self::Text => "strings",
            Self::Boolean => "booleans",
            Self::Float => "floats",
        }
    }
}

/// The classes of a training table's column, padded as asked for, and how rows name them.
pub(crate) fn find(
    table: &Table,
    field: &Field,
    spec: &TargetSpec,
) -> Result<(ClassList, LabelType), Problems> {
    let wrong = |text: String| Problems::one(table.column_place(field.name()), text);
    let own = LabelType::of(plain(field)).expect("the column's type names classes");
    let (mut names, labels) = match declared(table, field).map_err(wrong)? {
        Some((names, true)) => (names, LabelType::Index),
        Some((names, false)) => (names, own),
        None => (distinct(table, field, own, spec.null_class)?, own),
    };
    if let Some(count) = spec.num_classes {
        let found = names.len();
        if found > count as usize {
            let text = format!("has {found} classes, over num_classes = {count}; give more");
            return Err(wrong(text));
        }
        // A list of padding alone would take its first place for that of missing values.
        if found > 0 {
            names.resize(count as usize, None);
        }
    }
    Ok((ClassList::new(names), labels))
}

/// Whether a table's column can name these classes.
pub(crate) fn check(
    table: &Table,
    field: &Field,
    list: &ClassList,
    labels: LabelType,
) -> Result<(), Problems> {
    let wrong = |text: String| Problems::one(table.column_place(field.name()), text);
    let needed = if labels == LabelType::Index { LabelType::Integer } else { labels };
    if LabelType::of(plain(field)) != Some(needed) {
        let (found, expected) = (plain(field), labels.plural());
        return Err(wrong(format!("holds {found}, where {expected} are expected, as in training")));
    }
    if let Some((own, is_index)) = declared(table, field).map_err(wrong)?
        && (is_index == (labels == LabelType::Index))
        && ClassList::new(own).without_padding() != list.without_padding()
    {
        let text = "names other classes, or the same in another order, than the training file";
        return Err(wrong(text.into()));
    }
    Ok(())
}

/// The class of each row of a column, or what is wrong with the row.
pub(crate) struct Finder<'a> {
    list: &'a ClassList,
    labels: LabelType,
    indices: BTreeMap<&'a str, i32>,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(list: &'a ClassList, labels: LabelType) -> Self {
        let names = list.names().iter().zip(0..);
        let indices = names.filter_map(|(name, index)| Some((name.as_deref()?, index))).collect();
        Self { list, labels, indices }
    }

    pub(crate) fn find(&self, column: &ArrayRef) -> Result<Vec<Result<i32, String>>, String> {
        if self.labels != LabelType::Index {
            return Ok(texts(column)?.iter().map(|name| self.by_name(name)).collect());
        }
        let indices = cast_exactly(column, &DataType::Int64).map_err(|error| error.to_string())?;
        let indices = indices.as_primitive::<Int64Type>().iter();
        Ok(indices.map(|index| self.by_index(index)).collect())
    }

    fn by_index(&self, index: Option<i64>) -> Result<i32, String> {
        let Some(index) = index else { return self.null() };
        let class = i32::try_from(index).ok();
        let place = usize::try_from(index).ok().filter(|&place| place < self.list.len());
        match (class, place) {
            (Some(class), Some(place)) if self.list.is_class(place) => Ok(class),
            (_, Some(_)) => Err(format!("is {index}, which is padding and no class")),
            _ => Err(format!("is {index}, but classes are 0 to {}", self.list.len() - 1)),
        }
    }

    fn by_name(&self, name: Option<&str>) -> Result<i32, String> {
        let Some(name) = name else { return self.null() };
        let class = self.indices.get(name).copied();
        class.ok_or_else(|| format!("is `{name}`, which is no class of the training file"))
    }

    fn null(&self) -> Result<i32, String> {
        if self.list.has_null() { Ok(0) } else { Err(NULL.to_owned()) }
    }
}

const NULL: &str = "is null; fill it in or leave the row out";

/// The type of a column's values, whether or not they are in a dictionary.
pub(crate) fn plain(field: &Field) -> &DataType {
    match field.data_type() {
        DataType::Dictionary(_, values) => values,
        other => other,
    }
}

/// Names of classes in their order.
type Names = Vec<Option<String>>;

/// The distinct values of a column as texts: numbers in numeric order, others by their bytes. Null is
/// one of them, the first, where it is to be a class and there is any.
fn distinct(
    table: &Table,
    field: &Field,
    labels: LabelType,
    null_class: bool,
) -> Result<Names, Problems> {
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
        Ok((names, null_class && texts.null_count() > 0))
    })?;
    let has_null = parts.iter().any(|(_, has_null)| *has_null);
    let names: BTreeSet<String> = parts.into_iter().flat_map(|(names, _)| names).collect();
    if names.len() + usize::from(has_null) > CLASSES_MAX {
        return Err(wrong(format!(
            "has over {CLASSES_MAX} distinct values, too many for classes; learn it as values"
        )));
    }
    let mut names: Vec<String> = names.into_iter().collect();
    match labels {
        LabelType::Integer => names.sort_by_key(|name| name.parse::<i128>().ok()),
        LabelType::Float => {
            let value = |name: &String| name.parse().unwrap_or(f64::NAN);
            names.sort_by(|a, b| value(a).total_cmp(&value(b)));
        }
        LabelType::Index | LabelType::Text | LabelType::Boolean => {}
    }
    Ok(has_null.then_some(None).into_iter().chain(names.into_iter().map(Some)).collect())
}

/// Classes that a table declares, and whether its values are indices of them: the field's metadata, or a
/// Hugging Face `ClassLabel`.
fn declared(table: &Table, field: &Field) -> Result<Option<(Names, bool)>, String> {
    let is_integer = plain(field).is_integer();
    let listed = [(NAMES, false), (INDEXED, true)].into_iter().find_map(|(key, is_index)| {
        let text = field.metadata().get(key).filter(|_| !is_index || is_integer)?;
        Some((key, text, is_index))
    });
    let (names, is_index): (Names, bool) = if let Some((key, text, is_index)) = listed {
        let names = serde_json::from_str(text);
        let text = || format!("has metadata `{key}` that is no JSON list of strings");
        (names.map_err(|_| text())?, is_index)
    } else {
        let features = table.schema().metadata().get("huggingface").filter(|_| is_integer);
        let features = features.and_then(|text| serde_json::from_str(text).ok());
        let features: serde_json::Value = features.unwrap_or_default();
        let names = &features["info"]["features"][field.name()]["names"];
        match serde_json::from_value(names.clone()) {
            Ok(names) => (names, true),
            Err(_) => return Ok(None),
        }
    };
    let named: Vec<&String> = names.iter().flatten().collect();
    let distinct: BTreeSet<&&String> = named.iter().collect();
    if names.is_empty() || names.len() > CLASSES_MAX || distinct.len() < named.len() {
        return Err(format!("must name 1 to {CLASSES_MAX} distinct classes in its metadata"));
    }
    Ok(Some((names, is_index)))
}

/// Integers, floats, booleans and strings as strings.
pub(crate) fn texts(column: &ArrayRef) -> Result<StringArray, String> {
    let cast = cast_exactly(column, &DataType::Utf8).map_err(|error| error.to_string())?;
    Ok(cast.as_string::<i32>().clone())
}
