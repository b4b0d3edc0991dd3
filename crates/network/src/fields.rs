//! Typed reading of one JSON object. Whatever is wrong is noted under its JSON pointer (RFC 6901),
//! and reading goes on with a harmless value, so that one pass finds every problem. Missing and
//! null fields take their default.

use arrowhop_types::Problems;
use serde_json::{Map, Value};

/// No length, kernel or stride is larger.
pub(crate) const SIZE_MAX: usize = 1 << 24;

/// A JSON object, where it stands, and what was found wrong in it.
pub(crate) struct Fields<'a> {
    object: &'a Map<String, Value>,
    place: String,
    problems: Problems,
}

impl<'a> Fields<'a> {
    /// Reads `value`, which stands at `place`; notes a problem where it is no object.
    pub(crate) fn of(value: &'a Value, place: String, problems: &mut Problems) -> Option<Self> {
        let Value::Object(object) = value else {
            problems.push(place, format!("must be an object, not {}", shown(value)));
            return None;
        };
        Some(Self { object, place, problems: Problems::new() })
    }

    /// The JSON pointer of a field.
    pub(crate) fn at(&self, key: &str) -> String {
        format!("{}/{}", self.place, key.replace('~', "~0").replace('/', "~1"))
    }

    /// Notes a problem with a field.
    pub(crate) fn problem(&mut self, key: &str, text: impl Into<String>) {
        self.problems.push(self.at(key), text);
    }

    /// Notes a problem with the whole object.
    pub(crate) fn problem_here(&mut self, text: impl Into<String>) {
        self.problems.push(self.place.clone(), text);
    }

    /// Where problems are noted.
    pub(crate) fn problems(&mut self) -> &mut Problems {
        &mut self.problems
    }

    /// Hands over what was found; whether nothing was.
    pub(crate) fn finish(self, problems: &mut Problems) -> bool {
        problems.extend("", &self.problems);
        self.problems.is_empty()
    }

    /// A field that is there and not null.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// The names of all fields that are not null.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.object.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key.as_str())
    }

    /// A text.
    pub(crate) fn text(&mut self, key: &str) -> Option<&'a str> {
        self.read(key, "a text", Value::as_str)
    }

    /// A text that must be there.
    pub(crate) fn required_text(&mut self, key: &str) -> Option<&'a str> {
        if self.value(key).is_none() {
            self.problem(key, "is missing");
        }
        self.text(key)
    }

    /// True or false.
    pub(crate) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.read(key, "true or false", Value::as_bool).unwrap_or(default)
    }

    /// A finite number.
    pub(crate) fn number(&mut self, key: &str, default: f64) -> f64 {
        self.read(key, "a number", |value| value.as_f64().filter(|x| x.is_finite()))
            .unwrap_or(default)
    }

    /// A length that must be there.
    pub(crate) fn required_size(&mut self, key: &str) -> Option<usize> {
        if self.value(key).is_none() {
            self.problem(key, "is missing");
        }
        self.read(key, &format!("a whole number from 1 to {SIZE_MAX}"), size_of)
    }

    /// A length.
    pub(crate) fn size(&mut self, key: &str, default: usize) -> usize {
        match self.value(key) {
            Some(_) => self.required_size(key).unwrap_or(default),
            None => default,
        }
    }

    /// As many lengths as there are axes, given as a list or as one number for all.
    pub(crate) fn sizes(&mut self, key: &str, axes: usize) -> Option<Vec<usize>> {
        let expected = match axes {
            1 => format!("a whole number from 1 to {SIZE_MAX}"),
            _ => format!("1 or {axes} whole numbers from 1 to {SIZE_MAX}"),
        };
        self.read(key, &expected, |value| match value.as_array() {
            Some(items) if items.len() == axes => items.iter().map(size_of).collect(),
            Some(_) => None,
            None => Some(vec![size_of(value)?; axes]),
        })
    }

    /// As many lengths as there are axes, which must be there.
    pub(crate) fn required_sizes(&mut self, key: &str, axes: usize) -> Option<Vec<usize>> {
        if self.value(key).is_none() {
            self.problem(key, "is missing");
        }
        self.sizes(key, axes)
    }

    /// Whether a field is there, and null: where that means something else than its absence.
    pub(crate) fn is_null(&self, key: &str) -> bool {
        self.object.get(key).is_some_and(Value::is_null)
    }

    /// A field as `read` takes it; notes a problem where it does not.
    pub(crate) fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.value(key)?;
        let read = read(value);
        if read.is_none() {
            self.problem(key, format!("must be {expected}, not {}", shown(value)));
        }
        read
    }
}

/// A length as JSON has it.
pub(crate) fn size_of(value: &Value) -> Option<usize> {
    let size = usize::try_from(value.as_u64()?).ok()?;
    (1..=SIZE_MAX).contains(&size).then_some(size)
}

/// A value for a message: short, whatever it is.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".into(),
        Value::Array(items) if items.len() > 4 => format!("a list of {}", items.len()),
        Value::Array(items) if items.iter().any(|item| item.is_array() || item.is_object()) => {
            "a nested list".into()
        }
        Value::String(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => value.to_string(),
    }
}
