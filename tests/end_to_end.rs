//! The whole program, as its users run it: in one process and as a cluster of processes, to the
//! end, interrupted, and resumed.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema};
use arrow::ipc::writer::FileWriter;
use arrowhop_catalog::Catalog;
use arrowhop_tests::{Cluster, Program, digests, shapes, wait_for};
use arrowhop_types::{ModelStatus, RunId, RunStatus, VisitKind};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");
const LIMIT: Duration = Duration::from_secs(60);

/// Every epoch's metrics of every model, by number.
fn metrics(result: &Value) -> Vec<(u64, String)> {
    let models = result["models"].as_array().expect("models are listed").iter();
    let mut metrics: Vec<_> = models
        .map(|model| {
            let history = model["history"].to_string();
            assert!(history.contains("validation_accuracy"), "{history}");
            (model["model"].as_u64().expect("models are numbered"), history)
        })
        .collect();
    metrics.sort();
    metrics
}

#[test]
fn one_process_and_a_cluster_give_the_same_bits() {
    let experiment = shapes(240, 4, 2, 5, "order = \"planned\"");
    let file = experiment.argument();
    let alone = Program::new(BINARY).json(&["fit", &file, "--output", "json"]);

    let program = Program::new(BINARY);
    let cluster = Cluster::start(&program, 3);
    let fit = ["fit", &file, "--cluster", &cluster.uri, "--output", "json"];
    let clustered = program.json(&fit);
    assert_eq!(digests(&alone), digests(&clustered));
    assert_eq!(metrics(&alone), metrics(&clustered));

    // A second run finds the shards where they are; results come from the supervisor, too.
    let again = program.json(&fit);
    assert_eq!(again["run"], 2);
    let results = ["results", "1", "--cluster", &cluster.uri, "--output", "json"];
    assert_eq!(digests(&program.json(&results)), digests(&clustered));
    cluster.stop();
}

#[test]
fn the_result_is_there_to_be_used() {
    let program = Program::new(BINARY);
    let experiment = shapes(900, 4, 3, 6, "");
    let result = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    let best = &result["models"][0];
    assert_eq!(result["best"], best["model"]);
    assert_eq!(result["objective"]["metric"], "validation_accuracy");
    assert_eq!(result["objective"]["direction"], "maximize");
    assert_eq!(best["status"], "finished");
    assert_eq!(best["epochs"], 3);
    assert!(best["config"]["optimizer"]["learning_rate"].is_f64());
    let accuracies: Vec<f64> = result["models"]
        .as_array()
        .expect("models are listed")
        .iter()
        .map(|model| model["validation_accuracy"].as_f64().expect("it was evaluated"))
        .collect();
    assert!(accuracies.is_sorted_by(|a, b| a >= b), "{accuracies:?}");
    assert!(accuracies[0] > 0.5, "the best of six networks learns shapes: {accuracies:?}");

    let listed = program.json(&["runs", "--output", "json"]);
    assert_eq!(listed["runs"][0]["status"], "finished");
    let csv = program.run(&["results", "1", "--output", "csv"]).stdout;
    assert_eq!(csv.lines().count(), 7, "a header and six models: {csv}");

    // The shards, the weights, and the model on its own training rows.
    let folder = experiment.folder().join("out");
    let to = folder.to_str().expect("a temporary folder's name is UTF-8");
    let exported = program.run(&["export", "shards", "1", "--to", to]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    assert_eq!(exported.stdout.lines().count(), 8, "four shards, two parts each");
    let exported = program.run(&["export", "weights", "1", "--to", to]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    let keras = std::fs::read_to_string(folder.join("architecture.json")).expect("it was written");
    assert!(keras.contains("\"Sequential\""));
    let file = std::fs::read(folder.join("weights.safetensors")).expect("it was written");
    assert!(file.len() > 1_000);
    let formats = ["export", "weights", "1", "--to", to, "--format", "npz,f32,h5,keras"];
    let exported = program.run(&formats);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    for name in ["weights.npz", "weights.f32", "model.weights.h5", "model.keras"] {
        assert!(folder.join(name).is_file(), "{name} in {}", exported.stdout);
    }
    let unknown = program.run(&["export", "weights", "1", "--to", to, "--format", "pickle"]);
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("safetensors, npz, f32, h5, keras"), "{}", unknown.stderr);
    tables_are_exported(&program, &folder);
}

/// Shards, history and predictions of run 1 in each format, below a folder that has shards of it.
fn tables_are_exported(program: &Program, folder: &Path) {
    for format in ["parquet", "arrow", "csv"] {
        let to = folder.join(format!("tables/{format}"));
        std::fs::create_dir_all(&to).expect("make a folder");
        let path = |name: &str| to.join(name).to_str().expect("UTF-8").to_owned();
        let (shards, history, predictions) =
            (path(""), path(&format!("h.{format}")), path(&format!("p.{format}")));
        let data = path(&format!("../new.{format}"));
        renamed(&folder.join("shard-0-validation.parquet"), &data);
        for arguments in [
            &["export", "shards", "1", "--to", &shards, "--format", format][..],
            &["export", "history", "1", "--to", &history, "--format", format],
            &[
                "export",
                "predictions",
                "1",
                "--data",
                &data,
                "--top-k",
                "1",
                "--to",
                &predictions,
                "--format",
                format,
            ],
        ] {
            let exported = program.run(arguments);
            assert_eq!(exported.code, Some(0), "{}", exported.stderr);
        }
        let names: Vec<_> = std::fs::read_dir(&to).expect("it is there").flatten().collect();
        assert_eq!(names.len(), 10, "{names:?}");
    }
    let csv = |name: &str| std::fs::read_to_string(folder.join("tables/csv").join(name));
    let history = csv("h.csv").expect("it was written");
    assert!(history.starts_with("model,epoch,rows,metric,value\n1,1,train,loss,"), "{history}");
    // Six models, three epochs, loss and accuracy on two parts.
    assert_eq!(history.lines().count(), 1 + 6 * 3 * 4);
    let predictions = csv("p.csv").expect("it was written");
    assert_eq!(predictions.lines().count(), 1 + 225);
    assert!(csv("shard-0-train.csv").expect("it was written").starts_with("row,x_0,x_1,"));
}

/// A shard's rows with the columns' names that the generator gives them, as Arrow IPC whatever the
/// name's end.
fn renamed(shard: &Path, to: &str) {
    let file = File::open(shard).expect("open a shard");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("a Parquet file");
    let batches: Vec<RecordBatch> =
        reader.build().expect("readable").map(|batch| batch.expect("rows")).collect();
    let schema = batches[0].schema();
    let fields = schema.fields().iter().zip(["row", "image", "label"]);
    let fields: Vec<Field> =
        fields.map(|(field, name)| field.as_ref().clone().with_name(name)).collect();
    let schema = Arc::new(Schema::new(fields));
    let mut writer =
        FileWriter::try_new(File::create(to).expect("create a file"), &schema).expect("write");
    for batch in batches {
        let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec());
        writer.write(&batch.expect("the same columns")).expect("write rows");
    }
    writer.finish().expect("finish the file");
}

