//! The same products and convolutions with both operands rounded to halves: bfloat16, which has the eight
//! bits of exponent that singles have, and eight of mantissa. Products of halves are exact in singles, and
//! so they are summed up; nothing but the operands is rounded.
//!
//! Operands are rounded while they are packed. Singles are read along any direction; of halves a unit must
//! lie side by side along the common dimension. So for the gradient of a kernel, whose common dimension
//! are the pixels, images are turned into planes, one for each channel. Of each row a cell of the kernel
//! then sees a run, or of all rows one, where windows stand on every pixel: over zeros between the rows.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
mod operands;
mod tiles;

use self::operands::{PackedRows, Planes, framed, pack_panel, spread, turned_cells};
#[cfg(target_arch = "x86_64")]
use self::tiles::Avx512Pairs;
use self::tiles::{AsSingles, ByPairs, Rows, Runs, Tiles};
use crate::convolution::{Kernel, Slide, SumPixels};
use crate::isa::Isa;
use crate::lanes::Portable;
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2, Avx512};
use crate::pack::{Matrix, Scratch, pack_bias, room};
use crate::product::Multiply;
use crate::tile::{Last, Target};

/// Elements of the common dimension at a time: a panel of them stays in the first-level cache.
const DEPTH: usize = 512;
/// Bytes of a panel of pixels that is held near while a kernel's gradient is summed up.
const PIXELS_BYTES: usize = 16 << 10;

/// Work that is written once and compiled for each kind of tiles.
pub(crate) trait HalfJob {
    /// Does it. Implementations are `#[inline(always)]`, so that they become part of the function
    /// that has the instructions.
    ///
    /// # Safety
    /// The CPU has the tiles' instructions.
    unsafe fn run<T: Tiles>(self, tiles: T);
}

