//! Data sets that are prepared once: found again, made again when their source changed, larger than memory,
//! and kept by segments across restarts.

use std::fs;
use std::path::Path;
use std::time::Duration;

use arrowhop_tests::{Cluster, Experiment, Program, digests, shapes, wait_for};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");
const LIMIT: Duration = Duration::from_secs(30);

/// An experiment on a CSV file beside it, with rows of a few numbers and words.
fn table(rows: u32) -> Experiment {
    let experiment = Experiment::new(
        r#"
version = 1
name = "table"
epochs = 2
order = "planned"
[data]
train = "rows.csv"
inputs = ["a", "b", "word"]
target = "kind"
shards = 3
validation_fraction = 0.2
[search]
networks = ["m.json"]
batch_size = [16]
[[search.optimizer]]
name = "adam"
learning_rate = 0.01
"#,
    );
    let network = r#"{"class_name": "Sequential", "config": {"name": "m", "layers": [
        {"class_name": "InputLayer", "config": {"batch_shape": [null, 5], "name": "i"}},
        {"class_name": "Dense", "config": {"name": "d", "units": 8, "activation": "relu"}},
        {"class_name": "Dense", "config": {"name": "o", "units": 2, "activation": "softmax"}}]}}"#;
    fs::write(experiment.folder().join("m.json"), network).expect("write a network");
    write_rows(experiment.folder(), rows);
    experiment
}

fn write_rows(folder: &Path, rows: u32) {
    let mut text = String::from("a,b,word,kind\n");
    for row in 0..rows {
        let (a, b) = (row % 17, f64::from(row % 29) / 7.0);
        let word = ["x", "y", "z"][row as usize % 3];
        text += &format!("{a},{b},{word},{}\n", if a > 8 { "high" } else { "low" });
    }
    fs::write(folder.join("rows.csv"), text).expect("write rows");
}

fn listed(program: &Program) -> Vec<Value> {
    let list = program.json(&["data", "list", "--output", "json"]);
    list["data_sets"].as_array().expect("data sets are listed").clone()
}

#[test]
fn data_is_prepared_once_until_its_source_changes() {
    let program = Program::new(BINARY);
    let experiment = table(600);
    let file = experiment.argument();
    let prepared = program.run(&["data", "prepare", &file]);
    assert_eq!(prepared.code, Some(0), "{}", prepared.stderr);
    assert!(prepared.stdout.contains("480 training and 120 validation rows in 3 shards"));
    let fit = program.run(&["fit", &file, "--output", "json"]);
    assert_eq!(fit.code, Some(0), "{}", fit.stderr);
    assert!(fit.stderr.contains("its sources are what they were"), "{}", fit.stderr);

    let sets = listed(&program);
    assert_eq!((sets.len(), &sets[0]["train_rows"]), (1, &480.into()));
    assert!(sets[0]["sources"][0]["version"].as_str().is_some_and(|at| at.contains("bytes")));
    let verified = program.run(&["data", "verify", "table"]);
    assert!(verified.stdout.contains("3 shards"), "{}{}", verified.stdout, verified.stderr);

    write_rows(experiment.folder(), 610);
    let again = program.run(&["fit", &file, "--output", "json"]);
    assert!(again.stderr.contains("prepared 610 rows in 3 shards"), "{}", again.stderr);
    assert_eq!(listed(&program).len(), 2);
    let several = program.run(&["data", "drop", "table"]);
    assert_eq!(several.code, Some(2), "{}", several.stderr);
    assert!(several.stderr.contains("is the name of 2; give an id"), "{}", several.stderr);

    // A kept data set that is damaged is found out, and one that is gone is prepared again.
    let id = sets[0]["data_set"].as_str().expect("an id").to_owned();
    let shard = program.state().join("data").join(&id).join("00001-train.arrow");
    let mut bytes = fs::read(&shard).expect("it is kept");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&shard, bytes).expect("damage it");
    let damaged = program.run(&["data", "verify", &id[..12]]);
    assert_eq!(damaged.code, Some(1), "{}", damaged.stderr);
    assert!(damaged.stderr.contains("shard 1"), "{}", damaged.stderr);
    let dropped = program.run(&["data", "drop", &id[..12]]);
    assert_eq!(dropped.code, Some(0), "{}", dropped.stderr);
    assert_eq!(listed(&program).len(), 1);
    let none = program.run(&["data", "drop", &id[..12]]);
    assert!(none.stderr.contains("is not kept here"), "{}", none.stderr);
}

#[test]
fn a_data_set_larger_than_memory_trains_to_the_same_bits() {
    let experiment = table(3_000);
    let file = experiment.argument();
    let fit = |program: &Program, more: &[&str]| {
        let mut arguments = vec!["fit", &*file, "--output", "json", "--model-memory", "1GiB"];
        arguments.extend(more);
        digests(&program.json(&arguments))
    };
    let within = fit(&Program::new(BINARY), &["--cache-memory", "1GiB"]);
    let program = Program::new(BINARY);
    let beyond = fit(&program, &["--cache-memory", "4KiB"]);
    assert_eq!(within, beyond);
    let state = fs::read_dir(program.state().join("data")).expect("it is kept").count();
    assert_eq!(state, 1, "nothing but the data set is left");
    let in_memory_alone = fit(&Program::new(BINARY), &["--cache-disk", "0"]);
    assert_eq!(within, in_memory_alone);
    // What is too large to be kept is trained on all the same.
    let program = Program::new(BINARY);
    assert_eq!(within, fit(&program, &["--cache-disk", "1KiB"]));
    assert_eq!(listed(&program).len(), 0);
}

#[test]
fn a_segment_finds_its_shards_again() {
    let program = Program::new(BINARY);
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let shards = folder.path().to_str().expect("UTF-8");
    let more = ["--shard-folder", shards, "--cache-memory", "100KiB"];
    let mut cluster = Cluster::start_with(&program, 1, &more);
    let experiment = shapes(600, 4, 1, 3, "order = \"planned\"");
    let file = experiment.argument();
    let fit = |cluster: &Cluster| {
        let fit = ["fit", &file, "--cluster", &cluster.uri, "--output", "json"];
        wait_for("a segment that is attached", LIMIT, || {
            let finished = program.run(&fit);
            (finished.code == Some(0)).then_some(finished.stdout)
        })
    };
    let parse = |text: String| digests(&serde_json::from_str(&text).expect("JSON"));
    let first = parse(fit(&cluster));
    let files = || {
        let set = fs::read_dir(folder.path()).expect("a folder").next().expect("a data set");
        fs::read_dir(set.expect("a folder").path()).expect("shards").count()
    };
    assert_eq!(files(), 9, "four shards, two parts each, and the name");
    cluster.kill_segment(0);
    cluster.restart_segment(&program, 0, &more);
    assert_eq!(parse(fit(&cluster)), first);
    assert_eq!(files(), 9);
}
