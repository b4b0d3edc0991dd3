//! A `[[search.optimizer]]`: a name, and axes of its parameters.

use std::collections::BTreeMap;

use arrowhop_search::{Axis, OptimizerSpace};
use arrowhop_types::Problems;
use arrowhop_types::optimizer::{Domain, Optimizer, ParameterValue, Semantics};
use toml::{Table, Value};

use super::fields::{Fields, list, number, shown};

/// The `i`-th optimizer.
pub(super) fn read(i: usize, table: Table, problems: &mut Problems) -> Option<OptimizerSpace> {
    let place = format!("search.optimizer[{i}]");
    let mut fields = Fields::new(table, &place, problems);
    let name = fields.text("name");
    if name.is_none() {
        fields.wrong("name", "is needed: sgd, adam or another of Keras's");
    }
    let legacy = fields.flag("legacy").unwrap_or(false);
    let semantics = if legacy { Semantics::Legacy } else { Semantics::Current };
    let mut values: BTreeMap<String, Value> = fields.rest().into_iter().collect();
    let named = named(&name?, semantics, &mut values);
    let optimizer = named.map_err(|found| problems.extend(&format!("{place}."), &found)).ok()?;
    let known = optimizer.parameters();
    let mut parameters = BTreeMap::new();
    for (name, value) in values {
        let domain = known.iter().find(|known| known.name == name).map(|known| known.domain);
        match axis(&value, domain) {
            Some(axis) => {
                parameters.insert(name, axis);
            }
            None => {
                let wanted = domain.map_or("a number", Domain::text);
                let text = format!(
                    "{} is neither {wanted}, a list of such, nor {{ low, high, log }}",
                    shown(&value)
                );
                problems.push(format!("{place}.{name}"), text);
            }
        }
    }
    Some(OptimizerSpace { place, optimizer, parameters })
}

/// The optimizer of this name; a schedule's parameters come out of its table.
fn named(
    name: &str,
    semantics: Semantics,
    values: &mut BTreeMap<String, Value>,
) -> Result<Optimizer, Problems> {
    let plain = Optimizer::named(name, semantics)?;
    let mut schedule = match values.get("learning_rate") {
        Some(Value::Table(table)) if table.contains_key("schedule") => table.clone(),
        _ => return Ok(plain),
    };
    values.remove("learning_rate");
    let name = schedule.remove("schedule").unwrap_or(Value::Boolean(false));
    let Some(name) = name.as_str() else {
        let text = format!("{} is not a schedule's name", shown(&name));
        return Err(Problems::one("learning_rate.schedule", text));
    };
    let of_schedule = schedule.into_iter();
    values.extend(of_schedule.map(|(name, value)| (format!("learning_rate.{name}"), value)));
    plain.scheduled(name)
}

