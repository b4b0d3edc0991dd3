//! A network taken step by step outside any run, with nothing shuffled and nothing kept: to compare
//! it with other engines.

use arrowhop_network::{Memory, Network, NetworkError, NetworkSpec};
use arrowhop_types::stream::Stream;
use arrowhop_types::{
    Loss, Metric, ModelConfig, ModelId, OutputConfig, Precision, Problems, Score, ShardId, Target,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::device::Device;
use crate::learner::{Learner, floats};
use crate::objective::{Objective, OutputShape};
use crate::rows::{Column, Targets, tensors};
use crate::state::State;
use crate::task::outputs;

/// A network in training, a batch at a time.
pub struct Stepper {
    network: NetworkSpec,
    objective: Objective,
    learner: Learner,
    masks: ChaCha8Rng,
    precision: Precision,
    device: burn::tensor::Device,
}

/// What a step made.
#[derive(Debug)]
pub struct Made {
    /// The batch's score before the step, penalties included.
    pub score: Score,
    /// Of the trainable weights, in Keras's order, penalties included.
    pub gradients: Vec<Vec<f32>>,
}

impl Stepper {
    /// A network with these weights, in Keras's order, to be trained as `config` says; targets are
    /// numbers, as many as an output's elements. It is trained on this device.
    ///
    /// # Errors
    /// When weights, network and configuration do not go together.
    pub fn new(
        network: NetworkSpec,
        config: &ModelConfig,
        weights: Vec<Vec<f32>>,
        device: &Device,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let shapes = outputs(&network);
        let targets: Vec<Target> =
            shapes.iter().map(|shape| Target::Values(shape.elements())).collect();
        let targets: Vec<&Target> = targets.iter().collect();
        let objective = Objective::new(config, &shapes, &targets, &mut problems);
        if let Err(found) = config.optimizer.check() {
            problems.extend("optimizer.", &found);
        }
        problems.or(())?;
        let state = State::fresh(&network, &config.optimizer, weights);
        let learner = Learner::new(&network, config, objective.clone(), state, device.inner())
            .map_err(|error| Problems::one("weights", error.to_string()))?;
        let mut masks = ChaCha8Rng::seed_from_u64(0);
        let visit = Stream::Dropout { model: ModelId(1), epoch: 0, shard: ShardId(0) };
        masks.set_stream(visit.id());
        let (precision, device) = (config.precision, device.inner().clone());
        Ok(Self { network, objective, learner, masks, precision, device })
    }

    /// Makes a step on a batch: row-major, one array for each of the network's inputs and outputs.
    ///
    /// # Errors
    /// When the arrays have not the network's sizes.
    pub fn step(&mut self, inputs: &[Vec<f32>], targets: &[Vec<f32>]) -> Result<Made, Problems> {
        let rows = check_rows(&self.network, inputs)?;
        let targets = self.targets(targets, rows)?;
        let inputs = tensors(columns(&self.network, inputs), &self.device);
        let mut gradients = Vec::new();
        let score = self.learner.learn(inputs, &targets, &mut self.masks, Some(&mut gradients));
        Ok(Made { score, gradients })
    }

    /// Scores the network as it is now.
    ///
    /// # Errors
    /// As [`Stepper::step`].
    pub fn score(&self, inputs: &[Vec<f32>], targets: &[Vec<f32>]) -> Result<Score, Problems> {
        let rows = check_rows(&self.network, inputs)?;
        let targets = self.targets(targets, rows)?;
        let inputs = tensors(columns(&self.network, inputs), &self.device);
        let network = self.inference();
        let outputs: Vec<_> = network.forward(inputs).into_iter().map(floats).collect();
        let outputs: Vec<&[f32]> = outputs.iter().map(Vec::as_slice).collect();
        let mut score = self.objective.score(&outputs, &targets);
        score.penalise(self.network.penalty(&self.weights()));
        Ok(score)
    }

    /// Predictions of the network as it is now.
    ///
    /// # Errors
    /// As [`Stepper::step`].
    pub fn predict(&self, inputs: &[Vec<f32>]) -> Result<Vec<Vec<f32>>, Problems> {
        check_rows(&self.network, inputs)?;
        let inputs = tensors(columns(&self.network, inputs), &self.device);
        Ok(self.inference().predict(inputs).into_iter().map(floats).collect())
    }

    /// The weights as they are now, in Keras's order.
    #[must_use]
    pub fn weights(&self) -> Vec<Vec<f32>> {
        self.learner.network().weights()
    }

    fn inference(&self) -> Network {
        Network::from_weights(&self.network, self.weights(), &self.device)
            .expect("a network's own weights fit it")
            .with_precision(self.precision)
    }

    fn targets(&self, targets: &[Vec<f32>], rows: usize) -> Result<Vec<Targets>, Problems> {
        let outputs = self.network.outputs();
        let sizes = outputs.iter().map(|output| rows * output.elements());
        check_sizes("target", targets, sizes)?;
        Ok(targets.iter().cloned().map(Targets::Values).collect())
    }
}

/// What a network with these weights predicts on a device: for each output, row-major. The same rows go through
/// it `times` times, and stateful layers go on from where they were; the last time counts.
///
/// # Errors
/// When weights or inputs have not the network's sizes.
pub fn infer(
    network: &NetworkSpec,
    weights: Vec<Vec<f32>>,
    inputs: &[Vec<f32>],
    times: u32,
    device: &Device,
) -> Result<Vec<Vec<f32>>, Problems> {
    check_rows(network, inputs)?;
    let device = device.inner();
    let built = Network::from_weights(network, weights, device);
    let built = built.map_err(|error: NetworkError| Problems::one("weights", error.to_string()))?;
    let mut memory = Memory::default();
    let mut outputs = Vec::new();
    for _ in 0..times {
        outputs = built.predict_on(tensors(columns(network, inputs), device), &mut memory);
    }
    Ok(outputs.into_iter().map(floats).collect())
}

/// The loss of each row of predictions (rows, width) against targets of that shape.
#[must_use]
pub fn row_losses(loss: Loss, predictions: &[f32], targets: &[f32], width: usize) -> Vec<f64> {
    let objective = objective_of(OutputConfig::new(loss), width);
    let rows = predictions.chunks(width).zip(targets.chunks(width));
    let loss_of = |(row, target): (&[f32], &[f32])| {
        objective.score(&[row], &[Targets::Values(target.to_vec())]).loss_sum
    };
    rows.map(loss_of).collect()
}

/// A metric of predictions (rows, width) against targets of that shape.
#[must_use]
pub fn measure(metric: Metric, predictions: &[f32], targets: &[f32], width: usize) -> f64 {
    let held_to =
        OutputConfig { metrics: vec![metric], ..OutputConfig::new(Loss::MeanSquaredError) };
    let score =
        objective_of(held_to, width).score(&[predictions], &[Targets::Values(targets.to_vec())]);
    score.metrics[0].value()
}

/// An objective for outputs that are nothing but numbers.
fn objective_of(held_to: OutputConfig, width: usize) -> Objective {
    let shape = OutputShape { name: "output".into(), shape: vec![width], gives_logits: false };
    Objective::unchecked(&[held_to], &[shape])
}

/// How many rows the inputs have; else what is wrong with them.
fn check_rows(network: &NetworkSpec, inputs: &[Vec<f32>]) -> Result<usize, Problems> {
    let shapes = network.inputs();
    let elements: Vec<usize> =
        shapes.iter().map(|input| input.shape.iter().product::<usize>()).collect();
    let rows = match (inputs.first(), elements.first()) {
        (Some(values), Some(elements)) => values.len() / elements,
        _ => 0,
    };
    check_sizes("input", inputs, elements.into_iter().map(|elements| rows * elements))?;
    if rows == 0 { Err(Problems::one("input", "has no rows")) } else { Ok(rows) }
}

fn check_sizes(
    what: &str,
    arrays: &[Vec<f32>],
    sizes: impl ExactSizeIterator<Item = usize>,
) -> Result<(), Problems> {
    let mut problems = Problems::new();
    if arrays.len() != sizes.len() {
        problems.push(what, format!("there are {}, not {}", arrays.len(), sizes.len()));
    }
    for (i, (array, size)) in arrays.iter().zip(sizes).enumerate() {
        if array.len() != size {
            let text = format!("has {} numbers, not {size}", array.len());
            problems.push(format!("{what} {i}"), text);
        }
    }
    problems.or(())
}

fn columns(network: &NetworkSpec, inputs: &[Vec<f32>]) -> Vec<Column> {
    let shapes = network.inputs().into_iter();
    let columns = inputs.iter().zip(shapes).map(|(values, input)| Column {
        values: values.clone(),
        elements: input.shape.iter().product(),
        is_one_hot: false,
    });
    columns.collect()
}
