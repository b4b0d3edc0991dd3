//! What layers compute, on Burn's tensors: one function for each family of layers, from inputs and
//! weights to outputs. Holds nothing between calls.

mod attention;
mod cell;
#[cfg(test)]
mod check;
mod convolution;
mod dense;
mod merge;
mod noise;
mod normalization;
mod pooling;
#[cfg(test)]
mod probe;
mod recurrent;
mod sequence;
mod shape;
mod volume;

use arrowhop_types::Precision;
use burn::module::Param;
use burn::tensor::Tensor;
use rand_chacha::ChaCha8Rng;

use crate::activation::Activation;
use crate::layer::{Call, MaskRule, Operation, Weight};
use crate::network::Memory;
use crate::value::Value;

/// Training draws masks, and notes what layers change themselves; inference does neither.
pub(crate) enum Mode<'a> {
    Training {
        masks: &'a mut ChaCha8Rng,
        /// New contents of weight arrays, by their place among all; the last one holds.
        changed: &'a mut Vec<(usize, Tensor<1>)>,
    },
    Inference {
        memory: &'a mut Memory,
    },
}

/// The weights of one layer.
pub(crate) struct Weights<'a> {
    arrays: &'a [Param<Tensor<1>>],
    /// The first one's place among all the network's.
    first: usize,
    specs: &'a [Weight],
    /// Of the products with them.
    precision: Precision,
}

impl<'a> Weights<'a> {
    /// Of the layer whose weights begin at `first`.
    pub(crate) fn new(arrays: &'a [Param<Tensor<1>>], first: usize, specs: &'a [Weight]) -> Self {
        let arrays = &arrays[first..first + specs.len()];
        Self { arrays, first, specs, precision: Precision::default() }
    }

    /// The same weights, for products that are computed so exactly.
    pub(crate) fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// Of the products with them.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// The i-th array in its shape.
    ///
    /// # Panics
    /// When it has not D axes.
    pub(crate) fn get<const D: usize>(&self, i: usize) -> Tensor<D> {
        let shape: [usize; D] = self.specs[i].shape.as_slice().try_into().unwrap_or_else(|_| {
            panic!("{} has shape {:?}, not {D} axes", self.specs[i].name, self.specs[i].shape)
        });
        self.reshaped(i, shape)
    }

    /// The i-th array in a shape of as many elements.
    pub(crate) fn reshaped<const D: usize>(&self, i: usize, shape: [usize; D]) -> Tensor<D> {
        self.arrays[i].val().reshape(shape)
    }

    /// The i-th array as it is kept: flat.
    pub(crate) fn flat(&self, i: usize) -> Tensor<1> {
        self.arrays[i].val()
    }

    /// The i-th array's shape.
    pub(crate) fn shape(&self, i: usize) -> &[usize] {
        &self.specs[i].shape
    }

    /// How many arrays there are.
    pub(crate) fn len(&self) -> usize {
        self.specs.len()
    }

    /// The place of the i-th array among all the network's.
    pub(crate) fn place(&self, i: usize) -> usize {
        self.first + i
    }

    /// The arrays from the i-th on: of a layer within a layer.
    pub(crate) fn from(&self, i: usize) -> Self {
        let (arrays, specs) = (&self.arrays[i..], &self.specs[i..]);
        Self { arrays, first: self.first + i, specs, precision: self.precision }
    }
}

/// Applies a call: its operation, its activation, its mask rule. `number` is the call's, by which
/// stateful layers are remembered.
pub(crate) fn call(
    number: usize,
    call: &Call,
    inputs: Vec<Value>,
    weights: &Weights<'_>,
    mode: &mut Mode<'_>,
) -> Vec<Value> {
    let passed = passed_mask(call.mask, &inputs);
    let Call { operation, activation, .. } = call;
    let made = operate(number, operation, *activation, inputs, weights, &call.outputs[0], mode);
    let finish = |value: Value| {
        let mask = match call.mask {
            MaskRule::Make => value.mask.clone(),
            // A recurrent layer's final states have no steps.
            _ => passed.clone().filter(|_| value.shape().len() > 1),
        };
        value.with_mask(mask)
    };
    made.into_iter().map(finish).collect()
}

