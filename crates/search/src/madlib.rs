//! MADlib's texts of keyword arguments: compile and fit parameters, read as MADlib reads them, with
//! what it does to them that is easily overlooked as warnings.
//!
//! ```
//! use arrowhop_search::madlib::{CompileParams, FitParams};
//! use arrowhop_types::optimizer::Semantics;
//!
//! let text = "optimizer='Adam(lr=0.01)', loss='categorical_crossentropy', metrics=['accuracy']";
//! let compile = CompileParams::parse(text, Semantics::Legacy)?.value;
//! assert_eq!(compile.optimizer().to_string(), "legacy adam 0.01");
//! assert_eq!(FitParams::parse("batch_size=4, epochs=2")?.value.passes, 2);
//! # Ok::<(), arrowhop_types::Problems>(())
//! ```

mod arguments;
mod call;
mod compile;
mod fit;
mod literal;

pub use compile::CompileParams;
pub use fit::FitParams;

/// What was read, and what about it may surprise.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted<T> {
    /// What was read.
    pub value: T,
    /// Each with its key.
    pub warnings: Vec<String>,
}
