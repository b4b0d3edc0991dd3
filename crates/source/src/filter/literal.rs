//! Literals as values of their column's type.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Float32Array, Float64Array, LargeStringArray, PrimitiveArray, StringArray,
    StringViewArray,
};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};

use super::Literal;
use crate::numbers::cast_exactly;

/// A literal, in an array of its own.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// One of the type's.
    Is(ArrayRef),
    /// Between two of the type's whole numbers, of which this is the lower.
    Above(ArrayRef),
    /// Beyond them all: `Less` below, `Greater` above.
    Beyond(Ordering),
}

/// The type in which a column of this type is compared; nothing for one that is not.
pub(super) fn comparable(data_type: &DataType) -> Option<DataType> {
    use DataType::{
        Boolean, Date32, Date64, Dictionary, Float16, Float32, LargeUtf8, Time32, Time64,
        Timestamp, Utf8, Utf8View,
    };
    const MICRO: TimeUnit = TimeUnit::Microsecond;
    Some(match data_type {
        Boolean | Utf8 | LargeUtf8 | Utf8View | Time64(_) => data_type.clone(),
        Float16 => Float32,
        other if other.is_decimal() => DataType::Float64,
        other if other.is_integer() || other.is_floating() => other.clone(),
        Date32 | Date64 => Date32,
        Time32(_) => Time64(MICRO),
        Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => Timestamp(MICRO, zone.clone()),
        Timestamp(..) => data_type.clone(),
        Dictionary(_, values) => comparable(values)?,
        _ => return None,
    })
}

impl Literal {
    /// Its value in a [`comparable`] type, or what is wrong with it.
    pub(super) fn of_type(&self, data_type: &DataType) -> Result<Value, String> {
        let moment = |wanted: &str, fits: fn(&str) -> bool| match self {
            Self::Text(text) | Self::Moment(text) if fits(text) => moment(text, data_type)
                .ok_or_else(|| format!("`{text}` is not in the calendar, or beyond its type")),
            other => Err(format!("{} is compared with {wanted}", other.shown())),
        };
        match (data_type, self) {
            (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, Self::Text(text)) => {
                Ok(Value::Is(texts(text, data_type)))
            }
            (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, other) => {
                Err(format!("{} is compared with text; put it between ''", other.shown()))
            }
            (DataType::Date32, _) => moment("dates; write 'YYYY-MM-DD'", is_date),
            (DataType::Time64(_), _) => moment("times; write 'HH:MM:SS'", is_time),
            (DataType::Timestamp(_, None), _) => {
                moment("times without a zone; write 'YYYY-MM-DD HH:MM:SS'", is_timestamp)
            }
            (DataType::Timestamp(_, Some(_)), _) => {
                moment("times; write 'YYYY-MM-DD HH:MM:SS+00'", |text| {
                    is_timestamp(without_zone(text))
                })
            }
            (DataType::Boolean, other) => {
                Err(format!("{} is compared with booleans; write TRUE or FALSE", other.shown()))
            }
            (_, Self::Number(digits)) => number(digits, data_type),
            (_, other) => {
                Err(format!("{} is compared with numbers; write one without ''", other.shown()))
            }
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Number(digits) => format!("`{digits}`"),
            Self::Text(text) | Self::Moment(text) => format!("`'{text}'`"),
        }
    }
}

fn texts(text: &str, data_type: &DataType) -> ArrayRef {
    match data_type {
        DataType::LargeUtf8 => Arc::new(LargeStringArray::from(vec![text])),
        DataType::Utf8View => Arc::new(StringViewArray::from(vec![text])),
        _ => Arc::new(StringArray::from(vec![text])),
    }
}

/// A number as one of this type.
fn number(digits: &str, data_type: &DataType) -> Result<Value, String> {
    let wrong = || format!("`{digits}` is no number, or beyond its type");
    match data_type {
        DataType::Float32 => {
            let value = digits.parse().ok().filter(|value: &f32| value.is_finite());
            let array = Float32Array::from(vec![value.ok_or_else(wrong)? + 0.0]);
            return Ok(Value::Is(Arc::new(array)));
        }
        DataType::Float64 => {
            let value = digits.parse().ok().filter(|value: &f64| value.is_finite());
            let array = Float64Array::from(vec![value.ok_or_else(wrong)? + 0.0]);
            return Ok(Value::Is(Arc::new(array)));
        }
        _ => {}
    }
    let (floor, is_whole) = floor(digits).ok_or_else(wrong)?;
    let array: Option<ArrayRef> = match data_type {
        DataType::Int8 => one::<Int8Type>(floor),
        DataType::Int16 => one::<Int16Type>(floor),
        DataType::Int32 => one::<Int32Type>(floor),
        DataType::Int64 => one::<Int64Type>(floor),
        DataType::UInt8 => one::<UInt8Type>(floor),
        DataType::UInt16 => one::<UInt16Type>(floor),
        DataType::UInt32 => one::<UInt32Type>(floor),
        DataType::UInt64 => one::<UInt64Type>(floor),
        other => unreachable!("{other} is not comparable"),
    };
    Ok(match array {
        Some(array) if is_whole => Value::Is(array),
        Some(array) => Value::Above(array),
        None if floor < 0 => Value::Beyond(Ordering::Less),
        None => Value::Beyond(Ordering::Greater),
    })
}

