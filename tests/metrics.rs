//! Several metrics at once, from the experiment to every report.

use std::collections::BTreeMap;
use std::fs;

use arrowhop_catalog::Catalog;
use arrowhop_tests::{Cluster, Experiment, Program, shapes, shared, workspace};
use arrowhop_types::{Part, RunId};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

const METRICS: [&str; 5] =
    ["accuracy", "top_2_accuracy", "auc", "f1_score(average=micro)", "precision(threshold=0.7)"];

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

#[test]
fn every_metric_reaches_every_report_and_ranks() {
    let experiment = shapes(300, 3, 2, 5, "objective = \"validation_auc\"\norder = \"planned\"");
    let text = fs::read_to_string(experiment.file()).expect("it was written");
    let more = "loss = [{ name = \"bce\", label_smoothing = 0.05 }]\n\
                metrics = [\"acc\", \"top_2_accuracy\", \"AUC\", \"f1_score(average=micro)\", \
                { name = \"precision\", threshold = 0.7 }]\n\
                class_weight = \"balanced\"\nbatch_size";
    let experiment = Experiment::new(&text.replace("batch_size", more));
    let file = experiment.argument();
    let alone = Program::new(BINARY).json(&["fit", &file, "--output", "json"]);

    let program = Program::new(BINARY);
    let cluster = Cluster::start(&program, 2);
    let fit = ["fit", &file, "--cluster", &cluster.uri, "--output", "json"];
    let result = program.json(&fit);
    assert_eq!(result["objective"]["metric"], "validation_auc");
    assert_eq!(result["objective"]["direction"], "maximize");
    let models = result["models"].as_array().expect("models are listed");
    assert!(
        models.is_sorted_by(|a, b| number(&a["validation_auc"]) >= number(&b["validation_auc"]))
    );
    let config = &models[0]["config"];
    assert_eq!(config["loss"], "binary_crossentropy(label_smoothing=0.05)");
    let weights = config["class_weights"].as_array().expect("six classes have weights");
    assert_eq!(weights.len(), 6);

    // One process measures the same, and the catalog and the tables have it all.
    let by_model = |result: &Value, key: &str| -> BTreeMap<u64, f64> {
        let models = result["models"].as_array().expect("models are listed").iter();
        models.map(|m| (m["model"].as_u64().expect("a number"), number(&m[key]))).collect()
    };
    let catalog = Catalog::open_read_only(program.state()).expect("open the catalog");
    let record = catalog.run(RunId(1)).expect("the run is recorded");
    let csv = program.run(&["results", "1", "--output", "csv"]).stdout;
    let header: Vec<&str> = csv.lines().next().expect("a header").split(',').collect();
    let table = program.run(&["results", "1"]).stdout;
    for part in [Part::Train, Part::Validation] {
        for metric in ["loss"].into_iter().chain(METRICS) {
            let key = format!("{}_{metric}", part.name());
            let measured = by_model(&result, &key);
            assert_eq!(measured, by_model(&alone, &key), "{key}");
            for model in &record.models {
                let last = model.epochs.last().expect("it was evaluated").measures(part);
                let found = last.value(metric).expect("it was measured");
                // A number read from JSON may be one bit off.
                let off = (found - measured[&u64::from(model.model.0)]).abs();
                assert!(off <= 1e-12 * found.abs(), "{key}: {found} is off by {off}");
            }
            assert!(header.contains(&key.as_str()), "{key} is not in {header:?}");
            assert!(table.contains(metric), "{metric} is not in\n{table}");
        }
    }
    let visits = catalog.visits(RunId(1)).expect("the hop log");
    assert!(
        visits
            .iter()
            .all(|visit| { visit.train.metrics.iter().map(|entry| entry.name()).eq(METRICS) })
    );
    cluster.stop();
}

#[test]
fn numbers_are_regressed_and_measured() {
    let Some(data) = shared("data") else { return };
    let text = fs::read_to_string(workspace().join("examples/networks/iris_2x10.json"))
        .expect("read a network");
    let network = text
        .replace("[null, 4]", "[null, 3]")
        .replace("\"units\": 3", "\"units\": 1")
        .replace("\"softmax\"", "\"linear\"");
    let experiment = Experiment::new(&format!(
        r#"
version = 1
epochs = 40
objective = "validation_r2_score"
[data]
train = "{}/iris.parquet"
validation_fraction = 0.2
inputs = ["sepal_length", "sepal_width", "petal_length"]
target = "petal_width"
shards = 2
[search]
networks = ["petals.json"]
batch_size = [8]
loss = ["mse", {{ name = "huber", delta = 0.5 }}]
metrics = ["r2_score", "rmse", "mae"]
[[search.optimizer]]
name = "adam"
learning_rate = 0.01
"#,
        data.display()
    ));
    fs::write(experiment.folder().join("petals.json"), network).expect("write a network");
    let program = Program::new(BINARY);
    let result = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    let best = &result["models"][0];
    assert!(number(&best["validation_r2_score"]) > 0.85, "{best}");
    let rows = format!("{}/iris.parquet", data.display());
    let score = program.json(&["evaluate", "1", "--data", &rows, "--output", "json"]);
    assert_eq!(score["rows"], 150);
    for metric in ["loss", "r2_score", "root_mean_squared_error", "mean_absolute_error"] {
        assert!(number(&score[metric]).is_finite(), "{metric}: {score}");
    }
    assert!(number(&score["r2_score"]) > 0.85, "{score}");
}
