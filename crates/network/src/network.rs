//! The network that computes: weight arrays on a device, and the graph that says what is done with
//! them.

use std::sync::Arc;

use arrowhop_types::{ModelId, Precision};
use burn::module::{Module, Param};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use crate::activation::Activation;
use crate::compute::{self, Mode, Weights};
use crate::graph::Graph;
use crate::value::Value;
use crate::{NetworkError, NetworkSpec};

/// A network with weights. To train it, build it on a device with autodiff.
///
/// Inputs and outputs are rows of elements in the order of the model's declared shapes.
#[derive(Module, Debug)]
pub struct Network {
    /// Flat, in Keras's order and layout.
    arrays: Vec<Param<Tensor<1>>>,
    #[module(skip)]
    graph: Arc<Graph>,
    #[module(skip)]
    precision: Precision,
}

/// One input of a batch.
#[derive(Debug, Clone)]
pub enum Input {
    /// (batch, elements).
    Values(Tensor<2>),
    /// (batch, indices): whole numbers below the input's width, where its vector has ones. Only for
    /// inputs that [`NetworkSpec::takes_one_hot`].
    OneHot(Tensor<2>),
}

impl Input {
    /// The same for a network that is to be trained.
    #[must_use]
    pub fn autodiff(self) -> Self {
        match self {
            Self::Values(tensor) => Self::Values(tensor.autodiff()),
            Self::OneHot(tensor) => Self::OneHot(tensor.autodiff()),
        }
    }
}

/// What a training pass gives.
#[derive(Debug)]
pub struct TrainingPass {
    /// (batch, elements) for each output; logits where its [`OutputSpec`](crate::OutputSpec) says so.
    pub outputs: Vec<Tensor<2>>,
    /// New contents of arrays that layers change themselves, such as moving statistics.
    pub(crate) changed: Vec<(usize, Tensor<1>)>,
}

/// A trainable weight array in an optimizer's hands, on its device.
#[derive(Debug)]
pub struct DeviceStep {
    /// Its place in Keras's `get_weights()` order.
    pub array: usize,
    /// (elements), to be changed.
    pub weights: Tensor<1>,
    /// (elements): of the sum whose gradients were taken, by each weight.
    pub gradient: Tensor<1>,
}

/// A trainable weight array in an optimizer's hands.
#[derive(Debug)]
pub struct Step {
    /// Its place in Keras's `get_weights()` order.
    pub array: usize,
    /// To be changed.
    pub weights: Vec<f32>,
    /// Of the sum whose gradients were taken, by each weight.
    pub gradient: Vec<f32>,
}

