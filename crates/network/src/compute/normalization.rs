//! Normalisation over the batch, over axes, and over groups of channels.

use burn::tensor::Tensor;
use burn::tensor::module::layer_norm;

use super::shape::permute;
use super::{Mode, Weights};
use crate::kernel_ops;
use crate::layer::BatchNormalization;
use crate::value::Value;

/// Normalises each channel: over the batch in training, else by the moving statistics.
pub(crate) fn normalize_batch(
    layer: &BatchNormalization,
    x: Value,
    weights: &Weights<'_>,
    mode: &mut Mode<'_>,
) -> Value {
    let shape = x.shape().to_vec();
    let channels = shape[layer.axis];
    let after: usize = shape[layer.axis + 1..].iter().product();
    x.map(|rows| {
        let [batch, elements] = rows.dims();
        let before = batch * elements / (channels * after);
        if let Mode::Training { changed, .. } = mode
            && after == 1
            && !layer.is_frozen
        {
            let vectors = rows.reshape([before, channels]);
            return normalize_rows(layer, vectors, weights, changed).reshape([batch, elements]);
        }
        if after == 1 {
            let vectors: Tensor<2> = rows.reshape([before, channels]);
            normalize_channels(layer, vectors, weights, mode).reshape([batch, elements])
        } else {
            let vectors: Tensor<3> = rows.reshape([before, channels, after]);
            normalize_channels(layer, vectors, weights, mode).reshape([batch, elements])
        }
    })
}

/// Normalises channels that stand last over the batch.
fn normalize_rows(
    layer: &BatchNormalization,
    x: Tensor<2>,
    weights: &Weights<'_>,
    changed: &mut Vec<(usize, Tensor<1>)>,
) -> Tensor<2> {
    let [cells, channels] = x.dims();
    let device = x.device();
    let [gamma, beta] = scale_and_shift([layer.has_gamma, layer.has_beta], weights);
    let gamma = gamma.unwrap_or_else(|| Tensor::ones([channels], &device));
    let beta = beta.unwrap_or_else(|| Tensor::zeros([channels], &device));
    let (made, statistics) = kernel_ops::normalize(x, gamma, beta, layer.epsilon);
    let moving = usize::from(layer.has_gamma) + usize::from(layer.has_beta);
    note_statistics(layer, statistics, cells, &weights.from(moving), changed);
    made
}

/// Normalises over all axes but the second, the channels.
///
/// Written out in tensors: Burn's own operation turns its input for each statistic, which takes twice
/// as long on the CPU when the channels stand last.
fn normalize_channels<const D: usize>(
    layer: &BatchNormalization,
    x: Tensor<D>,
    weights: &Weights<'_>,
    mode: &mut Mode<'_>,
) -> Tensor<D> {
    let mut dims = [1; D];
    dims[1] = x.dims()[1];
    let arrays = scale_and_shift([layer.has_gamma, layer.has_beta], weights);
    let [gamma, beta] = arrays.map(|array| array.map(|array| array.reshape(dims)));
    let moving = usize::from(layer.has_gamma) + usize::from(layer.has_beta);
    let (centered, variance) = match mode {
        Mode::Training { changed, .. } if !layer.is_frozen => {
            let cells = x.shape().num_elements() / dims[1];
            let mean = mean_of_channels(x.clone());
            let centered = x - mean.clone();
            let variance = mean_of_channels(centered.clone() * centered.clone());
            let statistics = [mean, variance.clone()];
            note_statistics(layer, statistics, cells, &weights.from(moving), changed);
            (centered, variance)
        }
        _ => {
            let [mean, variance] =
                [moving, moving + 1].map(|array| weights.get::<1>(array).reshape(dims));
            (x - mean, variance)
        }
    };
    let deviation = (variance + layer.epsilon).sqrt();
    let scale = match gamma {
        Some(gamma) => gamma / deviation,
        None => deviation.recip(),
    };
    match beta {
        Some(beta) => centered * scale + beta,
        None => centered * scale,
    }
}

/// Means over all axes but the second.
fn mean_of_channels<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    (0..D).filter(|&axis| axis != 1).fold(x, |x, axis| x.mean_dim(axis))
}

