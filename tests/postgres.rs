//! Data that stays in PostgreSQL: an experiment on a table trains the same models, to the bit, as one
//! on the same rows in a Parquet file, whichever way the table is read; and what stands against that
//! is said with what to do about it.

use std::fs::File;
use std::path::Path;

use arrowhop_source::postgres::{Access, Request, Rows, Server, read};
use arrowhop_tests::{Experiment, Finished, Postgres, Program, workspace};
use parquet::arrow::ArrowWriter;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");

/// Pictures of 16×16 in one of six patterns, and which.
const PICTURES: &str = "
    CREATE TABLE pictures AS
        SELECT i AS id, i % 6 AS label,
            (SELECT array_agg(((k * (1 + i % 6) + i) % 17 / 16.0)::real ORDER BY k)
                FROM generate_series(1, 256) k) AS x
        FROM generate_series(1, 480) i;
    CREATE VIEW later AS SELECT * FROM pictures WHERE id > 240 ORDER BY id;
    CREATE TABLE held_back AS SELECT * FROM pictures WHERE id % 5 = 1 ORDER BY id;
    CREATE TABLE secret AS TABLE pictures; ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
";

fn experiment(data: &str) -> Experiment {
    let networks = workspace().join("examples/networks");
    Experiment::new(&format!(
        r#"
version = 1
seed = 3
order = "planned"
epochs = 2
[data]
{data}
input = "x"
shape = [16, 16, 1]
target = "label"
shards = 3
[search]
networks = ["{}/shapes_mlp.json"]
batch_size = [16]
[[search.optimizer]]
name = "adam"
learning_rate = [0.001, 0.01]
"#,
        networks.display()
    ))
}

fn fit(program: &Program, experiment: &Experiment, more: &[&str]) -> Finished {
    let file = experiment.argument();
    program.run(&[&["fit", &file, "--segments", "2", "--output", "json"], more].concat())
}

/// What a run trained on and what came out, without times.
fn outcome(finished: &Finished) -> (Value, Vec<Value>) {
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    let mut result: Value = serde_json::from_str(&finished.stdout).expect("one JSON object");
    let sources = result["data"].as_object_mut().and_then(|data| data.remove("sources"));
    assert!(sources.is_some(), "a run records where its rows came from");
    let models = result["models"].as_array().expect("models");
    assert_eq!(models.len(), 2);
    // The digests of the last weights say all.
    let digests = models.iter().map(|model| model["digest"].clone()).collect();
    (result["data"].clone(), digests)
}

/// Writes a table as Parquet.
fn export(server: &Server, table: &str, path: &Path) {
    let request = Request { access: Access::Copy, ..Request::of(Rows::Table(table.into())) };
    let reading = read(server, &request).expect("read the table");
    let file = File::create(path).expect("create a file");
    let mut writer = ArrowWriter::try_new(file, reading.schema, None).expect("write parquet");
    reading.batches.iter().for_each(|batch| writer.write(batch).expect("write rows"));
    writer.close().expect("finish the file");
}

#[test]
fn a_table_trains_the_same_models_as_the_same_rows_in_a_file() {
    let Some(postgres) = Postgres::start(&[], &[]) else { return };
    let database = postgres.database("shop", &[]);
    postgres.sql(&database, PICTURES);
    let connection = postgres.connection(&database);
    let server = Server::parse(&connection, |_| None).expect("a connection string");
    let program = Program::new(BINARY);

    let files = experiment("train = 'train.parquet'\nvalidation = 'validation.parquet'");
    export(&server, "pictures", &files.folder().join("train.parquet"));
    export(&server, "held_back", &files.folder().join("validation.parquet"));
    let wanted = outcome(&fit(&program, &files, &[]));

    let tables = experiment(&format!(
        "server = '{connection}'\ntable = 'Pictures'\nvalidation_table = 'public.held_back'"
    ));
    for (access, said) in [("copy", "by COPY over"), ("direct", "pages directly from its files")] {
        let finished = fit(&program, &tables, &["--access", access]);
        assert_eq!(outcome(&finished), wanted, "{access}");
        for table in ["read public.pictures: 480 rows, ", "read public.held_back: 96 rows, "] {
            assert!(finished.stderr.contains(table), "{}", finished.stderr);
        }
        assert!(finished.stderr.contains(said), "{}", finished.stderr);
    }

    let query = experiment(&format!(
        "server = '{connection}'\nquery = 'SELECT * FROM later'\nvalidation_fraction = 0.2"
    ));
    let (data, _) = outcome(&fit(&program, &query, &[]));
    assert_eq!((&data["train_rows"], &data["validation_rows"]), (&192.into(), &48.into()));

    // The run can be told again: its experiment is recorded with where its rows are.
    let replayed = program.run(&["replay", "2", "1"]);
    assert_eq!(replayed.code, Some(0), "{}{}", replayed.stdout, replayed.stderr);
}

