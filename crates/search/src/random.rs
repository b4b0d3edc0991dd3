//! Independent random draws.

use arrowhop_types::{
    ModelConfig, Problems,
    optimizer::ParameterValue,
    stream::{Stream, below},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use crate::{
    CONFIGS_MAX, Grid, Searcher, Seen,
    space::{Axis, Space},
};

/// So many draws in a row that were all there before mean that there is nothing else.
const REDRAWS_MAX: u32 = 100_000;

/// Configurations drawn independently: each list, each optimizer and each parameter by itself, all
/// choices equally likely. The same seed draws the same configurations.
///
/// Source: Bergstra, Bengio, *Random Search for Hyper-Parameter Optimization*, JMLR 13, 2012.
#[derive(Debug, Clone)]
pub struct Random {
    space: Space,
    draws: ChaCha8Rng,
    seen: Seen,
    configs_left: usize,
}

impl Random {
    /// At most `count` distinct draws; fewer where the space has fewer.
    ///
    /// # Errors
    /// All problems at once: those of the space, a count of 0 or of more than 10,000.
    pub fn new(space: &Space, count: usize, seed: u64) -> Result<Self, Problems> {
        let mut problems = space.check().err().unwrap_or_default();
        if count == 0 || count > CONFIGS_MAX {
            let text = format!("{count} is out of bounds; use 1 to {CONFIGS_MAX}");
            problems.push("search.configs", text);
        }
        problems.or(())?;
        let is_small = space.ranges().is_empty() && space.size() <= CONFIGS_MAX as u128;
        let distinct = if is_small { Grid::new(space)?.len() } else { count };
        let mut draws = ChaCha8Rng::seed_from_u64(seed);
        draws.set_stream(Stream::Search.id());
        let (space, seen) = (space.clone(), Seen::default());
        Ok(Self { space, draws, seen, configs_left: count.min(distinct) })
    }

    fn draw(&mut self) -> ModelConfig {
        let space = &self.space;
        let draws = &mut self.draws;
        let architecture = pick(&space.architectures, draws);
        let compile = pick(&space.compiles, draws);
        let axes = compile.optimizer.axes();
        let values: Vec<_> = axes.map(|(name, axis)| (name, value(axis, draws))).collect();
        let (optimizer, loss) = (compile.optimizer.with(&values), *pick(&compile.losses, draws));
        let fit = pick(&space.fits, draws);
        let config = ModelConfig::new(architecture, optimizer, loss, *pick(&fit.batch_rows, draws));
        let (passes, precision) = (*pick(&fit.passes, draws), *pick(&fit.precisions, draws));
        ModelConfig { passes, precision, ..config }
    }
}

impl Searcher for Random {
    fn ask(&mut self) -> Option<ModelConfig> {
        self.configs_left = self.configs_left.checked_sub(1)?;
        for _ in 0..REDRAWS_MAX {
            let config = self.draw();
            if self.seen.is_new(&config) {
                return Some(config);
            }
        }
        self.configs_left = 0;
        None
    }
}

fn pick<'a, T>(items: &'a [T], draws: &mut ChaCha8Rng) -> &'a T {
    let count = u32::try_from(items.len()).expect("a list of a space is checked to be short");
    &items[below(count, || draws.next_u32()) as usize]
}

fn value(axis: &Axis, draws: &mut ChaCha8Rng) -> ParameterValue {
    let (low, high, drawn) = match *axis {
        Axis::Values(ref values) => return pick(values, draws).clone(),
        Axis::Uniform { low, high } => {
            let share = share(draws);
            (low, high, low * (1.0 - share) + high * share)
        }
        Axis::LogUniform { low, high } => {
            let share = share(draws);
            (low, high, (low.ln() * (1.0 - share) + high.ln() * share).exp())
        }
    };
    ParameterValue::Number(readable(drawn).clamp(low, high))
}

