//! One checked layer: its options, its shapes, its weights and its cost. Knows neither JSON nor Burn.

use crate::activation::Activation;
use crate::initializer::Initializer;
use crate::window::Window;

/// A layer whose options are known to fit its input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    /// Unique within its network.
    pub(crate) name: String,
    /// Keras's class.
    pub(crate) class: &'static str,
    /// Whether an optimizer changes its weights; a frozen batch normalisation also keeps its moving
    /// statistics, and uses them in training.
    pub(crate) is_trainable: bool,
    /// What it computes.
    pub(crate) operation: Operation,
    /// What is applied to that.
    pub(crate) activation: Activation,
    /// Shape of its input, without the batch; channels last.
    pub(crate) input: Vec<usize>,
    /// Shape of its output, without the batch; channels last.
    pub(crate) output: Vec<usize>,
}

/// What a layer computes before its activation.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    Dense(Kernel),
    Convolution {
        kernel: Kernel,
        window: Window,
    },
    MaxPooling(Window),
    AveragePooling(Window),
    GlobalAveragePooling,
    Flatten,
    Dropout {
        rate: f64,
    },
    BatchNormalization(Normalization),
    /// Only the activation.
    Activation,
}

/// The weights of a dense or convolution layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kernel {
    pub(crate) kernel: Initializer,
    /// `None` without a bias.
    pub(crate) bias: Option<Initializer>,
}

/// Batch normalisation over the last axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Normalization {
    /// Share of the old moving statistics that is kept.
    pub(crate) momentum: f64,
    /// Added to the variance.
    pub(crate) epsilon: f64,
    /// `None` where the layer does not scale.
    pub(crate) gamma: Option<Initializer>,
    /// `None` where the layer does not centre.
    pub(crate) beta: Option<Initializer>,
    pub(crate) moving_mean: Initializer,
    pub(crate) moving_variance: Initializer,
    /// The moving variance is of the n/(n−1) kind: Keras 2 on images.
    pub(crate) unbiased: bool,
}

/// One weight array of a layer.
#[derive(Debug)]
pub(crate) struct LayerWeight<'a> {
    /// `kernel`, `bias`, `gamma`, `beta`, `moving_mean` or `moving_variance`.
    pub(crate) name: &'static str,
    /// In Keras's layout.
    pub(crate) shape: Vec<usize>,
    /// Changed by the optimizer, rather than by the layer itself.
    pub(crate) trainable: bool,
    pub(crate) initializer: &'a Initializer,
}

impl Layer {
    /// Its weight arrays in Keras's order.
    pub(crate) fn weights(&self) -> Vec<LayerWeight<'_>> {
        let mut weights = match &self.operation {
            Operation::Dense(kernel) => {
                kernel.weights(vec![self.input_channels(), self.output_channels()])
            }
            Operation::Convolution { kernel, window } => {
                let [height, width] = window.size;
                kernel.weights(vec![height, width, self.input_channels(), self.output_channels()])
            }
            Operation::BatchNormalization(normalization) => {
                normalization.weights(self.output_channels())
            }
            Operation::MaxPooling(_)
            | Operation::AveragePooling(_)
            | Operation::GlobalAveragePooling
            | Operation::Flatten
            | Operation::Dropout { .. }
            | Operation::Activation => Vec::new(),
        };
        weights.iter_mut().for_each(|weight| weight.trainable &= self.is_trainable);
        weights
    }

    /// Multiply-accumulates of one example's forward pass, of kernels only.
    pub(crate) fn macs(&self) -> u64 {
        let kernel = |inputs: usize| (inputs * self.input_channels()) as u64;
        let outputs = self.output.iter().product::<usize>() as u64;
        match &self.operation {
            Operation::Dense(_) => kernel(1).saturating_mul(outputs),
            Operation::Convolution { window, .. } => kernel(window.cells()).saturating_mul(outputs),
            _ => 0,
        }
    }

    /// Length of the input's last axis.
    pub(crate) fn input_channels(&self) -> usize {
        self.input.last().copied().unwrap_or(1)
    }

    /// Length of the output's last axis.
    pub(crate) fn output_channels(&self) -> usize {
        self.output.last().copied().unwrap_or(1)
    }
}

impl Kernel {
    fn weights(&self, shape: Vec<usize>) -> Vec<LayerWeight<'_>> {
        let units = shape.last().copied().unwrap_or(1);
        let kernel =
            LayerWeight { name: "kernel", shape, trainable: true, initializer: &self.kernel };
        let bias = self.bias.as_ref().map(|initializer| LayerWeight {
            name: "bias",
            shape: vec![units],
            trainable: true,
            initializer,
        });
        std::iter::once(kernel).chain(bias).collect()
    }
}

impl Normalization {
    fn weights(&self, channels: usize) -> Vec<LayerWeight<'_>> {
        let arrays = [
            ("gamma", true, self.gamma.as_ref()),
            ("beta", true, self.beta.as_ref()),
            ("moving_mean", false, Some(&self.moving_mean)),
            ("moving_variance", false, Some(&self.moving_variance)),
        ];
        arrays
            .into_iter()
            .filter_map(|(name, trainable, initializer)| {
                let initializer = initializer?;
                Some(LayerWeight { name, shape: vec![channels], trainable, initializer })
            })
            .collect()
    }
}
