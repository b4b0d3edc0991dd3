//! A network's specification: what is known about it without building it.

use std::sync::Arc;

use arrowhop_types::stream::Stream;
use arrowhop_types::{ModelId, Problems};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::graph::Graph;
use crate::keras;
use crate::layer::Operation;
use crate::regularizer::Regularizer;
use crate::{NetworkError, graph, memory};

/// A checked network of layers with known shapes. Made by [`NetworkSpec::parse`] alone, so whoever
/// holds one can build it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSpec {
    keras_json: String,
    graph: Arc<Graph>,
}

/// One input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputShape {
    /// Its InputLayer's name.
    pub name: String,
    /// Without the batch.
    pub shape: Vec<usize>,
}

/// One output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputSpec {
    /// The name of the layer that makes it.
    pub name: String,
    /// Without the batch.
    pub shape: Vec<usize>,
    /// The output is a softmax over the last axis, which [`Network::forward`](crate::Network::forward)
    /// leaves to the loss.
    pub gives_logits: bool,
}

/// One layer, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Its name; of a nested model's layer `model/layer`.
    pub name: String,
    /// Keras's class.
    pub class: String,
    /// Shape of its (first) output at its first call, without the batch.
    pub output: Vec<usize>,
    /// How often it is applied: more than once where it is shared.
    pub calls: usize,
    /// Elements of its weight arrays.
    pub parameters: u64,
    /// Those that an optimizer changes.
    pub trainable_parameters: u64,
    /// Multiply-accumulates of one example's forward pass, of all its calls.
    pub macs: u64,
}

/// One weight array.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightSpec {
    /// `layer/kernel`, as Keras names it without `:0`.
    pub name: String,
    /// In Keras's layout: `(in, out)`, or `(height, width, in, out)`.
    pub shape: Vec<usize>,
    /// Whether an optimizer changes it.
    pub trainable: bool,
    /// The penalty on it.
    pub regularizer: Option<Regularizer>,
    /// The JSON pointer of its layer.
    pub pointer: String,
}

impl WeightSpec {
    /// Elements of the array.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl OutputSpec {
    /// Elements of one example.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

impl NetworkSpec {
    /// Reads the JSON of a Keras model.
    ///
    /// # Errors
    /// Every problem of the text, each under its JSON pointer.
    pub fn parse(keras_json: &str) -> Result<Self, Problems> {
        let (keras_json, mut graph) = keras::read_model(keras_json)?;
        graph.leave_softmax_to_losses();
        Ok(Self { keras_json, graph: Arc::new(graph) })
    }

    /// The model's JSON without white space: equal for equal architectures.
    #[must_use]
    pub fn keras_json(&self) -> &str {
        &self.keras_json
    }

    /// Its inputs, in the model's order.
    #[must_use]
    pub fn inputs(&self) -> Vec<InputShape> {
        let inputs = self.graph.inputs.iter();
        let shape = |input: &graph::Input| InputShape {
            name: input.name.clone(),
            shape: input.shape.clone(),
        };
        inputs.map(shape).collect()
    }

    /// Its outputs, in the model's order.
    #[must_use]
    pub fn outputs(&self) -> Vec<OutputSpec> {
        let outputs = self.graph.outputs.iter();
        let spec = |output: &graph::Output| OutputSpec {
            name: output.name.clone(),
            shape: output.shape.clone(),
            gives_logits: output.gives_logits,
        };
        outputs.map(spec).collect()
    }

    /// Elements of one example, over all inputs.
    #[must_use]
    pub fn input_elements(&self) -> usize {
        self.graph.inputs.iter().map(|input| input.shape.iter().product::<usize>()).sum()
    }

    /// Whether an input, by number, may be given as the indices of ones: only Dense layers take it.
    #[must_use]
    pub fn takes_one_hot(&self, input: usize) -> bool {
        self.graph.inputs[input].shape.len() == 1 && self.graph.feeds_dense_alone(input)
    }

    /// The smallest Embedding that takes an input, by number, as its tokens: its name, and how many
    /// it has.
    #[must_use]
    pub fn vocabulary(&self, input: usize) -> Option<(&str, u32)> {
        let graph = &self.graph;
        let embeds = graph
            .calls
            .iter()
            .filter(|call| call.operation == Operation::Embedding && call.inputs.contains(&input));
        let sizes = embeds.filter_map(|call| {
            let layer = &graph.layers[call.layer];
            let size = u32::try_from(*layer.weights.first()?.shape.first()?);
            Some((layer.name.as_str(), size.unwrap_or(u32::MAX)))
        });
        sizes.min_by_key(|(_, size)| *size)
    }

    /// The names of outputs that are sequences with hidden steps, whose loss Keras computes over the
    /// others alone.
    #[must_use]
    pub fn masked_outputs(&self) -> Vec<&str> {
        let outputs = self.graph.outputs.iter().filter(|output| output.hides_steps);
        outputs.map(|output| output.name.as_str()).collect()
    }

