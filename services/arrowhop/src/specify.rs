//! From an experiment and its prepared data to a run's specification, with everything that is wrong
//! with them together found before anything is trained.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arrowhop_schedule::{Layout, Options, plan};
use arrowhop_search::{Grid, Random, Searcher};
use arrowhop_source::Prepared;
use arrowhop_train::{Footprint, Task};
use arrowhop_types::{
    DataSet, Direction, LOSS, Metric, ModelConfig, Objective, Part, Problems, RunSpec, SegmentId,
    SlotId, VisitOrder,
};
use bytesize::ByteSize;

use crate::class_weight::class_weights;
use crate::experiment::{Experiment, Method, Search, Wanted};
use crate::networks::Network;
use crate::outputs::{self, OutputTargets};

/// The configurations of a search, each with what its outputs are held to and its classes count;
/// none of a network that does not suit the data.
fn configs(
    search: &Search,
    seed: u64,
    networks: &[Network],
    prepared: &Prepared,
    problems: &mut Problems,
) -> Vec<ModelConfig> {
    let asked = match search.method {
        Method::Grid => Grid::new(&search.space).map(|mut grid| grid.ask_all()),
        Method::Random => {
            let count = search.configs.unwrap_or_default() as usize;
            Random::new(&search.space, count, seed).map(|mut random| random.ask_all())
        }
    };
    let mut configs = asked.unwrap_or_else(|found| {
        problems.extend("search: ", &found);
        Vec::new()
    });
    if let Some(most) = search.configs_max {
        configs.truncate(most as usize);
    }
    let wanted = search.class_weight.as_ref();
    let weights = wanted.map_or(Ok(Vec::new()), |wanted| class_weights(wanted, prepared));
    let weights = weights.unwrap_or_else(|found| {
        problems.extend("", &found);
        Vec::new()
    });
    problems.extend("", &outputs::check_names(search, networks, &prepared.data_set.targets));
    let mut held_to = BTreeMap::new();
    for Network { architecture, spec, .. } in networks {
        match OutputTargets::of(spec, &prepared.data_set) {
            Ok(targets) => drop(held_to.insert(architecture.name.as_str(), targets)),
            Err(found) => problems.extend(&format!("{}: ", architecture.name), &found),
        }
    }
    configs.retain_mut(|config| {
        let Some(targets) = held_to.get(config.architecture.as_str()) else { return false };
        config.class_weights.clone_from(&weights);
        config.outputs = targets.hold(&config.outputs[0], search);
        true
    });
    configs
}

/// The run that an experiment asks for. Each model may take `slot_memory` bytes.
pub(crate) fn specify(
    experiment: Experiment,
    networks: &[Network],
    prepared: &Prepared,
    slot_memory: u64,
) -> Result<RunSpec, Problems> {
    let mut problems = Problems::new();
    let configs = configs(&experiment.search, experiment.seed, networks, prepared, &mut problems);
    let mut spec = RunSpec {
        name: experiment.name,
        seed: experiment.seed,
        epochs: experiment.epochs,
        architectures: networks.iter().map(|network| network.architecture.clone()).collect(),
        configs,
        data: prepared.data_set.clone(),
        sources: prepared.sources.clone(),
        objective: default_objective(&prepared.data_set),
        train_metrics: experiment.train_metrics,
        order: VisitOrder::Free,
        prescribed: Vec::new(),
        checkpoints: experiment.checkpoints,
        reset_optimizer_each_visit: experiment.reset_optimizer_each_visit,
        bounds: experiment.bounds,
        experiment: experiment.text,
    };
    let measured = check_models(&spec, networks, slot_memory, &mut problems);
    spec.objective = objective(experiment.objective, &spec, &measured, &mut problems);
    if experiment.planned && problems.is_empty() {
        spec.order = VisitOrder::Planned;
        spec.prescribed = planned(&spec, networks)?;
    }
    problems.or(spec)
}

/// The loss, on the rows that tell most.
fn default_objective(data: &DataSet) -> Objective {
    let validates = data.rows(Part::Validation) > 0;
    let part = if validates { Part::Validation } else { Part::Train };
    Objective { part, metric: LOSS.to_owned(), direction: Direction::Minimize }
}

/// What a model measures beside the loss, and which way each improves.
type Measured = Vec<(String, Direction)>;

/// The objective asked for, or accuracy where every model measures it, or else the loss.
fn objective(
    wanted: Option<Wanted>,
    spec: &RunSpec,
    measured: &[Measured],
    problems: &mut Problems,
) -> Objective {
    let default = default_objective(&spec.data);
    let find = |model: &Measured, metric: &str| {
        model.iter().find(|(name, _)| name == metric).map(|(_, direction)| *direction)
    };
    let Some(wanted) = wanted else {
        let accuracy = Metric::Accuracy.to_string();
        let classify = measured.iter().all(|model| find(model, &accuracy).is_some());
        if measured.is_empty() || !classify {
            return default;
        }
        return Objective { metric: accuracy, direction: Direction::Maximize, ..default };
    };
    let Wanted { part, metric, direction } = wanted;
    let name = Objective { part, metric: metric.clone(), ..default.clone() }.name();
    if part == Part::Validation && default.part == Part::Train {
        problems.push("objective", format!("{name} needs validation data, and there is none"));
    }
    let mut natural = default.direction;
    for model in measured.iter().filter(|_| metric != LOSS) {
        if let Some(found) = find(model, &metric) {
            natural = found;
            continue;
        }
        let names: Vec<_> = model.iter().map(|(name, _)| name.as_str()).collect();
        let names = [LOSS].into_iter().chain(names).collect::<Vec<_>>().join(", ");
        let text = format!("{metric} is not measured, but {names}; add it to search.metrics");
        problems.push("objective", text);
        break;
    }
    Objective { part, metric, direction: direction.unwrap_or(natural) }
}

/// Every model against the data, and against its memory. What is wrong with several
/// models of a network alike is said once. Gives what each right model measures.
fn check_models(
    spec: &RunSpec,
    networks: &[Network],
    slot_memory: u64,
    problems: &mut Problems,
) -> Vec<Measured> {
    let (mut said, mut measured) = (BTreeSet::new(), Vec::new());
    for (model, config) in spec.models() {
        let network = networks.iter().find(|n| n.architecture.name == config.architecture);
        let Some(network) = network else { continue };
        let task = Task::of_run(spec, model, config, network.spec.clone());
        let place = format!("model {model} ({}, {})", config.architecture, config.optimizer.name());
        match task {
            Ok(task) => {
                let bytes = Footprint::of(&task).bytes();
                if bytes > slot_memory {
                    problems.push(place, too_large(bytes, slot_memory));
                }
                measured.push(task.metrics());
            }
            Err(found) => {
                for problem in found.iter() {
                    if said.insert((
                        config.architecture.clone(),
                        problem.place.clone(),
                        problem.text.clone(),
                    )) {
                        problems.push(format!("{place}: {}", problem.place), problem.text.clone());
                    }
                }
            }
        }
    }
    measured
}

fn too_large(bytes: u64, slot_memory: u64) -> String {
    let (needs, has) = (ByteSize(bytes), ByteSize(slot_memory));
    format!(
        "needs {needs}, but a slot has {has}; use smaller batches, a smaller network, fewer slots \
         or more --model-memory"
    )
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
