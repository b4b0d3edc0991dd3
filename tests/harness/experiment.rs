//! Small experiments, written to temporary folders.

use std::path::{Path, PathBuf};

/// An experiment file in a folder of its own.
#[derive(Debug)]
pub struct Experiment {
    folder: tempfile::TempDir,
}

impl Experiment {
    /// Writes `text` as an experiment file.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("make a temporary folder");
        std::fs::write(folder.path().join("experiment.toml"), text).expect("write an experiment");
        Self { folder }
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("experiment.toml")
    }

    /// The file, as an argument.
    ///
    /// # Panics
    /// When the temporary folder's name is not UTF-8.
    #[must_use]
    pub fn argument(&self) -> String {
        self.file().to_str().expect("a temporary folder's name is UTF-8").to_owned()
    }
}

/// An experiment on generated shapes: a network with batch normalisation and dropout, and a small
/// MLP, with Adam, RMSprop and SGD: six models. `more` is added to the top of the file.
#[must_use]
pub fn shapes(rows: u32, shards: u32, epochs: u32, seed: u64, more: &str) -> Experiment {
    let networks = crate::workspace().join("examples/networks");
    let networks = networks.display();
    Experiment::new(&format!(
        r#"
version = 1
name = "shapes"
seed = {seed}
epochs = {epochs}
{more}
[data]
generate = {{ kind = "shapes", rows = {rows}, validation_rows = {rows} }}
shards = {shards}
[search]
networks = ["{networks}/shapes_cnn_bn.json", "{networks}/shapes_mlp.json"]
batch_size = [16]
[[search.optimizer]]
name = "adam"
learning_rate = 0.002
[[search.optimizer]]
name = "rmsprop"
learning_rate = 0.001
[[search.optimizer]]
name = "sgd"
learning_rate = 0.02
momentum = 0.9
nesterov = true
"#
    ))
}
