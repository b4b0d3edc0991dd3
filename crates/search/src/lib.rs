//! Which model configurations a run trains: a [`Space`] of architectures, optimizers, losses and
//! fit parameters, and the searchers that choose from it. No I/O, no clock; the only randomness
//! comes from a seed.
//!
//! ```
//! use std::collections::BTreeMap;
//! use arrowhop_search::{Axis, Grid, OptimizerKind, OptimizerSpace, Searcher, Space};
//! use arrowhop_types::Loss;
//!
//! let rates = Axis::Values(vec![1e-3, 1e-4]);
//! let adam = OptimizerSpace {
//!     kind: OptimizerKind::Adam,
//!     parameters: BTreeMap::from([("learning_rate".to_owned(), rates)]),
//! };
//! let space = Space {
//!     architectures: vec!["cnn".to_owned()],
//!     optimizers: vec![adam],
//!     losses: vec![Loss::CategoricalCrossentropy],
//!     batch_rows: vec![32, 64],
//!     passes: vec![1],
//! };
//! let mut grid = Grid::new(&space)?;
//! let first = grid.ask().expect("a grid is not empty");
//! assert_eq!((first.optimizer.learning_rate(), first.batch_rows), (1e-3, 32));
//! assert_eq!(grid.ask_all().len(), 3);
//! # Ok::<(), arrowhop_types::Problems>(())
//! ```

mod grid;
mod optimizer;
mod random;
mod space;

use std::collections::BTreeSet;

use arrowhop_types::ModelConfig;

pub use grid::Grid;
pub use optimizer::OptimizerKind;
pub use random::Random;
pub use space::{Axis, OptimizerSpace, Space};

/// A run has at most this many configurations, however they are found.
pub const CONFIGS_MAX: usize = 10_000;

/// Proposes configurations, each once, until it has no more.
pub trait Searcher {
    /// The next configuration to train.
    fn ask(&mut self) -> Option<ModelConfig>;

    /// All configurations that are left.
    fn ask_all(&mut self) -> Vec<ModelConfig> {
        std::iter::from_fn(|| self.ask()).collect()
    }
}

/// The configurations that were proposed, each by its `Debug` text, which shows every field and
/// every number exactly.
#[derive(Debug, Clone, Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn is_new(&mut self, config: &ModelConfig) -> bool {
        self.0.insert(format!("{config:?}"))
    }
}
