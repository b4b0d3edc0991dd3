//! Gets a segment ready for a run: finds its shards, checks its models, and says everything that
//! stands in the way at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix::Recipient;
use arrowhop_flight::{CachedShard, ShardTicket};
use arrowhop_network::NetworkSpec;
use arrowhop_runtime::ask;
use arrowhop_train::{Footprint, Task};
use arrowhop_types::{ModelId, Part, Precision, Problems, RunSpec, ShardId, TrainMetrics};

use crate::actors::shards::FindShard;
use crate::rows::ShardData;
use crate::stores::FIND_TIMEOUT;

/// Raised to make a run's visits end within a batch; shared with the trainers.
pub(crate) type AbortFlag = Arc<AtomicBool>;

/// A run that is open on this segment.
pub(crate) struct OpenedRun {
    pub(crate) tasks: BTreeMap<ModelId, Arc<Task>>,
    pub(crate) shards: BTreeMap<ShardId, ShardData>,
    pub(crate) evaluates_training: bool,
    pub(crate) abort: AbortFlag,
}

/// What a slot here offers a model.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotOffer {
    /// Bytes that it may take.
    pub(crate) memory: u64,
    /// What its products may be computed in.
    pub(crate) precisions: &'static [Precision],
}

/// Opens a run whose `shards` must be here, and whose models must be content with a slot.
pub(crate) async fn open(
    spec: RunSpec,
    shards: Vec<ShardId>,
    finder: Recipient<FindShard>,
    offer: SlotOffer,
) -> Result<OpenedRun, Problems> {
    let mut problems = Problems::new();
    let mut found = BTreeMap::new();
    for shard in shards {
        match find(&spec, shard, &finder).await {
            Ok(data) => {
                found.insert(shard, data);
            }
            Err(missing) => problems.extend("", &missing),
        }
    }
    let tasks = tasks(&spec, offer, &mut problems);
    problems.or(OpenedRun {
        tasks,
        shards: found,
        evaluates_training: spec.train_metrics == TrainMetrics::Evaluate,
        abort: AbortFlag::default(),
    })
}

async fn find(
    spec: &RunSpec,
    shard: ShardId,
    finder: &Recipient<FindShard>,
) -> Result<ShardData, Problems> {
    let info = spec.data.shards.iter().find(|info| info.shard == shard);
    let info = info
        .ok_or_else(|| Problems::one(format!("shard {shard}"), "the data set has no such shard"))?;
    let part = async |part: Part, rows: u64| -> Result<Arc<CachedShard>, Problems> {
        let place = format!("shard {shard} ({})", part.name());
        let ticket = ShardTicket { data_set: spec.data.id, shard, part };
        let cached = match ask(finder, FindShard(ticket), FIND_TIMEOUT).await {
            Ok(Ok(cached)) => cached,
            Ok(Err(error)) => return Err(Problems::one(place, error.to_string())),
            Err(error) => return Err(Problems::one(place, error.to_string())),
        };
        if cached.rows() != rows {
            let text = format!("has {} rows instead of {rows}; put it again", cached.rows());
            return Err(Problems::one(place, text));
        }
        Ok(cached)
    };
    let train = part(Part::Train, info.train_rows).await?;
    let validation = match info.validation_rows {
        0 => None,
        rows => Some(part(Part::Validation, rows).await?),
    };
    Ok(ShardData { train, validation, copies: Arc::default() })
}

/// Every model's task, checked: its network, its parameters, its memory.
fn tasks(
    spec: &RunSpec,
    offer: SlotOffer,
    problems: &mut Problems,
) -> BTreeMap<ModelId, Arc<Task>> {
    let mut networks = BTreeMap::new();
    for architecture in &spec.architectures {
        match NetworkSpec::parse(&architecture.keras_json) {
            Ok(network) => {
                networks.insert(architecture.name.as_str(), network);
            }
            Err(found) => problems.extend(&format!("{}: ", architecture.name), &found),
        }
    }
    let mut tasks = BTreeMap::new();
    for (model, config) in spec.models() {
        let Some(network) = networks.get(config.architecture.as_str()) else {
            let text = format!("its architecture {} is not in the run", config.architecture);
            problems.push(format!("model {model}"), text);
            continue;
        };
        let task = Task::of_run(spec, model, config, network.clone());
        match task {
            Ok(task) => {
                let footprint = Footprint::of(&task);
                if footprint.bytes() > offer.memory {
                    let text = format!(
                        "needs {} bytes, but a slot here has {}; use smaller batches, a smaller network, \
                         fewer slots or more --model-memory",
                        footprint.bytes(),
                        offer.memory
                    );
                    problems.push(format!("model {model}"), text);
                }
                if !offer.precisions.contains(&config.precision) {
                    let text = format!(
                        "precision {} is the CPU's, and this segment has a GPU, which computes in f32; \
                         leave it out, or choose --device cpu",
                        config.precision
                    );
                    problems.push(format!("model {model}"), text);
                }
                tasks.insert(model, Arc::new(task));
            }
            Err(found) => problems.extend(&format!("model {model}: "), &found),
        }
    }
    tasks
}
