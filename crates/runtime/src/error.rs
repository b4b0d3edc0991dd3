//! What can go wrong while a process starts.

use std::io;

use arrowhop_types::{Classify, ErrorClass};

/// A process cannot start as asked.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The log filter is not one.
    #[error(
        "{variable} is {text:?}, which is not a log filter; \
         write a level like `debug`, or `target=level` pairs with commas between"
    )]
    LogFilter {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        text: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process cannot be told of signals.
    #[error("listen for {signal}")]
    Signal {
        /// The signal.
        signal: &'static str,
        /// Why not.
        source: io::Error,
    },
}

impl Classify for RuntimeError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::LogFilter { .. } => ErrorClass::Invalid,
            Self::Signal { .. } => ErrorClass::Bug,
        }
    }
}
