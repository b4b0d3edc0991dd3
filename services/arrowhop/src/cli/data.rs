//! `arrowhop data`: what data sets there are, and preparing one.

use std::path::PathBuf;

use arrowhop_source::Location;
use clap::Subcommand;

use super::{Memory, Output, State};
use crate::experiment::Bounds;

/// `arrowhop data`
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Prepare an experiment's data and keep it: what `fit` does first, too
    Prepare {
        /// The experiment file; see schemas/experiment.toml
        experiment: PathBuf,
        /// Folder of the data files [default: the experiment's folder]
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// How tables of PostgreSQL are read: by COPY, directly from their pages, or directly where every gate passes [default: as the experiment says, else auto]
        #[arg(long, value_parser = ["auto", "copy", "direct"])]
        access: Option<String>,
        /// Bounds.
        #[command(flatten)]
        bounds: Bounds,
        /// Memory.
        #[command(flatten)]
        memory: Memory,
        /// State.
        #[command(flatten)]
        state: State,
    },
    /// The data sets that are kept
    List {
        /// State.
        #[command(flatten)]
        state: State,
        /// How the list is printed
        #[arg(long, default_value = "table")]
        output: Output,
    },
    /// What a file or an object holds: columns, rows, bytes
    Show {
        /// A file, a folder of images, or s3://, gs://, az://, https://
        #[arg(value_parser = |text: &str| Ok::<_, std::convert::Infallible>(Location::of(text)))]
        source: Location,
        /// How it is printed
        #[arg(long, default_value = "table")]
        output: Output,
    },
    /// Read a kept data set and compare it with its digests
    Verify {
        /// Its name, or the beginning of its id
        name: String,
        /// State.
        #[command(flatten)]
        state: State,
    },
    /// Remove a kept data set; runs stay, and prepare it again when they need it
    Drop {
        /// Its name, or the beginning of its id
        name: String,
        /// State.
        #[command(flatten)]
        state: State,
    },
}
