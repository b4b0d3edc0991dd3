//! Keras's optimizers, in both of its semantics, in single precision. On the CPU they are passes over
//! each weight array, in place, and nothing is allocated; on a device they are tensor operations by the
//! same rules.
//!
//! With t counted from 1, η the learning rate at t, and g the gradient, clipped:
//!
//! | optimizer | update |
//! |---|---|
//! | SGD | v ← μv − ηg; w += v; with Nesterov w += μv − ηg |
//! | RMSprop | r ← ρr + (1 − ρ)g²; centered: m ← ρm + (1 − ρ)g and r − m² for r in what follows |
//! | | s = ηg / √(r + ε), but legacy without momentum s = ηg / (√r + ε) |
//! | | w −= s; with momentum v ← μv + s; w −= v |
//! | Adam, AdamW | m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; AMSGrad takes the largest v so far |
//! | | w −= η√(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε) |
//! | Adamax | m as Adam; u ← max(β₂u, ∣g∣); w −= η / (1 − β₁ᵗ) · m / (u + ε) |
//! | Nadam | m, v as Adam; μₜ = β₁(1 − ½·0.96^(d·t)); ĝ = g / (1 − ∏μ); m̂ = m / (1 − ∏μ·μₜ₊₁) |
//! | | w −= η((1 − μₜ)ĝ + μₜ₊₁m̂) / (√(v / (1 − β₂ᵗ)) + ε) |
//! | Adagrad | a ← a + g²; w −= ηg / √(a + ε), legacy ηg / (√a + ε) |
//! | Adadelta | a ← ρa + (1 − ρ)g²; s = √(d + ε) / √(a + ε) · g; d ← ρd + (1 − ρ)s²; w −= ηs |
//! | FTRL | a' = a + g²; z += g + 2·shrinkage·w − (a'ᵖ − aᵖ) / η · w with p = −power |
//! | | w = (clip(z, ±l₁) − z) / (a'ᵖ / η + 2l₂ + β / η); a ← a' |
//! | Lion | w −= η·sign(β₁m + (1 − β₁)g); m ← β₂m + (1 − β₂)g |
//! | LAMB | m, v as Adam; u = m / (1 − β₁ᵗ) / (√(v / (1 − β₂ᵗ)) + ε); w −= η‖w‖ / ‖u‖ · u |
//! | Adafactor | v ← (1 − tᵈ)v + tᵈ(g² + ε₁), of a matrix as its rows' times its columns' means |
//! | | u = g / √v; w −= max(ε₂, rms w) · min(η, 1/√t) · u / max(1, rms u / threshold) |
//!
//! Weight decay comes first, w −= η·decay·w, and the weights' moving average last. Sources:
//! `keras.optimizers` 3, and `tf.keras.optimizers` 2.10 for the legacy semantics.

mod arraywise;
mod device;
mod elementwise;
mod number;
mod pass;
mod rate;

use arrowhop_types::Optimizer;
use arrowhop_types::optimizer::{Averaging, Clipping, Method, Semantics};
use burn::tensor::Tensor;

use self::arraywise::{AdafactorStep, LambStep};
pub(crate) use self::device::{DeviceArray, DeviceSlots, norm};
pub(crate) use self::pass::square_sum;
use self::pass::{Pass, Rule};

/// The slots of one weight array, in the order of [`slots`].
pub(crate) type Slots = Vec<Vec<f32>>;

/// One of the arrays that an optimizer keeps for a weight array.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Slot {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    /// What all its elements are at first.
    pub(crate) initial: f32,
}

