//! Where windows look: their axes, an image with the zeros around it, and the runs of memory that a
//! window sees in it.

use crate::pack::room;

/// A window over one axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Axis {
    /// Cells of the image.
    pub input: usize,
    /// Cells of the window.
    pub size: usize,
    /// Steps between windows.
    pub stride: usize,
    /// Steps between a window's cells.
    pub dilation: usize,
    /// Zeros before the image; behind it are as many as windows need.
    pub padding: usize,
    /// Windows.
    pub output: usize,
}

impl Axis {
    /// Cells that windows see, from the first zero before the image on.
    pub(crate) fn seen(&self) -> usize {
        (self.output - 1) * self.stride + (self.size - 1) * self.dilation + 1
    }
}

/// An image with what is around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// Zeros above and to the left.
    pub(crate) before: [usize; 2],
    /// Height and width of the image.
    pub(crate) image: [usize; 2],
    pub(crate) channels: usize,
}

impl Frame {
    /// Elements of a row.
    pub(crate) fn row(&self) -> usize {
        self.width * self.channels
    }

    /// Images in their frames, one behind the other: themselves where that is the same, else a copy.
    /// Of an image's rows and columns those beyond its frame are left out.
    pub(crate) fn show<'a>(&self, images: &'a [f32], copy: &'a mut Vec<f32>) -> &'a [f32] {
        let Self { height, width, before: [above, left], image: [rows, columns], channels } = *self;
        if (height, width, above, left) == (rows, columns, 0, 0) {
            return images;
        }
        let images = images.chunks_exact(rows * columns * channels);
        let framed = room(copy, images.len() * height * self.row());
        framed.fill(0.0);
        let taken = columns.min(width.saturating_sub(left)) * channels;
        for (image, framed) in images.zip(framed.chunks_exact_mut(height * self.row())) {
            let to = framed.chunks_exact_mut(self.row()).skip(above);
            for (to, from) in to.zip(image.chunks_exact(columns * channels)) {
                to[left.min(width) * channels..][..taken].copy_from_slice(&from[..taken]);
            }
        }
        framed
    }
}

/// Joins runs that touch, if that leaves all of one length; gives it.
pub(crate) fn merge(offsets: &mut Vec<usize>, length: usize) -> usize {
    let touches = |pair: &[usize]| pair[1] == pair[0] + length;
    let together = 1 + offsets.windows(2).take_while(|pair| touches(pair)).count();
    let is_even = together > 1
        && offsets.len().is_multiple_of(together)
        && offsets.chunks(together).all(|chunk| chunk.windows(2).all(touches));
    if !is_even {
        return length;
    }
    let firsts: Vec<usize> = offsets.iter().copied().step_by(together).collect();
    *offsets = firsts;
    length * together
}

/// Which cells of the kernel reach the pixels of one position between the windows, along an axis.
pub(crate) struct Reach {
    /// Pixels of the image at this position.
    pub(crate) pixels: usize,
    /// Results wanted before the first and behind the last.
    pub(crate) before: usize,
    pub(crate) after: usize,
    /// For each cell of the kernel the first result, from the first one wanted on, and the cell;
    /// results ascend.
    pub(crate) taps: Vec<(usize, usize)>,
}

impl Reach {
    /// Of the pixels at `position`, `position` + stride, …
    pub(crate) fn of(axis: &Axis, position: usize) -> Self {
        let pixels = (axis.input - position).div_ceil(axis.stride);
        // A pixel at p is seen by the result r through cell c where r · stride + c · dilation is
        // p + padding.
        let seen = (position + axis.padding).cast_signed();
        let stride = axis.stride.cast_signed();
        let first = |cell: usize| {
            let ahead = seen - (cell * axis.dilation).cast_signed();
            (ahead.rem_euclid(stride) == 0).then(|| (ahead.div_euclid(stride), cell))
        };
        let mut taps: Vec<(isize, usize)> = (0..axis.size).filter_map(first).collect();
        taps.sort_unstable();
        let least = taps.first().map_or(0, |tap| tap.0).min(0);
        let most = taps.last().map_or(0, |tap| tap.0) + pixels.cast_signed();
        let output = axis.output.cast_signed();
        let taps = taps.into_iter().map(|(result, cell)| ((result - least).cast_unsigned(), cell));
        Self {
            pixels,
            before: least.unsigned_abs(),
            after: (most - output).max(0).cast_unsigned(),
            taps: taps.collect(),
        }
    }
}