    /// The names of recurrent layers that carry their state from batch to batch.
    #[must_use]
    pub fn stateful_layers(&self) -> Vec<&str> {
        let calls = self.graph.calls.iter().filter(|call| call.operation.is_stateful());
        calls.map(|call| self.graph.layers[call.layer].name.as_str()).collect()
    }

    /// Its layers in Keras's order; an InputLayer is none.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerSummary> {
        let layers = self.graph.layers.iter().enumerate();
        let summary = |(number, layer): (usize, &crate::layer::Layer)| {
            let calls: Vec<_> =
                self.graph.calls.iter().filter(|call| call.layer == number).collect();
            LayerSummary {
                name: layer.name.clone(),
                class: layer.class.clone(),
                output: calls.first().map(|call| call.outputs[0].clone()).unwrap_or_default(),
                calls: calls.len(),
                parameters: layer.parameters(false),
                trainable_parameters: layer.parameters(true),
                macs: calls.iter().fold(0, |sum, call| sum.saturating_add(call.macs)),
            }
        };
        layers.map(summary).collect()
    }

    /// Its weight arrays in Keras's `get_weights()` order.
    #[must_use]
    pub fn weights(&self) -> Vec<WeightSpec> {
        let arrays = self.graph.layers.iter().flat_map(|layer| {
            layer.weights.iter().map(|weight| WeightSpec {
                name: format!("{}/{}", layer.name, weight.name),
                shape: weight.shape.clone(),
                trainable: weight.is_trainable,
                regularizer: weight.regularizer,
                pointer: layer.pointer.clone(),
            })
        });
        arrays.collect()
    }

    /// Elements of all weight arrays.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.graph.layers.iter().map(|layer| layer.parameters(false)).sum()
    }

    /// Elements of the weight arrays that an optimizer changes.
    #[must_use]
    pub fn trainable_parameters(&self) -> u64 {
        self.graph.layers.iter().map(|layer| layer.parameters(true)).sum()
    }

    /// Multiply-accumulates of one example's forward pass.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.graph.calls.iter().fold(0, |sum, call| sum.saturating_add(call.macs))
    }

    /// Bytes that a training step on the CPU takes at most for a batch of so many rows: values between
    /// layers and gradients, those of the weights included. `inputs` are the floats of a row of each
    /// input, as [`Input`](crate::Input) has them.
    #[must_use]
    pub fn training_bytes(&self, rows: u64, inputs: &[u64]) -> u64 {
        memory::of_training(&self.graph, rows, inputs)
    }

    /// The same of inference.
    #[must_use]
    pub fn inference_bytes(&self, rows: u64, inputs: &[u64]) -> u64 {
        memory::of_inference(&self.graph, rows, inputs)
    }

    /// Fresh weights in Keras's order, drawn from [`Stream::Init`].
    #[must_use]
    pub fn initial_weights(&self, seed: u64, model: ModelId) -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(Stream::Init(model).id());
        let weights = self.graph.layers.iter().flat_map(|layer| &layer.weights);
        weights.map(|weight| weight.initializer.draw(&weight.shape, &mut rng)).collect()
    }

    /// The penalties of these weights, in Keras's order: added to each row's loss.
    ///
    /// # Panics
    /// When they are not this network's.
    #[must_use]
    pub fn penalty(&self, weights: &[Vec<f32>]) -> f64 {
        let specs = self.graph.layers.iter().flat_map(|layer| &layer.weights);
        let penalties = specs.zip(weights).filter_map(|(spec, array)| {
            assert_eq!(array.len(), spec.shape.iter().product::<usize>(), "{}", spec.name);
            Some(spec.regularizer?.penalty(array))
        });
        penalties.sum()
    }

    /// Whether these arrays are this network's weights, by number and sizes, and all finite.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn check_weights(&self, weights: &[Vec<f32>]) -> Result<(), NetworkError> {
        let expected = self.weights();
        if weights.len() != expected.len() {
            let (expected, found) = (expected.len(), weights.len());
            return Err(NetworkError::WeightCount { expected, found });
        }
        for (spec, array) in expected.into_iter().zip(weights) {
            let WeightSpec { name, pointer, .. } = &spec;
            let (name, pointer) = (name.clone(), pointer.clone());
            let (expected, found) = (spec.elements(), array.len());
            if found != expected {
                return Err(NetworkError::WeightSize { name, pointer, expected, found });
            }
            if let Some(index) = array.iter().position(|value| !value.is_finite()) {
                let value = array[index];
                return Err(NetworkError::WeightValue { name, pointer, index, value });
            }
        }
        Ok(())
    }

    pub(crate) fn graph(&self) -> Arc<Graph> {
        Arc::clone(&self.graph)
    }
}
