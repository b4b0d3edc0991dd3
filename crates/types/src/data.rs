//! What a prepared data set is: the contract between the source that makes shards, the segments
//! that keep them and the trainers that read them.
//!
//! A shard is an ordered list of Arrow record batches with exactly three columns:
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `row` | `UInt64` | the row's number in the source, from 0 |
//! | `x` | `FixedSizeList<UInt8 or Float32>[n]`, not null | the input, row-major, `n` the product of its shape; extension `arrow.fixed_shape_tensor` |
//! | `y` | `Int32`, not null, or `FixedSizeList<Float32>[k]`, not null | the class's index, or `k` values |
//!
//! Every batch of a shard but the last has the same number of rows.

use crate::{DataSetId, Digest, ShardId};

/// The type of an input's elements as it is cached and served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Unsigned bytes; become f32 only when a batch is gathered.
    U8,
    /// Single-precision floats.
    F32,
}

impl Dtype {
    /// Bytes per element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F32 => 4,
        }
    }
}

/// The input of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// Without the batch dimension; channels last for images. Never empty, never zero.
    pub shape: Vec<usize>,
    /// How elements are cached.
    pub dtype: Dtype,
    /// Elements are divided by this when a batch is gathered (MADlib's normalizing constant); 1 for none.
    pub normalize: f32,
}

impl InputSpec {
    /// Elements of one example.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What is learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One of these classes, by name, in the order of their indices.
    Classes(Vec<String>),
    /// This many numbers.
    Values(usize),
}

impl Target {
    /// Width of a network's output for this target.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Classes(names) => names.len(),
            Self::Values(width) => *width,
        }
    }
}

/// Training rows or validation rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Rows that models are trained on.
    Train,
    /// Rows that models are only evaluated on.
    Validation,
}

impl Part {
    /// Its name in tickets, paths and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
        }
    }
}

/// Size and content of one shard. A shard has training rows and may have validation rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardInfo {
    /// Its number within the data set.
    pub shard: ShardId,
    /// Training rows.
    pub train_rows: u64,
    /// Validation rows.
    pub validation_rows: u64,
    /// Digest of the shard's rows in their order, training before validation.
    pub digest: Digest,
}

/// A prepared data set.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSet {
    /// Named by its content and preparation.
    pub id: DataSetId,
    /// The name given in the experiment.
    pub name: String,
    /// The networks' input.
    pub input: InputSpec,
    /// The networks' target.
    pub target: Target,
    /// One entry per shard, by number.
    pub shards: Vec<ShardInfo>,
    /// Sum over the source's rows of their digests, modulo 2²⁵⁶: equal for equal rows in any order.
    pub rows_digest: Digest,
    /// How raw rows become `x` and `y`, in `arrowhop-source`'s own versioned JSON: kept with the
    /// models so that new rows are prepared alike.
    pub preparation: String,
}

impl DataSet {
    /// Rows of a part over all shards.
    #[must_use]
    pub fn rows(&self, part: Part) -> u64 {
        self.shards
            .iter()
            .map(|shard| match part {
                Part::Train => shard.train_rows,
                Part::Validation => shard.validation_rows,
            })
            .sum()
    }
}
