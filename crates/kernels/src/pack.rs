//! Operands: matrices where they lie, and their columns packed into panels that tiles read in order.

use crate::tile::PANEL_MAX;

/// A matrix in a slice, by rows or by columns.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

/// Memory that kernels work in. It grows to what the largest call needs, and then stays.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Panels of the right operand.
    pub(crate) panels: Vec<f32>,
    /// Images with the zeros around them.
    pub(crate) padded: Vec<f32>,
    /// The left operand, where it lies by columns.
    pub(crate) left: Vec<f32>,
    /// A result before it is turned.
    pub(crate) turned: Vec<f32>,
    /// Transformed tiles of images, and what comes of them.
    pub(crate) tiles: Vec<f32>,
    pub(crate) products: Vec<f32>,
    /// A part of a kernel, cell by cell.
    pub(crate) cells: Vec<f32>,
    /// Where the runs of a window begin.
    pub(crate) offsets: Vec<usize>,
    /// The left operand in halves, and panels of the right one in pairs of them.
    pub(crate) halves: Vec<u16>,
    pub(crate) pairs: Vec<u32>,
}

impl<'a> Matrix<'a> {
    /// (rows, columns), row by row.
    ///
    /// # Panics
    /// When the slice has another number of elements.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        assert_eq!(Some(data.len()), rows.checked_mul(columns), "{rows} rows of {columns}");
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same elements, rows as columns.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Packs `panel.len() / width` rows from `row` on of the `width` columns from `column` on, row by
    /// row; columns beyond the matrix are zeros.
    pub(crate) fn pack(&self, row: usize, column: usize, width: usize, panel: &mut [f32]) {
        let columns = width.min(self.columns - column);
        let from = &self.data[(row * self.row_stride + column * self.column_stride)..];
        if self.column_stride == 1 {
            for (i, to) in panel.chunks_exact_mut(width).enumerate() {
                let from = &from[i * self.row_stride..][..columns];
                to[..columns].copy_from_slice(from);
                to[columns..].fill(0.0);
            }
            return;
        }
        if columns < width {
            panel.fill(0.0);
        }
        for (j, from) in from.chunks(self.column_stride).take(columns).enumerate() {
            let to = panel[j..].iter_mut().step_by(width);
            to.zip(from.iter().step_by(self.row_stride)).for_each(|(to, from)| *to = *from);
        }
    }
}

/// A buffer of at least this many elements; what they hold is whatever was there.
pub(crate) fn room<T: Copy + Default>(buffer: &mut Vec<T>, length: usize) -> &mut [T] {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
    &mut buffer[..length]
}

/// The biases of a panel's columns, with zeros beyond them.
pub(crate) fn pack_bias(bias: &[f32], column: usize) -> [f32; PANEL_MAX] {
    let mut packed = [0.0; PANEL_MAX];
    let from = &bias[column..];
    let count = from.len().min(PANEL_MAX);
    packed[..count].copy_from_slice(&from[..count]);
    packed
}
