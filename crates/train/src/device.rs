//! The devices of this machine on which models train: its CPU, and the GPUs that this build reaches.
//!
//! A machine's GPUs are numbered as the back end lists them, discrete ones first. Software that poses as
//! a GPU is listed, too, but only used when it is named by its number.

use std::fmt;
use std::str::FromStr;

use arrowhop_types::Precision;
use thiserror::Error;

/// Where to train, as somebody says it: `best`, `cpu`, `gpu` or `gpu:1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DeviceChoice {
    /// Discrete GPUs where there are any, else the CPU.
    #[default]
    Best,
    /// The CPU.
    Cpu,
    /// All GPUs of the best kind that there is, software aside.
    Gpu,
    /// This one.
    Number(usize),
}

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor, in the machine's memory.
    Integrated,
    /// A share of a card.
    Virtual,
    /// The processor, posing as a GPU.
    Software,
    /// The processor.
    Cpu,
}

/// A device of this machine.
#[derive(Debug, Clone)]
pub struct Device {
    inner: burn::tensor::Device,
    name: String,
    kind: DeviceKind,
    model: String,
    memory: Option<u64>,
}

/// Why there is no such device.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DeviceError {
    /// There is none of that kind.
    #[error("there is no GPU here; `arrowhop devices` lists what there is")]
    NoGpu,
    /// The machine has fewer.
    #[error("there is no {choice} here, only {count} of them; `arrowhop devices` lists them")]
    NoSuchGpu {
        /// As it was given.
        choice: DeviceChoice,
        /// How many there are.
        count: usize,
    },
    /// The build has no back end for GPUs.
    #[error("this build reaches no GPUs; build it with feature wgpu")]
    NoBackend,
}

impl Device {
    /// The CPU.
    #[must_use]
    pub fn cpu() -> Self {
        Self {
            inner: burn::tensor::Device::flex(),
            name: "cpu".into(),
            kind: DeviceKind::Cpu,
            model: arrowhop_network::isa(Precision::Bf16).into(),
            memory: None,
        }
    }

    /// All devices of this machine, the CPU first. To ask GPUs for their names is to open them, which
    /// takes a moment.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all = vec![Self::cpu()];
        all.extend(gpus::all());
        all
    }

    /// The devices that are meant: one, or the GPUs that segments of this machine may share out among
    /// themselves.
    ///
    /// # Errors
    /// When there is no such device.
    pub fn find(choice: DeviceChoice) -> Result<Vec<Self>, DeviceError> {
        if choice == DeviceChoice::Cpu {
            return Ok(vec![Self::cpu()]);
        }
        let explicit = choice != DeviceChoice::Best;
        if explicit && !gpus::ARE_REACHED {
            return Err(DeviceError::NoBackend);
        }
        if choice == DeviceChoice::Best {
            let found = gpus::discrete();
            return Ok(if found.is_empty() { vec![Self::cpu()] } else { found });
        }
        let gpus = gpus::all();
        let best = gpus.first().map(|gpu| gpu.kind);
        match choice {
            DeviceChoice::Number(number) => {
                let count = gpus.len();
                let found = gpus.into_iter().nth(number);
                found.map(|gpu| vec![gpu]).ok_or(DeviceError::NoSuchGpu { choice, count })
            }
            DeviceChoice::Gpu if best.is_none_or(|kind| kind == DeviceKind::Software) => {
                Err(DeviceError::NoGpu)
            }
            _ => Ok(gpus.into_iter().filter(|gpu| Some(gpu.kind) == best).collect()),
        }
    }

    /// As it is chosen: `cpu`, or `gpu:` and its number.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    #[must_use]
    pub fn kind(&self) -> DeviceKind {
        self.kind
    }

    /// As its maker calls it; of the CPU the instructions that kernels use.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What products may be computed in here.
    #[must_use]
    pub fn precisions(&self) -> &'static [Precision] {
        if self.is_cpu() { &Precision::ALL } else { &[Precision::F32] }
    }

    /// What computes products so exactly here; with the same, bits are the same.
    #[must_use]
    pub fn computes(&self, precision: Precision) -> &str {
        if self.is_cpu() { arrowhop_network::isa(precision) } else { &self.model }
    }

    /// Bytes of memory of its own, where that is known.
    #[must_use]
    pub fn memory(&self) -> Option<u64> {
        self.memory
    }

    /// Whether it is the CPU.
    #[must_use]
    pub fn is_cpu(&self) -> bool {
        self.kind == DeviceKind::Cpu
    }

    /// Gives back memory that it holds for later.
    pub fn clean_up(&self) {
        self.inner.memory_cleanup();
    }

    pub(crate) fn inner(&self) -> &burn::tensor::Device {
        &self.inner
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete",
            Self::Integrated => "integrated",
            Self::Virtual => "virtual",
            Self::Software => "software",
            Self::Cpu => "cpu",
        })
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("best"),
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu => f.write_str("gpu"),
            Self::Number(number) => write!(f, "gpu:{number}"),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "best" => Ok(Self::Best),
            "cpu" => Ok(Self::Cpu),
            "gpu" => Ok(Self::Gpu),
            _ => {
                let number = text.strip_prefix("gpu:").and_then(|number| number.parse().ok());
                number
                    .map(Self::Number)
                    .ok_or_else(|| "known: best, cpu, gpu, gpu:0, gpu:1, …".into())
            }
        }
    }
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
mod gpus {
    use super::Device;

