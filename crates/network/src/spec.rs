//! A network's specification: what is known about it without building it.

use arrowhop_types::stream::Stream;
use arrowhop_types::{InputSpec, ModelId, Problems, Target};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::activation::Activation;
use crate::keras::{self, Model};
use crate::layer::Layer;

/// A checked chain of layers with known shapes. Made by [`NetworkSpec::parse`] alone, so whoever
/// holds one can build it.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkSpec {
    model: Model,
}

/// One layer, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerSummary {
    /// Its name.
    pub name: String,
    /// Keras's class.
    pub class: &'static str,
    /// Shape of its output, without the batch.
    pub output: Vec<usize>,
    /// Elements of its weight arrays.
    pub parameters: u64,
    /// Those that an optimizer changes.
    pub trainable_parameters: u64,
    /// Multiply-accumulates of one example's forward pass.
    pub macs: u64,
}

/// One weight array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightSpec {
    /// `layer/kernel`, as Keras names it without `:0`.
    pub name: String,
    /// In Keras's layout: `(in, out)`, or `(height, width, in, out)`.
    pub shape: Vec<usize>,
    /// Whether an optimizer changes it.
    pub trainable: bool,
}

impl WeightSpec {
    /// Elements of the array.
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
        Ok(Self { model: keras::read_model(keras_json)? })
    }

    /// Whether the network suits this data: its input's shape and its output's width.
    #[must_use]
    pub fn check(&self, input: &InputSpec, target: &Target) -> Problems {
        let mut problems = Problems::new();
        if self.input_shape() != input.shape {
            problems.push(
                "input",
                format!(
                    "the network takes {:?}, but an example of the data is {:?}",
                    self.input_shape(),
                    input.shape
                ),
            );
        }
        let (outputs, width) = (self.outputs(), target.width());
        let is_binary = matches!(target, Target::Classes(_)) && (outputs, width) == (1, 2);
        if outputs != width && !is_binary {
            let what = match target {
                Target::Classes(_) => "classes",
                Target::Values(_) => "values",
            };
            problems.push(
                "output",
                format!("the network has {outputs} outputs, but the data has {width} {what}"),
            );
        }
        problems
    }

    /// The model's JSON without white space: equal for equal architectures.
    #[must_use]
    pub fn keras_json(&self) -> &str {
        &self.model.compact_json
    }

    /// Shape of one example, channels last.
    #[must_use]
    pub fn input_shape(&self) -> &[usize] {
        &self.model.input
    }

    /// Elements of one example.
    #[must_use]
    pub fn input_elements(&self) -> usize {
        self.model.input.iter().product()
    }

    /// Width of the output.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.model.layers.last().map_or(1, Layer::output_channels)
    }

    /// Whether the network ends in a softmax, which [`Network::forward`](crate::Network::forward)
    /// leaves to the loss.
    #[must_use]
    pub fn gives_logits(&self) -> bool {
        self.model.layers.last().is_some_and(|layer| layer.activation == Activation::Softmax)
    }

    /// Its layers in order; an InputLayer is none.
    #[must_use]
    pub fn layers(&self) -> Vec<LayerSummary> {
        self.model.layers.iter().map(summary).collect()
    }

    /// Its weight arrays in Keras's `get_weights()` order.
    #[must_use]
    pub fn weights(&self) -> Vec<WeightSpec> {
        let arrays = self.model.layers.iter().flat_map(|layer| {
            layer.weights().into_iter().map(|weight| WeightSpec {
                name: format!("{}/{}", layer.name, weight.name),
                shape: weight.shape,
                trainable: weight.trainable,
            })
        });
        arrays.collect()
    }

    /// Elements of all weight arrays.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        self.layers().iter().map(|layer| layer.parameters).sum()
    }

    /// Elements of the weight arrays that an optimizer changes.
    #[must_use]
    pub fn trainable_parameters(&self) -> u64 {
        self.layers().iter().map(|layer| layer.trainable_parameters).sum()
    }

    /// Multiply-accumulates of one example's forward pass.
    #[must_use]
    pub fn macs(&self) -> u64 {
        self.layers().iter().fold(0, |sum, layer| sum.saturating_add(layer.macs))
    }

    /// Fresh weights in Keras's order, drawn from [`Stream::Init`].
    #[must_use]
    pub fn initial_weights(&self, seed: u64, model: ModelId) -> Vec<Vec<f32>> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(Stream::Init(model).id());
        let weights = self.model.layers.iter().flat_map(Layer::weights);
        weights.map(|weight| weight.initializer.draw(&weight.shape, &mut rng)).collect()
    }

    pub(crate) fn chain(&self) -> &[Layer] {
        &self.model.layers
    }
}

fn summary(layer: &Layer) -> LayerSummary {
    let weights = layer.weights();
    let elements = |only_trainable: bool| {
        weights
            .iter()
            .filter(|weight| weight.trainable || !only_trainable)
            .map(|weight| weight.shape.iter().product::<usize>() as u64)
            .sum()
    };
    LayerSummary {
        name: layer.name.clone(),
        class: layer.class,
        output: layer.output.clone(),
        parameters: elements(false),
        trainable_parameters: elements(true),
        macs: layer.macs(),
    }
}
