//! Which columns become inputs and targets: one of each in `[data]` itself, or several as
//! `[[data.input]]` and `[[data.target]]`.

use arrowhop_source::{NamedInputs, TargetKind, TargetSpec};
use arrowhop_types::Problems;
use toml::Value;

use super::fields::{Fields, shown};
use super::input::{one, whole};

/// The inputs of `[data]`.
pub(super) fn inputs(fields: &mut Fields<'_>) -> Option<Vec<NamedInputs>> {
    match fields.value("input") {
        Some(Value::Array(tables)) => several(fields, "input", tables, |fields| {
            let name = fields.text("name");
            let column = fields.text("column");
            let inputs = one(fields, column, "columns")?;
            Some(NamedInputs { name, inputs })
        }),
        Some(Value::String(column)) => one(fields, Some(column), "inputs")
            .map(|inputs| vec![NamedInputs { name: None, inputs }]),
        None => one(fields, None, "inputs").map(|inputs| vec![NamedInputs { name: None, inputs }]),
        Some(other) => {
            let text = format!("{} is neither a column nor [[data.input]] tables", shown(&other));
            fields.wrong("input", text);
            None
        }
    }
}

/// The targets of `[data]`.
pub(super) fn targets(fields: &mut Fields<'_>) -> Option<Vec<TargetSpec>> {
    match fields.value("target") {
        Some(Value::Array(tables)) => several(fields, "target", tables, |fields| {
            let name = fields.text("name");
            let column = fields.text("column");
            if column.is_none() {
                fields.wrong("column", "is needed: the column to learn");
            }
            let target = target(fields, "kind");
            Some(TargetSpec { name, column: column?, ..target })
        }),
        Some(Value::String(column)) => {
            let target = target(fields, "target_kind");
            Some(vec![TargetSpec { column, ..target }])
        }
        Some(other) => {
            let text = format!("{} is neither a column nor [[data.target]] tables", shown(&other));
            fields.wrong("target", text);
            None
        }
        None => {
            fields.wrong("target", "is needed: the column to learn");
            None
        }
    }
}

/// What a target holds, without its column.
fn target(fields: &mut Fields<'_>, kind: &'static str) -> TargetSpec {
    let kinds = [
        ("auto", TargetKind::Auto),
        ("classes", TargetKind::Classes),
        ("values", TargetKind::Values),
    ];
    TargetSpec {
        kind: fields.choice(kind, &kinds).unwrap_or_default(),
        num_classes: fields.count("num_classes", 1 << 16).map(whole),
        null_class: fields.flag("null_class").unwrap_or(false),
        ..TargetSpec::default()
    }
}

/// Each table of a list, read alike.
fn several<T>(
    fields: &mut Fields<'_>,
    key: &str,
    values: Vec<Value>,
    read: impl Fn(&mut Fields<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut problems = Problems::new();
    let mut found = Vec::new();
    for (i, value) in values.into_iter().enumerate() {
        let place = format!("{key}[{i}]");
        let Value::Table(table) = value else {
            problems.push(place, format!("{} is no table", shown(&value)));
            continue;
        };
        let mut of = Fields::new(table, &place, &mut problems);
        found.extend(read(&mut of));
        of.finish();
    }
    if problems.is_empty() {
        return Some(found);
    }
    fields.all_wrong(&problems);
    None
}
