//! What a model's outputs are held to: the search's loss and metrics, or an output's own.

use arrowhop_network::NetworkSpec;
use arrowhop_types::{DataSet, Metric, OutputConfig, Problems, Target, TargetColumn};

use crate::experiment::{OutputTerms, Search};
use crate::networks::Network;

/// A network's outputs, by name, with their targets.
pub(crate) struct OutputTargets<'a> {
    outputs: Vec<(String, &'a TargetColumn)>,
}

impl<'a> OutputTargets<'a> {
    /// Of a network on this data, checked to suit it.
    pub(crate) fn of(network: &NetworkSpec, data: &'a DataSet) -> Result<Self, Problems> {
        let bound = network.bind(&data.inputs, &data.targets)?;
        let outputs = network.outputs().into_iter().zip(bound.targets);
        let outputs = outputs.map(|(output, column)| (output.name, &data.targets[column]));
        Ok(Self { outputs: outputs.collect() })
    }

    /// What each output is held to in a configuration with this loss.
    pub(crate) fn hold(&self, base: &OutputConfig, search: &Search) -> Vec<OutputConfig> {
        let hold = |(name, column): &(String, &TargetColumn)| {
            let own = search.outputs.get(name).or_else(|| search.outputs.get(&column.name));
            let OutputTerms { loss, loss_weight, metrics } = own.cloned().unwrap_or_default();
            let metrics = metrics.or_else(|| search.metrics.clone());
            OutputConfig {
                loss: loss.unwrap_or(base.loss),
                loss_weight: loss_weight.unwrap_or(base.loss_weight),
                metrics: metrics.unwrap_or_else(|| usual(&column.target)),
            }
        };
        self.outputs.iter().map(hold).collect()
    }
}

/// What is measured where nobody says.
fn usual(target: &Target) -> Vec<Metric> {
    match target {
        Target::Classes(_) => vec![Metric::Accuracy],
        Target::Values(_) => Vec::new(),
    }
}

/// Names under `search.outputs` that no network's output and no target has.
pub(crate) fn check_names(
    search: &Search,
    networks: &[Network],
    targets: &[TargetColumn],
) -> Problems {
    let outputs = networks.iter().flat_map(|network| network.spec.outputs());
    let mut known: Vec<String> = outputs.map(|output| output.name).collect();
    known.extend(targets.iter().map(|target| target.name.clone()));
    let mut problems = Problems::new();
    for name in search.outputs.keys().filter(|name| !known.contains(name)) {
        let text = format!("is neither an output nor a target; there are {}", known.join(", "));
        problems.push(format!("search.outputs.{name}"), text);
    }
    problems
}
