//! `arrowhop export`: weights as safetensors in Keras's order, shards as Parquet.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use arrowhop_catalog::Catalog;
use arrowhop_source::{prepare, write_shards};
use arrowhop_train::State;
use arrowhop_types::RunId;
use safetensors::tensor::{Dtype, TensorView};

use crate::cli::{Export, Which};
use crate::exit::Exit;
use crate::experiment::Experiment;
use crate::report::print;
use crate::trained::Trained;

pub(super) fn export(options: &Export) -> anyhow::Result<Exit> {
    match options {
        Export::Weights { which, to } => weights(which, to),
        Export::Shards { run, state, to } => shards(*run, &state.folder(), to),
    }
}

/// `weights.safetensors`, whose tensors are named `000.layer/weight` so that their order by name is
/// Keras's order of `get_weights()`, and `architecture.json`.
fn weights(which: &Which, to: &Path) -> anyhow::Result<Exit> {
    let trained = Trained::open(which)?;
    let state = State::decode(&trained.task, &trained.state)?;
    let specs = trained.task.network().weights();
    let bytes: Vec<Vec<u8>> = state
        .weights
        .iter()
        .map(|weights| weights.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let mut tensors = Vec::new();
    for (i, (spec, bytes)) in specs.iter().zip(&bytes).enumerate() {
        let view = TensorView::new(Dtype::F32, spec.shape.clone(), bytes)?;
        tensors.push((format!("{i:03}.{}", spec.name), view));
    }
    let about = HashMap::from([(
        "arrowhop".to_owned(),
        format!("run {}, model {}", trained.record.run, trained.model),
    )]);
    let file = safetensors::serialize(tensors, Some(about))?;
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    write(&to.join("weights.safetensors"), &file)?;
    write(&to.join("architecture.json"), trained.task.network().keras_json().as_bytes())?;
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
