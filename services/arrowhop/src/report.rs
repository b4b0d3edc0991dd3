//! Leaderboards and lists, as tables, JSON or CSV on standard output.

use std::io::{self, Write};

use arrowhop_catalog::RunSummary;
use arrowhop_types::optimizer::{Optimizer, ParameterValue, Semantics};
use arrowhop_types::{
    Direction, EpochRecord, LOSS, ModelConfig, ModelRecord, ModelStatus, Part, Precision,
    RunRecord, RunStatus, SourceRecord, Target, TargetColumn,
};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value, json};

use crate::cli::Output;
use crate::exit::Exit;

/// A column of measurements: on which rows, and what.
type Column = (Part, String);

/// Prints a run's leaderboard.
pub(crate) fn leaderboard(record: &RunRecord, output: Output) -> io::Result<()> {
    match output {
        Output::Table => print(&leaderboard_text(record)),
        Output::Json => print(&format!("{:#}\n", leaderboard_json(record))),
        Output::Csv => print(&leaderboard_csv(record)),
    }
}

/// How a command about this run ends.
pub(crate) fn exit(record: &RunRecord) -> Exit {
    let broken = |model: &ModelRecord| model.status.reason().is_some();
    match record.status {
        RunStatus::Failed { .. } => Exit::Failed,
        _ if record.models.iter().any(broken) => Exit::ModelsFailed,
        _ => Exit::Done,
    }
}

/// Writes to standard output; a reader that has gone is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// An empty table for people.
pub(crate) fn table<const N: usize>(header: [&str; N], right_aligned: &[usize]) -> Table {
    table_of(header.map(str::to_owned).to_vec(), right_aligned.iter().copied())
}

