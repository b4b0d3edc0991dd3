//! The space that configurations come from, and everything that can be wrong with it.

use std::collections::BTreeMap;

use arrowhop_types::{Loss, Problems};

use crate::{
    CONFIGS_MAX,
    optimizer::{Domain, OptimizerKind},
};

const BATCH_ROWS_MAX: u32 = 1_000_000;
const PASSES_MAX: u32 = 1_000;

/// All configurations to choose from: one of each list, and the parameters of the optimizer.
#[derive(Debug, Clone, PartialEq)]
pub struct Space {
    /// Names of architectures.
    pub architectures: Vec<String>,
    /// Optimizers with their parameters; the same kind may come more than once.
    pub optimizers: Vec<OptimizerSpace>,
    /// Losses.
    pub losses: Vec<Loss>,
    /// Rows per batch, 1 to 1,000,000.
    pub batch_rows: Vec<u32>,
    /// Passes over the shard in one visit, 1 to 1,000.
    pub passes: Vec<u32>,
}

/// An optimizer and the values its parameters may have; one that is not named has its default.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerSpace {
    /// The optimizer.
    pub kind: OptimizerKind,
    /// By Keras's names: `learning_rate`, `momentum`, `nesterov`, `decay`, `rho`, `epsilon`,
    /// `centered`, `beta_1`, `beta_2`, `amsgrad`, as far as the optimizer has them.
    pub parameters: BTreeMap<String, Axis>,
}

/// The values of one parameter. A flag's values are 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Axis {
    /// One of these.
    Values(Vec<f64>),
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
        for (field, count) in [
            ("networks", self.architectures.len()),
            ("optimizer", self.optimizers.len()),
            ("loss", self.losses.len()),
            ("batch_size", self.batch_rows.len()),
            ("passes", self.passes.len()),
        ] {
            check_count(count, &format!("search.{field}"), &mut problems);
        }
        for (field, values, max) in
            [("batch_size", &self.batch_rows, BATCH_ROWS_MAX), ("passes", &self.passes, PASSES_MAX)]
        {
            for value in values.iter().filter(|&&value| value == 0 || value > max) {
                let text = format!("{value} is out of bounds; use 1 to {max}");
                problems.push(format!("search.{field}"), text);
            }
        }
        for (i, optimizer) in self.optimizers.iter().enumerate() {
            optimizer.check(&format!("search.optimizer[{i}]"), &mut problems);
        }
        problems.or(())
    }

    /// The places of parameters that are ranges.
    pub(crate) fn ranges(&self) -> Vec<String> {
        let optimizers = self.optimizers.iter().enumerate();
        let ranges = optimizers.flat_map(|(i, optimizer)| {
            let axes = optimizer.parameters.iter();
            let ranges = axes.filter(|(_, axis)| !matches!(axis, Axis::Values(_)));
            ranges.map(move |(name, _)| format!("search.optimizer[{i}].{name}"))
        });
        ranges.collect()
    }

    /// Combinations of listed values, repeats included; a range counts as one value.
    pub(crate) fn size(&self) -> u128 {
        let values = |axis: &Axis| match axis {
            Axis::Values(values) => values.len() as u128,
            Axis::Uniform { .. } | Axis::LogUniform { .. } => 1,
        };
        let product = |counts: &mut dyn Iterator<Item = u128>| {
            counts.fold(1, |product: u128, count| product.saturating_mul(count))
        };
        let optimizers = self.optimizers.iter();
        let optimizers =
            optimizers.map(|space| product(&mut space.parameters.values().map(values)));
        let optimizers = optimizers.fold(0, u128::saturating_add);
        let lists = [&self.batch_rows, &self.passes].map(|list| list.len() as u128);
        let others = [self.architectures.len() as u128, self.losses.len() as u128];
        product(&mut others.into_iter().chain(lists).chain([optimizers]))
    }
}

impl OptimizerSpace {
    /// The parameters that have an axis, in the order of Keras's arguments.
    pub(crate) fn axes(&self) -> impl Iterator<Item = (&'static str, &Axis)> {
        let names = self.kind.parameters().iter().map(|(name, _)| *name);
        names.filter_map(|name| Some((name, self.parameters.get(name)?)))
    }

    fn check(&self, place: &str, problems: &mut Problems) {
        let known = self.kind.parameters();
        for (name, axis) in &self.parameters {
            let place = format!("{place}.{name}");
            match known.iter().find(|(known, _)| known == name) {
                Some((_, domain)) => axis.check(*domain, &place, problems),
                None => {
                    let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                    let (kind, names) = (self.kind.name(), names.join(", "));
                    problems.push(place, format!("{kind} has no such parameter; it has {names}"));
                }
            }
        }
    }
}

