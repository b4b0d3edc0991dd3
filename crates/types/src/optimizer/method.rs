//! The optimizers' methods: each one's own parameters, by Keras's names and with its defaults.

use super::Semantics;
use super::parameters::{Domain, Field};

/// Stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Momentum μ in `[0, 1]`.
    pub momentum: f64,
    /// Nesterov's look-ahead; without momentum it changes nothing.
    pub nesterov: bool,
}

/// RMSprop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsProp {
    /// Decay ρ of the mean square.
    pub rho: f64,
    /// Momentum μ in `[0, 1]`.
    pub momentum: f64,
    /// ε: added under the root; legacy, without momentum, added to the root.
    pub epsilon: f64,
    /// Subtract the squared mean gradient.
    pub centered: bool,
}

/// Adam.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root, outside the bias correction.
    pub epsilon: f64,
    /// Use the largest second moment so far.
    pub amsgrad: bool,
}

/// Adamax: Adam with the infinity norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adamax {
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the largest gradient.
    pub beta_2: f64,
    /// Added to the largest gradient.
    pub epsilon: f64,
}

/// Nadam: Adam with Nesterov's momentum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Nadam {
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root.
    pub epsilon: f64,
    /// How fast the momentum warms up, d in `β₁(1 − ½·0.96^(d·t))`: 1, but legacy 0.004 or any.
    pub schedule_decay: f64,
}

/// Adagrad.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adagrad {
    /// What the sums of squares start at.
    pub initial_accumulator_value: f64,
    /// ε: added under the root; legacy, added to the root.
    pub epsilon: f64,
}

/// Adadelta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adadelta {
    /// Decay ρ of both mean squares.
    pub rho: f64,
    /// Added under both roots.
    pub epsilon: f64,
}

/// FTRL-proximal: follow the regularised leader.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ftrl {
    /// At most 0; 0 keeps the rate of every weight fixed.
    pub learning_rate_power: f64,
    /// What the sums of squares start at.
    pub initial_accumulator_value: f64,
    /// L1 penalty.
    pub l1_regularization_strength: f64,
    /// L2 penalty, stabilising.
    pub l2_regularization_strength: f64,
    /// L2 penalty on the size alone.
    pub l2_shrinkage_regularization_strength: f64,
    /// β of the paper: smooths the first steps.
    pub beta: f64,
}

/// Lion: steps by the sign of the momentum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    /// Share of the momentum in the sign that is followed, in `(0, 1]`.
    pub beta_1: f64,
    /// Decay of the momentum.
    pub beta_2: f64,
}

/// Adafactor: second moments by rows and columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adafactor {
    /// d in β₂ = 1 − tᵈ; at most 0.
    pub beta_2_decay: f64,
    /// Added to the squared gradient.
    pub epsilon_1: f64,
    /// Least size of the weights that the step is in proportion to.
    pub epsilon_2: f64,
    /// Updates of a larger root mean square are scaled down to it.
    pub clip_threshold: f64,
}

/// LAMB: Adam with a step in proportion to each array's norm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lamb {
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Added to the root.
    pub epsilon: f64,
}

/// A method with its own parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Stochastic gradient descent.
    Sgd(Sgd),
    /// RMSprop.
    RmsProp(RmsProp),
    /// Adam.
    Adam(Adam),
    /// Adam with weight decay by default.
    AdamW(Adam),
    /// Adamax.
    Adamax(Adamax),
    /// Nadam.
    Nadam(Nadam),
    /// Adagrad.
    Adagrad(Adagrad),
    /// Adadelta.
    Adadelta(Adadelta),
    /// FTRL-proximal.
    Ftrl(Ftrl),
    /// Lion.
    Lion(Lion),
    /// Adafactor.
    Adafactor(Adafactor),
    /// LAMB.
    Lamb(Lamb),
}

impl Method {
    /// Every method that these semantics have, with Keras's defaults.
    #[must_use]
    pub fn all(semantics: Semantics) -> Vec<Self> {
        let schedule_decay = match semantics {
            Semantics::Legacy => 0.004,
            Semantics::Current => 1.0,
        };
        let mut methods = vec![
            Self::Sgd(Sgd::default()),
            Self::RmsProp(RmsProp::default()),
            Self::Adam(Adam::default()),
            Self::Adamax(Adamax::default()),
            Self::Nadam(Nadam { schedule_decay, ..Nadam::default() }),
            Self::Adagrad(Adagrad::default()),
            Self::Adadelta(Adadelta::default()),
            Self::Ftrl(Ftrl::default()),
        ];
        if semantics == Semantics::Current {
            methods.extend([
                Self::AdamW(Adam::default()),
                Self::Lion(Lion::default()),
                Self::Adafactor(Adafactor::default()),
                Self::Lamb(Lamb::default()),
            ]);
        }
        methods
    }

