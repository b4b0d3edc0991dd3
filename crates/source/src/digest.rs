//! Digests of rows, shards and data sets, made so that anyone with blake3 can recompute them.
//!
//! * **Row**: blake3 of its part (one byte: 0 training, 1 validation, 2 test), its row number (u64), the
//!   elements of its inputs (u8, i32 or f32) and of its targets (i32 or f32), column by column, all
//!   little-endian, without separators.
//! * **Rows of a data set**: the sum of all rows' digests, each read as a little-endian 256-bit
//!   integer, modulo 2²⁵⁶: equal for equal rows in any order, on any number of shards.
//! * **Shard**: blake3 of its rows' digests in order, training before validation.
//! * **Test rows**: the sum of their digests, as of a data set's rows; these are not among them.
//! * **Data set**: blake3 of, in this order, the preparation's text (inputs and targets are in it),
//!   preceded by its length (u64), and for each shard its number (u32), training rows (u64),
//!   validation rows (u64) and digest; and if there are test rows, their number (u64) and digest.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Int32Type, UInt8Type, UInt64Type};
use arrowhop_types::{DataSetId, Digest, Part, ShardId, ShardInfo, TestRows};

use crate::parallel;

/// The part of test rows.
const TEST: u8 = 2;

// A row's bytes are hashed as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"), "digests are defined little-endian");

/// The digest of a shard's rows in order. The batches must have the layout of
/// `arrowhop_types::data`.
#[must_use]
pub fn shard_digest(train: &[RecordBatch], validation: &[RecordBatch]) -> Digest {
    of_rows(&digests(train, validation))
}

/// The digest of rows in any order: the sum of the rows' digests over the shards, each given as
/// its training and its validation batches.
#[must_use]
pub fn rows_digest<'a>(
    shards: impl IntoIterator<Item = (&'a [RecordBatch], &'a [RecordBatch])>,
) -> Digest {
    sum(shards.into_iter().flat_map(|(train, validation)| digests(train, validation)))
}

/// The sum of rows' inputs modulo 2²⁵⁶, each the blake3 digest of its number (u64) and its elements, both
/// little-endian: taken of the source as rows are decoded, and again of the shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum([u8; 32]);

impl Sum {
    pub(crate) fn add_row(&mut self, row: u64, elements: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&row.to_le_bytes()).update(elements);
        accumulate(&mut self.0, hasher.finalize().as_bytes());
    }

    pub(crate) fn plus(mut self, other: Self) -> Self {
        accumulate(&mut self.0, &other.0);
        self
    }

    pub(crate) fn digest(self) -> Digest {
        Digest(self.0)
    }
}

/// Digests of shards as they are put together, of each the training rows before the others.
pub(crate) struct Tally {
    shards: Vec<ShardTally>,
    total: [u8; 32],
    /// Of all inputs: of training rows, and of validation rows.
    inputs: [Sum; 2],
}

#[derive(Clone, Default)]
struct ShardTally {
    train_rows: u64,
    validation_rows: u64,
    hasher: blake3::Hasher,
}

impl Tally {
    /// Of so many shards without rows yet.
    pub(crate) fn new(shards: u32) -> Self {
        let shards = vec![ShardTally::default(); shards as usize];
        Self { shards, total: [0; 32], inputs: [Sum::default(); 2] }
    }

    /// Adds batches of shards, in their order, which have so many inputs.
    pub(crate) fn add(&mut self, batches: &[(u32, Part, &RecordBatch)], inputs: usize) {
        let digests = parallel::map(batches, |(_, part, batch)| {
            (batch_digests(part_byte(*part), batch), batch_sum(batch, inputs))
        });
        for ((shard, part, _), (digests, sum)) in batches.iter().zip(digests) {
            let tally = &mut self.shards[*shard as usize];
            match part {
                Part::Train => tally.train_rows += digests.len() as u64,
                Part::Validation => tally.validation_rows += digests.len() as u64,
            }
            tally.hasher.update(digests.as_flattened());
            digests.iter().for_each(|digest| accumulate(&mut self.total, digest));
            let of_part = &mut self.inputs[usize::from(part_byte(*part))];
            *of_part = of_part.plus(sum);
        }
    }

    /// Of all inputs: of training rows, and of validation rows.
    pub(crate) fn inputs(&self) -> [Sum; 2] {
        self.inputs
    }

    /// What each shard is, and the sum of all rows' digests.
    pub(crate) fn finish(self) -> (Vec<ShardInfo>, Digest) {
        let infos = (0..).map(ShardId).zip(self.shards).map(|(shard, tally)| ShardInfo {
            shard,
            train_rows: tally.train_rows,
            validation_rows: tally.validation_rows,
            digest: Digest(tally.hasher.finalize().into()),
        });
        (infos.collect(), Digest(self.total))
    }
}

/// The sum of the inputs of a batch's rows.
fn batch_sum(batch: &RecordBatch, inputs: usize) -> Sum {
    let rows = batch.column(0).as_primitive::<UInt64Type>().values();
    let mut sum = Sum::default();
    for column in &batch.columns()[1..=inputs] {
        let (values, bytes) = row_bytes(column);
        for (i, row) in rows.iter().enumerate() {
            sum.add_row(*row, &values[i * bytes..(i + 1) * bytes]);
        }
    }
    sum
}

fn part_byte(part: Part) -> u8 {
    u8::from(part == Part::Validation)
}

