//! An optimizer's parameters by name: what values each may have, and where its value lies. It is
//! what experiments, records and messages are written in terms of.

use std::fmt;

/// A parameter of an optimizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Keras's name; that of a schedule's parameter begins with `learning_rate.`.
    pub name: &'static str,
    /// The values it may have.
    pub domain: Domain,
    /// Its value; none where it is not set.
    pub value: Option<ParameterValue>,
}

/// What a parameter is set to.
#[derive(Debug, Clone, PartialEq)]
pub enum ParameterValue {
    /// A number, whole or not.
    Number(f64),
    /// Yes or no.
    Flag(bool),
    /// A list.
    Numbers(Vec<f64>),
}

/// The values that a parameter may have. All numbers are finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Domain {
    /// Above 0.
    Positive,
    /// At least 0.
    NotNegative,
    /// At most 0.
    NotPositive,
    /// At least 1.
    AtLeastOne,
    /// In `[0, 1)`.
    Fraction,
    /// In `[0, 1]`.
    Share,
    /// In `(0, 1]`.
    PositiveShare,
    /// A whole number from 1, in 32 bits.
    Count,
    /// A flag.
    Flag,
    /// A list of numbers from 0.
    Rates,
    /// A list of rising whole numbers from 0.
    Steps,
}

impl Domain {
    /// Whether a parameter may have this value.
    #[must_use]
    pub fn has(self, value: &ParameterValue) -> bool {
        match value {
            ParameterValue::Number(number) => number.is_finite() && self.has_number(*number),
            ParameterValue::Flag(_) => self == Self::Flag,
            ParameterValue::Numbers(numbers) => match self {
                Self::Rates => numbers.iter().all(|rate| rate.is_finite() && *rate >= 0.0),
                Self::Steps => {
                    let whole =
                        |step: &f64| step.is_finite() && step.fract() == 0.0 && *step >= 0.0;
                    numbers.iter().all(whole) && numbers.is_sorted_by(|a, b| a < b)
                }
                _ => false,
            },
        }
    }

    fn has_number(self, number: f64) -> bool {
        match self {
            Self::Positive => number > 0.0,
            Self::NotNegative => number >= 0.0,
            Self::NotPositive => number <= 0.0,
            Self::AtLeastOne => number >= 1.0,
            Self::Fraction => (0.0..1.0).contains(&number),
            Self::Share => (0.0..=1.0).contains(&number),
            Self::PositiveShare => number > 0.0 && number <= 1.0,
            Self::Count => number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number),
            Self::Flag | Self::Rates | Self::Steps => false,
        }
    }

    /// The values in words, after "must be".
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Positive => "a number above 0",
            Self::NotNegative => "a number from 0",
            Self::NotPositive => "a number of at most 0",
            Self::AtLeastOne => "a number from 1",
            Self::Fraction => "a number from 0 to below 1",
            Self::Share => "a number from 0 to 1",
            Self::PositiveShare => "a number above 0 and at most 1",
            Self::Count => "a whole number from 1",
            Self::Flag => "true or false",
            Self::Rates => "a list of numbers from 0",
            Self::Steps => "a list of rising whole numbers from 0",
        }
    }
}

impl fmt::Display for ParameterValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write_number(f, *number),
            Self::Flag(flag) => write!(f, "{flag}"),
            Self::Numbers(numbers) => {
                f.write_str("[")?;
                for (i, number) in numbers.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    write_number(f, *number)?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Exactly, and with an exponent where that is easier to read.
fn write_number(f: &mut fmt::Formatter<'_>, number: f64) -> fmt::Result {
    if number == 0.0 || (1e-4..1e7).contains(&number.abs()) {
        write!(f, "{number}")
    } else {
        write!(f, "{number:e}")
    }
}

/// A parameter and the place its value is kept at.
pub(super) struct Field<'a> {
    pub(super) name: &'static str,
    pub(super) domain: Domain,
    place: Place<'a>,
}

enum Place<'a> {
    /// NaN: not given yet, but needed.
    Number(&'a mut f64),
    Optional(&'a mut Option<f64>),
    Flag(&'a mut bool),
    /// Empty: not given yet, but needed.
    Numbers(&'a mut Vec<f64>),
}

impl<'a> Field<'a> {
    pub(super) fn number(name: &'static str, domain: Domain, place: &'a mut f64) -> Self {
        Self { name, domain, place: Place::Number(place) }
    }

    pub(super) fn optional(name: &'static str, domain: Domain, place: &'a mut Option<f64>) -> Self {
        Self { name, domain, place: Place::Optional(place) }
    }

    pub(super) fn flag(name: &'static str, place: &'a mut bool) -> Self {
        Self { name, domain: Domain::Flag, place: Place::Flag(place) }
    }

    pub(super) fn numbers(name: &'static str, domain: Domain, place: &'a mut Vec<f64>) -> Self {
        Self { name, domain, place: Place::Numbers(place) }
    }

    pub(super) fn value(&self) -> Option<ParameterValue> {
        match &self.place {
            Place::Number(number) => {
                Some(ParameterValue::Number(**number)).filter(|_| !number.is_nan())
            }
            Place::Optional(number) => number.map(ParameterValue::Number),
            Place::Flag(flag) => Some(ParameterValue::Flag(**flag)),
            Place::Numbers(numbers) => {
                Some(ParameterValue::Numbers(numbers.to_vec())).filter(|_| !numbers.is_empty())
            }
        }
    }

    /// Whether there must be a value, and is none.
    pub(super) fn is_missing(&self) -> bool {
        !matches!(self.place, Place::Optional(_)) && self.value().is_none()
    }

    /// Keeps the value.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn set(&mut self, value: &ParameterValue) -> Result<(), String> {
        if !self.domain.has(value) {
            return Err(format!("must be {}, not {value}", self.domain.text()));
        }
        match (&mut self.place, value) {
            (Place::Number(place), ParameterValue::Number(number)) => **place = *number,
            (Place::Optional(place), ParameterValue::Number(number)) => **place = Some(*number),
            (Place::Flag(place), ParameterValue::Flag(flag)) => **place = *flag,
            (Place::Numbers(place), ParameterValue::Numbers(list)) => place.clone_from(list),
            _ => unreachable!("a domain has values of its place's kind alone"),
        }
        Ok(())
    }
}
