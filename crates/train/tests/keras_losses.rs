//! Losses and metrics as Keras computes them of given outputs: 2.15 for all losses, from files that
//! are not part of the repository (without them that test says so and passes); 3.15 for more
//! metrics and for class weights, from `keras_metrics.json`, which `tests/python/keras_metrics.py`
//! wrote.
#![expect(clippy::unwrap_used, reason = "tests panic")]

use std::ops::ControlFlow;
use std::path::Path;

use arrowhop_network::NetworkSpec;
use arrowhop_train::{InputChunks, Rows, State, TargetChunks, Task, Visit, evaluate, train_visit};
use arrowhop_types::optimizer::Semantics;
use arrowhop_types::{
    ClassList, Dtype, InputSpec, Metric, ModelConfig, ModelId, Optimizer, Score, ShardId, Target,
    TargetColumn,
};
use serde_json::{Value, json};

/// Relative to Keras's value; Keras computes in single precision.
const NEAR: f64 = 1e-6;

fn keep_on(_: u64, _: &Score) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn floats(list: &Value) -> Vec<f32> {
    let single = |value: &Value| value.as_f64().unwrap().to_string().parse().unwrap();
    list.as_array().unwrap().iter().map(single).collect()
}

fn assert_near(what: &str, found: f64, expected: &Value) -> f64 {
    let expected = expected.as_f64().unwrap();
    let off = (found - expected).abs();
    let rounding = f64::from(f32::EPSILON);
    assert!(off <= NEAR * expected.abs() + rounding, "{what}: {found}, not {expected}");
    off / expected.abs().max(rounding)
}

/// A network that gives out what it is given, and its state.
fn identity(config: ModelConfig, width: usize, target: Target) -> (Task, Vec<u8>) {
    let layers = json!([{"class_name": "Dense", "config": {"name": "same", "units": width,
        "use_bias": false, "batch_input_shape": [null, width]}}]);
    let model = json!({"class_name": "Sequential", "config": {"layers": layers}});
    let network = NetworkSpec::parse(&model.to_string()).unwrap();
    let input = InputSpec::numbers(vec![width], Dtype::F32, 1.0);
    let target = TargetColumn::only(target);
    let task = Task::new(network, config, &[input], &[target], 0, ModelId(1), false).unwrap();
    let mut state = State::initial(&task);
    let is_same = |i: usize| if i.is_multiple_of(width + 1) { 1.0 } else { 0.0 };
    state.weights = vec![(0..width * width).map(is_same).collect()];
    let state = state.encode(&task).unwrap();
    (task, state)
}

fn config(loss: &str, metrics: &[&str]) -> ModelConfig {
    let optimizer = Optimizer::named("sgd", Semantics::Current).unwrap();
    let mut config = ModelConfig::new("same", optimizer, loss.parse().unwrap(), 1_000);
    config.outputs[0].metrics = metrics.iter().map(|metric| metric.parse().unwrap()).collect();
    config
}

/// The score of these predictions of numbers, or vectors of them.
fn score(loss: &str, metrics: &[&str], width: usize, outputs: &[f32], targets: &[f32]) -> Score {
    let (task, state) = identity(config(loss, metrics), width, Target::Values(width));
    let (x, y) = (InputChunks::F32(vec![outputs]), TargetChunks::Values(vec![targets]));
    let rows = Rows::new(&task, vec![x], vec![y]).unwrap();
    evaluate(&task, &state, &rows, &mut keep_on).unwrap()
}

fn class_target(width: usize) -> Target {
    Target::Classes(ClassList::named((0..width.max(2)).map(|class| class.to_string())))
}

/// The score of these predictions of classes, trained on and evaluated.
fn class_scores(
    config: ModelConfig,
    width: usize,
    outputs: &[f32],
    classes: &[i32],
) -> (Score, Score) {
    let (task, state) = identity(config, width, class_target(width));
    let (x, y) = (InputChunks::F32(vec![outputs]), TargetChunks::Classes(vec![classes]));
    let rows = Rows::new(&task, vec![x], vec![y]).unwrap();
    let visit = Visit { epoch: 0, shard: ShardId(0) };
    let trained = train_visit(&task, &state, visit, &rows, &mut keep_on).unwrap();
    (trained.score, evaluate(&task, &state, &rows, &mut keep_on).unwrap())
}

/// Our text of a record's name.
fn term(name: &str) -> String {
    let name = name.replace("AUC_200_thresholds", "auc");
    match name.rsplit_once("_label_smoothing_") {
        Some((loss, smoothing)) => format!("{loss}(label_smoothing={smoothing})"),
        None => match name.strip_suffix("_from_logits") {
            Some(loss) => format!("{loss}(from_logits=true)"),
            None => name.replace("top_k_categorical_accuracy_k2", "top_2_accuracy"),
        },
    }
}