/// A value, a list of them, or a range `{ low = 1e-4, high = 1e-2, log = true }`.
fn axis(value: &Value, domain: Option<Domain>) -> Option<Axis> {
    let numbers = |value: &Value| list(value, number).map(ParameterValue::Numbers);
    let one = |value: &Value| match domain {
        Some(Domain::Rates | Domain::Steps) => numbers(value),
        _ => number(value)
            .map(ParameterValue::Number)
            .or_else(|| value.as_bool().map(ParameterValue::Flag)),
    };
    if let Some(one) = one(value) {
        return Some(Axis::Values(vec![one]));
    }
    if let Some(values) = list(value, one) {
        return Some(Axis::Values(values));
    }
    let range = value.as_table()?;
    let known = range.keys().all(|key| ["low", "high", "log"].contains(&key.as_str()));
    let (low, high) = (number(range.get("low")?)?, number(range.get("high")?)?);
    let log = range.get("log").map_or(Some(false), Value::as_bool)?;
    known.then_some(if log { Axis::LogUniform { low, high } } else { Axis::Uniform { low, high } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrowhop_search::{CompileSpace, FitSpace, Grid, Searcher, Space};
    use arrowhop_types::Loss;
    use arrowhop_types::Precision;

    /// The grid of one `[[search.optimizer]]`, or its problems.
    fn grid(text: &str) -> Result<Vec<String>, String> {
        let mut problems = Problems::new();
        let optimizer = read(0, text.parse().unwrap(), &mut problems);
        let optimizer = problems.or(optimizer).map_err(|problems| problems.to_string())?;
        let compile = CompileSpace {
            optimizer: optimizer.expect("it was read without problems"),
            losses: vec![Loss::MeanSquaredError],
        };
        let space = Space {
            architectures: vec!["a".into()],
            compiles: vec![compile],
            fits: vec![FitSpace {
                batch_rows: vec![1],
                passes: vec![1],
                precisions: vec![Precision::F32],
            }],
        };
        let mut grid = Grid::new(&space).map_err(|problems| problems.to_string())?;
        Ok(grid.ask_all().iter().map(|config| config.optimizer.to_string()).collect())
    }

    #[test]
    fn parameters_are_values_lists_and_schedules() {
        let table: [(&str, &[&str]); 6] = [
            ("name = 'Adam'", &["adam 0.001"]),
            (
                "name = 'sgd'\nlegacy = true\nlearning_rate = [0.1, 1]\ndecay = 1e-6",
                &["legacy sgd 0.1 decay 1e-6", "legacy sgd 1 decay 1e-6"],
            ),
            (
                "name = 'adamw'\namsgrad = [false, true]\nclipnorm = 1",
                &["adamw 0.001 clipnorm 1", "adamw 0.001 amsgrad true clipnorm 1"],
            ),
            (
                "name = 'lion'\nlearning_rate = { schedule = 'exponential_decay', \
                 initial_learning_rate = 0.1, decay_steps = [10, 20], decay_rate = 0.5 }",
                &[
                    "lion exponential_decay 0.1 decay_steps 10 decay_rate 0.5",
                    "lion exponential_decay 0.1 decay_steps 20 decay_rate 0.5",
                ],
            ),
            (
                "name = 'sgd'\nlearning_rate = { schedule = 'piecewise_constant_decay', \
                 boundaries = [10], values = [[0.1, 0.01], [0.2, 0.02]] }",
                &[
                    "sgd piecewise_constant_decay boundaries [10] values [0.1, 0.01]",
                    "sgd piecewise_constant_decay boundaries [10] values [0.2, 0.02]",
                ],
            ),
            (
                "name = 'sgd'\nuse_ema = true\nema_overwrite_frequency = [5, 7]",
                &[
                    "sgd 0.01 use_ema true ema_momentum 0.99 ema_overwrite_frequency 5",
                    "sgd 0.01 use_ema true ema_momentum 0.99 ema_overwrite_frequency 7",
                ],
            ),
        ];
        for (text, expected) in table {
            assert_eq!(grid(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_key() {
        let table = [
            ("rate = 1", "search.optimizer[0].name: is needed: sgd, adam or another of Keras's"),
            ("name = 'muon'", "search.optimizer[0].name: \"muon\" is not known; known: sgd, rmsp"),
            (
                "name = 'lamb'\nlegacy = true",
                "search.optimizer[0].name: \"lamb\" is of the current",
            ),
            ("name = 'sgd'\ndecay = 0.1", "search.optimizer[0].decay: is of the legacy semantics"),
            (
                "name = 'sgd'\nmomentum = 'much'",
                "search.optimizer[0].momentum: \"much\" is neither",
            ),
            (
                "name = 'sgd'\nlearning_rate = { schedule = 3 }",
                "search.optimizer[0].learning_rate.sch",
            ),
            (
                "name = 'sgd'\nlearning_rate = { schedule = 'reduce_on_plateau' }",
                "search.optimizer[0].learning_rate.schedule: \"reduce_on_plateau\" is not known; known",
            ),
            (
                "name = 'sgd'\nlearning_rate = { schedule = 'cosine_decay', decay_steps = 3 }",
                "search.optimizer[0].learning_rate.initial_learning_rate: is needed",
            ),
            (
                "name = 'sgd'\nlearning_rate = { low = 1 }",
                "search.optimizer[0].learning_rate: { low = 1 } is neither a number above 0, a list",
            ),
        ];
        for (text, expected) in table {
            let found = grid(text).unwrap_err();
            assert!(found.starts_with(expected), "{found}");
        }
    }
}
