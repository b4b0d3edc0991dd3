//! A block of a product of halves in registers.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{__m512bh, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_set1_epi32};
use std::marker::PhantomData;

#[cfg(target_arch = "x86_64")]
use crate::lanes::Avx512;
use crate::lanes::Lanes;
use crate::tile::{Last, Target, VECTORS, store, with_rows};

/// The common dimension as it lies in the left operand: runs of whole units, each `step` elements behind
/// the one before.
#[derive(Clone, Copy)]
pub(crate) struct Runs<'a> {
    /// Where each run begins, from the tile's first row on.
    pub(super) offsets: &'a [usize],
    /// Units of each.
    pub(super) units: usize,
    /// From unit to unit.
    pub(super) step: usize,
}

/// A tile's rows of the left operand.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub(super) first: *const u16,
    /// At least one, at most [`Tiles::ROWS`].
    pub(super) count: usize,
    /// From row to row.
    pub(super) stride: usize,
}

/// A way to multiply halves. In the left operand [`Tiles::UNIT`] elements of the common dimension lie side
/// by side in each row. In the right one each two neighbours in that dimension share a word, the first in
/// its lower half, and the words of a panel's columns lie side by side.
pub(crate) trait Tiles {
    /// Rows of a tile.
    const ROWS: usize;
    /// Columns of a panel.
    const PANEL: usize;
    /// Elements of the common dimension that are multiplied at once: an even number.
    const UNIT: usize;

    /// Computes these rows of the result.
    ///
    /// # Safety
    /// The CPU has the instructions. Every unit of the left operand that rows and runs lead to is there;
    /// `right` has [`Tiles::PANEL`] words for each two of the runs' elements; the target has its
    /// columns in each row.
    unsafe fn tile(
        &mut self,
        rows: Rows,
        runs: Runs<'_>,
        right: *const u32,
        target: Target,
        last: Last<'_>,
    );
}

/// Vectors whose lanes each take two products at a time.
///
/// # Safety
/// As [`Lanes`].
pub(super) trait Pairs {
    type Singles: Lanes;
    type Vector: Copy;
    /// Rows of a tile.
    const ROWS: usize;

    /// The same pair in every lane.
    unsafe fn splat(pair: u32) -> Self::Vector;
    unsafe fn load(from: *const u32) -> Self::Vector;
    /// a · b + c, in each lane over its two products.
    unsafe fn dot(a: Self::Vector, b: Self::Vector, c: Single<Self>) -> Single<Self>;
}

type Single<P> = <<P as Pairs>::Singles as Lanes>::Vector;

/// For CPUs without instructions for halves: they become singles again.
pub(super) struct AsSingles<L>(PhantomData<L>);

impl<L: Lanes> Pairs for AsSingles<L> {
    type Singles = L;
    type Vector = [L::Vector; 2];
    const ROWS: usize = L::PAIR_ROWS;

    #[inline(always)]
    unsafe fn splat(pair: u32) -> Self::Vector {
        // SAFETY: the caller has the instructions.
        split(pair).map(|value| unsafe { L::splat(value) })
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> Self::Vector {
        let mut singles = [[0.0; LANES_MAX]; 2];
        // SAFETY: the pointer is to as many words as there are lanes.
        let pairs = unsafe { std::slice::from_raw_parts(from, L::COUNT) };
        let [firsts, seconds] = &mut singles;
        for (pair, both) in pairs.iter().zip(firsts.iter_mut().zip(seconds)) {
            [*both.0, *both.1] = split(*pair);
        }
        // SAFETY: the caller has the instructions; a vector is no longer than the arrays.
        singles.map(|singles| unsafe { L::load(singles.as_ptr()) })
    }

    #[inline(always)]
    unsafe fn dot(a: Self::Vector, b: Self::Vector, c: L::Vector) -> L::Vector {
        // SAFETY: the caller has the instructions.
        unsafe { L::multiply_add(a[1], b[1], L::multiply_add(a[0], b[0], c)) }
    }
}

const LANES_MAX: usize = 16;

/// Both of a pair.
#[inline(always)]
fn split(pair: u32) -> [f32; 2] {
    [f32::from_bits(pair << 16), f32::from_bits(pair & 0xffff_0000)]
}

/// AVX-512 with its instruction for pairs of halves.
#[cfg(target_arch = "x86_64")]
pub(super) struct Avx512Pairs;

#[cfg(target_arch = "x86_64")]
impl Pairs for Avx512Pairs {
    type Singles = Avx512;
    type Vector = __m512bh;
    const ROWS: usize = 12;

    #[inline(always)]
    unsafe fn splat(pair: u32) -> __m512bh {
        // SAFETY: the caller has the instructions; both types are 64 bytes without a meaning of their own.
        unsafe { std::mem::transmute(_mm512_set1_epi32(pair.cast_signed())) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u32) -> __m512bh {
        // SAFETY: as above, and the pointer is to 16 words.
        unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
    }

    #[inline(always)]
    unsafe fn dot(a: __m512bh, b: __m512bh, c: Single<Self>) -> Single<Self> {
        // SAFETY: the caller has the instructions.
        unsafe { _mm512_dpbf16_ps(c, a, b) }
    }
}

/// Tiles of such vectors.
pub(super) struct ByPairs<P>(PhantomData<P>);

impl<P> ByPairs<P> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<P: Pairs> Tiles for ByPairs<P> {
    const ROWS: usize = P::ROWS;
    const PANEL: usize = VECTORS * P::Singles::COUNT;
    const UNIT: usize = 2;

    #[inline(always)]
    unsafe fn tile(
        &mut self,
        rows: Rows,
        runs: Runs<'_>,
        right: *const u32,
        target: Target,
        last: Last<'_>,
    ) {
        // SAFETY: as the caller promises.
        unsafe {
            with_rows!(rows.count, P::ROWS, tile_of::<P>(rows, runs, right, target, last));
        }
    }
}

/// # Safety
/// As [`Tiles::tile`], with R rows.
#[inline(always)]
unsafe fn tile_of<P: Pairs, const R: usize>(
    rows: Rows,
    runs: Runs<'_>,
    mut right: *const u32,
    target: Target,
    last: Last<'_>,
) {
    // SAFETY: the caller has the instructions, and promises that all of this is there.
    unsafe {
        let mut sums = [[P::Singles::splat(0.0); VECTORS]; R];
        for &offset in runs.offsets {
            let mut base = rows.first.add(offset);
            for _ in 0..runs.units {
                let columns = [P::load(right), P::load(right.add(P::Singles::COUNT))];
                for (r, sums) in sums.iter_mut().enumerate() {
                    let pair =
                        P::splat(base.wrapping_add(r * rows.stride).cast::<u32>().read_unaligned());
                    for (sum, columns) in sums.iter_mut().zip(columns) {
                        *sum = P::dot(pair, columns, *sum);
                    }
                }
                base = base.wrapping_add(runs.step);
                right = right.add(VECTORS * P::Singles::COUNT);
            }
        }
        store::<P::Singles, R>(sums, target, last);
    }
}
