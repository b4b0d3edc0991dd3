//! Optimizers: how a model's weights follow its gradients. Methods, learning rates and the rest,
//! with Keras's names and defaults in both of its semantics, and the same by name. The updates
//! themselves are in `arrowhop_train`.
//!
//! ```
//! use arrowhop_types::optimizer::{Optimizer, ParameterValue, Semantics};
//!
//! let adam = Optimizer::named("Adam", Semantics::Current)?;
//! let faster = adam.with(&[("learning_rate", ParameterValue::Number(0.01))])?;
//! assert_eq!(faster.to_string(), "adam 0.01");
//! let problems = faster.with(&[("decay", ParameterValue::Number(0.1))]).unwrap_err();
//! assert!(problems.to_string().starts_with("decay: is of the legacy semantics"));
//! # Ok::<(), arrowhop_types::Problems>(())
//! ```

mod draft;
mod learning_rate;
mod method;
mod parameters;

use std::fmt;

use crate::Problems;

use self::draft::Draft;
pub use self::learning_rate::LearningRate;
pub use self::method::{
    Adadelta, Adafactor, Adagrad, Adam, Adamax, Ftrl, Lamb, Lion, Method, Nadam, RmsProp, Sgd,
};
pub use self::parameters::{Domain, Parameter, ParameterValue};

/// An optimizer with all its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    /// The rule of the update.
    pub method: Method,
    /// The step size.
    pub learning_rate: LearningRate,
    /// Bounds of the gradients.
    pub clipping: Option<Clipping>,
    /// Before each step a weight loses this share of itself, times the learning rate.
    pub weight_decay: Option<f64>,
    /// A moving average of the weights.
    pub averaging: Option<Averaging>,
    /// Which Keras's formulas.
    pub semantics: Semantics,
}

/// Whose formulas and parameters are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Semantics {
    /// tf.keras up to 2.10, and so MADlib.
    Legacy,
    /// Keras from 2.11, and 3.
    Current,
}

/// How large gradients may be; larger ones are made smaller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clipping {
    /// The absolute value of each component: `clipvalue`.
    Value(f64),
    /// The Euclidean norm of each weight array's gradient: `clipnorm`.
    Norm(f64),
    /// The Euclidean norm of all gradients together: `global_clipnorm`.
    GlobalNorm(f64),
}

/// An exponential moving average of the trainable weights, which the model is used with once it is
/// trained. It starts at the weights after the first step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averaging {
    /// The average's share of itself at each step.
    pub momentum: f64,
    /// After so many steps, again and again, training goes on from the average.
    pub overwrite_frequency: Option<u32>,
}

impl Optimizer {
    /// A method with Keras's default rate, and weight decay in the case of AdamW.
    #[must_use]
    pub fn new(method: Method, semantics: Semantics) -> Self {
        let learning_rate = LearningRate::Constant(method.usual_rate());
        let weight_decay = matches!(method, Method::AdamW(_)).then_some(0.004);
        Self { method, learning_rate, clipping: None, weight_decay, averaging: None, semantics }
    }

    /// An optimizer by its name, in whatever case, with Keras's defaults.
    ///
    /// # Errors
    /// When there is none of that name; the text lists those there are.
    pub fn named(name: &str, semantics: Semantics) -> Result<Self, Problems> {
        let methods = Method::all(semantics);
        let known = methods.iter().map(Method::name).collect::<Vec<_>>().join(", ");
        let is_meant = |method: &Method| method.name() == name.to_lowercase();
        if let Some(method) = methods.into_iter().find(is_meant) {
            return Ok(Self::new(method, semantics));
        }
        let other = Method::all(semantics.other()).iter().any(is_meant);
        let text = if other {
            format!("{name:?} is of {}; {} has {known}", semantics.other(), semantics)
        } else {
            format!("{name:?} is not known; known: {known}")
        };
        Err(Problems::one("name", text))
    }

    /// The same with another, constant learning rate.
    #[must_use]
    pub fn at_rate(self, rate: f64) -> Self {
        Self { learning_rate: LearningRate::Constant(rate), ..self }
    }

    /// The same with a schedule by its name. Those of its parameters that Keras has no default for
    /// are yet to be given: until then [`Optimizer::check`] misses them.
    ///
    /// # Errors
    /// When there is none of that name; the text lists those there are.
    pub fn scheduled(self, name: &str) -> Result<Self, Problems> {
        let schedules = LearningRate::schedules();
        let known = schedules.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        match schedules.into_iter().find(|(known, _)| *known == name) {
            Some((_, learning_rate)) => Ok(Self { learning_rate, ..self }),
            None => Err(Problems::one(
                "learning_rate.schedule",
                format!("{name:?} is not known; known: {known}"),
            )),
        }
    }

