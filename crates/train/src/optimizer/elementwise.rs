//! The methods that change each weight by itself, as rules. Their formulas are in the table of the
//! module above.

use arrowhop_types::optimizer::{
    Adadelta, Adagrad, Adam, Adamax, Ftrl, Lion, Nadam, RmsProp, Semantics, Sgd,
};

use super::number::Number;
use super::pass::Rule;
use super::{Operand, Step, rest_of_power, single};

pub(super) fn sgd(sgd: &Sgd, step: Step, operand: impl Operand) {
    let (rate, momentum) = (single(step.rate), single(sgd.momentum));
    if sgd.momentum > 0.0 {
        operand.each(&Momentum { rate, momentum, nesterov: sgd.nesterov });
    } else {
        operand.each(&Descent { rate });
    }
}

struct Descent {
    rate: f32,
}

impl Rule<0> for Descent {
    fn step<N: Number>(&self, w: N, g: N, []: [N; 0]) -> (N, [N; 0]) {
        (w - g * self.rate, [])
    }
}

struct Momentum {
    rate: f32,
    momentum: f32,
    nesterov: bool,
}

impl Rule<1> for Momentum {
    fn step<N: Number>(&self, w: N, g: N, [v]: [N; 1]) -> (N, [N; 1]) {
        let step = g * self.rate;
        let v = v * self.momentum - step.clone();
        let w = if self.nesterov { w + (v.clone() * self.momentum - step) } else { w + v.clone() };
        (w, [v])
    }
}

pub(super) fn rms_prop(rms_prop: &RmsProp, step: Step, operand: impl Operand) {
    let rule = MeanSquare {
        rate: single(step.rate),
        rho: single(rms_prop.rho),
        rest: rest(rms_prop.rho, step.semantics),
        momentum: single(rms_prop.momentum),
        epsilon: single(rms_prop.epsilon),
        is_outside: step.semantics == Semantics::Legacy && rms_prop.momentum == 0.0,
    };
    match (rms_prop.centered, rms_prop.momentum > 0.0) {
        (false, false) => operand.each(&RmsPropRule::<false, false>(rule)),
        (true, false) => operand.each(&RmsPropRule::<true, false>(rule)),
        (false, true) => operand.each(&RmsPropRule::<false, true>(rule)),
        (true, true) => operand.each(&RmsPropRule::<true, true>(rule)),
    }
}

struct MeanSquare {
    rate: f32,
    rho: f32,
    rest: f32,
    momentum: f32,
    epsilon: f32,
    /// Epsilon is added to the root.
    is_outside: bool,
}

struct RmsPropRule<const CENTERED: bool, const MOMENTUM: bool>(MeanSquare);

impl MeanSquare {
    fn follow<N: Number>(&self, r: N, g: &N) -> N {
        r * self.rho + g.clone() * self.rest * g.clone()
    }

    fn follow_mean<N: Number>(&self, m: N, g: &N) -> N {
        m * self.rho + g.clone() * self.rest
    }

    fn step<N: Number>(&self, g: N, r: N) -> N {
        let root =
            if self.is_outside { r.sqrt() + self.epsilon } else { (r + self.epsilon).sqrt() };
        g * self.rate / root
    }

    fn accelerate<N: Number>(&self, v: N, step: N) -> N {
        v * self.momentum + step
    }
}

impl Rule<1> for RmsPropRule<false, false> {
    fn step<N: Number>(&self, w: N, g: N, [r]: [N; 1]) -> (N, [N; 1]) {
        let r = self.0.follow(r, &g);
        (w - self.0.step(g, r.clone()), [r])
    }
}

impl Rule<2> for RmsPropRule<true, false> {
    fn step<N: Number>(&self, w: N, g: N, [r, m]: [N; 2]) -> (N, [N; 2]) {
        let (r, m) = (self.0.follow(r, &g), self.0.follow_mean(m, &g));
        (w - self.0.step(g, r.clone() - m.clone() * m.clone()), [r, m])
    }
}

impl Rule<2> for RmsPropRule<false, true> {
    fn step<N: Number>(&self, w: N, g: N, [r, v]: [N; 2]) -> (N, [N; 2]) {
        let r = self.0.follow(r, &g);
        let v = self.0.accelerate(v, self.0.step(g, r.clone()));
        (w - v.clone(), [r, v])
    }
}

impl Rule<3> for RmsPropRule<true, true> {
    fn step<N: Number>(&self, w: N, g: N, [r, m, v]: [N; 3]) -> (N, [N; 3]) {
        let (r, m) = (self.0.follow(r, &g), self.0.follow_mean(m, &g));
        let step = self.0.step(g, r.clone() - m.clone() * m.clone());
        let v = self.0.accelerate(v, step);
        (w - v.clone(), [r, m, v])
    }
}

