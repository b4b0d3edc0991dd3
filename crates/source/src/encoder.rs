//! How raw columns become `x`, whichever kind of input it is.

use arrowhop_types::{InputSpec, Part, Problems};

use crate::deal::{BatchRows, Deal};
use crate::shards::{Buffers, slots};
use crate::spec::Inputs;
use crate::table::Table;
use crate::tabular::TableEncoder;
use crate::tensor::TensorEncoder;

/// How raw columns become `x`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Encoder {
    Tensor(TensorEncoder),
    Table(TableEncoder),
}

impl Encoder {
    /// Settles everything from the training file: shapes and types from a row that is used,
    /// statistics from all rows that training could use.
    pub(crate) fn resolve(
        table: &Table,
        inputs: &Inputs,
        target: &str,
        deal: &Deal,
    ) -> Result<Self, Problems> {
        match inputs {
            Inputs::Tensor { column, shape, normalize } => {
                let row = deal.first_row();
                TensorEncoder::resolve(table, column, shape.as_deref(), *normalize, row)
                    .map(Self::Tensor)
            }
            Inputs::Table { columns, standardise } => TableEncoder::resolve(
                table,
                columns.as_deref(),
                target,
                *standardise,
                &deal.candidates,
            )
            .map(Self::Table),
        }
    }

    /// What rows become.
    pub(crate) fn input(&self) -> InputSpec {
        match self {
            Self::Tensor(encoder) => encoder.input.clone(),
            Self::Table(encoder) => encoder.input(),
        }
    }

    /// Decodes the rows that a file has in these parts of the batches into their places.
    pub(crate) fn fill(
        &self,
        table: &Table,
        batches: &[BatchRows],
        buffers: &mut Buffers,
        parts: &[Part],
    ) -> Result<(), Problems> {
        let width = self.input().elements();
        match (self, buffers) {
            (Self::Tensor(encoder), Buffers::U8(buffers)) => {
                let (rows, places) = slots(batches, buffers, width, parts);
                let storage = encoder.storage(table, rows[0])?;
                table.scan(&[&encoder.column], &rows, places, |chunk| {
                    encoder.encode_u8(table, &storage, chunk)
                })?;
            }
            (Self::Tensor(encoder), Buffers::F32(buffers)) => {
                let (rows, places) = slots(batches, buffers, width, parts);
                let storage = encoder.storage(table, rows[0])?;
                table.scan(&[&encoder.column], &rows, places, |chunk| {
                    encoder.encode_f32(table, &storage, chunk)
                })?;
            }
            (Self::Table(encoder), Buffers::F32(buffers)) => {
                encoder.check(table)?;
                let (rows, places) = slots(batches, buffers, width, parts);
                let columns: Vec<&str> = encoder.columns.iter().map(|c| c.name.as_str()).collect();
                table.scan(&columns, &rows, places, |chunk| encoder.encode(table, chunk))?;
            }
            (Self::Table(_), Buffers::U8(_)) => unreachable!("tables become floats"),
        }
        Ok(())
    }
}