fn table_of(header: Vec<String>, right_aligned: impl IntoIterator<Item = usize>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header);
    for column in right_aligned {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn leaderboard_text(record: &RunRecord) -> String {
    let spec = &record.spec;
    let columns = columns(record);
    let fixed = ["model", "network", "optimizer", "batch", "epochs"].map(str::to_owned);
    let names = columns.iter().map(|(part, name)| match part {
        Part::Train => format!("train {name}"),
        Part::Validation => format!("valid {name}"),
    });
    let header = fixed.into_iter().chain(names).chain(["status".to_owned()]).collect();
    let mut table = table_of(header, [0].into_iter().chain(3..5 + columns.len()));
    for model in record.ranking() {
        let shown = |column: &Column| match measured(model.epochs.last(), column) {
            Some(value) => format!("{value:.4}"),
            None => "–".to_owned(),
        };
        let mut row = vec![
            model.model.to_string(),
            network_text(&model.config),
            model.config.optimizer.to_string(),
            model.config.batch_rows.to_string(),
            format!("{}/{}", model.epochs.len(), spec.epochs),
        ];
        row.extend(columns.iter().map(shown));
        row.push(status_text(&model.status));
        table.add_row(row);
    }
    let best = match record.best() {
        Some(best) => {
            let (name, value) = (spec.objective.name(), best.value(&spec.objective));
            format!("best: model {} with {name} {:.4}", best.model, value.unwrap_or(f64::NAN))
        }
        None => "best: none yet".to_owned(),
    };
    let direction = match spec.objective.direction {
        Direction::Minimize => "smaller",
        Direction::Maximize => "larger",
    };
    let bounds = if spec.bounds.is_empty() {
        String::new()
    } else {
        format!(", bounded by {}", spec.bounds.join(" "))
    };
    format!(
        "{table}\nrun {} ({}) {} after {:.1} s: {} models, {} epochs, {} rows in {} shards{bounds}\n\
         {best} ({direction} is better)\n",
        record.run,
        spec.name,
        record.status.name(),
        record.elapsed.as_secs_f64(),
        spec.configs.len(),
        spec.epochs,
        spec.data.rows(Part::Train),
        spec.data.shards.len(),
    )
}

/// The network, and the precision where it is not the usual one.
fn network_text(config: &ModelConfig) -> String {
    match config.precision {
        Precision::F32 => config.architecture.clone(),
        precision => format!("{} in {precision}", config.architecture),
    }
}

fn status_text(status: &ModelStatus) -> String {
    match status.reason() {
        Some(reason) => format!("{}: {reason}", status.name()),
        None => status.name().to_owned(),
    }
}

/// One object: the run, its best model, and its models from best to worst.
pub(crate) fn leaderboard_json(record: &RunRecord) -> Value {
    let spec = &record.spec;
    let columns = columns(record);
    let models = record.ranking().into_iter().map(|model| model_json(model, &columns));
    json!({
        "schema_version": 1,
        "run": record.run.0,
        "name": spec.name,
        "status": record.status.name(),
        "reason": match &record.status {
            RunStatus::Failed { reason } => Some(reason),
            _ => None,
        },
        "objective": {
            "metric": spec.objective.name(),
            "direction": match spec.objective.direction {
                Direction::Minimize => "minimize",
                Direction::Maximize => "maximize",
            },
        },
        "best": record.best().map(|best| best.model.0),
        "seed": spec.seed,
        "epochs": spec.epochs,
        "bounds": spec.bounds,
        "elapsed_seconds": record.elapsed.as_secs_f64(),
        "data": {
            "id": spec.data.id.to_string(),
            "name": spec.data.name,
            "train_rows": spec.data.rows(Part::Train),
            "validation_rows": spec.data.rows(Part::Validation),
            "test_rows": spec.data.test.as_ref().map_or(0, |test| test.rows),
            "shards": spec.data.shards.len(),
            "rows_digest": spec.data.rows_digest.to_string(),
            "inputs": spec.data.inputs.iter().map(|input| &input.name).collect::<Vec<_>>(),
            "targets": spec.data.targets.iter().map(target_json).collect::<Vec<_>>(),
            "sources": spec.sources.iter().map(source_json).collect::<Vec<_>>(),
        },
        "models": models.collect::<Vec<_>>(),
    })
}

fn source_json(SourceRecord { name, rows, version, way, digest }: &SourceRecord) -> Value {
    let digest = digest.map(|digest| digest.to_string());
    json!({ "name": name, "rows": rows, "version": version, "way": way, "digest": digest })
}

fn target_json(TargetColumn { name, target }: &TargetColumn) -> Value {
    let classes = match target {
        Target::Classes(list) => Some(list.names()),
        Target::Values(_) => None,
    };
    json!({ "name": name, "width": target.width(), "classes": classes })
}

/// Everything that any model measured: training rows before validation rows, the loss first.
fn columns(record: &RunRecord) -> Vec<Column> {
    let mut columns = Vec::new();
    for part in [Part::Train, Part::Validation] {
        let latest = record.models.iter().filter_map(|model| model.epochs.last());
        let measured = latest.flat_map(|epoch| epoch.measures(part).named());
        let mut names = vec![LOSS];
        for (name, _) in measured {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        columns.extend(names.into_iter().map(|name| (part, name.to_owned())));
    }
    columns
}

/// A column's name in JSON and CSV.
fn key((part, name): &Column) -> String {
    format!("{}_{name}", part.name())
}

/// A column's value after an epoch.
fn measured(epoch: Option<&EpochRecord>, (part, name): &Column) -> Option<f64> {
    epoch?.measures(*part).value(name)
}

fn model_json(model: &ModelRecord, columns: &[Column]) -> Value {
    let mut object = Map::new();
    object.insert("model".into(), model.model.0.into());
    object.insert("config".into(), config_json(&model.config));
    object.insert("status".into(), model.status.name().into());
    object.insert("reason".into(), model.status.reason().into());
    object.insert("epochs".into(), model.epochs.len().into());
    insert_metrics(&mut object, columns, model.epochs.last());
    let history = model.epochs.iter().map(|epoch| {
        let mut entry = Map::new();
        entry.insert("epoch".into(), (epoch.epoch + 1).into());
        insert_metrics(&mut entry, columns, Some(epoch));
        Value::Object(entry)
    });
    object.insert("history".into(), history.collect());
    let digest = model.checkpoint.map(|(_, digest)| digest.to_string());
    let initial = model.initial.map(|digest| digest.to_string());
    object.insert("digest".into(), digest.into());
    object.insert("initial_digest".into(), initial.into());
    Value::Object(object)
}

fn insert_metrics(
    object: &mut Map<String, Value>,
    columns: &[Column],
    epoch: Option<&EpochRecord>,
) {
    for column in columns {
        object.insert(key(column), measured(epoch, column).into());
    }
}

/// The losses of the outputs, in one text.
fn losses(config: &ModelConfig) -> String {
    let losses = config.outputs.iter().map(|output| output.loss.to_string());
    losses.collect::<Vec<_>>().join(" + ")
}

fn config_json(config: &ModelConfig) -> Value {
    json!({
        "architecture": config.architecture,
        "optimizer": optimizer_json(&config.optimizer),
        "loss": losses(config),
        "loss_weights":
            config.outputs.iter().map(|output| output.loss_weight).collect::<Vec<_>>(),
        "class_weights": config.class_weights,
        "batch_size": config.batch_rows,
        "passes": config.passes,
        "precision": config.precision.name(),
    })
}

/// What is set, by Keras's names; a schedule is an object of its own, as in experiments.
fn optimizer_json(optimizer: &Optimizer) -> Value {
    let mut object = json!({
        "name": optimizer.name(),
        "legacy": optimizer.semantics == Semantics::Legacy,
    });
    if let Some(schedule) = optimizer.learning_rate.schedule() {
        object["learning_rate"] = json!({ "schedule": schedule });
    }
    for parameter in optimizer.parameters() {
        let value = match parameter.value {
            None => continue,
            Some(ParameterValue::Number(number)) => json!(number),
            Some(ParameterValue::Flag(flag)) => json!(flag),
            Some(ParameterValue::Numbers(numbers)) => json!(numbers),
        };
        match parameter.name.strip_prefix("learning_rate.") {
            Some(name) => object["learning_rate"][name] = value,
            None => object[parameter.name] = value,
        }
    }
    object
}

fn leaderboard_csv(record: &RunRecord) -> String {
    let columns = columns(record);
    let mut text = String::from(
        "model,architecture,optimizer,learning_rate,loss,batch_size,passes,precision,status,epochs",
    );
    for column in &columns {
        text.push(',');
        text.push_str(&csv_field(&key(column)));
    }
    text.push('\n');
    for model in record.ranking() {
        let config = &model.config;
        let value = |column: &Column| {
            measured(model.epochs.last(), column).map_or_else(String::new, |v| v.to_string())
        };
        let fields = [
            model.model.to_string(),
            csv_field(&config.architecture),
            config.optimizer.name().to_owned(),
            config.optimizer.learning_rate.initial().to_string(),
            csv_field(&losses(config)),
            config.batch_rows.to_string(),
            config.passes.to_string(),
            config.precision.to_string(),
            model.status.name().to_owned(),
            model.epochs.len().to_string(),
        ];
        let fields = fields.into_iter().chain(columns.iter().map(value));
        text.push_str(&fields.collect::<Vec<_>>().join(","));
        text.push('\n');
    }
    text
}

/// A text as a CSV field (RFC 4180).
pub(crate) fn csv_field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// Prints the list of runs.
pub(crate) fn runs(runs: &[RunSummary], output: Output) -> io::Result<()> {
    let best = |run: &RunSummary| run.best.map(|value| format!("{value:.4}")).unwrap_or_default();
    match output {
        Output::Table => {
            let header =
                ["run", "name", "status", "models", "epochs", "objective", "best", "seconds"];
            let mut table = table(header, &[0, 3, 4, 6, 7]);
            for run in runs {
                table.add_row([
                    run.run.to_string(),
                    run.name.clone(),
                    run.status.name().to_owned(),
                    format!("{}/{}", run.models_finished, run.models),
                    run.epochs.to_string(),
                    run.objective.name(),
                    best(run),
                    format!("{:.1}", run.elapsed.as_secs_f64()),
                ]);
            }
            print(&format!("{table}\n"))
        }
        Output::Json => {
            let entries = runs.iter().map(|run| {
                json!({
                    "run": run.run.0,
                    "name": run.name,
                    "status": run.status.name(),
                    "data": run.data_set,
                    "models": run.models,
                    "models_finished": run.models_finished,
                    "epochs": run.epochs,
                    "objective": run.objective.name(),
                    "best": run.best,
                    "submitted_at_us": run.submitted_at.0,
                    "elapsed_seconds": run.elapsed.as_secs_f64(),
                })
            });
            let list = json!({ "schema_version": 1, "runs": entries.collect::<Vec<_>>() });
            print(&format!("{list:#}\n"))
        }
        Output::Csv => {
            let mut text = String::from("run,name,status,models,models_finished,epochs,best\n");
            for run in runs {
                text.push_str(&format!(
                    "{},{},{},{},{},{},{}\n",
                    run.run,
                    csv_field(&run.name),
                    run.status.name(),
                    run.models,
                    run.models_finished,
                    run.epochs,
                    run.best.map_or_else(String::new, |value| value.to_string()),
                ));
            }
            print(&text)
        }
    }
}
