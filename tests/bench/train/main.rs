//! Training beside PyTorch: the same networks, the same batches, forward pass, backward pass and a step
//! of SGD with momentum; on one core, and on two. Ours is a visit from its first batch's end on, with the
//! gathering of batches; two cores train two models. PyTorch's is its best setting for each case, on a
//! batch made before.
//! Rounds of both alternate; of each the best round counts, as other work on the machine only slows.
//!
//! On a GPU (`--device gpu`) `--threads` is how many models share it, each on a thread of its own, and
//! PyTorch's models take turns in one process, in single precision and in TF32. There the shard lies in
//! the GPU's memory, and how busy the GPU was is asked of `nvidia-smi`.
//!
//! Prints a table, and on standard output one JSON line for each case.

mod busy;
mod networks;
mod torch;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use arrowhop_train::{
    Device, DeviceChoice, Rows, Task, Visit, initial_state, thread_cpu_time, train_visit,
};
use arrowhop_types::{Precision, Score, ShardId};
use clap::Parser;
use serde_json::json;

use self::busy::Busy;
use self::networks::Workload;
use self::torch::Torch;

/// How long one round takes, about.
const ROUND: Duration = Duration::from_millis(1500);

#[derive(Parser)]
struct Options {
    /// Networks: mlp, m1, m2, resnet18, resnet50 (112×112), w6
    #[arg(long, value_delimiter = ',', default_value = "mlp,m1,m2,resnet18,w6")]
    networks: Vec<String>,
    /// Rows of a batch
    #[arg(long, value_delimiter = ',', default_value = "32,256")]
    batches: Vec<u32>,
    /// Cores; on a GPU, models
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<u32>,
    /// Precisions: f32, bf16 (PyTorch: autocast)
    #[arg(long, value_delimiter = ',', default_value = "f32")]
    precisions: Vec<Precision>,
    /// Rounds of each side
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Where: cpu, gpu, or gpu:1 (see `arrowhop devices`)
    #[arg(long, default_value = "cpu")]
    device: DeviceChoice,
    /// A Python with PyTorch
    #[arg(long, env = "ARROWHOP_TORCH_PYTHON", default_value = "python3")]
    python: PathBuf,
}

/// Samples per second, of the wall and of the CPU.
#[derive(Debug, Clone, Copy, Default)]
struct Speed {
    wall: f64,
    cpu: f64,
    /// Of a GPU, the share of the time, where it is known.
    busy: Option<f64>,
}

impl Speed {
    fn of(samples: u32, wall: f64, cpu: f64) -> Self {
        Self { wall: f64::from(samples) / wall, cpu: f64::from(samples) / cpu, busy: None }
    }

    fn best(self, other: Self) -> Self {
        let busy = self.busy.into_iter().chain(other.busy).reduce(f64::max);
        Self { wall: self.wall.max(other.wall), cpu: self.cpu.max(other.cpu), busy }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let device = Device::find(options.device)?.swap_remove(0);
    eprintln!(
        "{:<9} {:>5} {:>5} {:>5}  {:>9} {:>9} {:>6}  {:>9} {:>9} {:>6}  PyTorch's setting",
        "network",
        "batch",
        "at once",
        "in",
        "ours/s",
        "torch/s",
        "ratio",
        "ours/cpu",
        "torch/cpu",
        "ratio"
    );
    for case in cases(&options) {
        let Case { network, batch, threads, precision } = case;
        let (ours, torch, setting) = measure(&options, &device, case).with_context(|| {
            format!("{network}, batch {batch}, {threads} at once, in {precision}")
        })?;
        let (by_wall, by_cpu) = (ours.wall / torch.wall, ours.cpu / torch.cpu);
        eprintln!(
            "{network:<9} {batch:>5} {threads:>5} {precision:>5}  {:>9.0} {:>9.0} {by_wall:>6.2}  \
             {:>9.0} {:>9.0} {by_cpu:>6.2}  {setting}",
            ours.wall, torch.wall, ours.cpu, torch.cpu
        );
        println!(
            "{}",
            json!({
                "network": network, "batch": batch, "at_once": threads,
                "precision": precision.name(),
                "device": device.name(), "computed_by": device.computes(precision),
                "ours": { "samples_per_second": ours.wall, "per_cpu_second": ours.cpu,
                    "gpu_busy": ours.busy },
                "torch": { "samples_per_second": torch.wall, "per_cpu_second": torch.cpu,
                    "setting": setting },
                "ratio": { "wall": by_wall, "cpu": by_cpu },
            })
        );
    }
    Ok(())
}

/// What is compared at a time.
#[derive(Debug, Clone, Copy)]
struct Case<'a> {
    network: &'a str,
    batch: u32,
    threads: u32,
    precision: Precision,
}

