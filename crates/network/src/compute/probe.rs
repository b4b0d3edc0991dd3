//! For tests of layers that take masks, several inputs or several calls: weights and values filled
//! with [`numbers`].

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::check::{are_close, assert_true_gradients, floats, numbers, weight};
use super::{Mode, Weights};
use crate::layer::Weight;
use crate::network::Memory;
use crate::value::Value;

/// The arrays of a layer.
pub(super) struct Arrays {
    params: Vec<Param<Tensor<1>>>,
    specs: Vec<Weight>,
}

impl Arrays {
    /// Of these shapes, with 10 and their place as seed.
    pub(super) fn of(shapes: &[&[usize]], device: &Device) -> Self {
        let flat = |data: Vec<f32>| {
            let shape = [data.len()];
            Tensor::from_data(TensorData::new(data, shape), device)
        };
        Self::holding(shapes, numbers_of(shapes).into_iter().map(flat).collect())
    }

    /// Of these shapes, full of ones.
    pub(super) fn ones(shapes: &[&[usize]], device: &Device) -> Self {
        let ones = |shape: &&[usize]| Tensor::ones([shape.iter().product::<usize>()], device);
        Self::holding(shapes, shapes.iter().map(ones).collect())
    }

    fn holding(shapes: &[&[usize]], arrays: Vec<Tensor<1>>) -> Self {
        Self {
            params: arrays.into_iter().map(Param::from_tensor).collect(),
            specs: shapes.iter().map(|shape| weight(shape.to_vec())).collect(),
        }
    }

    pub(super) fn weights(&self) -> Weights<'_> {
        Weights::new(&self.params, 0, &self.specs)
    }
}

fn numbers_of(shapes: &[&[usize]]) -> Vec<Vec<f32>> {
    let seeded = (10..).zip(shapes);
    seeded.map(|(seed, shape)| numbers(shape.iter().product(), seed)).collect()
}

/// A batch of two.
pub(super) fn value(seed: usize, shape: &[usize], device: &Device) -> Value {
    let elements = shape.iter().product();
    let rows = TensorData::new(numbers(2 * elements, seed), [2, elements]);
    Value::of_rows(Tensor::from_data(rows, device), shape.to_vec())
}

/// Fails where the elements differ by more than rounding.
pub(super) fn assert_gives(name: &str, found: &Value, expected: &[f32]) {
    let found = floats(found.clone().rows());
    assert!(are_close(&found, expected), "{name}: {found:?}, not {expected:?}");
}

/// Runs `of` in inference.
pub(super) fn infer<T>(of: impl FnOnce(&mut Mode<'_>) -> T) -> T {
    of(&mut Mode::Inference { memory: &mut Memory::default() })
}

/// Runs `of` in training, with masks of this seed.
pub(super) fn train<T>(seed: u64, of: impl FnOnce(&mut Mode<'_>) -> T) -> T {
    let mut masks = ChaCha8Rng::seed_from_u64(seed);
    of(&mut Mode::Training { masks: &mut masks, changed: &mut Vec::new() })
}

/// Gradients by weights of these shapes, of all that `forward` makes in training, are those of
/// finite differences.
pub(super) fn check_gradients(
    shapes: &[&[usize]],
    forward: impl Fn(&Device, &Weights<'_>, &mut Mode<'_>) -> Vec<Value>,
) {
    assert_true_gradients(&numbers_of(shapes), |arrays| {
        let device = arrays[0].device();
        let arrays = Arrays::holding(shapes, arrays.to_vec());
        let made = train(7, |mode| forward(&device, &arrays.weights(), mode));
        Tensor::cat(made.into_iter().map(Value::rows).collect(), 1)
    });
}
