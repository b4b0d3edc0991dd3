//! From Keras JSON to a network that can be trained: reads `model.to_json()` of Keras 2 and 3 into a
//! checked [`NetworkSpec`], and builds the Burn [`Network`] it describes. Weights go in and out in
//! Keras's `get_weights()` order and shapes.
//!
//! This crate reads no files, keeps no optimizer and draws no number outside the streams it is given.

mod activation;
mod error;
mod fields;
mod initializer;
mod keras;
mod layer;
mod layers;
mod network;
mod options;
mod spec;
mod window;

pub use error::NetworkError;
pub use network::{BatchStatistics, Network, TrainingPass};
pub use spec::{LayerSummary, NetworkSpec, WeightSpec};
