//! Keras's HDF5 files, read: weights of Keras 3, and weights and whole models of Keras 2.
//!
//! ```text
//! Keras 3      /layers/conv2d_1/vars/0          by class and count; vars has the attribute name
//!              /layers/lstm/cell/vars/0         what a layer is made of
//!              /layers/functional/layers/…      a nested model
//! Keras 2      /dense/dense/kernel:0            attributes layer_names, and weight_names of each;
//!              /model_weights/dense/…           in a whole model one folder further down
//! ```

use std::fmt::Display;

use arrowhop_types::Problems;
use hdf5_pure::{DType, File, Group};

use crate::arrays::{Entry, Stored};
use crate::layers::KerasLayer;

/// Groups nested deeper are refused.
const DEPTH_MAX: usize = 32;
/// What a layer may be made of, in the order of `get_weights()`.
const PARTS: [&str; 8] = [
    "forward_layer",
    "backward_layer",
    "layer",
    "cell",
    "query_dense",
    "key_dense",
    "value_dense",
    "output_dense",
];
/// The states of random generators are no weights.
const GENERATOR: &str = "seed_generator";
/// Keras splits a long list of names into attributes `layer_names0`, `layer_names1` and so on.
const NAME_LISTS_MAX: usize = 10_000;

/// A file in memory.
pub(crate) struct KerasH5 {
    file: File,
    entries: Vec<Entry>,
    is_ordered: bool,
}

impl KerasH5 {
    /// Lists a file's arrays. Where the layers of its model are known, in their order.
    pub(crate) fn open(bytes: Vec<u8>, layers: Option<&[KerasLayer]>) -> Result<Self, Problems> {
        let file = File::from_bytes(bytes).map_err(|error| problem("file", error))?;
        let root = file.root();
        let mut walk = Walk { entries: Vec::new(), problems: Problems::new() };
        let is_keras_2 = walk.keras_2(&root)?;
        if !is_keras_2 {
            let group = root.group("layers").map_err(|_| {
                let text = "holds no weights of Keras: it has neither layers nor layer_names";
                Problems::one("file", text)
            })?;
            walk.layers(&group, "layers", layers, None, DEPTH_MAX)?;
        }
        let is_ordered = is_keras_2 || layers.is_some();
        walk.problems.or(Self { file, entries: walk.entries, is_ordered })
    }

    /// The architecture in a whole model of Keras 2.
    pub(crate) fn architecture(bytes: Vec<u8>) -> Result<String, Problems> {
        let file = File::from_bytes(bytes).map_err(|error| problem("file", error))?;
        let attributes = file.root().attrs().map_err(|error| problem("file", error))?;
        let config = attributes.get("model_config").and_then(|value| value.as_str());
        config.map(str::to_owned).ok_or_else(|| {
            Problems::one("file", "holds weights alone; name a file with the architecture")
        })
    }
}

impl Stored for KerasH5 {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    fn values(&mut self, entry: usize) -> Result<Vec<f32>, String> {
        let text = |error: hdf5_pure::Error| error.to_string();
        let dataset = self.file.dataset(&self.entries[entry].place).map_err(text)?;
        match dataset.dtype().map_err(text)? {
            DType::F32 => dataset.read_f32().map_err(text),
            other => Err(format!("holds {other} in the file; save it as float32")),
        }
    }
}

fn problem(place: &str, error: impl Display) -> Problems {
    Problems::one(place, error.to_string())
}

/// Arrays found so far.
struct Walk {
    entries: Vec<Entry>,
    problems: Problems,
}

impl Walk {
    /// The layers of a model of Keras 3: in the order of `layers`, else in any.
    fn layers(
        &mut self,
        group: &Group,
        path: &str,
        layers: Option<&[KerasLayer]>,
        outer: Option<&str>,
        depth_left: usize,
    ) -> Result<(), Problems> {
        let mut groups = group.groups().map_err(|error| problem(path, error))?;
        groups.sort_unstable();
        for layer in layers.unwrap_or_default() {
            let Some(at) = groups.iter().position(|group| *group == layer.group) else { continue };
            groups.remove(at);
            let name = outer.unwrap_or(&layer.name);
            self.layer(group, path, &layer.group, name, &layer.layers, depth_left)?;
        }
        for left in groups {
            let name = match outer {
                Some(outer) => outer.to_owned(),
                None => own_name(group, &left).unwrap_or_else(|| left.clone()),
            };
            self.layer(group, path, &left, &name, &[], depth_left)?;
        }
        Ok(())
    }

