//! The space that configurations come from, and everything that can be wrong with it.

use std::collections::BTreeMap;

use arrowhop_types::optimizer::{Domain, Parameter, ParameterValue};
use arrowhop_types::{Loss, Optimizer, Precision, Problems};

use crate::CONFIGS_MAX;

const BATCH_ROWS_MAX: u32 = 1_000_000;
const PASSES_MAX: u32 = 1_000;

/// All configurations to choose from: one of each list.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// Names of architectures.
    pub architectures: Vec<String>,
    /// Compile parameters.
    pub compiles: Vec<CompileSpace>,
    /// Fit parameters.
    pub fits: Vec<FitSpace>,
}

/// Compile parameters to choose from: an optimizer's parameters, and a loss.
#[derive(Debug, Clone, PartialEq)]
pub struct CompileSpace {
    /// The optimizer; the same may come more than once.
    pub optimizer: OptimizerSpace,
    /// Losses.
    pub losses: Vec<Loss>,
}

/// Fit parameters to choose from: one of each list.
#[derive(Debug, Clone, PartialEq)]
pub struct FitSpace {
    /// Rows per batch, 1 to 1,000,000.
    pub batch_rows: Vec<u32>,
    /// Passes over the shard in one visit, 1 to 1,000.
    pub passes: Vec<u32>,
    /// Precisions of products.
    pub precisions: Vec<Precision>,
}

/// An optimizer, and the values that some of its parameters may have instead.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerSpace {
    /// Where in the experiment it stands.
    pub place: String,
    /// The optimizer; what is left to be given may be missing in it.
    pub optimizer: Optimizer,
    /// By the names of [`Optimizer::parameters`].
    pub parameters: BTreeMap<String, Axis>,
}

/// The values of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Axis {
    /// One of these.
    Values(Vec<ParameterValue>),
    /// Anything from `low` to `high`, all equally likely.
    Uniform {
        /// Smallest value.
        low: f64,
        /// Largest value.
        high: f64,
    },
    /// Anything from `low` to `high`, each decade equally likely.
    LogUniform {
        /// Smallest value, above 0.
        low: f64,
        /// Largest value.
        high: f64,
    },
}

impl Space {
    /// Checks every list and every parameter; each problem's place is a key of `[search]` in the
    /// experiment.
    ///
    /// # Errors
    /// All problems at once.
    pub(crate) fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::new();
        check_count(self.architectures.len(), "search.networks", &mut problems);
        check_count(self.compiles.len(), "search.optimizer", &mut problems);
        for compile in &self.compiles {
            check_count(compile.losses.len(), "search.loss", &mut problems);
        }
        for fit in &self.fits {
            check_count(fit.precisions.len(), "search.precision", &mut problems);
            for (field, values, max) in [
                ("batch_size", &fit.batch_rows, BATCH_ROWS_MAX),
                ("passes", &fit.passes, PASSES_MAX),
            ] {
                let place = format!("search.{field}");
                check_count(values.len(), &place, &mut problems);
                for value in values.iter().filter(|&&value| value == 0 || value > max) {
                    let text = format!("{value} is out of bounds; use 1 to {max}");
                    problems.push(place.as_str(), text);
                }
            }
        }
        for compile in &self.compiles {
            compile.optimizer.check(&mut problems);
        }
        problems.or(())
    }

    /// The places of parameters that are ranges.
    pub(crate) fn ranges(&self) -> Vec<String> {
        let optimizers = self.compiles.iter().map(|compile| &compile.optimizer);
        let ranges = optimizers.flat_map(|OptimizerSpace { place, parameters, .. }| {
            let ranges = parameters.iter().filter(|(_, axis)| !matches!(axis, Axis::Values(_)));
            ranges.map(move |(name, _)| format!("{place}.{name}"))
        });
        ranges.collect()
    }

    /// Combinations of listed values, repeats included; a range counts as one value.
    pub(crate) fn size(&self) -> u128 {
        let sum = |counts: &mut dyn Iterator<Item = u128>| counts.fold(0, u128::saturating_add);
        let compiles = sum(&mut self.compiles.iter().map(CompileSpace::size));
        let fits = sum(&mut self.fits.iter().map(FitSpace::size));
        (self.architectures.len() as u128).saturating_mul(compiles).saturating_mul(fits)
    }
}

impl CompileSpace {
    fn size(&self) -> u128 {
        let counts = self.optimizer.parameters.values().map(|axis| match axis {
            Axis::Values(values) => values.len() as u128,
            Axis::Uniform { .. } | Axis::LogUniform { .. } => 1,
        });
        counts.fold(self.losses.len() as u128, u128::saturating_mul)
    }
}

impl FitSpace {
    fn size(&self) -> u128 {
        let lengths = [self.batch_rows.len(), self.passes.len(), self.precisions.len()];
        lengths.into_iter().map(|length| length as u128).fold(1, u128::saturating_mul)
    }
}

