//! Learning rates: constant, or following a schedule of Keras's. Formulas: `arrowhop_train`.

use super::parameters::{Domain, Field};

/// The step size, by the steps already done.
#[derive(Debug, Clone, PartialEq)]
pub enum LearningRate {
    /// Always the same.
    Constant(f64),
    /// The legacy `decay`: `initial / (1 + decay · steps)`.
    Decaying {
        /// Rate of the first step.
        initial: f64,
        /// How fast it falls.
        decay: f64,
    },
    /// `initial · decay_rate ^ (steps / decay_steps)`.
    ExponentialDecay {
        /// Rate of the first step.
        initial_learning_rate: f64,
        /// After so many steps the rate was multiplied by `decay_rate`.
        decay_steps: f64,
        /// The factor.
        decay_rate: f64,
        /// At once, instead of little by little.
        staircase: bool,
    },
    /// `values[i]` as long as the steps are at most `boundaries[i]`; then the last value.
    PiecewiseConstantDecay {
        /// Steps, rising.
        boundaries: Vec<f64>,
        /// Rates, one more than boundaries.
        values: Vec<f64>,
    },
    /// From the initial to the end rate along `(1 − steps / decay_steps) ^ power`.
    PolynomialDecay {
        /// Rate of the first step.
        initial_learning_rate: f64,
        /// Steps until the end rate is reached.
        decay_steps: f64,
        /// The rate from then on.
        end_learning_rate: f64,
        /// 1: a straight line.
        power: f64,
        /// Starts again, with longer and longer `decay_steps`.
        cycle: bool,
    },
    /// `initial / (1 + decay_rate · steps / decay_steps)`.
    InverseTimeDecay {
        /// Rate of the first step.
        initial_learning_rate: f64,
        /// Steps per unit of decay.
        decay_steps: f64,
        /// How fast it falls.
        decay_rate: f64,
        /// At once, instead of little by little.
        staircase: bool,
    },
    /// Half a cosine wave down to a share of the rate, after a linear warmup if there is one.
    CosineDecay {
        /// Rate of the first step.
        initial_learning_rate: f64,
        /// Steps until the end of the wave, warmup not counted.
        decay_steps: f64,
        /// The share of the rate that is left at the end.
        alpha: f64,
        /// The rate at the end of the warmup, where the wave begins; without it there is none.
        warmup_target: Option<f64>,
        /// Steps of the warmup.
        warmup_steps: f64,
    },
    /// Cosine waves, one after the other.
    CosineDecayRestarts {
        /// Rate of the first step.
        initial_learning_rate: f64,
        /// Steps of the first wave.
        first_decay_steps: f64,
        /// Each wave is so many times as long as the one before.
        t_mul: f64,
        /// Each wave begins at so many times the rate of the one before.
        m_mul: f64,
        /// The share of the rate that is left at a wave's end.
        alpha: f64,
    },
}

impl LearningRate {
    /// Every schedule by its name, with Keras's defaults. What has none is NaN or empty.
    pub(super) fn schedules() -> Vec<(&'static str, Self)> {
        let (initial_learning_rate, decay_steps, decay_rate) = (f64::NAN, f64::NAN, f64::NAN);
        let staircase = false;
        let schedules = [
            Self::ExponentialDecay { initial_learning_rate, decay_steps, decay_rate, staircase },
            Self::PiecewiseConstantDecay { boundaries: Vec::new(), values: Vec::new() },
            Self::PolynomialDecay {
                initial_learning_rate,
                decay_steps,
                end_learning_rate: 1e-4,
                power: 1.0,
                cycle: false,
            },
            Self::InverseTimeDecay { initial_learning_rate, decay_steps, decay_rate, staircase },
            Self::CosineDecay {
                initial_learning_rate,
                decay_steps,
                alpha: 0.0,
                warmup_target: None,
                warmup_steps: 0.0,
            },
            Self::CosineDecayRestarts {
                initial_learning_rate,
                first_decay_steps: f64::NAN,
                t_mul: 2.0,
                m_mul: 1.0,
                alpha: 0.0,
            },
        ];
        let named = schedules.into_iter().map(|rate| (rate.schedule().unwrap_or_default(), rate));
        named.collect()
    }

