//! Why a visit gave no result.

use arrowhop_network::NetworkError;
use arrowhop_types::{Classify, ErrorClass, ShardId};

/// A visit, an evaluation or a prediction that ended without a result. The state it was given is
/// unchanged and can be used again.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The loss, or a weight, became NaN or infinite.
    #[error(
        "the loss became {loss} in epoch {epoch}, shard {shard}, batch {batch}; \
         lower the learning rate"
    )]
    Diverged {
        /// The epoch, from 0.
        epoch: u32,
        /// The shard.
        shard: ShardId,
        /// The batch within the visit, from 0.
        batch: u64,
        /// Mean loss of that batch; finite where only the weights after it were not.
        loss: f64,
    },
    /// The control asked to stop.
    #[error("stopped after {rows_done} rows")]
    Stopped {
        /// Rows done before.
        rows_done: u64,
    },
    /// The state is not one of this task's.
    #[error("state: {place}: {problem}")]
    InvalidState {
        /// The tensor or the header's field.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The state is no safetensors file.
    #[error("read the state as safetensors")]
    UnreadableState(#[source] safetensors::SafeTensorError),
    /// The state could not be written.
    #[error("write the state as safetensors")]
    UnwritableState(#[source] safetensors::SafeTensorError),
    /// The weights do not fit the network.
    #[error("build the network")]
    Network(#[from] NetworkError),
}

impl Classify for TrainError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Diverged { .. } | Self::InvalidState { .. } | Self::UnreadableState(_) => {
                ErrorClass::Invalid
            }
            Self::Stopped { .. } => ErrorClass::Conflict,
            Self::UnwritableState(_) => ErrorClass::Bug,
            Self::Network(error) => error.class(),
        }
    }
}
