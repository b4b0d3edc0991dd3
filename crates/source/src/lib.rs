//! Where shards come from: this crate turns a source (Parquet files, PostgreSQL, or a generated data
//! set) into
//! a prepared data set, shuffled once and dealt into shards, in the form that
//! `arrowhop_types::data` describes. It prepares new rows in the same way later, and writes shards
//! back out as Parquet. It knows nothing of networks, of training or of the cluster.
//!
//! ```text
//! file ──▶ target ──▶ labels of every row ───────────────┐
//!   │                                                    ▼
//!   ├───▶ deal: which row goes to which shard, where ──▶ batches ──▶ digests ──▶ Prepared
//!   │                                                    ▲
//!   └───▶ encoder: rows decoded into their final slots ──┘
//! ```
//!
//! Each row is decoded once, straight into its place in the shuffled batch; rows that are not used
//! (`max_rows`) are not decoded at all.

mod classes;
mod deal;
mod digest;
mod encoder;
mod error;
mod export;
mod filter;
mod formats;
mod inputs;
mod numbers;
mod object;
mod packed;
mod parallel;
mod parquet_file;
mod parquet_filter;
mod pictures;
pub mod postgres;
mod preparation;
mod prepare;
mod prepare_new;
mod progress;
mod scalars;
mod shapes;
mod shard_files;
mod shards;
mod shared_file;
mod shuffle;
mod source;
mod spec;
mod statistics;
mod storage;
mod table;
mod table_file;
mod table_filter;
mod tabular;
mod target;
mod tensor;
mod test_rows;
mod whole;
mod workspace;

#[cfg(test)]
mod filter_tests;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod madlib_tests;
#[cfg(test)]
mod object_tests;
#[cfg(test)]
mod packed_tests;
#[cfg(test)]
mod real_data_tests;

pub use digest::{rows_digest, shard_digest};
pub use error::SourceError;
pub use export::{write_shard, write_shards};
pub use filter::Filter;
pub use prepare::{Prepared, PreparedShard, prepare, prepare_within};
pub use prepare_new::{NewOptions, NewOrigin, NewRows, TargetUse, prepare_new};
pub use progress::{Glance, Progress, Stage};
pub use shards::shard_schema;
pub use source::Description;
pub use spec::{
    DataSpec, Generator, Inputs, Location, NamedInputs, Origin, Pictures, Resampling, Scale, Side,
    TableInputs, TargetKind, TargetSpec, TensorInputs,
};
pub use table_file::{TableFormat, write_table};
pub use test_rows::prepare_test;
pub use workspace::Workspace;
