//! The optimizers' parameters by their Keras names: which there are, what values they may have,
//! and how values become an [`Optimizer`].

use arrowhop_types::{Adam, Optimizer, RmsProp, Sgd};

/// An optimizer without its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// RMSprop.
    RmsProp,
    /// Adam.
    Adam,
}

/// The values that a parameter may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain {
    /// Finite and above 0.
    Positive,
    /// Finite and at least 0.
    NotNegative,
    /// In `[0, 1)`.
    Fraction,
    /// 0 or 1.
    Flag,
}

impl OptimizerKind {
    /// Its parameters, named as in Keras.
    pub(crate) fn parameters(self) -> &'static [(&'static str, Domain)] {
        match self {
            Self::Sgd => &[
                ("learning_rate", Domain::Positive),
                ("momentum", Domain::Fraction),
                ("nesterov", Domain::Flag),
                ("decay", Domain::NotNegative),
            ],
            Self::RmsProp => &[
                ("learning_rate", Domain::Positive),
                ("rho", Domain::Fraction),
                ("momentum", Domain::Fraction),
                ("epsilon", Domain::NotNegative),
                ("centered", Domain::Flag),
                ("decay", Domain::NotNegative),
            ],
            Self::Adam => &[
                ("learning_rate", Domain::Positive),
                ("beta_1", Domain::Fraction),
                ("beta_2", Domain::Fraction),
                ("epsilon", Domain::NotNegative),
                ("amsgrad", Domain::Flag),
                ("decay", Domain::NotNegative),
            ],
        }
    }

    /// Keras's name of it, in lower case.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::RmsProp => "rmsprop",
            Self::Adam => "adam",
        }
    }

    /// The optimizer with these values of named parameters, and Keras's defaults for the others.
    pub(crate) fn with(self, values: &[(&str, f64)]) -> Optimizer {
        let value = |name| values.iter().find(|(given, _)| *given == name).map(|(_, value)| *value);
        let number = |name, default| value(name).unwrap_or(default);
        let flag = |name, default: bool| value(name).map_or(default, |value| value != 0.0);
        match self {
            Self::Sgd => {
                let default = Sgd::default();
                Optimizer::Sgd(Sgd {
                    learning_rate: number("learning_rate", default.learning_rate),
                    momentum: number("momentum", default.momentum),
                    nesterov: flag("nesterov", default.nesterov),
                    decay: number("decay", default.decay),
                })
            }
            Self::RmsProp => {
                let default = RmsProp::default();
                Optimizer::RmsProp(RmsProp {
                    learning_rate: number("learning_rate", default.learning_rate),
                    rho: number("rho", default.rho),
                    momentum: number("momentum", default.momentum),
                    epsilon: number("epsilon", default.epsilon),
                    centered: flag("centered", default.centered),
                    decay: number("decay", default.decay),
                })
            }
            Self::Adam => {
                let default = Adam::default();
                Optimizer::Adam(Adam {
                    learning_rate: number("learning_rate", default.learning_rate),
                    beta_1: number("beta_1", default.beta_1),
                    beta_2: number("beta_2", default.beta_2),
                    epsilon: number("epsilon", default.epsilon),
                    amsgrad: flag("amsgrad", default.amsgrad),
                    decay: number("decay", default.decay),
                })
            }
        }
    }
}

impl Domain {
    /// Whether a parameter may have this value.
    pub(crate) fn has(self, value: f64) -> bool {
        value.is_finite()
            && match self {
                Self::Positive => value > 0.0,
                Self::NotNegative => value >= 0.0,
                Self::Fraction => (0.0..1.0).contains(&value),
                Self::Flag => value == 0.0 || value == 1.0,
            }
    }

    /// The values in words.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Positive => "greater than 0",
            Self::NotNegative => "0 or more",
            Self::Fraction => "at least 0 and less than 1",
            Self::Flag => "0 or 1 (false or true)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_reaches_its_field_and_the_others_keep_their_defaults() {
        for kind in [OptimizerKind::Sgd, OptimizerKind::RmsProp, OptimizerKind::Adam] {
            let default = kind.with(&[]);
            let changed = kind.parameters().iter().map(|(name, domain)| {
                let value = if *domain == Domain::Flag { 1.0 } else { 0.25 };
                kind.with(&[(*name, value)])
            });
            let mut seen = vec![default];
            for optimizer in changed {
                assert!(!seen.contains(&optimizer), "{kind:?}: {optimizer:?}");
                seen.push(optimizer);
            }
        }
    }
}
