//! A model's task: everything about its training that stays the same from visit to visit.

use arrowhop_network::NetworkSpec;
use arrowhop_types::{InputSpec, Loss, ModelConfig, ModelId, Optimizer, Problems, RunSpec, Target};

use crate::objective::Objective;
use crate::optimizer;

/// A checked model configuration, ready to be trained.
#[derive(Debug, Clone)]
pub struct Task {
    pub(crate) network: NetworkSpec,
    pub(crate) config: ModelConfig,
    pub(crate) input: InputSpec,
    pub(crate) target: Target,
    pub(crate) seed: u64,
    pub(crate) model: ModelId,
    pub(crate) reset_optimizer_each_visit: bool,
}

impl Task {
    /// Checks that the network, the configuration and the data go together.
    ///
    /// # Errors
    /// Everything that does not, under the name of the configuration's field.
    pub fn new(
        network: NetworkSpec,
        config: ModelConfig,
        input: InputSpec,
        target: Target,
        seed: u64,
        model: ModelId,
        reset_optimizer_each_visit: bool,
    ) -> Result<Self, Problems> {
        let mut problems = network.check(&input, &target);
        check_input(&input, &mut problems);
        check_loss(&network, config.loss, &target, &mut problems);
        check_optimizer(&config.optimizer, &mut problems);
        if network.trainable_parameters() == 0 {
            problems.push("network", "has no weights to train; every layer is frozen or has none");
        }
        for (field, value) in [("batch_rows", config.batch_rows), ("passes", config.passes)] {
            if value == 0 {
                problems.push(field, "must be at least 1");
            }
        }
        problems.or(Self {
            network,
            config,
            input,
            target,
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
        let (input, target) = (spec.data.input.clone(), spec.data.target.clone());
        let reset = spec.reset_optimizer_each_visit;
        Self::new(network, config.clone(), input, target, spec.seed, model, reset)
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

    /// The network's input.
    #[must_use]
    pub fn input(&self) -> &InputSpec {
        &self.input
    }

    /// What is learned.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> ModelId {
        self.model
    }

    /// The optimizer's slots that hop with the weights.
    pub(crate) fn kept_slots(&self) -> Vec<&'static str> {
        if self.reset_optimizer_each_visit {
            Vec::new()
        } else {
            optimizer::slots(&self.config.optimizer)
        }
    }

    pub(crate) fn objective(&self) -> Objective {
        Objective {
            loss: self.config.loss,
            outputs: self.network.outputs(),
            takes_logits: self.network.gives_logits(),
        }
    }
}

fn check_input(input: &InputSpec, problems: &mut Problems) {
    if !(input.normalize.is_finite() && input.normalize > 0.0) {
        let text = format!("must be a positive number, not {}", input.normalize);
        problems.push("input.normalize", text);
    }
}

fn check_loss(network: &NetworkSpec, loss: Loss, target: &Target, problems: &mut Problems) {
    if loss != Loss::CategoricalCrossentropy {
        return;
    }
    match target {
        Target::Values(_) => problems.push(
            "loss",
            "categorical_crossentropy needs classes, but the target is numbers; \
             use mean_squared_error",
        ),
        Target::Classes(_) if network.outputs() == 1 => problems.push(
            "loss",
            "categorical_crossentropy needs one output per class, but the network has one output",
        ),
        Target::Classes(_) => {}
    }
}

fn check_optimizer(optimizer: &Optimizer, problems: &mut Problems) {
    let from_0 = |value: f64| value.is_finite() && value >= 0.0;
    let share = |value: f64| (0.0..1.0).contains(&value);
    let positive = |value: f64| value.is_finite() && value > 0.0;
    let mut check = |field: &str, value: f64, is_right: bool, rule: &str| {
        if !is_right {
            problems.push(format!("optimizer.{field}"), format!("must be {rule}, not {value}"));
        }
    };
    let (at_least_0, below_1, above_0) = ("0 or more", "from 0 to below 1", "above 0");
    let rate = optimizer.learning_rate();
    check("learning_rate", rate, from_0(rate), at_least_0);
    match optimizer {
        Optimizer::Sgd(sgd) => {
            check("momentum", sgd.momentum, share(sgd.momentum), below_1);
            check("decay", sgd.decay, from_0(sgd.decay), at_least_0);
        }
        Optimizer::RmsProp(rms_prop) => {
            check("rho", rms_prop.rho, share(rms_prop.rho), below_1);
            check("momentum", rms_prop.momentum, share(rms_prop.momentum), below_1);
            check("epsilon", rms_prop.epsilon, positive(rms_prop.epsilon), above_0);
            check("decay", rms_prop.decay, from_0(rms_prop.decay), at_least_0);
        }
        Optimizer::Adam(adam) => {
            check("beta_1", adam.beta_1, share(adam.beta_1), below_1);
            check("beta_2", adam.beta_2, share(adam.beta_2), below_1);
            check("epsilon", adam.epsilon, positive(adam.epsilon), above_0);
            check("decay", adam.decay, from_0(adam.decay), at_least_0);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::classifier;
    use arrowhop_types::{Adam, Dtype, InputSpec, Loss, Optimizer, Target};

    use super::Task;

    #[test]
    fn all_that_does_not_go_together_is_said_at_once() {
        let adam = Adam { learning_rate: f64::NAN, beta_1: 1.0, epsilon: 0.0, ..Adam::default() };
        let right = classifier(Optimizer::Adam(Adam::default()), 16, 1);
        let mut config = right.config.clone();
        config.optimizer = Optimizer::Adam(adam);
        config.batch_rows = 0;
        config.passes = 0;
        let input = InputSpec { shape: vec![2, 2], dtype: Dtype::F32, normalize: 0.0 };
        let target = Target::Values(2);
        let network = right.network.clone();
        let problems =
            Task::new(network, config, input, target, 1, right.model, false).unwrap_err();
        let found: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
        let expected = [
            "input",
            "output",
            "input.normalize",
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
        let right = classifier(Optimizer::Adam(Adam::default()), 16, 1);
        let mut config = right.config.clone();
        config.loss = Loss::MeanSquaredError;
        let Task { network, input, target, .. } = right;
        assert!(Task::new(network, config, input, target, 1, right.model, false).is_ok());
    }
}