#[test]
fn timing_adds_up() {
    let program = Program::new(BINARY);
    let experiment = shapes(400, 2, 2, 7, "");
    let fit = ["fit", &experiment.argument(), "--segments", "2", "--output", "json"];
    let _ = program.json(&fit);
    let timing = program.json(&["results", "1", "--timing", "--output", "json"])["timing"].take();
    let number = |value: &Value| value.as_f64().expect("a number");
    assert_eq!(timing["total"]["visits"], 6 * 2 * 2 * 2, "train and evaluate");
    let sum = |list: &Value, key: &str| -> f64 {
        list.as_array().expect("a list").iter().map(|entry| number(&entry[key])).sum()
    };
    for key in ["train_seconds", "evaluate_seconds", "fetch_seconds", "hop_bytes"] {
        let total = number(&timing["total"][key]);
        for list in ["models", "slots"] {
            assert!((sum(&timing[list], key) - total).abs() <= 1e-9 * total.max(1.0), "{key}");
        }
    }
    assert!(number(&timing["total"]["hop_bytes"]) > 0.0, "models hopped");
    let bound = number(&timing["lower_bound_seconds"]);
    assert!(bound > 0.0 && bound <= number(&timing["makespan_seconds"]), "{timing}");
    let slots = timing["slots"].as_array().expect("slots are listed").len();
    assert_eq!(slots, 2);
}

