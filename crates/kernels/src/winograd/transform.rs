//! What tiles, kernels and their gradients are made into and back: the formulas of the module above, on
//! whole vectors of channels.

use super::{CELLS, CHANNELS, Framed, Grid, PLACES, apart};
use crate::lanes::Lanes;
use crate::pack::{pack_bias, room};
use crate::product::Finish;
use crate::tile::panel;

/// Bᵀ d B of tiles: for each place (count, inputs).
///
/// # Safety
/// The CPU has the lanes' instructions.
#[inline(always)]
pub(super) unsafe fn transform_images<L: Lanes>(
    framed: &mut Framed<'_>,
    first: usize,
    count: usize,
    tiles: &mut [f32],
) {
    let (channels, row) = (framed.grid.inputs, framed.grid.frame.row());
    let step = apart(count * channels);
    assert!(tiles.len() >= PLACES * step, "room for {count} tiles");
    for number in 0..count {
        let (image, y, x) = framed.grid.place(first + number);
        let image = framed.show(image);
        let from = y * row + x * channels;
        assert!(from + 3 * row + 4 * channels <= image.len(), "a tile lies in its frame");
        for channel in (0..channels).step_by(L::COUNT) {
            // SAFETY: the caller has the instructions; a tile's last pixel is in its frame, and
            // channels are whole vectors; each place has `step` elements.
            unsafe {
                let from = image.as_ptr().add(from + channel);
                let to = tiles.as_mut_ptr().add(number * channels + channel);
                let mut half = [[L::splat(0.0); 4]; 4];
                for x in 0..4 {
                    let at = |y: usize| L::load(from.add(y * row + x * channels));
                    let made = turn_image::<L>([at(0), at(1), at(2), at(3)]);
                    for (half, made) in half.iter_mut().zip(made) {
                        half[x] = made;
                    }
                }
                for (y, half) in half.into_iter().enumerate() {
                    for (x, made) in turn_image::<L>(half).into_iter().enumerate() {
                        L::store(to.add((4 * y + x) * step), made);
                    }
                }
            }
        }
    }
}

/// Bᵀ d.
#[inline(always)]
unsafe fn turn_image<L: Lanes>([a, b, c, d]: [L::Vector; 4]) -> [L::Vector; 4] {
    // SAFETY: the caller has the instructions.
    unsafe { [L::sub(a, c), L::add(b, c), L::sub(c, b), L::sub(b, d)] }
}

/// A dY Aᵀ of tiles, packed as right operands: for each place its panels of (count, panel).
///
/// # Safety
/// The CPU has the lanes' instructions.
#[inline(always)]
pub(super) unsafe fn transform_slopes<L: Lanes>(
    grid: &Grid,
    of_result: &[f32],
    first: usize,
    count: usize,
    panels: &mut [f32],
) {
    let (channels, width) = (grid.outputs, panel::<L>());
    let [height, across] = grid.results;
    let of_place = apart(count * channels.next_multiple_of(width));
    assert!(panels.len() >= PLACES * of_place, "room for {count} tiles");
    assert_eq!(of_result.len(), grid.batch * height * across * channels, "whole results");
    if channels < channels.next_multiple_of(width) {
        panels[..PLACES * of_place].fill(0.0);
    }
    for number in 0..count {
        let (image, y, x) = grid.place(first + number);
        let from = ((image * height + y) * across + x) * channels;
        let (is_below, is_right) = (y + 1 < height, x + 1 < across);
        for channel in (0..channels).step_by(L::COUNT) {
            let to = channel / width * count * width + number * width + channel % width;
            // SAFETY: the caller has the instructions; results beyond the last row and column are
            // not read; channels are whole vectors; each place has its panels.
            unsafe {
                let from = of_result.as_ptr().add(from + channel);
                let to = panels.as_mut_ptr().add(to);
                let at = |y: usize, x: usize, is_there: bool| {
                    if is_there {
                        L::load(from.add((y * across + x) * channels))
                    } else {
                        L::splat(0.0)
                    }
                };
                let left = turn_slope::<L>([at(0, 0, true), at(1, 0, is_below)]);
                let right = turn_slope::<L>([at(0, 1, is_right), at(1, 1, is_below && is_right)]);
                for (y, pair) in left.into_iter().zip(right).enumerate() {
                    for (x, made) in turn_slope::<L>(pair.into()).into_iter().enumerate() {
                        L::store(to.add((4 * y + x) * of_place), made);
                    }
                }
            }
        }
    }
}

