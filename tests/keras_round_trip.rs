//! Real Keras on the other side: what it saves is read, and what is exported it reads, to the bit;
//! and both predict the same. `tests/python/keras_round_trip.py` is its half.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrowhop_tests::{Experiment, Program, python, workspace};
use arrowhop_weights::{ArraySpec, Format, Network, encode, read, read_by_name};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");
/// What the script needs.
const MODULES: &str = "jax, keras, pyarrow";
const MODELS: [&str; 4] = ["cnn", "nested", "text", "shared"];

/// Runs a part of the script; gives what it prints.
fn keras(python: &Path, verb: &str, path: &Path) -> String {
    let script = workspace().join("tests/python/keras_round_trip.py");
    let output = Command::new(python)
        .arg(script)
        .arg(verb)
        .arg(path)
        .env("KERAS_BACKEND", "jax")
        .env("JAX_PLATFORMS", "cpu")
        .output()
        .expect("start Python");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{verb}: {complaint}");
    String::from_utf8(output.stdout).expect("the script prints UTF-8")
}

/// A model that Keras saved.
struct Saved {
    folder: PathBuf,
    keras_json: String,
    arrays: Vec<ArraySpec>,
    weights: Vec<Vec<f32>>,
}

impl Saved {
    fn read(folder: PathBuf) -> Self {
        let text = |name: &str| fs::read_to_string(folder.join(name)).expect("Keras wrote it");
        let listed: Value = serde_json::from_str(&text("arrays.json")).expect("it is JSON");
        let array = |array: &Value| ArraySpec {
            name: array["name"].as_str().expect("a name").to_owned(),
            shape: serde_json::from_value(array["shape"].clone()).expect("a shape"),
        };
        let arrays: Vec<_> = listed.as_array().expect("a list").iter().map(array).collect();
        let raw = fs::read(folder.join("weights.f32")).expect("Keras wrote it");
        let mut numbers = raw.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        let of = |array: &ArraySpec| numbers.by_ref().take(array.elements()).collect();
        let weights = arrays.iter().map(of).collect();
        let keras_json = text("architecture.json");
        Self { folder, keras_json, arrays, weights }
    }

    fn network(&self) -> Network<'_> {
        Network { keras_json: &self.keras_json, arrays: &self.arrays }
    }
}

#[test]
fn weights_of_every_kind_of_layer_go_to_keras_and_come_from_it() {
    let Some(python) = python(MODULES) else { return };
    let folder = tempfile::tempdir().expect("make a temporary folder");
    keras(&python, "save", folder.path());
    for name in MODELS {
        let saved = Saved::read(folder.path().join(name));
        for file in ["weights.f32", "weights.npz", "new.weights.h5", "model.keras", "model.h5"] {
            let weights = read(&saved.folder.join(file), &saved.network());
            let weights = weights.unwrap_or_else(|problems| panic!("{name}/{file}: {problems}"));
            assert!(weights == saved.weights, "{name}/{file}: other numbers");
        }
        let exported = saved.folder.join("exported");
        fs::create_dir(&exported).expect("make a folder");
        for format in Format::ALL {
            let file = exported.join(format.file_name());
            let bytes = encode(format, &saved.network(), &saved.weights, "a test");
            fs::write(&file, bytes.expect("encode")).expect("write a file");
            let weights = read(&file, &saved.network());
            assert!(weights == Ok(saved.weights.clone()), "{name}: {}", file.display());
        }
    }
    let seen = keras(&python, "load", folder.path());
    assert_eq!(seen.lines().count(), MODELS.len() * Format::ALL.len(), "{seen}");
    for name in ["cnn", "text", "shared"] {
        assert_by_name(&Saved::read(folder.path().join(name)));
    }
}

/// Each file that has names gives every layer by its name.
fn assert_by_name(saved: &Saved) {
    for file in ["exported/weights.npz", "new.weights.h5", "model.keras", "model.h5"] {
        let transfer = read_by_name(&saved.folder.join(file), &saved.network());
        let transfer = transfer.unwrap_or_else(|problems| panic!("{file}: {problems}"));
        assert_eq!(transfer.fresh, [], "{}: {file}", saved.folder.display());
        let arrays: Option<Vec<_>> = transfer.arrays.into_iter().collect();
        assert!(arrays.as_ref() == Some(&saved.weights), "{file}");
    }
}

