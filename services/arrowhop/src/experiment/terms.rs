//! Losses, metrics, class weights and the objective: names with parameters.

use std::collections::BTreeMap;
use std::str::FromStr;

use arrowhop_types::{Direction, InvalidTerm, LOSS, Loss, Metric, Objective, Part, Problems};
use toml::{Table, Value};

use super::fields::{Fields, number, shown};

/// What rows count in training, by their class.
#[derive(Debug, Clone, PartialEq)]
pub enum ClassWeight {
    /// Rows over classes times the class's rows: every class counts the same.
    Balanced,
    /// By the class's name; others count 1.
    ByName(BTreeMap<String, f64>),
}

/// What one of several outputs is held to, where that is not what the others are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutputTerms {
    /// Instead of the searched one.
    pub loss: Option<Loss>,
    /// What it counts in the sum over outputs; else 1.
    pub loss_weight: Option<f64>,
    /// Instead of those of all.
    pub metrics: Option<Vec<Metric>>,
}

/// How models are to be ranked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// On which rows.
    pub part: Part,
    /// [`LOSS`], or the name of a metric.
    pub metric: String,
    /// The metric's own where it is not given.
    pub direction: Option<Direction>,
}

/// One term or a list of them: `"huber"`, `"huber(delta=0.5)"` or `{ name = "huber", delta = 0.5 }`.
pub(super) fn terms<T>(fields: &mut Fields<'_>, key: &'static str) -> Option<Vec<T>>
where
    T: FromStr<Err = InvalidTerm>,
{
    let terms = match fields.value(key)? {
        Value::Array(terms) => terms,
        one => vec![one],
    };
    let mut read = Vec::new();
    for term in &terms {
        match text(term).map(|text| text.parse::<T>()) {
            Some(Ok(term)) => read.push(term),
            Some(Err(problem)) => fields.wrong(key, problem.to_string()),
            None => {
                let text = "is neither a name nor { name = …, parameter = … }";
                fields.wrong(key, format!("{} {text}", shown(term)));
            }
        }
    }
    Some(read)
}

fn text(term: &Value) -> Option<String> {
    match term {
        Value::String(text) => Some(text.clone()),
        Value::Table(table) => {
            let name = table.get("name")?.as_str()?;
            let parameters = table.iter().filter(|(key, _)| *key != "name");
            let parameters: Vec<_> =
                parameters.map(|(key, value)| format!("{key}={value}")).collect();
            Some(format!("{name}({})", parameters.join(",")))
        }
        _ => None,
    }
}

/// `[search.outputs.NAME]`, for each name.
pub(super) fn outputs(fields: &mut Fields<'_>) -> BTreeMap<String, OutputTerms> {
    let mut found = BTreeMap::new();
    let mut problems = Problems::new();
    for (name, value) in fields.table("outputs").unwrap_or_default() {
        let place = format!("outputs.{name}");
        let Value::Table(table) = value else {
            problems.push(place, format!("{} is no table", shown(&value)));
            continue;
        };
        let mut of = Fields::new(table, &place, &mut problems);
        let mut losses = terms::<Loss>(&mut of, "loss").unwrap_or_default();
        if losses.len() > 1 {
            of.wrong("loss", "one output has one loss");
        }
        let (loss_weight, metrics) = (of.number("loss_weight"), terms(&mut of, "metrics"));
        of.finish();
        found.insert(name, OutputTerms { loss: losses.pop(), loss_weight, metrics });
    }
    fields.all_wrong(&problems);
    found
}

/// `"balanced"`, or weights by class.
pub(super) fn class_weight(fields: &mut Fields<'_>) -> Option<ClassWeight> {
    let key = "class_weight";
    match fields.value(key)? {
        Value::String(text) if text == "balanced" => Some(ClassWeight::Balanced),
        Value::Table(table) => {
            let mut weights = BTreeMap::new();
            for (class, value) in &table {
                match number(value) {
                    Some(weight) => {
                        weights.insert(class.clone(), weight);
                    }
                    None => fields.wrong(key, format!("{class}: {} is no number", shown(value))),
                }
            }
            Some(ClassWeight::ByName(weights))
        }
        other => {
            let text = "is neither \"balanced\" nor { class = weight, … }";
            fields.wrong(key, format!("{} {text}", shown(&other)));
            None
        }
    }
}

/// `"validation_auc"`, or `{ metric = "validation_auc", direction = "minimize" }`.
pub(super) fn objective(fields: &mut Fields<'_>) -> Option<Wanted> {
    let key = "objective";
    let table = match fields.value(key)? {
        Value::Table(table) => table,
        other => Table::from_iter([("metric".to_owned(), other)]),
    };
    let direction = match table.get("direction").map(|word| word.as_str()) {
        None => None,
        Some(Some("minimize")) => Some(Direction::Minimize),
        Some(Some("maximize")) => Some(Direction::Maximize),
        Some(_) => {
            fields.wrong(key, "direction is minimize or maximize");
            None
        }
    };
    if let Some(unknown) = table.keys().find(|key| !["metric", "direction"].contains(&&***key)) {
        fields.wrong(key, format!("{unknown} is unknown; known here: metric, direction"));
    }
    let name = table.get("metric").and_then(Value::as_str);
    let Some((part, metric)) = name.and_then(Objective::split) else {
        let found = table.get("metric").map_or_else(|| "nothing".to_owned(), shown);
        let text = "is not train_ or validation_ and then loss or a metric: validation_auc";
        fields.wrong(key, format!("{found} {text}"));
        return None;
    };
    // A metric goes by any of its names, but is reported by one.
    let metric = match metric.parse::<Metric>() {
        Ok(known) if metric != LOSS => known.to_string(),
        _ => metric.to_owned(),
    };
    Some(Wanted { part, metric, direction })
}
