//! Networks of an experiment, read from their files: architecture, and first weights where they are
//! given.

use std::path::Path;

use arrowhop_network::NetworkSpec;
use arrowhop_types::{Architecture, ModelId, Problems};
use arrowhop_weights::{self as weights, Transfer};
use bytesize::ByteSize;

use crate::experiment::{NetworkSource, WeightsSource};
use crate::freeze::freeze;
use crate::trained::arrays;

/// Larger files are not architectures.
const NETWORK_BYTES_MAX: u64 = 16 << 20;

/// A network, read and checked.
pub(crate) struct Network {
    pub(crate) architecture: Architecture,
    pub(crate) spec: NetworkSpec,
    pub(crate) given: Option<Given>,
}

/// First weights from a file.
pub(crate) struct Given {
    source: WeightsSource,
    transfer: Transfer,
}

impl Network {
    /// Whether its weights are given to configurations with this architecture.
    pub(crate) fn is_given(&self, architecture: &str) -> bool {
        self.given.is_some() && self.architecture.name == architecture
    }

    /// A model's first weights: those of the file, and what that has not drawn as ever.
    pub(crate) fn first_weights(&self, seed: u64, model: ModelId) -> Vec<Vec<f32>> {
        let drawn = self.spec.initial_weights(seed, model);
        let Some(given) = &self.given else { return drawn };
        let arrays = given.transfer.arrays.iter().zip(drawn);
        arrays.map(|(given, drawn)| given.clone().unwrap_or(drawn)).collect()
    }

    /// What of its weights is from where, for people.
    pub(crate) fn given_text(&self) -> Option<String> {
        let Given { source, transfer } = self.given.as_ref()?;
        let (name, file) = (&self.architecture.name, source.file.display());
        if transfer.fresh.is_empty() {
            return Some(format!("{name} starts from {file}"));
        }
        let fresh = transfer.fresh.iter().map(|(layer, why)| format!("{layer} ({why})"));
        let fresh: Vec<_> = fresh.collect();
        let (loaded, fresh) = (transfer.loaded.join(", "), fresh.join(", "));
        Some(format!("{name} starts from {file} in {loaded}; drawn anew: {fresh}"))
    }
}

/// Reads the networks of a search.
pub(crate) fn read_networks(sources: &[NetworkSource]) -> Result<Vec<Network>, Problems> {
    let mut problems = Problems::new();
    let mut networks = Vec::new();
    for source in sources {
        match read_network(source) {
            Ok(network) => networks.push(network),
            Err(found) => problems.extend("", &found),
        }
    }
    problems.or(networks)
}

fn read_network(source: &NetworkSource) -> Result<Network, Problems> {
    let under = |file: &Path, found: Problems| {
        let mut problems = Problems::new();
        problems.extend(&format!("{}: ", file.display()), &found);
        problems
    };
    let read = || {
        let keras_json = freeze(&read_architecture(&source.file)?, &source.freeze)?;
        let spec = NetworkSpec::parse(&keras_json)?;
        Ok((keras_json, spec))
    };
    let (keras_json, spec) = read().map_err(|found| under(&source.file, found))?;
    let given = match &source.weights {
        None => None,
        Some(weights) => {
            let given = read_weights(weights, &spec);
            Some(given.map_err(|found| under(&weights.file, found))?)
        }
    };
    let architecture = Architecture { name: source.name.clone(), keras_json };
    Ok(Network { architecture, spec, given })
}

/// Keras JSON: the file's text, or what a whole model has of it.
fn read_architecture(file: &Path) -> Result<String, Problems> {
    if let Some(keras_json) = weights::architecture(file)? {
        return Ok(keras_json);
    }
    let unreadable = |error: std::io::Error| Problems::one("file", error.to_string());
    let size = file.metadata().map_err(unreadable)?.len();
    if size > NETWORK_BYTES_MAX {
        let text = format!("has {}, too large for an architecture", ByteSize(size));
        return Err(Problems::one("file", text));
    }
    std::fs::read_to_string(file).map_err(unreadable)
}

fn read_weights(source: &WeightsSource, spec: &NetworkSpec) -> Result<Given, Problems> {
    let arrays = arrays(spec);
    let network = weights::Network { keras_json: spec.keras_json(), arrays: &arrays };
    let transfer = if source.by_name {
        weights::read_by_name(&source.file, &network)?
    } else {
        let values = weights::read(&source.file, &network)?;
        let arrays = values.into_iter().map(Some).collect();
        Transfer { arrays, loaded: Vec::new(), fresh: Vec::new() }
    };
    Ok(Given { source: source.clone(), transfer })
}
