//! What a visit allocates at its highest is what was predicted, and visits leave nothing behind.

use std::ops::ControlFlow;
use std::path::Path;

use arrowhop_network::NetworkSpec;
use arrowhop_train::{
    Footprint, InputChunks, Rows, TargetChunks, Task, Visit, evaluate, initial_state, train_visit,
};
use arrowhop_types::optimizer::Semantics;
use arrowhop_types::{
    ClassList, Dtype, Encoding, InputSpec, Loss, ModelConfig, ModelId, Optimizer, Precision, Score,
    ShardId, Target, TargetColumn,
};
use peak_alloc::PeakAlloc;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// A network in training, with rows for a few batches.
struct Case {
    name: String,
    task: Task,
    numbers: Vec<Vec<f32>>,
    tokens: Vec<Vec<i32>>,
    classes: Vec<i32>,
}

impl Case {
    /// Of tokens below `vocabulary` where there is one, else of numbers.
    fn new(
        name: &str,
        keras_json: &str,
        vocabulary: Option<u32>,
        optimizer: &str,
        batch: u32,
    ) -> Self {
        let network =
            NetworkSpec::parse(keras_json).unwrap_or_else(|found| panic!("{name}: {found}"));
        let classes = network.outputs()[0].elements();
        let inputs: Vec<InputSpec> = network
            .inputs()
            .into_iter()
            .enumerate()
            .map(|(i, input)| {
                let mut spec = InputSpec::numbers(input.shape, Dtype::F32, 1.0);
                spec.name = format!("x{i}");
                if let Some(vocabulary) = vocabulary {
                    spec.dtype = Dtype::I32;
                    spec.encoding = Encoding::Tokens { vocabulary };
                }
                spec
            })
            .collect();
        let optimizer = Optimizer::named(optimizer, Semantics::Current).expect("its name is known");
        let precision = if name.ends_with("bf16") { Precision::Bf16 } else { Precision::F32 };
        let config = ModelConfig::new(name, optimizer, Loss::CATEGORICAL_CROSSENTROPY, batch);
        let config = ModelConfig { precision, ..config };
        let names = ClassList::named((0..classes.max(2)).map(|class| class.to_string()));
        let target = TargetColumn::only(Target::Classes(names));
        let task = Task::new(network, config, &inputs, &[target], 1, ModelId(1), false);
        let task = task.unwrap_or_else(|found| panic!("{name}: {found}"));
        let rows = 3 * batch as usize;
        let elements = |input: &InputSpec| rows * input.elements();
        let numbers = inputs.iter().map(|input| (0..elements(input)).map(|i| (i % 7) as f32 / 7.0));
        let limit = vocabulary.unwrap_or(1).cast_signed();
        let tokens = inputs.iter().map(|input| (0..limit).cycle().take(elements(input)));
        let (numbers, tokens) = match vocabulary {
            None => (numbers.map(Iterator::collect).collect(), Vec::new()),
            Some(_) => (Vec::new(), tokens.map(Iterator::collect).collect()),
        };
        let classes = i32::try_from(classes.max(2)).expect("they are few");
        let classes = (0..classes).cycle().take(rows).collect();
        Self { name: format!("{name}, {batch} rows"), task, numbers, tokens, classes }
    }

    fn rows(&self) -> Rows<'_> {
        let numbers = self.numbers.iter().map(|values| InputChunks::F32(vec![values]));
        let tokens = self.tokens.iter().map(|values| InputChunks::I32(vec![values]));
        let targets = vec![TargetChunks::Classes(vec![&self.classes])];
        let inputs = numbers.chain(tokens).collect();
        Rows::new(&self.task, inputs, targets).expect("rows of the task")
    }

    /// Bytes at the highest of a training visit and an evaluation, the state they start from included.
    fn measure(&self) -> u64 {
        let rows = self.rows();
        let mut keep_on = |_: u64, _: &Score| ControlFlow::Continue(());
        let visit = Visit { epoch: 0, shard: ShardId(0) };
        let state = initial_state(&self.task).expect("initialise");
        // The first visit makes what the thread keeps for later ones.
        let state =
            train_visit(&self.task, &state, visit, &rows, &mut keep_on).expect("train").state;
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        drop(train_visit(&self.task, &state, visit, &rows, &mut keep_on).expect("train"));
        evaluate(&self.task, &state, &rows, &mut keep_on).expect("evaluate");
        (ALLOCATOR.peak_usage() - before + state.len()) as u64
    }
}

fn sequential(input: &Value, mut layers: Vec<Value>) -> String {
    layers[0]["config"]["batch_input_shape"] = input.clone();
    for (i, layer) in layers.iter_mut().enumerate() {
        layer["config"]["name"] = json!(format!("layer_{i}"));
    }
    json!({"class_name": "Sequential", "config": {"layers": layers}}).to_string()
}

