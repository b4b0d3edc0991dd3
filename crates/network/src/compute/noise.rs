//! Layers that draw numbers in training and do nothing in inference.

use burn::tensor::{Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use super::Mode;
use super::shape::{RANK, aligned, dims_of};
use crate::initializer::normal;
use crate::value::Value;

/// What SELU tends to far below 0: −scale · alpha.
const SELU_FLOOR: f64 = -1.758_099_340_847_376_6;

/// Zeroes a share of the values, and scales the others up; one draw for the whole of each shared
/// axis, and for the whole batch where that is shared.
pub(crate) fn dropout(
    rate: f64,
    shared_axes: &[bool],
    shared_batch: bool,
    x: Value,
    mode: &mut Mode<'_>,
) -> Value {
    let Mode::Training { masks, .. } = mode else {
        return x;
    };
    if rate == 0.0 {
        return x;
    }
    let shape = x.shape().to_vec();
    let drawn = shape.iter().zip(shared_axes).map(|(&size, &shared)| if shared { 1 } else { size });
    let drawn: Vec<usize> = drawn.collect();
    let dims = dims_of(if shared_batch { 1 } else { x.batch() }, &drawn);
    let mask = mask(rate, single(1.0 / (1.0 - rate)), dims.iter().product(), masks);
    let x = aligned(x);
    let mask: Tensor<RANK> = Tensor::from_data(TensorData::new(mask, dims), &x.device());
    Value::of(x * mask).reshape(shape)
}

/// Adds normal noise of mean 0.
pub(crate) fn add_noise(deviation: f64, x: Value, mode: &mut Mode<'_>) -> Value {
    match mode {
        Mode::Training { masks, .. } if deviation > 0.0 => {
            x.map(|rows| noise(0.0, deviation, &rows, masks) + rows)
        }
        _ => x,
    }
}

/// Multiplies by normal noise of mean 1 and deviation √(rate / (1 − rate)).
pub(crate) fn multiply_by_noise(rate: f64, x: Value, mode: &mut Mode<'_>) -> Value {
    match mode {
        Mode::Training { masks, .. } if rate > 0.0 => {
            let deviation = (rate / (1.0 - rate)).sqrt();
            x.map(|rows| noise(1.0, deviation, &rows, masks) * rows)
        }
        _ => x,
    }
}

/// Sets a share of the values to SELU's floor; then scales and shifts all, so that values of mean 0
/// and variance 1 keep them. Source: Klambauer et al., *Self-Normalizing Neural Networks*, 2017.
pub(crate) fn alpha_dropout(rate: f64, x: Value, mode: &mut Mode<'_>) -> Value {
    let Mode::Training { masks, .. } = mode else {
        return x;
    };
    if rate == 0.0 {
        return x;
    }
    let scale = ((1.0 - rate) * (1.0 + rate * SELU_FLOOR * SELU_FLOOR)).powf(-0.5);
    let shift = -scale * SELU_FLOOR * rate;
    x.map(|rows| {
        let kept = tensor_of(mask(rate, 1.0, rows.shape().num_elements(), masks), &rows);
        let dropped = (kept.clone() * -1.0 + 1.0) * (SELU_FLOOR * scale) + shift;
        rows * kept * scale + dropped
    })
}

/// Normal draws, one for each element.
fn noise(mean: f64, deviation: f64, rows: &Tensor<2>, rng: &mut ChaCha8Rng) -> Tensor<2> {
    let draws = normal(mean, deviation, f64::INFINITY, rows.shape().num_elements(), rng);
    tensor_of(draws, rows)
}

/// Elements in the shape and on the device of these rows.
fn tensor_of(elements: Vec<f32>, rows: &Tensor<2>) -> Tensor<2> {
    Tensor::from_data(TensorData::new(elements, rows.shape()), &rows.device())
}

/// Zeros with probability `rate`, else `kept`.
#[expect(clippy::cast_possible_truncation, reason = "a rate is at most 1")]
#[expect(clippy::cast_sign_loss, reason = "a rate is not negative")]
fn mask(rate: f64, kept: f32, count: usize, masks: &mut ChaCha8Rng) -> Vec<f32> {
    let dropped_below = (rate * 4_294_967_296.0) as u64;
    (0..count)
        .map(|_| if u64::from(masks.next_u32()) < dropped_below { 0.0 } else { kept })
        .collect()
}

#[expect(clippy::cast_possible_truncation, reason = "masks are single precision")]
fn single(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
mod tests {
    use super::super::check::{Case, floats, numbers};
    use super::*;
    use crate::layer::Operation;
    use crate::network::Memory;
    use burn::tensor::Device;
    use rand_chacha::rand_core::SeedableRng;

    /// In training, on ones.
    fn trained(
        layer: impl FnOnce(Value, &mut Mode<'_>) -> Value,
        batch: usize,
        shape: &[usize],
    ) -> Vec<f32> {
        let ones = Tensor::ones([batch, shape.iter().product()], &Device::flex());
        let (masks, changed) = (&mut ChaCha8Rng::seed_from_u64(3), &mut Vec::new());
        let value = Value::of_rows(ones, shape.to_vec());
        floats(layer(value, &mut Mode::Training { masks, changed }).rows())
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = f64::from(u32::try_from(values.len()).unwrap());
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance)
    }

    #[test]
    fn dropout_keeps_the_mean_and_zeroes_the_rate() {
        let made = trained(|x, mode| dropout(0.25, &[false], false, x, mode), 200, &[200]);
        let zeros = made.iter().filter(|value| **value == 0.0).count();
        assert!((9_600..10_400).contains(&zeros), "{zeros} of 40000 dropped");
        assert!(made.iter().all(|value| *value == 0.0 || *value == 4.0 / 3.0));
    }

    #[test]
    fn shared_axes_have_one_draw() {
        let made = trained(|x, mode| dropout(0.5, &[true, false], false, x, mode), 2, &[2, 8]);
        assert_eq!(made[..8], made[8..16]);
        assert_eq!(made[16..24], made[24..]);
        assert_ne!(made[..8], made[16..24]);
        let drawn = trained(|x, mode| dropout(0.5, &[false], false, x, mode), 2, &[8]);
        assert_eq!([&made[..8], &made[16..24]].concat(), drawn, "as many draws as are needed");
        let made = trained(|x, mode| dropout(0.5, &[false], true, x, mode), 2, &[8]);
        assert_eq!(made[..8], made[8..]);
    }

    #[test]
    fn gaussian_noise_has_its_mean_and_deviation() {
        let added = trained(|x, mode| add_noise(0.5, x, mode), 200, &[200]);
        let (mean, variance) = moments(&added);
        assert!((mean - 1.0).abs() < 0.01 && (variance - 0.25).abs() < 0.01, "{mean} {variance}");
        let multiplied = trained(|x, mode| multiply_by_noise(0.2, x, mode), 200, &[200]);
        let (mean, variance) = moments(&multiplied);
        assert!((mean - 1.0).abs() < 0.01 && (variance - 0.25).abs() < 0.01, "{mean} {variance}");
    }

    #[test]
    fn alpha_dropout_keeps_mean_and_variance_of_normal_values() {
        let normals = |x: Value, mode: &mut Mode<'_>| {
            alpha_dropout(0.1, add_noise(1.0, x.map(|ones| ones - 1.0), mode), mode)
        };
        let (mean, variance) = moments(&trained(normals, 200, &[200]));
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.03, "{mean} {variance}");
        let of_ones = trained(|x, mode| alpha_dropout(0.1, x, mode), 200, &[200]);
        let dropped = of_ones.iter().filter(|value| **value < 0.0).count();
        assert!((3_800..4_200).contains(&dropped), "{dropped} of 40000 dropped");
    }

    #[test]
    fn inference_and_a_rate_of_0_change_nothing() {
        let noises = |amount: f64| {
            let shared_axes = vec![false];
            [
                Operation::Dropout { rate: amount, shared_axes, shared_batch: false },
                Operation::GaussianNoise { deviation: amount },
                Operation::GaussianDropout { rate: amount },
                Operation::AlphaDropout { rate: amount },
            ]
        };
        for operation in noises(0.5) {
            let case = Case { operation, inputs: &[&[6]], weights: &[], output: &[6] };
            case.gives(&numbers(6, 0));
            case.has_true_gradients();
        }
        for operation in noises(0.0) {
            let apply = |x: Value, mode: &mut Mode<'_>| {
                let weights = super::super::Weights::new(&[], 0, &[]);
                super::super::operate(
                    0,
                    &operation,
                    crate::activation::Activation::Linear,
                    vec![x],
                    &weights,
                    &[6],
                    mode,
                )
                .remove(0)
            };
            assert_eq!(trained(apply, 1, &[6]), [1.0; 6]);
        }
        let ones = Value::of_rows(Tensor::ones([1, 6], &Device::flex()), vec![6]);
        let mut mode = Mode::Inference { memory: &mut Memory::default() };
        let made = dropout(0.9, &[false], false, ones, &mut mode);
        assert_eq!(floats(made.rows()), [1.0; 6]);
    }
}
