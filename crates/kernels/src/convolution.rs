//! Convolutions over two axes with channels last, as products of tiles: nothing is unfolded.
//!
//! Images are (batch, height, width, channels), kernels (height, width, in, out), as in Keras. An image
//! whose borders are padded is copied once, with its zeros around it. Then the cells that a window
//! sees are a few runs of memory, one for each of its rows, and so are the pixels of a row for the
//! gradient of the kernel.
//!
//! The gradient of the images is a convolution again: of the result's gradient with the kernel turned
//! around. With strides it falls apart into one convolution for each position of a pixel between the
//! windows, each with the cells of the kernel that reach it.

use crate::frame::{Axis, Frame, Reach, merge};
use crate::isa::{Arithmetic, Job, Precision};
use crate::lanes::Lanes;
use crate::pack::{Matrix, Scratch, pack_bias, room};
use crate::product::Finish;
use crate::tile::{Last, Runs, Target, panel, tile};
use crate::winograd;

/// Bytes of a panel of pixels that is held near while the kernel's gradient is summed up.
const PIXELS_BYTES: usize = 16 << 10;

/// A convolution over two axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Height and width.
    pub axes: [Axis; 2],
    /// Channels of the images.
    pub inputs: usize,
    /// Channels of the results.
    pub outputs: usize,
}

impl Convolution {
    /// Elements of one image.
    pub(crate) fn image(&self) -> usize {
        self.axes[0].input * self.axes[1].input * self.inputs
    }

    /// Elements of one result.
    pub(crate) fn result(&self) -> usize {
        self.axes[0].output * self.axes[1].output * self.outputs
    }

    /// Cells of the window times channels.
    fn depth(&self) -> usize {
        self.axes[0].size * self.axes[1].size * self.inputs
    }

    /// How many images there are.
    fn batch(&self, images: usize, results: usize, kernel: usize) -> usize {
        let batch = images / self.image().max(1);
        assert_eq!(images, batch * self.image(), "whole images");
        assert_eq!(results, batch * self.result(), "a result for each image");
        assert_eq!(kernel, self.depth() * self.outputs, "the kernel's elements");
        batch
    }

    /// The frame that one image is seen in.
    pub(crate) fn frame(&self) -> Frame {
        let [height, width] = self.axes;
        Frame {
            height: height.seen(),
            width: width.seen(),
            before: [height.padding, width.padding],
            image: [height.input, width.input],
            channels: self.inputs,
        }
    }
}

/// `result` = images ∗ kernel, finished.
///
/// # Panics
/// When the sizes do not go together, or the CPU lacks the instructions.
pub fn slide(
    arithmetic: Arithmetic,
    convolution: &Convolution,
    images: &[f32],
    kernel: &[f32],
    finish: Finish<'_>,
    result: &mut [f32],
    scratch: &mut Scratch,
) {
    let batch = convolution.batch(images.len(), result.len(), kernel.len());
    if let Some(bias) = finish.bias {
        assert_eq!(bias.len(), convolution.outputs, "one bias for each channel");
    }
    let [height, width] = convolution.axes;
    if is_product(convolution) {
        let pixels = batch * height.output * width.output;
        let left = Matrix::new(images, pixels, convolution.inputs);
        let right = Matrix::new(kernel, convolution.inputs, convolution.outputs);
        return crate::product::multiply(arithmetic, left, right, finish, result, scratch);
    }
    if winograd_applies(convolution, arithmetic) {
        return winograd::slide(
            arithmetic.isa,
            convolution,
            images,
            kernel,
            finish,
            result,
            scratch,
        );
    }
    let frame = convolution.frame();
    let mut offsets = std::mem::take(&mut scratch.offsets);
    let cells = window_runs(convolution, &frame, &mut offsets);
    let windows = Windows {
        frame,
        batch,
        outer: Steps { count: height.output, by: height.stride * frame.row() },
        inner: Steps { count: width.output, by: width.stride * frame.channels },
        offsets: &offsets,
        length: cells,
        outputs: convolution.outputs,
        place: Place::whole(convolution),
        finish,
    };
    let kernel = Kernel::Rows(Matrix::new(kernel, convolution.depth(), convolution.outputs));
    arithmetic.run(Slide { windows: &windows, images, kernel, result, scratch });
    scratch.offsets = offsets;
}