impl OptimizerSpace {
    /// The parameters that have an axis, in the order of Keras's arguments.
    pub(crate) fn axes(&self) -> impl Iterator<Item = (&'static str, &Axis)> {
        let names = self.optimizer.parameters().into_iter().map(|parameter| parameter.name);
        names.filter_map(|name| Some((name, self.parameters.get(name)?)))
    }

    /// The optimizer with one value of each axis.
    pub(crate) fn with(&self, values: &[(&str, ParameterValue)]) -> Optimizer {
        self.optimizer.with(values).expect("the values of a checked space go together")
    }

    /// Tries the first value of each axis, and then every other one in its place: that finds each
    /// value that may not be, and, as no rule is about the values of three parameters, all that do
    /// not go together.
    fn check(&self, problems: &mut Problems) {
        let known = self.optimizer.parameters();
        let mut values = Vec::new();
        for (name, axis) in &self.parameters {
            let place = format!("{}.{name}", self.place);
            let found = known.iter().find(|known| known.name == name);
            let (ends, is_range) = match axis {
                Axis::Values(values) => (values.clone(), false),
                Axis::Uniform { low, high } | Axis::LogUniform { low, high } => {
                    ([*low, *high].map(ParameterValue::Number).to_vec(), true)
                }
            };
            check_count(ends.len(), &place, problems);
            if let (true, Some(Parameter { domain, .. })) = (is_range, found) {
                axis.check_range(*domain, &place, problems);
            }
            values.push((name.as_str(), ends));
        }
        let first: Vec<_> =
            values.iter().filter_map(|(name, ends)| Some((*name, ends.first()?.clone()))).collect();
        let mut try_out = |combination: &[(&str, ParameterValue)]| {
            let found = self.optimizer.with(combination).err().unwrap_or_default();
            for problem in found.iter() {
                push_new(format!("{}.{}", self.place, problem.place), &problem.text, problems);
            }
        };
        try_out(&first);
        for (i, (_, ends)) in values.iter().filter(|(_, ends)| !ends.is_empty()).enumerate() {
            for end in &ends[1..] {
                let mut combination = first.clone();
                combination[i].1 = end.clone();
                try_out(&combination);
            }
        }
    }
}

impl Axis {
    /// What is wrong with a range but its ends.
    fn check_range(&self, domain: Domain, place: &str, problems: &mut Problems) {
        match self {
            Self::Values(_) => {}
            _ if matches!(domain, Domain::Flag | Domain::Count | Domain::Rates | Domain::Steps) => {
                problems.push(place, "is not drawn from a range; list the values");
            }
            Self::Uniform { low, high } | Self::LogUniform { low, high } if low > high => {
                problems.push(place, format!("its low {low} is above its high {high}; swap them"));
            }
            Self::LogUniform { low, .. } if *low <= 0.0 => {
                problems.push(place, "a logarithmic range starts above 0; use a positive low");
            }
            Self::Uniform { .. } | Self::LogUniform { .. } => {}
        }
    }
}

fn check_count(count: usize, place: &str, problems: &mut Problems) {
    if count == 0 {
        push_new(place.to_owned(), "is empty; give at least one", problems);
    } else if count > CONFIGS_MAX {
        let text = format!("has {count} entries; a list may have {CONFIGS_MAX}");
        push_new(place.to_owned(), &text, problems);
    }
}