    /// The arrays of one layer, and of what it is made of.
    fn layer(
        &mut self,
        parent: &Group,
        path: &str,
        name: &str,
        layer: &str,
        inner: &[KerasLayer],
        depth_left: usize,
    ) -> Result<(), Problems> {
        let path = format!("{path}/{name}");
        let depth_left = depth_left.checked_sub(1).ok_or_else(|| problem(&path, "is too deep"))?;
        let group = parent.group(name).map_err(|error| problem(&path, error))?;
        let mut parts = group.groups().map_err(|error| problem(&path, error))?;
        if let Some(at) = parts.iter().position(|part| part == "vars") {
            parts.remove(at);
            self.variables(&group, &path, layer)?;
        }
        parts.retain(|part| !part.starts_with(GENERATOR));
        let rank = |part: &str| PARTS.iter().position(|known| *known == part);
        parts.sort_by_key(|part| (rank(part), part.clone()));
        for part in parts {
            let before = self.entries.len();
            if part == "layers" {
                let inner_group = group.group("layers").map_err(|error| problem(&path, error))?;
                let inner_path = format!("{path}/layers");
                let known = Some(inner).filter(|inner| !inner.is_empty());
                self.layers(&inner_group, &inner_path, known, Some(layer), depth_left)?;
            } else {
                self.layer(&group, &path, &part, layer, &[], depth_left)?;
            }
            let is_known = rank(&part).is_some() || (part == "layers" && !inner.is_empty());
            if !is_known && self.entries.len() > before {
                let text = "has weights whose order only its model tells; save model.get_weights()";
                self.problems.push(format!("{path}/{part}"), text);
            }
        }
        Ok(())
    }

    /// The datasets `0`, `1` and so on.
    fn variables(&mut self, group: &Group, path: &str, layer: &str) -> Result<(), Problems> {
        let path = format!("{path}/vars");
        let group = group.group("vars").map_err(|error| problem(&path, error))?;
        let mut names = group.datasets().map_err(|error| problem(&path, error))?;
        names.sort_by_cached_key(|name| (name.parse::<u64>().ok(), name.clone()));
        for name in names {
            self.entry(&group, &name, format!("{path}/{name}"), layer)?;
        }
        Ok(())
    }

    /// Whether this is a file of Keras 2; then its arrays.
    fn keras_2(&mut self, root: &Group) -> Result<bool, Problems> {
        let (prefix, group) = match root.group("model_weights") {
            Ok(group) => ("model_weights/", group),
            Err(_) => ("", root.clone()),
        };
        let Some(layers) = name_list(&group, "layer_names", "file")? else { return Ok(false) };
        for layer in layers {
            let path = format!("{prefix}{layer}");
            let of_layer = group.group(&layer).map_err(|error| problem(&path, error))?;
            for name in name_list(&of_layer, "weight_names", &path)?.unwrap_or_default() {
                self.entry(&of_layer, &name, format!("{path}/{name}"), &layer)?;
            }
        }
        Ok(true)
    }

    fn entry(
        &mut self,
        group: &Group,
        name: &str,
        place: String,
        layer: &str,
    ) -> Result<(), Problems> {
        let shape = group.dataset(name).and_then(|dataset| dataset.shape());
        let shape = shape.map_err(|error| problem(&place, error))?;
        let shape = shape.into_iter().map(usize::try_from).collect::<Result<_, _>>();
        let shape = shape.map_err(|error| problem(&place, error))?;
        self.entries.push(Entry { name: format!("{layer}/{name}"), place, shape });
        Ok(())
    }
}

/// A layer's name in its model, as newer files have it.
fn own_name(layers: &Group, group: &str) -> Option<String> {
    let attributes = layers.group(&format!("{group}/vars")).ok()?.attrs().ok()?;
    attributes.get("name")?.as_str().map(str::to_owned)
}

/// A list of names in an attribute, or in several. An empty one may be of any type.
fn name_list(group: &Group, key: &str, place: &str) -> Result<Option<Vec<String>>, Problems> {
    let attributes = group.attrs().map_err(|error| problem(place, error))?;
    let strings = |key: &str| {
        let value = attributes.get(key)?;
        Some(value.as_strings().map(<[String]>::to_vec).unwrap_or_default())
    };
    if let Some(names) = strings(key) {
        return Ok(Some(names));
    }
    let parts = (0..NAME_LISTS_MAX).map_while(|i| strings(&format!("{key}{i}")));
    let parts: Vec<_> = parts.collect();
    Ok((!parts.is_empty()).then(|| parts.concat()))
}
