//! What is wrong is refused before training, with every problem at once, the next step, the right
//! exit code, and nothing left behind.

use std::fs;

use arrowhop_tests::{Experiment, Finished, Program, shapes, workspace};

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

fn refuse(experiment: &Experiment, code: i32, says: &[&str]) -> Finished {
    let program = Program::new(BINARY);
    let finished = program.run(&["fit", &experiment.argument()]);
    assert_eq!(finished.code, Some(code), "{}", finished.stderr);
    for part in says {
        assert!(finished.stderr.contains(part), "{part:?} is missing from: {}", finished.stderr);
    }
    assert_eq!(finished.stdout, "", "results go to standard output, and there are none");
    assert!(!program.state().exists(), "nothing was begun");
    finished
}

fn with_data(data: &str, network: &str) -> Experiment {
    let networks = workspace().join("examples/networks");
    let network = networks.join(network);
    Experiment::new(&format!(
        r#"
version = 1
epochs = 1
[data]
{data}
[search]
networks = ["{}"]
[[search.optimizer]]
name = "adam"
"#,
        network.display()
    ))
}

#[test]
fn every_mistake_of_an_experiment_is_listed() {
    let experiment = Experiment::new(
        "version = 2\nepochs = 0\nepoch = 3\n[data]\ntrain = \"x.parquet\"\n[search]\n\
         networks = [\"n.json\"]\nbatch_size = [0.5]\n[[search.optimizer]]\nname = \"adamm\"\n",
    );
    let says = [
        "version: 2 is not known",
        "epochs: 0 is not",
        "epoch: unknown key",
        "data.target: is needed",
        "batch_size",
        "\"adamm\" is not known",
    ];
    refuse(&experiment, 2, &says);
}

#[test]
fn a_search_over_nonsense_is_refused() {
    let experiment = shapes(100, 2, 1, 1, "");
    let text = fs::read_to_string(experiment.file()).expect("it was written");
    let text = text.replace("learning_rate = 0.002", "learning_rate = -1\nbeta_3 = 0.5");
    let text = text.replace("[16]", "[0]");
    refuse(&Experiment::new(&text), 2, &["learning_rate", "beta_3", "batch_size"]);
}

#[test]
fn losses_metrics_and_weights_that_do_not_go_together_are_listed_once() {
    let experiment = shapes(100, 2, 1, 1, "objective = \"validation_auc\"");
    let text = fs::read_to_string(experiment.file()).expect("it was written");
    let wrong = "loss = [\"huber\", \"bce\"]\nmetrics = [\"accuracy\", \"top_9_accuracy\"]\n\
                 class_weight = { pentagon = 2 }\nbatch_size";
    let finished = refuse(
        &Experiment::new(&text.replace("batch_size", wrong)),
        2,
        &["class_weight: there is no class \"pentagon\"; there are "],
    );
    assert_eq!(finished.stderr.matches("pentagon").count(), 1, "{}", finished.stderr);
    let wrong = "metrics = [\"recall\", \"top_9_accuracy\"]\nbatch_size";
    let says = ["model 1 (shapes_cnn_bn, adam): metrics: top_9_accuracy is always 1 of 6 outputs"];
    let finished = refuse(&Experiment::new(&text.replace("batch_size", wrong)), 2, &says);
    assert_eq!(finished.stderr.matches("top_9").count(), 2, "once for each of two networks");
    let right = text.replace("batch_size", "metrics = [\"recall\"]\nbatch_size");
    let says = ["objective: auc is not measured, but loss, recall; add it to search.metrics"];
    refuse(&Experiment::new(&right), 2, &says);
}

#[test]
fn a_missing_file_and_a_corrupt_one_are_named() {
    let missing = with_data("train = \"none.parquet\"\ntarget = \"label\"", "iris_2x10.json");
    refuse(&missing, 2, &["none.parquet"]);
    let corrupt = with_data("train = \"rows.parquet\"\ntarget = \"label\"", "iris_2x10.json");
    fs::write(corrupt.folder().join("rows.parquet"), b"PAR1 this is not Parquet PAR1")
        .expect("write a file");
    refuse(&corrupt, 2, &["rows.parquet"]);
    let unknown = Program::new(BINARY).run(&["fit", "no-such-experiment.toml"]);
    assert_eq!(unknown.code, Some(5), "{}", unknown.stderr);
}