fn one<T: ArrowPrimitiveType>(value: i128) -> Option<ArrayRef>
where
    T::Native: TryFrom<i128>,
{
    let value = T::Native::try_from(value).ok()?;
    Some(Arc::new(PrimitiveArray::<T>::from_iter_values([value])))
}

/// The largest whole number that is not above a decimal one, and whether it is that number. What is
/// beyond all types of whole numbers may be anything beyond them.
fn floor(digits: &str) -> Option<(i128, bool)> {
    const BEYOND: i128 = 1 << 100;
    const DIGITS_MAX: i64 = 30;
    let (is_negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all: String = [whole, fraction].concat();
    let significant = all.trim_start_matches('0');
    if all.is_empty() || !all.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    if significant.is_empty() {
        return Some((0, true));
    }
    // So many of the significant digits are before the point.
    let skipped = i64::try_from(all.len() - significant.len()).ok()?;
    let before = i64::try_from(whole.len()).ok()?.checked_add(exponent)?.checked_sub(skipped)?;
    let (size, is_whole) = if before > DIGITS_MAX {
        (BEYOND, true)
    } else {
        let count = usize::try_from(before.max(0)).ok()?;
        let (head, tail) = significant.split_at(count.min(significant.len()));
        let head: i128 = format!("{head:0<count$}").parse().unwrap_or(0);
        (head, tail.bytes().all(|digit| digit == b'0'))
    };
    let floor = if is_negative { -size - i128::from(!is_whole) } else { size };
    Some((floor, is_whole))
}

/// A date or time as one of this type.
fn moment(text: &str, data_type: &DataType) -> Option<Value> {
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    let found = match data_type {
        DataType::Timestamp(unit, Some(zone)) => {
            // A time without a zone is one of UTC, whatever the column's own zone is.
            let utc = DataType::Timestamp(*unit, Some("+00:00".into()));
            let found = cast_exactly(&text, &utc).ok()?;
            let bare = cast(&found, &DataType::Int64).ok()?;
            cast(&bare, &DataType::Timestamp(*unit, Some(zone.clone()))).ok()?
        }
        other => cast_exactly(&text, other).ok()?,
    };
    found.is_valid(0).then_some(Value::Is(found))
}

/// Whether a text has digits where the form has zeros, and else what the form has.
fn has_form(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text.bytes().zip(form.bytes()).all(|(of_text, of_form)| match of_form {
            b'0' => of_text.is_ascii_digit(),
            other => of_text == other,
        })
}

fn is_date(text: &str) -> bool {
    has_form(text, "0000-00-00")
}

/// With up to six digits of a second's fraction.
fn is_time(text: &str) -> bool {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    has_form(seconds, "00:00:00")
        && (1..=6).contains(&fraction.len())
        && fraction.bytes().all(|digit| digit.is_ascii_digit())
}

fn is_timestamp(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else { return false };
    is_date(date) && (rest.is_empty() || rest.strip_prefix([' ', 'T']).is_some_and(is_time))
}

/// A time without `Z`, `+00` or `+00:00` at its end.
fn without_zone(text: &str) -> &str {
    if let Some(rest) = text.strip_suffix('Z') {
        return rest;
    }
    match text.rfind(['+', '-']).filter(|at| *at > 10) {
        Some(at) if ["00", "00:00"].iter().any(|form| has_form(&text[at + 1..], form)) => {
            &text[..at]
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_numbers_are_floored_exactly() {
        for (digits, wanted) in [
            ("5", (5, true)),
            ("-5", (-5, true)),
            ("2.5", (2, false)),
            ("-2.5", (-3, false)),
            ("2.0", (2, true)),
            (".5", (0, false)),
            ("-0.5", (-1, false)),
            ("0.000", (0, true)),
            ("1e3", (1_000, true)),
            ("1.25e1", (12, false)),
            ("125e-1", (12, false)),
            ("5e-3", (0, false)),
            ("9007199254740993.5", (9_007_199_254_740_993, false)),
            ("1e999", (1 << 100, true)),
            ("-1e999", (-(1 << 100), true)),
        ] {
            assert_eq!(floor(digits), Some(wanted), "{digits}");
        }
        assert_eq!([floor("1e99999999999999999999"), floor("."), floor("1x")], [None; 3]);
    }

    #[test]
    fn dates_and_times_have_one_form() {
        assert!(is_timestamp("2020-01-31") && is_timestamp("2020-01-31T23:59:59.123456"));
        for text in ["2020-1-31", "yesterday", "2020-01-31 1:00:00", "2020-01-31 01:00:00.", "é"] {
            assert!(!is_timestamp(text), "{text}");
        }
        for text in ["2020-01-31 01:00:00Z", "2020-01-31 01:00:00+02", "2020-01-31 01:00:00-02:30"]
        {
            assert!(is_timestamp(without_zone(text)), "{text}");
        }
    }
}
