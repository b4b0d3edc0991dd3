//! An optimizer as it is written in MADlib's compile parameters: `Adam`, `Adam()` or
//! `Adam(lr=0.01, amsgrad=True)`; and what tf.keras then makes of it.

use arrowhop_types::Problems;
use arrowhop_types::optimizer::{Domain, Method, Optimizer, Parameter, ParameterValue, Semantics};

use super::Noted;
use super::literal::without_underscores;

/// What Keras's ε is where none is given.
const USUAL_EPSILON: f64 = 1e-7;

/// Reads an optimizer; MADlib wants the name's own case where there are parameters, this does not.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn parse(text: &str, semantics: Semantics) -> Result<Noted<Optimizer>, Problems> {
    let (name, rest) = match text.split_once('(') {
        None => (text, None),
        Some((name, rest)) => (name, Some(rest)),
    };
    let plain = Optimizer::named(name, semantics).map_err(|found| {
        let mut problems = Problems::new();
        found.iter().for_each(|problem| problems.push("optimizer", problem.text.as_str()));
        problems
    })?;
    let arguments = match rest.map(|rest| rest.strip_suffix(')')) {
        None => "",
        Some(Some(arguments)) => arguments,
        Some(None) => return Err(Problems::one("optimizer", "lacks its closing parenthesis")),
    };
    let mut call = Call { known: plain.parameters(), plain, values: Vec::new(), warnings: vec![] };
    let mut problems = Problems::new();
    let arguments = if arguments.trim().is_empty() { Vec::new() } else { pairs(arguments) };
    for (name, value) in &arguments {
        let read = value.ok_or_else(|| "is not name=value".to_owned());
        if let Err(text) = read.and_then(|value| call.set(name, value, &arguments)) {
            problems.push(format!("optimizer.{name}"), text);
        }
    }
    let optimizer = call.plain.with(&call.values);
    if let Err(found) = &optimizer {
        problems.extend("optimizer.", found);
    }
    match optimizer {
        Ok(value) if problems.is_empty() => Ok(Noted { value, warnings: call.warnings }),
        _ => Err(problems),
    }
}

/// Names and values; a part without a value has none.
fn pairs(arguments: &str) -> Vec<(&str, Option<&str>)> {
    let pair = |part| match str::split_once(part, '=') {
        Some((name, value)) => (name.trim(), Some(value.trim())),
        None => (part.trim(), None),
    };
    arguments.split(',').map(pair).collect()
}

/// A call as its arguments are read.
struct Call<'a> {
    plain: Optimizer,
    known: Vec<Parameter>,
    values: Vec<(&'a str, ParameterValue)>,
    warnings: Vec<String>,
}

impl<'a> Call<'a> {
    /// Reads one argument. The last of a name counts.
    fn set(
        &mut self,
        name: &'a str,
        value: &str,
        all: &[(&str, Option<&str>)],
    ) -> Result<(), String> {
        let Some(name) = self.meant(name, all) else { return Ok(()) };
        let domain = self.known.iter().find(|known| known.name == name).map(|known| known.domain);
        let value = match value {
            "None" => return self.unset(name),
            "True" | "False" => {
                if value == "False" && domain == Some(Domain::Flag) {
                    let text = "False is read as True, as MADlib reads it; leave it out";
                    self.warnings.push(format!("optimizer.{name}: {text}"));
                }
                ParameterValue::Flag(true)
            }
            text => {
                let number = without_underscores(text).and_then(|text| text.parse::<f64>().ok());
                let number = number
                    .ok_or_else(|| format!("{text:?} is not a number, None, True or False"))?;
                match domain {
                    Some(Domain::Flag) => ParameterValue::Flag(number != 0.0),
                    Some(_) if name == "epsilon" && number == 0.0 && self.is_legacy() => {
                        let text = "tf.keras takes 0 for its usual 1e-7";
                        self.warnings.push(format!("optimizer.{name}: {text}"));
                        ParameterValue::Number(USUAL_EPSILON)
                    }
                    _ => ParameterValue::Number(number),
                }
            }
        };
        self.values.retain(|(known, _)| *known != name);
        self.values.push((name, value));
        Ok(())
    }