/// What comes of the inputs' masks by the rule of a layer that does not make one itself.
fn passed_mask(rule: MaskRule, inputs: &[Value]) -> Option<Tensor<2>> {
    let masks = || inputs.iter().map(|value| value.mask.clone());
    match rule {
        MaskRule::Pass => inputs[0].mask.clone(),
        MaskRule::All => masks().flatten().reduce(|all, mask| all * mask),
        MaskRule::Any => {
            let masks: Option<Vec<_>> = masks().collect();
            masks?.into_iter().reduce(Tensor::max_pair)
        }
        MaskRule::Join => {
            let device = masks().flatten().next()?.device();
            let of_all = inputs.iter().map(|value| {
                let size = [value.batch(), value.shape()[0]];
                value.mask.clone().unwrap_or_else(|| Tensor::ones(size, &device))
            });
            Some(Tensor::cat(of_all.collect(), 1))
        }
        MaskRule::Make | MaskRule::Consume | MaskRule::Drop => None,
    }
}

/// Applies an operation, then the activation; `output` is the shape of its first output.
pub(crate) fn operate(
    number: usize,
    operation: &Operation,
    activation: Activation,
    mut inputs: Vec<Value>,
    weights: &Weights<'_>,
    output: &[usize],
    mode: &mut Mode<'_>,
) -> Vec<Value> {
    match operation {
        Operation::Dense => vec![dense::dense(inputs.remove(0), activation, weights)],
        Operation::Convolution(convolution) => {
            vec![convolution::convolve(convolution, inputs.remove(0), activation, weights)]
        }
        _ => {
            let made = operate_alone(number, operation, inputs, weights, output, mode);
            made.into_iter().map(|value| activation.forward(value)).collect()
        }
    }
}

