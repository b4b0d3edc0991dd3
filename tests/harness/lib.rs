//! What whole-system tests share: running the program, clusters of real processes, small
//! experiments. Waits are for states, with a limit; nothing sleeps for a fixed time.

mod cluster;
mod experiment;
mod program;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use cluster::Cluster;
pub use experiment::{Experiment, shapes};
pub use program::{Finished, Program};

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