/// Its transformation would cost halves more than they have.
fn winograd_applies(convolution: &Convolution, arithmetic: Arithmetic) -> bool {
    arithmetic.precision == Precision::Single && winograd::applies(convolution)
}

/// `gradient`, of the images, from that of the result.
///
/// # Panics
/// As [`slide`].
pub fn input_gradient(
    arithmetic: Arithmetic,
    convolution: &Convolution,
    of_result: &[f32],
    kernel: &[f32],
    gradient: &mut [f32],
    scratch: &mut Scratch,
) {
    let batch = convolution.batch(gradient.len(), of_result.len(), kernel.len());
    let Convolution { axes: [height, width], inputs, outputs } = *convolution;
    if is_product(convolution) {
        let pixels = batch * height.output * width.output;
        let left = Matrix::new(of_result, pixels, outputs);
        let right = Matrix::new(kernel, inputs, outputs).transposed();
        return crate::product::multiply(
            arithmetic,
            left,
            right,
            Finish::default(),
            gradient,
            scratch,
        );
    }
    if winograd_applies(convolution, arithmetic) {
        let (isa, of) = (arithmetic.isa, convolution);
        return winograd::input_gradient(isa, of, of_result, kernel, gradient, scratch);
    }
    let mut offsets = std::mem::take(&mut scratch.offsets);
    for y in 0..height.stride.min(height.input) {
        for x in 0..width.stride.min(width.input) {
            let (rows, columns) = (Reach::of(&height, y), Reach::of(&width, x));
            let frame = Frame {
                height: height.output + rows.before + rows.after,
                width: width.output + columns.before + columns.after,
                before: [rows.before, columns.before],
                image: [height.output, width.output],
                channels: outputs,
            };
            offsets.clear();
            let mut taps = Vec::with_capacity(rows.taps.len() * columns.taps.len());
            for &(row, tap_y) in &rows.taps {
                for &(column, tap_x) in &columns.taps {
                    offsets.push(row * frame.row() + column * outputs);
                    taps.push(tap_y * width.size + tap_x);
                }
            }
            let length = merge(&mut offsets, outputs);
            let windows = Windows {
                frame,
                batch,
                outer: Steps { count: rows.pixels, by: frame.row() },
                inner: Steps { count: columns.pixels, by: outputs },
                offsets: &offsets,
                length,
                outputs: inputs,
                place: Place {
                    first: (y * width.input + x) * inputs,
                    image: convolution.image(),
                    outer: height.stride * width.input * inputs,
                    inner: width.stride * inputs,
                },
                finish: Finish::default(),
            };
            let kernel = Kernel::Turned { kernel, taps: &taps, inputs, outputs };
            let (images, result, scratch) = (of_result, &mut *gradient, &mut *scratch);
            arithmetic.run(Slide { windows: &windows, images, kernel, result, scratch });
        }
    }
    scratch.offsets = offsets;
}

/// `gradient`, of the kernel, from that of the result.
///
/// # Panics
/// As [`slide`].
pub fn kernel_gradient(
    arithmetic: Arithmetic,
    convolution: &Convolution,
    images: &[f32],
    of_result: &[f32],
    gradient: &mut [f32],
    scratch: &mut Scratch,
) {
    let batch = convolution.batch(images.len(), of_result.len(), gradient.len());
    if winograd_applies(convolution, arithmetic) {
        let (isa, of) = (arithmetic.isa, convolution);
        return winograd::kernel_gradient(isa, of, images, of_result, gradient, scratch);
    }
    gradient.fill(0.0);
    arithmetic.run(SumPixels { convolution, batch, images, of_result, gradient, scratch });
}

/// Whether windows of one cell stand on every pixel: a plain product over the channels.
fn is_product(convolution: &Convolution) -> bool {
    let is_one = |axis: &Axis| {
        (axis.size, axis.stride, axis.padding) == (1, 1, 0) && axis.output == axis.input
    };
    convolution.axes.iter().all(is_one)
}

/// The runs of a window in a frame; gives their length.
fn window_runs(convolution: &Convolution, frame: &Frame, offsets: &mut Vec<usize>) -> usize {
    let [height, width] = convolution.axes;
    offsets.clear();
    for y in 0..height.size {
        for x in 0..width.size {
            offsets.push(y * height.dilation * frame.row() + x * width.dilation * frame.channels);
        }
    }
    merge(offsets, frame.channels)
}

