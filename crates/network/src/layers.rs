//! The layers as Burn modules. Images run through as (batch, channels, height, width), which is
//! what Burn's kernels take; weights keep Keras's layout.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, module, ops};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::activation::Activation;
use crate::layer;
use crate::network::BatchStatistics;
use crate::window::Window;

/// What flows between layers.
#[derive(Debug)]
pub(crate) enum Value {
    /// (batch, elements); of shapes without kernels here, elements are in their order.
    Flat(Tensor<2>),
    /// (batch, channels, height, width).
    Image(Tensor<4>),
}

/// Training draws masks and notes the batch's statistics; inference does neither.
pub(crate) enum Mode<'a> {
    Training { masks: &'a mut ChaCha8Rng, statistics: &'a mut Vec<BatchStatistics> },
    Inference,
}

impl Mode<'_> {
    fn statistics(&mut self) -> Option<&mut Vec<BatchStatistics>> {
        match self {
            Mode::Training { statistics, .. } => Some(statistics),
            Mode::Inference => None,
        }
    }
}

/// A layer's operation.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has few layers")]
pub(crate) enum Operation {
    Dense(Dense),
    Convolution(Convolution),
    MaxPooling(MaxPooling),
    AveragePooling(AveragePooling),
    GlobalAveragePooling(GlobalAveragePooling),
    Flatten(Flatten),
    Dropout(Dropout),
    BatchNormalization(BatchNormalization),
    Identity(Identity),
}

/// A matrix product.
#[derive(Module, Debug)]
pub(crate) struct Dense {
    /// (in, out).
    kernel: Param<Tensor<2>>,
    bias: Option<Param<Tensor<1>>>,
}

/// A convolution.
#[derive(Module, Debug)]
pub(crate) struct Convolution {
    /// (height, width, in, out).
    kernel: Param<Tensor<4>>,
    bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    window: Window,
}

/// The largest of each window.
#[derive(Module, Debug)]
pub(crate) struct MaxPooling {
    #[module(skip)]
    pub(crate) window: Window,
}

/// The mean of each window's real cells.
#[derive(Module, Debug)]
pub(crate) struct AveragePooling {
    #[module(skip)]
    pub(crate) window: Window,
}

/// The mean of each channel.
#[derive(Module, Debug)]
pub(crate) struct GlobalAveragePooling {}

/// Images to rows, in Keras's order: height, width, channels.
#[derive(Module, Debug)]
pub(crate) struct Flatten {}

/// Zeroes a share of the values in training, and scales the others up.
#[derive(Module, Debug)]
pub(crate) struct Dropout {
    #[module(skip)]
    pub(crate) rate: f64,
}

/// Nothing but the layer's activation.
#[derive(Module, Debug)]
pub(crate) struct Identity {}

/// Normalises each channel to mean 0 and variance 1, then scales and shifts it.
#[derive(Module, Debug)]
pub(crate) struct BatchNormalization {
    gamma: Option<Param<Tensor<1>>>,
    beta: Option<Param<Tensor<1>>>,
    moving_mean: Tensor<1>,
    moving_variance: Tensor<1>,
    #[module(skip)]
    momentum: f64,
    #[module(skip)]
    epsilon: f64,
    #[module(skip)]
    unbiased: bool,
    /// Uses its moving statistics in training, too, and keeps them.
    #[module(skip)]
    pub(crate) is_frozen: bool,
}

impl Operation {
    /// Builds a layer's operation from its weight arrays, in Keras's order, of checked sizes.
    pub(crate) fn build(
        layer: &layer::Layer,
        mut weights: impl Iterator<Item = TensorData>,
        device: &Device,
    ) -> Self {
        let trainable = layer.is_trainable;
        let mut next = || weights.next().expect("as many arrays as the layer has weights");
        match &layer.operation {
            layer::Operation::Dense(kernel) => Self::Dense(Dense {
                kernel: weight(next(), device, trainable),
                bias: kernel.bias.is_some().then(|| weight(next(), device, trainable)),
            }),
            layer::Operation::Convolution { kernel, window } => Self::Convolution(Convolution {
                kernel: weight(next(), device, trainable),
                bias: kernel.bias.is_some().then(|| weight(next(), device, trainable)),
                window: window.clone(),
            }),
            layer::Operation::MaxPooling(window) => {
                Self::MaxPooling(MaxPooling { window: window.clone() })
            }
            layer::Operation::AveragePooling(window) => {
                Self::AveragePooling(AveragePooling { window: window.clone() })
            }
            layer::Operation::GlobalAveragePooling => {
                Self::GlobalAveragePooling(GlobalAveragePooling {})
            }
            layer::Operation::Flatten => Self::Flatten(Flatten {}),
            layer::Operation::Dropout { rate } => Self::Dropout(Dropout { rate: *rate }),
            layer::Operation::BatchNormalization(spec) => {
                Self::BatchNormalization(BatchNormalization {
                    gamma: spec.gamma.is_some().then(|| weight(next(), device, trainable)),
                    beta: spec.beta.is_some().then(|| weight(next(), device, trainable)),
                    moving_mean: Tensor::from_data(next(), device).inner(),
                    moving_variance: Tensor::from_data(next(), device).inner(),
                    momentum: spec.momentum,
                    epsilon: spec.epsilon,
                    unbiased: spec.unbiased,
                    is_frozen: !trainable,
                })
            }
            layer::Operation::Activation => Self::Identity(Identity {}),
        }
    }