impl Axis {
    fn check(&self, domain: Domain, place: &str, problems: &mut Problems) {
        let ends: &[f64] = match self {
            Self::Values(values) => values,
            Self::Uniform { low, high } | Self::LogUniform { low, high } => &[*low, *high],
        };
        check_count(ends.len(), place, problems);
        for value in ends.iter().filter(|&&value| !domain.has(value)) {
            problems.push(place, format!("{value} is out of bounds; use {}", domain.text()));
        }
        match self {
            Self::Values(_) => {}
            _ if domain == Domain::Flag => {
                problems.push(place, "is a flag, not a range; list the values");
            }
            Self::Uniform { low, high } | Self::LogUniform { low, high } if low > high => {
                problems.push(place, format!("its low {low} is above its high {high}; swap them"));
            }
            Self::LogUniform { low, .. } if *low == 0.0 => {
                problems.push(place, "a logarithmic range cannot start at 0; use a positive low");
            }
            Self::Uniform { .. } | Self::LogUniform { .. } => {}
        }
    }
}

fn check_count(count: usize, place: &str, problems: &mut Problems) {
    if count == 0 {
        problems.push(place, "is empty; give at least one");
    } else if count > CONFIGS_MAX {
        problems.push(place, format!("has {count} entries; a list may have {CONFIGS_MAX}"));
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An optimizer's space from names and axes.
    pub(crate) fn optimizer(kind: OptimizerKind, axes: &[(&str, Axis)]) -> OptimizerSpace {
        let parameters = axes.iter().map(|(name, axis)| ((*name).to_owned(), axis.clone()));
        OptimizerSpace { kind, parameters: parameters.collect() }
    }

    /// The grid of MADlib's model selection on CIFAR-10.
    pub(crate) fn cifar10() -> Space {
        let rates = || Axis::Values(vec![1e-4, 1e-3]);
        let decay = Axis::Values(vec![1e-6]);
        Space {
            architectures: vec!["M1".to_owned(), "M2".to_owned()],
            optimizers: vec![
                optimizer(OptimizerKind::RmsProp, &[("learning_rate", rates()), ("decay", decay)]),
                optimizer(OptimizerKind::Adam, &[("learning_rate", rates())]),
            ],
            losses: vec![Loss::CategoricalCrossentropy],
            batch_rows: vec![64, 128],
            passes: vec![5],
        }
    }

    fn places(space: &Space) -> Vec<String> {
        let problems = space.check().unwrap_err();
        problems.iter().map(|problem| problem.place.clone()).collect()
    }

    #[test]
    fn everything_wrong_with_the_lists_is_said_at_once() {
        assert_eq!(cifar10().check(), Ok(()));
        let space = Space {
            architectures: vec![],
            optimizers: vec![],
            losses: vec![Loss::MeanSquaredError; 10_001],
            batch_rows: vec![0, 32, 1_000_001],
            passes: vec![1_001],
        };
        let fields = ["networks", "optimizer", "loss", "batch_size", "batch_size", "passes"];
        assert_eq!(places(&space), fields.map(|field| format!("search.{field}")));
    }

    #[test]
    fn everything_wrong_with_the_parameters_is_said_at_once() {
        let values = |values: &[f64]| Axis::Values(values.to_vec());
        let sgd = [
            ("learning_rate", values(&[-0.1, f64::NAN, 0.1])),
            ("momentum", values(&[1.0])),
            ("nesterov", values(&[0.5])),
            ("beta_1", values(&[0.9])),
            ("decay", values(&[])),
        ];
        let adam = [
            ("learning_rate", Axis::LogUniform { low: 0.1, high: 0.01 }),
            ("amsgrad", Axis::Uniform { low: 0.0, high: 1.0 }),
            ("decay", Axis::LogUniform { low: 0.0, high: 0.1 }),
            ("beta_2", Axis::Uniform { low: 0.9, high: 1.0 }),
        ];
        let optimizers =
            vec![optimizer(OptimizerKind::Sgd, &sgd), optimizer(OptimizerKind::Adam, &adam)];
        let names = [
            "0].beta_1",
            "0].decay",
            "0].learning_rate",
            "0].learning_rate",
            "0].momentum",
            "0].nesterov",
            "1].amsgrad",
            "1].beta_2",
            "1].decay",
            "1].learning_rate",
        ];
        let expected = names.map(|name| format!("search.optimizer[{name}"));
        assert_eq!(places(&Space { optimizers, ..cifar10() }), expected);
    }
}