fn layer(class: &str, config: &Value) -> Value {
    json!({"class_name": class, "config": config})
}

fn dense(units: usize, activation: &str) -> Value {
    layer("Dense", &json!({"units": units, "activation": activation}))
}

fn mlp() -> String {
    sequential(
        &json!([null, 784]),
        vec![dense(1000, "relu"), dense(500, "relu"), dense(10, "softmax")],
    )
}

/// Tokens, 100 steps, two classes.
fn text(layers: &[Value]) -> String {
    let mut all = vec![layer("Embedding", &json!({"input_dim": 1000, "output_dim": 32}))];
    all.extend_from_slice(layers);
    all.push(dense(2, "softmax"));
    sequential(&json!([null, 100]), all)
}

fn example(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/networks").join(name);
    std::fs::read_to_string(file).expect("an example lies there")
}

fn cases() -> Vec<Case> {
    let lstm = text(&[layer("LSTM", &json!({"units": 32}))]);
    let gru = text(&[layer("GRU", &json!({"units": 32, "reset_after": true}))]);
    let pooled = text(&[layer("GlobalAveragePooling1D", &json!({}))]);
    let convolution = text(&[
        layer("Conv1D", &json!({"filters": 64, "kernel_size": [5], "activation": "relu"})),
        layer("GlobalMaxPooling1D", &json!({})),
    ]);
    let tanh = sequential(
        &json!([null, 784]),
        vec![dense(1000, "tanh"), dense(500, "sigmoid"), dense(10, "softmax")],
    );
    let deep = sequential(&json!([null, 64]), {
        let mut layers: Vec<Value> = (0..12).map(|_| dense(64, "relu")).collect();
        layers.push(dense(10, "softmax"));
        layers
    });
    let (m1, m2) = (example("cifar10_m1.json"), example("cifar10_m2.json"));
    vec![
        Case::new("MLP with SGD", &mlp(), None, "sgd", 32),
        Case::new("MLP with Adam", &mlp(), None, "adam", 256),
        Case::new("saturating MLP", &tanh, None, "rmsprop", 256),
        Case::new("deep MLP", &deep, None, "sgd", 512),
        Case::new("M1", &m1, None, "adam", 64),
        Case::new("M1", &m1, None, "sgd", 16),
        Case::new("M2", &m2, None, "rmsprop", 64),
        Case::new("MLP in bf16", &mlp(), None, "adam", 256),
        Case::new("M1 in bf16", &m1, None, "adam", 64),
        Case::new("M2", &m2, None, "adam", 16),
        Case::new("LSTM", &lstm, Some(1000), "adam", 32),
        Case::new("GRU", &gru, Some(1000), "adam", 32),
        Case::new("pooled text", &pooled, Some(1000), "adam", 128),
        Case::new("convolved text", &convolution, Some(1000), "adam", 64),
    ]
}

/// One test for both, since the allocator counts for the whole process.
#[test]
fn visits_take_what_was_predicted_and_leave_nothing_behind() {
    let mut wrong = Vec::new();
    for case in cases() {
        let (predicted, measured) = (Footprint::of(&case.task).bytes(), case.measure());
        let ratio = predicted as f64 / measured as f64;
        println!("{:<24} {predicted:>10} of {measured:>10} bytes: {ratio:.3}", case.name);
        if !(0.8..=1.2).contains(&ratio) {
            wrong.push(format!("{}: {ratio:.3}", case.name));
        }
    }
    assert!(wrong.is_empty(), "predicted over measured: {wrong:?}");
    no_growth();
}

/// A thousand visits: the state is all that changes.
fn no_growth() {
    let layers =
        vec![dense(16, "relu"), layer("BatchNormalization", &json!({})), dense(3, "softmax")];
    let small = sequential(&json!([null, 8]), layers);
    let case = Case::new("small", &small, None, "adam", 8);
    let rows = case.rows();
    let mut keep_on = |_: u64, _: &Score| ControlFlow::Continue(());
    let mut state = initial_state(&case.task).expect("initialise");
    let mut after_some = 0;
    for epoch in 0..1000 {
        let visit = Visit { epoch, shard: ShardId(0) };
        state = train_visit(&case.task, &state, visit, &rows, &mut keep_on).expect("train").state;
        if epoch == 99 {
            after_some = ALLOCATOR.current_usage();
        }
    }
    let after_all = ALLOCATOR.current_usage();
    assert!(after_all <= after_some + 4096, "from {after_some} to {after_all} bytes in 900 visits");
}
