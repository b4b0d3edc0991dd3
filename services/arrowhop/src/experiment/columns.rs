//! Which columns become inputs and targets: one of each in `[data]` itself, or several as
//! `[[data.input]]` and `[[data.target]]`.

use arrowhop_source::{Inputs, NamedInputs, Side, TableInputs, TargetKind, TargetSpec};
use arrowhop_types::Problems;
use toml::{Table, Value};

use super::fields::{Fields, number, shown};

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
            let kind = kind(fields, "kind");
            Some(TargetSpec { name, column: column?, kind })
        }),
        Some(Value::String(column)) => {
            let kind = kind(fields, "target_kind");
            Some(vec![TargetSpec { name: None, column, kind }])
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

fn kind(fields: &mut Fields<'_>, key: &'static str) -> TargetKind {
    let kinds = [
        ("auto", TargetKind::Auto),
        ("classes", TargetKind::Classes),
        ("values", TargetKind::Values),
    ];
    fields.choice(key, &kinds).unwrap_or_default()
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

/// One input: a column, or a table of them named under `columns_key`.
fn one(
    fields: &mut Fields<'_>,
    column: Option<String>,
    columns_key: &'static str,
) -> Option<Inputs> {
    let columns = fields.texts(columns_key);
    let shape = fields.counts("shape");
    let normalize = fields.number("normalize");
    let tokens = fields.flag("tokens");
    let length = fields.count("length", 1 << 24);
    let sides = [("pre", Side::Start), ("post", Side::End)];
    let padding = fields.choice("padding", &sides);
    let truncating = fields.choice("truncating", &sides);
    let one_hot = fields.count("one_hot", 1 << 24);
    let standardise = fields.flag("standardise");
    let categories = fields.texts("categories");
    let bounds = bounds(fields);
    let hash_buckets = fields.count("hash_buckets", 1 << 24);

    let is_tokens = tokens == Some(true);
    let of_tensors = [("shape", shape.is_some()), ("normalize", normalize.is_some())];
    let of_tokens = [
        ("length", length.is_some()),
        ("padding", padding.is_some()),
        ("truncating", truncating.is_some()),
    ];
    let of_columns = [("tokens", tokens.is_some()), ("one_hot", one_hot.is_some())];
    let of_tables = [
        (columns_key, columns.is_some()),
        ("standardise", standardise.is_some()),
        ("categories", categories.is_some()),
        ("bounds", bounds.is_some()),
        ("hash_buckets", hash_buckets.is_some()),
    ];
    let mut fits = true;
    let mut refuse = |keys: &[(&'static str, bool)], text: &str| {
        for (key, _) in keys.iter().filter(|(_, is_given)| *is_given) {
            fields.wrong(key, text);
            fits = false;
        }
    };
    let Some(column) = column else {
        refuse(&[&of_tensors[..], &of_tokens, &of_columns].concat(), "goes with a single column");
        return fits.then(|| {
            Inputs::Table(TableInputs {
                columns,
                standardise: standardise.unwrap_or(true),
                categories: categories.unwrap_or_default(),
                bounds: bounds.unwrap_or_default(),
                hash_buckets: hash_buckets.map(whole),
            })
        });
    };
    refuse(&of_tables, "goes with a table of columns, not with a single one");
    if is_tokens || one_hot.is_some() {
        refuse(&of_tensors, "goes with a column of numbers");
    }
    if !is_tokens {
        refuse(&of_tokens, "goes with tokens = true");
    }
    if is_tokens && one_hot.is_some() {
        refuse(&of_columns[1..], "goes without tokens");
    }
    #[expect(clippy::cast_possible_truncation, reason = "inputs are single precision")]
    let normalize = normalize.map_or(1.0, |normalize| normalize as f32);
    let shape = shape.map(|shape| shape.into_iter().map(|extent| extent as usize).collect());
    fits.then(|| match one_hot {
        Some(width) => Inputs::OneHot { column, width: whole(width) },
        None if is_tokens => Inputs::Tokens {
            column,
            length: length.map(|length| whole(length) as usize),
            padding: padding.unwrap_or(Side::Start),
            truncating: truncating.unwrap_or(Side::Start),
        },
        None => Inputs::Tensor { column, shape, normalize },
    })
}

fn whole(count: u64) -> u32 {
    u32::try_from(count).expect("at most 2^24")
}

/// A list of numbers, or `{ base, offset, count }`: base^j + offset for j from 0.
fn bounds(fields: &mut Fields<'_>) -> Option<Vec<f64>> {
    let key = "bounds";
    let value = fields.value(key)?;
    let found = match &value {
        Value::Array(list) => list.iter().map(number).collect::<Option<Vec<_>>>(),
        Value::Table(table) => powers(table),
        _ => None,
    };
    if found.is_none() {
        let text = "is neither a list of numbers nor { base = …, offset = …, count = … }";
        fields.wrong(key, format!("{} {text}", shown(&value)));
    }
    found
}

fn powers(table: &Table) -> Option<Vec<f64>> {
    let [base, offset] = ["base", "offset"].map(|key| table.get(key).and_then(number));
    let count = table.get("count")?.as_integer().filter(|count| (1..=10_000).contains(count))?;
    let (base, offset) = (base?, offset?);
    let count = i32::try_from(count).ok()?;
    (table.len() == 3).then(|| (0..count).map(|power| base.powi(power) + offset).collect())
}