    /// Its weight arrays in Keras's order.
    pub(crate) fn weights(&self) -> Vec<TensorData> {
        match self {
            Self::Dense(dense) => kernel_and_bias(&dense.kernel, dense.bias.as_ref()),
            Self::Convolution(convolution) => {
                kernel_and_bias(&convolution.kernel, convolution.bias.as_ref())
            }
            Self::BatchNormalization(normalization) => {
                let gamma = normalization.gamma.as_ref().map(Param::val);
                let beta = normalization.beta.as_ref().map(Param::val);
                let moving = [&normalization.moving_mean, &normalization.moving_variance];
                let arrays = gamma.into_iter().chain(beta).chain(moving.into_iter().cloned());
                arrays.map(Tensor::into_data).collect()
            }
            Self::MaxPooling(_)
            | Self::AveragePooling(_)
            | Self::GlobalAveragePooling(_)
            | Self::Flatten(_)
            | Self::Dropout(_)
            | Self::Identity(_) => Vec::new(),
        }
    }

    /// Applies the operation.
    pub(crate) fn forward(&self, x: Value, mode: &mut Mode<'_>) -> Value {
        match (self, x) {
            (Self::Dense(dense), Value::Flat(x)) => Value::Flat(dense.forward(x)),
            (Self::Convolution(convolution), Value::Image(x)) => {
                Value::Image(convolution.forward(x))
            }
            (Self::MaxPooling(pooling), Value::Image(x)) => Value::Image(pooling.forward(x)),
            (Self::AveragePooling(pooling), Value::Image(x)) => Value::Image(pooling.forward(x)),
            (Self::GlobalAveragePooling(_), Value::Image(x)) => {
                Value::Flat(x.flatten::<3>(2, 3).mean_dim(2).squeeze_dim(2))
            }
            (Self::Flatten(_), x) => Value::Flat(x.into_rows()),
            (Self::Dropout(dropout), Value::Flat(x)) => Value::Flat(dropout.forward(x, mode)),
            (Self::Dropout(dropout), Value::Image(x)) => Value::Image(dropout.forward(x, mode)),
            (Self::BatchNormalization(normalization), Value::Flat(x)) => {
                Value::Flat(normalization.forward(x, mode))
            }
            (Self::BatchNormalization(normalization), Value::Image(x)) => {
                Value::Image(normalization.forward(x, mode))
            }
            (Self::Identity(_), x) => x,
            (Self::Dense(_), Value::Image(_))
            | (
                Self::Convolution(_)
                | Self::MaxPooling(_)
                | Self::AveragePooling(_)
                | Self::GlobalAveragePooling(_),
                Value::Flat(_),
            ) => unreachable!("a layer's input has the rank that was checked when it was read"),
        }
    }
}

impl Value {
    /// Rows of elements in Keras's order.
    pub(crate) fn into_rows(self) -> Tensor<2> {
        match self {
            Self::Flat(x) => x,
            Self::Image(x) => x.permute([0, 2, 3, 1]).flatten(1, 3),
        }
    }

    /// Applies an activation.
    pub(crate) fn activate(self, activation: Activation) -> Self {
        match self {
            Self::Flat(x) => Self::Flat(activation.forward(x)),
            Self::Image(x) => Self::Image(activation.forward(x)),
        }
    }
}

impl Dense {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        module::linear(x, self.kernel.val(), self.bias.as_ref().map(Param::val))
    }
}

impl Convolution {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let Window { stride, dilation, padding, .. } = self.window;
        let options = ops::ConvOptions::new_with_padding(stride, padding, dilation, 1);
        let kernel = self.kernel.val().permute([3, 2, 0, 1]);
        module::conv2d(x, kernel, self.bias.as_ref().map(Param::val), options)
    }
}

