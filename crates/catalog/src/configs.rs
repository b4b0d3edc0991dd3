//! What a run's models are: architectures, configurations, prescribed orders.

use arrowhop_types::optimizer::Semantics;
use arrowhop_types::{Architecture, ModelConfig, ModelId, OutputConfig, RunId, RunSpec, ShardId};
use rusqlite::{Row, Transaction, params};

use crate::error::Fault;
use crate::{optimizers, row};

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
        "INSERT INTO models (run, model, architecture, optimizer, is_legacy, schedule,
             class_weights, batch_rows, passes, precision, status)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, 'running')",
    )?;
    for (model, config) in spec.models() {
        insert.execute(params![
            run.0,
            model.0,
            config.architecture,
            config.optimizer.name(),
            config.optimizer.semantics == Semantics::Legacy,
            config.optimizer.learning_rate.schedule(),
            row::list(&config.class_weights),
            config.batch_rows,
            config.passes,
            config.precision.name(),
        ])?;
        write_outputs(transaction, run, model, config)?;
    }
    optimizers::write(transaction, run, spec)?;
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
    let parameters = optimizers::read_parameters(transaction, run)?;
    let mut configs: Vec<ModelConfig> = transaction
        .prepare_cached("SELECT * FROM models WHERE run = ?1 ORDER BY model")?
        .query_map([run.0], |row| {
            Ok(ModelConfig {
                architecture: row.get("architecture")?,
                optimizer: optimizers::read(row, &parameters)?,
                outputs: Vec::new(),
                class_weights: row::numbers(row, "class_weights")?,
                batch_rows: row.get("batch_rows")?,
                passes: row.get("passes")?,
                precision: row::term(row, "precision")?,
            })
        })?
        .collect::<Result<_, _>>()?;
    let mut select = transaction
        .prepare_cached("SELECT * FROM model_outputs WHERE run = ?1 ORDER BY model, position")?;
    for found in
        select.query_map([run.0], |row| Ok((row.get::<_, usize>("model")?, output(row)?)))?
    {
        let (model, output) = found?;
        configs[model - 1].outputs.push(output);
    }
    Ok(configs)
}

fn write_outputs(
    transaction: &Transaction<'_>,
    run: RunId,
    model: ModelId,
    config: &ModelConfig,
) -> Result<(), Fault> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO model_outputs (run, model, position, loss, loss_weight, metrics)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for (position, output) in config.outputs.iter().enumerate() {
        let metrics: Vec<_> = output.metrics.iter().map(ToString::to_string).collect();
        insert.execute(params![
            run.0,
            model.0,
            position,
            output.loss.to_string(),
            output.loss_weight,
            serde_json::json!(metrics).to_string(),
        ])?;
    }
    Ok(())
}

fn output(row: &Row<'_>) -> rusqlite::Result<OutputConfig> {
    let metrics = row::texts(row, "metrics")?;
    let metrics = metrics.iter().map(|metric| metric.parse().map_err(row::mismatch));
    Ok(OutputConfig {
        loss: row::term(row, "loss")?,
        loss_weight: row.get("loss_weight")?,
        metrics: metrics.collect::<Result<_, _>>()?,
    })
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
