//! Data of all kinds at once: several inputs, tokens, hashed features that are never written out,
//! several targets; from Parquet to predictions, in one process and in a cluster.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeBinaryArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
};
use arrow::datatypes::{Field, Int32Type, Schema};
use arrowhop_catalog::Catalog;
use arrowhop_tests::{Cluster, Experiment, Program, digests, python, workspace};
use arrowhop_types::{Dtype, Encoding, RunId};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

/// Knuth's multiplier, MMIX: enough to make rows up.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    #[expect(clippy::cast_precision_loss, reason = "a thousand steps are enough")]
    fn fraction(&mut self) -> f64 {
        self.below(1000) as f64 / 1000.0
    }
}

fn write(path: &Path, columns: Vec<(Field, ArrayRef)>) {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), arrays).expect("columns fit");
    let file = File::create(path).expect("create a file");
    let mut writer = ArrowWriter::try_new(file, schema, None).expect("write parquet");
    writer.write(&batch).expect("write rows");
    writer.close().expect("finish the file");
}

fn column(name: &str, array: impl arrow::array::Array + 'static) -> (Field, ArrayRef) {
    (Field::new(name, array.data_type().clone(), true), Arc::new(array))
}

/// A mark in one of three columns of a picture, some words, a price and a city; `kind` follows from
/// the picture, `size` from the price and the words.
fn shop(path: &Path, rows: usize, seed: u64) {
    let mut draws = Draws(seed);
    let (mut pictures, mut words, mut prices, mut cities) = (vec![], vec![], vec![], vec![]);
    let (mut kinds, mut sizes) = (vec![], vec![]);
    for _ in 0..rows {
        let kind = usize::try_from(draws.below(3)).expect("small");
        let picture: Vec<u8> = (0..12).map(|i| if i % 3 == kind { 200 } else { 40 }).collect();
        let count = draws.below(5);
        let of_row: Vec<_> = (0..count).map(|_| i32::try_from(1 + draws.below(8)).ok()).collect();
        let (price, big) = (draws.fraction() * 4.0, of_row.contains(&Some(3)));
        pictures.push(picture);
        words.push(Some(of_row));
        prices.push(price);
        cities.push(format!("city {}", draws.below(20)));
        kinds.push(["cup", "jar", "pot"][kind].to_owned());
        sizes.push(f64::from(u8::from(price > 2.0)) + f64::from(u8::from(big)));
    }
    let pictures = FixedSizeBinaryArray::try_from_iter(pictures.iter()).expect("equal sizes");
    write(
        path,
        vec![
            column("picture", pictures),
            column("words", ListArray::from_iter_primitive::<Int32Type, _, _>(words)),
            column("price", Float64Array::from(prices)),
            column("city", StringArray::from(cities)),
            column("label", StringArray::from(kinds)),
            column("size", Float64Array::from(sizes)),
        ],
    );
}

fn layer(class: &str, name: &str, mut config: Value, from: &[&str]) -> Value {
    let calls: Vec<_> = from.iter().map(|from| json!([from, 0, 0, {}])).collect();
    config["name"] = json!(name);
    let nodes = if calls.is_empty() { json!([]) } else { json!([calls]) };
    json!({"class_name": class, "name": name, "config": config, "inbound_nodes": nodes})
}

/// Inputs out of the data's order, found by name.
fn shop_network() -> String {
    let input =
        |name, shape: Value| layer("InputLayer", name, json!({ "batch_input_shape": shape }), &[]);
    let relu = |units: u32| json!({"units": units, "activation": "relu"});
    json!({"class_name": "Functional", "config": {
        "name": "shop",
        "layers": [
            input("words", json!([null, 4])),
            input("facts", json!([null, 20])),
            input("picture", json!([null, 4, 3, 1])),
            layer("Embedding", "embed", json!({"input_dim": 9, "output_dim": 4}), &["words"]),
            layer("GlobalMaxPooling1D", "said", json!({}), &["embed"]),
            layer("Dense", "known", relu(8), &["facts"]),
            layer("Flatten", "seen", json!({}), &["picture"]),
            layer("Concatenate", "all", json!({"axis": -1}), &["said", "known", "seen"]),
            layer("Dense", "hidden", relu(24), &["all"]),
            layer("Dense", "big", json!({"units": 1}), &["hidden"]),
            layer("Dense", "kind", json!({"units": 3, "activation": "softmax"}), &["hidden"]),
        ],
        "input_layers": [["words", 0, 0], ["facts", 0, 0], ["picture", 0, 0]],
        "output_layers": [["kind", 0, 0], ["big", 0, 0]],
    }})
    .to_string()
}

