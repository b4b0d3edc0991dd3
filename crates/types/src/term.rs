//! Names with parameters, as people write losses and metrics: `huber(delta=0.5)`.

use std::fmt;

/// A text that names no loss, metric or precision, or names its parameters wrong; says what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidTerm(pub(crate) String);

/// A name and its parameters: `name`, or `name(parameter=value, …)`. White space does not count,
/// nor do quotes around a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// As written.
    pub(crate) name: String,
    parameters: Vec<(String, String)>,
}

impl Term {
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidTerm> {
        let text = text.trim();
        let Some((name, rest)) = text.split_once('(') else {
            return Ok(Self { name: text.to_owned(), parameters: Vec::new() });
        };
        let malformed = || InvalidTerm(format!("{text:?} is not `name(parameter=value, …)`"));
        let inner = rest.strip_suffix(')').ok_or_else(malformed)?;
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in inner.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(malformed)?;
            let (key, value) = (key.trim(), value.trim().trim_matches(['\'', '"']));
            if parameters.iter().any(|(other, _)| other == key) {
                return Err(InvalidTerm(format!("{text:?} gives {key} twice")));
            }
            parameters.push((key.to_owned(), value.to_owned()));
        }
        Ok(Self { name: name.trim().to_owned(), parameters })
    }

    /// The name without case and underscores, so that `mean_squared_error` and Keras's class
    /// `MeanSquaredError` are the same.
    pub(crate) fn key(&self) -> String {
        self.name.replace('_', "").to_lowercase()
    }

    /// Refuses parameters other than these.
    pub(crate) fn allow(&self, known: &[&str]) -> Result<(), InvalidTerm> {
        let Some((key, _)) = self.parameters.iter().find(|(key, _)| !known.contains(&&**key))
        else {
            return Ok(());
        };
        let name = &self.name;
        Err(InvalidTerm(match known {
            [] => format!("{name} has no parameters, so no {key}"),
            known => format!("{name} has no parameter {key}; it has {}", known.join(", ")),
        }))
    }

    /// A number that `is_right`, which `rule` says in words; `default` where it is not given.
    pub(crate) fn number(
        &self,
        key: &str,
        default: f64,
        rule: &str,
        is_right: impl Fn(f64) -> bool,
    ) -> Result<f64, InvalidTerm> {
        let Some(text) = self.value(key) else { return Ok(default) };
        let number = text.parse::<f64>().ok().filter(|number| is_right(*number));
        number.ok_or_else(|| self.refuse(key, text, rule))
    }

    /// A flag; false where it is not given.
    pub(crate) fn flag(&self, key: &str) -> Result<bool, InvalidTerm> {
        match self.value(key) {
            None | Some("false" | "False") => Ok(false),
            Some("true" | "True") => Ok(true),
            Some(text) => Err(self.refuse(key, text, "true or false")),
        }
    }

    /// One of the named choices; the first one where it is not given.
    pub(crate) fn choice<T: Copy>(
        &self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<T, InvalidTerm> {
        let Some(text) = self.value(key) else { return Ok(choices[0].1) };
        let found = choices.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            self.refuse(key, text, &format!("one of {}", names.join(", ")))
        })
    }

    /// A parameter's text, where it is given; Python's `None` gives nothing.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        let given = self.parameters.iter().find(|(other, _)| other == key);
        given.map(|(_, value)| value.as_str()).filter(|value| *value != "None")
    }

    fn refuse(&self, key: &str, found: &str, rule: &str) -> InvalidTerm {
        InvalidTerm(format!("{key} of {} must be {rule}, not {found:?}", self.name))
    }
}

/// Writes a name with those of its parameters that are given.
pub(crate) fn write(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    parameters: &[Option<(&str, String)>],
) -> fmt::Result {
    let given: Vec<String> =
        parameters.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    if given.is_empty() { f.write_str(name) } else { write!(f, "{name}({})", given.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_parameters_are_read_whatever_the_spacing_and_quotes() {
        let term = Term::parse(" F1_Score( average = 'micro',threshold=None, x=\"1\" ) ").unwrap();
        assert_eq!((term.name.as_str(), term.key().as_str()), ("F1_Score", "f1score"));
        let values = ["average", "threshold", "x", "y"].map(|key| term.value(key));
        assert_eq!(values, [Some("micro"), None, Some("1"), None]);
        assert_eq!(Term::parse("mse").unwrap(), Term::parse("mse()").unwrap());
    }

    #[test]
    fn what_is_wrong_is_said_with_what_would_be_right() {
        let refused = |text: &str| {
            let read = |text: &str| {
                let term = Term::parse(text)?;
                term.allow(&["delta", "on"])?;
                term.flag("on")?;
                term.number("delta", 1.0, "above 0", |delta| delta > 0.0)
            };
            read(text).unwrap_err().to_string()
        };
        let table = [
            ("huber(delta", "\"huber(delta\" is not `name(parameter=value, …)`"),
            ("huber(1)", "\"huber(1)\" is not `name(parameter=value, …)`"),
            ("huber(delta=1,delta=2)", "\"huber(delta=1,delta=2)\" gives delta twice"),
            ("huber(gamma=1)", "huber has no parameter gamma; it has delta, on"),
            ("huber(delta=nan)", "delta of huber must be above 0, not \"nan\""),
            ("huber(on=1)", "on of huber must be true or false, not \"1\""),
        ];
        for (text, expected) in table {
            assert_eq!(refused(text), expected);
        }
    }
}
