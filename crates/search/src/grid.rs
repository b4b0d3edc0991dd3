//! Every combination, in a fixed order.

use arrowhop_types::optimizer::ParameterValue;
use arrowhop_types::{Loss, ModelConfig, Optimizer, Precision, Problems};

use crate::{
    CONFIGS_MAX, Searcher, Seen,
    space::{Axis, CompileSpace, FitSpace, Space},
};

/// Every combination of a space, each once. Architectures change slowest, then optimizers, their
/// parameters (an earlier one in Keras's list of arguments changes slower), losses, rows per
/// batch, passes, and precisions fastest; values come in the order given.
#[derive(Debug, Clone)]
pub struct Grid {
    configs: std::vec::IntoIter<ModelConfig>,
}

impl Grid {
    /// The grid of a space.
    ///
    /// # Errors
    /// All problems at once: those of the space, ranges among its parameters, or more than 10,000
    /// combinations.
    pub fn new(space: &Space) -> Result<Self, Problems> {
        let mut problems = space.check().err().unwrap_or_default();
        for place in space.ranges() {
            problems.push(place, "is a range; list values, or set search.method = \"random\"");
        }
        let size = space.size();
        if size > CONFIGS_MAX as u128 {
            let text = format!(
                "the grid has {size} configurations and may have {CONFIGS_MAX}; shorten a list, \
                 or set search.method = \"random\""
            );
            problems.push("search", text);
        }
        problems.or(())?;
        let mut configs = combinations(space);
        let mut seen = Seen::default();
        configs.retain(|config| seen.is_new(config));
        Ok(Self { configs: configs.into_iter() })
    }

    /// How many configurations are left.
    pub(crate) fn len(&self) -> usize {
        self.configs.len()
    }
}

impl Searcher for Grid {
    fn ask(&mut self) -> Option<ModelConfig> {
        self.configs.next()
    }
}

fn combinations(space: &Space) -> Vec<ModelConfig> {
    let compiles: Vec<_> = space.compiles.iter().flat_map(compiles).collect();
    let fits: Vec<_> = space.fits.iter().flat_map(fits).collect();
    let mut configs = Vec::new();
    for architecture in &space.architectures {
        for (optimizer, loss) in &compiles {
            for &(batch_rows, passes, precision) in &fits {
                let config = ModelConfig::new(architecture, optimizer.clone(), *loss, batch_rows);
                configs.push(ModelConfig { passes, precision, ..config });
            }
        }
    }
    configs
}

/// An optimizer with every combination of its parameters' values, each with every loss.
fn compiles(space: &CompileSpace) -> Vec<(Optimizer, Loss)> {
    let mut choices: Vec<Vec<(&str, ParameterValue)>> = vec![vec![]];
    for (name, axis) in space.optimizer.axes() {
        let Axis::Values(values) = axis else { continue };
        choices = choices
            .into_iter()
            .flat_map(|choice| {
                let with =
                    |value: &ParameterValue| [choice.clone(), vec![(name, value.clone())]].concat();
                values.iter().map(with).collect::<Vec<_>>()
            })
            .collect();
    }
    let optimizers = choices.iter().map(|choice| space.optimizer.with(choice));
    optimizers
        .flat_map(|optimizer| space.losses.iter().map(move |&loss| (optimizer.clone(), loss)))
        .collect()
}

fn fits(space: &FitSpace) -> Vec<(u32, u32, Precision)> {
    let mut fits = Vec::new();
    for &batch_rows in &space.batch_rows {
        for &passes in &space.passes {
            fits.extend(space.precisions.iter().map(|&precision| (batch_rows, passes, precision)));
        }
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::space::tests::{cifar10, compiles, fits, numbers, optimizer};
    use arrowhop_types::optimizer::{LearningRate, Method};

    #[test]
    fn the_published_grid_of_16_comes_in_the_published_grouping() {
        let configs = Grid::new(&cifar10()).unwrap().ask_all();
        let row = |config: &ModelConfig| {
            let optimizer = &config.optimizer;
            let rate = optimizer.learning_rate.initial();
            (config.architecture.clone(), optimizer.name(), rate, config.batch_rows)
        };
        let mut expected = vec![];
        for network in ["M1", "M2"] {
            for name in ["rmsprop", "adam"] {
                for rate in [1e-4, 1e-3] {
                    for batch_rows in [64, 128] {
                        expected.push((network.to_owned(), name, rate, batch_rows));
                    }
                }
            }
        }
        assert_eq!(configs.iter().map(row).collect::<Vec<_>>(), expected);
        assert!(configs.iter().all(|config| config.passes == 5));
        let decays = configs.iter().filter_map(|config| match config.optimizer.learning_rate {
            LearningRate::Decaying { decay, .. } => Some(decay),
            _ => None,
        });
        assert_eq!(decays.collect::<Vec<_>>(), [1e-6; 8]);
    }

    #[test]
    fn earlier_parameters_change_slower_and_repeats_are_dropped() {
        let flags = Axis::Values([false, true].map(ParameterValue::Flag).to_vec());
        let axes = [("nesterov", flags), ("learning_rate", numbers(&[0.2, 0.1, 0.2]))];
        let sgd = optimizer("sgd", &axes);
        let space = Space {
            architectures: vec!["M1".to_owned()],
            compiles: compiles(vec![sgd.clone(), sgd]),
            fits: fits(vec![64, 64]),
        };
        let configs = Grid::new(&space).unwrap().ask_all();
        let values = configs.iter().map(|config| match config.optimizer.method {
            Method::Sgd(sgd) => (config.optimizer.learning_rate.initial(), sgd.nesterov),
            _ => panic!("only SGD was asked for"),
        });
        let values: Vec<_> = values.collect();
        assert_eq!(values, [(0.2, false), (0.2, true), (0.1, false), (0.1, true)]);
    }

    #[test]
    fn a_grid_of_ranges_or_of_too_many_is_refused() {
        let range = [("learning_rate", Axis::Uniform { low: 0.1, high: 0.2 })];
        let compiles = compiles(vec![optimizer("adam", &range)]);
        let problems = Grid::new(&Space { compiles, ..cifar10() }).unwrap_err();
        assert_eq!(
            problems.to_string(),
            "search.optimizer[0].learning_rate: is a range; list values, \
             or set search.method = \"random\""
        );
        let many = Space { fits: fits((1..=2_000).collect()), ..cifar10() };
        let text = Grid::new(&many).unwrap_err().to_string();
        assert!(text.starts_with("search: the grid has 16000 configurations"), "{text}");
    }
}
