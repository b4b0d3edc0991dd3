//! `arrowhop export`: what can be taken out, and how.

use std::path::PathBuf;

use arrowhop_source::TableFormat;
use arrowhop_types::RunId;
use arrowhop_weights::Format;
use clap::{Subcommand, ValueEnum};

use super::{NewData, State, Which, run_id};

/// `arrowhop export`
#[derive(Debug, Subcommand)]
pub enum Export {
    /// A model's weights in Keras's order, and its architecture as Keras JSON
    Weights {
        /// The model.
        #[command(flatten)]
        which: Which,
        /// safetensors, npz (numpy), f32 (raw numbers), h5 or keras (Keras 3); several with commas
        #[arg(long, value_name = "FORMAT", value_delimiter = ',', default_value = "safetensors", value_parser = weight_format)]
        format: Vec<Format>,
        /// The folder to write to
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// A run's prepared shards
    Shards {
        /// The run
        #[arg(value_parser = run_id)]
        run: RunId,
        /// State.
        #[command(flatten)]
        state: State,
        /// The folder to write to
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
        /// How they are written; in CSV a tensor takes a column for each element
        #[arg(long, default_value = "parquet")]
        format: FormatName,
    },
    /// What a model predicts for new rows: one line for each row and class
    Predictions {
        /// The model.
        #[command(flatten)]
        which: Which,
        /// The rows.
        #[command(flatten)]
        rows: NewData,
        /// Only the most probable classes of each row [default: all]
        #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
        top_k: Option<u32>,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// How it is written
        #[arg(long, default_value = "parquet")]
        format: FormatName,
    },
    /// Everything that was measured in a run: one line for each model, epoch and metric
    History {
        /// The run
        #[arg(value_parser = run_id)]
        run: RunId,
        /// State.
        #[command(flatten)]
        state: State,
        /// The file to write
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// How it is written
        #[arg(long, default_value = "parquet")]
        format: FormatName,
    },
}

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// Parquet.
    Parquet,
    /// Arrow IPC.
    Arrow,
    /// CSV.
    Csv,
}

impl From<FormatName> for TableFormat {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Parquet => Self::Parquet,
            FormatName::Arrow => Self::Arrow,
            FormatName::Csv => Self::Csv,
        }
    }
}

fn weight_format(text: &str) -> Result<Format, String> {
    let known = || Format::ALL.map(Format::ending).join(", ");
    let found = Format::ALL.into_iter().find(|format| format.ending() == text);
    found.ok_or_else(|| format!("known: {}", known()))
}
