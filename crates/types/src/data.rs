//! What a prepared data set is: the contract between the source that makes shards, the segments
//! that keep them and the trainers that read them.
//!
//! A shard is an ordered list of Arrow record batches with these columns, in this order:
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `row` | `UInt64` | the row's number in the source, from 0 |
//! | one for each input, by its name | `FixedSizeList<UInt8, Int32 or Float32>[n]`, not null | row-major, `n` the product of its shape; extension `arrow.fixed_shape_tensor` |
//! | one for each target, by its name | `Int32`, not null, or `FixedSizeList<Float32>[k]`, not null | the class's index, or `k` values |
//!
//! A single input without a name of its own is `x`, a single target `y`. Every batch of a shard but
//! the last has the same number of rows.

use crate::{DataSetId, Digest, ShardId};

/// The column with the rows' numbers, in every shard.
pub const ROW: &str = "row";

/// The type of an input's elements as it is cached and served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Unsigned bytes; become f32 only when a batch is gathered.
    U8,
    /// Whole numbers from 0: tokens, or indices of ones.
    I32,
    /// Single-precision floats.
    F32,
}

impl Dtype {
    /// Bytes per element.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::I32 | Self::F32 => 4,
        }
    }
}

/// What an input's elements mean to a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Encoding {
    /// Themselves, divided by this when a batch is gathered (MADlib's normalizing constant); 1 for
    /// none. Bytes or floats.
    Numbers {
        /// Finite, above 0.
        normalize: f32,
    },
    /// Members of a vocabulary, by number: what an Embedding takes.
    Tokens {
        /// Every element is below this.
        vocabulary: u32,
    },
    /// The places of ones in a vector of zeros, which is not written out.
    OneHot {
        /// The vector's length; every element is below it.
        width: u32,
    },
}

/// One input of the networks: a column of tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct InputSpec {
    /// The shards' column; also the name by which networks with several inputs take it.
    pub name: String,
    /// Of a cached example, without the batch dimension; channels last for images. Never empty,
    /// never zero.
    pub shape: Vec<usize>,
    /// How elements are cached.
    pub dtype: Dtype,
    /// What they mean.
    pub encoding: Encoding,
}

impl InputSpec {
    /// Numbers to be divided by a constant, 1 for none, as the only input.
    #[must_use]
    pub fn numbers(shape: Vec<usize>, dtype: Dtype, normalize: f32) -> Self {
        Self { name: "x".to_owned(), shape, dtype, encoding: Encoding::Numbers { normalize } }
    }

    /// Cached elements of one example.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Cached bytes of one example.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.bytes()
    }

    /// The shape that a network's input must have.
    #[must_use]
    pub fn network_shape(&self) -> Vec<usize> {
        match self.encoding {
            Encoding::OneHot { width } => vec![width as usize],
            Encoding::Numbers { .. } | Encoding::Tokens { .. } => self.shape.clone(),
        }
    }
}

/// One target: a column of what is to be learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetColumn {
    /// The shards' column; also the name by which networks with several outputs learn it.
    pub name: String,
    /// What it holds.
    pub target: Target,
}

impl TargetColumn {
    /// The only target.
    #[must_use]
    pub fn only(target: Target) -> Self {
        Self { name: "y".to_owned(), target }
    }
}

/// What is learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One of these classes, in the order of their indices.
    Classes(ClassList),
    /// This many numbers.
    Values(usize),
}

impl Target {
    /// Width of a network's output for this target.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(width) => *width,
        }
    }
}

/// Classes by index, each with its name. The first may be the class of missing values, which has none;
/// every later place without a name is padding: an output of the networks that no row asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassList(Vec<Option<String>>);

impl ClassList {
    /// These places; the first is the class of missing values if it has no name.
    #[must_use]
    pub fn new(names: Vec<Option<String>>) -> Self {
        Self(names)
    }

    /// Classes that all have names.
    pub fn named(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self(names.into_iter().map(|name| Some(name.into())).collect())
    }

    /// How many places, with padding.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no place.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The places' names in order.
    #[must_use]
    pub fn names(&self) -> &[Option<String>] {
        &self.0
    }

