//! First weights: which models of a new run start from weights that were given, by a file or by an
//! earlier run, and which are drawn. Those given become version 0 in the supervisor's model store
//! before the run is submitted; optimizers start afresh.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use arrowhop_flight::{FlightPeer, ModelTicket, StateBytes, connect};
use arrowhop_network::NetworkSpec;
use arrowhop_train::State;
use arrowhop_types::{Digest, ModelId, ModelRecord, Problems, RunRecord, RunSpec, Version};

use crate::networks::Network;
use crate::trained::{arrays, task_of_spec};

pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A state may take this long; 10 GB at 50 MB/s.
pub(crate) const STATE_TIMEOUT: Duration = Duration::from_secs(200);
/// Larger states are not fetched.
pub(crate) const STATE_BYTES_MAX: u64 = 16 << 30;
/// Models that are listed one by one.
const LINES_MAX: usize = 20;

/// Where a model's first weights come from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    /// Drawn; why, where an earlier run might have given them.
    Drawn(Option<String>),
    /// From the file of its network.
    File,
    /// From a model of the earlier run, as it was last kept.
    Earlier { model: ModelId, version: Version, is_same_config: bool },
}

/// The first weights of a run's models.
pub(crate) struct FirstWeights {
    networks: Vec<Network>,
    earlier: Option<RunRecord>,
    /// By model.
    starts: Vec<Start>,
}

impl FirstWeights {
    /// Decides where each model of `spec` starts. Of an earlier run a model goes on from the one
    /// with its configuration, else from the one with its number where that has the same arrays
    /// (MADlib's model key); each of them is gone on from once.
    pub(crate) fn new(
        spec: &RunSpec,
        networks: Vec<Network>,
        earlier: Option<RunRecord>,
    ) -> Result<Self, Problems> {
        let starts = match &earlier {
            Some(earlier) => continued(spec, &networks, earlier)?,
            None => {
                let is_given = |name: &str| networks.iter().any(|n| n.is_given(name));
                let start = |architecture: &str| match is_given(architecture) {
                    true => Start::File,
                    false => Start::Drawn(None),
                };
                spec.configs.iter().map(|config| start(&config.architecture)).collect()
            }
        };
        Ok(Self { networks, earlier, starts })
    }

    /// What starts from where, for people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.networks.iter().filter_map(Network::given_text).collect();
        let Some(earlier) = &self.earlier else { return lines };
        let run = earlier.run;
        for (model, start) in (1..).map(ModelId).zip(&self.starts) {
            lines.push(match start {
                Start::Earlier { model: from, is_same_config: true, .. } => {
                    format!("model {model} goes on from model {from} of run {run}")
                }
                Start::Earlier { model: from, .. } => format!(
                    "model {model} goes on from model {from} of run {run}, configured differently"
                ),
                Start::Drawn(Some(why)) => format!("model {model} starts afresh: {why}"),
                Start::Drawn(None) | Start::File => continue,
            });
        }
        let more = lines.len().saturating_sub(LINES_MAX);
        lines.truncate(LINES_MAX);
        if more > 0 {
            lines.push(format!("and {more} more models"));
        }
        lines
    }

    /// Puts version 0 of the models whose weights are given into the model store of the supervisor
    /// at `uri`, and says which state is whose.
    pub(crate) async fn put(
        &self,
        spec: &RunSpec,
        uri: &str,
    ) -> anyhow::Result<Vec<(ModelId, Digest)>> {
        if self.starts.iter().all(|start| matches!(start, Start::Drawn(_))) {
            return Ok(Vec::new());
        }
        let store = FlightPeer::new(connect(uri, CONNECT_TIMEOUT).await?);
        let (mut initial, mut there) = (Vec::new(), BTreeSet::new());
        for (model, start) in (1..).map(ModelId).zip(&self.starts) {
            let Some(weights) = self.weights(spec, model, start, &store).await? else { continue };
            let task = task_of_spec(spec, model)?;
            let mut state = State::initial(&task);
            state.weights = weights;
            let state = StateBytes::new(state.encode(&task)?.into());
            initial.push((model, state.digest));
            if there.insert(state.digest) {
                let put = store.put_state(state, STATE_TIMEOUT).await;
                put.with_context(|| format!("keep the first weights of model {model}"))?;
            }
        }
        Ok(initial)
    }

    /// A model's first weights, in Keras's order; `None` where they are drawn.
    async fn weights(
        &self,
        spec: &RunSpec,
        model: ModelId,
        start: &Start,
        store: &FlightPeer,
    ) -> anyhow::Result<Option<Vec<Vec<f32>>>> {
        Ok(match start {
            Start::Drawn(_) => None,
            Start::File => {
                let name = &spec.configs[model.0 as usize - 1].architecture;
                let network = self.networks.iter().find(|network| network.is_given(name));
                let network = network.context("the network lost its weights")?;
                Some(network.first_weights(spec.seed, model))
            }
            Start::Earlier { model: from, version, .. } => {
                let earlier = self.earlier.as_ref().context("the earlier run is gone")?;
                let (run, version) = (earlier.run, *version);
                let ticket = ModelTicket { run, model: *from, version };
                let state = store.state(ticket, STATE_BYTES_MAX, STATE_TIMEOUT).await;
                let state = state.with_context(|| format!("fetch model {from} of run {run}"))?;
                let task = task_of_spec(&earlier.spec, *from)?;
                Some(State::decode(&task, &state.bytes)?.weights)
            }
        })
    }
}

