//! The network that computes: a chain of Burn layers with their weights.

use arrowhop_types::ModelId;
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
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
                return Err(NetworkError::WeightSize { name: weight.name, expected, found });
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
        Ok(Self { layers, image, gives_logits })
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
        if self.gives_logits { Activation::Softmax.forward(output) } else { output }
    }

    /// A training pass over rows of shape (batch, elements): the batch's own statistics, and dropout
    /// masks from `masks`.
    #[must_use]
    pub fn forward_training(&self, rows: Tensor<2>, masks: &mut ChaCha8Rng) -> TrainingPass {
        let mut statistics = Vec::new();
        let output = self.run(rows, &mut Mode::Training { masks, statistics: &mut statistics });
        TrainingPass { output, statistics }
    }

    /// Moves the normalising layers' statistics towards those of a training pass.
    #[must_use]
    pub fn update_moving_statistics(mut self, statistics: Vec<BatchStatistics>) -> Self {
        let mut statistics = statistics.into_iter();
        let layers = self.layers.into_iter().map(|step| match step.operation {
            Operation::BatchNormalization(layer) if !layer.is_frozen => {
                let batch = statistics.next().expect("a pass notes each normalising layer once");
                let operation = Operation::BatchNormalization(layer.update_moving(batch));
                Step { operation, activation: step.activation }
            }
            operation => Step { operation, activation: step.activation },
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
        self.map(&mut Update { gradients, update, index: 0 })
    }

    /// Calls `visit(gradient)` for each trainable weight array, in Keras's order, before
    /// [`Network::update`] takes the gradients.
    pub fn visit_gradients(&self, gradients: &Gradients, visit: impl FnMut(&[f32])) {
        self.visit(&mut Visit { gradients, visit });
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
            value = step.operation.forward(value, mode).activate(step.activation);
        }
        value.into_rows()
    }
}

/// Visits the trainable weights' gradients in order.
struct Visit<'a, F> {
    gradients: &'a Gradients,
    visit: F,
}

impl<F: FnMut(&[f32])> ModuleVisitor for Visit<'_, F> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !param.is_require_grad() {
            return;
        }
        let gradient = param
            .val()
            .grad(self.gradients)
            .expect("every trainable weight takes part in the output")
            .into_data();
        (self.visit)(gradient.as_slice().expect("all tensors of a network are f32"));
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
        if !param.is_require_grad() {
            return param;
        }
        let (id, tensor, mapper) = param.consume();
        let gradient = tensor
            .grad_remove(&mut self.gradients)
            .expect("every trainable weight takes part in the output");
        let device = tensor.device();
        let shape = tensor.dims();
        let mut weights = floats(tensor.inner().into_data());
        let gradient = gradient.into_data();
        let gradient = gradient.as_slice().expect("all tensors of a network are f32");
        (self.update)(self.index, &mut weights, gradient);
        self.index += 1;
        let tensor = Tensor::from_data(TensorData::new(weights, shape), &device).require_grad();
        Param::from_mapped_value(id, tensor, mapper)
    }
}

