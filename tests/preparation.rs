//! What is done to rows before networks see them, from the experiment to predictions: missing labels as a
//! class, padded classes, rows set aside for a test, packed tables.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use arrowhop_source::postgres::{Access, Request, Rows, Server, read};
use arrowhop_tests::{Experiment, Postgres, Program};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

fn write(path: &Path, batch: &RecordBatch) {
    let file = File::create(path).expect("create a file");
    let mut writer = ArrowWriter::try_new(file, batch.schema(), None).expect("write parquet");
    writer.write(batch).expect("write rows");
    writer.close().expect("finish the file");
}

/// Points on a line in three parts; of the last nobody said what they are.
fn points(path: &Path, rows: u32) {
    let x = Float64Array::from_iter_values((0..rows).map(|i| f64::from(i * 7 % rows)));
    let part = |i: u32| [Some("low"), Some("middle"), None][(i * 7 % rows * 3 / rows) as usize];
    let labels: StringArray = (0..rows).map(part).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![("x", Arc::new(x)), ("label", Arc::new(labels))];
    let fields = columns.iter().map(|(name, of)| Field::new(*name, of.data_type().clone(), true));
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let arrays = columns.into_iter().map(|(_, array)| array).collect();
    write(path, &RecordBatch::try_new(schema, arrays).expect("columns fit"));
}

fn network(inputs: usize, classes: usize) -> String {
    let layers = json!([
        {"class_name": "Dense", "config": {
            "name": "hidden", "units": 16, "activation": "relu",
            "batch_input_shape": [null, inputs]}},
        {"class_name": "Dense", "config": {
            "name": "kind", "units": classes, "activation": "softmax"}},
    ]);
    json!({"class_name": "Sequential", "config": {"name": "net", "layers": layers}}).to_string()
}

fn experiment(data: &str, inputs: usize, classes: usize) -> Experiment {
    let experiment = Experiment::new(&format!(
        r#"
version = 1
seed = 5
epochs = 15
[data]
{data}
shards = 2
[search]
networks = ["net.json"]
batch_size = [8]
[[search.optimizer]]
name = "adam"
learning_rate = 0.03
"#
    ));
    let file = experiment.folder().join("net.json");
    std::fs::write(file, network(inputs, classes)).expect("write a network");
    experiment
}

#[test]
fn missing_labels_padding_and_test_rows_go_from_the_experiment_to_predictions() {
    let data = "train = 'train.parquet'\ninputs = ['x']\nscale = 'min-max'\ntarget = 'label'\n\
                num_classes = 5\nnull_class = true\nvalidation_fraction = 0.2\n\
                test_fraction = 0.25";
    let three = experiment(data, 1, 3);
    points(&three.folder().join("train.parquet"), 240);
    let program = Program::new(BINARY);
    let refused = program.run(&["fit", &three.argument()]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    let text = "the network has 3 outputs, but the data has 5 classes, 2 of them padding";
    assert!(refused.stderr.contains(text), "{}", refused.stderr);

    let five = experiment(data, 1, 5);
    let train = five.folder().join("train.parquet");
    points(&train, 240);
    let result = program.json(&["fit", &five.argument(), "--output", "json"]);
    let rows = ["train_rows", "validation_rows", "test_rows"].map(|key| &result["data"][key]);
    assert_eq!(rows, [&json!(132), &json!(48), &json!(60)]);
    let classes = json!([null, "low", "middle", null, null]);
    assert_eq!(result["data"]["targets"][0]["classes"], classes);
    let run = result["run"].to_string();

    let score = program.json(&["evaluate", &run, "--test", "--output", "json"]);
    assert_eq!(score["rows"], 60);
    let accuracy = score["accuracy"].as_f64().expect("a number");
    assert!(accuracy > 0.7, "{accuracy}");
    // Classes by name where there is one; the class of missing values and padding have none.
    let file = train.to_str().expect("UTF-8");
    let predicted = program.json(&["predict", &run, "--data", file, "--output", "json"]);
    let entries = predicted["predictions"].as_array().expect("predictions");
    assert_eq!(entries.len(), 240 * 5);
    let named = |name: &Value| entries.iter().filter(|entry| &entry["class"] == name).count();
    assert_eq!([json!("low"), json!("middle"), json!(null)].map(|n| named(&n)), [240, 240, 720]);
    let to = five.folder().join("predictions.parquet");
    let to = to.to_str().expect("UTF-8");
    let written = program.run(&["predict", &run, "--data", file, "--to", to]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(to).expect("open it"));
    let mut batches = reader.expect("read parquet").build().expect("read parquet");
    let mut nulls = 0;
    while let Some(batch) = batches.next().transpose().expect("read rows") {
        nulls += batch.column_by_name("class").expect("classes").as_string::<i32>().null_count();
    }
    assert_eq!(nulls, 720);

    // Whoever changed the rows that were set aside is told.
    points(&train, 243);
    let refused = program.run(&["evaluate", &run, "--test"]);
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("test rows: there were 60 rows with digest"));
}