    /// A place's name.
    #[must_use]
    pub fn name(&self, class: usize) -> Option<&str> {
        self.0.get(class)?.as_deref()
    }

    /// Whether missing values are a class, the first one.
    #[must_use]
    pub fn has_null(&self) -> bool {
        self.0.first().is_some_and(Option::is_none)
    }

    /// Whether rows may be of the class, rather than it being padding.
    #[must_use]
    pub fn is_class(&self, class: usize) -> bool {
        class == 0 || self.name(class).is_some()
    }

    /// How many classes rows may be of.
    #[must_use]
    pub fn classes(&self) -> usize {
        (0..self.len()).filter(|&class| self.is_class(class)).count()
    }

    /// The same classes without the padding behind them.
    #[must_use]
    pub fn without_padding(&self) -> &[Option<String>] {
        let named = self.0.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        &self.0[..named.max(usize::from(self.has_null()))]
    }

    /// What a class is called in messages.
    #[must_use]
    pub fn shown(&self, class: usize) -> &str {
        self.name(class).unwrap_or(if class == 0 { "null" } else { "padding" })
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

/// The file of one part of a shard, in its data set's folder.
#[must_use]
pub fn shard_file(shard: ShardId, part: Part) -> String {
    format!("{:05}-{}.arrow", shard.0, part.name())
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

/// Rows set aside: training, validation and statistics know nothing of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestRows {
    /// How many.
    pub rows: u64,
    /// Sum of their digests modulo 2²⁵⁶.
    pub digest: Digest,
}

/// A prepared data set.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSet {
    /// Named by its content and preparation.
    pub id: DataSetId,
    /// The name given in the experiment.
    pub name: String,
    /// What networks take; at least one.
    pub inputs: Vec<InputSpec>,
    /// What they learn; at least one.
    pub targets: Vec<TargetColumn>,
    /// One entry per shard, by number.
    pub shards: Vec<ShardInfo>,
    /// Rows that are in no shard, to test the best model on.
    pub test: Option<TestRows>,
    /// Sum over the shards' rows of their digests, modulo 2²⁵⁶: equal for equal rows in any order.
    pub rows_digest: Digest,
    /// How raw rows become inputs and targets, in `arrowhop-source`'s own versioned JSON: kept with the
    /// models so that new rows are prepared alike.
    pub preparation: String,
}

/// Where rows of a data set came from, as it was when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRecord {
    /// A path, a URL, a table, a query.
    pub name: String,
    /// Rows that were there.
    pub rows: u64,
    /// Which state of it: of a file its length and time of change, of an object its store's tag, of a
    /// database the snapshot. Empty where nobody could tell.
    pub version: String,
    /// How it was read, where there are several ways.
    pub way: String,
    /// Of the rows that were taken of it for shards, the sum of their inputs' digests as they were read,
    /// which is that of the shards' inputs: each input's blake3 digest of the row's number (u64) and its
    /// elements, little-endian, modulo 2²⁵⁶. Nothing where none were taken.
    pub digest: Option<Digest>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_class_without_a_name_is_one_of_rows() {
        let list = |names: &[&str]| {
            let name = |name: &&str| (!name.is_empty()).then(|| (*name).to_owned());
            ClassList::new(names.iter().map(name).collect())
        };
        let nulls = list(&["", "a", "b", "", ""]);
        assert!(nulls.has_null() && nulls.is_class(0) && !nulls.is_class(4));
        assert_eq!((nulls.len(), nulls.classes()), (5, 3));
        assert_eq!(nulls.without_padding(), list(&["", "a", "b"]).names());
        assert_eq!([0, 1, 3].map(|class| nulls.shown(class)), ["null", "a", "padding"]);
        let only_null = list(&["", "", ""]);
        assert_eq!((only_null.classes(), only_null.without_padding().len()), (1, 1));
        let padded = list(&["a", ""]);
        assert!(!padded.has_null());
        assert_eq!((padded.classes(), padded.without_padding().len()), (1, 1));
        assert!(ClassList::default().without_padding().is_empty());
    }
}