/// An experiment on the script's rows with these networks, beside what Keras trained on them.
fn on_pictures(python: &Path, networks: &str) -> (Experiment, Value) {
    let experiment = Experiment::new(&format!(
        r#"
version = 1
epochs = 3
[data]
train = "rows.parquet"
input = "picture"
shape = [6, 6, 1]
target = "label"
shards = 2
[search]
networks = [{networks}]
[[search.optimizer]]
name = "adam"
learning_rate = 0.01
"#
    ));
    keras(python, "rows", &experiment.folder().join("rows.parquet"));
    let trained = keras(python, "train", experiment.folder());
    (experiment, serde_json::from_str(&trained).expect("the script prints JSON"))
}

/// What a model of run 1 says of each row: the classes' probabilities.
fn predictions(program: &Program, experiment: &Experiment, model: usize) -> Vec<Vec<f64>> {
    let rows = experiment.folder().join("rows.parquet").display().to_string();
    let model = model.to_string();
    let predict = ["predict", "1", "--model", &model, "--data", &rows, "--output", "json"];
    let predicted = program.json(&predict)["predictions"].take();
    let mut rows = Vec::new();
    for entry in predicted.as_array().expect("predictions are listed") {
        let row = usize::try_from(entry["row"].as_u64().expect("a row")).expect("a small number");
        let class: usize = entry["class"].as_str().and_then(|c| c.parse().ok()).expect("a class");
        rows.resize(rows.len().max(row + 1), vec![f64::NAN; 2]);
        rows[row][class] = entry["probability"].as_f64().expect("a number");
    }
    rows
}

/// Asserts that Keras's predictions are ours, within 1e-5.
fn assert_same(what: &str, ours: &[Vec<f64>], keras: &Value) {
    let keras = keras.as_array().unwrap_or_else(|| panic!("{what}: no predictions"));
    assert_eq!(ours.len(), keras.len(), "{what}");
    for (row, (ours, keras)) in ours.iter().zip(keras).enumerate() {
        for (class, ours) in ours.iter().enumerate() {
            let keras = keras[class].as_f64().expect("a number");
            assert!((ours - keras).abs() <= 1e-5, "{what}: row {row}: {ours}, not {keras}");
        }
    }
}

#[test]
fn a_model_trained_here_predicts_the_same_in_keras() {
    let Some(python) = python(MODULES) else { return };
    let (experiment, _) = on_pictures(&python, r#""pictures.json""#);
    let program = Program::new(BINARY);
    let _ = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    let out = experiment.folder().join("out");
    let to = out.display().to_string();
    let formats = "safetensors,npz,f32,h5,keras";
    let export = ["export", "weights", "1", "--to", &to, "--format", formats];
    let exported = program.run(&export);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    let seen: Value = serde_json::from_str(&keras(&python, "predict", &out)).expect("JSON");
    let ours = predictions(&program, &experiment, 1);
    for format in ["safetensors", "npz", "raw", "h5", "keras"] {
        assert_same(format, &ours, &seen[format]);
    }
}

#[test]
fn a_model_trained_by_keras_predicts_the_same_here() {
    let Some(python) = python(MODULES) else { return };
    let files = ["pictures.weights.h5", "pictures.keras", "pictures_old.h5", "pictures.npz"];
    let mut networks: Vec<_> = files.into_iter().map(|file| (file, "pictures.json")).collect();
    networks.extend([("pictures.keras", "pictures.keras"), ("pictures_old.h5", "pictures_old.h5")]);
    let network = |(i, (weights, file)): (usize, &(&str, &str))| {
        format!(r#"{{ name = "n{i}", file = "{file}", weights = "{weights}", freeze = ["*"] }}"#)
    };
    let list: Vec<_> = networks.iter().enumerate().map(network).collect();
    let (experiment, trained) = on_pictures(&python, &list.join(", "));
    let program = Program::new(BINARY);
    let fitted = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    for (i, (weights, file)) in networks.iter().enumerate() {
        let what = format!("{weights} for {file}");
        assert_same(&what, &predictions(&program, &experiment, i + 1), &trained["predictions"]);
        let models = fitted["models"].as_array().expect("models are listed");
        let model = models.iter().find(|model| model["model"] == i + 1).expect("it is listed");
        for (ours, theirs) in [("train_loss", "loss"), ("train_accuracy", "accuracy")] {
            let (ours, theirs) = (model[ours].as_f64(), trained[theirs].as_f64());
            let difference = (ours.expect("a number") - theirs.expect("a number")).abs();
            assert!(difference <= 1e-5, "{what}: {ours:?}, not {theirs:?}");
        }
    }
}
