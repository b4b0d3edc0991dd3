//! How raw columns become an input, whichever kind it is.

use arrowhop_types::{InputSpec, Part, Problems};
use bytemuck::Pod;

use crate::deal::{BatchRows, Deal};
use crate::digest::Sum;
use crate::shards::{Buffers, slots};
use crate::spec::{Inputs, NamedInputs};
use crate::table::{Chunk, Table};
use crate::tabular::TableEncoder;
use crate::tensor::TensorEncoder;
use crate::whole::WholeEncoder;

/// How raw columns become one input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Encoder {
    /// The shards' column.
    pub(crate) name: String,
    /// What is done.
    pub(crate) kind: EncoderKind,
}

/// What is done with raw columns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum EncoderKind {
    Tensor(TensorEncoder),
    Whole(WholeEncoder),
    Table(TableEncoder),
}

impl Encoder {
    /// Settles everything from the training file: shapes and types from a row that is used,
    /// statistics from all rows that training could use. `taken` are the columns of targets and of
    /// other inputs.
    pub(crate) fn resolve(
        table: &Table,
        name: &str,
        of: &NamedInputs,
        taken: &[&str],
        deal: &Deal,
    ) -> Result<Self, Problems> {
        let rows = &deal.candidates;
        let kind = match &of.inputs {
            Inputs::Tensor(inputs) => {
                TensorEncoder::resolve(table, inputs, deal.first_row()).map(EncoderKind::Tensor)
            }
            Inputs::Tokens { column, length, padding, truncating } => {
                WholeEncoder::tokens(table, column, *length, [*padding, *truncating], rows)
                    .map(EncoderKind::Whole)
            }
            Inputs::OneHot { column, width } => {
                WholeEncoder::one_hot(table, column, *width, deal.first_row())
                    .map(EncoderKind::Whole)
            }
            Inputs::Table(inputs) => {
                TableEncoder::resolve(table, inputs, taken, rows).map(EncoderKind::Table)
            }
        };
        Ok(Self { name: name.to_owned(), kind: kind? })
    }

    /// What rows become; of tokens it is not known yet how many there are.
    pub(crate) fn input(&self) -> InputSpec {
        match &self.kind {
            EncoderKind::Tensor(encoder) => {
                InputSpec { name: self.name.clone(), ..encoder.input.clone() }
            }
            EncoderKind::Whole(encoder) => encoder.input(&self.name),
            EncoderKind::Table(encoder) => encoder.input(&self.name),
        }
    }

    /// Decodes the rows that a table has in these parts of the batches into their places; the sum of
    /// their digests as they were read.
    pub(crate) fn fill(
        &self,
        table: &Table,
        batches: &[BatchRows],
        buffers: &mut Buffers,
        parts: &[Part],
    ) -> Result<Sum, Problems> {
        let width = self.input().elements();
        let sums = match (&self.kind, buffers) {
            (EncoderKind::Tensor(encoder), Buffers::U8(buffers)) => {
                let (rows, places) = slots(batches, buffers, width, parts);
                let storage = encoder.storage(table, rows[0])?;
                table.scan(&[&encoder.column], &rows, places, |chunk| {
                    summed(chunk, |chunk| encoder.encode_u8(table, &storage, chunk))
                })?
            }
            (EncoderKind::Tensor(encoder), Buffers::F32(buffers)) => {
                let (rows, places) = slots(batches, buffers, width, parts);
                let storage = encoder.storage(table, rows[0])?;
                table.scan(&[&encoder.column], &rows, places, |chunk| {
                    summed(chunk, |chunk| encoder.encode_f32(table, &storage, chunk))
                })?
            }
            (EncoderKind::Whole(encoder), Buffers::I32(buffers)) => {
                encoder.check(table)?;
                let (rows, places) = slots(batches, buffers, width, parts);
                table.scan(&[&encoder.column], &rows, places, |chunk| {
                    summed(chunk, |chunk| encoder.encode(table, chunk))
                })?
            }
            (EncoderKind::Table(encoder), Buffers::F32(buffers)) => {
                encoder.check(table)?;
                let (rows, places) = slots(batches, buffers, width, parts);
                table.scan(&encoder.names(), &rows, places, |chunk| {
                    summed(chunk, |chunk| encoder.encode(table, chunk))
                })?
            }
            (EncoderKind::Table(encoder), Buffers::I32(buffers)) => {
                encoder.check(table)?;
                let (rows, places) = slots(batches, buffers, width, parts);
                table.scan(&encoder.names(), &rows, places, |chunk| {
                    summed(chunk, |chunk| encoder.encode_places(table, chunk))
                })?
            }
            _ => unreachable!("buffers are made for their encoder"),
        };
        Ok(sums.into_iter().fold(Sum::default(), Sum::plus))
    }
}

/// Encodes a chunk, and sums up the digests of what its rows became.
fn summed<T: Pod>(
    mut chunk: Chunk<'_, &mut [T]>,
    encode: impl FnOnce(Chunk<'_, &mut [T]>) -> Result<(), Problems>,
) -> Result<Sum, Problems> {
    let items = chunk.items.iter_mut().map(|item| &mut **item).collect();
    encode(Chunk { batch: chunk.batch.clone(), rows: chunk.rows, items })?;
    let mut sum = Sum::default();
    for (row, item) in chunk.rows.iter().zip(&chunk.items) {
        sum.add_row(u64::from(*row), bytemuck::cast_slice(item));
    }
    Ok(sum)
}
