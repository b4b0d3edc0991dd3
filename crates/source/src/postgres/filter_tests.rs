//! Conditions against a real server: by query, directly and from a file the same rows pass, those that
//! the server itself says, and nothing but our own statements runs.

use std::fs::File;

use arrow::array::{AsArray, Int32Array};
use arrow::datatypes::Int32Type;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::harness::Postgres;
use super::tests::{SHARED, fallen_back, request, rows, server};
use super::*;
use crate::{Filter, Location};

fn filter(text: &str) -> Filter {
    Filter::parse("where", text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn asked(table: &str, access: Access, text: &str) -> Request {
    Request { filter: Some(filter(text)), ..request(table, access) }
}

fn ids(batch: &RecordBatch) -> Vec<i32> {
    batch["id"].as_primitive::<Int32Type>().values().to_vec()
}

/// Every type that is compared, with the values that are compared oddly; and whatever can be done to a
/// table's pages.
const MANY: &str = "
    CREATE TABLE many (junk text, id int, s int2, i int8, f real, d float8, n numeric, t text,
        v varchar(40), b bool, day date, at timestamp, tz timestamptz, tm time, o oid, x bytea, m int[])
        WITH (fillfactor = 80);
    INSERT INTO many SELECT 'junk' || k, k, (k % 9 - 4) * 8000, (k % 11 - 5) * 1000000000000,
        (ARRAY['NaN', '-0', '0', '0.5', '-1.5', 'Infinity', '-Infinity', NULL])[1 + k % 8]::real,
        (ARRAY['NaN', '-0', '0', '0.5', '-1.5', '1e300', NULL])[1 + k % 7]::float8,
        (ARRAY['NaN', '0', '0.50', '-1.5', '123456789.25', NULL])[1 + k % 6]::numeric,
        (ARRAY['', 'a', 'A', 'a%b', 'a_b', 'a\\b', 'Zürich', E'new\\nline', 'it''s', NULL])[1 + k % 10],
        (ARRAY['Paris', 'Rome', 'Oslo', NULL])[1 + k % 4], (ARRAY[true, false, NULL])[1 + k % 3],
        DATE '2020-01-01' + k % 40, TIMESTAMP '2020-01-01' + k * INTERVAL '1 hour 0.25 seconds',
        TIMESTAMPTZ '2020-01-01 00:00+00' + k * INTERVAL '90 minutes',
        TIME '00:00' + k % 24 * INTERVAL '1 hour', k % 5 * 1000000000::bigint,
        CASE WHEN k % 50 = 0 THEN decode(repeat(md5(k::text), 2000), 'hex') END,
        CASE WHEN k % 2 = 0 THEN ARRAY[k, k] END
        FROM generate_series(1, 3000) k;
    ALTER TABLE many DROP COLUMN junk;
    ALTER TABLE many ADD COLUMN z int DEFAULT 42;
    INSERT INTO many (id, s, t) SELECT k, k % 5, 'late' FROM generate_series(3001, 3100) k;
    UPDATE many SET s = 1 WHERE id % 17 = 0;
    DELETE FROM many WHERE id % 33 = 0;
    BEGIN; INSERT INTO many (id) SELECT generate_series(9000, 9100); ROLLBACK;
    BEGIN; SELECT FROM many WHERE id BETWEEN 1000 AND 1050 FOR SHARE; COMMIT;
";

/// A comparison, a list or the like, drawn at random.
fn leaf(random: &mut ChaCha8Rng) -> String {
    let mut pick = |from: &[&str]| from[random.next_u32() as usize % from.len()].to_owned();
    let compared = [
        ("id", "-1|5|1500|2999.5|1e3|3050"),
        ("s", "-8000|0|8000|40000|-70000|0.5"),
        ("i", "-1000000000000|0|3000000000000|1e30"),
        ("f", "0|-0.0|0.5|-1.5|1e30"),
        ("d", "0|0.5|-1.5|1e300|2e300"),
        ("n", "0|0.50|-1.5|123456789.25|1e9"),
        ("t", "''|'a'|'A'|'a%b'|'Zürich'|'it''s'|'b'"),
        ("v", "'Paris'|'Rome'|'Q'"),
        ("day", "'2020-01-15'|DATE '2020-02-01'|'2019-12-31'"),
        ("at", "'2020-01-15'|TIMESTAMP '2020-02-01 10:00:02.5'|'2020-03-01T00:00:00'"),
        ("tz", "'2020-01-15 01:30:00+00'|'2020-02-01T12:00:00Z'|'2020-03-01 10:00:00+02:30'"),
        ("tm", "'00:00:00'|'12:00:00'|TIME '23:00:00.5'"),
        ("o", "0|1000000000|4000000000"),
        ("z", "42|41"),
    ];
    match pick(&["=", "=", "=", "IN", "BETWEEN", "LIKE", "NULL", "b"]).as_str() {
        "b" => pick(&["b", "NOT b", "b = TRUE", "b <> TRUE", "FALSE = b"]),
        "NULL" => {
            let column = pick(&["x", "m", "t", "f", "n", "b", "z", "day"]);
            format!("{column} IS {}NULL", pick(&["", "NOT "]))
        }
        "LIKE" => {
            let pattern = pick(&[
                "%", "", "a%", "%s", "_", "a\\_b", "a\\%%", "a\\\\_", "%ü%", "%\n%", "l_te",
            ]);
            let column = pick(&["t", "v"]);
            format!("{column} {}LIKE '{pattern}'", pick(&["", "NOT "]))
        }
        kind => {
            let at =
                pick(&["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13"]);
            let (column, literals) = compared[at.parse::<usize>().unwrap()];
            let literals: Vec<&str> = literals.split('|').collect();
            let (one, two) = (pick(&literals), pick(&literals));
            let not = pick(&["", "NOT "]);
            match kind {
                "IN" => format!("{column} {not}IN ({one}, {two})"),
                "BETWEEN" => format!("{column} {not}BETWEEN {one} AND {two}"),
                _ => {
                    let sign = pick(&["=", "<>", "<", "<=", ">", ">=", "!="]);
                    if not.is_empty() {
                        format!("{column} {sign} {one}")
                    } else {
                        format!("{one} {sign} {column}")
                    }
                }
            }
        }
    }
}

fn condition(random: &mut ChaCha8Rng, depth: u32) -> String {
    match random.next_u32() % (4 + depth) {
        0 => format!("{} AND {}", condition(random, depth + 2), condition(random, depth + 2)),
        1 => format!("({} OR {})", condition(random, depth + 2), condition(random, depth + 2)),
        2 => format!("NOT ({})", condition(random, depth + 2)),
        _ => leaf(random),
    }
}

/// Writes what was read as Parquet, with small groups and pages.
fn write(reading: &Reading, path: &std::path::Path) {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(700))
        .set_data_page_row_count_limit(64)
        .set_write_batch_size(64)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, reading.schema.clone(), Some(properties)).unwrap();
    writer.write(&rows(reading)).unwrap();
    writer.close().unwrap();
}