#[test]
fn an_unknown_layer_a_wrong_shape_and_bad_data_are_reported_together() {
    let experiment = with_data("generate = { kind = \"shapes\", rows = 100 }", "iris_2x10.json");
    refuse(&experiment, 2, &["iris_2x10", "[4]", "16, 16, 1"]);

    let experiment = with_data("train = \"none.parquet\"\ntarget = \"label\"", "iris_2x10.json");
    let network = experiment.folder().join("odd.json");
    let layers = r#"[{"class_name": "Lambda", "config": {"name": "l", "batch_input_shape": [null, 4]}},
        {"class_name": "Wobble", "config": {"name": "w"}}]"#;
    fs::write(&network, format!("{{\"class_name\": \"Sequential\", \"config\": {{\"name\": \"n\", \"layers\": {layers}}}}}"))
        .expect("write a network");
    let text = fs::read_to_string(experiment.file()).expect("it was written");
    let networks = workspace().join("examples/networks/iris_2x10.json");
    let text = text.replace(&networks.display().to_string(), "odd.json");
    fs::write(experiment.file(), text).expect("write the experiment");
    refuse(&experiment, 2, &["Lambda", "Wobble", "/config/layers/1", "none.parquet"]);
}

#[test]
fn a_model_that_does_not_fit_in_memory_is_refused_with_the_figures() {
    let program = Program::new(BINARY);
    let experiment = shapes(100, 2, 1, 1, "");
    let fit = ["fit", &experiment.argument(), "--model-memory", "100KiB"];
    let finished = program.run(&fit);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("--model-memory"), "{}", finished.stderr);
    assert_eq!(finished.stderr.matches("needs ").count(), 6, "each model: {}", finished.stderr);
    assert!(!program.state().exists(), "nothing was begun");
}

#[test]
fn a_model_that_diverges_ends_and_the_others_go_on() {
    let experiment = shapes(300, 2, 2, 1, "");
    let text = fs::read_to_string(experiment.file()).expect("it was written");
    let text = text.replace("learning_rate = 0.02", "learning_rate = 1e30");
    let experiment = Experiment::new(&text);
    let program = Program::new(BINARY);
    let finished = program.run(&["fit", &experiment.argument(), "--output", "json"]);
    assert_eq!(finished.code, Some(3), "{}", finished.stderr);
    let result: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON alone");
    assert_eq!(result["status"], "finished");
    let of = |status: &str| {
        let models = result["models"].as_array().expect("models are listed");
        models.iter().filter(|model| model["status"] == status).count()
    };
    assert_eq!((of("finished"), of("diverged")), (4, 2));
    let last = result["models"].as_array().expect("models are listed").last().expect("six");
    assert_eq!(last["status"], "diverged", "diverged models rank last");
    assert!(last["reason"].as_str().expect("a reason").contains("epoch 0"), "{last}");
}

#[test]
fn an_unknown_run_or_model_is_missing() {
    let program = Program::new(BINARY);
    let none = program.run(&["results", "1"]);
    assert_eq!(none.code, Some(5), "no catalog: {}", none.stderr);
    let experiment = shapes(60, 2, 1, 1, "");
    let _ = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    for arguments in [["results", "77"], ["fit", "--resume=77"]] {
        let finished = program.run(&arguments);
        assert_eq!(finished.code, Some(5), "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains("run 77"), "{}", finished.stderr);
    }
    let finished = program.run(&["evaluate", "1", "--model", "9", "--data", "x.parquet"]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("models 1 to 6"), "{}", finished.stderr);
    assert_eq!(program.run(&["fit"]).code, Some(2), "usage");
    let nobody = program.run(&["fit", &experiment.argument(), "--cluster", "grpc://127.0.0.1:1"]);
    assert_eq!(nobody.code, Some(6), "unavailable: {}", nobody.stderr);
}
