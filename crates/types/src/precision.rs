//! How exactly a network's products are computed.

use std::fmt;
use std::str::FromStr;

use crate::InvalidTerm;

/// How exactly the operands of products and convolutions are taken. Weights, sums, and everything else are
/// single precision always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// Rounded to bfloat16: 8 bits of mantissa, and the range of f32.
    Bf16,
}

impl Precision {
    /// From exact to fast.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// Its name in experiments and records.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = InvalidTerm;

    fn from_str(name: &str) -> Result<Self, InvalidTerm> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == name);
        found.ok_or_else(|| InvalidTerm(format!("{name:?} is no precision; use f32 or bf16")))
    }
}