/// The ids of a file's rows that pass.
fn of_file(path: &std::path::Path, filter: Filter) -> Vec<i32> {
    let location = Location::File(path.to_owned()).filtered(Some(filter));
    match location.source().open(None, &Workspace::in_memory()) {
        Ok((table, _)) => {
            let rows: Vec<u32> = (0..table.rows()).collect();
            let found = table.scan(&["id"], &rows, vec![(); rows.len()], |chunk| {
                Ok(chunk.column("id").as_primitive::<Int32Type>().values().to_vec())
            });
            found.unwrap().concat()
        }
        Err(error) => {
            assert!(error.to_string().ends_with("lets pass; ask for less"), "{error}");
            Vec::new()
        }
    }
}

#[test]
fn by_query_directly_and_from_a_file_the_same_rows_pass() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("filters", &[]);
    cluster.sql(&database, MANY);
    let server = server(cluster, &database);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("many.parquet");
    write(&read(&server, &request("many", Access::Copy)).unwrap(), &path);
    let mut random = ChaCha8Rng::seed_from_u64(11);
    let (mut passed, mut holes) = (0, 0);
    for round in 0..60 {
        let text = condition(&mut random, 0);
        // Pages of rows that nobody has looked at since are read by SQL.
        let update = format!("UPDATE many SET s = 2 WHERE id % 400 = {round}");
        cluster.sql(&database, &format!("BEGIN; {update}; ROLLBACK"));
        let direct = read(&server, &asked("many", Access::Direct, &text)).unwrap();
        let copied = rows(&read(&server, &asked("many", Access::Copy, &text)).unwrap());
        holes += fallen_back(&direct.parts[0]);
        assert_eq!(copied, rows(&direct), "{text}");
        assert_eq!(ids(&copied), of_file(&path, filter(&text)), "{text}");
        // What PostgreSQL makes of the text itself, literals being of its own types.
        let said = cluster.sql(
            &database,
            &format!("SET TimeZone = 'UTC'; SELECT id FROM many WHERE {text} ORDER BY ctid"),
        );
        let said: Vec<i32> = said.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(ids(&copied), said, "{text}");
        passed += said.len();
    }
    assert!(passed > 20_000 && holes > 50, "{passed} rows passed, {holes} holes");
}