    pub(super) const ARE_REACHED: bool = false;

    pub(super) fn all() -> Vec<Device> {
        Vec::new()
    }

    pub(super) fn discrete() -> Vec<Device> {
        Vec::new()
    }
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpus {
    use std::fs;

    use burn::backend::CubeDevice;
    #[cfg(feature = "wgpu")]
    use burn::backend::{WgpuBackend, WgpuDevice, WgpuDeviceKind};
    use burn::tensor::Device as BurnDevice;
    use nvml_wrapper::Nvml;

    use super::{Device, DeviceKind};

    pub(super) const ARE_REACHED: bool = true;

    /// All of them: the best kind first, within a kind as the back end numbers them.
    pub(super) fn all() -> Vec<Device> {
        use DeviceKind::{Discrete, Integrated, Software, Virtual};
        let kinds = [Discrete, Integrated, Virtual, Software].into_iter();
        describe(
            kinds.flat_map(|kind| found(kind).into_iter().map(move |gpu| (kind, gpu))).collect(),
        )
    }

    /// Where Linux has cards they have a node; without one nothing need be asked, which is slow.
    const NODES: [&str; 3] = ["/dev/dri", "/dev/nvidiactl", "/dev/dxg"];

    /// Those with memory of their own.
    pub(super) fn discrete() -> Vec<Device> {
        let is_there = |node: &&str| std::path::Path::new(node).exists();
        if cfg!(target_os = "linux") && !NODES.iter().any(is_there) {
            return Vec::new();
        }
        let kind = DeviceKind::Discrete;
        describe(found(kind).into_iter().map(|gpu| (kind, gpu)).collect())
    }

    fn describe(found: Vec<(DeviceKind, BurnDevice)>) -> Vec<Device> {
        let nvml = if found.is_empty() { None } else { Nvml::init().ok() };
        let described = found.into_iter().enumerate().map(|(number, (kind, inner))| {
            let identity = inner.identity();
            let model = identity.as_ref().map_or_else(|| "unknown".into(), |of| of.name.clone());
            let address = identity.and_then(|of| of.physical).and_then(|of| of.pci_address);
            let memory = address.and_then(|address| memory(&address.to_string(), nvml.as_ref()));
            Device { inner, name: format!("gpu:{number}"), kind, model, memory }
        });
        described.collect()
    }

    fn found(kind: DeviceKind) -> Vec<BurnDevice> {
        #[cfg(feature = "cuda")]
        if kind == DeviceKind::Discrete {
            let cards = BurnDevice::enumerate(burn::tensor::DeviceType::Cuda).into_vec();
            if !cards.is_empty() {
                return cards;
            }
        }
        #[cfg(feature = "wgpu")]
        return wgpu(kind);
        #[cfg(not(feature = "wgpu"))]
        Vec::new()
    }

    /// By the system's own graphics API alone: to look for others is slow, and drivers complain of it on
    /// standard error.
    #[cfg(feature = "wgpu")]
    fn wgpu(kind: DeviceKind) -> Vec<BurnDevice> {
        let api = match std::env::consts::OS {
            "linux" | "android" | "freebsd" => WgpuBackend::Vulkan,
            "macos" | "ios" => WgpuBackend::Metal,
            _ => WgpuBackend::Auto,
        };
        let first = match kind {
            DeviceKind::Discrete => WgpuDeviceKind::DiscreteGpu(0),
            DeviceKind::Integrated => WgpuDeviceKind::IntegratedGpu(0),
            DeviceKind::Virtual => WgpuDeviceKind::VirtualGpu(0),
            DeviceKind::Software => WgpuDeviceKind::Cpu,
            DeviceKind::Cpu => return Vec::new(),
        };
        let first = CubeDevice::Wgpu(WgpuDevice::new(first).on(api));
        let ids = CubeDevice::enumerate(first.to_id()).into_iter();
        ids.map(|id| BurnDevice::new(CubeDevice::from_id(id))).collect()
    }

    /// Bytes of the card at this PCI address, as its driver tells: AMD's by a file, NVIDIA's by NVML.
    fn memory(address: &str, nvml: Option<&Nvml>) -> Option<u64> {
        let file = format!("/sys/bus/pci/devices/{address}/mem_info_vram_total");
        if let Ok(text) = fs::read_to_string(file) {
            return text.trim().parse().ok();
        }
        let card = nvml?.device_by_pci_bus_id(address).ok()?;
        Some(card.memory_info().ok()?.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        for text in ["best", "cpu", "gpu", "gpu:0", "gpu:12"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["", "GPU", "gpu:", "gpu:-1", "cuda:0", "gpu:x"] {
            assert!(text.parse::<DeviceChoice>().unwrap_err().contains("gpu:0"), "{text}");
        }
    }

    #[test]
    fn the_cpu_is_always_there() {
        let found = Device::find(DeviceChoice::Cpu).unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].is_cpu());
        assert_eq!(Device::all()[0].name(), "cpu");
    }
}
