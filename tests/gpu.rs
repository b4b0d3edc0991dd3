//! What a GPU trains is what the CPU trains, within rounding. Any GPU will do, software that poses as
//! one included: CI has Mesa's.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrowhop_catalog::Catalog;
use arrowhop_network::NetworkSpec;
use arrowhop_tests::{Program, shapes};
use arrowhop_train::{
    Device, InputChunks, Resident, Rows, State, TargetChunks, Task, Trained, Visit, evaluate,
    initial_state, train_visit,
};
use arrowhop_types::optimizer::{Clipping, Semantics};
use arrowhop_types::{
    ClassList, Dtype, InputSpec, Loss, ModelConfig, ModelId, Optimizer, RunId, Score, ShardId,
    Target, TargetColumn,
};
use serde_json::json;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

/// Losses and weights of a few steps differ by this share at most: measured were some 10⁻⁶ for losses and
/// 10⁻⁵ for weights.
const TOLERANCE: f64 = 1e-3;

const ROWS: usize = 44;
const PIXELS: usize = 7 * 7 * 3;

/// The first GPU. Without one a test is skipped, after saying so; but not where `CI` is true.
#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn gpu() -> Option<Device> {
    let found = Device::all().into_iter().find(|device| !device.is_cpu());
    if found.is_none() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "CI has a GPU, if only Mesa's");
        eprintln!("skipped: there is no GPU here, not even Mesa's (mesa-vulkan-drivers)");
    }
    found
}

/// A convolutional network with everything that behaves differently in training.
fn task() -> Task {
    let layers = json!([
        {"class_name": "Conv2D", "config": {"name": "a", "filters": 8, "kernel_size": 3,
            "padding": "same", "activation": "relu", "batch_input_shape": [null, 7, 7, 3]}},
        {"class_name": "BatchNormalization", "config": {"name": "b"}},
        {"class_name": "Conv2D", "config": {"name": "c", "filters": 12, "kernel_size": 3,
            "strides": 2, "padding": "same", "use_bias": false}},
        {"class_name": "Activation", "config": {"name": "d", "activation": "relu"}},
        {"class_name": "Conv2D", "config": {"name": "e", "filters": 10, "kernel_size": 1}},
        {"class_name": "MaxPooling2D", "config": {"name": "f", "pool_size": 2, "padding": "same"}},
        {"class_name": "Dropout", "config": {"name": "g", "rate": 0.25}},
        {"class_name": "Flatten", "config": {"name": "h"}},
        {"class_name": "Dense", "config": {"name": "i", "units": 16, "activation": "tanh",
            "kernel_regularizer": {"class_name": "L2", "config": {"l2": 0.01}}}},
        {"class_name": "Dense", "config": {"name": "j", "units": 3, "activation": "softmax"}},
    ]);
    let model = json!({"class_name": "Sequential", "config": {"layers": layers}});
    let network = NetworkSpec::parse(&model.to_string()).expect("a right model");
    let adam = Optimizer::named("adam", Semantics::Current).expect("Adam is known").at_rate(0.01);
    let optimizer = Optimizer { clipping: Some(Clipping::GlobalNorm(1.0)), ..adam };
    let config = ModelConfig::new("cnn", optimizer, Loss::CATEGORICAL_CROSSENTROPY, 16);
    let input = InputSpec::numbers(vec![7, 7, 3], Dtype::U8, 255.0);
    let classes = ClassList::named(["a", "b", "c"]);
    let target = TargetColumn::only(Target::Classes(classes));
    Task::new(network, config, &[input], &[target], 7, ModelId(1), false).expect("they go together")
}

struct Data {
    pixels: Vec<u8>,
    classes: Vec<i32>,
}

impl Data {
    fn new() -> Self {
        let pixels = (0..ROWS * PIXELS).map(|i| u8::try_from(i * 31 % 251).expect("below 251"));
        let classes = (0..3).cycle().take(ROWS).collect();
        Self { pixels: pixels.collect(), classes }
    }

