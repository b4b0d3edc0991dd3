//! What hopping costs: CPU seconds of a whole run (data, loading, hops, hop log, model store,
//! supervision, everything in its process) over the CPU seconds of its bare training and evaluation
//! by one thread that trains the same models over the same shards in the same order, one after the
//! other. Rounds are interleaved. Prints one JSON line per round.
//!
//! Two threads that train at once slow each other down where cores share caches and execution
//! units, which is no cost of hopping: `visits_cpu_seconds` is what the run's own trainers used, and
//! `overhead` the rest of the run's CPU time over it.
//!
//! `bench-hop EXPERIMENT [--data DIR] [--rounds N] [fit's other flags]`; only CPU seconds are
//! compared, because the walls depend on what else the machine does.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use arrowhop::experiment::Experiment;
use arrowhop_catalog::Catalog;
use arrowhop_segment::rows;
use arrowhop_source::prepare;
use arrowhop_tests::task_of;
use arrowhop_train::{Visit, evaluate, initial_state, thread_cpu_time, train_visit};
use arrowhop_types::{RunId, RunRecord, Score, TrainMetrics, VisitKind, VisitRecord};
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match arguments.iter().position(|argument| argument == "--rounds") {
        Some(at) => {
            arguments.remove(at);
            ensure!(at < arguments.len(), "--rounds needs a number");
            arguments.remove(at).parse()?
        }
        None => 1_u32,
    };
    ensure!(!arguments.is_empty(), "name an experiment file");
    for round in 1..=rounds {
        let folder = tempfile::tempdir()?;
        let whole = whole_run(&arguments, folder.path())?;
        let catalog = Catalog::open_read_only(folder.path())?;
        let (record, visits) = (catalog.run(RunId(1))?, catalog.visits(RunId(1))?);
        let bare = bare_training(&record, &visits)?;
        let visited: Duration = visits.iter().map(|visit| visit.timing.cpu).sum();
        let hopped: u64 = visits.iter().map(|visit| visit.timing.hop_bytes).sum();
        let line = json!({
            "round": round,
            "models": record.models.len(),
            "visits": visits.len(),
            "hopped_bytes": hopped,
            "whole_cpu_seconds": whole.as_secs_f64(),
            "bare_cpu_seconds": bare.as_secs_f64(),
            "visits_cpu_seconds": visited.as_secs_f64(),
            "overhead": whole.as_secs_f64() / visited.as_secs_f64() - 1.0,
            "ratio": whole.as_secs_f64() / bare.as_secs_f64(),
        });
        #[expect(clippy::print_stdout, reason = "the result")]
        {
            println!("{line}");
        }
    }
    Ok(())
}

/// Runs `arrowhop fit` in a process of its own; returns its CPU time, children's and kernel's
/// included.
fn whole_run(arguments: &[String], state: &Path) -> anyhow::Result<Duration> {
    let before = children_cpu_time()?;
    let status = Command::new(program()?)
        .arg("fit")
        .args(arguments)
        .env("ARROWHOP_STATE", state)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    ensure!(status.success(), "the run did not succeed: {status}");
    Ok(children_cpu_time()? - before)
}

/// The program beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?.with_file_name("arrowhop-under-test");
    ensure!(
        program.exists(),
        "build {} first: cargo build --release -p arrowhop-tests",
        program.display()
    );
    Ok(program)
}

/// User and kernel time of the children waited for (`cutime` and `cstime` of proc(5)).
fn children_cpu_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').context("read /proc/self/stat")?.1;
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(13)
        .take(2)
        .map(str::parse::<u64>)
        .sum::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()))
}

/// Trains and evaluates every model alone, in the order of the hop log.
fn bare_training(record: &RunRecord, visits: &[VisitRecord]) -> anyhow::Result<Duration> {
    let experiment =
        Experiment::recorded(&record.spec.experiment, None, record.spec.bounds.clone())?;
    let prepared = prepare(&experiment.data)?;
    let began_at = thread_cpu_time();
    let mut go_on = |_: u64, _: &Score| ControlFlow::Continue(());
    for (model, _) in record.spec.models() {
        let task = task_of(record, model);
        let mut state = initial_state(&task)?;
        for visit in visits.iter().filter(|visit| visit.model == model) {
            let shard = &prepared.shards[visit.shard.0 as usize];
            let train = rows(&task, &shard.train)?;
            if visit.kind == VisitKind::Train {
                let at = Visit { epoch: visit.epoch, shard: visit.shard };
                state = train_visit(&task, &state, at, &train, &mut go_on)?.state;
                continue;
            }
            if record.spec.train_metrics == TrainMetrics::Evaluate {
                evaluate(&task, &state, &train, &mut go_on)?;
            }
            if !shard.validation.is_empty() {
                evaluate(&task, &state, &rows(&task, &shard.validation)?, &mut go_on)?;
            }
        }
    }
    Ok(thread_cpu_time() - began_at)
}
