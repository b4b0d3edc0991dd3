//! `arrowhop export`: weights in the formats of `arrowhop_weights`; shards, predictions and histories as
//! tables.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrowhop_catalog::Catalog;
use arrowhop_source::{TableFormat, write_shards, write_table};
use arrowhop_train::State;
use arrowhop_types::{Part, RunId};
use arrowhop_weights::{Format, Network, encode};

use super::predict::{predicted, write_predictions};
use crate::cli::{Export, NewData, Which};
use crate::exit::Exit;
use crate::experiment::Experiment;
use crate::kept::Kept;
use crate::loading::workspace;
use crate::report::print;
use crate::trained::{Trained, arrays};
use crate::uploads::prepare_fetched;

pub(super) fn export(options: &Export) -> anyhow::Result<Exit> {
    match options {
        Export::Weights { which, format, to } => weights(which, format, to),
        Export::Shards { run, state, to, format } => {
            shards(*run, &state.folder(), to, (*format).into())
        }
        Export::Predictions { which, rows, top_k, to, format } => {
            predictions(which, rows, *top_k, to, (*format).into())
        }
        Export::History { run, state, to, format } => {
            history(*run, &state.folder(), to, (*format).into())
        }
    }
}

/// The model's weights in each format, and `architecture.json`.
fn weights(which: &Which, formats: &[Format], to: &Path) -> anyhow::Result<Exit> {
    let trained = Trained::open(which)?;
    let mut state = State::decode(&trained.task, &trained.state)?;
    state.use_averages(&trained.task);
    let spec = trained.task.network();
    let (arrays, keras_json) = (arrays(spec), spec.keras_json());
    let network = Network { keras_json, arrays: &arrays };
    let about = format!("run {}, model {}", trained.record.run, trained.model);
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    for &format in formats {
        let file = encode(format, &network, &state.weights, &about)?;
        write(&to.join(format.file_name()), &file)?;
    }
    write(&to.join("architecture.json"), keras_json.as_bytes())?;
    Ok(Exit::Done)
}

/// What the model predicts for these rows.
fn predictions(
    which: &Which,
    rows: &NewData,
    top_k: Option<u32>,
    to: &Path,
    format: TableFormat,
) -> anyhow::Result<Exit> {
    let trained = Trained::open(which)?;
    write_predictions(to, &predicted(&trained, rows, top_k)?, format)?;
    print(&format!("{}\n", to.display()))?;
    Ok(Exit::Done)
}

/// The run's shards, as they are kept, else prepared again from its sources.
fn shards(run: RunId, state: &Path, to: &Path, format: TableFormat) -> anyhow::Result<Exit> {
    let spec = Catalog::open_read_only(state)?.spec(run)?;
    let prepared = match Kept::of(state).open(&spec.data)? {
        Some(kept) => kept,
        None => {
            let experiment = Experiment::recorded(&spec.experiment, None, spec.bounds)?;
            prepare_fetched(&experiment.data, &workspace(state)?).context("prepare the data")?
        }
    };
    if prepared.data_set.id != spec.data.id {
        bail!("the files of run {run} have changed since; its shards cannot be made again");
    }
    for path in write_shards(to, &prepared.data_set, &prepared.shards, format)? {
        print(&format!("{}\n", path.display()))?;
    }
    Ok(Exit::Done)
}

/// What was measured, a line for each value: of which model, after which epoch, on which rows.
fn history(run: RunId, state: &Path, to: &Path, format: TableFormat) -> anyhow::Result<Exit> {
    let record = Catalog::open_read_only(state)?.run(run)?;
    let schema = Arc::new(Schema::new(vec![
        Field::new("model", DataType::UInt32, false),
        Field::new("epoch", DataType::UInt32, false),
        Field::new("rows", DataType::Utf8, false),
        Field::new("metric", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
    ]));
    let (mut models, mut epochs) = (Vec::new(), Vec::new());
    let (mut parts, mut metrics, mut values) = (Vec::new(), Vec::new(), Vec::new());
    for model in &record.models {
        for epoch in &model.epochs {
            for part in [Part::Train, Part::Validation] {
                for (name, value) in epoch.measures(part).named() {
                    models.push(model.model.0);
                    epochs.push(epoch.epoch + 1);
                    parts.push(part.name());
                    metrics.push(name.to_string());
                    values.push(value);
                }
            }
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt32Array::from(models)),
        Arc::new(UInt32Array::from(epochs)),
        Arc::new(StringArray::from(parts)),
        Arc::new(StringArray::from(metrics)),
        Arc::new(Float64Array::from(values)),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    write_table(to, &schema, &[batch], format)?;
    print(&format!("{}\n", to.display()))?;
    Ok(Exit::Done)
}

/// Writes a file that appears under its name only when it is complete, and names it.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("part");
    let written = fs::write(&partial, bytes).and_then(|()| fs::rename(&partial, path));
    written.with_context(|| format!("write {}", path.display()))?;
    print(&format!("{}\n", path.display()))?;
    Ok(())
}
