//! A model's task: everything about its training that stays the same from visit to visit.

use arrowhop_network::{NetworkSpec, OutputSpec};
use arrowhop_types::{
    Direction, Dtype, Encoding, InputSpec, ModelConfig, ModelId, Problems, RunSpec, TargetColumn,
};

use crate::objective::{Objective, OutputShape};

/// A checked model configuration, ready to be trained.
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) network: NetworkSpec,
    pub(crate) config: ModelConfig,
    pub(crate) objective: Objective,
    /// As the network's inputs.
    pub(crate) inputs: Vec<InputSpec>,
    /// As the network's outputs.
    pub(crate) targets: Vec<TargetColumn>,
    pub(crate) seed: u64,
    pub(crate) model: ModelId,
    pub(crate) reset_optimizer_each_visit: bool,
}

impl Task {
    /// Checks that the network, the configuration and the data's columns go together, and finds
    /// the network's among them.
    ///
    /// # Errors
    /// Everything that does not, under the name of the configuration's field.
    pub fn new(
        network: NetworkSpec,
        config: ModelConfig,
        inputs: &[InputSpec],
        targets: &[TargetColumn],
        seed: u64,
        model: ModelId,
        reset_optimizer_each_visit: bool,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let bound = network.bind(inputs, targets);
        let (inputs, targets) = match &bound {
            Ok(bound) => (
                bound.inputs.iter().map(|&column| inputs[column].clone()).collect(),
                bound.targets.iter().map(|&column| targets[column].clone()).collect(),
            ),
            Err(found) => {
                problems.extend("", found);
                (inputs.to_vec(), targets.to_vec())
            }
        };
        inputs.iter().for_each(|input| check_input(input, &mut problems));
        let learned: Vec<_> = targets.iter().map(|column| &column.target).collect();
        let objective = Objective::new(&config, &outputs(&network), &learned, &mut problems);
        if let Err(found) = config.optimizer.check() {
            problems.extend("optimizer.", &found);
        }
        check_sequences(&network, &mut problems);
        for (field, value) in [("batch_rows", config.batch_rows), ("passes", config.passes)] {
            if value == 0 {
                problems.push(field, "must be at least 1");
            }
        }
        problems.or(Self {
            network,
            config,
            objective,
            inputs,
            targets,
            seed,
            model,
            reset_optimizer_each_visit,
        })
    }

    /// The task of a run's model, whose network was read from the run's architecture.
    ///
    /// # Errors
    /// As [`Task::new`].
    pub fn of_run(
        spec: &RunSpec,
        model: ModelId,
        config: &ModelConfig,
        network: NetworkSpec,
    ) -> Result<Self, Problems> {
        let (inputs, targets) = (&spec.data.inputs, &spec.data.targets);
        let reset = spec.reset_optimizer_each_visit;
        Self::new(network, config.clone(), inputs, targets, spec.seed, model, reset)
    }

    /// The network that is trained.
    #[must_use]
    pub fn network(&self) -> &NetworkSpec {
        &self.network
    }

    /// How it is trained.
    #[must_use]
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The columns of the network's inputs, in its order.
    #[must_use]
    pub fn inputs(&self) -> &[InputSpec] {
        &self.inputs
    }

    /// The columns of the network's outputs, in its order.
    #[must_use]
    pub fn targets(&self) -> &[TargetColumn] {
        &self.targets
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> ModelId {
        self.model
    }

    /// The name of everything that is measured beside the loss, and which way it improves.
    #[must_use]
    pub fn metrics(&self) -> Vec<(String, Direction)> {
        let metrics = self.objective.metrics().into_iter();
        metrics.map(|entry| (entry.name(), entry.metric.direction())).collect()
    }
}

/// The network's outputs, as objectives take them.
pub(crate) fn outputs(network: &NetworkSpec) -> Vec<OutputShape> {
    let outputs = network.outputs().into_iter();
    let shape =
        |OutputSpec { name, shape, gives_logits }| OutputShape { name, shape, gives_logits };
    outputs.map(shape).collect()
}

/// What a network may do in predictions, but not in training: to go on from the batch before, where
/// rows are shuffled, and to hide steps of an output from its loss.
fn check_sequences(network: &NetworkSpec, problems: &mut Problems) {
    for output in network.masked_outputs() {
        let text = format!(
            "the output of {output:?} is a sequence with hidden steps, and a loss over the others \
             alone is not supported; end with a layer over the whole sequence"
        );
        problems.push("network", text);
    }
    for layer in network.stateful_layers() {
        let text = format!(
            "layer {layer:?} is stateful, but rows are shuffled and no batch follows another; set \
             its stateful to false"
        );
        problems.push("network", text);
    }
}

fn check_input(input: &InputSpec, problems: &mut Problems) {
    let place = |what: &str| format!("{what} of {}", input.name);
    match (input.encoding, input.dtype) {
        (Encoding::Numbers { normalize }, Dtype::U8 | Dtype::F32) => {
            if !(normalize.is_finite() && normalize > 0.0) {
                let text = format!("must be a positive number, not {normalize}");
                problems.push(place("normalize"), text);
            }
        }
        (Encoding::Tokens { .. } | Encoding::OneHot { .. }, Dtype::I32) => {}
        (encoding, dtype) => {
            problems.push(place("encoding"), format!("{encoding:?} does not go with {dtype:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{adam, classifier};
    use arrowhop_types::optimizer::{Adam, Method};
    use arrowhop_types::{Loss, Optimizer, OutputConfig, Target};

    use super::*;

    #[test]
    fn all_that_does_not_go_together_is_said_at_once() {
        let right = classifier(adam(0.1), 16, 1);
        let mut config = right.config.clone();
        let method = Method::Adam(Adam { beta_1: 1.0, epsilon: 0.0, ..Adam::default() });
        config.optimizer = Optimizer { method, ..adam(f64::INFINITY) };
        config.outputs = vec![OutputConfig::new(Loss::SPARSE_CATEGORICAL_CROSSENTROPY)];
        config.batch_rows = 0;
        config.passes = 0;
        let inputs = [InputSpec::numbers(vec![2, 2], Dtype::F32, 0.0)];
        let targets = [TargetColumn::only(Target::Values(2))];
        let network = right.network.clone();
        let problems =
            Task::new(network, config, &inputs, &targets, 1, right.model, false).unwrap_err();
        let found: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
        let expected = [
            "input",
            "output",
            "normalize of x",
            "loss",
            "optimizer.learning_rate",
            "optimizer.beta_1",
            "optimizer.epsilon",
            "batch_rows",
            "passes",
        ];
        assert_eq!(found, expected, "{problems}");
    }

    #[test]
    fn classes_can_be_learnt_by_squared_error() {
        let right = classifier(adam(0.1), 16, 1);
        let mut config = right.config.clone();
        config.outputs[0].loss = Loss::MeanSquaredError;
        let Task { network, inputs, targets, .. } = right;
        assert!(Task::new(network, config, &inputs, &targets, 1, right.model, false).is_ok());
    }
}
