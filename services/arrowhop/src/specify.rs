//! From an experiment and its prepared data to a run's specification, with everything that is wrong
//! with them together found before anything is trained.

use std::time::Duration;

use arrowhop_schedule::{Layout, Options, plan};
use arrowhop_search::{Grid, Random, Searcher};
use arrowhop_train::{Footprint, Task};
use arrowhop_types::{
    DataSet, Metric, ModelConfig, Objective, Part, Problems, RunSpec, SegmentId, SlotId, Target,
    VisitOrder,
};
use bytesize::ByteSize;

use crate::experiment::{Experiment, Method, Search};
use crate::networks::Network;

/// The configurations of a search.
fn configs(search: &Search, seed: u64) -> Result<Vec<ModelConfig>, Problems> {
    let mut configs = match search.method {
        Method::Grid => Grid::new(&search.space)?.ask_all(),
        Method::Random => {
            let count = search.configs.unwrap_or_default() as usize;
            Random::new(&search.space, count, seed)?.ask_all()
        }
    };
    if let Some(most) = search.configs_max {
        configs.truncate(most as usize);
    }
    Ok(configs)
}

/// The run that an experiment asks for. Each model may take `slot_memory` bytes.
pub(crate) fn specify(
    experiment: Experiment,
    networks: &[Network],
    data: DataSet,
    slot_memory: u64,
) -> Result<RunSpec, Problems> {
    let mut problems = Problems::new();
    let configs = match configs(&experiment.search, experiment.seed) {
        Ok(configs) => configs,
        Err(found) => {
            problems.extend("search: ", &found);
            Vec::new()
        }
    };
    let objective = objective(experiment.objective, &data, &mut problems);
    let mut spec = RunSpec {
        name: experiment.name,
        seed: experiment.seed,
        epochs: experiment.epochs,
        architectures: networks.iter().map(|network| network.architecture.clone()).collect(),
        configs,
        data,
        objective,
        train_metrics: experiment.train_metrics,
        order: VisitOrder::Free,
        prescribed: Vec::new(),
        checkpoints: experiment.checkpoints,
        reset_optimizer_each_visit: experiment.reset_optimizer_each_visit,
        bounds: experiment.bounds,
        experiment: experiment.text,
    };
    check_models(&spec, networks, slot_memory, &mut problems);
    if experiment.planned && problems.is_empty() {
        spec.order = VisitOrder::Planned;
        spec.prescribed = planned(&spec, networks)?;
    }
    problems.or(spec)
}

/// The objective asked for, or the most telling that the data has.
fn objective(wanted: Option<Metric>, data: &DataSet, problems: &mut Problems) -> Objective {
    let validates = data.rows(Part::Validation) > 0;
    let classifies = matches!(data.target, Target::Classes(_));
    let metric = wanted.unwrap_or(match (validates, classifies) {
        (true, true) => Metric::ValidationAccuracy,
        (true, false) => Metric::ValidationLoss,
        (false, true) => Metric::TrainAccuracy,
        (false, false) => Metric::TrainLoss,
    });
    if matches!(metric, Metric::ValidationAccuracy | Metric::ValidationLoss) && !validates {
        let text = format!("{} needs validation data, and there is none", metric.name());
        problems.push("objective", text);
    }
    if matches!(metric, Metric::ValidationAccuracy | Metric::TrainAccuracy) && !classifies {
        problems.push("objective", format!("{} needs classes, not values", metric.name()));
    }
    Objective { metric, direction: metric.direction() }
}

/// Every network against the data, and every model against its memory.
fn check_models(spec: &RunSpec, networks: &[Network], slot_memory: u64, problems: &mut Problems) {
    let mut refused = Vec::new();
    for network in networks {
        let found = network.spec.check(&spec.data.input, &spec.data.target);
        if !found.is_empty() {
            problems.extend(&format!("{}: ", network.architecture.name), &found);
            refused.push(&network.architecture.name);
        }
    }
    for (model, config) in spec.models() {
        let network = networks.iter().find(|n| n.architecture.name == config.architecture);
        let Some(network) = network.filter(|_| !refused.contains(&&config.architecture)) else {
            continue;
        };
        let task = Task::of_run(spec, model, config, network.spec.clone());
        let place = format!("model {model} ({}, {})", config.architecture, config.optimizer.name());
        match task.map(|task| Footprint::of(&task).bytes()) {
            Ok(bytes) if bytes > slot_memory => {
                let (needs, has) = (ByteSize(bytes), ByteSize(slot_memory));
                problems.push(
                    place,
                    format!(
                        "needs {needs}, but a slot has {has}; use smaller batches, a smaller \
                         network, fewer slots or more --model-memory"
                    ),
                );
            }
            Ok(_) => {}
            Err(found) => problems.extend(&format!("{place}: "), &found),
        }
    }
}

/// Each model's order of visits, planned as if every shard had a host of its own, so that it is the
/// same on any cluster.
fn planned(
    spec: &RunSpec,
    networks: &[Network],
) -> Result<Vec<Vec<arrowhop_types::ShardId>>, Problems> {
    let hosts: Vec<_> = spec.data.shards.iter().map(|info| SegmentId(info.shard.0)).collect();
    let slots = hosts.iter().map(|&segment| SlotId { segment, index: 0 }).collect();
    let layout = Layout::new(slots, hosts)?;
    let options =
        Options { epochs: spec.epochs, evaluates: spec.evaluates(), ..Options::default() };
    let estimates: Vec<_> = spec
        .models()
        .map(|(model, config)| {
            let network = networks.iter().find(|n| n.architecture.name == config.architecture);
            let macs = network.map_or(1, |network| network.spec.macs());
            // Only ratios matter: a microsecond per multiply-accumulate of a row.
            (model, Duration::from_micros(macs.saturating_mul(u64::from(config.passes))))
        })
        .collect();
    plan(&layout, &options, &estimates)
}