/// Notes what becomes of the moving mean and variance, the arrays given: of what they were after the
/// last call of their layer, where it is called more than once.
fn note_statistics<const D: usize>(
    layer: &BatchNormalization,
    [mean, variance]: [Tensor<D>; 2],
    cells: usize,
    moving: &Weights<'_>,
    changed: &mut Vec<(usize, Tensor<1>)>,
) {
    let variance = if layer.is_unbiased { variance * bessel(cells) } else { variance };
    for (array, new) in [mean, variance].into_iter().enumerate() {
        let place = moving.place(array);
        let earlier = changed.iter().rfind(|(changed, _)| *changed == place);
        let old = earlier.map_or_else(|| moving.get(array), |(_, old)| old.clone());
        let new = new.detach().reshape(old.dims());
        changed.push((place, old * layer.momentum + new * (1.0 - layer.momentum)));
    }
}

/// n / (n − 1), and 1 for a single value, as TensorFlow's fused kernel has it.
#[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 cells")]
fn bessel(cells: usize) -> f64 {
    cells as f64 / cells.saturating_sub(1).max(1) as f64
}

/// Normalises over these axes of each example.
pub(crate) fn normalize_layer(
    axes: &[usize],
    epsilon: f64,
    has: [bool; 2],
    x: Value,
    weights: &Weights<'_>,
) -> Value {
    let shape = x.shape().to_vec();
    let width: usize = axes.iter().map(|&axis| shape[axis]).product();
    let (inner, outer): (Vec<usize>, _) = (0..shape.len()).partition(|axis| axes.contains(axis));
    let order = [outer, inner].concat();
    let normalized = permute(&order, x).map(|rows| {
        let [batch, elements] = rows.dims();
        let vectors: Tensor<2> = rows.reshape([batch * elements / width, width]);
        let [gamma, beta] = scale_and_shift(has, weights);
        let gamma = gamma.unwrap_or_else(|| Tensor::ones([width], &vectors.device()));
        layer_norm(vectors, gamma, beta, epsilon).reshape([batch, elements])
    });
    let back: Vec<usize> = (0..shape.len())
        .map(|axis| order.iter().position(|&from| from == axis).expect("order has each axis"))
        .collect();
    permute(&back, normalized)
}

/// Normalises over all axes of each example, within groups of channels.
pub(crate) fn normalize_groups(
    groups: usize,
    axis: usize,
    epsilon: f64,
    has: [bool; 2],
    x: Value,
    weights: &Weights<'_>,
) -> Value {
    let shape = x.shape().to_vec();
    let (channels, before) = (shape[axis], shape[..axis].iter().product());
    let after = shape[axis + 1..].iter().product();
    let [gamma, beta] = scale_and_shift(has, weights).map(|array| {
        array.map(|array| -> Tensor<5> { array.reshape([1, 1, groups, channels / groups, 1]) })
    });
    x.map(|rows| {
        let [batch, elements] = rows.dims();
        let x: Tensor<5> = rows.reshape([batch, before, groups, channels / groups, after]);
        let x = x.clone() - mean_of_groups(x);
        let variance = mean_of_groups(x.clone() * x.clone());
        let x = x / (variance + epsilon).sqrt();
        let x = gamma.into_iter().fold(x, |x, gamma| x * gamma);
        let x = beta.into_iter().fold(x, |x, beta| x + beta);
        x.reshape([batch, elements])
    })
}

/// Of (batch, before, groups, channels of a group, after): (batch, 1, groups, 1, 1).
fn mean_of_groups(x: Tensor<5>) -> Tensor<5> {
    x.mean_dim(1).mean_dim(4).mean_dim(3)
}

/// The first arrays: gamma and beta, where there are any.
fn scale_and_shift(has: [bool; 2], weights: &Weights<'_>) -> [Option<Tensor<1>>; 2] {
    let [has_gamma, has_beta] = has;
    let array = |i: usize| weights.reshaped(i, [weights.shape(i).iter().product()]);
    [has_gamma.then(|| array(0)), has_beta.then(|| array(usize::from(has_gamma)))]
}

/// Numbers without a source are Keras's.
#[cfg(test)]
mod tests {
    use super::super::check::{Case, assert_close, floats, numbers, weight};
    use super::*;
    use crate::layer::Operation;
    use crate::network::Memory;
    use burn::module::Param;
    use burn::tensor::{Device, TensorData};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    const LAYER: BatchNormalization = BatchNormalization {
        axis: 0,
        momentum: 0.9,
        epsilon: 0.01,
        has_gamma: true,
        has_beta: true,
        is_unbiased: false,
        is_frozen: false,
    };

