//! Training steps computed by Keras 2.15: losses, gradients, weights, moving statistics and
//! predictions. The files are not part of the repository; without them these tests say so and pass.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests panic, and say when they skip"
)]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use arrowhop_network::NetworkSpec;
use arrowhop_train::{
    InputChunks, Inputs, Rows, State, TargetChunks, Task, Visit, evaluate, predict, train_visit,
};
use arrowhop_types::optimizer::{Optimizer, ParameterValue, Semantics};
use arrowhop_types::{
    ClassList, Dtype, Encoding, InputSpec, Loss, Metric, ModelConfig, ModelId, Score, ShardId,
    Target, TargetColumn,
};
use serde_json::Value;

fn fixtures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    if !folder.exists() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn floats(list: &Value) -> Vec<f32> {
    let single = |value: &Value| value.as_f64().unwrap().to_string().parse().unwrap();
    list.as_array().unwrap().iter().map(single).collect()
}

fn arrays(list: &Value) -> Vec<Vec<f32>> {
    list.as_array().unwrap().iter().map(|array| floats(&array["data"])).collect()
}

fn assert_near(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let is_near = (found - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(is_near, "{what} [{i}]: {found}, not {expected}");
    }
}

fn keep_on(_: u64, _: &Score) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn task(spec: NetworkSpec, optimizer: Optimizer, loss: Loss, target: Target, rows: u32) -> Task {
    let shape = spec.inputs().swap_remove(0).shape;
    let mut input = InputSpec::numbers(shape, Dtype::F32, 1.0);
    if let Some((_, vocabulary)) = spec.vocabulary(0) {
        input.dtype = Dtype::I32;
        input.encoding = Encoding::Tokens { vocabulary };
    }
    let target = TargetColumn::only(target);
    let mut config = ModelConfig::new("trace", optimizer, loss, rows);
    config.outputs[0].metrics = vec![Metric::Accuracy];
    Task::new(spec, config, &[input], &[target], 0, ModelId(1), false).unwrap()
}

/// Class indices of one-hot rows.
fn classes(one_hot: &[f32], width: usize) -> Vec<i32> {
    let class = |row: &[f32]| i32::try_from(row.iter().position(|v| *v == 1.0).unwrap()).unwrap();
    one_hot.chunks(width).map(class).collect()
}

/// The state with these weights and a fresh optimizer, encoded.
fn state_with(task: &Task, weights: Vec<Vec<f32>>) -> Vec<u8> {
    let mut state = State::initial(task);
    state.weights = weights;
    state.encode(task).unwrap()
}

#[test]
fn three_steps_of_each_layer_are_keras_s() {
    let Some(folder) = fixtures() else { return };
    let mut checked = 0;
    for trace in read_json(&folder.join("keras_oracle/train_traces.json")).as_array().unwrap() {
        let loss = trace["loss"].as_str().unwrap().parse().unwrap();
        let spec = NetworkSpec::parse(&trace["model"].to_string()).unwrap();
        check_trace(trace, spec, loss);
        checked += 1;
    }
    assert_eq!(checked, 13);
}

