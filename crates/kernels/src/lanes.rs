//! Vectors of floats as each set of instructions has them.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{
    __m256, __m512, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_set1_ps,
    _mm256_storeu_ps, _mm256_sub_ps, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_max_ps, _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

/// A set of instructions, as the arithmetic that kernels need.
///
/// # Safety
/// All methods need a CPU with the instructions, and pointers to [`Lanes::COUNT`] floats.
pub(crate) trait Lanes: Copy {
    /// Floats in a vector.
    const COUNT: usize;
    /// Rows of a tile: with two vectors of columns as many as the registers hold.
    const ROWS: usize;
    /// Rows of a tile of pairs that become singles: they take two registers more.
    const PAIR_ROWS: usize;
    type Vector: Copy;

    unsafe fn splat(value: f32) -> Self::Vector;
    unsafe fn load(from: *const f32) -> Self::Vector;
    unsafe fn store(to: *mut f32, vector: Self::Vector);
    unsafe fn add(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn sub(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    unsafe fn max(a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// a · b + c.
    unsafe fn multiply_add(a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
}

/// Plain Rust: two vectors of whatever the compiler has.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Lanes for Portable {
    const COUNT: usize = 8;
    const ROWS: usize = 4;
    const PAIR_ROWS: usize = 2;
    type Vector = [f32; 8];

    #[inline(always)]
    unsafe fn splat(value: f32) -> [f32; 8] {
        [value; 8]
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> [f32; 8] {
        // SAFETY: the pointer is to 8 floats.
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: [f32; 8]) {
        // SAFETY: the pointer is to 8 floats.
        unsafe { to.cast::<[f32; 8]>().write_unaligned(vector) }
    }

    #[inline(always)]
    unsafe fn add(mut a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        a
    }

    #[inline(always)]
    unsafe fn sub(mut a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        a.iter_mut().zip(b).for_each(|(a, b)| *a -= b);
        a
    }

    #[inline(always)]
    unsafe fn max(mut a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        // As the x86 instruction: the second where the first is not larger, NaN included.
        a.iter_mut().zip(b).for_each(|(a, b)| *a = if *a > b { *a } else { b });
        a
    }

    #[inline(always)]
    unsafe fn multiply_add(a: [f32; 8], b: [f32; 8], mut c: [f32; 8]) -> [f32; 8] {
        c.iter_mut().zip(a.iter().zip(b)).for_each(|(c, (a, b))| *c += a * b);
        c
    }
}

/// AVX2 with FMA.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx2 {
    const COUNT: usize = 8;
    const ROWS: usize = 6;
    const PAIR_ROWS: usize = 4;
    type Vector = __m256;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m256 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m256 {
        // SAFETY: as above, and the pointer is to 8 floats.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: __m256) {
        // SAFETY: as above, and the pointer is to 8 floats.
        unsafe { _mm256_storeu_ps(to, vector) }
    }

    #[inline(always)]
    unsafe fn add(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: __m256, b: __m256) -> __m256 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
}

/// AVX-512F.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

#[cfg(target_arch = "x86_64")]
impl Lanes for Avx512 {
    const COUNT: usize = 16;
    const ROWS: usize = 12;
    const PAIR_ROWS: usize = 12;
    type Vector = __m512;

    #[inline(always)]
    unsafe fn splat(value: f32) -> __m512 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm512_set1_ps(value) }
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> __m512 {
        // SAFETY: as above, and the pointer is to 16 floats.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(to: *mut f32, vector: __m512) {
        // SAFETY: as above, and the pointer is to 16 floats.
        unsafe { _mm512_storeu_ps(to, vector) }
    }

    #[inline(always)]
    unsafe fn add(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn sub(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn max(a: __m512, b: __m512) -> __m512 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn multiply_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: the caller has the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
}