    /// Numbers as values of this shape, and arrays for as many channels; the variances are squares.
    struct Given {
        x: Value,
        arrays: Vec<Param<Tensor<1>>>,
        specs: Vec<crate::layer::Weight>,
    }

    fn given(batch: usize, shape: &[usize], channels: usize) -> Given {
        let device = Device::flex().autodiff();
        let elements = shape.iter().product();
        let x = TensorData::new(numbers(batch * elements, 0), [batch, elements]);
        let array = |i: usize| {
            let numbers = numbers(channels, 10 + i);
            let numbers = numbers.into_iter().map(|x| if i == 3 { x * x } else { x }).collect();
            let array = Param::from_data(TensorData::new(numbers, [channels]), &device);
            array.set_require_grad(i < 2)
        };
        Given {
            x: Value::of_rows(Tensor::from_data(x, &device), shape.to_vec()),
            arrays: (0..4).map(array).collect(),
            specs: vec![weight(vec![channels]); 4],
        }
    }

    impl Given {
        /// Output and changed arrays of this many calls.
        fn train(
            &self,
            layer: &BatchNormalization,
            calls: usize,
        ) -> (Vec<f32>, Vec<(usize, Vec<f32>)>) {
            let (masks, changed) = (&mut ChaCha8Rng::seed_from_u64(0), &mut Vec::new());
            let weights = Weights::new(&self.arrays, 0, &self.specs);
            let mut mode = Mode::Training { masks, changed };
            let outputs: Vec<_> = (0..calls)
                .map(|_| normalize_batch(layer, self.x.clone(), &weights, &mut mode))
                .collect();
            let changed = changed.drain(..).map(|(place, array)| (place, floats(array))).collect();
            (floats(outputs[calls - 1].clone().rows()), changed)
        }

        fn infer(&self, layer: &BatchNormalization) -> Vec<f32> {
            let weights = Weights::new(&self.arrays, 0, &self.specs);
            let mut memory = Memory::default();
            let mut mode = Mode::Inference { memory: &mut memory };
            floats(normalize_batch(layer, self.x.clone(), &weights, &mut mode).rows())
        }
    }

    #[test]
    fn a_batch_is_normalised_by_its_own_statistics_in_training() {
        let (output, changed) = given(4, &[3], 3).train(&LAYER, 1);
        assert_close(
            &output,
            &[
                0.527_703, 0.499_371, -1.638_961, 0.586_473, 1.282_975, -0.130_524, 0.533_527,
                0.577_025, -1.489_477, 0.592_297, 1.360_629, 0.018_961,
            ],
        );
        let [(2, mean), (3, variance)] = &changed[..] else { panic!("{changed:?}") };
        assert_close(mean, &[-0.962, -0.592, -0.222]);
        assert_close(variance, &[0.247_195, 0.044_065, 0.087_355]);
    }

    #[test]
    fn and_by_the_moving_statistics_in_inference_and_where_frozen() {
        let given = given(4, &[3], 3);
        let expected = [
            0.5582, 0.853_178, -0.895_791, 0.624_787, 3.695_596, 2.278_485, 0.564_799, 1.134_859,
            -0.581_223, 0.631_386, 3.977_278, 2.593_053,
        ];
        assert_close(&given.infer(&LAYER), &expected);
        let frozen = BatchNormalization { is_frozen: true, ..LAYER };
        let (output, changed) = given.train(&frozen, 1);
        assert_close(&output, &expected);
        assert_eq!(changed, []);
    }

    #[test]
    fn channels_may_stand_first() {
        let given = given(2, &[2, 3], 2);
        assert_close(
            &given.infer(&LAYER),
            &[
                0.5582, 0.580_396, 0.602_591, 2.748_124, 3.695_596, 4.643_069, 0.564_799,
                0.586_995, 0.609_19, 3.029_805, 3.977_278, 4.924_75,
            ],
        );
        let (output, changed) = given.train(&LAYER, 1);
        assert_close(
            &output,
            &[
                0.520_519, 0.554_891, 0.589_262, 0.403_59, 0.861_876, 1.320_163, 0.530_738,
                0.565_109, 0.599_481, 0.539_837, 0.998_124, 1.456_41,
            ],
        );
        assert_close(&changed[1].1, &[0.225_519, 0.022_389]);
    }

