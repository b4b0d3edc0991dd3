//! Operands rounded to halves, in the order in which tiles read them.

use std::ops::Range;

use super::tiles::{Runs, Tiles};
use crate::convolution::Convolution;
use crate::frame::Frame;
use crate::pack::{Matrix, room};

/// To the nearest half, ties to even; NaN stays NaN.
#[inline(always)]
pub(super) fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet = bits >> 16 | 0x40;
    #[expect(clippy::cast_possible_truncation, reason = "both are below 2^16")]
    let half = if value.is_nan() { quiet } else { rounded } as u16;
    half
}

/// Two neighbours in the common dimension.
#[inline(always)]
fn pair(first: f32, second: f32) -> u32 {
    u32::from(round(first)) | u32::from(round(second)) << 16
}

/// Rows of a matrix, tile by tile, unit by unit: a tile's rows are a unit apart.
pub(super) struct PackedRows<'a> {
    data: &'a [u16],
    units: usize,
}

impl<'a> PackedRows<'a> {
    /// Rounds and packs a matrix; beyond its last column are zeros.
    #[inline(always)]
    pub(super) fn of<T: Tiles>(matrix: Matrix<'_>, buffer: &'a mut Vec<u16>) -> Self {
        let Matrix { data, rows, columns: depth, row_stride, column_stride } = matrix;
        let units = depth.div_ceil(T::UNIT);
        let size = units * T::UNIT * T::ROWS;
        let packed = room(buffer, rows.div_ceil(T::ROWS) * size);
        for (number, tile) in packed.chunks_exact_mut(size.max(1)).enumerate() {
            let first = number * T::ROWS;
            let count = T::ROWS.min(rows - first);
            for (unit, to) in tile.chunks_exact_mut(T::UNIT * T::ROWS).enumerate() {
                let from = unit * T::UNIT;
                let there = T::UNIT.min(depth - from);
                if there < T::UNIT {
                    to.fill(0);
                }
                let data = &data[first * row_stride + from * column_stride..];
                if column_stride == 1 {
                    for (r, to) in to.chunks_exact_mut(T::UNIT).enumerate().take(count) {
                        let row = &data[r * row_stride..][..there];
                        to.iter_mut().zip(row).for_each(|(to, value)| *to = round(*value));
                    }
                    continue;
                }
                for k in 0..there {
                    let column = data[k * column_stride..].iter().step_by(row_stride).take(count);
                    let to = to[k..].iter_mut().step_by(T::UNIT);
                    to.zip(column).for_each(|(to, value)| *to = round(*value));
                }
            }
        }
        Self { data: packed, units }
    }

    /// From a tile's first row on, from this unit on; where the tile's rows lie.
    #[inline(always)]
    pub(super) fn tile<T: Tiles>(
        &self,
        number: usize,
        unit: usize,
        units: usize,
    ) -> (&[u16], Runs<'static>) {
        let step = T::UNIT * T::ROWS;
        let from = (number * self.units + unit) * step;
        (&self.data[from..from + units * step], Runs { offsets: &[0], units, step })
    }
}

/// Packs `depth` rows from `row` on of the panel's columns from `column` on, two rows to a word. Columns
/// beyond the matrix and rows up to whole units are zeros.
#[inline(always)]
pub(super) fn pack_panel<T: Tiles>(
    matrix: &Matrix<'_>,
    row: usize,
    depth: usize,
    column: usize,
    panel: &mut [u32],
) {
    let &Matrix { data, row_stride, column_stride, columns, .. } = matrix;
    let columns = T::PANEL.min(columns - column);
    let data = &data[(row * row_stride + column * column_stride).min(data.len())..];
    let (pairs, is_odd) = (depth / 2, depth % 2);
    if columns < T::PANEL {
        panel.fill(0);
    } else {
        panel[pairs * T::PANEL..].fill(0);
    }
    if column_stride == 1 {
        let rows = panel.chunks_exact_mut(T::PANEL).enumerate();
        for (number, to) in rows.take(pairs + is_odd) {
            let first = &data[2 * number * row_stride..][..columns];
            if number == pairs {
                to.iter_mut().zip(first).for_each(|(to, first)| *to = pair(*first, 0.0));
                continue;
            }
            let second = &data[(2 * number + 1) * row_stride..][..columns];
            let values = first.iter().zip(second);
            to.iter_mut().zip(values).for_each(|(to, (first, second))| *to = pair(*first, *second));
        }
        return;
    }
    for (j, from) in data.chunks(column_stride).take(columns).enumerate() {
        let mut to = panel[j..].iter_mut().step_by(T::PANEL);
        let mut values = from.iter().step_by(row_stride).take(depth);
        while let (Some(first), Some(to)) = (values.next(), to.next()) {
            *to = pair(*first, values.next().copied().unwrap_or(0.0));
        }
    }
}