/// Evenly spaced windows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) count: usize,
    pub(crate) by: usize,
}

/// Where results go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    first: usize,
    /// From image to image, from row to row, from window to window.
    image: usize,
    outer: usize,
    pub(crate) inner: usize,
}

impl Place {
    fn whole(convolution: &Convolution) -> Self {
        let outputs = convolution.outputs;
        let outer = convolution.axes[1].output * outputs;
        Self { first: 0, image: convolution.result(), outer, inner: outputs }
    }

    /// Of an image's window.
    pub(crate) fn of(&self, image: usize, y: usize, x: usize) -> usize {
        self.first + image * self.image + y * self.outer + x * self.inner
    }
}

/// Windows that slide over framed images.
pub(crate) struct Windows<'a> {
    pub(crate) frame: Frame,
    batch: usize,
    pub(crate) outer: Steps,
    pub(crate) inner: Steps,
    /// The runs of one window.
    pub(crate) offsets: &'a [usize],
    pub(crate) length: usize,
    /// Channels of the result.
    pub(crate) outputs: usize,
    pub(crate) place: Place,
    pub(crate) finish: Finish<'a>,
}

impl Windows<'_> {
    /// One image after the other.
    pub(crate) fn images<'a>(&self, images: &'a [f32]) -> impl Iterator<Item = &'a [f32]> {
        let elements = self.frame.image[0] * self.frame.image[1] * self.frame.channels;
        images.chunks_exact(elements).take(self.batch)
    }

    /// Where in its frame a window begins.
    pub(crate) fn from(&self, y: usize, x: usize) -> usize {
        y * self.outer.by + x * self.inner.by
    }
}

/// A kernel as the right operand.
pub(crate) enum Kernel<'a> {
    /// (cells and channels, outputs).
    Rows(Matrix<'a>),
    /// For the gradient of the images: of each of these cells (outputs, inputs).
    Turned { kernel: &'a [f32], taps: &'a [usize], inputs: usize, outputs: usize },
}

impl Kernel<'_> {
    /// Packs all rows of the columns from `column` on.
    fn pack(&self, column: usize, width: usize, panel: &mut [f32]) {
        match *self {
            Self::Rows(matrix) => matrix.pack(0, column, width, panel),
            Self::Turned { kernel, taps, inputs, outputs } => {
                let cells = panel.chunks_exact_mut(outputs * width);
                for (panel, tap) in cells.zip(taps) {
                    let cell = &kernel[tap * inputs * outputs..][..inputs * outputs];
                    Matrix::new(cell, inputs, outputs).transposed().pack(0, column, width, panel);
                }
            }
        }
    }
}

/// Windows to be slid over images.
pub(crate) struct Slide<'a> {
    pub(crate) windows: &'a Windows<'a>,
    pub(crate) images: &'a [f32],
    pub(crate) kernel: Kernel<'a>,
    pub(crate) result: &'a mut [f32],
    pub(crate) scratch: &'a mut Scratch,
}

impl Job for Slide<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { windows, images, kernel, result, scratch } = self;
        let Scratch { panels, padded, .. } = scratch;
        let Windows { frame, outer, inner, offsets, length, outputs, place, finish, .. } = *windows;
        let width = panel::<L>();
        let size = offsets.len() * length * width;
        let panels = room(panels, size * outputs.div_ceil(width));
        for (number, packed) in panels.chunks_exact_mut(size.max(1)).enumerate() {
            kernel.pack(number * width, width, packed);
        }
        for (number, image) in windows.images(images).enumerate() {
            let framed = frame.show(image, padded);
            for y in 0..outer.count {
                for column in (0..outputs).step_by(width) {
                    let bias = finish.bias.map(|bias| pack_bias(bias, column));
                    let last = Last { bias: bias.as_ref(), relu: finish.relu };
                    let packed = &panels[column / width * size..][..size];
                    let columns = width.min(outputs - column);
                    for x in (0..inner.count).step_by(L::ROWS) {
                        let rows = L::ROWS.min(inner.count - x);
                        let from = windows.from(y, x);
                        let to = place.of(number, y, x) + column;
                        let reach = (rows - 1) * place.inner + columns;
                        let first = result[to..to + reach].as_mut_ptr();
                        let target =
                            Target { first, row_stride: place.inner, columns, adds: false };
                        let runs = Runs { offsets, length, step: 1 };
                        debug_assert!(offsets.iter().all(|offset| {
                            from + (rows - 1) * inner.by + offset + length <= framed.len()
                        }));
                        // SAFETY: the caller has the instructions; frames are as large as all
                        // windows reach, see `Frame`; the panel was packed with a row for each
                        // element of the runs; the target's reach was checked.
                        unsafe {
                            let from = framed.as_ptr().add(from);
                            tile::<L>(rows, from, inner.by, runs, packed.as_ptr(), target, last);
                        }
                    }
                }
            }
        }
    }
}