    /// Keras's name of its method, in lower case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.method.name()
    }

    /// All parameters that it has, set or not, in the order of Keras's arguments.
    #[must_use]
    pub fn parameters(&self) -> Vec<Parameter> {
        Draft::of(self).parameters()
    }

    /// The same with these parameters.
    ///
    /// # Errors
    /// All that is wrong with the result, by the parameters' names: there is no such parameter, it
    /// may not have that value, it goes with no other one, or one is missing.
    pub fn with(&self, values: &[(&str, ParameterValue)]) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut draft = Draft::of(self);
        for (name, value) in values {
            if let Err(text) = draft.set(name, value) {
                problems.push(*name, text);
            }
        }
        let (optimizer, others) = draft.finish();
        add_others(&mut problems, &others);
        problems.or(optimizer)
    }

    /// Checks every value, and that they go together.
    ///
    /// # Errors
    /// As [`Optimizer::with`].
    pub fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::new();
        for parameter in self.parameters() {
            if let Some(value) = parameter.value.filter(|value| !parameter.domain.has(value)) {
                let text = format!("must be {}, not {value}", parameter.domain.text());
                problems.push(parameter.name, text);
            }
        }
        let (_, others) = Draft::of(self).finish();
        add_others(&mut problems, &others);
        problems.or(())
    }

    /// The optimizer that this one would be if no parameter had been given but a schedule.
    fn usual(&self) -> Self {
        let usual = Self::named(self.name(), self.semantics);
        let usual = usual.unwrap_or_else(|_| Self::new(self.method, self.semantics));
        match self.learning_rate.schedule() {
            Some(schedule) => usual.clone().scheduled(schedule).unwrap_or(usual),
            None => usual,
        }
    }
}

/// Adds the problems of parameters that have none yet.
fn add_others(problems: &mut Problems, others: &Problems) {
    for other in others.iter() {
        if !problems.iter().any(|known| known.place == other.place) {
            problems.push(other.place.clone(), other.text.clone());
        }
    }
}

impl Semantics {
    /// The other one.
    fn other(self) -> Self {
        match self {
            Self::Legacy => Self::Current,
            Self::Current => Self::Legacy,
        }
    }
}

impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Legacy => "the legacy semantics (tf.keras up to 2.10)",
            Self::Current => "the current semantics (Keras from 2.11)",
        })
    }
}

