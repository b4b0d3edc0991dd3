//! Running the program and reading what it says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// The program, with a state folder of its own.
#[derive(Debug)]
pub struct Program {
    binary: PathBuf,
    state: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A Python that can import these modules: `ARROWHOP_PYTHON`, or else `python3`. Without one a test
/// is skipped, after saying so; but not where `CI` is true.
///
/// # Panics
/// In CI, when there is none.
#[must_use]
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
pub fn python(modules: &str) -> Option<PathBuf> {
    let python = std::env::var_os("ARROWHOP_PYTHON").map_or("python3".into(), PathBuf::from);
    let mut imports = Command::new(&python);
    imports.args(["-c", &format!("import {modules}")]).env("KERAS_BACKEND", "jax");
    let imports = imports.output();
    let problem = match imports {
        Ok(output) if output.status.success() => return Some(python),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let problem = format!("{} cannot import {modules}: {problem}", python.display());
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{problem}");
    eprintln!("skipped: {problem}");
    None
}

impl Program {
    /// The program at `binary`, with a new state folder.
    ///
    /// # Panics
    /// When no temporary folder can be made.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        let state = folder.path().join("state");
        Self { binary: binary.into(), state, _folder: Some(folder) }
    }

    /// Its state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// A command with these arguments, in a clean environment and the workspace's folder.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(crate::workspace())
            .env("ARROWHOP_STATE", &self.state)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let output = self.command(arguments).output().expect("start the program");
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a command that must succeed and print one JSON object and nothing else.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.run(arguments);
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
        serde_json::from_str(&finished.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", finished.stdout))
    }
}
