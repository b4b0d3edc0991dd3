//! Which model configurations a run trains: a [`Space`] of architectures, optimizers, losses and
//! fit parameters, and the searchers that choose from it. No I/O, no clock; the only randomness
//! comes from a seed.
//!
//! ```
//! use std::collections::BTreeMap;
//! use arrowhop_search::{Axis, CompileSpace, FitSpace, Grid, OptimizerSpace, Searcher, Space};
//! use arrowhop_types::optimizer::{Optimizer, ParameterValue, Semantics};
//! use arrowhop_types::{Loss, Precision};
//!
//! let rates = Axis::Values(vec![ParameterValue::Number(1e-3), ParameterValue::Number(1e-4)]);
//! let optimizer = OptimizerSpace {
//!     place: "search.optimizer[0]".to_owned(),
//!     optimizer: Optimizer::named("adam", Semantics::Current)?,
//!     parameters: BTreeMap::from([("learning_rate".to_owned(), rates)]),
//! };
//! let space = Space {
//!     architectures: vec!["cnn".to_owned()],
//!     compiles: vec![CompileSpace { optimizer, losses: vec![Loss::CATEGORICAL_CROSSENTROPY] }],
//!     fits: vec![FitSpace {
//!         batch_rows: vec![32, 64],
//!         passes: vec![1],
//!         precisions: vec![Precision::F32],
//!     }],
//! };
//! let mut grid = Grid::new(&space)?;
//! let first = grid.ask().expect("a grid is not empty");
//! assert_eq!((first.optimizer.to_string(), first.batch_rows), ("adam 0.001".to_owned(), 32));
//! assert_eq!(grid.ask_all().len(), 3);
//! # Ok::<(), arrowhop_types::Problems>(())
//! ```

mod grid;
pub mod madlib;
mod random;
mod space;

use std::collections::BTreeSet;

use arrowhop_types::ModelConfig;

pub use grid::Grid;
pub use random::Random;
pub use space::{Axis, CompileSpace, FitSpace, OptimizerSpace, Space};

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
