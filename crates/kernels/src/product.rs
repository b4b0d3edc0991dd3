//! Matrix products.
//!
//! Columns of the right operand are packed a panel at a time, of at most [`DEPTH`] elements, and all
//! rows of the left one are multiplied with it while it is near: K. Goto, R. A. van de Geijn, *Anatomy
//! of High-Performance Matrix Multiplication*, ACM TOMS 34(3), 2008. The left operand is read as it
//! lies where it lies by rows; by columns, each step of a tile would be in another page, so it is packed
//! once.

use crate::isa::{Arithmetic, Job};
use crate::lanes::Lanes;
use crate::pack::{Matrix, Scratch, pack_bias, room};
use crate::tile::{Last, Runs, Target, panel, tile};

/// Elements of the common dimension at a time: a panel of them stays in the first-level cache.
pub(crate) const DEPTH: usize = 384;

/// What is done with a product before it is stored.
#[derive(Debug, Clone, Copy, Default)]
pub struct Finish<'a> {
    /// Added to every row.
    pub bias: Option<&'a [f32]>,
    /// Then negative numbers become 0.
    pub relu: bool,
}

/// `result` (rows, columns) = left · right, finished.
///
/// # Panics
/// When the sizes do not go together, or the CPU lacks the instructions.
pub fn multiply(
    arithmetic: Arithmetic,
    left: Matrix<'_>,
    right: Matrix<'_>,
    finish: Finish<'_>,
    result: &mut [f32],
    scratch: &mut Scratch,
) {
    assert_eq!(left.columns, right.rows, "the operands' common dimension");
    assert_eq!(result.len(), left.rows * right.columns, "the result's elements");
    if let Some(bias) = finish.bias {
        assert_eq!(bias.len(), right.columns, "one bias for each column");
    }
    arithmetic.run(Multiply { left, right, finish, result, scratch });
}

/// `result` (rows, columns) = left · right for a left operand of few rows and a large right one that
/// lies by columns: the turned product is computed, so that it need not be packed.
///
/// # Panics
/// As [`multiply`].
pub fn multiply_transposed(
    arithmetic: Arithmetic,
    left: Matrix<'_>,
    right: Matrix<'_>,
    result: &mut [f32],
    scratch: &mut Scratch,
) {
    let (rows, columns) = (left.rows, right.columns);
    let mut turned = std::mem::take(&mut scratch.turned);
    let product = room(&mut turned, rows * columns);
    let (turned_left, turned_right) = (right.transposed(), left.transposed());
    multiply(arithmetic, turned_left, turned_right, Finish::default(), product, scratch);
    assert_eq!(result.len(), product.len(), "the result's elements");
    for (i, row) in result.chunks_exact_mut(columns.max(1)).enumerate() {
        row.iter_mut().zip(product[i..].iter().step_by(rows)).for_each(|(to, from)| *to = *from);
    }
    scratch.turned = turned;
}

/// Adds up the rows of a matrix (rows, columns) into `sums`.
///
/// # Panics
/// When its elements are no whole rows.
pub fn column_sums(matrix: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    let rows = matrix.chunks_exact(sums.len().max(1));
    assert!(rows.remainder().is_empty(), "{} elements in rows of {}", matrix.len(), sums.len());
    for row in rows {
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
}

/// A product to be computed.
pub(crate) struct Multiply<'a> {
    pub(crate) left: Matrix<'a>,
    pub(crate) right: Matrix<'a>,
    pub(crate) finish: Finish<'a>,
    pub(crate) result: &'a mut [f32],
    pub(crate) scratch: &'a mut Scratch,
}

impl Job for Multiply<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { left, right, finish, result, scratch } = self;
        let Scratch { panels, left: packed_left, .. } = scratch;
        let width = panel::<L>();
        let depth = left.columns;
        let left = Left::of::<L>(left, packed_left);
        let buffer = room(panels, width * depth.clamp(1, DEPTH));
        for column in (0..right.columns).step_by(width) {
            let bias = finish.bias.map(|bias| pack_bias(bias, column));
            let columns = width.min(right.columns - column);
            // At least one step, so that a product over nothing is written, too.
            for from in (0..depth.max(1)).step_by(DEPTH) {
                let length = DEPTH.min(depth - from);
                let packed = &mut buffer[..length * width];
                right.pack(from, column, width, packed);
                let is_last = from + length == depth;
                let last =
                    Last { bias: bias.as_ref().filter(|_| is_last), relu: finish.relu && is_last };
                let runs = Runs { offsets: &[0], length, step: left.step };
                for row in (0..left.rows).step_by(L::ROWS) {
                    let rows = L::ROWS.min(left.rows - row);
                    let first = row * left.by_row + from * left.step;
                    let to = &mut result[row * right.columns + column..];
                    let target = Target {
                        first: to.as_mut_ptr(),
                        row_stride: right.columns,
                        columns,
                        adds: from > 0,
                    };
                    // SAFETY: the caller has the instructions; the rows and this part of the common
                    // dimension are the left matrix's, whose data was checked; the panel was just
                    // packed; rows and columns are the result's.
                    unsafe {
                        let from = left.data.as_ptr().add(first);
                        tile::<L>(rows, from, left.row_stride, runs, packed.as_ptr(), target, last);
                    }
                }
            }
        }
    }
}

/// The left operand as tiles read it.
struct Left<'a> {
    data: &'a [f32],
    rows: usize,
    /// From a tile's first row to the next one's, for each row of a tile.
    by_row: usize,
    /// From row to row within a tile.
    row_stride: usize,
    /// Along the common dimension.
    step: usize,
}

impl<'a> Left<'a> {
    #[inline(always)]
    fn of<L: Lanes>(left: Matrix<'a>, packed: &'a mut Vec<f32>) -> Self {
        let Matrix { data, rows, columns: depth, row_stride, column_stride } = left;
        if row_stride != 1 || column_stride == 1 {
            return Self { data, rows, by_row: row_stride, row_stride, step: column_stride };
        }
        let packed = room(packed, rows.div_ceil(L::ROWS) * L::ROWS * depth);
        for (number, tile) in packed.chunks_exact_mut(L::ROWS * depth.max(1)).enumerate() {
            let row = number * L::ROWS;
            let count = L::ROWS.min(rows - row);
            for (k, to) in tile.chunks_exact_mut(L::ROWS).enumerate() {
                to[..count].copy_from_slice(&data[k * column_stride + row..][..count]);
            }
        }
        Self { data: packed, rows, by_row: depth, row_stride: 1, step: L::ROWS }
    }
}
