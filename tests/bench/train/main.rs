//! Training beside PyTorch: the same networks, the same batches, forward pass, backward pass and a step
//! of SGD with momentum; on one core, and on two. Ours is whole visits, with the gathering of batches;
//! two cores train two models. PyTorch's is its best setting for each case, on a batch made before.
//! Rounds of both alternate; of each the best round counts, as other work on the machine only slows.
//!
//! Prints a table, and on standard output one JSON line for each case.

mod networks;
mod torch;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use arrowhop_train::{Rows, Task, Visit, initial_state, train_visit};
use arrowhop_types::{Score, ShardId};
use clap::Parser;
use serde_json::json;

use self::networks::Workload;
use self::torch::Torch;

/// How long one round takes, about.
const ROUND: Duration = Duration::from_millis(1500);

#[derive(Parser)]
struct Options {
    /// Networks: mlp, m1, m2, resnet18, w6
    #[arg(long, value_delimiter = ',', default_value = "mlp,m1,m2,resnet18,w6")]
    networks: Vec<String>,
    /// Rows of a batch
    #[arg(long, value_delimiter = ',', default_value = "32,256")]
    batches: Vec<u32>,
    /// Cores
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<u32>,
    /// Rounds of each side
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// A Python with PyTorch
    #[arg(long, env = "ARROWHOP_TORCH_PYTHON", default_value = "python3")]
    python: PathBuf,
}

/// Samples per second, of the wall and of the CPU.
#[derive(Debug, Clone, Copy, Default)]
struct Speed {
    wall: f64,
    cpu: f64,
}

impl Speed {
    fn of(samples: u32, wall: f64, cpu: f64) -> Self {
        Self { wall: f64::from(samples) / wall, cpu: f64::from(samples) / cpu }
    }

    fn best(self, other: Self) -> Self {
        Self { wall: self.wall.max(other.wall), cpu: self.cpu.max(other.cpu) }
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]
fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    eprintln!(
        "{:<9} {:>5} {:>5}  {:>9} {:>9} {:>6}  {:>9} {:>9} {:>6}  PyTorch's setting",
        "network", "batch", "cores", "ours/s", "torch/s", "ratio", "ours/cpu", "torch/cpu", "ratio"
    );
    for name in &options.networks {
        for &batch in &options.batches {
            for &threads in &options.threads {
                let (ours, torch, setting) = case(&options, name, batch, threads)
                    .with_context(|| format!("{name}, batch {batch}, {threads} cores"))?;
                let (by_wall, by_cpu) = (ours.wall / torch.wall, ours.cpu / torch.cpu);
                eprintln!(
                    "{name:<9} {batch:>5} {threads:>5}  {:>9.0} {:>9.0} {by_wall:>6.2}  {:>9.0} \
                     {:>9.0} {by_cpu:>6.2}  {setting}",
                    ours.wall, torch.wall, ours.cpu, torch.cpu
                );
                println!(
                    "{}",
                    json!({
                        "network": name, "batch": batch, "cores": threads, "precision": "f32",
                        "isa": arrowhop_network::isa(),
                        "ours": { "samples_per_second": ours.wall, "per_cpu_second": ours.cpu },
                        "torch": { "samples_per_second": torch.wall, "per_cpu_second": torch.cpu,
                            "setting": setting },
                        "ratio": { "wall": by_wall, "cpu": by_cpu },
                    })
                );
            }
        }
    }
    Ok(())
}

/// Both sides' speeds, round by round, and PyTorch's setting.
fn case(
    options: &Options,
    name: &str,
    batch: u32,
    threads: u32,
) -> anyhow::Result<(Speed, Speed, &'static str)> {
    let mut workload = Workload::named(name, batch)?;
    let mut peer = Torch::fastest(&options.python, name, batch, threads, ROUND)?;
    workload.fit(ROUND)?;
    let (mut ours, mut torch) = (Speed::default(), Speed::default());
    for _ in 0..options.rounds {
        ours = ours.best(round(&workload, threads)?);
        torch = torch.best(peer.round()?);
    }
    Ok((ours, torch, peer.setting()))
}

/// As many models as cores, each a visit.
fn round(workload: &Workload, threads: u32) -> anyhow::Result<Speed> {
    let begun = Instant::now();
    let visits: Vec<anyhow::Result<Duration>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| workload.visit())).collect();
        threads.into_iter().map(|thread| thread.join().expect("a visit ends")).collect()
    });
    let wall = begun.elapsed().as_secs_f64();
    let mut cpu = 0.0;
    for visit in visits {
        cpu += visit?.as_secs_f64();
    }
    Ok(Speed::of(workload.rows() * threads, wall, cpu))
}

/// A visit's CPU time.
fn visit(task: &Task, state: &[u8], rows: &Rows<'_>) -> anyhow::Result<Duration> {
    let mut keep_on = |_: u64, _: &Score| ControlFlow::Continue(());
    let at = Visit { epoch: 0, shard: ShardId(0) };
    Ok(train_visit(task, state, at, rows, &mut keep_on)?.timing.cpu)
}

/// A fresh model.
fn first_state(task: &Task) -> anyhow::Result<Vec<u8>> {
    Ok(initial_state(task)?)
}