/// Where each model starts that may go on from an earlier run.
fn continued(
    spec: &RunSpec,
    networks: &[Network],
    earlier: &RunRecord,
) -> Result<Vec<Start>, Problems> {
    let mut problems = Problems::new();
    for network in networks.iter().filter(|network| network.given.is_some()) {
        let text = "has `weights`, and the run goes on from another: give one or the other";
        problems.push(&network.architecture.name, text);
    }
    let arrays_of = |spec: &RunSpec, name: &str| {
        let architecture = spec.architecture(name)?;
        Some(arrays(&NetworkSpec::parse(&architecture.keras_json).ok()?))
    };
    let fits = |record: &ModelRecord, architecture: &str| {
        let theirs = arrays_of(&earlier.spec, &record.config.architecture);
        theirs.is_some() && theirs == arrays_of(spec, architecture)
    };
    let mut taken = BTreeSet::new();
    let mut starts = vec![None; spec.configs.len()];
    let mut pass = |is_same_config: bool| {
        for ((model, config), start) in spec.models().zip(&mut starts) {
            let may = |record: &&ModelRecord| {
                let is_like =
                    if is_same_config { record.config == *config } else { record.model == model };
                is_like
                    && record.status.reason().is_none()
                    && !taken.contains(&record.model)
                    && fits(record, &config.architecture)
            };
            let found = earlier.models.iter().filter(|_| start.is_none()).find(may);
            if let Some((record, (version, _))) = found.and_then(|r| Some((r, r.checkpoint?))) {
                taken.insert(record.model);
                *start = Some(Start::Earlier { model: record.model, version, is_same_config });
            }
        }
    };
    pass(true);
    pass(false);
    let starts = (1..).map(ModelId).zip(starts);
    let starts = starts.map(|(model, start)| start.unwrap_or_else(|| afresh(model, earlier)));
    problems.or(starts.collect())
}

/// A model that nothing of the earlier run fits, and why.
fn afresh(model: ModelId, earlier: &RunRecord) -> Start {
    let record = earlier.models.iter().find(|record| record.model == model);
    let why = match record {
        Some(record) if record.status.reason().is_some() => {
            format!("model {model} of run {} is {}", earlier.run, record.status.name())
        }
        _ => format!("run {} has no model like it left", earlier.run),
    };
    Start::Drawn(Some(why))
}
