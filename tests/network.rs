//! `arrowhop network`: architectures described, and what Keras computed computed again.

use std::path::Path;
use std::process::Command;

use arrowhop_tests::{Program, python, shared, workspace};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

/// Runs the command; its object and its exit code.
fn network(arguments: &[&str]) -> (Value, Option<i32>) {
    let mut all = vec!["network"];
    all.extend_from_slice(arguments);
    all.extend_from_slice(&["--output", "json"]);
    let finished = Program::new(BINARY).run(&all);
    let object = serde_json::from_str(&finished.stdout);
    (object.unwrap_or_else(|error| panic!("{error}: {}", finished.stderr)), finished.code)
}

fn verify(file: &Path) -> (Value, Option<i32>) {
    network(&["verify", &file.display().to_string()])
}

/// The records that failed, with what the report says of them.
fn failed(report: &Value) -> Vec<&Value> {
    let records = report["files"][0]["records"].as_array().expect("it lists records");
    records.iter().filter(|record| record["passed"] != true).collect()
}

#[test]
fn an_architecture_is_shown_with_layers_weights_and_costs() {
    let file = workspace().join("examples/networks/shapes_cnn.json");
    let (shown, code) = network(&["show", &file.display().to_string()]);
    assert_eq!(code, Some(0));
    let sum = |list: &str, key: &str| -> u64 {
        let entries = shown[list].as_array().expect("a list").iter();
        entries.map(|entry| entry[key].as_u64().expect("a number")).sum()
    };
    assert_eq!(shown["parameters"], sum("layers", "parameters"));
    assert_eq!(shown["macs"], sum("layers", "macs"));
    let elements = |weight: &Value| -> u64 {
        weight["shape"].as_array().expect("a shape").iter().filter_map(Value::as_u64).product()
    };
    let weights = shown["weights"].as_array().expect("a list");
    assert_eq!(shown["parameters"], weights.iter().map(elements).sum::<u64>());

    let missing = Program::new(BINARY).run(&["network", "show", "no/such.json"]);
    assert_eq!(missing.code, Some(5), "{}", missing.stderr);
    let no_network = workspace().join("Cargo.toml").display().to_string();
    let wrong = Program::new(BINARY).run(&["network", "show", &no_network]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.stderr);
    assert!(wrong.stderr.contains("is not the JSON of a Keras model"), "{}", wrong.stderr);
}

/// One record has its weights in another order than Keras's, and fails with real Keras, too.
#[test]
fn every_record_but_one_is_what_keras_computed() {
    let Some(fixtures) = shared("fixtures") else { return };
    let oracles = [
        ("kerasjs_fixtures/fixtures.json", 275, 1),
        ("keras_oracle/train_traces.json", 13, 0),
        ("keras_oracle/optimizers_iris.json", 36, 0),
        ("keras_oracle/losses_metrics.json", 22, 0),
    ];
    for (file, passed, not) in oracles {
        let (report, code) = verify(&fixtures.join(file));
        let failed = failed(&report);
        assert_eq!(report["passed"], passed, "{file}: {failed:#?}");
        assert_eq!(report["failed"], not, "{file}: {failed:#?}");
        assert_eq!(code, Some(not), "{file}");
        assert!(failed.iter().all(|record| record["record"] == "graph_06"), "{failed:#?}");
    }
}

#[test]
fn what_keras_3_trains_now_is_trained_alike() {
    let Some(python) = python("jax, keras") else { return };
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let traces = folder.path().join("traces.json");
    let mut keras = Command::new(python);
    keras.arg(workspace().join("tests/python/keras_traces.py")).arg(&traces);
    keras.envs([("KERAS_BACKEND", "jax"), ("JAX_PLATFORMS", "cpu")]);
    let output = keras.output().expect("start Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (report, code) = verify(&traces);
    assert_eq!(code, Some(0), "{:#?}", failed(&report));
    assert_eq!(report["passed"], 14);
}

#[test]
fn a_wrong_expectation_fails_and_an_unknown_format_is_refused() {
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let file = folder.path().join("records.json");
    let record = |expected: f32| {
        serde_json::json!([{"id": "twice", "expected": {"shape": [1], "data": [expected]},
            "inputs": [{"shape": [1], "data": [3.0]}],
            "weights": [{"shape": [1, 1], "data": [2.0]}],
            "keras2_model_json": {"class_name": "Sequential", "config": [{"class_name": "Dense",
                "config": {"name": "d", "units": 1, "use_bias": false,
                    "batch_input_shape": [null, 1]}}]}}])
    };
    std::fs::write(&file, record(6.0).to_string()).expect("write a file");
    assert_eq!(verify(&file).1, Some(0));
    std::fs::write(&file, record(6.01).to_string()).expect("write a file");
    let (report, code) = verify(&file);
    assert_eq!((code, failed(&report).len()), (Some(1), 1));
    let text = Program::new(BINARY).run(&["network", "verify", &file.display().to_string()]);
    assert!(text.stdout.ends_with("0 passed, 1 failed\n"), "{}", text.stdout);
    std::fs::write(&file, "{}").expect("write a file");
    let unknown = Program::new(BINARY).run(&["network", "verify", &file.display().to_string()]);
    assert_eq!(unknown.code, Some(2), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("none of the formats"), "{}", unknown.stderr);
}