fn check_trace(trace: &Value, spec: NetworkSpec, loss: Loss) {
    let name = trace["name"].as_str().unwrap();
    let inputs = floats(&trace["inputs"][0]["data"]);
    let y = floats(&trace["y"]["data"]);
    let width = spec.outputs()[0].elements();
    let batch = u32::try_from(y.len() / width).unwrap();
    let sgd = Optimizer::named("sgd", Semantics::Current).unwrap().at_rate(0.1);
    let is_class = loss == Loss::CATEGORICAL_CROSSENTROPY;
    let target = if is_class {
        Target::Classes(ClassList::named((0..width).map(|class| class.to_string())))
    } else {
        Target::Values(width)
    };
    let trainable: Vec<bool> = spec.weights().iter().map(|weight| weight.trainable).collect();
    let task = task(spec, sgd, loss, target, batch);
    let indices = if is_class { classes(&y, width) } else { Vec::new() };
    let targets = if is_class {
        TargetChunks::Classes(vec![&indices])
    } else {
        TargetChunks::Values(vec![&y])
    };
    let tokens: Vec<i32> =
        inputs.iter().map(|token| token.to_string().parse().unwrap_or(0)).collect();
    let x = || match task.inputs()[0].dtype {
        Dtype::I32 => vec![InputChunks::I32(vec![&tokens])],
        _ => vec![InputChunks::F32(vec![&inputs])],
    };
    let rows = Rows::new(&task, x(), vec![targets]).unwrap();

    let mut weights = arrays(&trace["initial_weights"]);
    let mut state = state_with(&task, weights.clone());
    let gradients = arrays(&trace["first_step_gradients_trainable_order"]);
    let losses = floats(&trace["loss_per_step_incl_regularizers"]);
    for (step, expected) in (0..).zip(&losses) {
        let visit = Visit { epoch: step, shard: ShardId(0) };
        let trained = train_visit(&task, &state, visit, &rows, &mut keep_on).unwrap();
        let found = trained.score.loss().unwrap().to_string().parse().unwrap();
        assert_near(&format!("{name}: loss {step}"), &[found], &[*expected], 1e-4);
        state = trained.state;
        let next = State::decode(&task, &state).unwrap().weights;
        if step == 0 {
            let changed = weights.iter().zip(&next).zip(&trainable).filter(|(_, is)| **is);
            for (i, ((before, after), _)) in changed.enumerate() {
                let slopes: Vec<f32> = before
                    .iter()
                    .zip(after)
                    .map(|(before, after)| (before - after) / 0.1)
                    .collect();
                assert_near(&format!("{name}: gradient {i}"), &slopes, &gradients[i], 1e-4);
            }
        }
        weights = next;
    }
    let names = trace["weight_names"].as_array().unwrap();
    for ((found, expected), weight) in
        weights.iter().zip(&arrays(&trace["weights_after"])).zip(names)
    {
        assert_near(&format!("{name}: {weight}"), found, expected, 1e-4);
    }
    let mut predicted = Vec::new();
    let inputs = Inputs::new(&task, x()).unwrap();
    predict(&task, &state, &inputs, &mut |outputs| {
        predicted.extend_from_slice(&outputs[0]);
        ControlFlow::Continue(())
    })
    .unwrap();
    let expected = floats(&trace["predict_after"]["data"]);
    assert_near(&format!("{name}: prediction"), &predicted, &expected, 1e-4);
}

#[test]
fn twelve_steps_of_each_optimizer_are_keras_s() {
    let Some(folder) = fixtures() else { return };
    let oracle = read_json(&folder.join("keras_oracle/optimizers_iris.json"));
    let (inputs, labels) = iris(&folder, &oracle["rows_index"]);
    let runs = oracle["runs"].as_array().unwrap();
    for run in runs {
        let text = run["optimizer"].as_str().unwrap();
        let semantics = match run["api"].as_str().unwrap() {
            "legacy" => Semantics::Legacy,
            _ => Semantics::Current,
        };
        let optimizer = optimizer(text, semantics);
        let what = optimizer.to_string();
        let task = iris_task(&oracle, optimizer, 8);
        let mut state = state_with(&task, arrays(&oracle["initial_weights"]));
        for (step, expected) in (0_u32..).zip(floats(&run["loss_per_step"])) {
            let batch = step as usize % (labels.len() / 8);
            let rows = rows(&task, &inputs[batch * 32..][..32], &labels[batch * 8..][..8]);
            let visit = Visit { epoch: step, shard: ShardId(0) };
            let trained = train_visit(&task, &state, visit, &rows, &mut keep_on).unwrap();
            let found = trained.score.loss().unwrap().to_string().parse().unwrap();
            assert_near(&format!("{what}: loss {step}"), &[found], &[expected], 1e-6);
            state = trained.state;
        }
        let weights = State::decode(&task, &state).unwrap().weights;
        assert_weights(&what, &weights, &arrays(&run["final_weights"]), 1e-6);
    }
    assert_eq!(runs.len(), 35);
}