#[test]
fn columns_that_only_the_condition_looks_at_are_not_returned() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("looked", &["pageinspect"]);
    cluster.sql(&database, MANY);
    cluster.sql(
        &database,
        "
        CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE VIEW seen AS SELECT * FROM many;
        CREATE TABLE others AS SELECT k AS id, (ARRAY['sad', 'ok'])[1 + k % 2]::mood AS e,
            jsonb_build_object('k', k % 3) AS j, 'x'::char(4) AS c FROM generate_series(1, 60) k;
        CREATE TABLE shapes AS SELECT k AS id,
            CASE WHEN k % 2 = 0 THEN ARRAY[[k, k], [k, k]] ELSE ARRAY[[k]] END AS a
            FROM generate_series(1, 1000) k;
        CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        CREATE TABLE cased AS SELECT k AS id, (ARRAY['a', 'A', 'b'])[1 + k % 3] COLLATE nocase AS t
            FROM generate_series(1, 30) k;",
    );
    let server = server(cluster, &database);
    let only_ids = |access, table: &str, text| Request {
        columns: Some(vec!["id".into()]),
        ..asked(table, access, text)
    };
    for access in [Access::Copy, Access::Direct] {
        let reading = read(&server, &only_ids(access, "many", "v = 'Rome' AND id < 9")).unwrap();
        assert_eq!(reading.schema.fields().len(), 1);
        assert_eq!(ids(&rows(&reading)), [1, 5]);
        assert_eq!(reading.parts[0].rows, 2);
        // Arrays of another shape do not pass.
        let reading =
            read(&server, &asked("shapes", access, "id > 500 AND id <= 502 AND a IS NOT NULL"));
        assert!(reading.unwrap_err().to_string().contains("is an array of another shape"));
        let reading = read(&server, &asked("shapes", access, "id = 501 OR id = 503")).unwrap();
        assert_eq!(ids(&rows(&reading)), [501, 503], "{access:?}");
        let reading = read(&server, &asked("cased", access, "t = 'a' AND t LIKE 'a'")).unwrap();
        assert_eq!(rows(&reading).num_rows(), 10, "{access:?}");
    }
    let hashed = Request {
        hash_key: Some("v".into()),
        ..only_ids(Access::Auto, "seen", "v = 'Rome' AND id < 9")
    };
    assert_eq!(rows(&read(&server, &hashed).unwrap()).num_rows(), 2);
    let query = Rows::Query("SELECT id AS \"the id\", t FROM many ORDER BY id -- all".into());
    let query = Request { rows: query, ..asked("", Access::Auto, "\"the id\" < 9 AND t < 'a'") };
    let found = rows(&read(&server, &query).unwrap());
    let wanted = Int32Array::from(vec![2, 6]);
    assert_eq!(found["the id"].as_primitive::<Int32Type>(), &wanted);
    let found =
        read(&server, &asked("others", Access::Auto, "e > 'a' AND e < 'sad' AND j = '{\"k\": 1}'"));
    assert_eq!(rows(&found.unwrap()).num_rows(), 10);

    let error =
        |table, access, text| read(&server, &asked(table, access, text)).unwrap_err().to_string();
    let found = error("others", Access::Auto, "c = 'x'");
    assert!(
        found.starts_with("table public.others, column `c`: is of type character(n)"),
        "{found}"
    );
    let found = error("others", Access::Direct, "id < 5 AND e = 'ok'");
    assert!(
        found.contains("column `e` is of type mood, which is read by the server alone"),
        "{found}"
    );
    let found = error("many", Access::Auto, "gone = 1");
    assert!(
        found.starts_with("table public.many, column `gone`: there is no such column"),
        "{found}"
    );
    let found = error("many", Access::Direct, "t = 1 OR x = 'a'");
    assert_eq!(found.lines().count(), 2, "{found}");
}

