//! A model that learns, batch by batch: forward, backward, update. Knows nothing of visits, rows or
//! their order.

use arrowhop_network::{
    DeviceStep, Input, Network, NetworkError, NetworkSpec, Regularizer, Step, is_cpu,
};
use arrowhop_types::{ModelConfig, Optimizer, Score};
use burn::tensor::{Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;

use crate::objective::Objective;
use crate::optimizer::{self, Array, DeviceArray, DeviceSlots, Update, square_sum};
use crate::rows::Targets;
use crate::state::State;
use crate::task::Task;

/// A network on a device, and the optimizer that changes it.
pub(crate) struct Learner {
    optimizer: Optimizer,
    objective: Objective,
    /// Taken apart and put together by each update.
    network: Option<Network>,
    /// Its weights are in the network, and its slots here or there.
    state: State,
    /// On another device than the CPU, of each trainable weight array.
    slots: Vec<DeviceSlots>,
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
    pub(crate) fn start(
        task: &Task,
        mut state: State,
        device: &Device,
    ) -> Result<Self, NetworkError> {
        if task.reset_optimizer_each_visit {
            state.step = 0;
        }
        let objective = task.objective.clone();
        Self::new(&task.network, &task.config, objective, state, device)
    }

    /// Goes on from this state of a network.
    pub(crate) fn new(
        network: &NetworkSpec,
        config: &ModelConfig,
        objective: Objective,
        mut state: State,
        device: &Device,
    ) -> Result<Self, NetworkError> {
        let slots = if is_cpu(device) {
            Vec::new()
        } else {
            let upload = |slot: Vec<f32>| {
                let count = slot.len();
                Tensor::from_data(TensorData::new(slot, [count]), device)
            };
            let of_arrays = std::mem::take(&mut state.slots).into_iter();
            of_arrays.map(|slots| slots.into_iter().map(upload).collect()).collect()
        };
        let device = device.clone().autodiff();
        let weights = std::mem::take(&mut state.weights);
        let specs = network.weights().into_iter();
        let arrays =
            specs.map(|spec| ArraySpec { shape: spec.shape, regularizer: spec.regularizer });
        let optimizer = config.optimizer.clone();
        let (arrays, learns) = (arrays.collect(), network.trainable_parameters() > 0);
        let network = Network::from_weights(network, weights, &device)?;
        let network = Some(network.with_precision(config.precision));
        Ok(Self { optimizer, objective, network, state, slots, arrays, learns, device })
    }

    /// Makes one step on a batch; its score is that before the step. Where it is asked for, `seen`
    /// becomes the gradients, penalties included, before they are clipped.
    pub(crate) fn learn(
        &mut self,
        inputs: Vec<Input>,
        targets: &[Targets],
        masks: &mut ChaCha8Rng,
        seen: Option<&mut Vec<Vec<f32>>>,
    ) -> Score {
        let network = self.network.take().expect("the network is back after each batch");
        let inputs = inputs.into_iter().map(Input::autodiff).collect();
        let mut pass = network.forward_training(inputs, masks);
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
            Some(sum) if is_cpu(&self.device) => network.update(sum.backward(), |steps| {
                penalty = self.penalise(steps);
                if let Some(seen) = seen {
                    *seen = steps.iter().map(|step| step.gradient.clone()).collect();
                }
                self.update(steps);
            }),
            Some(sum) => network.update_on_device(sum.backward(), |steps| {
                penalty = self.penalise_on_device(steps);
                if let Some(seen) = seen {
                    *seen = steps.iter().map(|step| numbers(step.gradient.clone())).collect();
                }
                self.update_on_device(steps);
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

    /// As [`Self::penalise`]. Only where there are penalties is anything waited for.
    fn penalise_on_device(&self, steps: &mut [DeviceStep]) -> f64 {
        let mut penalties: Option<Tensor<1>> = None;
        for step in steps {
            if let Some(regularizer) = self.arrays[step.array].regularizer {
                let (penalty, slope) = regularizer.on_device(&step.weights);
                step.gradient = step.gradient.clone() + slope;
                penalties = Some(match penalties {
                    Some(sum) => sum + penalty,
                    None => penalty,
                });
            }
        }
        penalties.map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()))
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

    fn update_on_device(&mut self, steps: &mut [DeviceStep]) {
        let norm = optimizer::needs_norm(&self.optimizer)
            .then(|| optimizer::norm(steps.iter().map(|step| &step.gradient)))
            .flatten();
        let State { step: number, scalars, .. } = &mut self.state;
        *number += 1;
        let update = Update::new(&self.optimizer, *number, scalars, None);
        for (step, slots) in steps.iter_mut().zip(&mut self.slots) {
            let DeviceStep { array, weights, gradient } = step;
            let (shape, gradient) = (self.arrays[*array].shape.as_slice(), gradient.clone());
            let array = DeviceArray { shape, weights, gradient, slots };
            update.apply_on_device(array, norm.as_ref());
        }
    }

    /// The network as it is now.
    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("the network is back after each batch")
    }

    /// The state after the last step.
    pub(crate) fn into_state(mut self) -> State {
        self.state.weights = self.network().weights();
        if !is_cpu(&self.device) {
            let slots = self.slots.into_iter();
            self.state.slots =
                slots.map(|slots| slots.into_iter().map(numbers).collect()).collect();
        }
        self.state
    }
}

/// A tensor's values, row-major.
pub(crate) fn floats(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("all tensors of a network are f32")
}

/// An array's values.
fn numbers(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("all arrays of a network are f32")
}
