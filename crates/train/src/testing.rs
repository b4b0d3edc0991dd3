//! Small tasks and data for this crate's tests.

use std::ops::ControlFlow;

use arrowhop_network::NetworkSpec;
use arrowhop_types::optimizer::{Adam, Method, Semantics, Sgd};
use arrowhop_types::stream::Stream;
use arrowhop_types::{
    ClassList, Dtype, InputSpec, Loss, Metric, ModelConfig, ModelId, Optimizer, Score, Target,
    TargetColumn,
};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::{InputChunks, Rows, TargetChunks, Task};

/// Three clouds of points in four dimensions, a class each.
pub(crate) struct Data {
    pub(crate) inputs: Vec<f32>,
    pub(crate) classes: Vec<i32>,
}

impl Data {
    pub(crate) fn blobs(rows: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        rng.set_stream(Stream::Generate.id());
        let mut noise = || f32::from(u8::try_from(rng.next_u32() >> 24).unwrap()) / 128.0 - 1.0;
        let classes: Vec<i32> = (0..3).cycle().take(rows).collect();
        let coordinates = classes.iter().flat_map(|&class| (0..4).map(move |axis| (class, axis)));
        let inputs = coordinates
            .map(|(class, axis)| if class == axis { 2.0 } else { 0.0 } + noise())
            .collect();
        Self { inputs, classes }
    }

    pub(crate) fn rows(&self, task: &Task) -> Rows<'_> {
        let inputs = InputChunks::F32(vec![&self.inputs]);
        Rows::new(task, vec![inputs], vec![TargetChunks::Classes(vec![&self.classes])]).unwrap()
    }
}

pub(crate) fn adam(rate: f64) -> Optimizer {
    Optimizer::new(Method::Adam(Adam::default()), Semantics::Current).at_rate(rate)
}

pub(crate) fn sgd(rate: f64) -> Optimizer {
    Optimizer::new(Method::Sgd(Sgd::default()), Semantics::Current).at_rate(rate)
}

pub(crate) fn keep_on(_: u64, _: &Score) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A network with all that is random: dropout and batch normalisation.
pub(crate) fn classifier(optimizer: Optimizer, batch_rows: u32, passes: u32) -> Task {
    let layers = json!([
        {"class_name": "Dense", "config": {"name": "hidden", "units": 16, "activation": "relu",
            "batch_input_shape": [null, 4]}},
        {"class_name": "BatchNormalization", "config": {"name": "norm", "momentum": 0.9}},
        {"class_name": "Dropout", "config": {"name": "drop", "rate": 0.2}},
        {"class_name": "Dense", "config": {"name": "out", "units": 3, "activation": "softmax"}},
    ]);
    task(&layers, 4, 3, optimizer, batch_rows, passes)
}

/// Two inputs, two classes, all weights zero.
pub(crate) fn softmax_regression(optimizer: Optimizer) -> Task {
    let layers = json!([
        {"class_name": "Dense", "config": {"name": "out", "units": 2, "activation": "softmax",
            "kernel_initializer": "zeros", "batch_input_shape": [null, 2]}},
    ]);
    task(&layers, 2, 2, optimizer, 2, 1)
}

pub(crate) fn task(
    layers: &Value,
    inputs: usize,
    classes: usize,
    optimizer: Optimizer,
    batch_rows: u32,
    passes: u32,
) -> Task {
    let keras_json = json!({"class_name": "Sequential", "config": {"layers": layers}});
    let loss = Loss::CATEGORICAL_CROSSENTROPY;
    let mut config =
        ModelConfig { passes, ..ModelConfig::new("test", optimizer, loss, batch_rows) };
    config.outputs[0].metrics = vec![Metric::Accuracy];
    let input = InputSpec::numbers(vec![inputs], Dtype::F32, 1.0);
    let target =
        Target::Classes(ClassList::named((0..classes).map(|class| format!("class {class}"))));
    let target = TargetColumn::only(target);
    let network = NetworkSpec::parse(&keras_json.to_string()).unwrap();
    Task::new(network, config, &[input], &[target], 7, ModelId(1), false).unwrap()
}