#[test]
fn partitions_that_cannot_have_a_row_are_not_read() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("pruned", &[]);
    cluster.sql(
        &database,
        "
        CREATE TABLE sales (id int, day date, city text) PARTITION BY RANGE (day);
        CREATE TABLE \"S 1\" PARTITION OF sales FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
        CREATE TABLE s2 PARTITION OF sales FOR VALUES FROM ('2020-02-01') TO ('2020-03-01')
            PARTITION BY LIST (city);
        CREATE TABLE s2p PARTITION OF s2 FOR VALUES IN ('Paris');
        CREATE TABLE s2r PARTITION OF s2 FOR VALUES IN ('Rome', 'Oslo');
        INSERT INTO sales SELECT k, DATE '2020-01-01' + k % 59, (ARRAY['Paris', 'Rome'])[1 + k % 2]
            FROM generate_series(1, 600) k;
        CREATE ROLE reader; GRANT SELECT ON \"S 1\", s2p, s2r TO reader; VACUUM (FREEZE);",
    );
    let server = server(cluster, &database);
    for (text, wanted) in [
        ("day < '2020-01-15'", vec!["public.\"S 1\""]),
        ("day >= '2020-02-01' AND city IN ('Rome', 'Bonn')", vec!["public.s2r"]),
        ("city = 'Paris'", vec!["public.\"S 1\"", "public.s2p"]),
        ("day > '2021-01-01'", vec!["public.\"S 1\""]),
        ("id > 0", vec!["public.\"S 1\"", "public.s2p", "public.s2r"]),
    ] {
        for access in [Access::Copy, Access::Direct] {
            let reading = read(&server, &asked("sales", access, text)).unwrap();
            let names: Vec<&str> = reading.parts.iter().map(|part| part.name.as_str()).collect();
            assert_eq!(names, wanted, "{text}");
            let count = cluster.sql(&database, &format!("SELECT count(*) FROM sales WHERE {text}"));
            assert_eq!(rows(&reading).num_rows().to_string(), count.trim(), "{text}");
        }
    }
    // Who may read the parts alone has no plan made.
    let reader = server.with_role(Some("reader".into()));
    let reading = read(&reader, &asked("sales", Access::Auto, "day < '2020-01-15'")).unwrap();
    assert_eq!(reading.parts.len(), 3);
}

#[test]
fn a_condition_needs_the_right_to_read_its_columns() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("condition_rights", &[]);
    cluster.sql(
        &database,
        "
        CREATE ROLE half_reader; CREATE TABLE half AS SELECT 1 AS id, 2 AS secret;
        GRANT SELECT (id) ON half TO half_reader;",
    );
    let server = server(cluster, &database).with_role(Some("half_reader".into()));
    let half =
        |access, text| Request { columns: Some(vec!["id".into()]), ..asked("half", access, text) };
    assert_eq!(ids(&rows(&read(&server, &half(Access::Auto, "id = 1")).unwrap())), [1]);
    let error = read(&server, &half(Access::Auto, "secret = 2")).unwrap_err();
    assert_eq!(error.code(), Some("42501"), "{error}");
    let found = read(&server, &half(Access::Direct, "secret = 2")).unwrap_err().to_string();
    assert!(found.contains("role half_reader may not read secret"), "{found}");
}

