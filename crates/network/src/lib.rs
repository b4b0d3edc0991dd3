//! From Keras JSON to a network that can be trained: reads `model.to_json()` of Keras 2 and 3 into a
//! checked [`NetworkSpec`], and builds the Burn [`Network`] it describes. Weights go in and out in
//! Keras's `get_weights()` order and shapes.
//!
//! ```text
//! text ── keras/ ──▶ Graph: layers, calls, values ── Network::from_weights ──▶ arrays on a device
//!                    (layer.rs, graph.rs: no JSON, no Burn)        forward: compute/ call by call
//! ```
//!
//! This crate reads no files, keeps no optimizer and draws no number outside the streams it is given.

mod activation;
mod binding;
mod compute;
mod error;
mod fields;
mod graph;
mod initializer;
mod keras;
mod kernel_ops;
mod layer;
mod memory;
mod network;
mod regularizer;
mod spec;
mod value;
mod window;

pub use binding::Binding;
pub use error::NetworkError;
pub use kernel_ops::{choose_isa, is_cpu, isa};
pub use network::{DeviceStep, Input, Memory, Network, Step, TrainingPass};
pub use regularizer::Regularizer;
pub use spec::{InputShape, LayerSummary, NetworkSpec, OutputSpec, WeightSpec};