pub(super) fn adam(adam: &Adam, step: Step, operand: impl Operand) {
    let corrected =
        rest_of_power(adam.beta_2, step.number).sqrt() / rest_of_power(adam.beta_1, step.number);
    let rule = AdamRule {
        rate: single(step.rate * corrected),
        moments: Moments::new(adam.beta_1, adam.beta_2, step.semantics),
        epsilon: single(adam.epsilon),
    };
    if adam.amsgrad { operand.each(&AmsGrad(rule)) } else { operand.each(&rule) }
}

struct AdamRule {
    rate: f32,
    moments: Moments,
    epsilon: f32,
}

struct AmsGrad(AdamRule);

impl AdamRule {
    fn moved<N: Number>(&self, w: N, m: N, v: N) -> N {
        w - m * self.rate / (v.sqrt() + self.epsilon)
    }
}

impl Rule<2> for AdamRule {
    fn step<N: Number>(&self, w: N, g: N, [m, v]: [N; 2]) -> (N, [N; 2]) {
        let [m, v] = self.moments.follow(&g, m, v);
        (self.moved(w, m.clone(), v.clone()), [m, v])
    }
}

impl Rule<3> for AmsGrad {
    fn step<N: Number>(&self, w: N, g: N, [m, v, v_max]: [N; 3]) -> (N, [N; 3]) {
        let [m, v] = self.0.moments.follow(&g, m, v);
        let v_max = v_max.largest(v.clone());
        (self.0.moved(w, m.clone(), v_max.clone()), [m, v, v_max])
    }
}

pub(super) fn adamax(adamax: &Adamax, step: Step, operand: impl Operand) {
    operand.each(&AdamaxRule {
        rate: single(step.rate / rest_of_power(adamax.beta_1, step.number)),
        beta_1: single(adamax.beta_1),
        rest_1: rest(adamax.beta_1, step.semantics),
        beta_2: single(adamax.beta_2),
        epsilon: single(adamax.epsilon),
    });
}

struct AdamaxRule {
    rate: f32,
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    epsilon: f32,
}

impl Rule<2> for AdamaxRule {
    fn step<N: Number>(&self, w: N, g: N, [m, u]: [N; 2]) -> (N, [N; 2]) {
        let m = m * self.beta_1 + g.clone() * self.rest_1;
        let u = (u * self.beta_2).largest(g.abs());
        (w - m.clone() * self.rate / (u.clone() + self.epsilon), [m, u])
    }
}

/// `product` is ∏μ up to this step.
pub(super) fn nadam(nadam: &Nadam, step: Step, product: f32, operand: impl Operand) {
    let product = f64::from(product);
    let (now, next) = (nadam_momentum(nadam, step.number), nadam_momentum(nadam, step.number + 1));
    operand.each(&NadamRule {
        of_gradient: single(step.rate * (1.0 - now) / (1.0 - product)),
        of_moment: single(step.rate * next / (1.0 - product * next)),
        correction: single((1.0 / rest_of_power(nadam.beta_2, step.number)).sqrt()),
        // Keras's Nadam is in single precision in its current semantics, too.
        moments: Moments::new(nadam.beta_1, nadam.beta_2, Semantics::Legacy),
        epsilon: single(nadam.epsilon),
    });
}

struct NadamRule {
    of_gradient: f32,
    of_moment: f32,
    correction: f32,
    moments: Moments,
    epsilon: f32,
}

impl Rule<2> for NadamRule {
    fn step<N: Number>(&self, w: N, g: N, [m, v]: [N; 2]) -> (N, [N; 2]) {
        let [m, v] = self.moments.follow(&g, m, v);
        let direction = g * self.of_gradient + m.clone() * self.of_moment;
        (w - direction / (v.clone().sqrt() * self.correction + self.epsilon), [m, v])
    }
}

/// μ at a step.
#[expect(clippy::cast_precision_loss, reason = "steps stay below 2^52")]
pub(super) fn nadam_momentum(nadam: &Nadam, step: u64) -> f64 {
    nadam.beta_1 * (1.0 - 0.5 * 0.96_f64.powf(nadam.schedule_decay * step as f64))
}

pub(super) fn adagrad(adagrad: &Adagrad, step: Step, operand: impl Operand) {
    operand.each(&AdagradRule {
        rate: single(step.rate),
        epsilon: single(adagrad.epsilon),
        is_outside: step.semantics == Semantics::Legacy,
    });
}

