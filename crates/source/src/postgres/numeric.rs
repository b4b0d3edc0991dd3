//! PostgreSQL's `numeric` as the nearest f64. Its digits are of base 10,000, the first of them times
//! 10,000 to the power of `weight` (`src/backend/utils/adt/numeric.c`).

use std::fmt::Write;

use super::value::{Layout, Malformed};

/// More digits than a `numeric` can hold: 131,072 before the point and 16,383 behind it.
const DIGITS_MAX: usize = (131_072 + 16_383) / 4 + 2;
/// Integers up to this are exact as f64: 2⁵³.
const EXACT_MAX: u64 = 1 << 53;
/// Powers of ten up to this exponent are exact as f64.
const EXACT_POWER_MAX: u32 = 22;

/// The nearest f64 of a value, behind its length.
pub(super) fn read(bytes: &[u8], layout: Layout) -> Result<f64, Malformed> {
    match layout {
        Layout::Wire => from_wire(bytes),
        Layout::Heap => from_heap(bytes),
    }
}

/// A value of the binary protocol: number of digits, weight, sign and scale, then the digits, all
/// 16 bits, big-endian.
fn from_wire(bytes: &[u8]) -> Result<f64, Malformed> {
    let words: Vec<u16> = words(bytes)?.map(u16::from_be_bytes).collect();
    let [count, weight, sign, _, digits @ ..] = words.as_slice() else {
        return Err(Malformed("is too short for a numeric"));
    };
    if digits.len() != usize::from(*count) {
        return Err(Malformed("is a numeric of another length than it says"));
    }
    match sign {
        0x0000 => value(false, weight.cast_signed(), digits),
        0x4000 => value(true, weight.cast_signed(), digits),
        other => special(*other),
    }
}

/// A value of a heap tuple, behind its length: a short header (sign and weight in one word) or a
/// long one (a word each), then the digits, all 16 bits, little-endian.
fn from_heap(bytes: &[u8]) -> Result<f64, Malformed> {
    let words: Vec<u16> = words(bytes)?.map(u16::from_le_bytes).collect();
    let [header, rest @ ..] = words.as_slice() else {
        return Err(Malformed("is too short for a numeric"));
    };
    match header & 0xc000 {
        0x8000 => {
            let magnitude = (header & 0x003f).cast_signed();
            let weight = if header & 0x0040 == 0 { magnitude } else { magnitude - 0x40 };
            value(header & 0x2000 != 0, weight, rest)
        }
        0xc000 => special(*header),
        sign => match rest {
            [weight, digits @ ..] => value(sign == 0x4000, weight.cast_signed(), digits),
            [] => Err(Malformed("is too short for a numeric")),
        },
    }
}

fn words(bytes: &[u8]) -> Result<impl Iterator<Item = [u8; 2]>, Malformed> {
    let (words, rest) = bytes.as_chunks::<2>();
    let fits = rest.is_empty() && words.len() <= DIGITS_MAX + 4;
    if fits { Ok(words.iter().copied()) } else { Err(Malformed("has no length of a numeric")) }
}

fn special(sign: u16) -> Result<f64, Malformed> {
    match sign {
        0xc000 => Ok(f64::NAN),
        0xd000 => Ok(f64::INFINITY),
        0xf000 => Ok(f64::NEG_INFINITY),
        _ => Err(Malformed("is a numeric of an unknown kind")),
    }
}

/// The nearest f64. Where digits and power of ten are exact, one rounding of a product or quotient
/// is the nearest one (Clinger, *How to Read Floating Point Numbers Accurately*, PLDI 1990); else the
/// decimal text is parsed.
fn value(is_negative: bool, weight: i16, digits: &[u16]) -> Result<f64, Malformed> {
    if digits.iter().any(|&digit| digit >= 10_000) {
        return Err(Malformed("is a numeric with a digit beyond 9999"));
    }
    let behind = i32::try_from(digits.len()).expect("digits are bounded") - 1 - i32::from(weight);
    let mut exponent = -4 * behind;
    let mut whole = digits
        .iter()
        .try_fold(0_u64, |sum, &digit| sum.checked_mul(10_000)?.checked_add(u64::from(digit)));
    while let Some(value) = whole.as_mut().filter(|value| **value != 0 && **value % 10 == 0) {
        *value /= 10;
        exponent += 1;
    }
    let magnitude = match whole {
        Some(0) => 0.0,
        Some(whole) if whole <= EXACT_MAX && exponent.unsigned_abs() <= EXACT_POWER_MAX => {
            #[expect(clippy::cast_precision_loss, reason = "it is exact up to 2^53")]
            let whole = whole as f64;
            let power = 10_f64.powi(exponent.abs());
            if exponent < 0 { whole / power } else { whole * power }
        }
        _ => {
            let mut text = String::with_capacity(4 * digits.len() + 8);
            for digit in digits {
                let _ = write!(text, "{digit:04}");
            }
            let _ = write!(text, "e{}", -4 * behind);
            text.parse().expect("digits with an exponent are a number")
        }
    };
    Ok(if is_negative { -magnitude } else { magnitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn heap(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn digits_of_base_ten_thousand_become_the_nearest_float() {
        for (weight, digits, wanted) in [
            (0_i16, vec![1], 1.0),
            (0, vec![0], 0.0),
            (0, vec![], 0.0),
            (1, vec![12, 3400], 123_400.0),
            (0, vec![1, 2345, 6789, 123, 4567], 1.234_567_890_123_456_7),
            (-1, vec![1000], 0.1),
            (-6, vec![1], 1e-24),
            (77, vec![1], 1e308),
            (4, vec![9_007, 1992, 5474, 993], 9_007_199_254_740_993e4),
        ] {
            let count = u16::try_from(digits.len()).unwrap();
            let mut words = vec![count, weight.cast_unsigned(), 0, 0];
            words.extend(&digits);
            assert_eq!(from_wire(&wire(&words)).unwrap(), wanted);
            words[2] = 0x4000;
            assert_eq!(from_wire(&wire(&words)).unwrap(), -wanted);
            let mut long = vec![0x4000, weight.cast_unsigned()];
            long.extend(&digits);
            assert_eq!(from_heap(&heap(&long)).unwrap(), -wanted);
            if (-64..64).contains(&weight) {
                let mut short = vec![0x8000 | (weight.cast_unsigned() & 0x7f)];
                short.extend(&digits);
                assert_eq!(from_heap(&heap(&short)).unwrap(), wanted);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_said() {
        assert!(from_wire(&wire(&[0, 0, 0xc000, 0])).unwrap().is_nan());
        assert_eq!(from_heap(&heap(&[0xd000])).unwrap(), f64::INFINITY);
        assert_eq!(from_heap(&heap(&[0xf000])).unwrap(), f64::NEG_INFINITY);
        for words in [&[1, 0, 0, 0][..], &[1, 0, 0, 0, 10_000], &[0, 0, 1, 0], &[0, 0, 0]] {
            assert!(from_wire(&wire(words)).is_err(), "{words:?}");
        }
        assert!(from_heap(&[]).is_err() && from_heap(&[1]).is_err());
    }
}