    /// Keras's name of it, in lower case.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sgd(_) => "sgd",
            Self::RmsProp(_) => "rmsprop",
            Self::Adam(_) => "adam",
            Self::AdamW(_) => "adamw",
            Self::Adamax(_) => "adamax",
            Self::Nadam(_) => "nadam",
            Self::Adagrad(_) => "adagrad",
            Self::Adadelta(_) => "adadelta",
            Self::Ftrl(_) => "ftrl",
            Self::Lion(_) => "lion",
            Self::Adafactor(_) => "adafactor",
            Self::Lamb(_) => "lamb",
        }
    }

    /// Keras's default learning rate.
    pub(super) fn usual_rate(&self) -> f64 {
        if matches!(self, Self::Sgd(_)) { 0.01 } else { 0.001 }
    }

    /// Its parameters in the order of Keras's arguments.
    pub(super) fn fields(&mut self, semantics: Semantics) -> Vec<Field<'_>> {
        use Domain::{Fraction, NotNegative, NotPositive, Positive, PositiveShare, Share};
        match self {
            Self::Sgd(sgd) => vec![
                Field::number("momentum", Share, &mut sgd.momentum),
                Field::flag("nesterov", &mut sgd.nesterov),
            ],
            Self::RmsProp(rms_prop) => vec![
                Field::number("rho", Fraction, &mut rms_prop.rho),
                Field::number("momentum", Share, &mut rms_prop.momentum),
                Field::number("epsilon", Positive, &mut rms_prop.epsilon),
                Field::flag("centered", &mut rms_prop.centered),
            ],
            Self::Adam(adam) | Self::AdamW(adam) => {
                let mut fields = moments(&mut adam.beta_1, &mut adam.beta_2, &mut adam.epsilon);
                fields.push(Field::flag("amsgrad", &mut adam.amsgrad));
                fields
            }
            Self::Adamax(Adamax { beta_1, beta_2, epsilon })
            | Self::Lamb(Lamb { beta_1, beta_2, epsilon }) => moments(beta_1, beta_2, epsilon),
            Self::Nadam(nadam) => {
                let mut fields = moments(&mut nadam.beta_1, &mut nadam.beta_2, &mut nadam.epsilon);
                if semantics == Semantics::Legacy {
                    let decay = &mut nadam.schedule_decay;
                    fields.push(Field::number("schedule_decay", NotNegative, decay));
                }
                fields
            }
            Self::Adagrad(adagrad) => vec![
                Field::number(
                    "initial_accumulator_value",
                    NotNegative,
                    &mut adagrad.initial_accumulator_value,
                ),
                Field::number("epsilon", Positive, &mut adagrad.epsilon),
            ],
            Self::Adadelta(adadelta) => vec![
                Field::number("rho", Fraction, &mut adadelta.rho),
                Field::number("epsilon", Positive, &mut adadelta.epsilon),
            ],
            Self::Ftrl(ftrl) => ftrl.fields(),
            Self::Lion(lion) => vec![
                Field::number("beta_1", PositiveShare, &mut lion.beta_1),
                Field::number("beta_2", Share, &mut lion.beta_2),
            ],
            Self::Adafactor(adafactor) => vec![
                Field::number("beta_2_decay", NotPositive, &mut adafactor.beta_2_decay),
                Field::number("epsilon_1", Positive, &mut adafactor.epsilon_1),
                Field::number("epsilon_2", Positive, &mut adafactor.epsilon_2),
                Field::number("clip_threshold", Positive, &mut adafactor.clip_threshold),
            ],
        }
    }
}

/// The three parameters of Adam and its kin.
fn moments<'a>(beta_1: &'a mut f64, beta_2: &'a mut f64, epsilon: &'a mut f64) -> Vec<Field<'a>> {
    vec![
        Field::number("beta_1", Domain::Fraction, beta_1),
        Field::number("beta_2", Domain::Fraction, beta_2),
        Field::number("epsilon", Domain::Positive, epsilon),
    ]
}

impl Ftrl {
    fn fields(&mut self) -> Vec<Field<'_>> {
        use Domain::{NotNegative, NotPositive};
        let not_negative = |name, value| Field::number(name, NotNegative, value);
        vec![
            Field::number("learning_rate_power", NotPositive, &mut self.learning_rate_power),
            not_negative("initial_accumulator_value", &mut self.initial_accumulator_value),
            not_negative("l1_regularization_strength", &mut self.l1_regularization_strength),
            not_negative("l2_regularization_strength", &mut self.l2_regularization_strength),
            not_negative(
                "l2_shrinkage_regularization_strength",
                &mut self.l2_shrinkage_regularization_strength,
            ),
            not_negative("beta", &mut self.beta),
        ]
    }
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.0, nesterov: false }
    }
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { rho: 0.9, momentum: 0.0, epsilon: 1e-7, centered: false }
    }
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, amsgrad: false }
    }
}

impl Default for Adamax {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }
    }
}

impl Default for Nadam {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, schedule_decay: 1.0 }
    }
}

impl Default for Adagrad {
    fn default() -> Self {
        Self { initial_accumulator_value: 0.1, epsilon: 1e-7 }
    }
}

impl Default for Adadelta {
    fn default() -> Self {
        Self { rho: 0.95, epsilon: 1e-7 }
    }
}

impl Default for Ftrl {
    fn default() -> Self {
        Self {
            learning_rate_power: -0.5,
            initial_accumulator_value: 0.1,
            l1_regularization_strength: 0.0,
            l2_regularization_strength: 0.0,
            l2_shrinkage_regularization_strength: 0.0,
            beta: 0.0,
        }
    }
}

impl Default for Lion {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.99 }
    }
}

impl Default for Adafactor {
    fn default() -> Self {
        Self { beta_2_decay: -0.8, epsilon_1: 1e-30, epsilon_2: 1e-3, clip_threshold: 1.0 }
    }
}

impl Default for Lamb {
    fn default() -> Self {
        Self { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7 }
    }
}
