//! How much memory a run will take in this process, before it takes it, and how much it took.
//!
//! ```text
//! now        the program, and the data as it was prepared
//! shards     the same again while they are loaded; then what was prepared is free for the rest
//! states     the latest of each model, which stays with the segment that made it
//! training   the largest models, as many as there are slots, and what the allocator keeps for each slot
//! ```
//!
//! The peak is now + max(shards, states + training).

use std::fs;

use arrowhop_network::NetworkSpec;
use arrowhop_source::Prepared;
use arrowhop_train::{Footprint, Task};
use arrowhop_types::{Problems, RunSpec};
use bytesize::ByteSize;

/// Bytes that the allocator keeps for a slot's thread. Without them whole runs of 2 to 16 models took 46 to
/// 136 MiB more than predicted, with 2 and 4 slots.
const KEPT_PER_SLOT: u64 = 24 << 20;

/// Predicted memory, in bytes.
pub(crate) struct Forecast {
    now: u64,
    shards: u64,
    states: u64,
    training: u64,
}

impl Forecast {
    /// Of a run on so many slots of this process.
    ///
    /// # Errors
    /// When a model's network and configuration do not go together.
    pub(crate) fn of(spec: &RunSpec, prepared: &Prepared, slots: usize) -> Result<Self, Problems> {
        let shards = prepared.shards.iter().flat_map(|shard| [&shard.train, &shard.validation]);
        let bytes = shards.flatten().map(|batch| batch.get_array_memory_size() as u64);
        let (states, training) = models(spec, slots)?;
        Ok(Self {
            now: status("VmRSS:").unwrap_or_default(),
            shards: bytes.sum(),
            states,
            training,
        })
    }

    fn peak(&self) -> u64 {
        self.now + self.shards.max(self.states + self.training)
    }

    /// In words.
    pub(crate) fn line(&self) -> String {
        format!(
            "memory: about {} at the highest: {} of program and data, {} of models in training, {} \
             of states",
            iec(self.peak()),
            iec(self.now),
            iec(self.training),
            iec(self.states),
        )
    }

    /// What it became, in words.
    pub(crate) fn end_line(&self) -> Option<String> {
        let peak = status("VmHWM:")?;
        let share = 100 * self.peak() / peak.max(1);
        Some(format!("memory: {} at the highest; predicted was {share} % of that", iec(peak)))
    }
}

/// Bytes of all models' states, and of the largest models in training.
fn models(spec: &RunSpec, slots: usize) -> Result<(u64, u64), Problems> {
    let mut footprints = Vec::new();
    for architecture in &spec.architectures {
        let network = NetworkSpec::parse(&architecture.keras_json)?;
        for (model, config) in spec.models() {
            if config.architecture == architecture.name {
                let task = Task::of_run(spec, model, config, network.clone())?;
                footprints.push(Footprint::of(&task));
            }
        }
    }
    let states = footprints.iter().map(|footprint| footprint.state).sum();
    let mut training: Vec<u64> = footprints.iter().map(Footprint::bytes).collect();
    training.sort_unstable_by(|a, b| b.cmp(a));
    Ok((states, training.iter().take(slots).map(|bytes| bytes + KEPT_PER_SLOT).sum()))
}

fn iec(bytes: u64) -> impl std::fmt::Display {
    ByteSize::b(bytes).display().iec()
}

/// A line of what Linux tells of this process, in bytes.
fn status(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(1024 * line.split_whitespace().next()?.parse::<u64>().ok()?)
}