struct AdagradRule {
    rate: f32,
    epsilon: f32,
    /// Epsilon is added to the root.
    is_outside: bool,
}

impl Rule<1> for AdagradRule {
    fn step<N: Number>(&self, w: N, g: N, [a]: [N; 1]) -> (N, [N; 1]) {
        let a = a + g.clone() * g.clone();
        let root = if self.is_outside {
            a.clone().sqrt() + self.epsilon
        } else {
            (a.clone() + self.epsilon).sqrt()
        };
        (w - g * self.rate / root, [a])
    }
}

pub(super) fn adadelta(adadelta: &Adadelta, step: Step, operand: impl Operand) {
    operand.each(&AdadeltaRule {
        rate: single(step.rate),
        rho: single(adadelta.rho),
        rest: single(1.0 - adadelta.rho),
        epsilon: single(adadelta.epsilon),
    });
}

struct AdadeltaRule {
    rate: f32,
    rho: f32,
    rest: f32,
    epsilon: f32,
}

impl Rule<2> for AdadeltaRule {
    fn step<N: Number>(&self, w: N, g: N, [a, d]: [N; 2]) -> (N, [N; 2]) {
        let a = a * self.rho + g.clone() * self.rest * g.clone();
        let step = (d.clone() + self.epsilon).sqrt() / (a.clone() + self.epsilon).sqrt() * g;
        let d = d * self.rho + step.clone() * self.rest * step.clone();
        (w - step * self.rate, [a, d])
    }
}

pub(super) fn ftrl(ftrl: &Ftrl, step: Step, operand: impl Operand) {
    operand.each(&FtrlRule {
        l2: single(2.0 * ftrl.l2_regularization_strength + ftrl.beta / step.rate),
        l1: single(ftrl.l1_regularization_strength),
        shrinkage: single(2.0 * ftrl.l2_shrinkage_regularization_strength),
        inverse_rate: single(1.0 / step.rate),
        exponent: single(-ftrl.learning_rate_power),
        is_root: ftrl.learning_rate_power == -0.5,
    });
}

struct FtrlRule {
    l2: f32,
    l1: f32,
    shrinkage: f32,
    inverse_rate: f32,
    exponent: f32,
    is_root: bool,
}

impl FtrlRule {
    fn raised<N: Number>(&self, sum: N) -> N {
        if self.is_root { sum.sqrt() } else { sum.raised(self.exponent) }
    }
}

impl Rule<2> for FtrlRule {
    fn step<N: Number>(&self, w: N, g: N, [a, z]: [N; 2]) -> (N, [N; 2]) {
        let sum = a.clone() + g.clone() * g.clone();
        let now = self.raised(sum.clone());
        let grown = (now.clone() - self.raised(a)) * self.inverse_rate * w.clone();
        let z = z + (g + w * self.shrinkage - grown);
        let w = (z.clone().within(self.l1) - z.clone()) / (now * self.inverse_rate + self.l2);
        (w, [sum, z])
    }
}

pub(super) fn lion(lion: &Lion, step: Step, operand: impl Operand) {
    operand.each(&LionRule {
        rate: single(step.rate),
        beta_1: single(lion.beta_1),
        rest_1: single(1.0 - lion.beta_1),
        beta_2: single(lion.beta_2),
        rest_2: single(1.0 - lion.beta_2),
    });
}

struct LionRule {
    rate: f32,
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    rest_2: f32,
}

impl Rule<1> for LionRule {
    fn step<N: Number>(&self, w: N, g: N, [m]: [N; 1]) -> (N, [N; 1]) {
        let direction = m.clone() * self.beta_1 + g.clone() * self.rest_1;
        let m = m * self.beta_2 + g * self.rest_2;
        (w - direction.sign() * self.rate, [m])
    }
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

    fn follow<N: Number>(&self, g: &N, m: N, v: N) -> [N; 2] {
        let m = m * self.beta_1 + g.clone() * self.rest_1;
        let v = v * self.beta_2 + g.clone() * self.rest_2 * g.clone();
        [m, v]
    }
}

/// The moments alone: the weights are another's matter.
impl Rule<2> for Moments {
    fn step<N: Number>(&self, w: N, g: N, [m, v]: [N; 2]) -> (N, [N; 2]) {
        (w, self.follow(&g, m, v))
    }
}

/// 1 − β. Legacy optimizers subtract in single precision, in which it may be 10⁻⁵ off.
fn rest(beta: f64, semantics: Semantics) -> f32 {
    match semantics {
        Semantics::Legacy => 1.0 - single(beta),
        Semantics::Current => single(1.0 - beta),
    }
}