#[test]
fn a_table_is_read_once_until_a_transaction_ends() {
    let Some(postgres) = Postgres::start(&[], &["autovacuum = off"]) else { return };
    let database = postgres.database("shop", &[]);
    postgres.sql(&database, PICTURES);
    let connection = postgres.connection(&database);
    let program = Program::new(BINARY);
    let table = experiment(&format!(
        "server = '{connection}'\ntable = 'pictures'\nvalidation_fraction = 0.2"
    ));
    let said = |text: &str| {
        let finished = fit(&program, &table, &[]);
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        assert!(finished.stderr.contains(text), "{}", finished.stderr);
        serde_json::from_str::<Value>(&finished.stdout).expect("JSON")["data"]["sources"][0].take()
    };
    let first = said("read public.pictures: 480 rows");
    assert_eq!((&first["name"], &first["rows"]), (&"table pictures".into(), &480.into()));
    let version = first["version"].as_str().expect("a version");
    assert!(version.contains("snapshot") && version.contains("system"), "{version}");
    assert_eq!(said("its sources are what they were"), first);
    postgres.sql(&database, "DELETE FROM pictures WHERE id > 450");
    assert_eq!(said("read public.pictures: 450 rows")["rows"], 450);

    // Nobody can tell what a view or a query gives next time.
    let view = experiment(&format!("server = '{connection}'\ntable = 'later'"));
    for _ in 0..2 {
        let finished = fit(&program, &view, &[]);
        assert!(finished.stderr.contains("read public.later: "), "{}", finished.stderr);
    }
}

#[test]
fn what_is_wrong_is_said_with_what_to_do() {
    let Some(postgres) = Postgres::start(&[], &[]) else { return };
    let database = postgres.database("shop", &[]);
    postgres.sql(&database, PICTURES);
    let connection = postgres.connection(&database);
    let program = Program::new(BINARY);
    let error = |data: &str, more: &[&str]| {
        let finished = fit(&program, &experiment(data), more);
        assert_eq!(finished.code, Some(2), "{}", finished.stderr);
        finished.stderr
    };
    let found =
        error(&format!("server = '{connection} password=x'\ntable = 't'\ntrain = 't'"), &[]);
    assert!(
        found.contains("data.server: holds a password, which would be kept with the run"),
        "{found}"
    );
    let found = error(&format!("server = '{connection}'\ntable = 'a'\nquery = 'SELECT 1'"), &[]);
    assert!(
        found.contains("data.train: is one of several: give one of train, table, query"),
        "{found}"
    );
    let found = error(&format!("server = '{connection}'\ntable = 'gone'"), &[]);
    assert!(found.contains("table \"gone\": does not exist"), "{found}");
    let found =
        error(&format!("server = '{connection}'\ntable = 'secret'"), &["--access", "direct"]);
    assert!(found.contains("it has row-level security, which only queries honour"), "{found}");
    // The environment is looked at where a database is read, and only there.
    for (data, said) in
        [("table = 't'", "PGPORT: is no port"), ("train = 'gone.parquet'", "does not exist")]
    {
        let experiment = experiment(data);
        let file = experiment.argument();
        let fit = program.command(&["fit", &file]).env("PGPORT", "x").output();
        let stderr = String::from_utf8(fit.expect("start the program").stderr).expect("UTF-8");
        assert!(stderr.contains(said), "{stderr}");
        assert_eq!(stderr.contains("PGPORT"), said.contains("PGPORT"), "{stderr}");
    }
    let found = fit(&program, &experiment("server = 'host=/nowhere'\ntable = 't'"), &[]);
    assert_eq!(found.code, Some(6), "{}", found.stderr);
    assert!(found.stderr.contains("connect to PostgreSQL at /nowhere"), "{}", found.stderr);
}