impl Slot {
    /// How many elements it has.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What an optimizer keeps for a weight array of this shape.
pub(crate) fn slots(optimizer: &Optimizer, shape: &[usize]) -> Vec<Slot> {
    let slot = |name, initial: f64| Slot { name, shape: shape.to_vec(), initial: single(initial) };
    let zeros = |names: &[(&'static str, bool)]| {
        let kept = names.iter().filter(|(_, is_kept)| *is_kept);
        kept.map(|(name, _)| slot(name, 0.0)).collect()
    };
    let mut slots: Vec<Slot> = match &optimizer.method {
        Method::Sgd(sgd) => zeros(&[("velocity", sgd.momentum > 0.0)]),
        Method::RmsProp(rms_prop) => zeros(&[
            ("mean_square", true),
            ("mean_gradient", rms_prop.centered),
            ("velocity", rms_prop.momentum > 0.0),
        ]),
        Method::Adam(adam) | Method::AdamW(adam) => {
            zeros(&[("m", true), ("v", true), ("v_max", adam.amsgrad)])
        }
        Method::Adamax(_) => zeros(&[("m", true), ("u", true)]),
        Method::Nadam(_) | Method::Lamb(_) => zeros(&[("m", true), ("v", true)]),
        Method::Adagrad(adagrad) => vec![slot("square_sum", adagrad.initial_accumulator_value)],
        Method::Adadelta(_) => zeros(&[("mean_square", true), ("mean_square_step", true)]),
        Method::Ftrl(ftrl) => {
            vec![slot("square_sum", ftrl.initial_accumulator_value), slot("linear", 0.0)]
        }
        Method::Lion(_) => zeros(&[("m", true)]),
        Method::Adafactor(_) => match shape {
            [outer @ .., rows, columns] => [("by_row", rows), ("by_column", columns)]
                .map(|(name, &count)| {
                    let shape = [outer, &[count]].concat();
                    Slot { name, shape, initial: 0.0 }
                })
                .to_vec(),
            _ => zeros(&[("v", true)]),
        },
    };
    slots.extend(optimizer.averaging.map(|_| slot("average", 0.0)));
    slots
}

/// Names and first values of the numbers that an optimizer keeps for all weights together.
pub(crate) fn scalars(optimizer: &Optimizer) -> Vec<(&'static str, f32)> {
    match optimizer.method {
        Method::Nadam(_) => vec![("momentum_product", 1.0)],
        _ => Vec::new(),
    }
}

/// Whether [`Update::new`] needs the norm of all gradients.
pub(crate) fn needs_norm(optimizer: &Optimizer) -> bool {
    matches!(optimizer.clipping, Some(Clipping::GlobalNorm(_)))
}

/// A weight array at a step: what is changed, and by what.
pub(crate) struct Array<'a> {
    pub(crate) shape: &'a [usize],
    pub(crate) weights: &'a mut [f32],
    pub(crate) gradient: &'a [f32],
    /// As [`slots`] lists them.
    pub(crate) slots: &'a mut [Vec<f32>],
}

/// A step's number, from 1, its learning rate, and whose formulas it follows.
#[derive(Debug, Clone, Copy)]
struct Step {
    number: u64,
    rate: f64,
    semantics: Semantics,
}

/// One step of an optimizer, the same for every weight array.
pub(crate) struct Update<'a> {
    optimizer: &'a Optimizer,
    step: Step,
    gradient_norm: Option<f64>,
    /// Nadam's ∏μ up to this step; else 1.
    momentum_product: f32,
}

impl<'a> Update<'a> {
    /// Step number `number`, from 1; `scalars` are those of the step before, and then of this one.
    pub(crate) fn new(
        optimizer: &'a Optimizer,
        number: u64,
        scalars: &mut [f32],
        gradient_norm: Option<f64>,
    ) -> Self {
        let rate = rate::rate(&optimizer.learning_rate, number - 1);
        let momentum_product = match (&optimizer.method, scalars) {
            (Method::Nadam(nadam), [product]) => {
                *product *= single(elementwise::nadam_momentum(nadam, number));
                *product
            }
            _ => 1.0,
        };
        let step = Step { number, rate, semantics: optimizer.semantics };
        Self { optimizer, step, gradient_norm, momentum_product }
    }

    /// Changes one weight array and its slots.
    pub(crate) fn apply(&self, array: Array<'_>) {
        let Array { shape, weights, gradient, slots } = array;
        let (slots, average) = slots.split_at_mut(slots.len() - self.averages());
        let array = Array { shape, weights: &mut *weights, gradient, slots };
        let pass =
            Pass::new(self.optimizer.clipping, self.gradient_norm, self.weight_decay(), gradient);
        self.follow(OnCpu { pass, array });
        if let Some((averaging, [average])) = self.optimizer.averaging.zip(as_one(average)) {
            let (momentum, rest) = self.averaging_momentum(averaging);
            for (average, weight) in average.iter_mut().zip(&*weights) {
                *average = momentum * *average + rest * weight;
            }
            if self.takes_average(averaging) {
                weights.copy_from_slice(average);
            }
        }
    }