/// As `training_preprocessor_dl` makes it: two examples a buffer, divided by 4.
const PACKED: &str = "
    CREATE FUNCTION f32_bytes(REAL) RETURNS BYTEA LANGUAGE sql IMMUTABLE AS $$
        SELECT substring(b FROM 4) || substring(b FROM 3 FOR 1) || substring(b FROM 2 FOR 1)
            || substring(b FOR 1) FROM (SELECT float4send($1) AS b) AS s $$;
    CREATE TABLE points AS
        SELECT i, ARRAY[i % 4, 3 - i % 4]::REAL[] AS x, (ARRAY['low', 'high'])[1 + i % 4 / 2] AS y
        FROM generate_series(0, 79) AS i;
    CREATE TABLE packed AS
        SELECT string_agg(f32_bytes(x[1] * 0.25::REAL) || f32_bytes(x[2] * 0.25::REAL),
                ''::BYTEA ORDER BY i) AS x, ARRAY[2, 2] AS x_shape,
            string_agg(CASE y WHEN 'high' THEN '\\x01000000'::BYTEA ELSE '\\x00000100' END,
                ''::BYTEA ORDER BY i) AS y, ARRAY[2, 2] AS y_shape, i / 2 AS buffer_id
        FROM points GROUP BY i / 2;
    CREATE TABLE packed_summary AS
        SELECT ARRAY['x'] AS independent_varname, ARRAY['y'] AS dependent_varname,
            ARRAY['high', 'low'] AS y_class_values, 4.0 AS normalizing_const;
";

#[test]
fn packed_tables_are_trained_on_and_plain_rows_predicted_alike() {
    let Some(postgres) = Postgres::start(&[], &[]) else { return };
    let database = postgres.database("packing", &[]);
    postgres.sql(&database, PACKED);
    let connection = postgres.connection(&database);
    let data = format!(
        "server = '{connection}'\ntable = 'packed'\npacked = true\ninput = 'x'\ntarget = 'y'\n\
         test_fraction = 0.1"
    );
    let experiment = experiment(&data, 2, 2);
    let program = Program::new(BINARY);
    let result = program.json(&["fit", &experiment.argument(), "--output", "json"]);
    assert_eq!([&result["data"]["train_rows"], &result["data"]["test_rows"]], [72, 8]);
    assert_eq!(result["data"]["targets"][0]["classes"], json!(["high", "low"]));
    let run = result["run"].to_string();
    let tested = program.json(&["evaluate", &run, "--test", "--output", "json"]);
    assert_eq!(tested["rows"], 8);

    let server = Server::parse(&connection, |_| None).expect("a connection string");
    let export = |table: &str| {
        let request = Request { access: Access::Copy, ..Request::of(Rows::Table(table.into())) };
        let reading = read(&server, &request).expect("read the table");
        let path = experiment.folder().join(format!("{table}.parquet"));
        write(&path, &reading.batches[0]);
        path.to_str().expect("UTF-8").to_owned()
    };
    let files = ["points", "packed", "packed_summary"].map(export);
    let score =
        |more: &[&str]| program.json(&[&["evaluate", &run, "--output", "json"], more].concat());
    let plain = score(&["--data", &files[0]]);
    assert_eq!(plain["rows"], 80);
    assert_eq!(plain["accuracy"], 1.0, "{plain}");
    let packed = score(&["--data", &files[1], "--packed"]);
    assert_eq!((&packed["rows"], &packed["accuracy"]), (&json!(80), &json!(1.0)), "{packed}");
}