/// Three epochs of `fit` in batches of 20, `evaluate` on every row, and `predict`.
#[test]
fn fit_evaluate_and_predict_are_keras_s() {
    let Some(folder) = fixtures() else { return };
    let oracle = read_json(&folder.join("keras_oracle/optimizers_iris.json"));
    let fit = &oracle["fit_path"];
    let (inputs, labels) = iris(&folder, &oracle["rows_index"]);
    let task = iris_task(&oracle, optimizer("Adam(lr=0.01)", Semantics::Legacy), 20);
    let mut state = state_with(&task, arrays(&oracle["initial_weights"]));
    for epoch in 0..3 {
        let mut score = Score::default();
        for (inputs, labels) in inputs.chunks(80).zip(labels.chunks(20)) {
            // A visit for each batch, as a visit has an order of its own.
            let visit = Visit { epoch, shard: ShardId(0) };
            let trained =
                train_visit(&task, &state, visit, &rows(&task, inputs, labels), &mut keep_on);
            let trained = trained.unwrap();
            score.add(&trained.score);
            state = trained.state;
        }
        let history = &fit["history"];
        let expected =
            [&history["loss"], &history["accuracy"]].map(|list| floats(list)[epoch as usize]);
        assert_near(&format!("epoch {epoch}"), &loss_and_accuracy(&score), &expected, 1e-6);
    }
    let weights = State::decode(&task, &state).unwrap().weights;
    assert_weights("fit", &weights, &arrays(&fit["final_weights"]), 1e-6);

    let all = Value::from((0_u64..150).collect::<Vec<_>>());
    let (inputs, labels) = iris(&folder, &all);
    let score = evaluate(&task, &state, &rows(&task, &inputs, &labels), &mut keep_on).unwrap();
    let expected = floats(&fit["evaluate_all_150_rows_batch32"]);
    assert_near("evaluate", &loss_and_accuracy(&score), &expected, 1e-6);
    let mut predicted = Vec::new();
    let first = Inputs::new(&task, vec![InputChunks::F32(vec![&inputs[..20]])]).unwrap();
    predict(&task, &state, &first, &mut |outputs| {
        predicted.extend_from_slice(&outputs[0]);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_near("predict", &predicted, &floats(&fit["predict_first5"]["data"]), 1e-6);
}

fn rows<'a>(task: &Task, inputs: &'a [f32], labels: &'a [i32]) -> Rows<'a> {
    let targets = TargetChunks::Classes(vec![labels]);
    Rows::new(task, vec![InputChunks::F32(vec![inputs])], vec![targets]).unwrap()
}

fn loss_and_accuracy(score: &Score) -> [f32; 2] {
    [score.loss(), score.accuracy()].map(|value| value.unwrap().to_string().parse().unwrap())
}

/// Within so much of the largest weight.
fn assert_weights(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
    let largest = expected.iter().flatten().fold(0_f32, |largest, value| largest.max(value.abs()));
    let pairs = found.iter().flatten().zip(expected.iter().flatten());
    let worst = pairs.fold(0_f32, |worst, (found, expected)| worst.max((found - expected).abs()));
    let sizes = |arrays: &[Vec<f32>]| arrays.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(found), sizes(expected), "{what}");
    assert!(worst <= tolerance * largest, "{what}: {worst} of {largest}");
}

/// The oracle's network with this optimizer.
fn iris_task(oracle: &Value, optimizer: Optimizer, batch_rows: u32) -> Task {
    let spec = NetworkSpec::parse(&oracle["model"].to_string()).unwrap();
    let target = Target::Classes(ClassList::named(["setosa", "versicolor", "virginica"]));
    task(spec, optimizer, Loss::CATEGORICAL_CROSSENTROPY, target, batch_rows)
}

/// The chosen rows of the table: four lengths each, and the class.
fn iris(folder: &Path, rows: &Value) -> (Vec<f32>, Vec<i32>) {
    let text = std::fs::read_to_string(folder.join("iris/iris.csv")).unwrap();
    let lines: Vec<Vec<&str>> =
        text.lines().skip(1).map(|line| line.split(',').collect()).collect();
    let names = ["Iris-setosa", "Iris-versicolor", "Iris-virginica"];
    let mut inputs = Vec::new();
    let mut labels = Vec::new();
    for index in rows.as_array().unwrap() {
        let line = &lines[usize::try_from(index.as_u64().unwrap()).unwrap()];
        inputs.extend(line[1..5].iter().map(|text| text.parse::<f32>().unwrap()));
        let class = names.iter().position(|name| *name == line[5]).unwrap();
        labels.push(i32::try_from(class).unwrap());
    }
    (inputs, labels)
}

/// `Adam(lr=0.01,amsgrad=True)` and the like.
fn optimizer(text: &str, semantics: Semantics) -> Optimizer {
    let (name, arguments) = text.strip_suffix(')').unwrap().split_once('(').unwrap();
    let values =
        arguments.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, value)| {
            let name = if name == "lr" { "learning_rate" } else { name };
            let value = match value {
                "True" => ParameterValue::Flag(true),
                number => ParameterValue::Number(number.parse().unwrap()),
            };
            (name, value)
        });
    let values: Vec<_> = values.collect();
    Optimizer::named(name, semantics).unwrap().with(&values).unwrap()
}