/// A few characters: its name, its rate, and what is not the default.
impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.semantics == Semantics::Legacy {
            f.write_str("legacy ")?;
        }
        f.write_str(self.name())?;
        if let Some(schedule) = self.learning_rate.schedule() {
            write!(f, " {schedule}")?;
        }
        let usual = self.usual().parameters();
        for Parameter { name, value, .. } in self.parameters() {
            let is_usual = usual.iter().any(|other| other.name == name && other.value == value);
            let Some(value) = value else { continue };
            let short = name.trim_start_matches("learning_rate.");
            match name {
                "learning_rate" | "learning_rate.initial_learning_rate" => write!(f, " {value}")?,
                _ if !is_usual => write!(f, " {short} {value}")?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ParameterValue::{Flag, Number, Numbers};
    use super::*;

    /// Every method in both semantics, plain and with each schedule that it can have.
    fn all() -> Vec<Optimizer> {
        let both = [Semantics::Legacy, Semantics::Current].into_iter();
        let methods = both.flat_map(|semantics| {
            Method::all(semantics).into_iter().map(move |method| Optimizer::new(method, semantics))
        });
        let mut optimizers = Vec::new();
        for plain in methods {
            for (schedule, _) in LearningRate::schedules() {
                let scheduled = plain.clone().scheduled(schedule).unwrap();
                let missing = scheduled.parameters().into_iter().filter(|known| {
                    known.name.starts_with("learning_rate.") && known.value.is_none()
                });
                let values = missing.filter_map(|known| match known.domain {
                    _ if known.name.ends_with("warmup_target") => None,
                    Domain::Steps => Some((known.name, Numbers(vec![2.0]))),
                    Domain::Rates => Some((known.name, Numbers(vec![0.5, 0.25]))),
                    _ => Some((known.name, Number(0.5))),
                });
                optimizers.extend(scheduled.with(&values.collect::<Vec<_>>()));
            }
            optimizers.push(plain);
        }
        assert_eq!(optimizers.len(), 7 * 7 + 1 + 12 * 7, "legacy Nadam has no schedules");
        optimizers
    }

    /// A value that no parameter above has.
    fn another(domain: Domain) -> ParameterValue {
        match domain {
            Domain::Flag => Flag(true),
            Domain::Steps => Numbers(vec![3.0]),
            Domain::Rates => Numbers(vec![0.125, 0.25]),
            Domain::NotPositive => Number(-0.25),
            Domain::Count | Domain::AtLeastOne => Number(7.0),
            _ => Number(0.375),
        }
    }

    #[test]
    fn every_parameter_reaches_its_place_and_comes_back() {
        for plain in all() {
            assert_eq!(plain.check(), Ok(()), "{plain:?}");
            let mut seen = vec![plain.clone()];
            for Parameter { name, domain, .. } in plain.parameters() {
                let mut values = vec![(name, another(domain))];
                match name {
                    "ema_momentum" | "ema_overwrite_frequency" => {
                        values.push(("use_ema", Flag(true)));
                    }
                    "learning_rate.warmup_steps" => {
                        values.push(("learning_rate.warmup_target", Number(0.75)));
                    }
                    _ => {}
                }
                let changed = plain.with(&values).unwrap();
                assert_eq!(changed.check(), Ok(()), "{changed:?}");
                assert!(!seen.contains(&changed), "{name} does not reach {changed:?}");
                let read = changed.parameters();
                for (name, value) in values {
                    let found = read.iter().find(|known| known.name == name).unwrap();
                    assert_eq!(found.value.as_ref(), Some(&value), "{name} of {plain}");
                }
                seen.push(changed);
            }
        }
    }

    #[test]
    fn all_parameters_together_make_the_same_optimizer_again() {
        let averaging = Some(Averaging { momentum: 0.5, overwrite_frequency: Some(3) });
        let clipping = Some(Clipping::GlobalNorm(2.0));
        for optimizer in all() {
            let optimizer = match optimizer.semantics {
                Semantics::Legacy => Optimizer { clipping, ..optimizer },
                Semantics::Current => Optimizer { averaging, clipping, ..optimizer },
            };
            let parameters = optimizer.parameters().into_iter();
            let set: Vec<_> =
                parameters.filter_map(|known| Some((known.name, known.value?))).collect();
            assert_eq!(optimizer.usual().with(&set).unwrap(), optimizer);
        }
    }

    #[test]
    fn a_name_is_read_in_any_case_and_an_unknown_one_lists_the_others() {
        let read = |name: &str, semantics| Optimizer::named(name, semantics).map(|o| o.to_string());
        assert_eq!(read("RMSProp", Semantics::Current).unwrap(), "rmsprop 0.001");
        assert_eq!(read("SGD", Semantics::Legacy).unwrap(), "legacy sgd 0.01");
        assert_eq!(
            read("Muon", Semantics::Current).unwrap_err().to_string(),
            "name: \"Muon\" is not known; known: sgd, rmsprop, adam, adamax, nadam, adagrad, \
             adadelta, ftrl, adamw, lion, adafactor, lamb"
        );
        assert_eq!(
            read("Lion", Semantics::Legacy).unwrap_err().to_string(),
            "name: \"Lion\" is of the current semantics (Keras from 2.11); the legacy semantics \
             (tf.keras up to 2.10) has sgd, rmsprop, adam, adamax, nadam, adagrad, adadelta, ftrl"
        );
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        use Semantics::{Current, Legacy};
        let table = [
            ("sgd", Current, vec![("decay", Number(0.1))], "decay: is of the legacy"),
            ("sgd", Legacy, vec![("weight_decay", Number(0.1))], "weight_decay: is of the c"),
            ("sgd", Legacy, vec![("use_ema", Flag(true))], "use_ema: is of the current"),
            ("nadam", Legacy, vec![("decay", Number(0.1))], "decay: is ignored by"),
            ("nadam", Current, vec![("schedule_decay", Number(0.1))], "schedule_decay: is of"),
            ("adam", Current, vec![("lr", Number(0.1))], "lr: is the old name"),
            ("adafactor", Current, vec![("relative_step", Flag(true))], "relative_step: chan"),
            ("sgd", Current, vec![("beta_1", Number(0.1))], "beta_1: sgd has no such"),
            ("sgd", Current, vec![("momentum", Number(1.5))], "momentum: must be a number"),
            ("sgd", Current, vec![("momentum", Flag(true))], "momentum: must be a number"),
            ("sgd", Current, vec![("nesterov", Number(1.0))], "nesterov: must be true or"),
            (
                "sgd",
                Current,
                vec![("clipnorm", Number(1.0)), ("clipvalue", Number(1.0))],
                "clipvalue: goes with no other clipping",
            ),
            (
                "sgd",
                Current,
                vec![("ema_momentum", Number(0.5))],
                "ema_momentum: has no effect without use_ema",
            ),
            (
                "sgd",
                Current,
                vec![("use_ema", Flag(true)), ("ema_overwrite_frequency", Number(0.5))],
                "ema_overwrite_frequency: must be a whole number from 1, not 0.5",
            ),
        ];
        for (name, semantics, values, expected) in table {
            let problems = Optimizer::named(name, semantics).unwrap().with(&values).unwrap_err();
            let text = problems.to_string();
            assert!(text.starts_with(expected), "{text}");
            assert_eq!(problems.iter().count(), 1, "{text}");
        }
    }

    #[test]
    fn a_schedule_misses_what_has_no_default_and_refuses_what_does_not_go_together() {
        let sgd = Optimizer::named("sgd", Semantics::Current).unwrap();
        let texts = |optimizer: &Optimizer| {
            let problems = optimizer.check().unwrap_err();
            problems.to_string().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            texts(&sgd.clone().scheduled("cosine_decay_restarts").unwrap()),
            [
                "learning_rate.initial_learning_rate: is needed",
                "learning_rate.first_decay_steps: is needed"
            ]
        );
        let unknown = sgd.clone().scheduled("warmup").unwrap_err().to_string();
        assert!(
            unknown.starts_with("learning_rate.schedule: \"warmup\" is not known; known: expo")
        );
        let piecewise = sgd.scheduled("piecewise_constant_decay").unwrap();
        let values = [
            ("learning_rate.boundaries", Numbers(vec![3.0, 2.0])),
            ("learning_rate.values", Numbers(vec![0.1])),
        ];
        let problems = piecewise.with(&values).unwrap_err().to_string();
        assert!(problems.starts_with("learning_rate.boundaries: must be a list of rising"));
        let nadam = Optimizer::named("nadam", Semantics::Legacy).unwrap();
        let learning_rate = LearningRate::InverseTimeDecay {
            initial_learning_rate: 0.1,
            decay_steps: 1.0,
            decay_rate: 0.5,
            staircase: false,
        };
        let nadam = Optimizer { learning_rate, ..nadam };
        assert_eq!(
            texts(&nadam),
            ["learning_rate: is a number in tf.keras's Nadam, never a schedule"]
        );
    }

    #[test]
    fn what_was_put_together_wrongly_is_refused() {
        let learning_rate = LearningRate::Decaying { initial: -1.0, decay: 0.5 };
        let lamb = Optimizer::new(Method::Lamb(Lamb::default()), Semantics::Legacy);
        let adamw = Optimizer {
            learning_rate,
            weight_decay: None,
            ..Optimizer::new(Method::AdamW(Adam::default()), Semantics::Current)
        };
        let places = |optimizer: &Optimizer| {
            let problems = optimizer.check().unwrap_err();
            problems.iter().map(|problem| problem.place.clone()).collect::<Vec<_>>()
        };
        assert_eq!(places(&lamb), ["name"]);
        assert_eq!(places(&adamw), ["learning_rate", "decay", "weight_decay"]);
    }

    #[test]
    fn the_short_text_says_what_is_not_usual() {
        let adam = Optimizer::named("adam", Semantics::Current).unwrap();
        let values =
            [("learning_rate", Number(1e-5)), ("amsgrad", Flag(true)), ("clipnorm", Number(1.0))];
        let changed = adam.with(&values).unwrap();
        assert_eq!(changed.to_string(), "adam 1e-5 amsgrad true clipnorm 1");
        let piecewise = adam.scheduled("piecewise_constant_decay").unwrap();
        let values = [
            ("learning_rate.boundaries", Numbers(vec![100.0])),
            ("learning_rate.values", Numbers(vec![0.1, 0.01])),
        ];
        assert_eq!(
            piecewise.with(&values).unwrap().to_string(),
            "adam piecewise_constant_decay boundaries [100] values [0.1, 0.01]"
        );
        let decayed = Optimizer::named("rmsprop", Semantics::Legacy).unwrap();
        let decayed = decayed.with(&[("decay", Number(1e-6))]).unwrap();
        assert_eq!(decayed.to_string(), "legacy rmsprop 0.001 decay 1e-6");
    }
}