const SHOP: &str = r#"
version = 1
name = "shop"
epochs = 12
order = "planned"
[data]
train = "train.parquet"
validation = "validation.parquet"
shards = 3
[[data.input]]
column = "picture"
shape = [4, 3, 1]
normalize = 255
[[data.input]]
column = "words"
tokens = true
padding = "post"
[[data.input]]
name = "facts"
columns = ["price", "city"]
bounds = [1.0, 2.0, 3.0]
hash_buckets = 16
[[data.target]]
name = "kind"
column = "label"
[[data.target]]
name = "big"
column = "size"
[search]
networks = ["shop.json"]
batch_size = [16]
[search.outputs.big]
loss = "mse"
loss_weight = 0.5
metrics = ["rmse"]
[[search.optimizer]]
name = "adam"
learning_rate = [0.01, 0.003]
"#;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is a number"))
}

#[test]
fn several_inputs_and_outputs_are_learned_scored_predicted_and_replayed() {
    let experiment = Experiment::new(SHOP);
    let folder = experiment.folder();
    shop(&folder.join("train.parquet"), 600, 1);
    shop(&folder.join("validation.parquet"), 120, 2);
    std::fs::write(folder.join("shop.json"), shop_network()).expect("write a network");
    let file = experiment.argument();

    let alone = Program::new(BINARY);
    let result = alone.json(&["fit", &file, "--output", "json"]);
    let best = &result["models"][0];
    assert!(number(&best["validation_kind_accuracy"]) > 0.95, "{best:#}");
    assert!(number(&best["validation_big_root_mean_squared_error"]) < 0.35, "{best:#}");
    let summed = number(&best["validation_kind_categorical_crossentropy"])
        + 0.5 * number(&best["validation_big_mean_squared_error"]);
    assert!((number(&best["validation_loss"]) - summed).abs() < 1e-6, "{best:#}");
    assert_eq!(result["data"]["inputs"], json!(["picture", "words", "facts"]));
    assert_eq!(result["data"]["targets"][0]["classes"], json!(["cup", "jar", "pot"]));

    let program = Program::new(BINARY);
    let cluster = Cluster::start(&program, 2);
    let fit = ["fit", &file, "--cluster", &cluster.uri, "--output", "json"];
    assert_eq!(digests(&program.json(&fit)), digests(&result), "a cluster makes the same bits");
    let replay = program.json(&["replay", "1", "1", "--output", "json"]);
    assert_eq!((&replay["different"], &replay["first_difference"]), (&json!(0), &Value::Null));

    let rows = folder.join("validation.parquet");
    let rows = rows.to_str().expect("a UTF-8 path");
    let score = alone.json(&["evaluate", "1", "--data", rows, "--output", "json"]);
    let expected = number(&best["validation_kind_accuracy"]);
    assert!((number(&score["kind_accuracy"]) - expected).abs() < 1e-9, "{score}");
    let predict = ["predict", "1", "--data", rows, "--top-k", "1", "--output", "json"];
    let predictions = alone.json(&predict)["predictions"].take();
    let predictions = predictions.as_array().expect("a list");
    assert_eq!(predictions.len(), 240, "two targets for each of 120 rows");
    assert_eq!(
        (&predictions[0]["target"], &predictions[1]["target"]),
        (&json!("kind"), &json!("big"))
    );

    let to = folder.join("shards");
    let to = to.to_str().expect("a UTF-8 path");
    let exported = alone.run(&["export", "shards", "1", "--to", to]);
    assert_eq!(exported.code, Some(0), "{}", exported.stderr);
    assert_eq!(std::fs::read_dir(to).expect("list").count(), 6);
}

/// A cluster that has trained on the shop; rows that it has not seen are in the file.
fn shop_cluster(program: &Program) -> (Cluster, Experiment, String) {
    let experiment = Experiment::new(&SHOP.replace("epochs = 12", "epochs = 2"));
    let folder = experiment.folder();
    shop(&folder.join("train.parquet"), 600, 1);
    shop(&folder.join("validation.parquet"), 120, 2);
    std::fs::write(folder.join("shop.json"), shop_network()).expect("write a network");
    let cluster = Cluster::start(program, 2);
    let fit = ["fit", &experiment.argument(), "--cluster", &cluster.uri, "--output", "json"];
    let fitted = program.json(&fit);
    assert_eq!(fitted["models"].as_array().map(Vec::len), Some(2), "{fitted:#}");
    let rows = folder.join("validation.parquet").to_str().expect("a UTF-8 path").to_owned();
    (cluster, experiment, rows)
}

