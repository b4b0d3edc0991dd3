//! Arrays of a file, and how far others are from them.

use serde_json::Value;

/// The largest difference between an array and the one that it should be.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    /// Which array.
    pub(super) place: String,
    /// Relative to the array's largest value, or the floor.
    pub(super) error: f64,
    pub(super) tolerance: f64,
}

/// How close arrays of a kind must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    pub(super) relative: f64,
    /// Errors of arrays whose values are all smaller than this are relative to it.
    pub(super) floor: f64,
}

impl Difference {
    /// Compares arrays; an error where they have different lengths.
    pub(super) fn between(
        place: impl Into<String>,
        found: &[f32],
        expected: &[f32],
        tolerance: Tolerance,
    ) -> Result<Self, String> {
        let place = place.into();
        if found.len() != expected.len() {
            let (found, expected) = (found.len(), expected.len());
            return Err(format!("{place}: there are {found} values, not {expected}"));
        }
        let size = |value: &f32| f64::from(value.abs());
        let scale = expected.iter().map(size).fold(tolerance.floor, f64::max);
        let distance = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
        let farthest = found.iter().zip(expected).map(distance).fold(0.0, nan_or_max);
        Ok(Self { place, error: farthest / scale, tolerance: tolerance.relative })
    }

    /// Compares single numbers.
    pub(super) fn of_numbers(
        place: impl Into<String>,
        found: f64,
        expected: f64,
        tolerance: Tolerance,
    ) -> Self {
        let scale = expected.abs().max(tolerance.floor);
        let error = (found - expected).abs() / scale;
        Self { place: place.into(), error, tolerance: tolerance.relative }
    }

    /// The error as a share of the tolerance; one that is no number is infinite.
    pub(super) fn share(&self) -> f64 {
        if self.error.is_nan() { f64::INFINITY } else { self.error / self.tolerance }
    }

    pub(super) fn is_small(&self) -> bool {
        self.share() <= 1.0
    }
}

/// The larger one; NaN where one is.
fn nan_or_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// An array as `{shape, data}`.
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<f32>,
}

impl Array {
    /// Reads the array under a key.
    pub(super) fn read(record: &Value, key: &str) -> Result<Self, String> {
        let value = record.get(key).ok_or_else(|| format!("{key} is missing"))?;
        Self::of(value).ok_or_else(|| format!("{key} must be an array as {{shape, data}}"))
    }

    /// Reads the list of arrays under a key.
    pub(super) fn read_all(record: &Value, key: &str) -> Result<Vec<Self>, String> {
        let values = record.get(key).and_then(Value::as_array);
        let values = values.ok_or_else(|| format!("{key} must be a list of arrays"))?;
        let read = values.iter().enumerate().map(|(i, value)| {
            Self::of(value).ok_or_else(|| format!("{key}/{i} must be an array as {{shape, data}}"))
        });
        read.collect()
    }

    fn of(value: &Value) -> Option<Self> {
        let sizes = value.get("shape")?.as_array()?.iter();
        let shape: Vec<usize> =
            sizes.map(|size| usize::try_from(size.as_u64()?).ok()).collect::<Option<_>>()?;
        let data = numbers(value.get("data")?)?;
        let elements = shape.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
        (elements == Some(data.len())).then_some(Self { shape, data })
    }
}

/// The data of arrays.
pub(super) fn data(arrays: Vec<Array>) -> Vec<Vec<f32>> {
    arrays.into_iter().map(|array| array.data).collect()
}

/// A list of numbers in single precision.
#[expect(clippy::cast_possible_truncation, reason = "the files hold single-precision numbers")]
pub(super) fn numbers(value: &Value) -> Option<Vec<f32>> {
    value.as_array()?.iter().map(|number| Some(number.as_f64()? as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const TOLERANCE: Tolerance = Tolerance { relative: 0.1, floor: 1.0 };

    fn error(found: &[f32], expected: &[f32]) -> f64 {
        Difference::between("a", found, expected, TOLERANCE).unwrap().error
    }

    #[test]
    fn errors_are_relative_to_the_largest_value_or_the_floor() {
        assert_eq!(error(&[4.0, 0.0], &[4.0, 1.0]), 0.25);
        assert_eq!(error(&[0.25], &[0.5]), 0.25);
        assert!(error(&[f32::NAN, 1.0], &[1.0, 1.0]).is_nan());
        let nan = Difference::between("a", &[f32::NAN], &[1.0], TOLERANCE).unwrap();
        assert!(!nan.is_small());
        let text = Difference::between("a", &[1.0], &[], TOLERANCE).unwrap_err();
        assert_eq!(text, "a: there are 1 values, not 0");
    }

    #[test]
    fn an_array_has_as_many_numbers_as_its_shape_says() {
        let record = json!({"a": {"shape": [2, 1], "data": [1, 2.5]},
            "b": {"shape": [2], "data": [1]}});
        let array = Array::read(&record, "a").ok().unwrap();
        assert_eq!((array.shape, array.data), (vec![2, 1], vec![1.0, 2.5]));
        assert_eq!(Array::read(&record, "b").err().unwrap(), "b must be an array as {shape, data}");
        assert_eq!(Array::read(&record, "c").err().unwrap(), "c is missing");
    }
}
