//! Which rows of a batch pass, by Arrow's kernels.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float32Array, Float64Array, RecordBatch, Scalar,
    StringArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::cmp;
use arrow::compute::{
    and_kleene, filter_record_batch, is_not_null, is_null, like, nlike, not, or_kleene,
};
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use arrow::error::ArrowError;

use super::literal::comparable;
use super::{Bound, BoundCheck, BoundTest, Comparison};
use crate::numbers::cast_exactly;

impl Bound {
    /// Which rows pass; null is no. The batch has the columns that the condition is about, with the
    /// types that it was bound to.
    pub(crate) fn passes(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        self.test.passes(batch)
    }

    /// The rows that pass.
    pub(crate) fn keep(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        filter_record_batch(batch, &self.passes(batch)?)
    }
}

impl BoundTest {
    fn passes(&self, batch: &RecordBatch) -> Result<BooleanArray, ArrowError> {
        let join = |tests: &[Self], by: fn(&BooleanArray, &BooleanArray) -> Joined| {
            let (first, rest) = tests.split_first().expect("a chain has parts");
            rest.iter()
                .try_fold(first.passes(batch)?, |found, test| by(&found, &test.passes(batch)?))
        };
        match self {
            Self::All(tests) => join(tests, and_kleene),
            Self::Any(tests) => join(tests, or_kleene),
            Self::Of { column, check } => {
                let values = batch.column_by_name(column).ok_or_else(|| {
                    ArrowError::SchemaError(format!("a batch lacks column `{column}`"))
                })?;
                check.passes(values)
            }
        }
    }
}

type Joined = Result<BooleanArray, ArrowError>;

impl BoundCheck {
    fn passes(&self, column: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        match self {
            Self::IsNull(true) => is_null(column),
            Self::IsNull(false) => is_not_null(column),
            Self::Never => Ok(BooleanArray::new(BooleanBuffer::new_unset(column.len()), None)),
            Self::Is(true) => Ok(compared(column)?.as_boolean().clone()),
            Self::Is(false) => not(compared(column)?.as_boolean()),
            Self::Compare(comparison, value) => comparison.of(&compared(column)?, value),
            Self::In { values, is_in } => {
                let column = compared(column)?;
                let mut found = Comparison::Equal.of(&column, &values[0])?;
                for value in &values[1..] {
                    found = or_kleene(&found, &Comparison::Equal.of(&column, value)?)?;
                }
                if *is_in { Ok(found) } else { not(&found) }
            }
            Self::Like { pattern, is_like } => {
                let column = compared(column)?;
                let pattern =
                    cast_exactly(&StringArray::from(vec![pattern.as_str()]), column.data_type())?;
                let pattern = Scalar::new(pattern);
                if *is_like { like(&column, &pattern) } else { nlike(&column, &pattern) }
            }
        }
    }
}

impl Comparison {
    /// Every value of a column, as [`compared`] makes it, with the only one of an array.
    pub(super) fn of(
        self,
        column: &ArrayRef,
        value: &ArrayRef,
    ) -> Result<BooleanArray, ArrowError> {
        let value = Scalar::new(value.clone());
        match self {
            Self::Equal => cmp::eq(column, &value),
            Self::NotEqual => cmp::neq(column, &value),
            Self::Less => cmp::lt(column, &value),
            Self::LessOrEqual => cmp::lt_eq(column, &value),
            Self::Greater => cmp::gt(column, &value),
            Self::GreaterOrEqual => cmp::gt_eq(column, &value),
        }
    }
}

/// A column in the type in which it is compared. Arrow's kernels tell zeros and NaNs by their signs,
/// and SQL does not.
pub(super) fn compared(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let data_type = comparable(column.data_type()).unwrap_or_else(|| column.data_type().clone());
    let column = if *column.data_type() == data_type {
        column.clone()
    } else {
        cast_exactly(column, &data_type)?
    };
    Ok(match data_type {
        DataType::Float32 => {
            let column = column.as_primitive::<Float32Type>();
            let plain = |value: f32| if value.is_nan() { f32::NAN.abs() } else { value + 0.0 };
            let plain: Float32Array = column.unary(plain);
            Arc::new(plain)
        }
        DataType::Float64 => {
            let column = column.as_primitive::<Float64Type>();
            let plain = |value: f64| if value.is_nan() { f64::NAN.abs() } else { value + 0.0 };
            let plain: Float64Array = column.unary(plain);
            Arc::new(plain)
        }
        _ => column,
    })
}
