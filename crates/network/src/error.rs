//! What can go wrong when a network is given weights.

use arrowhop_types::{Classify, ErrorClass};

/// Weights that do not fit the network they were given to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The number of arrays differs.
    #[error("the network has {expected} weight arrays, not {found}")]
    WeightCount {
        /// Arrays of the network.
        expected: usize,
        /// Arrays given.
        found: usize,
    },
    /// An array has the wrong number of elements.
    #[error("weight {name} has {expected} elements, not {found}")]
    WeightSize {
        /// The weight, as `layer/kernel`.
        name: String,
        /// Its elements.
        expected: usize,
        /// Elements given.
        found: usize,
    },
}

impl Classify for NetworkError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}