/// An image in its frame, and behind it as many zeros as a unit may read beyond a run.
#[inline(always)]
pub(super) fn framed<'a, T: Tiles>(
    frame: &Frame,
    image: &[f32],
    buffer: &'a mut Vec<u16>,
) -> &'a [u16] {
    let Frame { height, width, before: [above, left], image: [_, columns], channels } = *frame;
    let framed = room(buffer, height * frame.row() + T::UNIT);
    framed.fill(0);
    let taken = columns.min(width.saturating_sub(left)) * channels;
    let rows = framed.chunks_exact_mut(frame.row()).take(height).skip(above);
    for (to, from) in rows.zip(image.chunks_exact(columns * channels)) {
        let to = &mut to[left.min(width) * channels..][..taken];
        to.iter_mut().zip(from).for_each(|(to, value)| *to = round(*value));
    }
    framed
}

/// Framed images turned: for each image and channel a plane of rows, and each row split by the stride of
/// the windows over it, so that what a cell of the kernel sees of a row of windows lies side by side.
#[derive(Clone, Copy)]
pub(super) struct Planes {
    pub(super) frame: Frame,
    /// Windows' stride along a row.
    pub(super) stride: usize,
}

impl Planes {
    /// Elements of one part of a row.
    pub(super) fn part(&self) -> usize {
        self.frame.width.div_ceil(self.stride)
    }

    /// Elements of a row.
    pub(super) fn row(&self) -> usize {
        self.part() * self.stride
    }

    /// Elements of a plane.
    pub(super) fn plane(&self) -> usize {
        self.frame.height * self.row()
    }

    /// Elements of an image.
    pub(super) fn image(&self) -> usize {
        self.plane() * self.frame.channels
    }

    /// Where in a plane a cell of the kernel begins to see: at this row and column of the frame.
    pub(super) fn place(&self, row: usize, column: usize) -> usize {
        row * self.row() + column % self.stride * self.part() + column / self.stride
    }

    /// Turns whole images; behind them are as many zeros as a unit may read beyond a run.
    #[inline(always)]
    pub(super) fn turn<'a, T: Tiles>(&self, images: &[f32], buffer: &'a mut Vec<u16>) -> &'a [u16] {
        let Frame { height, width, before: [above, left], image: [rows, columns], channels } =
            self.frame;
        let size = rows * columns * channels;
        let turned = room(buffer, images.len() / size * self.image() + T::UNIT);
        turned.fill(0);
        let (rows, columns) =
            (rows.min(height.saturating_sub(above)), columns.min(width.saturating_sub(left)));
        let row_length = self.frame.image[1] * channels;
        for (image, turned) in images.chunks_exact(size).zip(turned.chunks_exact_mut(self.image()))
        {
            for (y, from) in image.chunks_exact(row_length).enumerate().take(rows) {
                for (channel, plane) in turned.chunks_exact_mut(self.plane()).enumerate() {
                    let row = &mut plane[(above + y) * self.row()..][..self.row()];
                    let values = from[channel..].iter().step_by(channels).take(columns);
                    if self.stride == 1 {
                        let to = row[left..].iter_mut();
                        to.zip(values).for_each(|(to, value)| *to = round(*value));
                        continue;
                    }
                    for (x, value) in values.enumerate() {
                        row[self.place(0, left + x)] = round(*value);
                    }
                }
            }
        }
        turned
    }
}

/// A matrix of turned cells: of each of these cells of a kernel (cells, inputs, outputs) its columns as
/// rows, one cell below the other.
pub(super) fn turned_cells<'a>(
    kernel: &[f32],
    taps: &[usize],
    [inputs, outputs]: [usize; 2],
    buffer: &'a mut Vec<f32>,
) -> Matrix<'a> {
    let size = inputs * outputs;
    let turned = room(buffer, taps.len() * size);
    for (to, tap) in turned.chunks_exact_mut(size.max(1)).zip(taps) {
        let cell = &kernel[tap * size..][..size];
        for (output, row) in to.chunks_exact_mut(inputs).enumerate() {
            let column = cell[output..].iter().step_by(outputs);
            row.iter_mut().zip(column).for_each(|(to, value)| *to = *value);
        }
    }
    Matrix::new(turned, taps.len() * outputs, inputs)
}

/// These rows of all results, with so many zeros between an image's rows.
pub(super) fn spread<'a>(
    results: &'a [f32],
    convolution: &Convolution,
    rows: &Range<usize>,
    between: usize,
    buffer: &'a mut Vec<f32>,
) -> &'a [f32] {
    let [height, width] = convolution.axes;
    let row = width.output * convolution.outputs;
    if between == 0 && rows.len() == height.output {
        return results;
    }
    let of_image = rows.len() * row + (rows.len() - 1) * between;
    let all = results.chunks_exact(convolution.result());
    let spread = room(buffer, all.len() * of_image);
    for (result, spread) in all.zip(spread.chunks_exact_mut(of_image)) {
        let from = result[rows.start * row..rows.end * row].chunks_exact(row);
        for (to, from) in spread.chunks_mut(row + between).zip(from) {
            to[..row].copy_from_slice(from);
            to[row..].fill(0.0);
        }
    }
    spread
}
