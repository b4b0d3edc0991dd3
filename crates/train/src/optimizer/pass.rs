//! One pass over a weight array on the CPU: what is done to every weight and gradient, whatever the
//! method.

use arrowhop_types::optimizer::Clipping;

use super::number::Number;
use super::single;

/// How a method changes a weight, or all of an array's at once.
pub(super) trait Rule<const SLOTS: usize> {
    /// The new weight and slots, of a weight, its gradient and its slots.
    fn step<N: Number>(&self, weight: N, gradient: N, slots: [N; SLOTS]) -> (N, [N; SLOTS]);
}

/// Clipping and weight decay of one array at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pass {
    /// Gradients are multiplied by it,
    scale: f32,
    /// and then are at most this far from 0.
    limit: f32,
    /// The share of itself that each weight loses beforehand.
    shrink: f32,
}

impl Pass {
    /// `all_norm` is the norm of all arrays' gradients, which [`Clipping::GlobalNorm`] alone needs.
    pub(super) fn new(
        clipping: Option<Clipping>,
        all_norm: Option<f64>,
        weight_decay: f64,
        gradient: &[f32],
    ) -> Self {
        let within = |bound: f64, norm: f64| single(bound / norm.max(bound));
        let (scale, limit) = match clipping {
            None => (1.0, f32::INFINITY),
            Some(Clipping::Value(value)) => (1.0, single(value)),
            Some(Clipping::Norm(bound)) => {
                (within(bound, square_sum(gradient).sqrt()), f32::INFINITY)
            }
            Some(Clipping::GlobalNorm(bound)) => {
                let norm = all_norm.expect("the norm was found before the first array");
                (within(bound, norm), f32::INFINITY)
            }
        };
        Self { scale, limit, shrink: single(weight_decay) }
    }

    pub(super) fn gradient(self, gradient: f32) -> f32 {
        (gradient * self.scale).clamp(-self.limit, self.limit)
    }

    pub(super) fn weight(self, weight: f32) -> f32 {
        weight - weight * self.shrink
    }

    fn changes_nothing(self) -> bool {
        self == Self { scale: 1.0, limit: f32::INFINITY, shrink: 0.0 }
    }

    /// Follows the rule for each weight. There must be as many slots as it takes.
    pub(super) fn each<const SLOTS: usize>(
        self,
        weights: &mut [f32],
        gradient: &[f32],
        slots: &mut [Vec<f32>],
        rule: &impl Rule<SLOTS>,
    ) {
        // Most often there is nothing to do, and these are two loops.
        if self.changes_nothing() {
            each(weights, gradient, slots, |w, g, slots| rule.step(w, g, slots));
        } else {
            each(weights, gradient, slots, |w, g, slots| {
                rule.step(self.weight(w), self.gradient(g), slots)
            });
        }
    }
}

fn each<const SLOTS: usize>(
    weights: &mut [f32],
    gradient: &[f32],
    slots: &mut [Vec<f32>],
    step: impl Fn(f32, f32, [f32; SLOTS]) -> (f32, [f32; SLOTS]),
) {
    let slots: &mut [Vec<f32>; SLOTS] = slots.try_into().expect("the method's own slots");
    // Equal lengths, known to the compiler, make a loop without checks.
    let count = weights.len();
    let gradient = &gradient[..count];
    let mut slots = slots.each_mut().map(|slot| &mut slot[..count]);
    for i in 0..count {
        let (weight, new) = step(weights[i], gradient[i], slots.each_ref().map(|slot| slot[i]));
        weights[i] = weight;
        for (slot, new) in slots.iter_mut().zip(new) {
            slot[i] = new;
        }
    }
}

/// The sum of the squares, in double precision.
pub(crate) fn square_sum(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}