    /// Changes one weight array and its slots on a device; `all_norm` is that of all gradients where
    /// [`needs_norm`] says so.
    pub(crate) fn apply_on_device(&self, array: DeviceArray<'_>, all_norm: Option<&Tensor<1>>) {
        let DeviceArray { shape, weights, gradient, slots } = array;
        let (slots, average) = slots.split_at_mut(slots.len() - self.averages());
        let mut array = DeviceArray { shape, weights: &mut *weights, gradient, slots };
        array.prepare(self.optimizer.clipping, all_norm, self.weight_decay());
        self.follow(array);
        if let Some((averaging, [average])) = self.optimizer.averaging.zip(as_one(average)) {
            let (momentum, rest) = self.averaging_momentum(averaging);
            *average = average.clone() * momentum + weights.clone() * rest;
            if self.takes_average(averaging) {
                *weights = average.clone();
            }
        }
    }

    fn follow(&self, operand: impl Operand) {
        let step = self.step;
        match &self.optimizer.method {
            Method::Sgd(sgd) => elementwise::sgd(sgd, step, operand),
            Method::RmsProp(rms_prop) => elementwise::rms_prop(rms_prop, step, operand),
            Method::Adam(adam) | Method::AdamW(adam) => elementwise::adam(adam, step, operand),
            Method::Adamax(adamax) => elementwise::adamax(adamax, step, operand),
            Method::Nadam(nadam) => {
                elementwise::nadam(nadam, step, self.momentum_product, operand);
            }
            Method::Adagrad(adagrad) => elementwise::adagrad(adagrad, step, operand),
            Method::Adadelta(adadelta) => elementwise::adadelta(adadelta, step, operand),
            Method::Ftrl(ftrl) => elementwise::ftrl(ftrl, step, operand),
            Method::Lion(lion) => elementwise::lion(lion, step, operand),
            Method::Lamb(lamb) => operand.lamb(&LambStep::new(lamb, step)),
            Method::Adafactor(adafactor) => {
                operand.adafactor(&AdafactorStep::new(adafactor, step));
            }
        }
    }

    /// The share of itself that each weight loses.
    fn weight_decay(&self) -> f64 {
        self.optimizer.weight_decay.unwrap_or_default() * self.step.rate
    }

    /// How many slots hold an average: they come last.
    fn averages(&self) -> usize {
        usize::from(self.optimizer.averaging.is_some())
    }

    /// How much of the average stays, and how much of the weights joins it.
    fn averaging_momentum(&self, averaging: Averaging) -> (f32, f32) {
        let momentum = if self.step.number == 1 { 0.0 } else { averaging.momentum };
        (single(momentum), single(1.0 - momentum))
    }

    /// Whether it is time for the weights to become their average.
    fn takes_average(&self, averaging: Averaging) -> bool {
        let frequency = averaging.overwrite_frequency.map(u64::from);
        frequency.is_some_and(|frequency| self.step.number.is_multiple_of(frequency))
    }
}

/// A slice of one, if it is.
fn as_one<T>(slice: &mut [T]) -> Option<&mut [T; 1]> {
    slice.try_into().ok()
}

/// A weight array in a method's hands, on the CPU or on a device.
trait Operand {
    /// Follows a rule of as many slots as there are.
    fn each<const SLOTS: usize>(self, rule: &impl Rule<SLOTS>);
    fn lamb(self, lamb: &LambStep);
    fn adafactor(self, step: &AdafactorStep);
}

/// A weight array on the CPU.
struct OnCpu<'a> {
    pass: Pass,
    array: Array<'a>,
}

impl Operand for OnCpu<'_> {
    fn each<const SLOTS: usize>(self, rule: &impl Rule<SLOTS>) {
        let Array { weights, gradient, slots, .. } = self.array;
        self.pass.each(weights, gradient, slots, rule);
    }

    fn lamb(self, lamb: &LambStep) {
        arraywise::lamb(lamb, self.pass, self.array);
    }

    fn adafactor(self, step: &AdafactorStep) {
        arraywise::adafactor(step, self.pass, self.array);
    }
}

/// 1 − βᵗ, as single precision has it: next to 1, where β₂ᵗ is at first, that makes a difference
/// of up to 10⁻⁵. Beyond 2³¹ steps βᵗ is 0 for every β below 1.
fn rest_of_power(beta: f64, step: u64) -> f64 {
    let power = f64::from(single(beta)).powi(i32::try_from(step).unwrap_or(i32::MAX));
    f64::from(1.0 - single(power))
}

#[expect(clippy::cast_possible_truncation, reason = "updates are single precision")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod oracle;

