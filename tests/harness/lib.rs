//! What whole-system tests share: running the program, clusters of real processes, small
//! experiments. Waits are for states, with a limit; nothing sleeps for a fixed time.

mod cluster;
mod experiment;
mod postgres;
mod program;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use arrowhop_network::NetworkSpec;
use arrowhop_train::Task;
use arrowhop_types::{ModelId, RunRecord};

pub use cluster::Cluster;
pub use experiment::{Experiment, shapes};
pub use postgres::Postgres;
pub use program::{Finished, Program, python};

/// Waits until `predicate` gives something; panics with `what` after `limit`.
///
/// # Panics
/// When it does not in time.
pub fn wait_for<T>(what: &str, limit: Duration, mut predicate: impl FnMut() -> Option<T>) -> T {
    let began_at = Instant::now();
    loop {
        if let Some(value) = predicate() {
            return value;
        }
        assert!(began_at.elapsed() < limit, "{what} did not happen within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// The folder with this workspace's files.
#[must_use]
pub fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lie in a workspace").to_owned()
}

/// A folder of the shared material beside the workspace, or `None`, after saying so: tests that
/// need it are then skipped.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub fn shared(folder: &str) -> Option<PathBuf> {
    let path = workspace().parent()?.join("shared").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

/// A model's task, from the record of its run.
///
/// # Panics
/// When the record is not one that a run left.
#[must_use]
pub fn task_of(record: &RunRecord, model: ModelId) -> Task {
    let spec = &record.spec;
    let config = spec.config(model).expect("a model of the run");
    let architecture = spec.architecture(&config.architecture).expect("an architecture of the run");
    let network = NetworkSpec::parse(&architecture.keras_json).expect("it was parsed before");
    Task::of_run(spec, model, config, network).expect("it was checked before")
}

/// Each model's digest in the model store, by model, from a printed leaderboard.
///
/// # Panics
/// When it lists a model without a digest.
#[must_use]
pub fn digests(leaderboard: &serde_json::Value) -> Vec<(u64, String)> {
    let models = leaderboard["models"].as_array().expect("models are listed");
    let mut digests: Vec<_> = models
        .iter()
        .map(|model| {
            let digest = model["digest"].as_str().expect("a finished model has a digest");
            (model["model"].as_u64().expect("models are numbered"), digest.to_owned())
        })
        .collect();
    digests.sort();
    digests
}