fn floats(data: TensorData) -> Vec<f32> {
    data.try_into_vec().expect("all tensors of a network are f32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;
    use serde_json::{Value, json};

    fn spec(input: &Value, layers: &[Value]) -> NetworkSpec {
        let mut all = vec![json!({"class_name": "InputLayer",
            "config": {"batch_input_shape": input}})];
        all.extend_from_slice(layers);
        let model = json!({"class_name": "Sequential", "config": {"layers": all}});
        NetworkSpec::parse(&model.to_string()).unwrap()
    }

    fn output(spec: &NetworkSpec, weights: Vec<Vec<f32>>, rows: Vec<f32>) -> Vec<f32> {
        let device = Device::flex();
        let network = Network::from_weights(spec, weights, &device).unwrap();
        let shape = [rows.len() / spec.input_elements(), spec.input_elements()];
        floats(
            network.forward(Tensor::from_data(TensorData::new(rows, shape), &device)).into_data(),
        )
    }

    fn flatten() -> Value {
        json!({"class_name": "Flatten", "config": {"name": "flatten"}})
    }

    /// The worked example of TensorFlow's SAME padding.
    #[test]
    fn the_odd_padding_of_a_same_convolution_comes_after() {
        let convolution = json!({"class_name": "Conv2D", "config": {"name": "a", "filters": 1,
            "kernel_size": 3, "strides": 2, "padding": "same", "use_bias": false}});
        let spec = spec(&json!([null, 4, 4, 1]), &[convolution, flatten()]);
        assert_eq!(output(&spec, vec![vec![1.0; 9]], vec![1.0; 16]), [9.0, 6.0, 6.0, 4.0]);
    }

    #[test]
    fn pools_leave_the_padding_out() {
        let pool = |class: &str| {
            let pool = json!({"class_name": class, "config": {"name": "a", "pool_size": 2,
                "padding": "same"}});
            spec(&json!([null, 3, 3, 1]), &[pool, flatten()])
        };
        let cells: Vec<f32> = (1_u8..=9).map(|cell| -f32::from(cell)).collect();
        let mean = output(&pool("AveragePooling2D"), vec![], cells.clone());
        assert_eq!(mean, [-3.0, -4.5, -7.5, -9.0]);
        assert_eq!(output(&pool("MaxPooling2D"), vec![], cells), [-1.0, -3.0, -7.0, -9.0]);
    }

    /// Two 1×1 filters over a 1×2 image of 3 channels: flattening must give pixel by pixel.
    #[test]
    fn images_are_flattened_channels_last() {
        let convolution = json!({"class_name": "Conv2D", "config": {"name": "a", "filters": 2,
            "kernel_size": 1}});
        let spec = spec(&json!([null, 1, 2, 3]), &[convolution, flatten()]);
        let kernel = vec![1.0, 0.0, 0.0, 10.0, 0.0, 100.0];
        let pixels = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let expected = [1.5, 320.0 - 0.5, 4.5, 650.0 - 0.5];
        assert_eq!(output(&spec, vec![kernel, vec![0.5, -0.5]], pixels), expected);
    }

    #[test]
    fn weights_come_back_as_they_went_in() {
        let layers = [
            json!({"class_name": "Conv2D", "config": {"name": "a", "filters": 4,
                "kernel_size": [3, 2]}}),
            json!({"class_name": "BatchNormalization", "config": {"name": "b", "scale": false}}),
            flatten(),
            json!({"class_name": "Dense", "config": {"name": "c", "units": 2}}),
        ];
        let spec = spec(&json!([null, 5, 4, 3]), &layers);
        let names: Vec<_> = spec.weights().into_iter().map(|weight| weight.name).collect();
        let expected = [
            "a/kernel",
            "a/bias",
            "b/beta",
            "b/moving_mean",
            "b/moving_variance",
            "c/kernel",
            "c/bias",
        ];
        assert_eq!(names, expected);
        let weights = spec.initial_weights(3, ModelId(1));
        for device in [Device::flex(), Device::flex().autodiff()] {
            let network = Network::from_weights(&spec, weights.clone(), &device).unwrap();
            assert_eq!(network.weights(), weights);
        }
        assert_eq!(Network::initialise(&spec, 3, ModelId(1), &Device::flex()).weights(), weights);
        assert_ne!(spec.initial_weights(3, ModelId(2)), weights);
    }

    #[test]
    fn weights_that_do_not_fit_are_named() {
        let dense = json!({"class_name": "Dense", "config": {"name": "c", "units": 2}});
        let spec = spec(&json!([null, 3]), &[dense]);
        let build = |weights| Network::from_weights(&spec, weights, &Device::flex()).unwrap_err();
        assert_eq!(build(vec![vec![]]), NetworkError::WeightCount { expected: 2, found: 1 });
        let name = "c/kernel".to_owned();
        let size = NetworkError::WeightSize { name, expected: 6, found: 5 };
        assert_eq!(build(vec![vec![0.0; 5], vec![0.0; 2]]), size);
    }

    #[test]
    fn dropout_works_in_training_alone_and_scales_what_it_keeps() {
        let dropout = json!({"class_name": "Dropout", "config": {"name": "a", "rate": 0.75}});
        let spec = spec(&json!([null, 1000]), &[dropout]);
        let device = Device::flex();
        let network = Network::from_weights(&spec, vec![], &device).unwrap();
        let ones = Tensor::<2>::ones([4, 1000], &device);
        let mut masks = ChaCha8Rng::seed_from_u64(1);
        let trained = floats(network.forward_training(ones.clone(), &mut masks).output.into_data());
        assert!(trained.iter().all(|value| [0.0, 4.0].contains(value)));
        let kept = trained.iter().filter(|value| **value == 4.0).count();
        assert!((900..1100).contains(&kept), "{kept} of 4000 kept");
        assert!(floats(network.forward(ones).into_data()).iter().all(|value| *value == 1.0));
    }

    /// One channel with the values 1, 3: mean 2, population variance 1, unbiased variance 2.
    #[test]
    fn moving_statistics_follow_the_batch_by_keras_s_rules() {
        let layer = json!({"class_name": "BatchNormalization", "config": {"name": "a",
            "momentum": 0.5, "epsilon": 1e-12}});
        let frozen = json!({"class_name": "BatchNormalization", "config": {"name": "a",
            "trainable": false}});
        let image = json!([null, 1, 1, 1]);
        let device = Device::flex();
        let table = [
            (spec(&json!([null, 1]), std::slice::from_ref(&layer)), [-1.0, 1.0], [1.0, 0.5 + 0.5]),
            (spec(&image, &[layer, flatten()]), [-1.0, 1.0], [1.0, 0.5 + 1.0]),
            (spec(&image, &[frozen, flatten()]), [0.999_5, 2.998_5], [0.0, 1.0]),
        ];
        for (spec, outputs, moving) in table {
            let network = Network::initialise(&spec, 1, ModelId(1), &device);
            let rows = Tensor::<2>::from_floats([[1.0], [3.0]], &device);
            let pass = network.forward_training(rows, &mut ChaCha8Rng::seed_from_u64(1));
            let found = floats(pass.output.into_data());
            assert!((found[0] - outputs[0]).abs() < 1e-4, "{found:?}, not {outputs:?}");
            assert!((found[1] - outputs[1]).abs() < 1e-4, "{found:?}, not {outputs:?}");
            let weights = network.update_moving_statistics(pass.statistics).weights();
            assert_eq!([weights[2][0], weights[3][0]], moving);
        }
    }

    #[test]
    fn frozen_weights_are_not_offered_for_an_update() {
        let dense = |name: &str, trainable: bool| {
            json!({"class_name": "Dense", "config": {"name": name, "units": 1,
                "kernel_initializer": "ones", "use_bias": false, "trainable": trainable}})
        };
        let spec = spec(&json!([null, 1]), &[dense("a", false), dense("b", true)]);
        let trainable: Vec<_> = spec.weights().iter().map(|weight| weight.trainable).collect();
        assert_eq!(trainable, [false, true]);
        let device = Device::flex().autodiff();
        let network = Network::initialise(&spec, 1, ModelId(1), &device);
        let row = Tensor::<2>::from_floats([[3.0]], &device);
        let pass = network.forward_training(row, &mut ChaCha8Rng::seed_from_u64(1));
        let gradients = pass.output.sum().backward();
        let mut offered = Vec::new();
        network.visit_gradients(&gradients, |gradient| offered.push((0, gradient.to_vec())));
        assert_eq!(offered, [(0, vec![3.0])]);
        let network = network.update(gradients, |i, weights, gradient| {
            offered.push((i, gradient.to_vec()));
            weights[0] = 7.0;
        });
        assert_eq!(offered, [(0, vec![3.0]), (0, vec![3.0])]);
        assert_eq!(network.weights(), [[1.0], [7.0]]);
    }

    #[test]
    fn softmax_at_the_end_is_left_to_the_loss_but_not_in_predictions() {
        let dense = json!({"class_name": "Dense", "config": {"name": "c", "units": 2,
            "use_bias": false, "activation": "softmax"}});
        let spec = spec(&json!([null, 1]), &[dense]);
        assert!(spec.gives_logits());
        let device = Device::flex();
        let weights = vec![vec![0.0, 3_f32.ln()]];
        let network = Network::from_weights(&spec, weights, &device).unwrap();
        let row = Tensor::<2>::ones([1, 1], &device);
        assert_eq!(floats(network.forward(row.clone()).into_data()), [0.0, 3_f32.ln()]);
        let probabilities = floats(network.predict(row).into_data());
        assert!((probabilities[1] - 0.75).abs() < 1e-6, "{probabilities:?}");
    }
}