/// Digests of a shard's rows, in order.
fn digests(train: &[RecordBatch], validation: &[RecordBatch]) -> Vec<[u8; 32]> {
    let parts = [(Part::Train, train), (Part::Validation, validation)];
    let batches: Vec<(u8, &RecordBatch)> = parts
        .into_iter()
        .flat_map(|(part, batches)| batches.iter().map(move |batch| (part_byte(part), batch)))
        .collect();
    parallel::map(&batches, |(part, batch)| batch_digests(*part, batch)).concat()
}

/// The digest of test rows in any order.
pub(crate) fn test_digest(batches: &[RecordBatch]) -> Digest {
    sum(parallel::map(batches, |batch| batch_digests(TEST, batch)).into_iter().flatten())
}

/// A shard's digest from those of its rows.
fn of_rows(digests: &[[u8; 32]]) -> Digest {
    Digest(blake3::hash(digests.as_flattened()).into())
}

/// The sum of rows' digests modulo 2²⁵⁶.
pub(crate) fn sum(digests: impl IntoIterator<Item = [u8; 32]>) -> Digest {
    let mut total = [0_u8; 32];
    digests.into_iter().for_each(|digest| accumulate(&mut total, &digest));
    Digest(total)
}

fn accumulate(total: &mut [u8; 32], digest: &[u8; 32]) {
    let mut carry = 0_u16;
    for (byte, added) in total.iter_mut().zip(digest) {
        let [low, high] = (u16::from(*byte) + u16::from(*added) + carry).to_le_bytes();
        *byte = low;
        carry = u16::from(high);
    }
}

/// The name of a data set.
pub(crate) fn data_set_id(
    preparation: &str,
    shards: &[ShardInfo],
    test: Option<&TestRows>,
) -> DataSetId {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(preparation.len() as u64).to_le_bytes());
    hasher.update(preparation.as_bytes());
    for shard in shards {
        hasher.update(&shard.shard.0.to_le_bytes());
        hasher.update(&shard.train_rows.to_le_bytes());
        hasher.update(&shard.validation_rows.to_le_bytes());
        hasher.update(&shard.digest.0);
    }
    if let Some(test) = test {
        hasher.update(&test.rows.to_le_bytes()).update(&test.digest.0);
    }
    DataSetId(Digest(hasher.finalize().into()))
}

fn batch_digests(part: u8, batch: &RecordBatch) -> Vec<[u8; 32]> {
    let [rows, columns @ ..] = batch.columns() else { panic!("a shard's batch has columns") };
    let columns: Vec<_> = columns.iter().map(row_bytes).collect();
    let part = [part];
    let rows = rows.as_primitive::<UInt64Type>().values();
    let digest = |(i, row): (usize, &u64)| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&part).update(&row.to_le_bytes());
        for (values, bytes) in &columns {
            hasher.update(&values[i * bytes..(i + 1) * bytes]);
        }
        hasher.finalize().into()
    };
    rows.iter().enumerate().map(digest).collect()
}

/// A column's values as bytes, and how many belong to each row.
fn row_bytes(column: &ArrayRef) -> (&[u8], usize) {
    let (values, width) = match column.as_fixed_size_list_opt() {
        Some(list) => (list.values(), usize::try_from(list.value_length()).unwrap_or(0)),
        None => (column, 1),
    };
    match values.data_type() {
        DataType::UInt8 => (values.as_primitive::<UInt8Type>().values(), width),
        DataType::Float32 => {
            (values.as_primitive::<Float32Type>().values().inner().as_slice(), 4 * width)
        }
        DataType::Int32 => {
            (values.as_primitive::<Int32Type>().values().inner().as_slice(), 4 * width)
        }
        other => panic!("a shard's batch has no column of type {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::generated_spec;
    use crate::prepare;

    #[test]
    fn sums_carry_and_wrap() {
        let one = {
            let mut one = [0; 32];
            one[0] = 1;
            one
        };
        assert_eq!(sum([[0xff; 32], one]), Digest([0; 32]));
        assert_eq!(sum([[0xff; 32], one, one]), Digest(one));
        let mut low = [0; 32];
        low[0] = 0xff;
        let mut carried = [0; 32];
        carried[1] = 1;
        assert_eq!(sum([low, one]), Digest(carried));
    }

    #[test]
    fn digests_are_those_of_the_documented_bytes() {
        let prepared = prepare(&generated_spec(40, 8)).unwrap();
        let mut all = Vec::new();
        for (shard, info) in prepared.shards.iter().zip(&prepared.data_set.shards) {
            let mut rows = Vec::new();
            for (part, batches) in [(0_u8, &shard.train), (1, &shard.validation)] {
                for batch in batches {
                    let x = batch.column(1).as_fixed_size_list();
                    for i in 0..batch.num_rows() {
                        let mut bytes = vec![part];
                        let row = batch.column(0).as_primitive::<UInt64Type>().value(i);
                        bytes.extend(row.to_le_bytes());
                        bytes.extend(x.value(i).as_primitive::<UInt8Type>().values().iter());
                        let y = batch.column(2).as_primitive::<Int32Type>().value(i);
                        bytes.extend(y.to_le_bytes());
                        rows.push(*blake3::hash(&bytes).as_bytes());
                    }
                }
            }
            assert_eq!(info.digest, Digest(blake3::hash(&rows.concat()).into()));
            assert_eq!(info.digest, shard_digest(&shard.train, &shard.validation));
            all.extend(rows);
        }
        assert_eq!(all.len(), 48);
        all.sort_unstable();
        assert_eq!(prepared.data_set.rows_digest, sum(all));
        let parts = prepared.shards.iter().map(|s| (s.train.as_slice(), s.validation.as_slice()));
        assert_eq!(prepared.data_set.rows_digest, rows_digest(parts));
    }
}
