//! A trained model, from the catalog and the model store of a state folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use arrowhop_catalog::Catalog;
use arrowhop_network::NetworkSpec;
use arrowhop_train::Task;
use arrowhop_types::{Digest, ModelId, Problems, RunId, RunRecord, RunSpec};
use arrowhop_weights::ArraySpec;

use crate::cli::Which;

/// A model with its latest state.
pub(crate) struct Trained {
    pub(crate) record: RunRecord,
    pub(crate) model: ModelId,
    pub(crate) task: Task,
    /// As `arrowhop_train` encodes it.
    pub(crate) state: Vec<u8>,
}

impl Trained {
    /// The model asked for, or the run's best.
    pub(crate) fn open(which: &Which) -> anyhow::Result<Self> {
        Self::open_in(&which.state.folder(), which.run, which.model)
    }

    /// The same, of a state folder.
    pub(crate) fn open_in(
        folder: &Path,
        run: RunId,
        model: Option<ModelId>,
    ) -> anyhow::Result<Self> {
        let catalog = Catalog::open_read_only(folder)?;
        let record = catalog.run(run)?;
        let Some(model) = model.or_else(|| Some(record.best()?.model)) else {
            bail!("run {run} has no best model yet; name one with --model");
        };
        let task = task_of(&record, model)?;
        let Some(checkpoint) = catalog.latest_checkpoint(run, model)? else {
            bail!("model {model} of run {run} is not in the model store yet");
        };
        let state = read_state(&folder.join(&checkpoint.path), checkpoint.digest)?;
        Ok(Self { record, model, task, state })
    }
}

/// A model's task, from its run's record.
pub(crate) fn task_of(record: &RunRecord, model: ModelId) -> anyhow::Result<Task> {
    if record.spec.config(model).is_none() {
        let models = record.spec.configs.len();
        let text = format!("there is none; run {} has models 1 to {models}", record.run);
        return Err(Problems::one(format!("model {model}"), text).into());
    }
    task_of_spec(&record.spec, model)
}

/// A model's task, from its run's specification.
pub(crate) fn task_of_spec(spec: &RunSpec, model: ModelId) -> anyhow::Result<Task> {
    let config = spec.config(model).context("the run lacks the model")?;
    let architecture = spec.architecture(&config.architecture);
    let architecture = architecture.context("the run lacks the model's architecture")?;
    let network = NetworkSpec::parse(&architecture.keras_json)?;
    Ok(Task::of_run(spec, model, config, network)?)
}

/// A network's arrays, as weight files list them.
pub(crate) fn arrays(network: &NetworkSpec) -> Vec<ArraySpec> {
    let weights = network.weights().into_iter();
    weights.map(|weight| ArraySpec { name: weight.name, shape: weight.shape }).collect()
}

/// A state of the model store, checked.
pub(crate) fn read_state(path: &Path, digest: Digest) -> anyhow::Result<Vec<u8>> {
    let place: PathBuf = path.to_owned();
    let state = std::fs::read(&place).with_context(|| format!("read {}", place.display()))?;
    let found = Digest(blake3::hash(&state).into());
    if found != digest {
        bail!(
            "{} is damaged: its digest is {}, but the catalog has {}; resume the run to remake it",
            place.display(),
            found.short(),
            digest.short()
        );
    }
    Ok(state)
}
