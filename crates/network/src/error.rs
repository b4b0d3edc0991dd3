//! What can go wrong when a network is given weights.

use arrowhop_types::{Classify, ErrorClass};

/// Weights that do not fit the network they were given to.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
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
    #[error("weight {name} ({pointer}) has {expected} elements, not {found}")]
    WeightSize {
        /// The weight, as `layer/kernel`.
        name: String,
        /// Its layer's JSON pointer.
        pointer: String,
        /// Its elements.
        expected: usize,
        /// Elements given.
        found: usize,
    },
    /// A weight is no number.
    #[error("weight {name} ({pointer}) is {value} at element {index}")]
    WeightValue {
        /// The weight, as `layer/kernel`.
        name: String,
        /// Its layer's JSON pointer.
        pointer: String,
        /// The element, row-major from 0.
        index: usize,
        /// NaN or infinite.
        value: f32,
    },
}

impl Classify for NetworkError {
    fn class(&self) -> ErrorClass {
        ErrorClass::Invalid
    }
}