/// Sums up, over pixels, what each cell of the kernel saw times the result's gradient.
pub(crate) struct SumPixels<'a> {
    pub(crate) convolution: &'a Convolution,
    pub(crate) batch: usize,
    pub(crate) images: &'a [f32],
    pub(crate) of_result: &'a [f32],
    pub(crate) gradient: &'a mut [f32],
    pub(crate) scratch: &'a mut Scratch,
}

impl Job for SumPixels<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { convolution, batch, images, of_result, gradient, scratch } = self;
        let Convolution { axes: [height, width], inputs, outputs } = *convolution;
        let frame = convolution.frame();
        let wide = panel::<L>();
        let Scratch { panels, padded, offsets, .. } = scratch;
        // Cells of the kernel that touch in the image are the rows of one product.
        let joined = if width.dilation == 1 { width.size } else { 1 };
        let (columns_of_taps, cells) = (width.size / joined, joined * inputs);
        let pixels = height.output * width.output;
        // Some rows of one image at a time, or several small images.
        let near = PIXELS_BYTES / 4 / wide;
        let rows_at_once = (near / width.output).clamp(1, height.output);
        let images_at_once = if rows_at_once < height.output { 1 } else { (near / pixels).max(1) };
        let panels = room(panels, images_at_once * rows_at_once * width.output * wide);
        let step = width.stride * inputs;
        for number in (0..batch).step_by(images_at_once) {
            let count = images_at_once.min(batch - number);
            let of = |size: usize| number * size..(number + count) * size;
            let framed = frame.show(&images[of(convolution.image())], padded);
            let slopes = &of_result[of(convolution.result())];
            let slopes = Matrix::new(slopes, count * pixels, outputs);
            for y in (0..height.output).step_by(rows_at_once) {
                let rows = y..height.output.min(y + rows_at_once);
                offsets.clear();
                offsets.extend((0..count).flat_map(|image| {
                    let of_image = image * frame.height;
                    rows.clone().map(move |y| (of_image + y * height.stride) * frame.row())
                }));
                let runs = Runs { offsets, length: width.output, step };
                let reach = offsets.last().map_or(0, |last| last + (width.output - 1) * step);
                for column in (0..outputs).step_by(wide) {
                    let columns = wide.min(outputs - column);
                    let packed = &mut panels[..offsets.len() * width.output * wide];
                    slopes.pack(y * width.output, column, wide, packed);
                    for tap in 0..height.size * columns_of_taps {
                        let (tap_y, tap_x) = (tap / columns_of_taps, tap % columns_of_taps);
                        let from =
                            tap_y * height.dilation * frame.row() + tap_x * width.dilation * inputs;
                        for cell in (0..cells).step_by(L::ROWS) {
                            let rows = L::ROWS.min(cells - cell);
                            let to = (tap * cells + cell) * outputs + column;
                            let written = (rows - 1) * outputs + columns;
                            let target = Target {
                                first: gradient[to..to + written].as_mut_ptr(),
                                row_stride: outputs,
                                columns,
                                adds: true,
                            };
                            let last = Last { bias: None, relu: false };
                            debug_assert!(reach + from + cell + rows <= framed.len());
                            // SAFETY: the caller has the instructions; frames hold all cells that
                            // windows see, and those of `rows` lie side by side; the panel was just
                            // packed; the target's reach was checked.
                            unsafe {
                                let from = framed.as_ptr().add(from + cell);
                                tile::<L>(rows, from, 1, runs, packed.as_ptr(), target, last);
                            }
                        }
                    }
                }
            }
        }
    }
}
