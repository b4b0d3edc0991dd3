//! Keras's optimizers, by the formulas of the legacy `tf.keras.optimizers`. One pass over each
//! weight array, in place, in single precision.
//!
//! With t counted from 1, η_t = η / (1 + decay·(t − 1)), and g the gradient:
//!
//! | optimizer | update |
//! |---|---|
//! | SGD | v ← μv − ηg; w += v; with Nesterov w += μv − ηg |
//! | RMSprop | r ← ρr + (1 − ρ)g²; centered: m ← ρm + (1 − ρ)g and r − m² for r below |
//! | | μ = 0: w −= ηg / (√r + ε); μ > 0: v ← μv + ηg / √(r + ε); w −= v |
//! | Adam | a = η√(1 − β₂ᵗ) / (1 − β₁ᵗ); w −= a·m / (√v + ε); AMSGrad takes the largest v so far |
//!
//! Centered RMSprop without momentum is w −= ηg / (√(r − m²) + ε).

use arrowhop_types::{Adam, Optimizer, RmsProp, Sgd};

/// The slots of one weight array, in the order of [`slots`].
pub(crate) type Slots = Vec<Vec<f32>>;

/// Names of the values that an optimizer keeps for each weight.
pub(crate) fn slots(optimizer: &Optimizer) -> Vec<&'static str> {
    match optimizer {
        Optimizer::Sgd(sgd) => named(&[("velocity", sgd.momentum > 0.0)]),
        Optimizer::RmsProp(rms_prop) => named(&[
            ("mean_square", true),
            ("mean_gradient", rms_prop.centered),
            ("velocity", rms_prop.momentum > 0.0),
        ]),
        Optimizer::Adam(adam) => named(&[("m", true), ("v", true), ("v_max", adam.amsgrad)]),
    }
}

