//! Weight arrays on a device: the same rules, each for all of an array at once. Nothing is waited for;
//! the back end joins what follows upon each other into few kernels.

use arrowhop_types::optimizer::Clipping;
use burn::tensor::Tensor;

use super::arraywise::{AdafactorStep, LambStep};
use super::pass::Rule;
use super::{Operand, single};

/// The slots of one weight array on a device, in the order of [`super::slots`].
pub(crate) type DeviceSlots = Vec<Tensor<1>>;

/// A weight array at a step, as [`super::Array`].
pub(crate) struct DeviceArray<'a> {
    pub(crate) shape: &'a [usize],
    pub(crate) weights: &'a mut Tensor<1>,
    pub(crate) gradient: Tensor<1>,
    pub(crate) slots: &'a mut [Tensor<1>],
}

/// The norm of all gradients: one number, on the device.
pub(crate) fn norm<'a>(gradients: impl Iterator<Item = &'a Tensor<1>>) -> Option<Tensor<1>> {
    let squares = gradients.map(|gradient| (gradient.clone() * gradient.clone()).sum());
    squares.reduce(|sum, square| sum + square).map(Tensor::sqrt)
}

impl DeviceArray<'_> {
    /// Clips the gradient, and takes the weights' decay from them.
    pub(super) fn prepare(
        &mut self,
        clipping: Option<Clipping>,
        all_norm: Option<&Tensor<1>>,
        weight_decay: f64,
    ) {
        let within = |gradient: &Tensor<1>, bound: f64, norm: Tensor<1>| {
            gradient.clone() * (norm.clamp_min(bound).recip() * bound)
        };
        match clipping {
            None => {}
            Some(Clipping::Value(value)) => {
                self.gradient = self.gradient.clone().clamp(-value, value);
            }
            Some(Clipping::Norm(bound)) => {
                let norm = norm(std::iter::once(&self.gradient)).expect("there is one");
                self.gradient = within(&self.gradient, bound, norm);
            }
            Some(Clipping::GlobalNorm(bound)) => {
                let norm = all_norm.expect("the norm was found before the first array");
                self.gradient = within(&self.gradient, bound, norm.clone());
            }
        }
        if weight_decay != 0.0 {
            *self.weights = self.weights.clone() * single(1.0 - weight_decay);
        }
    }
}

impl Operand for DeviceArray<'_> {
    fn each<const SLOTS: usize>(self, rule: &impl Rule<SLOTS>) {
        let slots: &mut [Tensor<1>; SLOTS] = self.slots.try_into().expect("the method's own slots");
        let (weights, new) = rule.step(self.weights.clone(), self.gradient, slots.clone());
        (*self.weights, *slots) = (weights, new);
    }

    fn lamb(self, lamb: &LambStep) {
        let Self { shape, weights, gradient, slots } = self;
        let moments = DeviceArray { shape, weights: &mut *weights, gradient, slots: &mut *slots };
        moments.each(&lamb.moments);
        let [m, v] = slots else { unreachable!("LAMB keeps two slots") };
        let update = lamb.direction(m.clone(), v.clone());
        let norms = [&*weights, &update].map(|of| norm(std::iter::once(of)).expect("it is one"));
        let [of_weights, of_update] = norms;
        let has_no_ratio = (of_weights.clone() * of_update.clone()).lower_equal_elem(0.0);
        let ratio = (of_weights / of_update).mask_fill(has_no_ratio, 1.0);
        *weights = weights.clone() - update * (ratio * single(lamb.rate));
    }

    fn adafactor(self, step: &AdafactorStep) {
        let Self { shape, weights, gradient, slots } = self;
        let squared = gradient.clone() * gradient.clone() + step.epsilon_1;
        let (kept, rest) = (single(1.0 - step.rest), single(step.rest));
        let second = match (shape, &mut *slots) {
            ([outer @ .., rows, columns], [by_row, by_column]) => {
                let outer: usize = outer.iter().product();
                let squared: Tensor<3> = squared.reshape([outer, *rows, *columns]);
                let of_rows = squared.clone().mean_dim(2);
                let of_columns = squared.mean_dim(1);
                *by_row = by_row.clone() * kept + of_rows.reshape([outer * rows]) * rest;
                *by_column =
                    by_column.clone() * kept + of_columns.reshape([outer * columns]) * rest;
                let by_row: Tensor<3> = by_row.clone().reshape([outer, *rows, 1]);
                let by_column: Tensor<3> = by_column.clone().reshape([outer, 1, *columns]);
                let second = by_row.clone() / by_row.mean_dim(1) * by_column;
                second.reshape([outer * rows * columns])
            }
            (_, [each]) => {
                *each = each.clone() * kept + squared * rest;
                each.clone()
            }
            _ => unreachable!("Adafactor keeps one slot, or one for rows and one for columns"),
        };
        let update = gradient / second.sqrt();
        let root_mean = |of: &Tensor<1>| (of.clone() * of.clone()).mean().sqrt();
        let size = root_mean(weights).clamp_min(single(step.epsilon_2));
        let excess = (root_mean(&update) * single(1.0 / step.clip_threshold)).clamp_min(1.0);
        *weights = weights.clone() - update * (size / excess * single(step.rate));
    }
}