#[cfg(test)]
mod tests {
    use super::*;
    use arrowhop_types::optimizer::{Adagrad, LearningRate, Nadam, RmsProp, Semantics, Sgd};

    const GRADIENT: [f32; 2] = [0.5, -2.0];

    fn legacy(method: Method) -> Optimizer {
        Optimizer::new(method, Semantics::Legacy).at_rate(0.1)
    }

    /// Weights after two steps from 1 by the same gradient.
    fn two_steps(optimizer: &Optimizer) -> [f32; 2] {
        let mut weights = [1.0; 2];
        let mut slots: Vec<_> =
            slots(optimizer, &[2]).iter().map(|slot| vec![slot.initial; 2]).collect();
        let mut scalars: Vec<_> = scalars(optimizer).iter().map(|(_, value)| *value).collect();
        for step in 1..=2 {
            let (shape, weights, slots) = (&[2], &mut weights, &mut slots);
            let update = Update::new(optimizer, step, &mut scalars, None);
            update.apply(Array { shape, weights, gradient: &GRADIENT, slots });
        }
        weights
    }

    /// Compares with the formulas, worked out step by step in double precision.
    fn assert_steps(optimizer: &Optimizer, expected: impl Fn(f64) -> f64) {
        for (weight, gradient) in two_steps(optimizer).into_iter().zip(GRADIENT) {
            let expected = expected(f64::from(gradient));
            let difference = (f64::from(weight) - expected).abs();
            assert!(difference < 1e-6, "{optimizer}: {weight}, not {expected}");
        }
    }

    #[test]
    fn legacy_rates_decay() {
        let learning_rate = LearningRate::Decaying { initial: 0.1, decay: 1.0 };
        let sgd = legacy(Method::Sgd(Sgd::default()));
        assert_steps(&Optimizer { learning_rate, ..sgd }, |g| 1.0 - 0.1 * g - 0.05 * g);
    }

    #[test]
    fn legacy_rms_prop_adds_epsilon_to_the_root_unless_it_has_momentum() {
        let plain = RmsProp { rho: 0.5, epsilon: 0.01, ..RmsProp::default() };
        assert_steps(&legacy(Method::RmsProp(plain)), |g| {
            let step = |square: f64| 0.1 * g / ((square * g * g).sqrt() + 0.01);
            1.0 - step(0.5) - step(0.75)
        });
        let centered = RmsProp { centered: true, ..plain };
        assert_steps(&legacy(Method::RmsProp(centered)), |g| {
            let step =
                |square: f64, mean: f64| 0.1 * g / (((square - mean * mean) * g * g).sqrt() + 0.01);
            1.0 - step(0.5, 0.5) - step(0.75, 0.75)
        });
        let both = RmsProp { momentum: 0.5, ..centered };
        assert_steps(&legacy(Method::RmsProp(both)), |g| {
            let step =
                |square: f64, mean: f64| 0.1 * g / ((square - mean * mean) * g * g + 0.01).sqrt();
            1.0 - 1.5 * step(0.5, 0.5) - step(0.75, 0.75)
        });
    }

    #[test]
    fn legacy_adagrad_adds_epsilon_to_the_root() {
        let adagrad = Adagrad { initial_accumulator_value: 0.25, epsilon: 0.01 };
        assert_steps(&legacy(Method::Adagrad(adagrad)), |g| {
            let step = |times: f64| 0.1 * g / ((0.25 + times * g * g).sqrt() + 0.01);
            1.0 - step(1.0) - step(2.0)
        });
    }

    #[test]
    fn legacy_nadam_warms_up_by_its_own_decay() {
        let nadam = Nadam { beta_1: 0.5, beta_2: 0.75, epsilon: 0.01, schedule_decay: 0.5 };
        assert_steps(&legacy(Method::Nadam(nadam)), |g| {
            let mu = |t: f64| 0.5 * (1.0 - 0.5 * 0.96_f64.powf(0.5 * t));
            let step = |t: f64, product: f64, first: f64, second: f64| {
                let of_gradient = g / (1.0 - product);
                let of_moment = first * g / (1.0 - product * mu(t + 1.0));
                let size = (second * g * g / (1.0 - 0.75_f64.powf(t))).sqrt() + 0.01;
                0.1 * ((1.0 - mu(t)) * of_gradient + mu(t + 1.0) * of_moment) / size
            };
            1.0 - step(1.0, mu(1.0), 0.5, 0.25) - step(2.0, mu(1.0) * mu(2.0), 0.75, 0.4375)
        });
    }
}
