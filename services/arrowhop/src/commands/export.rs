//! `arrowhop export`: weights in the formats of `arrowhop_weights`, shards as Parquet.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use arrowhop_catalog::Catalog;
use arrowhop_source::{prepare, write_shards};
use arrowhop_train::State;
use arrowhop_types::RunId;
use arrowhop_weights::{Format, Network, encode};

use crate::cli::{Export, Which};
use crate::exit::Exit;
use crate::experiment::Experiment;
use crate::report::print;
use crate::trained::{Trained, arrays};

pub(super) fn export(options: &Export) -> anyhow::Result<Exit> {
    match options {
        Export::Weights { which, format, to } => weights(which, format, to),
        Export::Shards { run, state, to } => shards(*run, &state.folder(), to),
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

/// The run's shards, prepared again from its sources.
fn shards(run: RunId, state: &Path, to: &Path) -> anyhow::Result<Exit> {
    let spec = Catalog::open_read_only(state)?.spec(run)?;
    let experiment = Experiment::recorded(&spec.experiment, None, spec.bounds)?;
    let prepared = prepare(&experiment.data).context("prepare the data")?;
    if prepared.data_set.id != spec.data.id {
        bail!("the files of run {run} have changed since; its shards cannot be made again");
    }
    for path in write_shards(to, &prepared.data_set, &prepared.shards)? {
        print(&format!("{}\n", path.display()))?;
    }
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