/// Texts that want more than rows.
const HOSTILE: [&str; 14] = [
    "id = 1; DROP TABLE victim",
    "id = 1) TO STDOUT; DROP TABLE victim; --",
    "t = '; DROP TABLE victim; --'",
    "t = '''; DROP TABLE victim; --'",
    "t = '\\''; DROP TABLE victim; --'",
    "t = '\\\\''; DROP TABLE victim; --'",
    "t LIKE '%''); DROP TABLE victim; --%'",
    "t IN ('a', '$$; DROP TABLE victim; --$$', E'\\'; DROP TABLE victim; --')",
    "t IN ('$$; DROP TABLE victim; --$$', 'U&''\\0027''; DROP TABLE victim; --')",
    "\"x\"\"; DROP TABLE victim; --\" = 1",
    "\"x\"\"; DROP TABLE victim; --\" IS NULL OR t = 'a'",
    "day = DATE '2020-01-01''; DROP TABLE victim; --'",
    "id = 1e0'; DROP TABLE victim; --'",
    "id = pg_terminate_backend(1) OR pg_sleep(9) IS NULL",
];

#[test]
fn no_statement_but_ours_runs_whatever_a_condition_says() {
    let Some(cluster) = Postgres::start(&[], &["log_statement = 'all'", "log_line_prefix = '@'"])
    else {
        return;
    };
    let database = cluster.database("hostile_filters", &[]);
    cluster.sql(
        &database,
        "
        CREATE TABLE victim AS SELECT 1 AS id; CREATE TABLE parts (id int, t text, day date,
            \"x\"\"; DROP TABLE victim; --\" int) PARTITION BY RANGE (id);
        CREATE TABLE only_part PARTITION OF parts FOR VALUES FROM (0) TO (100);
        INSERT INTO parts SELECT k, (ARRAY['a', '; DROP TABLE victim; --', ''''])[1 + k % 3] FROM
            generate_series(1, 50) k; VACUUM (FREEZE);",
    );
    let server = server(&cluster, &database);
    let log = || std::fs::read_to_string(cluster.folder().join("log")).unwrap();
    let statements = |text: Option<&str>, access| {
        let before = log().len();
        let filter = text.map(filter);
        let request = Request { filter, ..request("parts", access) };
        let is_read = match read(&server, &request) {
            Ok(_) => true,
            Err(SourceError::Input(_)) => false,
            Err(other) => panic!("{text:?}: {other:?}"),
        };
        let log = log();
        // A statement's own lines do not begin with the prefix.
        let of = |entry: &&str| entry.contains("statement: ") || entry.contains("execute ");
        let found = log[before..].split("\n@").filter(of).map(str::to_owned);
        (is_read, found.collect::<Vec<_>>())
    };
    let mut ran = 0;
    for access in [Access::Copy, Access::Direct] {
        let (_, innocuous) = statements(Some("id < 5"), access);
        for text in HOSTILE {
            if Filter::parse("where", text).is_err() {
                continue;
            }
            let (is_read, found) = statements(Some(text), access);
            if is_read {
                assert_eq!(found.len(), innocuous.len(), "{text}: {found:#?}");
            }
            assert!(found.iter().all(|entry| !entry.contains("statement: DROP")), "{found:#?}");
            let as_given = |entry: &String| entry.contains(text);
            assert!(!found.iter().any(as_given), "{text} is SQL of ours: {found:#?}");
            ran += usize::from(is_read);
        }
    }
    assert!(ran >= 2 * 7, "only {ran} conditions were read at all");
    assert_eq!(cluster.sql(&database, "SELECT id FROM victim").trim(), "1");
    let found = rows(&read(&server, &asked("parts", Access::Direct, HOSTILE[2])).unwrap());
    assert_eq!(found.num_rows(), 17, "it is a text like any other");
}