#[test]
fn a_condition_gives_the_same_models_from_a_table_and_from_a_file() {
    let Some(postgres) = Postgres::start(&[], &[]) else { return };
    let database = postgres.database("shop", &[]);
    postgres.sql(&database, PICTURES);
    let connection = postgres.connection(&database);
    let server = Server::parse(&connection, |_| None).expect("a connection string");
    let program = Program::new(BINARY);
    let conditions = "where = 'id <= 300 AND NOT (id > 240 AND label IN (0, 1))'\n\
                      validation_where = 'id > 400'";
    let files =
        experiment(&format!("train = 'train.parquet'\nvalidation = 'train.parquet'\n{conditions}"));
    let file = files.folder().join("train.parquet");
    export(&server, "pictures", &file);
    let wanted = outcome(&fit(&program, &files, &[]));
    assert_eq!((&wanted.0["train_rows"], &wanted.0["validation_rows"]), (&280.into(), &80.into()));
    let tables = experiment(&format!(
        "server = '{connection}'\ntable = 'pictures'\nvalidation_table = 'pictures'\n{conditions}"
    ));
    for access in ["copy", "direct"] {
        let finished = fit(&program, &tables, &["--access", access]);
        assert_eq!(outcome(&finished), wanted, "{access}");
        let said = "read public.pictures: 280 rows, ";
        assert!(finished.stderr.contains(said), "{}", finished.stderr);
    }
    let replayed = program.run(&["replay", "3", "1"]);
    assert_eq!(replayed.code, Some(0), "{}{}", replayed.stdout, replayed.stderr);

    let file = file.display().to_string();
    let asked = |command: &str, condition: &str| {
        program.run(&[command, "1", "--data", &file, "--where", condition, "--output", "json"])
    };
    let json = |finished: Finished| -> Value {
        assert_eq!(finished.code, Some(0), "{}", finished.stderr);
        serde_json::from_str(&finished.stdout).expect("one JSON object")
    };
    assert_eq!(json(asked("evaluate", "id > 400"))["rows"], 80);
    let predicted = json(asked("predict", "label = 3 AND id < 100"));
    let rows = predicted["predictions"].as_array().expect("predictions");
    let rows: std::collections::BTreeSet<u64> =
        rows.iter().map(|row| row["row"].as_u64().expect("a number")).collect();
    assert_eq!(rows, (0..17).collect(), "rows are numbered among those that pass");
    let refused = asked("evaluate", "upper(label) = 'X'");
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
    assert!(refused.stderr.contains("`upper(label)` is not read; compare"), "{}", refused.stderr);
    let none = asked("predict", "id > 9000");
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("has no row that its `where` lets pass"), "{}", none.stderr);

    let wrong =
        experiment("train = 't'\nwhere = 'label = NULL; DROP'\nvalidation_where = 'length(x) > 1'");
    let finished = fit(&program, &wrong, &[]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    for said in [
        "data.where: goes on with `;` behind a condition",
        "data.validation_where: `length(x)` is not read",
    ] {
        assert!(finished.stderr.contains(said), "{}", finished.stderr);
    }
    let lone = fit(&program, &experiment("train = 't'\nvalidation_where = 'id > 1'"), &[]);
    let said = "data.validation_where: is of no rows; give `validation`, too, or leave it out";
    assert!(lone.stderr.contains(said), "{}", lone.stderr);
}
