//! A block of a product in registers: some rows of the left operand by one panel of the right one.

use crate::lanes::Lanes;

/// Vectors of columns in a tile.
pub(crate) const VECTORS: usize = 2;
/// Columns of a panel at most: two vectors of 16.
pub(crate) const PANEL_MAX: usize = 32;
/// Rows of a tile at most.
const ROWS_MAX: usize = 12;

/// Columns of a panel.
pub(crate) const fn panel<L: Lanes>() -> usize {
    VECTORS * L::COUNT
}

/// The common dimension as it lies in the left operand: runs of equal length, `step` apart within.
#[derive(Clone, Copy)]
pub(crate) struct Runs<'a> {
    /// Where each run begins, from the tile's first row on.
    pub(crate) offsets: &'a [usize],
    /// Elements of each.
    pub(crate) length: usize,
    /// From element to element.
    pub(crate) step: usize,
}

/// Where the result goes.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) first: *mut f32,
    /// From row to row.
    pub(crate) row_stride: usize,
    /// Of the panel's columns those that are there.
    pub(crate) columns: usize,
    /// The product is added to what is there.
    pub(crate) adds: bool,
}

/// What is done with a result before it is stored.
#[derive(Clone, Copy)]
pub(crate) struct Last<'a> {
    pub(crate) bias: Option<&'a [f32; PANEL_MAX]>,
    pub(crate) relu: bool,
}

/// Calls a function that is compiled for each number of rows up to `most`.
macro_rules! with_rows {
    ($rows:expr, $most:expr, $function:ident::<$lanes:ty>$arguments:tt) => {
        match $rows {
            1 => $function::<$lanes, 1>$arguments,
            2 => $function::<$lanes, 2>$arguments,
            3 if $most > 2 => $function::<$lanes, 3>$arguments,
            4 if $most > 2 => $function::<$lanes, 4>$arguments,
            5 if $most > 4 => $function::<$lanes, 5>$arguments,
            6 if $most > 4 => $function::<$lanes, 6>$arguments,
            7 if $most > 6 => $function::<$lanes, 7>$arguments,
            8 if $most > 6 => $function::<$lanes, 8>$arguments,
            9 if $most > 6 => $function::<$lanes, 9>$arguments,
            10 if $most > 6 => $function::<$lanes, 10>$arguments,
            11 if $most > 6 => $function::<$lanes, 11>$arguments,
            12 if $most > 6 => $function::<$lanes, 12>$arguments,
            rows => unreachable!("a tile has 1 to {} rows, not {rows}", $most),
        }
    };
}
pub(crate) use with_rows;

/// Computes `rows` rows, at most [`Lanes::ROWS`], which are `row_stride` apart in the left operand.
///
/// # Safety
/// The CPU has the lanes' instructions. From `left` on, every element that rows and runs lead to is
/// there; `right` has [`panel`] elements for each of the runs' elements; so has the target for each
/// row, but of the panel only its columns.
#[inline(always)]
pub(crate) unsafe fn tile<L: Lanes>(
    rows: usize,
    left: *const f32,
    row_stride: usize,
    runs: Runs<'_>,
    right: *const f32,
    target: Target,
    last: Last<'_>,
) {
    debug_assert!(rows <= L::ROWS && target.columns <= panel::<L>());
    // SAFETY: as the caller promises.
    unsafe {
        with_rows!(rows, L::ROWS, tile_of::<L>(left, row_stride, runs, right, target, last));
    }
}

/// # Safety
/// As [`tile`], with R rows.
#[inline(always)]
unsafe fn tile_of<L: Lanes, const R: usize>(
    left: *const f32,
    row_stride: usize,
    runs: Runs<'_>,
    mut right: *const f32,
    target: Target,
    last: Last<'_>,
) {
    // SAFETY: the caller has the instructions, and promises that all of this is there.
    unsafe {
        let mut sums = [[L::splat(0.0); VECTORS]; R];
        for &offset in runs.offsets {
            // Rows by threes: their addresses are a base and once or twice the stride, so that a
            // few registers lead to all.
            let mut bases: [*const f32; ROWS_MAX / 3] =
                std::array::from_fn(|i| left.wrapping_add(offset + 3 * i * row_stride));
            for _ in 0..runs.length {
                let (first, second) = (L::load(right), L::load(right.add(L::COUNT)));
                for (r, sums) in sums.iter_mut().enumerate() {
                    let value = L::splat(*bases[r / 3].add(r % 3 * row_stride));
                    sums[0] = L::multiply_add(value, first, sums[0]);
                    sums[1] = L::multiply_add(value, second, sums[1]);
                }
                bases = bases.map(|base| base.wrapping_add(runs.step));
                right = right.add(panel::<L>());
            }
        }
        store::<L, R>(sums, target, last);
    }
}

/// Stores sums where they belong, finished.
///
/// # Safety
/// The CPU has the lanes' instructions, and the target its columns in each of R rows.
#[inline(always)]
pub(crate) unsafe fn store<L: Lanes, const R: usize>(
    sums: [[L::Vector; VECTORS]; R],
    target: Target,
    last: Last<'_>,
) {
    // SAFETY: as the caller promises.
    unsafe {
        if target.columns == panel::<L>() {
            finish::<L, R>(sums, target, last);
            return;
        }
        // The row's end is not the panel's: by way of whole rows.
        let mut whole = [0.0; ROWS_MAX * PANEL_MAX];
        for r in 0..R {
            let row = target.first.add(r * target.row_stride);
            let to = whole[r * PANEL_MAX..].as_mut_ptr();
            std::ptr::copy_nonoverlapping(row, to, target.columns);
        }
        let first = whole.as_mut_ptr();
        finish::<L, R>(sums, Target { first, row_stride: PANEL_MAX, ..target }, last);
        for r in 0..R {
            let row = target.first.add(r * target.row_stride);
            let from = whole[r * PANEL_MAX..].as_ptr();
            std::ptr::copy_nonoverlapping(from, row, target.columns);
        }
    }
}

/// Stores sums into whole rows. One thing after the other for all rows: in loops this small the sums
/// stay in registers, which they would not in one with branches.
///
/// # Safety
/// The CPU has the lanes' instructions, and each row of the target a panel's elements.
#[inline(always)]
unsafe fn finish<L: Lanes, const R: usize>(
    mut sums: [[L::Vector; VECTORS]; R],
    target: Target,
    last: Last<'_>,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let at = |r: usize, v: usize| target.first.add(r * target.row_stride + v * L::COUNT);
        if target.adds {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = L::add(L::load(at(r, v)), *sum);
                }
            }
        }
        if let Some(bias) = last.bias {
            for sums in &mut sums {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = L::add(*sum, L::load(bias.as_ptr().add(v * L::COUNT)));
                }
            }
        }
        if last.relu {
            for sums in &mut sums {
                // In this order NaN stays NaN.
                sums.iter_mut().for_each(|sum| *sum = L::max(L::splat(0.0), *sum));
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, sum) in sums.iter().enumerate() {
                L::store(at(r, v), *sum);
            }
        }
    }
}
