//! What the tests of this crate share.

use crate::arrays::{ArraySpec, Entry, Stored};

/// Arrays of a network.
pub(crate) fn arrays(arrays: &[(&str, &[usize])]) -> Vec<ArraySpec> {
    let array = |(name, shape): &(&str, &[usize])| ArraySpec {
        name: (*name).into(),
        shape: shape.to_vec(),
    };
    arrays.iter().map(array).collect()
}

/// A file whose arrays are full of their own number.
pub(crate) struct Listed {
    entries: Vec<Entry>,
    is_ordered: bool,
    pub(crate) values: Vec<Vec<f32>>,
    pub(crate) reads: usize,
}

impl Listed {
    pub(crate) fn new(is_ordered: bool, entries: &[(&str, &[usize])]) -> Self {
        let entry = |(name, shape): &(&str, &[usize])| Entry {
            place: format!("file:{name}"),
            name: (*name).to_owned(),
            shape: shape.to_vec(),
        };
        let entries: Vec<_> = entries.iter().map(entry).collect();
        let mut values = Vec::new();
        let mut number = 0.0;
        for entry in &entries {
            values.push(vec![number; entry.shape.iter().product()]);
            number += 1.0;
        }
        Self { entries, is_ordered, values, reads: 0 }
    }
}

impl Stored for Listed {
    fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn is_ordered(&self) -> bool {
        self.is_ordered
    }

    fn values(&mut self, entry: usize) -> Result<Vec<f32>, String> {
        self.reads += 1;
        Ok(self.values[entry].clone())
    }
}