/// Does a job with these instructions.
///
/// # Panics
/// When this CPU does not have them.
pub(crate) fn run<J: HalfJob>(isa: Isa, job: J) {
    assert!(isa.is_here(), "this CPU has no {}", isa.name());
    match isa {
        // SAFETY: plain Rust needs no instructions of its own.
        Isa::Portable => unsafe { job.run(ByPairs::<AsSingles<Portable>>::new()) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the CPU has these instructions, by the assertion above. So below.
        Isa::Avx2 => unsafe { run_avx2(job) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { run_avx512(job) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512Bf16 => unsafe { run_avx512_bf16(job) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Amx => unsafe { run_amx(job) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("these are of another architecture"),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<J: HalfJob>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run(ByPairs::<AsSingles<Avx2>>::new()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn run_avx512<J: HalfJob>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run(ByPairs::<AsSingles<Avx512>>::new()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn run_avx512_bf16<J: HalfJob>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run(ByPairs::<Avx512Pairs>::new()) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn run_amx<J: HalfJob>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run(amx::Amx::new()) }
}

impl HalfJob for Multiply<'_> {
    #[inline(always)]
    unsafe fn run<T: Tiles>(self, mut tiles: T) {
        let Self { left, right, finish, result, scratch } = self;
        let Scratch { halves, pairs, .. } = scratch;
        let depth = left.columns;
        let rows = PackedRows::of::<T>(left, halves);
        let buffer = room(pairs, DEPTH.min(depth.next_multiple_of(T::UNIT)) / 2 * T::PANEL);
        for column in (0..right.columns).step_by(T::PANEL) {
            let bias = finish.bias.map(|bias| pack_bias(bias, column));
            let columns = T::PANEL.min(right.columns - column);
            // At least one step, so that a product over nothing is written, too.
            for from in (0..depth.max(1)).step_by(DEPTH) {
                let length = DEPTH.min(depth - from);
                let units = length.div_ceil(T::UNIT);
                let packed = &mut buffer[..units * T::UNIT / 2 * T::PANEL];
                pack_panel::<T>(&right, from, length, column, packed);
                let is_last = from + length == depth;
                let last =
                    Last { bias: bias.as_ref().filter(|_| is_last), relu: finish.relu && is_last };
                for (number, row) in (0..left.rows).step_by(T::ROWS).enumerate() {
                    let count = T::ROWS.min(left.rows - row);
                    let (data, runs) = rows.tile::<T>(number, from / T::UNIT, units);
                    let to = row * right.columns + column;
                    let reach = (count - 1) * right.columns + columns;
                    let target = Target {
                        first: result[to..to + reach].as_mut_ptr(),
                        row_stride: right.columns,
                        columns,
                        adds: from > 0,
                    };
                    // SAFETY: the caller has the instructions; a packed tile has its rows in each of
                    // its units; the panel was just packed; the target's reach was checked.
                    unsafe {
                        let rows = Rows { first: data.as_ptr(), count, stride: T::UNIT };
                        tiles.tile(rows, runs, packed.as_ptr(), target, last);
                    }
                }
            }
        }
    }
}

impl HalfJob for Slide<'_> {
    #[inline(always)]
    unsafe fn run<T: Tiles>(self, mut tiles: T) {
        let Self { windows, images, kernel, result, scratch } = self;
        let Scratch { halves, pairs, turned, .. } = scratch;
        let (outputs, place, finish) = (windows.outputs, windows.place, windows.finish);
        let kernel = match kernel {
            Kernel::Rows(matrix) => matrix,
            Kernel::Turned { kernel, taps, inputs, outputs } => {
                turned_cells(kernel, taps, [inputs, outputs], turned)
            }
        };
        let units = windows.length.div_ceil(T::UNIT);
        // Each run of a window's elements begins a unit.
        let of_run = units * T::UNIT / 2 * T::PANEL;
        let size = windows.offsets.len() * of_run;
        let panels = room(pairs, size * outputs.div_ceil(T::PANEL));
        for (number, packed) in panels.chunks_exact_mut(size.max(1)).enumerate() {
            for (run, packed) in packed.chunks_exact_mut(of_run).enumerate() {
                let row = run * windows.length;
                pack_panel::<T>(&kernel, row, windows.length, number * T::PANEL, packed);
            }
        }
        let runs = Runs { offsets: windows.offsets, units, step: T::UNIT };
        for (number, image) in windows.images(images).enumerate() {
            let framed = framed::<T>(&windows.frame, image, halves);
            for y in 0..windows.outer.count {
                for column in (0..outputs).step_by(T::PANEL) {
                    let packed = &panels[column / T::PANEL * size..][..size];
                    let bias = finish.bias.map(|bias| pack_bias(bias, column));
                    let last = Last { bias: bias.as_ref(), relu: finish.relu };
                    let columns = T::PANEL.min(outputs - column);
                    for x in (0..windows.inner.count).step_by(T::ROWS) {
                        let rows = T::ROWS.min(windows.inner.count - x);
                        let from = windows.from(y, x);
                        let to = place.of(number, y, x) + column;
                        let reach = (rows - 1) * place.inner + columns;
                        let first = result[to..to + reach].as_mut_ptr();
                        let target =
                            Target { first, row_stride: place.inner, columns, adds: false };
                        let (stride, seen) = (windows.inner.by, (rows - 1) * windows.inner.by);
                        debug_assert!(runs.offsets.iter().all(|offset| {
                            from + seen + offset + units * T::UNIT <= framed.len()
                        }));
                        // SAFETY: the caller has the instructions; frames are as large as all
                        // windows reach, and have a unit behind them; the panel was packed with
                        // words for each run; the target's reach was checked.
                        unsafe {
                            let first = framed.as_ptr().add(from);
                            let rows = Rows { first, count: rows, stride };
                            tiles.tile(rows, runs, packed.as_ptr(), target, last);
                        }
                    }
                }
            }
        }
    }
}

impl HalfJob for SumPixels<'_> {
    #[inline(always)]
    unsafe fn run<T: Tiles>(self, mut tiles: T) {
        let Self { convolution, batch, images, of_result, gradient, scratch } = self;
        let [height, width] = convolution.axes;
        let (inputs, outputs) = (convolution.inputs, convolution.outputs);
        let planes = Planes { frame: convolution.frame(), stride: width.stride };
        let Scratch { halves, pairs, offsets, padded, .. } = scratch;
        let near = PIXELS_BYTES / 2 / T::PANEL;
        let rows_at_once = (near / width.output).clamp(1, height.output);
        // Over all rows' windows at once, with what stands between the rows, or row by row.
        let joined = |rows: usize| (rows - 1) * planes.row() + width.output;
        let by_row = |rows: usize| rows * width.output.next_multiple_of(T::UNIT);
        let is_joined = (height.stride, width.stride) == (1, 1)
            && joined(rows_at_once).next_multiple_of(T::UNIT) < by_row(rows_at_once);
        let pixels = height.output * width.output;
        let images_at_once = if rows_at_once < height.output { 1 } else { (near / pixels).max(1) };
        for number in (0..batch).step_by(images_at_once) {
            let count = images_at_once.min(batch - number);
            let of = |size: usize| number * size..(number + count) * size;
            let turned = planes.turn::<T>(&images[of(convolution.image())], halves);
            let slopes = &of_result[of(convolution.result())];
            for y in (0..height.output).step_by(rows_at_once) {
                let rows = y..height.output.min(y + rows_at_once);
                let (runs_of_image, length) =
                    if is_joined { (1, joined(rows.len())) } else { (rows.len(), width.output) };
                offsets.clear();
                offsets.extend((0..count * runs_of_image).map(|run| {
                    let (image, row) = (run / runs_of_image, y + run % runs_of_image);
                    image * planes.image() + row * height.stride * planes.row()
                }));
                let between = if is_joined { (planes.row() - width.output) * outputs } else { 0 };
                let slopes = spread(slopes, convolution, &rows, between, padded);
                let slopes = Matrix::new(slopes, offsets.len() * length, outputs);
                let units = length.div_ceil(T::UNIT);
                let runs = Runs { offsets, units, step: T::UNIT };
                let of_run = units * T::UNIT;
                let panel = room(pairs, offsets.len() * of_run / 2 * T::PANEL);
                for column in (0..outputs).step_by(T::PANEL) {
                    let columns = T::PANEL.min(outputs - column);
                    for (run, packed) in panel.chunks_exact_mut(of_run / 2 * T::PANEL).enumerate() {
                        pack_panel::<T>(&slopes, run * length, length, column, packed);
                    }
                    for tap in 0..height.size * width.size {
                        let (tap_y, tap_x) = (tap / width.size, tap % width.size);
                        let from = planes.place(tap_y * height.dilation, tap_x * width.dilation);
                        for channel in (0..inputs).step_by(T::ROWS) {
                            let rows = T::ROWS.min(inputs - channel);
                            let to = (tap * inputs + channel) * outputs + column;
                            let written = (rows - 1) * outputs + columns;
                            let target = Target {
                                first: gradient[to..to + written].as_mut_ptr(),
                                row_stride: outputs,
                                columns,
                                adds: true,
                            };
                            let last = Last { bias: None, relu: false };
                            let (stride, from) = (planes.plane(), channel * planes.plane() + from);
                            debug_assert!(offsets.iter().all(|offset| {
                                from + (rows - 1) * stride + offset + of_run <= turned.len()
                            }));
                            // SAFETY: the caller has the instructions; planes hold all that windows
                            // see, and a unit behind them; the panel was just packed; the target's
                            // reach was checked.
                            unsafe {
                                let first = turned.as_ptr().add(from);
                                let rows = Rows { first, count: rows, stride };
                                tiles.tile(rows, runs, panel.as_ptr(), target, last);
                            }
                        }
                    }
                }
            }
        }
    }
}