#[test]
fn a_stock_client_streams_rows_in_and_reads_the_predictions_of_predict() {
    let Some(python) = python("blake3, numpy, pyarrow.flight") else { return };
    let program = Program::new(BINARY);
    let (cluster, experiment, rows) = shop_cluster(&program);
    let to = experiment.folder().join("predictions.parquet");
    let to = to.to_str().expect("a UTF-8 path");
    let written = program.run(&["predict", "1", "--data", &rows, "--to", to]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let script = workspace().join("tests/python/predict_rows.py");
    let arguments = [&cluster.uri, "1", &rows, to];
    let output = Command::new(python).arg(script).args(arguments).output().expect("start Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("the script prints JSON");
    // Three classes and one value for each of 120 rows.
    assert_eq!(seen["rows"], 480);
    for of in ["difference", "top"] {
        assert!(number(&seen[of]) < 1e-6, "{of}: {}", seen[of]);
    }
    for (name, kind, text) in [
        ("no_run", "ArrowKeyError", "predict: "),
        ("no_model", "ArrowInvalid", "model 77: there is none; run 1 has models 1 to 2"),
        ("no_column", "ArrowInvalid", "rows, column `price`: there is no such column"),
        ("wild", "ArrowInvalid", "rows, column `price`, row 77: "),
        ("texts", "ArrowInvalid", "rows, column `price`"),
        ("path", "ArrowInvalid", "descriptor.path: has 1 elements, not predict, a run and a model"),
    ] {
        let refusal = &seen["refusals"][name];
        assert_eq!(refusal["kind"], kind, "{name}: {refusal}");
        let found = refusal["text"].as_str().expect("an error has a text");
        assert!(found.contains(text), "{name}: {found}");
    }
    assert_eq!(seen["left"], true);
    cluster.stop();
}

#[test]
fn a_run_on_tables_that_a_stock_client_uploaded_is_the_run_on_their_files() {
    let Some(python) = python("blake3, numpy, pyarrow.flight") else { return };
    let experiment = Experiment::new(&SHOP.replace("epochs = 12", "epochs = 2"));
    let folder = experiment.folder();
    let file = |name: &str| folder.join(name).to_str().expect("a UTF-8 path").to_owned();
    let (train, validation) = (file("train.parquet"), file("validation.parquet"));
    shop(Path::new(&train), 600, 1);
    shop(Path::new(&validation), 120, 2);
    std::fs::write(folder.join("shop.json"), shop_network()).expect("write a network");
    let alone = Program::new(BINARY);
    let result = alone.json(&["fit", &experiment.argument(), "--output", "json"]);

    let program = Program::new(BINARY);
    let cluster = Cluster::start(&program, 2);
    let script = workspace().join("tests/python/upload_tables.py");
    let arguments = [&cluster.uri, &train, &validation];
    let output = Command::new(python).arg(script).args(arguments).output().expect("start Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("the script prints JSON");
    assert_eq!(seen["listed"], json!({ "train.v1": 600, "validation": 120 }));
    for (name, kind, text) in [
        ("again", "ArrowInvalid", "there is an upload validation already"),
        ("name", "ArrowInvalid", "upload ../escape: is not of 1 to 100 bytes"),
        ("compressed", "ArrowInvalid", "rows: are compressed; send them uncompressed"),
        ("dropped", "ArrowKeyError", "no data set upload/dropped here"),
    ] {
        let refusal = &seen["refusals"][name];
        assert_eq!(refusal["kind"], kind, "{name}: {refusal}");
        let found = refusal["text"].as_str().expect("an error has a text");
        assert!(found.contains(text), "{name}: {found}");
    }

    let text = SHOP.replace("epochs = 12", "epochs = 2");
    let text = text.replace("\"train.parquet\"", &format!("\"{}/train.v1\"", cluster.uri));
    let text = text.replace("\"validation.parquet\"", &format!("\"{}/validation\"", cluster.uri));
    let uploaded = Experiment::new(&text);
    std::fs::write(uploaded.folder().join("shop.json"), shop_network()).expect("write a network");
    let fit = ["fit", &uploaded.argument(), "--cluster", &cluster.uri, "--output", "json"];
    assert_eq!(digests(&program.json(&fit)), digests(&result));
    let replay = program.json(&["replay", "1", "1", "--output", "json"]);
    assert_eq!(replay["different"], 0);
    let absent = Experiment::new(&text.replace("train.v1", "absent"));
    std::fs::write(absent.folder().join("shop.json"), shop_network()).expect("write a network");
    let refused = program.run(&["fit", &absent.argument()]);
    assert_eq!(refused.code, Some(5), "{}", refused.stderr);
    assert!(refused.stderr.contains("no data set upload/absent here"), "{}", refused.stderr);
    cluster.stop();
}

#[test]
fn what_does_not_go_together_is_said_before_anything_is_trained() {
    let experiment = Experiment::new(&SHOP.replace("[search.outputs.big]", "[search.outputs.bog]"));
    let folder = experiment.folder();
    shop(&folder.join("train.parquet"), 60, 1);
    shop(&folder.join("validation.parquet"), 10, 2);
    let small = shop_network().replace("\"input_dim\":9", "\"input_dim\":5");
    std::fs::write(folder.join("shop.json"), small).expect("write a network");
    let refused = Program::new(BINARY).run(&["fit", &experiment.argument()]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    for part in [
        "search.outputs.bog: is neither an output nor a target; there are kind, big, kind, big",
        "shop: input words: the data has tokens up to 8, but the Embedding \"embed\" has 0 to 4; \
         give it an input_dim of at least 9",
    ] {
        assert!(refused.stderr.contains(part), "{part} is missing from:\n{}", refused.stderr);
    }

    let text = SHOP.replace("tokens = true\n", "").replace("name = \"facts\"\n", "shape = [3]\n");
    let refused = Program::new(BINARY).run(&["fit", &Experiment::new(&text).argument()]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    for part in [
        "data.input[1].padding: goes with tokens",
        "data.input[2].shape: goes with a single column",
    ] {
        assert!(refused.stderr.contains(part), "{part} is missing from:\n{}", refused.stderr);
    }
}

/// A table of the shape of Criteo's: 13 numbers with gaps and 26 categories of skewed frequencies,
/// whose first ones tell whether there was a click.
fn clicks(path: &Path, rows: usize, seed: u64) {
    let mut draws = Draws(seed);
    let mut numbers: Vec<Vec<Option<f64>>> = vec![Vec::new(); 13];
    let mut categories: Vec<Vec<Option<String>>> = vec![Vec::new(); 26];
    let mut clicks = Vec::new();
    for _ in 0..rows {
        let mut score = 0.0;
        for (i, column) in numbers.iter_mut().enumerate() {
            let value = (draws.fraction() * 8.0).exp();
            score += if i == 0 && value > 60.0 { 1.0 } else { 0.0 };
            column.push((draws.below(5) > 0).then_some(value));
        }
        for (i, column) in categories.iter_mut().enumerate() {
            let skewed = draws.below(40).min(draws.below(40)).min(draws.below(40));
            score += if i == 0 && skewed.is_multiple_of(2) { 1.0 } else { 0.0 };
            column.push((draws.below(10) > 0).then(|| format!("{skewed:08x}")));
        }
        clicks.push(i64::from(score > 1.0));
    }
    let mut columns = vec![column("click", Int64Array::from(clicks))];
    for (i, values) in numbers.into_iter().enumerate() {
        columns.push(column(&format!("i{}", i + 1), Float64Array::from(values)));
    }
    for (i, values) in categories.into_iter().enumerate() {
        columns.push(column(&format!("c{}", i + 1), StringArray::from(values)));
    }
    write(path, columns);
}

#[test]
fn hashed_features_are_kept_and_trained_on_as_39_numbers_a_row() {
    let experiment = Experiment::new(
        r#"
version = 1
epochs = 3
[data]
train = "clicks.parquet"
validation_fraction = 0.2
bounds = { base = 1.5, offset = -0.51, count = 49 }
hash_buckets = 256
target = "click"
shards = 2
[search]
networks = ["clicks.json"]
batch_size = [64]
metrics = ["auc"]
[[search.optimizer]]
name = "adam"
learning_rate = 0.003
"#,
    );
    let folder = experiment.folder();
    clicks(&folder.join("clicks.parquet"), 2_000, 3);
    let network = json!({"class_name": "Sequential", "config": {"name": "clicks", "layers": [
        {"class_name": "Dense", "config": {"name": "a", "units": 32, "activation": "relu",
            "batch_input_shape": [null, 7306]}},
        {"class_name": "Dense", "config": {"name": "b", "units": 2, "activation": "softmax"}},
    ]}});
    std::fs::write(folder.join("clicks.json"), network.to_string()).expect("write a network");
    let program = Program::new(BINARY);
    let result = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    assert!(number(&result["models"][0]["validation_auc"]) > 0.8, "{result:#}");
    let catalog = Catalog::open_read_only(program.state()).expect("open the catalog");
    let data = catalog.run(RunId(1)).expect("the run is recorded").spec.data;
    assert_eq!(data.inputs[0].encoding, Encoding::OneHot { width: 7306 });
    assert_eq!((data.inputs[0].dtype, data.inputs[0].bytes()), (Dtype::I32, 39 * 4));
}