fn cases(options: &Options) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for network in &options.networks {
        for &batch in &options.batches {
            for &threads in &options.threads {
                let case = |&precision| Case { network, batch, threads, precision };
                cases.extend(options.precisions.iter().map(case));
            }
        }
    }
    cases
}

/// Both sides' speeds, round by round, and PyTorch's setting.
fn measure(
    options: &Options,
    device: &Device,
    case: Case<'_>,
) -> anyhow::Result<(Speed, Speed, &'static str)> {
    let mut workload = Workload::named(case.network, case.batch, case.precision)?;
    let mut peer = Torch::fastest(&options.python, device, case, ROUND)?;
    workload.fit(ROUND, device)?;
    let (mut ours, mut torch) = (Speed::default(), Speed::default());
    for _ in 0..options.rounds {
        ours = ours.best(round(&workload, case.threads, device)?);
        torch = torch.best(peer.round()?);
    }
    Ok((ours, torch, peer.setting()))
}

/// As many models as cores, each a visit.
fn round(workload: &Workload, threads: u32, device: &Device) -> anyhow::Result<Speed> {
    let resident = workload.resident(device)?;
    let busy = (!device.is_cpu()).then(Busy::watch);
    let visits: Vec<anyhow::Result<Steps>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| workload.visit(device, resident.clone())))
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a visit ends")).collect()
    });
    let busy = Busy::end(busy.flatten());
    let visits: Vec<Steps> = visits.into_iter().collect::<anyhow::Result<_>>()?;
    let begun = visits.iter().map(|steps| steps.begun).min().context("a model trains")?;
    let ended = visits.iter().map(|steps| steps.ended).max().context("a model trains")?;
    let cpu = visits.iter().map(|steps| steps.cpu.as_secs_f64()).sum();
    let rows = visits.iter().map(|steps| steps.rows).sum();
    Ok(Speed { busy, ..Speed::of(rows, (ended - begun).as_secs_f64(), cpu) })
}

/// The steps of a visit after its first one.
struct Steps {
    rows: u32,
    cpu: Duration,
    begun: Instant,
    ended: Instant,
}

fn visit(task: &Task, state: &[u8], rows: &Rows<'_>) -> anyhow::Result<Steps> {
    let mut first = None;
    let mut steps = None;
    let mut keep_on = |done: u64, _: &Score| {
        let (now, cpu) = (Instant::now(), thread_cpu_time());
        let (rows, begun, before) = *first.get_or_insert((done, now, cpu));
        steps = Some((done - rows, cpu - before, begun, now));
        ControlFlow::Continue(())
    };
    let at = Visit { epoch: 0, shard: ShardId(0) };
    train_visit(task, state, at, rows, &mut keep_on)?;
    let (rows, cpu, begun, ended) = steps.context("a visit has a batch")?;
    Ok(Steps { rows: u32::try_from(rows)?, cpu, begun, ended })
}

/// A fresh model.
fn first_state(task: &Task) -> anyhow::Result<Vec<u8>> {
    Ok(initial_state(task)?)
}
