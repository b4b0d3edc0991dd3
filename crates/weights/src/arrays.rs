//! What a network wants of a file, and what a file has.

/// One weight array of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArraySpec {
    /// `layer/kernel`, as Keras names it without `:0`.
    pub name: String,
    /// In Keras's layout.
    pub shape: Vec<usize>,
}

/// A network, as far as weight files are concerned.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// Its architecture: `model.to_json()`.
    pub keras_json: &'a str,
    /// Its arrays in `get_weights()` order.
    pub arrays: &'a [ArraySpec],
}

impl ArraySpec {
    /// The layer that has it: what stands before the first stroke.
    #[must_use]
    pub fn layer(&self) -> &str {
        layer_of(&self.name)
    }

    /// Its numbers.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// The layer in `layer/array`.
pub(crate) fn layer_of(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

/// One array of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// What the file calls it.
    pub(crate) place: String,
    /// `layer/…`, with the layer's name as the file has it.
    pub(crate) name: String,
    /// As the file has it.
    pub(crate) shape: Vec<usize>,
}

impl Entry {
    pub(crate) fn layer(&self) -> &str {
        layer_of(&self.name)
    }
}

/// A file whose arrays are listed, but not yet read.
pub(crate) trait Stored {
    /// Its arrays.
    fn entries(&self) -> &[Entry];

    /// Whether they are listed in `get_weights()` order; else only their names tell.
    fn is_ordered(&self) -> bool;

    /// The numbers of one array: as many as its shape says. Asked only where the shape is wanted.
    fn values(&mut self, entry: usize) -> Result<Vec<f32>, String>;
}

/// Little-endian f32.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    let (numbers, _) = bytes.as_chunks::<4>();
    numbers.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Little-endian f32.
pub(crate) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// `012.layer/kernel`: sorts as the arrays are ordered.
pub(crate) fn numbered(i: usize, array: &ArraySpec) -> String {
    format!("{i:03}.{}", array.name)
}

/// The number and the rest of a [`numbered`] name, or of numpy's `arr_12`.
pub(crate) fn number_of(name: &str) -> Option<(usize, &str)> {
    if let Some(number) = name.strip_prefix("arr_") {
        return Some((number.parse().ok()?, name));
    }
    let (number, rest) = name.split_once('.')?;
    Some((number.parse().ok()?, rest))
}