/// Applies an operation that knows no activation.
fn operate_alone(
    number: usize,
    operation: &Operation,
    mut inputs: Vec<Value>,
    weights: &Weights<'_>,
    output: &[usize],
    mode: &mut Mode<'_>,
) -> Vec<Value> {
    match operation {
        Operation::Merge(merge) => return vec![merge::merge(*merge, inputs, output)],
        Operation::Concatenate { axis } => return vec![merge::concatenate(inputs, *axis, output)],
        Operation::Dot { axes, normalizes } => {
            return vec![merge::dot(inputs, *axes, *normalizes, output)];
        }
        Operation::Recurrent(layer) => {
            return recurrent::recurrent(number, layer, inputs, weights, mode);
        }
        Operation::Bidirectional { forward, backward, merge } => {
            let directions = [forward, backward];
            return recurrent::bidirectional(number, directions, *merge, inputs, weights, mode);
        }
        Operation::MultiHeadAttention(layer) => {
            return vec![attention::attention(layer, inputs, weights, mode)];
        }
        _ => {}
    }
    let x = inputs.remove(0);
    vec![match operation {
        Operation::Identity => x,
        Operation::Pooling { kind, window, layout } => pooling::pool(*kind, window, *layout, x),
        Operation::GlobalPooling { kind, layout, .. } => {
            pooling::pool_globally(*kind, *layout, x).reshape(output.to_vec())
        }
        Operation::Flatten { layout } => shape::flatten(*layout, x),
        Operation::Reshape => x.reshape(output.to_vec()),
        Operation::Permute { axes } => shape::permute(axes, x),
        Operation::Repeat { count } => shape::repeat(*count, x),
        Operation::Pad { cells } => shape::pad(cells, x),
        Operation::Crop { cells } => shape::crop(cells, x),
        Operation::UpSampling(up_sampling) => shape::up_sample(up_sampling, x, output),
        Operation::Dropout { rate, shared_axes, shared_batch } => {
            noise::dropout(*rate, shared_axes, *shared_batch, x, mode)
        }
        Operation::GaussianNoise { deviation } => noise::add_noise(*deviation, x, mode),
        Operation::GaussianDropout { rate } => noise::multiply_by_noise(*rate, x, mode),
        Operation::AlphaDropout { rate } => noise::alpha_dropout(*rate, x, mode),
        Operation::BatchNormalization(layer) => {
            normalization::normalize_batch(layer, x, weights, mode)
        }
        Operation::LayerNormalization { axes, epsilon, has_gamma, has_beta } => {
            normalization::normalize_layer(axes, *epsilon, [*has_gamma, *has_beta], x, weights)
        }
        Operation::GroupNormalization { groups, axis, epsilon, has_gamma, has_beta } => {
            let arrays = [*has_gamma, *has_beta];
            normalization::normalize_groups(*groups, *axis, *epsilon, arrays, x, weights)
        }
        Operation::Rescaling { scale, offset } => x.map(|rows| rows * *scale + *offset),
        Operation::SoftmaxOver { axis } => shape::softmax_over(*axis, x),
        Operation::ParametricRelu => dense::parametric_relu(x, weights),
        Operation::Embedding => sequence::embed(x, weights),
        Operation::Masking { value } => sequence::hide(*value, x),
        Operation::TimeDistributed { operation, activation } => {
            sequence::each_step(number, operation, *activation, x, weights, output, mode)
        }
        Operation::Dense | Operation::Convolution(_) => {
            unreachable!("they see to their activation themselves")
        }
        Operation::Merge(_)
        | Operation::Concatenate { .. }
        | Operation::Dot { .. }
        | Operation::Recurrent(_)
        | Operation::Bidirectional { .. }
        | Operation::MultiHeadAttention(_) => unreachable!("calls of several values return above"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Sequences of three steps and one element, with these masks.
    fn masked(masks: &[Option<[f32; 3]>]) -> Vec<Value> {
        let device = Device::flex();
        let value = |mask: &Option<[f32; 3]>| {
            let mask = mask.map(|mask| Tensor::from_floats([mask], &device));
            Value::of_rows(Tensor::ones([1, 3], &device), vec![3, 1]).with_mask(mask)
        };
        masks.iter().map(value).collect()
    }

    /// By `compute_mask` of the merges of Keras 2.15 (all) and 3.15 (any), and of Concatenate.
    #[test]
    fn masks_are_merged_by_rule() {
        let (a, b) = (Some([1.0, 1.0, 0.0]), Some([0.0, 1.0, 0.0]));
        type Masks<'a> = &'a [Option<[f32; 3]>];
        let table: [(MaskRule, Masks<'_>, Option<&[f32]>); 9] = [
            (MaskRule::Pass, &[a, b], Some(&[1.0, 1.0, 0.0])),
            (MaskRule::Pass, &[None, b], None),
            (MaskRule::All, &[a, b], Some(&[0.0, 1.0, 0.0])),
            (MaskRule::All, &[None, b], Some(&[0.0, 1.0, 0.0])),
            (MaskRule::Any, &[a, b], Some(&[1.0, 1.0, 0.0])),
            (MaskRule::Any, &[None, b], None),
            (MaskRule::Join, &[None, b], Some(&[1.0, 1.0, 1.0, 0.0, 1.0, 0.0])),
            (MaskRule::Join, &[None, None], None),
            (MaskRule::Consume, &[a], None),
        ];
        for (rule, masks, expected) in table {
            let found = passed_mask(rule, &masked(masks));
            let found = found.map(|mask| mask.into_data().try_into_vec::<f32>().unwrap());
            assert_eq!(found.as_deref(), expected, "{rule:?} of {masks:?}");
        }
    }
}