    /// The parameter that Keras takes a name for; none where it takes no notice of it.
    fn meant(&mut self, name: &'a str, all: &[(&str, Option<&str>)]) -> Option<&'a str> {
        let ignored = match (name, self.is_legacy(), &self.plain.method) {
            ("lr", false, _) => "is ignored by Keras from 2.11, so that the rate is the usual one",
            ("lr", true, Method::Ftrl(_)) => {
                "is ignored by tf.keras's Ftrl, so that the rate is the usual one"
            }
            ("decay", true, Method::Nadam(_)) => "is ignored by tf.keras's Nadam",
            ("lr", true, _) => return Some("learning_rate"),
            ("learning_rate", true, method)
                if !matches!(method, Method::Ftrl(_)) && all.iter().any(|(n, _)| *n == "lr") =>
            {
                "gives way to lr"
            }
            _ => return Some(name),
        };
        self.warnings.push(format!("optimizer.{name}: {ignored}"));
        None
    }

    /// `None` stands for not given, where Keras takes it.
    fn unset(&mut self, name: &str) -> Result<(), String> {
        let may_be = match name {
            "epsilon" => self.is_legacy(),
            "clipnorm" | "clipvalue" | "global_clipnorm" => true,
            "weight_decay" => !matches!(self.plain.method, Method::AdamW(_)),
            "ema_overwrite_frequency" => true,
            _ => false,
        };
        if !may_be {
            return Err("cannot be None".to_owned());
        }
        self.values.retain(|(known, _)| *known != name);
        Ok(())
    }

    fn is_legacy(&self) -> bool {
        self.plain.semantics == Semantics::Legacy
    }
}

/// The class's name and all parameters that are set. MADlib cannot be told `False`, which is every
/// flag's default and left out.
pub(super) fn text(optimizer: &Optimizer) -> String {
    let set = optimizer.parameters().into_iter().filter_map(|parameter| {
        let value = match parameter.value? {
            ParameterValue::Flag(false) => return None,
            ParameterValue::Flag(true) => "True".to_owned(),
            ParameterValue::Number(number) => format!("{number:?}"),
            numbers @ ParameterValue::Numbers(_) => numbers.to_string(),
        };
        Some(format!("{}={value}", parameter.name))
    });
    format!("{}({})", class(&optimizer.method), set.collect::<Vec<_>>().join(","))
}

/// Keras's name of the class.
fn class(method: &Method) -> &'static str {
    match method {
        Method::Sgd(_) => "SGD",
        Method::RmsProp(_) => "RMSprop",
        Method::Adam(_) => "Adam",
        Method::AdamW(_) => "AdamW",
        Method::Adamax(_) => "Adamax",
        Method::Nadam(_) => "Nadam",
        Method::Adagrad(_) => "Adagrad",
        Method::Adadelta(_) => "Adadelta",
        Method::Ftrl(_) => "Ftrl",
        Method::Lion(_) => "Lion",
        Method::Adafactor(_) => "Adafactor",
        Method::Lamb(_) => "Lamb",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Semantics::{Current, Legacy};

    fn read(text: &str, semantics: Semantics) -> (String, Vec<String>) {
        let Noted { value, warnings } = parse(text, semantics).unwrap();
        (value.to_string(), warnings)
    }

    #[test]
    fn calls_are_read_as_madlib_and_keras_read_them() {
        let table = [
            ("sgd", Legacy, "legacy sgd 0.01"),
            ("SGD()", Legacy, "legacy sgd 0.01"),
            ("SGD( )", Legacy, "legacy sgd 0.01"),
            (
                "SGD(lr=0.01, decay=1e-6, nesterov=True)",
                Legacy,
                "legacy sgd 0.01 decay 1e-6 nesterov true",
            ),
            ("rmsPROP( lr = .5 ,rho=1_0e-2 )", Legacy, "legacy rmsprop 0.5 rho 0.1"),
            ("Adam(lr=0.1,lr=0.2)", Legacy, "legacy adam 0.2"),
            ("Adam(amsgrad=1, epsilon=None)", Legacy, "legacy adam 0.001 amsgrad true"),
            ("Adam(amsgrad=0.0, clipnorm=None)", Legacy, "legacy adam 0.001"),
            ("Adam(clipnorm=2, clipnorm=None)", Legacy, "legacy adam 0.001"),
            ("Nadam(schedule_decay=0.01)", Legacy, "legacy nadam 0.001 schedule_decay 0.01"),
            ("Ftrl(learning_rate=0.5)", Legacy, "legacy ftrl 0.5"),
            ("AdamW(learning_rate=0.5, weight_decay=0.1)", Current, "adamw 0.5 weight_decay 0.1"),
            ("Lion(use_ema=True)", Current, "lion 0.001 use_ema true ema_momentum 0.99"),
        ];
        for (text, semantics, expected) in table {
            assert_eq!(read(text, semantics), (expected.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn what_is_read_otherwise_than_it_looks_is_warned_of() {
        let table = [
            ("Adam(lr=0.5)", Current, "adam 0.001", "optimizer.lr: is ignored by Keras from 2.11"),
            (
                "Ftrl(lr=0.5)",
                Legacy,
                "legacy ftrl 0.001",
                "optimizer.lr: is ignored by tf.keras's Ft",
            ),
            (
                "Nadam(decay=0.5)",
                Legacy,
                "legacy nadam 0.001",
                "optimizer.decay: is ignored by tf.k",
            ),
            (
                "SGD(nesterov=False)",
                Legacy,
                "legacy sgd 0.01 nesterov true",
                "optimizer.nesterov: False is read as True",
            ),
            (
                "Adam(epsilon=0)",
                Legacy,
                "legacy adam 0.001",
                "optimizer.epsilon: tf.keras takes 0 for",
            ),
            (
                "Adam(lr=0.5, learning_rate=0.1)",
                Legacy,
                "legacy adam 0.5",
                "optimizer.learning_rate: gives way to lr",
            ),
        ];
        for (text, semantics, expected, warning) in table {
            let (found, warnings) = read(text, semantics);
            assert_eq!(found, expected, "{text}");
            assert!(warnings.len() == 1 && warnings[0].starts_with(warning), "{warnings:?}");
        }
    }

    #[test]
    fn what_is_no_call_is_refused() {
        let table = [
            ("SGD1", Legacy, "optimizer: \"SGD1\" is not known; known: sgd, rmsprop, adam"),
            ("Adam (lr=1)", Legacy, "optimizer: \"Adam \" is not known"),
            ("AdamW", Legacy, "optimizer: \"AdamW\" is of the current semantics"),
            ("SGD(lr=0.01, nesterov=True", Legacy, "optimizer: lacks its closing parenthesis"),
            (
                "SGD(lr=0.01 decay=1e-6)",
                Legacy,
                "optimizer.lr: \"0.01 decay=1e-6\" is not a number",
            ),
            ("SGD(0.01)", Legacy, "optimizer.0.01: is not name=value"),
            ("SGD(lr=0.01,)", Legacy, "optimizer.: is not name=value"),
            (
                "SGD(lr='0.01')",
                Legacy,
                "optimizer.lr: \"'0.01'\" is not a number, None, True or False",
            ),
            ("SGD(lr=Decay(0.1))", Legacy, "optimizer.lr: \"Decay(0.1)\" is not a number"),
            ("SGD(lr=None)", Legacy, "optimizer.lr: cannot be None"),
            ("SGD(lr=True)", Legacy, "optimizer.learning_rate: must be a number above 0, not true"),
            (
                "SGD(momentum=nan)",
                Legacy,
                "optimizer.momentum: must be a number from 0 to 1, not NaN",
            ),
            ("SGD(theta=1)", Legacy, "optimizer.theta: sgd has no such parameter; it has"),
            ("SGD(decay=0.1)", Current, "optimizer.decay: is of the legacy semantics"),
            ("Adam(epsilon=None)", Current, "optimizer.epsilon: cannot be None"),
        ];
        for (text, semantics, expected) in table {
            let problems = parse(text, semantics).unwrap_err().to_string();
            assert!(problems.starts_with(expected), "{problems}");
        }
    }
}
