//! `arrowhop replay`: a model's record alone makes it again, bit for bit; and where the record, or
//! the data, was changed, the first difference is named.

use std::fs;
use std::path::Path;

use arrowhop_tests::{Experiment, Program, shapes, workspace};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

/// Replays a model that must come out the same in all its visits.
fn assert_same(program: &Program, model: u32, visits: u64) {
    let replayed = program.json(&["replay", "1", &model.to_string(), "--output", "json"]);
    assert_eq!(replayed["same"], visits, "{replayed}");
    assert_eq!(replayed["different"], 0);
    assert_eq!(replayed["first_difference"], Value::Null);
}

#[test]
fn every_visit_of_every_optimizer_comes_out_the_same() {
    let program = Program::new(BINARY);
    let experiment = shapes(150, 3, 2, 11, "");
    let _ = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    for model in 1..=6 {
        assert_same(&program, model, 2 * 2 * 3);
    }
    let text = program.run(&["replay", "1", "1"]);
    assert_eq!(text.stdout.lines().count(), 3 + 12 + 1, "{}", text.stdout);
    assert!(text.stdout.ends_with("model 1 of run 1: 12 visits same, 0 different\n"));
}

#[test]
fn restarted_optimizers_several_passes_and_running_metrics_come_out_the_same() {
    let program = Program::new(BINARY);
    let more = "reset_optimizer_each_visit = true\ntrain_metrics = \"running\"";
    let experiment = shapes(100, 2, 1, 12, more);
    let text = fs::read_to_string(experiment.file()).expect("it was written");
    let text = text.replace("batch_size = [16]", "batch_size = [16]\npasses = [2]");
    let experiment = Experiment::new(&text);
    let _ = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    assert_same(&program, 2, 4);
}

#[test]
fn a_changed_record_is_named_and_nothing_else_differs() {
    let program = Program::new(BINARY);
    let experiment = shapes(80, 2, 2, 13, "");
    let _ = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    let catalog = rusqlite::Connection::open(program.state().join("catalog.sqlite"));
    let catalog = catalog.expect("open the catalog's file");
    let (visit, shard): (u64, u32) = catalog
        .query_row(
            "SELECT visit, shard FROM visits WHERE model = 2 AND version = 3 AND kind = 'train'
                 AND state = 'committed'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .expect("the visit is recorded");
    let tampered = "ab".repeat(32);
    catalog
        .execute("UPDATE visits SET digest = ?1 WHERE visit = ?2", (&tampered, visit))
        .expect("change a digest");

    let finished = program.run(&["replay", "1", "2", "--output", "json"]);
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let named = format!("visit {visit} (epoch 1, shard {shard}, train) differs first");
    assert!(finished.stderr.contains(&named), "{}", finished.stderr);
    assert!(finished.stderr.contains(&format!("expected {tampered}")), "{}", finished.stderr);
    let replayed: Value = serde_json::from_str(&finished.stdout).expect("JSON alone");
    assert_eq!((&replayed["same"], &replayed["different"]), (&7.into(), &1.into()));
    assert_eq!(replayed["first_difference"]["visit"], visit);
    assert_same(&program, 1, 8);
}

/// A run on one Parquet file; returns the experiment, whose folder has the file.
fn run_on_a_file(program: &Program) -> Experiment {
    let drawn = shapes(120, 2, 1, 14, "");
    let _ = program.json(&["fit", &drawn.argument(), "--output", "json"]);
    let network = workspace().join("examples/networks/shapes_linear.json");
    let experiment = Experiment::new(&format!(
        r#"
version = 1
epochs = 2
[data]
train = "rows.parquet"
input = "x"
shape = [16, 16, 1]
target = "y"
shards = 2
[search]
networks = ["{}"]
[[search.optimizer]]
name = "sgd"
"#,
        network.display()
    ));
    let to = experiment.folder().to_str().expect("a temporary folder's name is UTF-8");
    let exported = program.run(&["export", "shards", "1", "--to", to]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    let file = |line: usize| exported.stdout.lines().nth(line).expect("four files are listed");
    fs::copy(file(0), experiment.folder().join("rows.parquet")).expect("copy a file");
    fs::copy(file(2), experiment.folder().join("other.parquet")).expect("copy a file");
    let _ = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    experiment
}

#[test]
fn the_data_may_lie_elsewhere_but_must_be_the_same() {
    let program = Program::new(BINARY);
    let experiment = run_on_a_file(&program);
    let replay = |folder: Option<&Path>| {
        let folder = folder.map(|folder| folder.to_str().expect("it is UTF-8"));
        let mut arguments = vec!["replay", "2", "1"];
        arguments.extend(folder.iter().flat_map(|folder| ["--data", folder]));
        program.run(&arguments)
    };
    let there = replay(None);
    assert_eq!(there.code, Some(0), "{}", there.stderr);

    let elsewhere = tempfile::tempdir().expect("make a temporary folder");
    let file = experiment.folder().join("rows.parquet");
    fs::rename(&file, elsewhere.path().join("rows.parquet")).expect("move a file");
    assert_ne!(replay(None).code, Some(0), "the file is gone");
    let moved = replay(Some(elsewhere.path()));
    assert_eq!(moved.code, Some(0), "{}", moved.stderr);
    assert_eq!(moved.stdout, there.stdout);

    fs::rename(experiment.folder().join("other.parquet"), &file).expect("put another in its place");
    let other = replay(None);
    assert_eq!(other.code, Some(1), "{}", other.stderr);
    assert!(
        other.stderr.contains("the data differs first in shard 0: expected"),
        "{}",
        other.stderr
    );
    assert!(other.stdout.contains("0 visits same"), "nothing is trained: {}", other.stdout);
}

#[test]
fn models_in_bf16_learn_and_come_out_the_same() {
    let program = Program::new(BINARY);
    let experiment = shapes(150, 2, 2, 15, "");
    let text = fs::read_to_string(experiment.file()).expect("it was written");
    let text =
        text.replace("batch_size = [16]", "batch_size = [16]\nprecision = [\"f32\", \"bf16\"]");
    let experiment = Experiment::new(&text);
    let run = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    let mut models = run["models"].as_array().expect("models").clone();
    models.sort_by_key(|model| model["model"].as_u64());
    assert_eq!(models.len(), 12, "{run}");
    for model in [1, 2, 11, 12] {
        assert_same(&program, model, 8);
    }
    // A grid's precisions change fastest.
    for pair in models.chunks(2) {
        let of = |i: usize| &pair[i]["config"]["precision"];
        assert_eq!((of(0), of(1)), (&"f32".into(), &"bf16".into()));
        let loss = |i: usize| pair[i]["validation_loss"].as_f64().expect("a loss");
        let [exact, rounded] = [0, 1].map(loss);
        assert_ne!(exact, rounded, "operands were rounded");
        assert!((exact - rounded).abs() < 0.1 * exact, "{exact} in f32, {rounded} in bf16");
    }
}