/// A dY.
#[inline(always)]
unsafe fn turn_slope<L: Lanes>([a, b]: [L::Vector; 2]) -> [L::Vector; 4] {
    // SAFETY: the caller has the instructions.
    unsafe { [a, L::add(a, b), L::sub(a, b), L::sub(L::splat(0.0), b)] }
}

/// G g Gᵀ, packed as right operands: for each place its panels of (inputs, panel).
///
/// # Safety
/// The CPU has the lanes' instructions.
#[inline(always)]
pub(super) unsafe fn transform_kernel<L: Lanes>(
    grid: &Grid,
    kernel: &[f32],
    is_turned: bool,
    panels: &mut [f32],
    cells: &mut Vec<f32>,
) {
    let (inputs, outputs, width) = (grid.inputs, grid.outputs, panel::<L>());
    assert_eq!(kernel.len(), CELLS * inputs * outputs, "a whole kernel");
    let of_place = apart(inputs * outputs.next_multiple_of(width));
    assert!(panels.len() >= PLACES * of_place, "room for a kernel");
    // Some inputs of a panel's outputs, cell by cell.
    let cells = room(cells, CELLS * CHANNELS * width);
    for column in (0..outputs).step_by(width) {
        let columns = width.min(outputs - column);
        if columns < width {
            cells.fill(0.0);
        }
        for input in (0..inputs).step_by(CHANNELS) {
            for (cell, to) in cells.chunks_exact_mut(CHANNELS * width).enumerate() {
                if is_turned {
                    let of_cell = &kernel[(CELLS - 1 - cell) * inputs * outputs..];
                    for j in 0..columns {
                        let from = &of_cell[(column + j) * inputs + input..][..CHANNELS];
                        let to = to[j..].iter_mut().step_by(width);
                        to.zip(from).for_each(|(to, from)| *to = *from);
                    }
                } else {
                    let of_cell = &kernel[cell * inputs * outputs..];
                    for (k, to) in to.chunks_exact_mut(width).enumerate() {
                        let from = &of_cell[(input + k) * outputs + column..][..columns];
                        to[..columns].copy_from_slice(from);
                    }
                }
            }
            for k in 0..CHANNELS {
                for lane in (0..width).step_by(L::COUNT) {
                    let to = (column / width * inputs + input + k) * width + lane;
                    // SAFETY: the caller has the instructions; cells and panels are as large as was
                    // made sure of above.
                    unsafe {
                        let from = cells.as_ptr().add(k * width + lane);
                        let to = panels.as_mut_ptr().add(to);
                        let mut half = [[L::splat(0.0); 3]; 4];
                        for x in 0..3 {
                            let at = |y: usize| L::load(from.add((3 * y + x) * CHANNELS * width));
                            let made = turn_kernel::<L>([at(0), at(1), at(2)]);
                            for (half, made) in half.iter_mut().zip(made) {
                                half[x] = made;
                            }
                        }
                        for (y, half) in half.into_iter().enumerate() {
                            for (x, made) in turn_kernel::<L>(half).into_iter().enumerate() {
                                L::store(to.add((4 * y + x) * of_place), made);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// G g.
#[inline(always)]
unsafe fn turn_kernel<L: Lanes>([a, b, c]: [L::Vector; 3]) -> [L::Vector; 4] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let (half, zero) = (L::splat(0.5), L::splat(0.0));
        let outer = L::multiply_add(half, L::add(a, c), zero);
        let inner = L::multiply_add(half, b, zero);
        [a, L::add(outer, inner), L::sub(outer, inner), c]
    }
}

/// Aᵀ M A of a tile, finished, into the result.
///
/// # Safety
/// The CPU has the lanes' instructions.
#[inline(always)]
pub(super) unsafe fn store_tile<L: Lanes>(
    grid: &Grid,
    tile: usize,
    number: usize,
    count: usize,
    products: &[f32],
    finish: Finish<'_>,
    result: &mut [f32],
) {
    let channels = grid.outputs;
    let [height, across] = grid.results;
    let (image, y, x) = grid.place(tile);
    let to = ((image * height + y) * across + x) * channels;
    let (is_below, is_right) = (y + 1 < height, x + 1 < across);
    let reach = usize::from(is_below) * across + usize::from(is_right) + 1;
    assert!(to + reach * channels <= result.len(), "a tile lies in the result");
    let step = apart(count * channels);
    assert!(products.len() >= PLACES * step, "all places of all tiles");
    for channel in (0..channels).step_by(L::COUNT) {
        let bias = finish.bias.map(|bias| pack_bias(bias, channel));
        // SAFETY: the caller has the instructions; reading and writing stay within what was made
        // sure of, as channels are whole vectors and only results that are there are written.
        unsafe {
            let from = products.as_ptr().add(number * channels + channel);
            let to = result.as_mut_ptr().add(to + channel);
            let mut half = [[L::splat(0.0); 4]; 2];
            #[expect(clippy::needless_range_loop, reason = "x is a column of the tile, too")]
            for x in 0..4 {
                let at = |y: usize| L::load(from.add((4 * y + x) * step));
                let made = turn_product::<L>([at(0), at(1), at(2), at(3)]);
                (half[0][x], half[1][x]) = (made[0], made[1]);
            }
            for (y, half) in half.into_iter().enumerate().take(1 + usize::from(is_below)) {
                let made = turn_product::<L>(half);
                for (x, made) in made.into_iter().enumerate().take(1 + usize::from(is_right)) {
                    let made = match &bias {
                        Some(bias) => L::add(made, L::load(bias.as_ptr())),
                        None => made,
                    };
                    let made = if finish.relu { L::max(L::splat(0.0), made) } else { made };
                    L::store(to.add((y * across + x) * channels), made);
                }
            }
        }
    }
}

/// Aᵀ m.
#[inline(always)]
unsafe fn turn_product<L: Lanes>([a, b, c, d]: [L::Vector; 4]) -> [L::Vector; 2] {
    // SAFETY: the caller has the instructions.
    unsafe { [L::add(a, L::add(b, c)), L::sub(L::sub(b, c), d)] }
}

/// Gᵀ u G, cell by cell.
///
/// # Safety
/// The CPU has the lanes' instructions.
#[inline(always)]
pub(super) unsafe fn gather_kernel<L: Lanes>(sums: &[f32], gradient: &mut [f32], elements: usize) {
    let step = apart(elements);
    assert!(sums.len() >= PLACES * step && gradient.len() == CELLS * elements, "a whole kernel");
    for first in (0..elements).step_by(L::COUNT) {
        // SAFETY: the caller has the instructions; elements are whole vectors.
        unsafe {
            let (from, to) = (sums.as_ptr().add(first), gradient.as_mut_ptr().add(first));
            let mut half = [[L::splat(0.0); 4]; 3];
            for x in 0..4 {
                let at = |y: usize| L::load(from.add((4 * y + x) * step));
                let made = turn_sums::<L>([at(0), at(1), at(2), at(3)]);
                for (half, made) in half.iter_mut().zip(made) {
                    half[x] = made;
                }
            }
            for (y, half) in half.into_iter().enumerate() {
                for (x, made) in turn_sums::<L>(half).into_iter().enumerate() {
                    L::store(to.add((3 * y + x) * elements), made);
                }
            }
        }
    }
}

/// Gᵀ u.
#[inline(always)]
unsafe fn turn_sums<L: Lanes>([a, b, c, d]: [L::Vector; 4]) -> [L::Vector; 3] {
    // SAFETY: the caller has the instructions.
    unsafe {
        let half = L::splat(0.5);
        let (sum, difference) = (L::add(b, c), L::sub(b, c));
        let zero = L::splat(0.0);
        [
            L::multiply_add(half, sum, a),
            L::multiply_add(half, difference, zero),
            L::multiply_add(half, sum, d),
        ]
    }
}
