//! For tests: what operations give, and whether their gradients are those of finite differences.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::{Mode, Weights, operate};
use crate::activation::Activation;
use crate::initializer::Initializer;
use crate::layer::{Operation, Shape, Weight};
use crate::network::Memory;
use crate::value::Value;

/// Of central differences. [`numbers`] differ by more than twice as much.
const STEP: f32 = 0.004;

/// An operation on values and weights filled with [`numbers`].
pub(crate) struct Case<'a> {
    pub(crate) operation: Operation,
    /// Without the batch.
    pub(crate) inputs: &'a [&'a [usize]],
    pub(crate) weights: &'a [&'a [usize]],
    pub(crate) output: &'a [usize],
}

/// Numbers from −1.05 to 1.05, all different up to 211. Those of inputs have their place as seed,
/// those of weights 10 and their place.
pub(crate) fn numbers(count: usize, seed: usize) -> Vec<f32> {
    let number = |i: usize| u16::try_from((i * 37 + seed * 53) % 211).map(f32::from);
    (0..count).map(|i| number(i).unwrap() / 100.0 - 1.05).collect()
}

/// Fails where the numbers differ by more than rounding.
pub(crate) fn assert_close(found: &[f32], expected: &[f32]) {
    assert!(are_close(found, expected), "{found:?}, not {expected:?}");
}

/// Whether the numbers differ by no more than rounding.
pub(crate) fn are_close(found: &[f32], expected: &[f32]) -> bool {
    let is_close = |(a, b): (&f32, &f32)| (a - b).abs() <= 3e-6 * b.abs().max(1.0);
    found.len() == expected.len() && found.iter().zip(expected).all(is_close)
}

impl Case<'_> {
    /// Inference on one example gives this, with and without autodiff.
    pub(crate) fn gives(&self, expected: &[f32]) {
        for device in [Device::flex(), Device::flex().autodiff()] {
            let inputs = self.inputs.iter().enumerate();
            let inputs =
                inputs.map(|(i, shape)| flat(numbers(elements(shape), i), &device).unsqueeze());
            let weights = self.weight_arrays().map(|array| flat(array, &device));
            let weights: Vec<_> = weights.map(Param::from_tensor).collect();
            let mut mode = Mode::Inference { memory: &mut Memory::default() };
            assert_close(&floats(self.run(inputs.collect(), &weights, &mut mode)), expected);
        }
    }

    /// Gradients by inputs and weights in training are those of finite differences.
    pub(crate) fn has_true_gradients(&self) {
        let inputs = self.inputs.iter().enumerate();
        let inputs = inputs.map(|(i, shape)| numbers(2 * elements(shape), i));
        let arrays: Vec<_> = inputs.chain(self.weight_arrays()).collect();
        assert_true_gradients(&arrays, |arrays| {
            let (inputs, weights) = arrays.split_at(self.inputs.len());
            let rows = |input: &Tensor<1>| input.clone().reshape([2, -1]);
            let weights: Vec<_> = weights.iter().cloned().map(Param::from_tensor).collect();
            let (masks, changed) = (&mut ChaCha8Rng::seed_from_u64(7), &mut Vec::new());
            let mut mode = Mode::Training { masks, changed };
            self.run(inputs.iter().map(rows).collect(), &weights, &mut mode)
        });
    }

    fn weight_arrays(&self) -> impl Iterator<Item = Vec<f32>> {
        let weights = self.weights.iter().enumerate();
        weights.map(|(i, shape)| numbers(elements(shape), 10 + i))
    }

    fn run(
        &self,
        inputs: Vec<Tensor<2>>,
        weights: &[Param<Tensor<1>>],
        mode: &mut Mode<'_>,
    ) -> Tensor<2> {
        let specs: Vec<Weight> = self.weights.iter().map(|shape| weight(shape.to_vec())).collect();
        let values = inputs.into_iter().zip(self.inputs);
        let values = values.map(|(rows, shape)| Value::of_rows(rows, shape.to_vec()));
        let weights = Weights::new(weights, 0, &specs);
        let (linear, values) = (Activation::Linear, values.collect());
        let mut made = operate(0, &self.operation, linear, values, &weights, self.output, mode);
        let made = made.remove(0);
        assert_eq!(made.shape(), self.output);
        made.rows()
    }
}

/// Gradients of a probed sum of what `forward` makes of these arrays are those of finite differences.
pub(crate) fn assert_true_gradients(
    arrays: &[Vec<f32>],
    forward: impl Fn(&[Tensor<1>]) -> Tensor<2>,
) {
    let device = Device::flex().autodiff();
    let tensors: Vec<_> =
        arrays.iter().map(|array| flat(array.clone(), &device).require_grad()).collect();
    let output = forward(&tensors);
    let probe = TensorData::new(numbers(output.shape().num_elements(), 5), output.dims());
    let gradients = (output * Tensor::from_data(probe, &device)).sum().backward();
    for (array, tensor) in tensors.iter().enumerate() {
        let found = tensor.grad(&gradients).map(floats);
        let found = found.unwrap_or_else(|| vec![0.0; arrays[array].len()]);
        for (place, found) in found.iter().enumerate() {
            let expected = difference(arrays, (array, place), &forward);
            assert!(
                (f64::from(*found) - expected).abs() < 2e-3 * expected.abs().max(1.0),
                "array {array}, element {place}: {found}, not {expected}"
            );
        }
    }
}

/// The change of the probed sum with one element.
fn difference(
    arrays: &[Vec<f32>],
    (array, place): (usize, usize),
    forward: &impl Fn(&[Tensor<1>]) -> Tensor<2>,
) -> f64 {
    let probed = |change: f32| -> f64 {
        let mut arrays = arrays.to_vec();
        arrays[array][place] += change;
        let tensors: Vec<_> =
            arrays.into_iter().map(|array| flat(array, &Device::flex())).collect();
        let output = floats(forward(&tensors));
        let probe = numbers(output.len(), 5);
        output.iter().zip(probe).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
    };
    (probed(STEP) - probed(-STEP)) / f64::from(2.0 * STEP)
}

/// The specification of a weight array.
pub(crate) fn weight(shape: Shape) -> Weight {
    Weight {
        name: "kernel".into(),
        shape,
        is_trainable: true,
        initializer: Initializer::Constant(0.0),
        regularizer: None,
    }
}

/// All elements of a tensor.
pub(crate) fn floats<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

fn flat(array: Vec<f32>, device: &Device) -> Tensor<1> {
    let shape = [array.len()];
    Tensor::from_data(TensorData::new(array, shape), device)
}

fn elements(shape: &[usize]) -> usize {
    shape.iter().product()
}
