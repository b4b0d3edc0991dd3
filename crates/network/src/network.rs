//! The network that computes: a chain of Burn layers with their weights.

use arrowhop_types::ModelId;
use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use crate::activation::Activation;
use crate::layers::{Mode, Operation, Value};
use crate::{NetworkError, NetworkSpec};

/// A network with weights. To train it, build it on a device with autodiff.
///
/// Inputs are rows of elements, channels last, as Keras flattens them.
#[derive(Module, Debug)]
pub struct Network {
    layers: Vec<Step>,
    /// Height, width and channels, where the input is an image.
    #[module(skip)]
    image: Option<[usize; 3]>,
    /// The softmax at the end, if there is one, is left to the loss.
    #[module(skip)]
    gives_logits: bool,
}

/// An operation and the activation after it.
#[derive(Module, Debug)]
struct Step {
    operation: Operation,
    #[module(skip)]
    activation: Activation,
}

/// A batch's mean and variance, by channel, as one normalising layer saw them.
#[derive(Debug)]
pub struct BatchStatistics {
    pub(crate) mean: Tensor<1>,
    pub(crate) variance: Tensor<1>,
    /// Values per channel.
    pub(crate) cells: usize,
}

/// What a training pass gives.
#[derive(Debug)]
pub struct TrainingPass {
    /// (batch, outputs); logits where [`NetworkSpec::gives_logits`].
    pub output: Tensor<2>,
    /// For [`Network::update_moving_statistics`].
    pub statistics: Vec<BatchStatistics>,
}

impl Network {
    /// A network with fresh weights, drawn from [`arrowhop_types::stream::Stream::Init`].
    #[must_use]
    pub fn initialise(spec: &NetworkSpec, seed: u64, model: ModelId, device: &Device) -> Self {
        Self::from_weights(spec, spec.initial_weights(seed, model), device)
            .expect("fresh weights fit the network they were drawn for")
    }

    /// A network with these weights, in Keras's order and layout.
    ///
    /// # Errors
    /// When there are too few or too many arrays, or one has another size.
    pub fn from_weights(
        spec: &NetworkSpec,
        weights: Vec<Vec<f32>>,
        device: &Device,
    ) -> Result<Self, NetworkError> {
        let expected = spec.weights();
        if weights.len() != expected.len() {
            let (expected, found) = (expected.len(), weights.len());
            return Err(NetworkError::WeightCount { expected, found });
        }
        let mut arrays = Vec::with_capacity(weights.len());
        for (weight, data) in expected.into_iter().zip(weights) {
            let (expected, found) = (weight.elements(), data.len());
            if found != expected {
                return Err(NetworkError::WeightSize {
                    name: weight.name,
                    expected,
                    found,
                });
            }
            arrays.push(TensorData::new(data, weight.shape));
        }
        let mut arrays = arrays.into_iter();
        let layers = spec.chain().iter().map(|layer| Step {
            operation: Operation::build(layer, &mut arrays, device),
            activation: layer.activation,
        });
        let mut layers: Vec<Step> = layers.collect();
        let gives_logits = spec.gives_logits();
        if let Some(last) = layers.last_mut().filter(|_| gives_logits) {
            last.activation = Activation::Linear;
        }
        let image = <[usize; 3]>::try_from(spec.input_shape()).ok();
        Ok(Self {
            layers,
            image,
            gives_logits,
        })
    }

    /// The weights in Keras's order and layout.
    #[must_use]
    pub fn weights(&self) -> Vec<Vec<f32>> {
        let arrays = self.layers.iter().flat_map(|step| step.operation.weights());
        arrays.map(floats).collect()
    }

    /// Inference on rows of shape (batch, elements): moving statistics, no dropout. Gives
    /// (batch, outputs); logits where [`NetworkSpec::gives_logits`].
    #[must_use]
    pub fn forward(&self, rows: Tensor<2>) -> Tensor<2> {
        self.run(rows, &mut Mode::Inference)
    }

    /// As [`Network::forward`], but with the softmax at the end.
    #[must_use]
    pub fn predict(&self, rows: Tensor<2>) -> Tensor<2> {
        let output = self.forward(rows);
        if self.gives_logits {
            Activation::Softmax.forward(output)
        } else {
            output
        }
    }

    /// A training pass over rows of shape (batch, elements): the batch's own statistics, and dropout
    /// masks from `masks`.
    #[must_use]
    pub fn forward_training(&self, rows: Tensor<2>, masks: &mut ChaCha8Rng) -> TrainingPass {
        let mut statistics = Vec::new();
        let output = self.run(
            rows,
            &mut Mode::Training {
                masks,
                statistics: &mut statistics,
            },
        );
        TrainingPass { output, statistics }
    }

    /// Moves the normalising layers' statistics towards those of a training pass.
    #[must_use]
    pub fn update_moving_statistics(mut self, statistics: Vec<BatchStatistics>) -> Self {
        let mut statistics = statistics.into_iter();
        let layers = self.layers.into_iter().map(|step| match step.operation {
            Operation::BatchNormalization(layer) => {
                let batch = statistics
                    .next()
                    .expect("a pass notes each normalising layer once");
                let operation = Operation::BatchNormalization(layer.update_moving(batch));
                Step {
                    operation,
                    activation: step.activation,
                }
            }
            operation => Step {
                operation,
                activation: step.activation,
            },
        });
        self.layers = layers.collect();
        self
    }

    /// Calls `update(i, weights, gradient)` for the i-th trainable weight array, in Keras's order
    /// and layout, which may change the weights.
    ///
    /// On the CPU nothing is copied as long as no one else holds the weights.
    #[must_use]
    pub fn update(
        self,
        gradients: Gradients,
        update: impl FnMut(usize, &mut [f32], &[f32]),
    ) -> Self {
        self.map(&mut Update {
            gradients,
            update,
            index: 0,
        })
    }

    fn run(&self, rows: Tensor<2>, mode: &mut Mode<'_>) -> Tensor<2> {
        let mut value = match self.image {
            Some([height, width, channels]) => {
                let batch = rows.dims()[0];
                let image = rows.reshape([batch, height, width, channels]);
                Value::Image(image.permute([0, 3, 1, 2]))
            }
            None => Value::Flat(rows),
        };
        for step in &self.layers {
            value = step
                .operation
                .forward(value, mode)
                .activate(step.activation);
        }
        value.into_rows()
    }
}

/// Visits the trainable weights in order.
struct Update<F> {
    gradients: Gradients,
    update: F,
    index: usize,
}

impl<F: FnMut(usize, &mut [f32], &[f32])> ModuleMapper for Update<F> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, tensor, mapper) = param.consume();
        let gradient = tensor
            .grad_remove(&mut self.gradients)
            .expect("every trainable weight takes part in the output");
        let device = tensor.device();
        let shape = tensor.dims();
        let mut weights = floats(tensor.inner().into_data());
        (self.update)(self.index, &mut weights, &floats(gradient.into_data()));
        self.index += 1;
        let tensor = Tensor::from_data(TensorData::new(weights, shape), &device).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}

fn floats(data: TensorData) -> Vec<f32> {
    data.try_into_vec()
        .expect("all tensors of a network are f32")
}