/// A run that takes long enough to be interrupted.
fn start_long_run(program: &Program, experiment: &str) -> Child {
    let mut command = program.command(&["fit", experiment, "--segments", "2", "--output", "json"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start the program")
}

fn committed(program: &Program) -> Option<usize> {
    let catalog = Catalog::open_read_only(program.state()).ok()?;
    Some(catalog.visits(RunId(1)).ok()?.len())
}

fn interrupt(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("signal the program");
}

const LONG: &str = "order = \"planned\"\ncheckpoints = \"every-visit\"";

#[test]
fn an_interrupted_run_saves_and_resumes_to_the_same_bits() {
    let experiment = shapes(600, 3, 6, 8, LONG);
    let file = experiment.argument();
    let whole = Program::new(BINARY).json(&["fit", &file, "--output", "json"]);

    let program = Program::new(BINARY);
    let mut child = start_long_run(&program, &file);
    wait_for("a few visits", LIMIT, || committed(&program).filter(|&visits| visits >= 10));
    interrupt(&child, Signal::INT);
    let status = child.wait().expect("wait for the program");
    assert_eq!(status.code(), Some(130));

    let catalog = Catalog::open_read_only(program.state()).expect("open the catalog");
    let record = catalog.run(RunId(1)).expect("the run is recorded");
    assert_eq!(record.status, RunStatus::Stopped);
    assert!(record.models.iter().any(|model| model.status == ModelStatus::Stopped));
    for model in &record.models {
        let progress = catalog.progress(RunId(1)).expect("progress");
        let version = progress.iter().find(|p| p.model == model.model).expect("a model").version;
        let kept = model.checkpoint.map_or(0, |(version, _)| version.0);
        assert_eq!(kept, version.0, "model {}: what was done is saved", model.model);
    }
    drop(catalog);
    let resumed = program.json(&["fit", "--resume", "1", "--output", "json"]);
    assert_eq!(resumed["status"], "finished");
    assert_eq!(digests(&resumed), digests(&whole));
    assert_eq!(metrics(&resumed), metrics(&whole));

    let again = program.run(&["fit", "--resume", "1"]);
    assert_eq!(again.code, Some(1), "a finished run is not resumed: {}", again.stderr);
    assert!(again.stderr.contains("run 1 is finished"), "{}", again.stderr);
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let experiment = shapes(600, 3, 6, 8, "order = \"planned\"");
    let file = experiment.argument();
    let whole = Program::new(BINARY).json(&["fit", &file, "--output", "json"]);

    let program = Program::new(BINARY);
    let mut child = start_long_run(&program, &file);
    wait_for("a few visits", LIMIT, || committed(&program).filter(|&visits| visits >= 20));
    child.kill().expect("kill the program");
    child.wait().expect("wait for the program");
    let resumed = program.json(&["fit", "--resume", "1", "--output", "json"]);
    assert_eq!(digests(&resumed), digests(&whole));
    assert_eq!(metrics(&resumed), metrics(&whole));

    // Visits that no checkpoint covered were made again, and count once.
    let catalog = Catalog::open_read_only(program.state()).expect("open the catalog");
    let visits = catalog.visits(RunId(1)).expect("the hop log");
    let trained = visits.iter().filter(|visit| visit.kind == VisitKind::Train).count();
    assert_eq!(trained, 6 * 3 * 6);
    drop(catalog);
    let replayed = program.json(&["replay", "1", "3", "--output", "json"]);
    assert_eq!((&replayed["same"], &replayed["different"]), (&36.into(), &0.into()));
}

#[test]
fn two_interrupts_abort_at_once_and_the_run_resumes() {
    let experiment = shapes(600, 3, 6, 8, LONG);
    let program = Program::new(BINARY);
    let mut child = start_long_run(&program, &experiment.argument());
    wait_for("a few visits", LIMIT, || committed(&program).filter(|&visits| visits >= 10));
    interrupt(&child, Signal::INT);
    interrupt(&child, Signal::INT);
    assert_eq!(child.wait().expect("wait for the program").code(), Some(130));
    let resumed = program.json(&["fit", "--resume", "1", "--output", "json"]);
    assert_eq!(resumed["status"], "finished");
}

#[test]
fn a_lost_segment_ends_the_run_and_it_resumes_on_the_others() {
    let experiment = shapes(1_200, 3, 8, 8, "order = \"planned\"");
    let file = experiment.argument();
    let program = Program::new(BINARY);
    let mut cluster = Cluster::start(&program, 3);
    let fit = ["fit", &file, "--cluster", &cluster.uri];
    let child = program.command(&fit).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("start the program");
    wait_for("a few visits", LIMIT, || committed(&program).filter(|&visits| visits >= 20));
    cluster.kill_segment(1);
    let output = child.wait_with_output().expect("wait for the program");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("segment 1 was lost"), "{stderr}");
    assert!(stderr.contains("--resume 1"), "the next step is named: {stderr}");

    let resume = ["fit", "--resume", "1", "--cluster", &cluster.uri, "--output", "json"];
    let resumed = program.json(&resume);
    let whole = Program::new(BINARY).json(&["fit", &file, "--output", "json"]);
    assert_eq!(digests(&resumed), digests(&whole));
}

#[test]
fn the_local_cluster_script_starts_and_stops_a_cluster() {
    let program = Program::new(BINARY);
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("find a free port");
        free.local_addr().expect("it is bound").port().to_string()
    };
    let script = |verb: &[&str]| {
        let output = std::process::Command::new("bash")
            .arg(arrowhop_tests::workspace().join("deploy/local-cluster.sh"))
            .args(verb)
            .env("ARROWHOP", BINARY)
            .env("ARROWHOP_STATE", program.state())
            .env("CLUSTER_DIR", folder.path())
            .env("CLUSTER_PORT", &port)
            .stdin(Stdio::null())
            .output()
            .expect("start the script");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{verb:?}: {}", String::from_utf8_lossy(&output.stderr));
        text
    };
    script(&["up", "2"]);
    assert_eq!(script(&["status"]).matches(" up ").count(), 3);
    let uri = format!("grpc://127.0.0.1:{port}");
    let experiment = shapes(60, 2, 1, 1, "");
    let fit = ["fit", &experiment.argument(), "--cluster", &uri, "--output", "json"];
    // The segments attach within a second or two.
    let result = wait_for("a run on the cluster", LIMIT, || {
        let finished = program.run(&fit);
        (finished.code != Some(6)).then_some(finished)
    });
    assert_eq!(result.code, Some(0), "{}", result.stderr);
    script(&["down"]);
    assert_eq!(script(&["status"]), "");
}