    /// In chunks of 20 rows.
    fn rows(&self, task: &Task) -> Rows<'_> {
        let pixels = self.pixels.chunks(20 * PIXELS).collect();
        let classes = self.classes.chunks(20).collect();
        let targets = vec![TargetChunks::Classes(classes)];
        Rows::new(task, vec![InputChunks::U8(pixels)], targets).expect("rows of the task")
    }
}

fn keep_on(_: u64, _: &Score) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Two visits, one after the other.
fn train(task: &Task, rows: &Rows<'_>) -> [Trained; 2] {
    let visit = |epoch, state: &[u8]| {
        let at = Visit { epoch, shard: ShardId(0) };
        train_visit(task, state, at, rows, &mut keep_on).expect("train")
    };
    let first = visit(0, &initial_state(task).expect("initialise"));
    let second = visit(1, &first.state);
    [first, second]
}

fn assert_near(what: &str, found: f64, expected: f64, scale: f64) {
    let off = (found - expected).abs() / scale;
    assert!(off <= TOLERANCE, "{what}: {found}, not {expected}");
}

#[test]
fn a_gpu_trains_as_the_cpu_does() {
    let Some(gpu) = gpu() else { return };
    let (task, data) = (task(), Data::new());
    let rows = data.rows(&task);
    let resident = Arc::new(Resident::load(rows.inputs(), &gpu));
    let on_cpu = train(&task, &rows);
    for (what, rows) in [
        ("batches sent one by one", data.rows(&task).on(&gpu, None)),
        ("a shard in the GPU's memory", data.rows(&task).on(&gpu, Some(resident))),
    ] {
        let on_gpu = train(&task, &rows);
        for (visit, (gpu, cpu)) in on_gpu.iter().zip(&on_cpu).enumerate() {
            let [found, expected] = [gpu, cpu].map(|trained| trained.score.loss().expect("a loss"));
            assert_near(&format!("{what}: loss of visit {visit}"), found, expected, expected.abs());
            assert_eq!(gpu.version, cpu.version);
        }
        let [found, expected] = [&on_gpu[1], &on_cpu[1]]
            .map(|trained| State::decode(&task, &trained.state).expect("ours"));
        for (array, (found, expected)) in found.weights.iter().zip(&expected.weights).enumerate() {
            let scale = expected.iter().fold(0_f32, |scale, weight| scale.max(weight.abs()));
            for (found, expected) in found.iter().zip(expected) {
                let what = format!("{what}: weights {array}");
                assert_near(
                    &what,
                    f64::from(*found),
                    f64::from(*expected),
                    f64::from(scale.max(0.1)),
                );
            }
        }
        let score = |rows: &Rows<'_>| {
            evaluate(&task, &on_cpu[1].state, rows, &mut keep_on).expect("evaluate")
        };
        let [found, expected] =
            [&rows, &data.rows(&task)].map(|rows| score(rows).loss().expect("a loss"));
        assert_near(&format!("{what}: evaluated loss"), found, expected, expected);
    }
}

#[test]
fn a_whole_run_on_a_gpu_says_what_computed_it() {
    let Some(gpu) = gpu() else { return };
    let program = Program::new(BINARY);
    let experiment = shapes(96, 2, 1, 5, "");
    let file = experiment.argument();
    let result = program.json(&[
        "fit",
        &file,
        "--device",
        gpu.name(),
        "--segments",
        "2",
        "--configs",
        "2",
        "--output",
        "json",
    ]);
    assert_eq!(result["status"], "finished");
    let catalog = Catalog::open_read_only(program.state()).expect("open the catalog");
    let visits = catalog.visits(RunId(1)).expect("the hop log is there");
    assert!(visits.iter().all(|visit| visit.computed_by == gpu.model()), "{visits:?}");

    let refused = program.run(&["fit", &file, "--device", "gpu:99"]);
    assert!(refused.stderr.contains("there is no gpu:99 here"), "{}", refused.stderr);
    let listed = program.json(&["devices", "--output", "json"]);
    let names: Vec<_> =
        listed["devices"].as_array().expect("a list").iter().map(|d| &d["name"]).collect();
    assert_eq!(names[..2], ["cpu", "gpu:0"]);
}
