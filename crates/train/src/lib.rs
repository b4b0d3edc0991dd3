//! Training, evaluation and prediction of one model on the rows of one shard, on Burn. Blocking:
//! a call keeps its thread until the visit is over or its [`Control`] stops it.
//!
//! A model travels as its encoded *state*: weights, optimizer slots and counters in one versioned,
//! checked file. The same state, rows, seed and visit give the same bits on any thread of any host
//! with the same CPU features. This crate knows no shards beyond their rows, no network, no disk.
//!
#![doc = include_str!("../SPEED.md")]

mod device;
mod error;
mod evaluation;
mod footprint;
mod learner;
mod objective;
mod optimizer;
mod resident;
mod rows;
mod state;
mod stepper;
mod task;
#[cfg(test)]
mod testing;
mod visit;

pub use device::{Device, DeviceChoice, DeviceError, DeviceKind};
pub use error::TrainError;
pub use evaluation::{Model, evaluate, predict};
pub use footprint::Footprint;
pub use resident::Resident;
pub use rows::{InputChunks, Inputs, Rows, TargetChunks};
pub use state::{State, initial_state};
pub use stepper::{Made, Stepper, infer, measure, row_losses};
pub use task::Task;
pub use visit::{Control, Timing, Trained, Visit, thread_cpu_time, train_visit};
