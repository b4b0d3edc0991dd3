//! A model that learns, batch by batch: forward, backward, update. Knows nothing of visits, rows or
//! their order.

use arrowhop_network::{Input, Network, NetworkError, NetworkSpec, Regularizer, Step};
use arrowhop_types::{Optimizer, Score};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use crate::objective::Objective;
use crate::optimizer::{self, Array, Update, square_sum};
use crate::rows::Targets;
use crate::state::State;
use crate::task::Task;

/// A network on a device, and the optimizer that changes it.
pub(crate) struct Learner {
    optimizer: Optimizer,
    objective: Objective,
    /// Taken apart and put together by each update.
    network: Option<Network>,
    /// Its weights are in the network.
    state: State,
    /// Of all weight arrays.
    arrays: Vec<ArraySpec>,
    /// Not every layer is frozen.
    learns: bool,
    device: Device,
}

/// What the learner must know of a weight array.
struct ArraySpec {
    shape: Vec<usize>,
    regularizer: Option<Regularizer>,
}

impl Learner {
    /// Goes on from this state of the task's model.
    pub(crate) fn start(task: &Task, mut state: State) -> Result<Self, NetworkError> {
        if task.reset_optimizer_each_visit {
            state.step = 0;
        }
        let (optimizer, objective) = (task.config.optimizer.clone(), task.objective.clone());
        Self::new(&task.network, optimizer, objective, state)
    }

    /// Goes on from this state of a network.
    pub(crate) fn new(
        network: &NetworkSpec,
        optimizer: Optimizer,
        objective: Objective,
        mut state: State,
    ) -> Result<Self, NetworkError> {
        let device = Device::flex().autodiff();
        let weights = std::mem::take(&mut state.weights);
        let specs = network.weights().into_iter();
        let arrays =
            specs.map(|spec| ArraySpec { shape: spec.shape, regularizer: spec.regularizer });
        let (arrays, learns) = (arrays.collect(), network.trainable_parameters() > 0);
        let network = Some(Network::from_weights(network, weights, &device)?);
        Ok(Self { optimizer, objective, network, state, arrays, learns, device })
    }

    /// Makes one step on a batch; its score is that before the step. `inspect` sees the gradients,
    /// penalties included, before they are clipped.
    pub(crate) fn learn(
        &mut self,
        inputs: Vec<Column>,
        targets: &[Targets],
        masks: &mut ChaCha8Rng,
        inspect: impl FnOnce(&[Step]),
    ) -> Score {
        let network = self.network.take().expect("the network is back after each batch");
        let mut pass = network.forward_training(tensors(inputs, &self.device), masks);
        let outputs = std::mem::take(&mut pass.outputs);
        let values: Vec<Vec<f32>> = outputs.iter().cloned().map(floats).collect();
        let values: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
        let (mut score, slopes) = self.objective.score_and_gradients(&values, targets);
        let weighted = outputs.into_iter().zip(slopes).map(|(output, slopes)| {
            let slopes = TensorData::new(slopes, output.shape());
            (output * Tensor::from_data(slopes, &self.device)).sum()
        });
        let sum = weighted.reduce(|a, b| a + b).filter(|_| self.learns);
        let mut penalty = 0.0;
        let network = match sum {
            Some(sum) => network.update(sum.backward(), |steps| {
                penalty = self.penalise(steps);
                inspect(steps);
                self.update(steps);
            }),
            None => network,
        };
        score.penalise(penalty);
        self.network = Some(network.take_over(pass));
        score
    }

    /// Adds the gradients of the penalties on the weights; gives the penalties' sum.
    fn penalise(&self, steps: &mut [Step]) -> f64 {
        let mut penalty = 0.0;
        for step in steps {
            if let Some(regularizer) = self.arrays[step.array].regularizer {
                penalty += regularizer.penalty(&step.weights);
                regularizer.add_gradient(&step.weights, &mut step.gradient);
            }
        }
        penalty
    }

    /// One step of the optimizer.
    fn update(&mut self, steps: &mut [Step]) {
        let norm = optimizer::needs_norm(&self.optimizer)
            .then(|| steps.iter().map(|step| square_sum(&step.gradient)).sum::<f64>().sqrt());
        let State { step: number, slots, scalars, .. } = &mut self.state;
        *number += 1;
        let update = Update::new(&self.optimizer, *number, scalars, norm);
        for (step, slots) in steps.iter_mut().zip(slots) {
            let Step { array, weights, gradient } = step;
            let shape = &self.arrays[*array].shape;
            update.apply(Array { shape, weights, gradient, slots });
        }
    }

    /// The network as it is now.
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("the network is back after each batch")
    }

    /// The state after the last step.
    pub(crate) fn into_state(mut self) -> State {
        self.state.weights = self.network().weights();
        self.state
    }
}

/// One input of a batch, row-major.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) values: Vec<f32>,
    /// In each row.
    pub(crate) elements: usize,
    /// The values are the indices of ones.
    pub(crate) is_one_hot: bool,
}

/// A batch's inputs on a device.
pub(crate) fn tensors(inputs: Vec<Column>, device: &Device) -> Vec<Input> {
    let inputs = inputs.into_iter().map(|column| {
        let shape = [column.values.len() / column.elements, column.elements];
        let tensor = Tensor::from_data(TensorData::new(column.values, shape), device);
        if column.is_one_hot { Input::OneHot(tensor) } else { Input::Values(tensor) }
    });
    inputs.collect()
}

/// A tensor's values, row-major.
pub(crate) fn floats(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("all tensors of a network are f32")
}
