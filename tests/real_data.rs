//! The examples on real data, bounded; and what comes after training: scores and predictions for
//! new rows. Skipped, with the reason, where the data is not beside the workspace.

use arrowhop_tests::{Program, shared};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

/// Fits an example, bounded; the bounds are in its record.
fn fit(program: &Program, example: &str, data: &str, bounds: &[&str]) -> Value {
    let file = format!("examples/{example}.toml");
    let mut arguments = vec!["fit", &file, "--data", data, "--output", "json"];
    arguments.extend(bounds);
    let result = program.json(&arguments);
    assert_eq!(result["status"], "finished", "{example}");
    let said: Vec<&str> =
        result["bounds"].as_array().expect("bounds").iter().filter_map(Value::as_str).collect();
    let given: Vec<String> = bounds.chunks(2).map(|pair| pair.join(" ")).collect();
    for bound in &given {
        assert!(said.contains(&bound.as_str()), "{bound} is not in the record: {said:?}");
    }
    result
}

#[test]
fn iris_is_learned_scored_and_predicted() {
    let Some(data) = shared("data") else { return };
    let data = data.to_str().expect("a UTF-8 path");
    let program = Program::new(BINARY);
    let result = fit(&program, "iris", data, &[]);
    let best = result["models"][0]["validation_accuracy"].as_f64().expect("it was evaluated");
    assert!(best >= 0.95, "the best of twelve: {best}");

    let rows = format!("{data}/iris.parquet");
    let score = program.json(&["evaluate", "1", "--data", &rows, "--output", "json"]);
    assert_eq!(score["rows"], 150);
    assert!(score["accuracy"].as_f64().expect("classes") >= 0.93, "{score}");

    let predict = ["predict", "1", "--data", &rows, "--top-k", "2", "--output", "json"];
    let predictions = program.json(&predict)["predictions"].take();
    let predictions = predictions.as_array().expect("a list");
    assert_eq!(predictions.len(), 300, "two classes for each of 150 rows");
    for pair in predictions.chunks(2) {
        assert_eq!((&pair[0]["rank"], &pair[1]["rank"]), (&1.into(), &2.into()));
        let [first, second] =
            [0, 1].map(|i| pair[i]["probability"].as_f64().expect("a probability"));
        assert!(first >= second && first + second <= 1.000_001, "{pair:?}");
    }
    assert_eq!(predictions[0]["class"], "setosa", "the first row is one");

    let folder = tempfile::tempdir().expect("make a temporary folder");
    let file = folder.path().join("predictions.parquet");
    let to = file.to_str().expect("a UTF-8 path");
    let written = program.run(&["predict", "1", "--data", &rows, "--to", to]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let bytes = std::fs::read(&file).expect("it was written");
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
    assert_eq!(std::fs::read_dir(folder.path()).expect("list").count(), 1, "nothing half-written");
}

#[test]
fn the_other_examples_run_on_their_data() {
    let Some(data) = shared("data") else { return };
    let data = data.to_str().expect("a UTF-8 path");
    let program = Program::new(BINARY);
    let cifar =
        fit(&program, "cifar10", data, &["--max-rows", "64", "--epochs", "1", "--configs", "9"]);
    assert_eq!(cifar["models"].as_array().expect("models").len(), 9, "both networks");
    assert_eq!(cifar["data"]["train_rows"], 64);
    assert_eq!(cifar["data"]["targets"][0]["classes"][0], "airplane");
    let fashion = fit(&program, "fashion-mnist", data, &["--max-rows", "1000", "--epochs", "1"]);
    assert!(fashion["models"][0]["validation_accuracy"].as_f64().expect("evaluated") > 0.4);
    let adult = fit(&program, "adult", data, &["--max-rows", "2000", "--epochs", "2"]);
    assert!(adult["models"][0]["validation_accuracy"].as_f64().expect("evaluated") > 0.78);
}