impl MaxPooling {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ops::MaxPoolOptions::new(self.window.size)
            .with_stride(self.window.stride)
            .with_padding_pairs(self.window.padding);
        module::max_pool2d(x, options)
    }
}

impl AveragePooling {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ops::AvgPoolOptions::new(self.window.size)
            .with_stride(self.window.stride)
            .with_padding_pairs(self.window.padding)
            .with_count_include_pad(false);
        module::avg_pool2d(x, options)
    }
}

impl Dropout {
    fn forward<const D: usize>(&self, x: Tensor<D>, mode: &mut Mode<'_>) -> Tensor<D> {
        let Mode::Training { masks, .. } = mode else {
            return x;
        };
        if self.rate == 0.0 {
            return x;
        }
        let shape = x.shape();
        let mask = mask(self.rate, shape.num_elements(), masks);
        let mask = Tensor::from_data(TensorData::new(mask, shape), &x.device());
        x * mask
    }
}

/// Zeros with probability `rate`, else 1 / (1 − rate).
#[expect(clippy::cast_possible_truncation, reason = "masks are single precision")]
#[expect(clippy::cast_sign_loss, reason = "a rate is not negative")]
fn mask(rate: f64, count: usize, masks: &mut ChaCha8Rng) -> Vec<f32> {
    let dropped_below = (rate * 4_294_967_296.0) as u64;
    let kept = (1.0 / (1.0 - rate)) as f32;
    (0..count)
        .map(|_| if u64::from(masks.next_u32()) < dropped_below { 0.0 } else { kept })
        .collect()
}

impl BatchNormalization {
    fn forward<const D: usize>(&self, x: Tensor<D>, mode: &mut Mode<'_>) -> Tensor<D> {
        let channels = self.moving_mean.shape();
        let device = x.device();
        let gamma = self.gamma.as_ref().map(Param::val);
        let gamma = gamma.unwrap_or_else(|| Tensor::ones(channels.clone(), &device));
        let beta = self.beta.as_ref().map(Param::val);
        let beta = beta.unwrap_or_else(|| Tensor::zeros(channels, &device));
        let Some(statistics) = mode.statistics().filter(|_| !self.is_frozen) else {
            let (mean, variance) = (self.moving_mean.clone(), self.moving_variance.clone());
            return module::batch_norm(x, gamma, beta, mean, variance, self.epsilon);
        };
        let cells = x.shape().num_elements() / gamma.shape().num_elements();
        let trained = module::batch_norm_train(x, gamma, beta, self.epsilon);
        statistics.push(BatchStatistics {
            mean: trained.mean.inner(),
            variance: trained.variance.inner(),
            cells,
        });
        trained.output
    }

    /// moving ← moving · m + batch · (1 − m).
    pub(crate) fn update_moving(self, batch: BatchStatistics) -> Self {
        let old = self.momentum;
        let variance =
            if self.unbiased { batch.variance * bessel(batch.cells) } else { batch.variance };
        Self {
            moving_mean: self.moving_mean * old + batch.mean * (1.0 - old),
            moving_variance: self.moving_variance * old + variance * (1.0 - old),
            ..self
        }
    }
}

/// n / (n − 1), and 1 for a single value, as TensorFlow's fused kernel has it.
#[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 cells")]
fn bessel(cells: usize) -> f64 {
    cells as f64 / cells.saturating_sub(1).max(1) as f64
}

/// A weight array on the device; a frozen one takes no gradient.
fn weight<const D: usize>(
    data: TensorData,
    device: &Device,
    is_trainable: bool,
) -> Param<Tensor<D>> {
    Param::from_data(data, device).set_require_grad(is_trainable)
}

fn kernel_and_bias<const D: usize>(
    kernel: &Param<Tensor<D>>,
    bias: Option<&Param<Tensor<1>>>,
) -> Vec<TensorData> {
    let bias = bias.map(|bias| bias.val().into_data());
    std::iter::once(kernel.val().into_data()).chain(bias).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    #[test]
    fn masks_keep_the_mean_and_zero_the_rate() {
        let mask = mask(0.25, 40_000, &mut ChaCha8Rng::seed_from_u64(3));
        let zeros = mask.iter().filter(|value| **value == 0.0).count();
        assert!((9_600..10_400).contains(&zeros), "{zeros} of 40000 dropped");
        assert!(mask.iter().all(|value| *value == 0.0 || *value == 4.0 / 3.0));
    }
}
