//! Models exported by Keras itself: shapes, counts, weight order, costs. The files are not part of
//! the repository; without them these tests say so and pass.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests panic, and say when they skip"
)]

use std::path::{Path, PathBuf};

use arrowhop_network::NetworkSpec;
use serde_json::{Value, json};

fn fixtures(name: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures").join(name);
    if !folder.exists() {
        println!("skipped: {} is not there", folder.display());
        return None;
    }
    Some(folder)
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&read(path)).unwrap()
}

fn parse(path: &Path) -> NetworkSpec {
    let spec = NetworkSpec::parse(&read(path));
    spec.unwrap_or_else(|problems| panic!("{}: {problems}", path.display()))
}

/// The folder's models, in its index's order.
fn entries(folder: &Path) -> Vec<(String, Value)> {
    let index = read_json(&folder.join("INDEX.json"));
    let entries = index.as_array().unwrap().iter();
    entries.map(|entry| (entry["file"].as_str().unwrap().to_owned(), entry.clone())).collect()
}

/// As Keras's `model.output_shape` is shown.
fn shown_outputs(spec: &NetworkSpec) -> String {
    let sizes = |shape: &[usize]| {
        let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
        format!("(None, {})", sizes.join(", "))
    };
    let shapes: Vec<String> = spec.outputs().iter().map(|output| sizes(&output.shape)).collect();
    if shapes.len() == 1 { shapes[0].clone() } else { format!("[{}]", shapes.join(", ")) }
}

#[test]
fn keras_2_models_have_keras_counts_shapes_and_costs() {
    let Some(folder) = fixtures("keras2_models") else { return };
    let entries = entries(&folder);
    for (file, entry) in &entries {
        let spec = parse(&folder.join(file));
        assert_eq!(json!(spec.parameters()), entry["params"], "{file}");
        assert_eq!(json!(spec.trainable_parameters()), entry["trainable"], "{file}");
        // Keras counts a functional model's InputLayers, too.
        let inputs = if entry["class_name"] == "Functional" { spec.inputs().len() } else { 0 };
        assert_eq!(json!(spec.layers().len() + inputs), entry["layers"], "{file}");
        assert_eq!(json!(shown_outputs(&spec)), entry["output_shape"], "{file}");
        if let Some(expected) = entry["forward_mmacs_per_example"].as_f64() {
            let mmacs = format!("{:.1}", spec.macs() as f64 / 1e6);
            assert_eq!(mmacs, format!("{expected:.1}"), "{file}");
        }
    }
    assert_eq!(entries.len(), 18);
}

#[test]
fn keras_2_models_have_keras_weight_order() {
    let Some(folder) = fixtures("keras2_models") else { return };
    for (file, entry) in entries(&folder) {
        let weights = parse(&folder.join(&file)).weights();
        assert_eq!(json!(weights.len()), entry["n_weight_arrays"], "{file}");
        let found =
            weights.iter().map(|weight| json!([format!("{}:0", weight.name), weight.shape]));
        let order = read_json(&folder.join("weights_order").join(&file));
        assert_eq!(Value::Array(found.collect()), order, "{file}");
    }
}

#[test]
fn penalties_are_read() {
    let Some(folder) = fixtures("keras2_models") else { return };
    for weight in parse(&folder.join("criteo_confA.json")).weights() {
        let penalty = weight.regularizer.unwrap_or_else(|| panic!("{} has none", weight.name));
        assert!(penalty.l1 == 0.0 && (penalty.l2 - 1e-4).abs() < 1e-9, "{}", weight.name);
    }
}

#[test]
fn madlib_s_texts_have_keras_counts_and_shapes() {
    let Some(folder) = fixtures("madlib_arch") else { return };
    let entries = entries(&folder);
    for (file, entry) in &entries {
        let spec = parse(&folder.join(file));
        assert_eq!(json!(spec.parameters()), entry["params"], "{file}");
        let shapes: Vec<_> = spec.weights().into_iter().map(|weight| weight.shape).collect();
        assert_eq!(json!(shapes), entry["weights"], "{file}");
    }
    assert_eq!(entries.len(), 20);
}

/// Numbers by Keras 3.15: inputs, output shapes, parameters, those trained, weight arrays, layers.
#[test]
fn keras_3_models_have_keras_counts_and_shapes() {
    let Some(folder) = fixtures("keras3_models") else { return };
    let table = [
        ("conv1d", 1, "(None, 3)", [387, 387, 4, 4]),
        ("iris_mlp", 1, "(None, 3)", [83, 83, 4, 2]),
        ("lstm", 1, "(None, 2)", [39_298, 39_298, 12, 4]),
        ("mixed_layers", 1, "(None, 10)", [5_642, 5_610, 13, 17]),
        ("multi_io", 2, "[(None, 3), (None, 3)]", [196, 196, 8, 5]),
        ("transformer", 1, "(None, 2)", [36_354, 36_354, 13, 6]),
    ];
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), table.len());
    for (name, inputs, outputs, counts) in table {
        let spec = parse(&folder.join(format!("{name}.json")));
        assert_eq!((spec.inputs().len(), shown_outputs(&spec).as_str()), (inputs, outputs));
        let arrays = (spec.weights().len(), spec.layers().len());
        let found = [
            spec.parameters(),
            spec.trainable_parameters(),
            u64::try_from(arrays.0).unwrap(),
            u64::try_from(arrays.1).unwrap(),
        ];
        assert_eq!(found, counts, "{name}");
    }
}