fn named(slots: &[(&'static str, bool)]) -> Vec<&'static str> {
    slots.iter().filter(|(_, is_kept)| *is_kept).map(|(name, _)| *name).collect()
}

/// Changes one weight array by one gradient. `step` is t; `slots` are those of this array.
pub(crate) fn update(
    optimizer: &Optimizer,
    step: u64,
    weights: &mut [f32],
    gradient: &[f32],
    slots: &mut [Vec<f32>],
) {
    match optimizer {
        Optimizer::Sgd(sgd) => update_sgd(sgd, step, weights, gradient, slots),
        Optimizer::RmsProp(rms_prop) => update_rms_prop(rms_prop, step, weights, gradient, slots),
        Optimizer::Adam(adam) => update_adam(adam, step, weights, gradient, slots),
    }
}

fn update_sgd(sgd: &Sgd, step: u64, weights: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>]) {
    let rate = single(decayed(sgd.learning_rate, sgd.decay, step));
    let momentum = single(sgd.momentum);
    let [velocity] = slots else {
        for (w, g) in weights.iter_mut().zip(gradient) {
            *w -= rate * g;
        }
        return;
    };
    for ((w, g), v) in weights.iter_mut().zip(gradient).zip(velocity) {
        *v = momentum * *v - rate * g;
        *w += if sgd.nesterov { momentum * *v - rate * g } else { *v };
    }
}

fn update_rms_prop(
    rms_prop: &RmsProp,
    step: u64,
    weights: &mut [f32],
    gradient: &[f32],
    slots: &mut [Vec<f32>],
) {
    let rate = single(decayed(rms_prop.learning_rate, rms_prop.decay, step));
    let (rho, rest) = (single(rms_prop.rho), single(1.0 - rms_prop.rho));
    let (momentum, epsilon) = (single(rms_prop.momentum), single(rms_prop.epsilon));
    let plain = |g: f32, r: f32| rate * g / (r.sqrt() + epsilon);
    let heavy = |g: f32, r: f32, v: f32| momentum * v + rate * g / (r + epsilon).sqrt();
    let pairs = weights.iter_mut().zip(gradient);
    match slots {
        [square] => {
            for ((w, &g), r) in pairs.zip(square) {
                *r = rho * *r + rest * g * g;
                *w -= plain(g, *r);
            }
        }
        [square, mean] if rms_prop.centered => {
            for (((w, &g), r), m) in pairs.zip(square).zip(mean) {
                *r = rho * *r + rest * g * g;
                *m = rho * *m + rest * g;
                *w -= plain(g, *r - *m * *m);
            }
        }
        [square, velocity] => {
            for (((w, &g), r), v) in pairs.zip(square).zip(velocity) {
                *r = rho * *r + rest * g * g;
                *v = heavy(g, *r, *v);
                *w -= *v;
            }
        }
        [square, mean, velocity] => {
            for ((((w, &g), r), m), v) in pairs.zip(square).zip(mean).zip(velocity) {
                *r = rho * *r + rest * g * g;
                *m = rho * *m + rest * g;
                *v = heavy(g, *r - *m * *m, *v);
                *w -= *v;
            }
        }
        _ => unreachable!("RMSprop keeps one to three slots"),
    }
}

fn update_adam(
    adam: &Adam,
    step: u64,
    weights: &mut [f32],
    gradient: &[f32],
    slots: &mut [Vec<f32>],
) {
    let rate = decayed(adam.learning_rate, adam.decay, step);
    let rate =
        single(rate * (1.0 - power(adam.beta_2, step)).sqrt() / (1.0 - power(adam.beta_1, step)));
    let (beta_1, rest_1) = (single(adam.beta_1), single(1.0 - adam.beta_1));
    let (beta_2, rest_2) = (single(adam.beta_2), single(1.0 - adam.beta_2));
    let epsilon = single(adam.epsilon);
    let pairs = weights.iter_mut().zip(gradient);
    match slots {
        [first, second] => {
            for (((w, &g), m), v) in pairs.zip(first).zip(second) {
                *m = beta_1 * *m + rest_1 * g;
                *v = beta_2 * *v + rest_2 * g * g;
                *w -= rate * *m / (v.sqrt() + epsilon);
            }
        }
        [first, second, largest] => {
            for ((((w, &g), m), v), v_max) in pairs.zip(first).zip(second).zip(largest) {
                *m = beta_1 * *m + rest_1 * g;
                *v = beta_2 * *v + rest_2 * g * g;
                *v_max = v_max.max(*v);
                *w -= rate * *m / (v_max.sqrt() + epsilon);
            }
        }
        _ => unreachable!("Adam keeps two or three slots"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "steps stay below 2^52")]
fn decayed(rate: f64, decay: f64, step: u64) -> f64 {
    rate / (1.0 + decay * (step - 1) as f64)
}

/// βᵗ; beyond 2³¹ steps it is 0 for every β below 1.
fn power(beta: f64, step: u64) -> f64 {
    beta.powi(i32::try_from(step).unwrap_or(i32::MAX))
}

#[expect(clippy::cast_possible_truncation, reason = "updates are single precision")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRADIENT: [f32; 2] = [0.5, -2.0];

    /// Weights after two steps from 1 by the same gradient.
    fn two_steps(optimizer: &Optimizer) -> [f32; 2] {
        let mut weights = [1.0; 2];
        let mut slots = vec![vec![0.0; 2]; slots(optimizer).len()];
        for step in 1..=2 {
            update(optimizer, step, &mut weights, &GRADIENT, &mut slots);
        }
        weights
    }

    /// Compares with the formulas, worked out step by step in double precision.
    fn assert_steps(optimizer: Optimizer, expected: impl Fn(f64) -> f64) {
        for (weight, gradient) in two_steps(&optimizer).into_iter().zip(GRADIENT) {
            let expected = expected(f64::from(gradient));
            let difference = (f64::from(weight) - expected).abs();
            assert!(difference < 1e-6, "{optimizer:?}: {weight}, not {expected}");
        }
    }

    #[test]
    fn sgd_steps_by_its_formula() {
        let sgd = Sgd { learning_rate: 0.1, ..Sgd::default() };
        assert_steps(Optimizer::Sgd(sgd), |g| 1.0 - 0.2 * g);
        let decay = Sgd { decay: 1.0, ..sgd };
        assert_steps(Optimizer::Sgd(decay), |g| 1.0 - 0.1 * g - 0.05 * g);
        let momentum = Sgd { momentum: 0.5, ..sgd };
        assert_steps(Optimizer::Sgd(momentum), |g| 1.0 - 0.1 * g - 0.15 * g);
        let nesterov = Sgd { nesterov: true, ..momentum };
        assert_steps(Optimizer::Sgd(nesterov), |g| 1.0 - 0.15 * g - 0.175 * g);
    }

    #[test]
    fn rms_prop_steps_by_its_formula() {
        let plain = RmsProp { learning_rate: 0.1, rho: 0.5, epsilon: 0.01, ..RmsProp::default() };
        assert_steps(Optimizer::RmsProp(plain), |g| {
            let step = |square: f64| 0.1 * g / ((square * g * g).sqrt() + 0.01);
            1.0 - step(0.5) - step(0.75)
        });
        let centered = RmsProp { centered: true, ..plain };
        assert_steps(Optimizer::RmsProp(centered), |g| {
            let step =
                |square: f64, mean: f64| 0.1 * g / (((square - mean * mean) * g * g).sqrt() + 0.01);
            1.0 - step(0.5, 0.5) - step(0.75, 0.75)
        });
        let heavy = RmsProp { momentum: 0.5, ..plain };
        assert_steps(Optimizer::RmsProp(heavy), |g| {
            let step = |square: f64| 0.1 * g / (square * g * g + 0.01).sqrt();
            1.0 - 1.5 * step(0.5) - step(0.75)
        });
        let both = RmsProp { centered: true, ..heavy };
        assert_steps(Optimizer::RmsProp(both), |g| {
            let step =
                |square: f64, mean: f64| 0.1 * g / ((square - mean * mean) * g * g + 0.01).sqrt();
            1.0 - 1.5 * step(0.5, 0.5) - step(0.75, 0.75)
        });
    }

    #[test]
    fn adam_steps_by_its_formula() {
        let adam = Adam {
            learning_rate: 0.1,
            beta_1: 0.5,
            beta_2: 0.75,
            epsilon: 0.01,
            ..Adam::default()
        };
        let step = |g: f64, first: f64, second: f64, t: i32| {
            let rate = 0.1 * (1.0 - 0.75_f64.powi(t)).sqrt() / (1.0 - 0.5_f64.powi(t));
            rate * first * g / ((second * g * g).sqrt() + 0.01)
        };
        let expected = |g: f64| 1.0 - step(g, 0.5, 0.25, 1) - step(g, 0.75, 0.4375, 2);
        assert_steps(Optimizer::Adam(adam), expected);
        assert_steps(Optimizer::Adam(Adam { amsgrad: true, ..adam }), expected);
    }

    #[test]
    fn amsgrad_remembers_the_largest_second_moment() {
        let adam = Adam { amsgrad: true, ..Adam::default() };
        let mut slots = vec![vec![0.0], vec![0.0], vec![4.0]];
        update(&Optimizer::Adam(adam), 1, &mut [0.0], &[1.0], &mut slots);
        assert_eq!(slots[2], [4.0]);
        assert!(slots[1][0] < 0.01);
    }
}