    /// Keras 2's n / (n − 1), here 4 / 3; and a second call of a shared layer.
    #[test]
    fn moving_statistics_go_on_from_the_call_before() {
        let given = given(4, &[3], 3);
        let unbiased = BatchNormalization { is_unbiased: true, ..LAYER };
        let (_, changed) = given.train(&unbiased, 2);
        let (_, once) = given.train(&LAYER, 1);
        let old: Vec<f32> = numbers(3, 13).into_iter().map(|x| x * x).collect();
        let batch = |i: usize| (once[1].1[i] - 0.9 * old[i]) / 0.1;
        let after = |old: f32, i: usize| 0.9 * old + 0.1 * batch(i) * 4.0 / 3.0;
        let first: Vec<f32> = (0..3).map(|i| after(old[i], i)).collect();
        let second: Vec<f32> = (0..3).map(|i| after(first[i], i)).collect();
        assert_eq!(changed.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [2, 3, 2, 3]);
        assert_close(&changed[1].1, &first);
        assert_close(&changed[3].1, &second);
    }

    #[test]
    fn gradients_of_batches() {
        for (has_gamma, has_beta, weights) in [
            (true, true, &[&[3][..], &[3], &[3], &[3]][..]),
            (false, true, &[&[3], &[3], &[3]]),
            (false, false, &[&[3], &[3]]),
        ] {
            let operation = |axis| {
                Operation::BatchNormalization(BatchNormalization {
                    axis,
                    has_gamma,
                    has_beta,
                    ..LAYER
                })
            };
            let last =
                Case { operation: operation(1), inputs: &[&[2, 3]], weights, output: &[2, 3] };
            last.has_true_gradients();
            let first =
                Case { operation: operation(0), inputs: &[&[3, 2]], weights, output: &[3, 2] };
            first.has_true_gradients();
        }
    }

    fn layer_case<'a>(
        axes: &[usize],
        input: &'a [&'a [usize]],
        weights: &'a [&'a [usize]],
    ) -> Case<'a> {
        let operation = Operation::LayerNormalization {
            axes: axes.to_vec(),
            epsilon: 1e-3,
            has_gamma: weights.len() == 2,
            has_beta: !weights.is_empty(),
        };
        Case { operation, inputs: input, weights, output: input[0] }
    }

    #[test]
    fn layer_normalization_over_chosen_axes() {
        let both = layer_case(&[0, 1], &[&[2, 2, 2]], &[&[2, 2], &[2, 2]]);
        both.gives(&[
            0.530_429, 0.530_429, 1.036_609, 1.036_608, 0.359_436, 0.359_436, 0.335_577, 0.335_577,
        ]);
        both.has_true_gradients();
        let first = layer_case(&[0], &[&[3, 2]], &[&[3], &[3]]);
        first.gives(&[0.523_308, 0.523_308, 0.93, 0.93, 0.131_765, 0.131_765]);
        first.has_true_gradients();
        layer_case(&[1], &[&[2, 3]], &[&[3]]).has_true_gradients();
        layer_case(&[1], &[&[2, 3]], &[]).has_true_gradients();
    }

    #[test]
    fn groups_of_channels() {
        let case = |axis: usize, input| {
            let operation = Operation::GroupNormalization {
                groups: 2,
                axis,
                epsilon: 1e-3,
                has_gamma: true,
                has_beta: true,
            };
            Case { operation, inputs: input, weights: &[&[4], &[4]], output: input[0] }
        };
        let last = case(1, &[&[2, 4]]);
        last.gives(&[
            0.523_651, 0.639_207, -0.537_006, -1.7627, 0.581_809, 1.414_655, -1.859_978, -0.096_098,
        ]);
        last.has_true_gradients();
        let first = case(0, &[&[4, 3]]);
        first.gives(&[
            0.516_139, 0.533_684, 0.551_228, 1.046_962, 1.280_885, 1.514_808, -1.935_756,
            -1.485_453, -1.035_151, -0.723_632, -1.290_896, -1.858_16,
        ]);
        first.has_true_gradients();
    }
}