/// Adds a problem that was not found before.
fn push_new(place: String, text: &str, problems: &mut Problems) {
    if !problems.iter().any(|known| known.place == place && known.text == text) {
        problems.push(place, text);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use arrowhop_types::optimizer::ParameterValue::{Flag, Number, Numbers};
    use arrowhop_types::optimizer::Semantics;

    /// A list of numbers.
    pub(crate) fn numbers(numbers: &[f64]) -> Axis {
        Axis::Values(numbers.iter().copied().map(Number).collect())
    }

    /// The space of an optimizer of this name.
    pub(crate) fn optimizer(name: &str, axes: &[(&str, Axis)]) -> OptimizerSpace {
        let parameters = axes.iter().map(|(name, axis)| ((*name).to_owned(), axis.clone()));
        OptimizerSpace {
            place: "search.optimizer[0]".to_owned(),
            optimizer: Optimizer::named(name, Semantics::Legacy).unwrap(),
            parameters: parameters.collect(),
        }
    }

    /// These optimizers with one loss.
    pub(crate) fn compiles(optimizers: Vec<OptimizerSpace>) -> Vec<CompileSpace> {
        let losses = vec![Loss::CATEGORICAL_CROSSENTROPY];
        let with = |optimizer| CompileSpace { optimizer, losses: losses.clone() };
        optimizers.into_iter().map(with).collect()
    }

    /// These batch sizes, in five passes.
    pub(crate) fn fits(batch_rows: Vec<u32>) -> Vec<FitSpace> {
        vec![FitSpace { batch_rows, passes: vec![5], precisions: vec![Precision::F32] }]
    }

    /// The grid of MADlib's model selection on CIFAR-10.
    pub(crate) fn cifar10() -> Space {
        let rates = || numbers(&[1e-4, 1e-3]);
        Space {
            architectures: vec!["M1".to_owned(), "M2".to_owned()],
            compiles: compiles(vec![
                optimizer("rmsprop", &[("learning_rate", rates()), ("decay", numbers(&[1e-6]))]),
                optimizer("adam", &[("learning_rate", rates())]),
            ]),
            fits: fits(vec![64, 128]),
        }
    }

    fn places(space: &Space) -> Vec<String> {
        let problems = space.check().unwrap_err();
        problems.iter().map(|problem| problem.place.clone()).collect()
    }

    #[test]
    fn everything_wrong_with_the_lists_is_said_at_once() {
        assert_eq!(cifar10().check(), Ok(()));
        let adam = optimizer("adam", &[]);
        let losses = vec![Loss::MeanSquaredError; 10_001];
        let compile = CompileSpace { optimizer: adam, losses };
        let space = Space {
            architectures: vec![],
            compiles: vec![compile.clone(), compile],
            fits: vec![FitSpace {
                batch_rows: vec![0, 32, 1_000_001],
                passes: vec![1_001],
                precisions: vec![],
            }],
        };
        let fields = ["networks", "loss", "precision", "batch_size", "batch_size", "passes"];
        assert_eq!(places(&space), fields.map(|field| format!("search.{field}")));
        assert_eq!(places(&Space { compiles: vec![], ..cifar10() }), ["search.optimizer"]);
    }

    #[test]
    fn everything_wrong_with_the_parameters_is_said_at_once() {
        let sgd = [
            ("learning_rate", numbers(&[-0.1, f64::NAN, 0.1])),
            ("momentum", numbers(&[1.5])),
            ("nesterov", numbers(&[0.5])),
            ("beta_1", numbers(&[0.9])),
            ("decay", numbers(&[])),
        ];
        let adam = [
            ("learning_rate", Axis::LogUniform { low: 0.1, high: 0.01 }),
            ("amsgrad", Axis::Uniform { low: 0.0, high: 1.0 }),
            ("decay", Axis::LogUniform { low: 0.0, high: 0.1 }),
            ("beta_2", Axis::Uniform { low: 0.9, high: 1.0 }),
        ];
        let adam = OptimizerSpace { place: "the other".into(), ..optimizer("adam", &adam) };
        let compiles = compiles(vec![optimizer("sgd", &sgd), adam]);
        let problems = Space { compiles, ..cifar10() }.check().unwrap_err().to_string();
        let expected = [
            "search.optimizer[0].decay: is empty; give at least one",
            "search.optimizer[0].beta_1: sgd has no such parameter; it has learning_rate, decay, \
             momentum, nesterov, clipnorm, clipvalue, global_clipnorm",
            "search.optimizer[0].learning_rate: must be a number above 0, not -0.1",
            "search.optimizer[0].momentum: must be a number from 0 to 1, not 1.5",
            "search.optimizer[0].nesterov: must be true or false, not 0.5",
            "search.optimizer[0].learning_rate: must be a number above 0, not NaN",
            "the other.amsgrad: is not drawn from a range; list the values",
            "the other.decay: a logarithmic range starts above 0; use a positive low",
            "the other.learning_rate: its low 0.1 is above its high 0.01; swap them",
            "the other.amsgrad: must be true or false, not 0",
            "the other.amsgrad: must be true or false, not 1",
            "the other.beta_2: must be a number from 0 to below 1, not 1",
        ];
        assert_eq!(problems.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn values_that_do_not_go_together_are_found_wherever_they_stand() {
        let current = Optimizer::named("sgd", Semantics::Current).unwrap();
        let averaged = OptimizerSpace {
            optimizer: current.clone(),
            ..optimizer(
                "sgd",
                &[
                    ("use_ema", Axis::Values(vec![Flag(true), Flag(false)])),
                    ("ema_momentum", numbers(&[0.5])),
                ],
            )
        };
        let list = |list: &[f64]| Numbers(list.to_vec());
        let scheduled = OptimizerSpace {
            optimizer: current.scheduled("piecewise_constant_decay").unwrap(),
            ..optimizer(
                "sgd",
                &[
                    (
                        "learning_rate.boundaries",
                        Axis::Values(vec![list(&[5.0]), list(&[1.0, 2.0])]),
                    ),
                    ("learning_rate.values", Axis::Values(vec![list(&[0.2, 0.1])])),
                ],
            )
        };
        let missing = OptimizerSpace {
            optimizer: scheduled.optimizer.clone().scheduled("exponential_decay").unwrap(),
            ..optimizer("sgd", &[("learning_rate.decay_steps", numbers(&[10.0]))])
        };
        let compiles = compiles(vec![averaged, scheduled, missing]);
        let place = |name: &str| format!("search.optimizer[0].{name}");
        assert_eq!(
            places(&Space { compiles, ..cifar10() }),
            [
                place("ema_momentum"),
                place("learning_rate.values"),
                place("learning_rate.initial_learning_rate"),
                place("learning_rate.decay_rate")
            ]
        );
    }
}
