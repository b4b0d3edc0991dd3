//! Penalties on weights, added to the loss. Source: Keras's `regularizers.L1L2`: Σ l1·|w| + l2·w²,
//! without a half.

use burn::tensor::Tensor;

/// A penalty on one weight array.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regularizer {
    /// Of the sum of absolute values.
    pub l1: f64,
    /// Of the sum of squares.
    pub l2: f64,
}

impl Regularizer {
    /// The penalty of these weights.
    #[must_use]
    pub fn penalty(&self, weights: &[f32]) -> f64 {
        let absolute = |weight: &f32| f64::from(weight.abs());
        let square = |weight: &f32| f64::from(*weight) * f64::from(*weight);
        let mut penalty = 0.0;
        if self.l1 != 0.0 {
            penalty += self.l1 * weights.iter().map(absolute).sum::<f64>();
        }
        if self.l2 != 0.0 {
            penalty += self.l2 * weights.iter().map(square).sum::<f64>();
        }
        penalty
    }

    /// The penalty of weights on a device, one number, and its gradient.
    #[must_use]
    pub fn on_device(&self, weights: &Tensor<1>) -> (Tensor<1>, Tensor<1>) {
        let square = (weights.clone() * weights.clone()).sum() * self.l2;
        let penalty = weights.clone().abs().sum() * self.l1 + square;
        (penalty, weights.clone().sign() * self.l1 + weights.clone() * (2.0 * self.l2))
    }

    /// Adds the penalty's gradient: l1·sign(w) + 2·l2·w.
    ///
    /// # Panics
    /// When the lengths differ.
    #[expect(clippy::cast_possible_truncation, reason = "gradients are single precision")]
    pub fn add_gradient(&self, weights: &[f32], gradient: &mut [f32]) {
        assert_eq!(weights.len(), gradient.len(), "a gradient has its weights' length");
        let (l1, l2) = (self.l1 as f32, 2.0 * self.l2 as f32);
        for (slope, &weight) in gradient.iter_mut().zip(weights) {
            let sign = if weight == 0.0 { 0.0 } else { weight.signum() };
            *slope += l1 * sign + l2 * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn penalty_and_gradient_follow_the_formula() {
        let regularizer = Regularizer { l1: 0.5, l2: 0.25 };
        let weights = [2.0, -1.0, 0.0];
        assert_eq!(regularizer.penalty(&weights), 0.5 * 3.0 + 0.25 * 5.0);
        let mut gradient = [1.0; 3];
        regularizer.add_gradient(&weights, &mut gradient);
        assert_eq!(gradient, [1.0 + 0.5 + 1.0, 1.0 - 0.5 - 0.5, 1.0]);

        let weights = Tensor::from_floats(weights, &burn::tensor::Device::flex());
        let (penalty, slope) = regularizer.on_device(&weights);
        assert_eq!(penalty.into_scalar::<f32>(), 0.5 * 3.0 + 0.25 * 5.0);
        assert_eq!(slope.into_data().try_into_vec::<f32>().unwrap(), [1.5, -1.0, 0.0]);
    }
}
