//! Which instructions kernels use: found out at run time, or chosen.

use std::sync::OnceLock;

/// This process's.
static CURRENT: OnceLock<Isa> = OnceLock::new();

#[cfg(target_arch = "x86_64")]
use crate::half::amx;
use crate::half::{self, HalfJob};
#[cfg(target_arch = "x86_64")]
use crate::lanes::{Avx2, Avx512};
use crate::lanes::{Lanes, Portable};

/// A set of instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isa {
    /// Plain Rust, on any CPU.
    Portable,
    /// AVX2 and FMA: 8 lanes, 16 registers.
    Avx2,
    /// AVX-512F: 16 lanes, 32 registers.
    Avx512,
    /// With its instructions for halves; singles as with AVX-512F.
    Avx512Bf16,
    /// With the matrix unit for halves; singles as with AVX-512F.
    Amx,
}

/// How exactly operands are multiplied. Sums are singles' always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// As they are.
    #[default]
    Single,
    /// Rounded to bfloat16.
    Half,
}

/// How products are computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Arithmetic {
    /// With these instructions.
    pub isa: Isa,
    /// Of operands so exact.
    pub precision: Precision,
}

impl Arithmetic {
    /// Does a job so.
    ///
    /// # Panics
    /// When this CPU does not have the instructions.
    pub(crate) fn run<J: Job + HalfJob>(self, job: J) {
        match self.precision {
            Precision::Single => self.isa.run(job),
            Precision::Half => half::run(self.isa, job),
        }
    }
}

impl Isa {
    /// From slow to fast.
    pub const ALL: [Self; 5] =
        [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The one chosen for this process, else the fastest that this CPU has.
    #[must_use]
    pub fn current() -> Self {
        *CURRENT.get_or_init(Self::best)
    }

    /// The fastest that this CPU has.
    #[must_use]
    pub fn best() -> Self {
        Self::ALL.into_iter().rev().find(|isa| isa.is_here()).unwrap_or(Self::Portable)
    }

    /// Makes it this process's for good. `false` when this CPU does not have it, or another one is in
    /// use already.
    #[must_use]
    pub fn choose(self) -> bool {
        self.is_here() && *CURRENT.get_or_init(|| self) == self
    }

    /// Whether this CPU has it.
    #[must_use]
    pub fn is_here(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => Self::Avx512.is_here() && is_x86_feature_detected!("avx512bf16"),
            #[cfg(target_arch = "x86_64")]
            Self::Amx => Self::Avx512.is_here() && amx::is_here(),
            #[cfg(not(target_arch = "x86_64"))]
            _ => false,
        }
    }

    /// Its name in records and options.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512-bf16",
            Self::Amx => "amx",
        }
    }

    /// The instructions that compute so exactly: with the same ones bits are the same.
    #[must_use]
    pub fn of(self, precision: Precision) -> Self {
        match (precision, self) {
            (Precision::Single, Self::Avx512Bf16 | Self::Amx) => Self::Avx512,
            _ => self,
        }
    }

    /// Does a job with these instructions.
    ///
    /// # Panics
    /// When this CPU does not have them.
    pub(crate) fn run<J: Job>(self, job: J) {
        assert!(self.is_here(), "this CPU has no {}", self.name());
        match self {
            // SAFETY: plain Rust needs no instructions of its own.
            Self::Portable => unsafe { job.run::<Portable>() },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the CPU has these instructions, by the assertion above.
            Self::Avx2 => unsafe { run_avx2(job) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above; who has the others has this.
            Self::Avx512 | Self::Avx512Bf16 | Self::Amx => unsafe { run_avx512(job) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("these are of another architecture"),
        }
    }
}

/// Work that is written once and compiled for each set of instructions.
pub(crate) trait Job {
    /// Does it. Implementations are `#[inline(always)]`, so that they become part of the function
    /// that has the instructions.
    ///
    /// # Safety
    /// The CPU has the lanes' instructions.
    unsafe fn run<L: Lanes>(self);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn run_avx2<J: Job>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run::<Avx2>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn run_avx512<J: Job>(job: J) {
    // SAFETY: the caller has made sure of the instructions.
    unsafe { job.run::<Avx512>() }
}
