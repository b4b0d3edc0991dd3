//! The methods that change each weight by itself. Their formulas are in the table of the module
//! above.

use arrowhop_types::optimizer::{
    Adadelta, Adagrad, Adam, Adamax, Ftrl, Lion, Nadam, RmsProp, Semantics, Sgd,
};

use super::pass::Pass;
use super::{Array, Step, rest_of_power, single};

pub(super) fn sgd(sgd: &Sgd, step: Step, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    let (rate, momentum) = (single(step.rate), single(sgd.momentum));
    if slots.is_empty() {
        return pass.each(weights, gradient, slots, |w, g, []| w - rate * g);
    }
    if sgd.nesterov {
        return pass.each(weights, gradient, slots, |w, g, [v]| {
            *v = momentum * *v - rate * g;
            w + (momentum * *v - rate * g)
        });
    }
    pass.each(weights, gradient, slots, |w, g, [v]| {
        *v = momentum * *v - rate * g;
        w + *v
    });
}

pub(super) fn rms_prop(rms_prop: &RmsProp, step: Step, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    let rate = single(step.rate);
    let (rho, rest) = (single(rms_prop.rho), rest(rms_prop.rho, step.semantics));
    let (momentum, epsilon) = (single(rms_prop.momentum), single(rms_prop.epsilon));
    let square = |g: f32, r: &mut f32| *r = rho * *r + rest * g * g;
    let variance = |g: f32, r: &mut f32, m: &mut f32| {
        *r = rho * *r + rest * g * g;
        *m = rho * *m + rest * g;
        *r - *m * *m
    };
    let is_outside = step.semantics == Semantics::Legacy && rms_prop.momentum == 0.0;
    let step = |g: f32, r: f32| {
        rate * g / if is_outside { r.sqrt() + epsilon } else { (r + epsilon).sqrt() }
    };
    match (rms_prop.centered, rms_prop.momentum > 0.0) {
        (false, false) => pass.each(weights, gradient, slots, |w, g, [r]| {
            square(g, r);
            w - step(g, *r)
        }),
        (true, false) => {
            pass.each(weights, gradient, slots, |w, g, [r, m]| w - step(g, variance(g, r, m)));
        }
        (false, true) => pass.each(weights, gradient, slots, |w, g, [r, v]| {
            square(g, r);
            *v = momentum * *v + step(g, *r);
            w - *v
        }),
        (true, true) => pass.each(weights, gradient, slots, |w, g, [r, m, v]| {
            *v = momentum * *v + step(g, variance(g, r, m));
            w - *v
        }),
    }
}

pub(super) fn adam(adam: &Adam, step: Step, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    let rate = single(
        step.rate * rest_of_power(adam.beta_2, step.number).sqrt()
            / rest_of_power(adam.beta_1, step.number),
    );
    let moments = Moments::new(adam.beta_1, adam.beta_2, step.semantics);
    let epsilon = single(adam.epsilon);
    if adam.amsgrad {
        return pass.each(weights, gradient, slots, |w, g, [m, v, v_max]| {
            moments.follow(g, m, v);
            *v_max = v_max.max(*v);
            w - rate * *m / (v_max.sqrt() + epsilon)
        });
    }
    pass.each(weights, gradient, slots, |w, g, [m, v]| {
        moments.follow(g, m, v);
        w - rate * *m / (v.sqrt() + epsilon)
    });
}

pub(super) fn adamax(adamax: &Adamax, step: Step, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    let rate = single(step.rate / rest_of_power(adamax.beta_1, step.number));
    let (beta_1, rest_1) = (single(adamax.beta_1), rest(adamax.beta_1, step.semantics));
    let (beta_2, epsilon) = (single(adamax.beta_2), single(adamax.epsilon));
    pass.each(weights, gradient, slots, |w, g, [m, u]| {
        *m = beta_1 * *m + rest_1 * g;
        *u = (beta_2 * *u).max(g.abs());
        w - rate * *m / (*u + epsilon)
    });
}

