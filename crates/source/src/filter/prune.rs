//! Which parts of a file may have rows that pass, from the least and the greatest value of each: a part
//! that may have none need not be read. Where nothing is known, it may.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::nullif;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;

use super::evaluate::compared;
use super::{BoundCheck, Comparison};

/// What is known of a column's values in each of several parts; null for nothing.
pub(crate) struct Bounds {
    /// Not above any value.
    pub(crate) least: ArrayRef,
    /// Not below any value but NaN.
    pub(crate) greatest: ArrayRef,
    /// How many are null.
    pub(crate) nulls: Vec<Option<u64>>,
}

impl BoundCheck {
    /// Which parts may have values that pass.
    pub(crate) fn may_pass(&self, bounds: &Bounds) -> Result<Vec<bool>, ArrowError> {
        let Bounds { least, greatest, nulls } = bounds;
        let all = || vec![true; nulls.len()];
        Ok(match self {
            Self::Never => vec![false; nulls.len()],
            Self::IsNull(true) => nulls.iter().map(|count| *count != Some(0)).collect(),
            Self::IsNull(false) | Self::Like { .. } | Self::In { is_in: false, .. } => all(),
            Self::Is(true) => unless_false(known(greatest)?.as_boolean()),
            Self::Is(false) => unless_true(known(least)?.as_boolean()),
            Self::Compare(Comparison::NotEqual, _) => all(),
            Self::Compare(Comparison::Equal, value) => between(least, greatest, value)?,
            Self::Compare(comparison @ (Comparison::Less | Comparison::LessOrEqual), value) => {
                unless_false(&comparison.of(&known(least)?, value)?)
            }
            // NaN is above the greatest value, and counted by nobody.
            Self::Compare(_, value) if value.data_type().is_floating() => all(),
            Self::Compare(comparison, value) => {
                unless_false(&comparison.of(&known(greatest)?, value)?)
            }
            Self::In { values, is_in: true } => {
                let mut may = vec![false; nulls.len()];
                for value in values {
                    let of_value = between(least, greatest, value)?;
                    may.iter_mut().zip(of_value).for_each(|(may, of_value)| *may |= of_value);
                }
                may
            }
        })
    }
}

fn between(
    least: &ArrayRef,
    greatest: &ArrayRef,
    value: &ArrayRef,
) -> Result<Vec<bool>, ArrowError> {
    let above = unless_false(&Comparison::LessOrEqual.of(&known(least)?, value)?);
    let below = unless_false(&Comparison::GreaterOrEqual.of(&known(greatest)?, value)?);
    Ok(above.into_iter().zip(below).map(|(above, below)| above && below).collect())
}

/// Bounds in the type in which values are compared; one that is NaN says nothing.
fn known(bounds: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let bounds = compared(bounds)?;
    let is_nan = match bounds.data_type() {
        DataType::Float32 => {
            BooleanArray::from_unary(bounds.as_primitive::<Float32Type>(), f32::is_nan)
        }
        DataType::Float64 => {
            BooleanArray::from_unary(bounds.as_primitive::<Float64Type>(), f64::is_nan)
        }
        _ => return Ok(bounds),
    };
    nullif(&bounds, &is_nan)
}

fn unless_false(found: &BooleanArray) -> Vec<bool> {
    found.iter().map(|found| found != Some(false)).collect()
}

fn unless_true(found: &BooleanArray) -> Vec<bool> {
    found.iter().map(|found| found != Some(true)).collect()
}