#[test]
fn every_loss_and_metric_is_keras_2_s() {
    let path = "../../../shared/fixtures/keras_oracle/losses_metrics.json";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let oracle: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let input = |record: &Value| {
        let input = &oracle[record["input"].as_str().unwrap()];
        let width = usize::try_from(input["y_true"]["shape"][1].as_u64().unwrap()).unwrap();
        (width, floats(&input["y_true"]["data"]), floats(&input["y_pred"]["data"]))
    };
    let mut furthest = 0.0_f64;
    let losses = oracle["loss"].as_object().unwrap();
    assert_eq!(losses.len(), 16);
    for (name, record) in losses {
        let (width, targets, outputs) = input(record);
        let loss = |rows: std::ops::Range<usize>| {
            let part = rows.start * width..rows.end * width;
            score(&term(name), &[], width, &outputs[part.clone()], &targets[part]).loss().unwrap()
        };
        let rows = record["per_row"].as_array().unwrap();
        for (row, expected) in rows.iter().enumerate() {
            let what = format!("{name}, row {row}");
            furthest = furthest.max(assert_near(&what, loss(row..row + 1), expected));
        }
        furthest = furthest.max(assert_near(name, loss(0..rows.len()), &record["mean"]));
    }
    let metrics = oracle["metric"].as_object().unwrap();
    assert_eq!(metrics.len(), 6);
    for (name, record) in metrics {
        let (width, targets, outputs) = input(record);
        let expected = record.get("mean").unwrap_or(&record["value"]);
        let score = score("mse", &[&term(name)], width, &outputs, &targets);
        furthest = furthest.max(assert_near(name, score.metrics[0].value(), expected));
    }
    println!("furthest off: {furthest:e}");
}

fn written() -> Value {
    serde_json::from_str(include_str!("keras_metrics.json")).unwrap()
}

#[test]
fn more_metrics_are_keras_3_s() {
    let (mut checked, mut furthest) = (0, 0.0_f64);
    for case in written()["cases"].as_array().unwrap() {
        let width = usize::try_from(case["width"].as_u64().unwrap()).unwrap();
        let (targets, outputs) = (floats(&case["y_true"]), floats(&case["y_pred"]));
        let expected = case["metrics"].as_object().unwrap();
        let metrics: Vec<&str> = expected.keys().map(String::as_str).collect();
        let score = score("mse", &metrics, width, &outputs, &targets);
        for (entry, (name, expected)) in score.metrics.iter().zip(expected) {
            let what = format!("{name} of {}", case["name"]);
            furthest = furthest.max(assert_near(&what, entry.value(), expected));
            checked += 1;
        }
    }
    assert_eq!(checked, 24 + 17 + 12 + 12 + 9);
    println!("furthest off: {furthest:e}");
}

#[test]
fn class_weights_are_keras_3_s_and_count_in_training_alone() {
    for case in written()["weighted"].as_array().unwrap() {
        let width = usize::try_from(case["width"].as_u64().unwrap()).unwrap();
        let outputs = floats(&case["y_pred"]);
        let class = |class: &Value| i32::try_from(class.as_i64().unwrap()).unwrap();
        let classes: Vec<i32> = case["classes"].as_array().unwrap().iter().map(class).collect();
        let plain = config(case["loss"].as_str().unwrap(), &["accuracy"]);
        let weights = case["class_weights"].as_array().unwrap();
        let class_weights = weights.iter().map(|weight| weight.as_f64().unwrap()).collect();
        let weighted = ModelConfig { class_weights, ..plain.clone() };
        let (trained, evaluated) = class_scores(weighted, width, &outputs, &classes);
        assert_near(&case["name"].to_string(), trained.loss().unwrap(), &case["value"]);
        let (unweighted, same) = class_scores(plain, width, &outputs, &classes);
        assert_eq!(evaluated, same);
        assert_eq!(trained.metrics, unweighted.metrics);
        assert_ne!(trained.loss(), unweighted.loss());
    }
}

#[test]
fn sparse_losses_and_metrics_are_those_of_one_hot_targets() {
    let oracle = written();
    let case = &oracle["cases"][0];
    let (targets, outputs) = (floats(&case["y_true"]), floats(&case["y_pred"]));
    let class = |row: &[f32]| i32::try_from(row.iter().position(|v| *v == 1.0).unwrap()).unwrap();
    let classes: Vec<i32> = targets.chunks(4).map(class).collect();
    let names = ["sparse_categorical_accuracy", "sparse_top_2_accuracy", "accuracy"];
    let sparse = config("sparse_categorical_crossentropy", &names);
    let (_, sparse) = class_scores(sparse, 4, &outputs, &classes);
    let names = ["categorical_accuracy", "top_2_accuracy", "accuracy"];
    let dense = score("categorical_crossentropy", &names, 4, &outputs, &targets);
    assert_eq!(sparse.loss_sum, dense.loss_sum);
    for (sparse, dense) in sparse.metrics.iter().zip(&dense.metrics) {
        assert_eq!(sparse.sums, dense.sums, "{}", sparse.metric);
    }
    assert_eq!(sparse.metrics[2].metric, Metric::Accuracy);
}