/// `product` is ∏μ up to this step.
pub(super) fn nadam(nadam: &Nadam, step: Step, product: f32, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    let product = f64::from(product);
    let (now, next) = (nadam_momentum(nadam, step.number), nadam_momentum(nadam, step.number + 1));
    let of_gradient = single(step.rate * (1.0 - now) / (1.0 - product));
    let of_moment = single(step.rate * next / (1.0 - product * next));
    let correction = single((1.0 / rest_of_power(nadam.beta_2, step.number)).sqrt());
    // Keras's Nadam is in single precision in its current semantics, too.
    let moments = Moments::new(nadam.beta_1, nadam.beta_2, Semantics::Legacy);
    let epsilon = single(nadam.epsilon);
    pass.each(weights, gradient, slots, |w, g, [m, v]| {
        moments.follow(g, m, v);
        w - (of_gradient * g + of_moment * *m) / (correction * v.sqrt() + epsilon)
    });
}

/// μ at a step.
#[expect(clippy::cast_precision_loss, reason = "steps stay below 2^52")]
pub(super) fn nadam_momentum(nadam: &Nadam, step: u64) -> f64 {
    nadam.beta_1 * (1.0 - 0.5 * 0.96_f64.powf(nadam.schedule_decay * step as f64))
}

pub(super) fn adagrad(adagrad: &Adagrad, step: Step, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    let (rate, epsilon) = (single(step.rate), single(adagrad.epsilon));
    match step.semantics {
        Semantics::Legacy => pass.each(weights, gradient, slots, |w, g, [a]| {
            *a += g * g;
            w - rate * g / (a.sqrt() + epsilon)
        }),
        Semantics::Current => pass.each(weights, gradient, slots, |w, g, [a]| {
            *a += g * g;
            w - rate * g / (*a + epsilon).sqrt()
        }),
    }
}

pub(super) fn adadelta(adadelta: &Adadelta, step: Step, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    let (rate, epsilon) = (single(step.rate), single(adadelta.epsilon));
    let (rho, rest) = (single(adadelta.rho), single(1.0 - adadelta.rho));
    pass.each(weights, gradient, slots, |w, g, [a, d]| {
        *a = rho * *a + rest * g * g;
        let step = (*d + epsilon).sqrt() / (*a + epsilon).sqrt() * g;
        *d = rho * *d + rest * step * step;
        w - rate * step
    });
}

pub(super) fn ftrl(ftrl: &Ftrl, step: Step, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    let l2 = single(2.0 * ftrl.l2_regularization_strength + ftrl.beta / step.rate);
    let l1 = single(ftrl.l1_regularization_strength);
    let shrinkage = single(2.0 * ftrl.l2_shrinkage_regularization_strength);
    let (inverse_rate, exponent) = (single(1.0 / step.rate), single(-ftrl.learning_rate_power));
    let is_root = ftrl.learning_rate_power == -0.5;
    let raised = |sum: f32| if is_root { sum.sqrt() } else { sum.powf(exponent) };
    pass.each(weights, gradient, slots, |w, g, [a, z]| {
        let sum = *a + g * g;
        *z += g + shrinkage * w - (raised(sum) - raised(*a)) * inverse_rate * w;
        *a = sum;
        (z.clamp(-l1, l1) - *z) / (raised(sum) * inverse_rate + l2)
    });
}

pub(super) fn lion(lion: &Lion, step: Step, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    let rate = single(step.rate);
    let (beta_1, rest_1) = (single(lion.beta_1), single(1.0 - lion.beta_1));
    let (beta_2, rest_2) = (single(lion.beta_2), single(1.0 - lion.beta_2));
    pass.each(weights, gradient, slots, |w, g, [m]| {
        let direction = beta_1 * *m + rest_1 * g;
        *m = beta_2 * *m + rest_2 * g;
        // Rust's signum of 0 is 1.
        let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
        w - rate * sign
    });
}

/// The moving first and second moment of a gradient.
#[derive(Clone, Copy)]
pub(super) struct Moments {
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    rest_2: f32,
}

impl Moments {
    pub(super) fn new(beta_1: f64, beta_2: f64, semantics: Semantics) -> Self {
        Self {
            beta_1: single(beta_1),
            rest_1: rest(beta_1, semantics),
            beta_2: single(beta_2),
            rest_2: rest(beta_2, semantics),
        }
    }

    pub(super) fn follow(self, g: f32, m: &mut f32, v: &mut f32) {
        *m = self.beta_1 * *m + self.rest_1 * g;
        *v = self.beta_2 * *v + self.rest_2 * g * g;
    }
}

/// 1 − β. Legacy optimizers subtract in single precision, in which it may be 10⁻⁵ off.
fn rest(beta: f64, semantics: Semantics) -> f32 {
    match semantics {
        Semantics::Legacy => 1.0 - single(beta),
        Semantics::Current => single(1.0 - beta),
    }
}