/// What stateful recurrent layers carry from batch to batch.
#[derive(Debug, Default)]
pub struct Memory {
    /// By the call's number, the states: (batch, units).
    pub(crate) states: Vec<(usize, Vec<Tensor<2>>)>,
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
        spec.check_weights(&weights)?;
        let arrays = spec.weights().into_iter().zip(weights).map(|(weight, data)| {
            let shape = [data.len()];
            Param::from_data(TensorData::new(data, shape), device)
                .set_require_grad(weight.trainable)
        });
        let precision = Precision::default();
        Ok(Self { arrays: arrays.collect(), graph: spec.graph(), precision })
    }

    /// The same network, whose products are computed so exactly where our own kernels compute them: dense
    /// layers and convolutions on the CPU. All else is single precision.
    #[must_use]
    pub fn with_precision(self, precision: Precision) -> Self {
        Self { precision, ..self }
    }

    /// The weights in Keras's order and layout.
    #[must_use]
    pub fn weights(&self) -> Vec<Vec<f32>> {
        self.arrays.iter().map(|array| floats(array.val().into_data())).collect()
    }

    /// Inference: moving statistics, no dropout. Gives (batch, elements) for each output; logits
    /// where its [`OutputSpec`](crate::OutputSpec) says so.
    #[must_use]
    pub fn forward(&self, inputs: Vec<Input>) -> Vec<Tensor<2>> {
        self.run(inputs, &mut Mode::Inference { memory: &mut Memory::default() })
    }

    /// As [`Network::forward`], but with the softmax at the end.
    #[must_use]
    pub fn predict(&self, inputs: Vec<Input>) -> Vec<Tensor<2>> {
        self.predict_on(inputs, &mut Memory::default())
    }

    /// As [`Network::predict`], but stateful layers go on from this memory.
    #[must_use]
    pub fn predict_on(&self, inputs: Vec<Input>, memory: &mut Memory) -> Vec<Tensor<2>> {
        let values = self.run(inputs, &mut Mode::Inference { memory });
        let outputs = self.graph.outputs.iter().zip(values);
        let activated = outputs.map(|(output, rows)| {
            if !output.gives_logits {
                return rows;
            }
            Activation::Softmax.forward(Value::of_rows(rows, output.shape.clone())).rows()
        });
        activated.collect()
    }

    /// A training pass: the batch's own statistics, and dropout masks and noise from `masks`.
    #[must_use]
    pub fn forward_training(&self, inputs: Vec<Input>, masks: &mut ChaCha8Rng) -> TrainingPass {
        let mut changed = Vec::new();
        let outputs = self.run(inputs, &mut Mode::Training { masks, changed: &mut changed });
        TrainingPass { outputs, changed }
    }

    /// Takes over what a training pass's layers changed themselves.
    #[must_use]
    pub fn take_over(mut self, pass: TrainingPass) -> Self {
        for (index, tensor) in pass.changed {
            let array = &self.arrays[index];
            self.arrays[index] = Param::initialized(array.id, tensor).set_require_grad(false);
        }
        self
    }

    /// Calls `update` with every trainable weight array and its gradient, in Keras's order, which may
    /// change the weights. Weights that no output depends on have gradients of 0.
    ///
    /// On the CPU nothing is copied as long as no one else holds the weights.
    #[must_use]
    pub fn update(self, gradients: Gradients, update: impl FnOnce(&mut [Step])) -> Self {
        self.update_on_device(gradients, |steps| {
            let on_cpu = steps.iter_mut().map(|step| {
                let device = step.weights.device();
                let nothing = || Tensor::empty([0], &device);
                let weights = std::mem::replace(&mut step.weights, nothing());
                let gradient = std::mem::replace(&mut step.gradient, nothing());
                let [weights, gradient] = [weights, gradient].map(|of| floats(of.into_data()));
                Step { array: step.array, weights, gradient }
            });
            let mut on_cpu: Vec<Step> = on_cpu.collect();
            update(&mut on_cpu);
            for (step, made) in steps.iter_mut().zip(on_cpu) {
                let shape = [made.weights.len()];
                let data = TensorData::new(made.weights, shape);
                step.weights = Tensor::from_data(data, &step.weights.device());
            }
        })
    }

    /// As [`Network::update`], with arrays that stay where they are.
    #[must_use]
    pub fn update_on_device(
        mut self,
        mut gradients: Gradients,
        update: impl FnOnce(&mut [DeviceStep]),
    ) -> Self {
        let mut steps = Vec::new();
        let mut places = Vec::new();
        let mut arrays: Vec<Option<Param<Tensor<1>>>> = self.arrays.into_iter().map(Some).collect();
        for (array, place) in arrays.iter_mut().enumerate() {
            let Some(param) = place.take_if(|param| param.is_require_grad()) else { continue };
            let (id, tensor, _) = param.consume();
            let gradient = tensor.grad_remove(&mut gradients);
            places.push(id);
            let weights = tensor.inner();
            let gradient = gradient.unwrap_or_else(|| weights.zeros_like());
            steps.push(DeviceStep { array, weights, gradient });
        }
        update(&mut steps);
        for (step, id) in steps.into_iter().zip(places) {
            let weights = step.weights.autodiff().require_grad();
            arrays[step.array] = Some(Param::initialized(id, weights));
        }
        self.arrays = arrays.into_iter().flatten().collect();
        self
    }

    fn run(&self, inputs: Vec<Input>, mode: &mut Mode<'_>) -> Vec<Tensor<2>> {
        let graph = &self.graph;
        assert_eq!(inputs.len(), graph.inputs.len(), "one tensor for each input");
        let mut values = Values::of(graph);
        for (input, spec) in inputs.into_iter().zip(&graph.inputs) {
            values.push(match input {
                Input::Values(rows) => Value::of_rows(rows, spec.shape.clone()),
                Input::OneHot(indices) => Value::one_hot(indices, spec.shape.iter().product()),
            });
        }
        let first_weights = graph.first_weights();
        for (number, call) in graph.calls.iter().enumerate() {
            let specs = &graph.layers[call.layer].weights;
            let weights = Weights::new(&self.arrays, first_weights[call.layer], specs);
            let weights = weights.with_precision(self.precision);
            let inputs = call.inputs.iter().map(|&value| values.take(value)).collect();
            for value in compute::call(number, call, inputs, &weights, mode) {
                values.push(value);
            }
        }
        graph.outputs.iter().map(|output| values.take(output.value).rows()).collect()
    }
}

