//! Real Keras on the other side: what it saves is read, and what is exported it reads, to the bit;
//! and both predict the same. `tests/python/keras_round_trip.py` is its half.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrowhop_tests::{python, workspace};
use arrowhop_weights::{ArraySpec, Format, Network, encode, read, read_by_name};
use serde_json::Value;

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
