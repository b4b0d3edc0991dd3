//! How much a process may take, of what, and where it computes.

use std::path::Path;

use anyhow::Context;
use arrowhop_flight::ShardFolder;
use arrowhop_train::{Device, DeviceChoice};
use arrowhop_types::Problems;
use bytesize::ByteSize;
use clap::Args;

use crate::kept::Kept;
use crate::loading::Place;

/// Bytes for shards on a GPU that does not tell its memory.
const UNKNOWN_DEVICE_SHARDS: u64 = 1 << 30;

/// Memory of a process.
#[derive(Debug, Clone, Copy, Args)]
pub struct Memory {
    /// Memory for shards, such as 8GiB [default: a quarter of the machine's]
    #[arg(long, value_name = "BYTES", env = "ARROWHOP_CACHE_MEMORY")]
    cache_memory: Option<ByteSize>,
    /// Memory for models in training, such as 16GiB [default: half of the machine's, or of the GPU's]
    #[arg(long, value_name = "BYTES", env = "ARROWHOP_MODEL_MEMORY")]
    model_memory: Option<ByteSize>,
    /// Memory of each GPU for shards, such as 8GiB [default: a quarter of it; 1GiB where unknown]
    #[arg(long, value_name = "BYTES", env = "ARROWHOP_DEVICE_MEMORY")]
    device_memory: Option<ByteSize>,
    /// Disk for prepared data sets, such as 100GiB: the one that was not used for longest goes first; 0 keeps none
    #[arg(long, value_name = "BYTES", env = "ARROWHOP_CACHE_DISK", default_value = "32GiB")]
    cache_disk: ByteSize,
}

/// What a process may take, in bytes, and where it computes.
#[derive(Debug, Clone)]
pub struct Means {
    /// For shards.
    pub cache_memory: u64,
    /// For models, on all devices together.
    pub model_memory: u64,
    /// Of each GPU for shards.
    pub device_memory: u64,
    /// Segments take them in turn.
    pub devices: Vec<Device>,
}

/// Where models are computed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Computing {
    /// cpu, gpu, gpu:1 (see `arrowhop devices`), or best: discrete GPUs if there are any, else the CPU
    #[arg(long, value_name = "DEVICE", env = "ARROWHOP_DEVICE", default_value_t)]
    device: DeviceChoice,
}

impl Computing {
    /// The devices that are meant.
    ///
    /// # Errors
    /// When there are none such here.
    pub fn devices(self) -> anyhow::Result<Vec<Device>> {
        Device::find(self.device)
            .map_err(|error| Problems::one("--device", error.to_string()).into())
    }
}

impl Memory {
    /// Where data is prepared, and how much of it may be where.
    pub(crate) fn place(self, state: &Path) -> anyhow::Result<Place> {
        let memory = match self.cache_memory {
            Some(bytes) => bytes.as_u64(),
            None => machine_memory()? / 4,
        };
        let disk = self.cache_disk.as_u64();
        Ok(Place { kept: Kept::new(state, disk), memory, keeps: disk > 0 })
    }

    /// The folder of shards at `root`, if any are kept.
    pub(crate) fn shard_folder(self, root: &Path) -> Option<ShardFolder> {
        let disk = self.cache_disk.as_u64();
        (disk > 0).then(|| ShardFolder::new(root.to_owned(), disk))
    }
}

impl Means {
    /// What `memory` and `computing` say, and where they say nothing what the machine has.
    ///
    /// # Errors
    /// When there is no such device, or a default is wanted and the machine does not tell its memory.
    pub fn find(memory: Memory, computing: Computing) -> anyhow::Result<Self> {
        let devices = computing.devices()?;
        let given = |bytes: Option<ByteSize>| bytes.map(|bytes| bytes.as_u64());
        let of_devices: Option<u64> = devices.iter().map(Device::memory).sum();
        let total = match (given(memory.cache_memory), given(memory.model_memory), of_devices) {
            (Some(_), Some(_), _) | (Some(_), None, Some(_)) => 0,
            _ => machine_memory()
                .context("read the machine's memory; give --cache-memory and --model-memory")?,
        };
        let least = devices.iter().filter_map(Device::memory).min();
        Ok(Self {
            cache_memory: given(memory.cache_memory).unwrap_or(total / 4),
            model_memory: given(memory.model_memory)
                .unwrap_or_else(|| of_devices.unwrap_or(total) / 2),
            device_memory: given(memory.device_memory)
                .unwrap_or_else(|| least.map_or(UNKNOWN_DEVICE_SHARDS, |bytes| bytes / 4)),
            devices,
        })
    }
}

/// Bytes of memory that this process may use.
///
/// # Errors
/// When the machine does not tell.
pub(crate) fn machine_memory() -> anyhow::Result<u64> {
    let mut system = sysinfo::System::new()?;
    system.refresh_memory();
    let limit = system.cgroup_limits().map(|limits| limits.total_memory);
    Ok(limit.map_or(system.total_memory(), |limit| limit.min(system.total_memory())))
}