/// The values made so far. Each is let go of with its last use.
struct Values {
    made: Vec<Option<Value>>,
    uses_left: Vec<usize>,
}

impl Values {
    fn of(graph: &Graph) -> Self {
        let made: usize = graph.calls.iter().map(|call| call.outputs.len()).sum();
        let mut uses_left = vec![0; graph.inputs.len() + made];
        let used = graph.calls.iter().flat_map(|call| call.inputs.iter().copied());
        for value in used.chain(graph.outputs.iter().map(|output| output.value)) {
            uses_left[value] += 1;
        }
        Self { made: Vec::with_capacity(uses_left.len()), uses_left }
    }

    fn push(&mut self, value: Value) {
        self.made.push(Some(value));
    }

    fn take(&mut self, value: usize) -> Value {
        self.uses_left[value] -= 1;
        let place = &mut self.made[value];
        let found = if self.uses_left[value] == 0 { place.take() } else { place.clone() };
        found.expect("calls stand behind those that make their inputs")
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
            "config": {"name": "x", "batch_input_shape": input}})];
        all.extend_from_slice(layers);
        let model = json!({"class_name": "Sequential", "config": {"layers": all}});
        NetworkSpec::parse(&model.to_string()).unwrap()
    }

    fn values<const N: usize>(rows: [[f32; N]; 2], device: &Device) -> Vec<Input> {
        vec![Input::Values(Tensor::from_floats(rows, device))]
    }

    fn output(mut outputs: Vec<Tensor<2>>) -> Vec<f32> {
        floats(outputs.remove(0).into_data())
    }

    fn rng() -> ChaCha8Rng {
        ChaCha8Rng::seed_from_u64(1)
    }

    fn dense(name: &str, units: usize) -> Value {
        json!({"class_name": "Dense", "config": {"name": name, "units": units,
            "kernel_initializer": "ones", "use_bias": false}})
    }

    #[test]
    fn weights_come_back_as_they_went_in() {
        let layers = [
            json!({"class_name": "Conv2D", "config": {"name": "a", "filters": 4,
                "kernel_size": [3, 2]}}),
            json!({"class_name": "BatchNormalization", "config": {"name": "b", "scale": false}}),
            json!({"class_name": "Flatten", "config": {"name": "flatten"}}),
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
        let layer = json!({"class_name": "Dense", "config": {"name": "c", "units": 2}});
        let spec = spec(&json!([null, 3]), &[layer]);
        let refused = |weights| Network::from_weights(&spec, weights, &Device::flex()).unwrap_err();
        let text = |weights: [Vec<f32>; 2]| refused(weights.to_vec()).to_string();
        assert_eq!(refused(vec![vec![]]), NetworkError::WeightCount { expected: 2, found: 1 });
        let size = text([vec![0.0; 5], vec![0.0; 2]]);
        assert_eq!(size, "weight c/kernel (/config/layers/1) has 6 elements, not 5");
        let number = text([vec![0.0; 6], vec![0.0, f32::NAN]]);
        assert_eq!(number, "weight c/bias (/config/layers/1) is NaN at element 1");
    }

    #[test]
    fn softmax_at_the_end_is_left_to_the_loss_but_not_in_predictions() {
        let layer = json!({"class_name": "Dense", "config": {"name": "c", "units": 2,
            "use_bias": false, "activation": "softmax"}});
        let spec = spec(&json!([null, 1]), &[layer]);
        assert!(spec.outputs()[0].gives_logits);
        let device = Device::flex();
        let weights = vec![vec![0.0, 3_f32.ln()]];
        let network = Network::from_weights(&spec, weights, &device).unwrap();
        let rows = || values([[1.0], [0.0]], &device);
        assert_eq!(output(network.forward(rows())), [0.0, 3_f32.ln(), 0.0, 0.0]);
        let probabilities = output(network.predict(rows()));
        assert!((probabilities[1] - 0.75).abs() < 1e-6, "{probabilities:?}");
        assert_eq!(probabilities[2..], [0.5, 0.5]);
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
            (spec(&image, &[layer]), [-1.0, 1.0], [1.0, 0.5 + 1.0]),
            (spec(&image, &[frozen]), [0.999_5, 2.998_5], [0.0, 1.0]),
        ];
        for (spec, outputs, moving) in table {
            let network = Network::initialise(&spec, 1, ModelId(1), &device);
            let mut pass = network.forward_training(values([[1.0], [3.0]], &device), &mut rng());
            let found = output(std::mem::take(&mut pass.outputs));
            assert!((found[0] - outputs[0]).abs() < 1e-4, "{found:?}, not {outputs:?}");
            assert!((found[1] - outputs[1]).abs() < 1e-4, "{found:?}, not {outputs:?}");
            let weights = network.take_over(pass).weights();
            assert_eq!([weights[2][0], weights[3][0]], moving);
        }
    }

    #[test]
    fn frozen_weights_are_not_offered_for_an_update() {
        let mut first = dense("a", 1);
        first["config"]["trainable"] = json!(false);
        let spec = spec(&json!([null, 1]), &[first, dense("b", 1)]);
        let trainable: Vec<_> = spec.weights().iter().map(|weight| weight.trainable).collect();
        assert_eq!(trainable, [false, true]);
        let device = Device::flex().autodiff();
        let network = Network::initialise(&spec, 1, ModelId(1), &device);
        let pass = network.forward_training(values([[3.0], [4.0]], &device), &mut rng());
        let gradients = pass.outputs[0].clone().sum().backward();
        let network = network.update(gradients, |steps| {
            let offered: Vec<_> = steps.iter().map(|step| (step.array, &step.gradient)).collect();
            assert_eq!(offered, [(1, &vec![7.0])]);
            steps[0].weights[0] = 7.0;
        });
        assert_eq!(network.weights(), [[1.0], [7.0]]);
    }

    /// y = w²x: a shared layer's gradient is the sum over its calls.
    #[test]
    fn a_shared_layer_learns_from_all_its_calls() {
        let call = |layer: &str, node: usize| json!([[layer, node, 0, {}]]);
        let mut shared = dense("d", 1);
        shared["inbound_nodes"] = json!([call("x", 0), call("d", 0)]);
        let model = json!({"class_name": "Functional", "config": {
            "layers": [{"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
                "config": {"name": "x", "batch_input_shape": [null, 1]}}, shared],
            "input_layers": [["x", 0, 0]], "output_layers": [["d", 1, 0]]}});
        let spec = NetworkSpec::parse(&model.to_string()).unwrap();
        let device = Device::flex().autodiff();
        let network = Network::from_weights(&spec, vec![vec![3.0]], &device).unwrap();
        let pass = network.forward_training(values([[1.0], [2.0]], &device), &mut rng());
        assert_eq!(floats(pass.outputs[0].clone().into_data()), [9.0, 18.0]);
        let gradients = pass.outputs[0].clone().sum().backward();
        let _ = network.update(gradients, |steps| assert_eq!(steps[0].gradient, [18.0]));
    }

    #[test]
    fn one_hot_inputs_give_what_their_vectors_give() {
        let spec = spec(&json!([null, 5]), &[dense("a", 3)]);
        assert!(spec.takes_one_hot(0));
        let device = Device::flex().autodiff();
        let network = Network::initialise(&spec, 3, ModelId(1), &device);
        let pairs = vec![Input::OneHot(Tensor::from_floats([[0.0, 4.0], [2.0, 2.0]], &device))];
        let vectors = values([[1.0, 0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 2.0, 0.0, 0.0]], &device);
        let mut results = [pairs, vectors].map(|inputs| {
            let pass = network.forward_training(inputs, &mut rng());
            let found = floats(pass.outputs[0].clone().into_data());
            let gradients = pass.outputs[0].clone().sum().backward();
            let mut gradient = Vec::new();
            let _ = network.clone().update(gradients, |steps| {
                gradient.clone_from(&steps[0].gradient);
            });
            (found, gradient)
        });
        assert_eq!(std::mem::take(&mut results[0]), results[1]);

        let activated = [json!({"class_name": "ReLU", "config": {"name": "r"}}), dense("a", 3)];
        let spec = self::spec(&json!([null, 5]), &activated);
        assert!(!spec.takes_one_hot(0), "an activation needs the whole vector");
    }
}
