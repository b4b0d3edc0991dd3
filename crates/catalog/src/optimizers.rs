//! The models' optimizers: their names in `models`, their parameters a row each.

use std::collections::BTreeMap;

use arrowhop_types::optimizer::{Domain, Optimizer, Parameter, ParameterValue, Semantics};
use arrowhop_types::{ModelId, Problems, RunId, RunSpec};
use rusqlite::{Row, Transaction, params};

use crate::error::Fault;
use crate::row;

/// A model whose rows make no optimizer.
#[derive(Debug, thiserror::Error)]
#[error("a model's optimizer does not exist: {0}")]
struct NoOptimizer(Problems);

/// Each model's parameters by name, a list's members in order.
pub(crate) type Parameters = BTreeMap<ModelId, BTreeMap<String, Vec<f64>>>;

/// Records the parameters of a run's optimizers.
pub(crate) fn write(
    transaction: &Transaction<'_>,
    run: RunId,
    spec: &RunSpec,
) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO optimizer_parameters (run, model, name, position, value)
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (model, config) in spec.models() {
        for Parameter { name, value, .. } in config.optimizer.parameters() {
            let numbers = match value {
                None => continue,
                Some(ParameterValue::Number(number)) => vec![number],
                Some(ParameterValue::Flag(flag)) => vec![f64::from(u8::from(flag))],
                Some(ParameterValue::Numbers(numbers)) => numbers,
            };
            for (position, number) in numbers.into_iter().enumerate() {
                insert.execute(params![run.0, model.0, name, position, number])?;
            }
        }
    }
    Ok(())
}

/// The parameters of a run's optimizers.
pub(crate) fn read_parameters(
    transaction: &Transaction<'_>,
    run: RunId,
) -> Result<Parameters, Fault> {
    let mut parameters = Parameters::new();
    let mut select = transaction.prepare_cached(
        "SELECT model, name, value FROM optimizer_parameters WHERE run = ?1
         ORDER BY model, name, position",
    )?;
    let mut rows = select.query([run.0])?;
    while let Some(row) = rows.next()? {
        let of_model = parameters.entry(ModelId(row.get("model")?)).or_default();
        of_model.entry(row.get("name")?).or_default().push(row.get("value")?);
    }
    Ok(parameters)
}

/// The optimizer of a row of `models`.
pub(crate) fn read(row: &Row<'_>, parameters: &Parameters) -> rusqlite::Result<Optimizer> {
    let model = ModelId(row.get("model")?);
    let name: String = row.get("optimizer")?;
    let schedule: Option<String> = row.get("schedule")?;
    let semantics = if row.get("is_legacy")? { Semantics::Legacy } else { Semantics::Current };
    let plain = Optimizer::named(&name, semantics).and_then(|plain| match &schedule {
        Some(schedule) => plain.scheduled(schedule),
        None => Ok(plain),
    });
    let optimizer = plain.and_then(|plain| {
        let known = plain.parameters();
        let given = parameters.get(&model);
        let values: Vec<_> = given
            .into_iter()
            .flatten()
            .map(|(name, numbers)| {
                let domain = known.iter().find(|known| known.name == name).map(|p| p.domain);
                (name.as_str(), value(domain, numbers))
            })
            .collect();
        plain.with(&values)
    });
    optimizer.map_err(|problems| row::mismatch(NoOptimizer(problems)))
}

/// What the numbers of a parameter mean.
fn value(domain: Option<Domain>, numbers: &[f64]) -> ParameterValue {
    match (domain, numbers) {
        (Some(Domain::Flag), [flag]) => ParameterValue::Flag(*flag != 0.0),
        (Some(Domain::Rates | Domain::Steps), _) => ParameterValue::Numbers(numbers.to_vec()),
        (_, [number]) => ParameterValue::Number(*number),
        _ => ParameterValue::Numbers(numbers.to_vec()),
    }
}
