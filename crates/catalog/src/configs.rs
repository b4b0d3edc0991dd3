//! What a run's models are: architectures, configurations, prescribed orders.

use arrowhop_types::{
    Adam, Architecture, ModelConfig, Optimizer, RmsProp, RunId, RunSpec, Sgd, ShardId,
};
use rusqlite::{Row, Transaction, params};

use crate::error::Fault;
use crate::row;
use crate::words::Word;

/// Records the models of a new run, running, at version 0.
pub(crate) fn write(
    transaction: &Transaction<'_>,
    run: RunId,
    spec: &RunSpec,
) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO run_architectures (run, position, name, keras_json) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (position, architecture) in spec.architectures.iter().enumerate() {
        insert.execute(params![run.0, position, architecture.name, architecture.keras_json])?;
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO models (run, model, architecture, optimizer, learning_rate, decay, momentum,
             nesterov, rho, epsilon, centered, beta_1, beta_2, amsgrad, loss, batch_rows, passes,
             status)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17,
                 'running')",
    )?;
    for (model, config) in spec.models() {
        let columns = OptimizerColumns::from(config.optimizer);
        insert.execute(params![
            run.0,
            model.0,
            config.architecture,
            config.optimizer.name(),
            columns.learning_rate,
            columns.decay,
            columns.momentum,
            columns.nesterov,
            columns.rho,
            columns.epsilon,
            columns.centered,
            columns.beta_1,
            columns.beta_2,
            columns.amsgrad,
            config.loss.word(),
            config.batch_rows,
            config.passes,
        ])?;
    }
    write_prescribed(transaction, run, spec)
}

/// A run's architectures, in order.
pub(crate) fn read_architectures(
    transaction: &Transaction<'_>,
    run: RunId,
) -> Result<Vec<Architecture>, Fault> {
    let architectures = transaction
        .prepare_cached("SELECT * FROM run_architectures WHERE run = ?1 ORDER BY position")?
        .query_map([run.0], |row| {
            Ok(Architecture { name: row.get("name")?, keras_json: row.get("keras_json")? })
        })?
        .collect::<Result<_, _>>()?;
    Ok(architectures)
}

/// A run's configurations, by model.
pub(crate) fn read(transaction: &Transaction<'_>, run: RunId) -> Result<Vec<ModelConfig>, Fault> {
    let configs = transaction
        .prepare_cached("SELECT * FROM models WHERE run = ?1 ORDER BY model")?
        .query_map([run.0], |row| {
            Ok(ModelConfig {
                architecture: row.get("architecture")?,
                optimizer: optimizer(row)?,
                loss: row::word(row, "loss")?,
                batch_rows: row.get("batch_rows")?,
                passes: row.get("passes")?,
            })
        })?
        .collect::<Result<_, _>>()?;
    Ok(configs)
}

/// The order of training visits given in advance to each of `models` models.
pub(crate) fn read_prescribed(
    transaction: &Transaction<'_>,
    run: RunId,
    models: usize,
) -> Result<Vec<Vec<ShardId>>, Fault> {
    let mut select = transaction.prepare_cached(
        "SELECT shard FROM prescribed_orders WHERE run = ?1 AND model = ?2 ORDER BY position",
    )?;
    (1..=models)
        .map(|model| {
            let order = select.query_map(params![run.0, model], row::shard)?;
            Ok(order.collect::<Result<_, _>>()?)
        })
        .collect()
}

/// An optimizer's numbers, by Keras's names.
pub(crate) fn parameters(optimizer: &Optimizer) -> Vec<(&'static str, f64)> {
    let columns = OptimizerColumns::from(*optimizer);
    let optional = [
        ("momentum", columns.momentum),
        ("rho", columns.rho),
        ("epsilon", columns.epsilon),
        ("beta_1", columns.beta_1),
        ("beta_2", columns.beta_2),
    ];
    [("learning_rate", columns.learning_rate), ("decay", columns.decay)]
        .into_iter()
        .chain(optional.into_iter().filter_map(|(name, value)| Some((name, value?))))
        .collect()
}

fn write_prescribed(
    transaction: &Transaction<'_>,
    run: RunId,
    spec: &RunSpec,
) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO prescribed_orders (run, model, position, shard) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for ((model, _), order) in spec.models().zip(&spec.prescribed) {
        for (position, shard) in order.iter().enumerate() {
            insert.execute(params![run.0, model.0, position, shard.0])?;
        }
    }
    Ok(())
}

/// An optimizer's parameters as the `models` table has them: NULL where it has none.
#[derive(Default)]
struct OptimizerColumns {
    learning_rate: f64,
    decay: f64,
    momentum: Option<f64>,
    nesterov: Option<bool>,
    rho: Option<f64>,
    epsilon: Option<f64>,
    centered: Option<bool>,
    beta_1: Option<f64>,
    beta_2: Option<f64>,
    amsgrad: Option<bool>,
}

impl From<Optimizer> for OptimizerColumns {
    fn from(optimizer: Optimizer) -> Self {
        match optimizer {
            Optimizer::Sgd(sgd) => Self {
                learning_rate: sgd.learning_rate,
                decay: sgd.decay,
                momentum: Some(sgd.momentum),
                nesterov: Some(sgd.nesterov),
                ..Self::default()
            },
            Optimizer::RmsProp(rms_prop) => Self {
                learning_rate: rms_prop.learning_rate,
                decay: rms_prop.decay,
                momentum: Some(rms_prop.momentum),
                rho: Some(rms_prop.rho),
                epsilon: Some(rms_prop.epsilon),
                centered: Some(rms_prop.centered),
                ..Self::default()
            },
            Optimizer::Adam(adam) => Self {
                learning_rate: adam.learning_rate,
                decay: adam.decay,
                epsilon: Some(adam.epsilon),
                beta_1: Some(adam.beta_1),
                beta_2: Some(adam.beta_2),
                amsgrad: Some(adam.amsgrad),
                ..Self::default()
            },
        }
    }
}

fn optimizer(row: &Row<'_>) -> rusqlite::Result<Optimizer> {
    let name: String = row.get("optimizer")?;
    let learning_rate = row.get("learning_rate")?;
    let decay = row.get("decay")?;
    match name.as_str() {
        "sgd" => Ok(Optimizer::Sgd(Sgd {
            learning_rate,
            decay,
            momentum: row.get("momentum")?,
            nesterov: row.get("nesterov")?,
        })),
        "rmsprop" => Ok(Optimizer::RmsProp(RmsProp {
            learning_rate,
            decay,
            momentum: row.get("momentum")?,
            rho: row.get("rho")?,
            epsilon: row.get("epsilon")?,
            centered: row.get("centered")?,
        })),
        "adam" => Ok(Optimizer::Adam(Adam {
            learning_rate,
            decay,
            epsilon: row.get("epsilon")?,
            beta_1: row.get("beta_1")?,
            beta_2: row.get("beta_2")?,
            amsgrad: row.get("amsgrad")?,
        })),
        _ => Err(row::unknown_word("optimizer", name)),
    }
}