/// A draw in `[0, 1)`, of 53 bits.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64")]
fn share(draws: &mut ChaCha8Rng) -> f64 {
    (draws.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Rounded to six significant digits: easy to read and to type again, and no longer in the digits
/// in which platforms' logarithms differ.
fn readable(value: f64) -> f64 {
    format!("{value:.5e}").parse().expect("a number's own text is a number")
}

#[cfg(test)]
mod tests {
    use arrowhop_types::optimizer::Method;

    use super::*;
    use crate::space::tests::{cifar10, compiles, fits, optimizer};

    /// SGD with a logarithmic learning rate and a uniform momentum.
    fn ranges() -> Space {
        let axes = [
            ("learning_rate", Axis::LogUniform { low: 1e-5, high: 1e-1 }),
            ("momentum", Axis::Uniform { low: 0.5, high: 0.9 }),
        ];
        Space { compiles: compiles(vec![optimizer("sgd", &axes)]), ..cifar10() }
    }

    fn pairs(configs: &[ModelConfig]) -> Vec<(f64, f64)> {
        let pair = |config: &ModelConfig| match config.optimizer.method {
            Method::Sgd(sgd) => (config.optimizer.learning_rate.initial().log10(), sgd.momentum),
            _ => panic!("only SGD was asked for"),
        };
        configs.iter().map(pair).collect()
    }

    #[test]
    fn draws_stay_in_bounds_and_spread_over_the_decades() {
        let pairs = pairs(&Random::new(&ranges(), 4_000, 7).unwrap().ask_all());
        assert_eq!(pairs.len(), 4_000);
        let mut decades = [0; 4];
        for (log_rate, momentum) in pairs {
            assert!((-5.0..=-1.0).contains(&log_rate), "{log_rate}");
            assert!((0.5..=0.9).contains(&momentum), "{momentum}");
            decades[usize::from(log_rate >= -4.0)
                + usize::from(log_rate >= -3.0)
                + usize::from(log_rate >= -2.0)] += 1;
        }
        assert!(decades.iter().all(|count| (900..1_100).contains(count)), "{decades:?}");
    }

    #[test]
    fn parameters_are_uncorrelated() {
        let pairs = pairs(&Random::new(&ranges(), 4_000, 7).unwrap().ask_all());
        let count = pairs.len() as f64;
        let mean_x = pairs.iter().map(|(x, _)| x).sum::<f64>() / count;
        let mean_y = pairs.iter().map(|(_, y)| y).sum::<f64>() / count;
        let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
        for (x, y) in pairs {
            xx += (x - mean_x).powi(2);
            yy += (y - mean_y).powi(2);
            xy += (x - mean_x) * (y - mean_y);
        }
        let correlation = xy / (xx * yy).sqrt();
        // Three standard deviations of the correlation of independent draws.
        assert!(correlation.abs() < 3.0 / count.sqrt(), "{correlation}");
    }

    #[test]
    fn the_same_seed_draws_the_same_and_another_seed_draws_others() {
        let draw = |seed| Random::new(&ranges(), 20, seed).unwrap().ask_all();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let longer = Random::new(&ranges(), 30, 1).unwrap().ask_all();
        assert_eq!(longer[..20], draw(1), "asking for more goes on from the same draws");
    }

    #[test]
    fn a_space_with_fewer_configurations_gives_all_it_has_once() {
        let mut drawn = Random::new(&cifar10(), 100, 3).unwrap().ask_all();
        assert_eq!(drawn.len(), 16);
        for config in Grid::new(&cifar10()).unwrap().ask_all() {
            let place = drawn.iter().position(|other| *other == config).unwrap();
            drawn.swap_remove(place);
        }
        assert!(drawn.is_empty());
        let point = Axis::Uniform { low: 0.5, high: 0.5 };
        let compiles = compiles(vec![optimizer("sgd", &[("momentum", point)])]);
        let space = Space { compiles, fits: fits(vec![64]), ..cifar10() };
        assert_eq!(Random::new(&space, 5, 3).unwrap().ask_all().len(), 2);
    }

    #[test]
    fn a_count_out_of_bounds_is_refused() {
        for count in [0, 10_001] {
            let problems = Random::new(&cifar10(), count, 1).unwrap_err();
            assert_eq!(
                problems.to_string(),
                format!("search.configs: {count} is out of bounds; use 1 to 10000")
            );
        }
    }
}
