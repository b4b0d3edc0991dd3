//! Safetensors: ours, whose names begin with the arrays' places; Keras names alone; and the states
//! of the model store, of which only the weights are taken.

use std::collections::HashMap;

use arrowhop_types::Problems;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::arrays::{Entry, Network, Stored, bytes, floats, number_of, numbered};
use crate::format::WriteError;

/// What the model store's states put before the names of weights, and of what is not weights.
const STATE_PREFIXES: (&str, &str) = ("weights.", "optimizer.");

/// A file in memory.
pub(crate) struct Tensors {
    file: Vec<u8>,
    entries: Vec<Entry>,
    /// Of each entry: what it holds, and where its bytes begin and end in the file.
    places: Vec<(Dtype, usize, usize)>,
    is_ordered: bool,
}

impl Tensors {
    pub(crate) fn open(file: Vec<u8>) -> Result<Self, Problems> {
        let unreadable = |error: safetensors::SafeTensorError| {
            Problems::one("file", format!("is no safetensors file: {error}"))
        };
        let (header, metadata) = SafeTensors::read_metadata(&file).map_err(unreadable)?;
        let data = header + 8;
        let mut found = Vec::new();
        for (name, tensor) in metadata.tensors() {
            if name.starts_with(STATE_PREFIXES.1) {
                continue;
            }
            let (begin, end) = tensor.data_offsets;
            if end.checked_add(data).is_none_or(|end| end > file.len()) {
                return Err(Problems::one(&*name, "ends after the end of the file"));
            }
            let place = (tensor.dtype, data + begin, data + end);
            found.push((name, tensor.shape.clone(), place));
        }
        let plain = |name: &str| name.strip_prefix(STATE_PREFIXES.0).unwrap_or(name).to_owned();
        let is_ordered = found.iter().all(|(name, ..)| number_of(&plain(name)).is_some());
        found.sort_by_cached_key(|(name, ..)| {
            (number_of(&plain(name)).map(|(number, _)| number), name.clone())
        });
        let (mut entries, mut places) = (Vec::new(), Vec::new());
        for (place, shape, at) in found {
            let name = plain(&place);
            let name = number_of(&name).map_or(name.as_str(), |(_, rest)| rest).to_owned();
            entries.push(Entry { place, name, shape });
            places.push(at);
        }
        Ok(Self { file, entries, places, is_ordered })
    }
}

impl Stored for Tensors {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    fn values(&mut self, entry: usize) -> Result<Vec<f32>, String> {
        let (dtype, begin, end) = self.places[entry];
        if dtype != Dtype::F32 {
            return Err(format!("holds {dtype:?} in the file; save it as F32"));
        }
        Ok(floats(&self.file[begin..end]))
    }
}

/// The file's bytes. `about` goes into its metadata.
pub(crate) fn encode(
    network: &Network<'_>,
    values: &[Vec<f32>],
    about: &str,
) -> Result<Vec<u8>, WriteError> {
    let data: Vec<Vec<u8>> = values.iter().map(|values| bytes(values)).collect();
    let mut tensors = Vec::new();
    for (i, (array, data)) in network.arrays.iter().zip(&data).enumerate() {
        let view = TensorView::new(Dtype::F32, array.shape.clone(), data)?;
        tensors.push((numbered(i, array), view));
    }
    let metadata = HashMap::from([("arrowhop".to_owned(), about.to_owned())]);
    Ok(safetensors::serialize(tensors, Some(metadata))?)
}