    /// The schedule's name; none where the rate is a number with or without the legacy decay.
    #[must_use]
    pub fn schedule(&self) -> Option<&'static str> {
        match self {
            Self::Constant(_) | Self::Decaying { .. } => None,
            Self::ExponentialDecay { .. } => Some("exponential_decay"),
            Self::PiecewiseConstantDecay { .. } => Some("piecewise_constant_decay"),
            Self::PolynomialDecay { .. } => Some("polynomial_decay"),
            Self::InverseTimeDecay { .. } => Some("inverse_time_decay"),
            Self::CosineDecay { .. } => Some("cosine_decay"),
            Self::CosineDecayRestarts { .. } => Some("cosine_decay_restarts"),
        }
    }

    /// The rate of the first step.
    #[must_use]
    pub fn initial(&self) -> f64 {
        match self {
            Self::Constant(rate) | Self::Decaying { initial: rate, .. } => *rate,
            Self::PiecewiseConstantDecay { values, .. } => {
                values.first().copied().unwrap_or(f64::NAN)
            }
            Self::ExponentialDecay { initial_learning_rate, .. }
            | Self::PolynomialDecay { initial_learning_rate, .. }
            | Self::InverseTimeDecay { initial_learning_rate, .. }
            | Self::CosineDecay { initial_learning_rate, .. }
            | Self::CosineDecayRestarts { initial_learning_rate, .. } => *initial_learning_rate,
        }
    }

    /// Its parameters, by the names they have in experiments.
    pub(super) fn fields(&mut self) -> Vec<Field<'_>> {
        use Domain::{NotNegative, Positive, Rates, Steps};
        match self {
            Self::Constant(rate) => vec![Field::number("learning_rate", Positive, rate)],
            Self::Decaying { initial, decay } => vec![
                Field::number("learning_rate", Positive, initial),
                Field::number("decay", NotNegative, decay),
            ],
            Self::ExponentialDecay {
                initial_learning_rate,
                decay_steps,
                decay_rate,
                staircase,
            } => {
                vec![
                    initial(initial_learning_rate),
                    steps(decay_steps),
                    Field::number("learning_rate.decay_rate", Positive, decay_rate),
                    Field::flag("learning_rate.staircase", staircase),
                ]
            }
            Self::PiecewiseConstantDecay { boundaries, values } => vec![
                Field::numbers("learning_rate.boundaries", Steps, boundaries),
                Field::numbers("learning_rate.values", Rates, values),
            ],
            Self::PolynomialDecay {
                initial_learning_rate,
                decay_steps,
                end_learning_rate,
                power,
                cycle,
            } => vec![
                initial(initial_learning_rate),
                steps(decay_steps),
                Field::number("learning_rate.end_learning_rate", NotNegative, end_learning_rate),
                Field::number("learning_rate.power", Positive, power),
                Field::flag("learning_rate.cycle", cycle),
            ],
            Self::InverseTimeDecay {
                initial_learning_rate,
                decay_steps,
                decay_rate,
                staircase,
            } => {
                vec![
                    initial(initial_learning_rate),
                    steps(decay_steps),
                    Field::number("learning_rate.decay_rate", NotNegative, decay_rate),
                    Field::flag("learning_rate.staircase", staircase),
                ]
            }
            Self::CosineDecay { .. } | Self::CosineDecayRestarts { .. } => self.wave_fields(),
        }
    }

    fn wave_fields(&mut self) -> Vec<Field<'_>> {
        use Domain::{AtLeastOne, NotNegative, Positive, Share};
        match self {
            Self::CosineDecay {
                initial_learning_rate,
                decay_steps,
                alpha,
                warmup_target,
                warmup_steps,
            } => vec![
                // A warmup may start at 0.
                Field::number(INITIAL, NotNegative, initial_learning_rate),
                steps(decay_steps),
                Field::number("learning_rate.alpha", Share, alpha),
                Field::optional("learning_rate.warmup_target", Positive, warmup_target),
                Field::number("learning_rate.warmup_steps", NotNegative, warmup_steps),
            ],
            Self::CosineDecayRestarts {
                initial_learning_rate,
                first_decay_steps,
                t_mul,
                m_mul,
                alpha,
            } => vec![
                initial(initial_learning_rate),
                Field::number("learning_rate.first_decay_steps", Positive, first_decay_steps),
                Field::number("learning_rate.t_mul", AtLeastOne, t_mul),
                Field::number("learning_rate.m_mul", NotNegative, m_mul),
                Field::number("learning_rate.alpha", Share, alpha),
            ],
            _ => Vec::new(),
        }
    }
}

const INITIAL: &str = "learning_rate.initial_learning_rate";

fn initial(place: &mut f64) -> Field<'_> {
    Field::number(INITIAL, Domain::Positive, place)
}

fn steps(place: &mut f64) -> Field<'_> {
    Field::number("learning_rate.decay_steps", Domain::Positive, place)
}
