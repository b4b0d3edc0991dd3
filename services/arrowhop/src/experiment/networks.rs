//! The `networks` of a search: files, each with what is to be done to its weights beforehand.

use std::path::PathBuf;

use arrowhop_types::Problems;
use toml::{Table, Value};

use super::fields::{Fields, shown};

/// A network of a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSource {
    /// The name that configurations refer to: by default the file's stem.
    pub name: String,
    /// Keras JSON, or a whole model of Keras.
    pub file: PathBuf,
    /// First weights of every model with this network.
    pub weights: Option<WeightsSource>,
    /// Patterns of layers' names, whose weights are not trained.
    pub freeze: Vec<String>,
}

/// A file with first weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsSource {
    /// The file.
    pub file: PathBuf,
    /// Take the layers that the file has under the same name with the same shapes, and draw the
    /// others'; else the file must have all.
    pub by_name: bool,
}

/// Reads the list, checked: two networks of one name would be one network.
pub(super) fn read(values: Vec<Value>, problems: &mut Problems) -> Vec<NetworkSource> {
    let mut networks: Vec<NetworkSource> = Vec::new();
    for (i, value) in values.into_iter().enumerate() {
        let network = match value {
            Value::String(file) => plain(file),
            Value::Table(table) => match described(table, i, problems) {
                Some(network) => network,
                None => continue,
            },
            other => {
                let text = format!("{} is neither a file nor {{ file, … }}", shown(&other));
                problems.push(format!("search.networks[{i}]"), text);
                continue;
            }
        };
        if networks.iter().any(|other| other.name == network.name) {
            let text = format!("two are named {}; give one a `name`", network.name);
            problems.push("search.networks", text);
        }
        networks.push(network);
    }
    networks
}

fn plain(file: String) -> NetworkSource {
    let file = PathBuf::from(file);
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    NetworkSource { name, file, weights: None, freeze: Vec::new() }
}

fn described(table: Table, i: usize, problems: &mut Problems) -> Option<NetworkSource> {
    let mut fields = Fields::new(table, &format!("search.networks[{i}]"), problems);
    let file = fields.text("file");
    if file.is_none() {
        fields.wrong("file", "is needed: Keras JSON, or a whole model of Keras");
    }
    let name = fields.text("name");
    let weights = fields.text("weights").map(PathBuf::from);
    let transfer = fields.choice("transfer", &[("whole", false), ("by-name", true)]);
    if transfer.is_some() && weights.is_none() {
        fields.wrong("transfer", "goes with `weights`");
    }
    let freeze = fields.texts("freeze").unwrap_or_default();
    fields.finish();
    let by_name = transfer.unwrap_or(false);
    let weights = weights.map(|file| WeightsSource { file, by_name });
    let plain = plain(file?);
    Some(NetworkSource { name: name.unwrap_or(plain.name), weights, freeze, ..plain })
}
