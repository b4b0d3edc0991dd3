//! Against a real server: both ways give the same rows, whatever was done to the table.

use std::sync::LazyLock;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::harness::Postgres;
use super::*;
use crate::workspace::Workspace;

/// One server for all tests that need nothing special; it ends with this process.
pub(super) static SHARED: LazyLock<Option<Postgres>> = LazyLock::new(|| Postgres::start(&[], &[]));

pub(super) fn server(cluster: &Postgres, database: &str) -> Server {
    Server::parse(&cluster.connection(database), |_| None).unwrap()
}

pub(super) fn request(table: &str, access: Access) -> Request {
    Request { access, threads: 2, ..Request::of(Rows::Table(table.into())) }
}

pub(super) fn rows(reading: &Reading) -> RecordBatch {
    concat_batches(&reading.schema, &reading.batches).unwrap()
}

/// Both ways; the rows, and what the direct one did.
fn both(server: &Server, table: &str) -> (RecordBatch, Vec<PartReport>) {
    let copied = read(server, &request(table, Access::Copy)).unwrap();
    let direct = read(server, &request(table, Access::Direct)).unwrap();
    assert_eq!(rows(&copied), rows(&direct), "{table}: {:?}", direct.parts);
    (rows(&copied), direct.parts)
}

/// A cell as text.
fn text(batch: &RecordBatch, column: &str, row: usize) -> String {
    let column = batch.column_by_name(column).unwrap();
    let options = FormatOptions::default().with_null("NULL");
    ArrayFormatter::try_new(column, &options).unwrap().value(row).to_string()
}

pub(super) fn fallen_back(part: &PartReport) -> u64 {
    match &part.path {
        Path::Direct { pages, .. } => pages.fallen_back.values().sum(),
        Path::Copy { .. } => panic!("it was copied"),
    }
}

const TYPES: &str = "
    CREATE DOMAIN posint AS int CHECK (VALUE > 0);
    CREATE DOMAIN vector AS float8[];
    CREATE TYPE mood AS ENUM ('sad', 'ok');
    CREATE TABLE types (b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric, d date,
        t time, ts timestamp, tz timestamptz, u uuid, s text, v varchar(9), c char(4), by bytea,
        o oid, p posint, a2 int2[], ab bool[], af vector, m float4[], js json);
    INSERT INTO types VALUES
        (true, -7, 70000, 1::int8<<40, 1.5, -2.25, 12345.678, '1999-12-31', '12:34:56.5',
         '2001-02-03 04:05:06.789', '2001-02-03 04:05:06+02',
         'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'grün', 'abc', 'xy', '\\x00ff', 4294967295, 3,
         '{1,NULL,3}', '{t,f,NULL,t}', '{1.5,2.5}', '{{{1,2},{3,4}},{{5,6},{7,8}}}', '{\"a\": 1}'),
        (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
         NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (false, 32767, -1, -1, 'NaN', 'Infinity', '-0.001', '0001-01-01 BC', '24:00', '1970-01-01',
         '1970-01-01 00:00+00', '00000000-0000-0000-0000-000000000000', '', '', '', '', 0, 1, '{}',
         '{}', '{}', '{{{0,0},{0,NULL}},{{0,0},{0,0}}}', 'null');
    CREATE TABLE others (e mood, iv interval, j jsonb, es mood[]);
    INSERT INTO others VALUES ('ok', '1 day', '{\"b\": [1, 2]}', '{ok,sad}'), (NULL, NULL, NULL, NULL);
";

#[test]
fn every_type_is_read_both_ways() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("types", &[]);
    cluster.sql(&database, TYPES);
    let server = server(cluster, &database);
    let (batch, _) = both(&server, "types");
    for (column, wanted) in [
        ("b", ["true", "NULL", "false"]),
        ("i2", ["-7", "NULL", "32767"]),
        ("i8", ["1099511627776", "NULL", "-1"]),
        ("f4", ["1.5", "NULL", "NaN"]),
        ("f8", ["-2.25", "NULL", "inf"]),
        ("n", ["12345.678", "NULL", "-0.001"]),
        ("d", ["1999-12-31", "NULL", "0000-01-01"]),
        ("ts", ["2001-02-03T04:05:06.789", "NULL", "1970-01-01T00:00:00"]),
        ("s", ["grün", "NULL", ""]),
        ("c", ["xy  ", "NULL", "    "]),
        ("by", ["00ff", "NULL", ""]),
        ("o", ["4294967295", "NULL", "0"]),
        ("p", ["3", "NULL", "1"]),
        ("a2", ["[1, NULL, 3]", "NULL", "[]"]),
        ("ab", ["[true, false, NULL, true]", "NULL", "[]"]),
        ("af", ["[1.5, 2.5]", "NULL", "[]"]),
        ("js", ["{\"a\": 1}", "NULL", "null"]),
    ] {
        let found = [0, 1, 2].map(|row| text(&batch, column, row));
        assert_eq!(found, wanted, "{column}");
    }
    assert_eq!(text(&batch, "m", 0), "[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]");
    let metadata = batch.schema().field_with_name("m").unwrap().metadata().clone();
    assert_eq!(metadata["ARROW:extension:metadata"], "{\"shape\":[2,2,2]}");
    let tz = batch.column_by_name("tz").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!((tz.value(0), tz.value(2), tz.timezone()), (981_165_906_000_000, 0, Some("UTC")));
    assert_eq!(text(&batch, "u", 0), "a0eebc999c0b4ef8bb6d6bb9bd380a11");

    let copied = rows(&read(&server, &request("others", Access::Auto)).unwrap());
    assert_eq!(text(&copied, "e", 0), "ok");
    assert_eq!(text(&copied, "iv", 0), "P1D");
    assert_eq!(text(&copied, "j", 0), "{\"b\": [1, 2]}");
    assert_eq!(text(&copied, "es", 0), "[ok, sad]");
    assert!((0..4).all(|column| copied.column(column).is_null(1)));
    let refused = read(&server, &request("others", Access::Direct)).unwrap_err().to_string();
    assert_eq!(refused.lines().count(), 4, "{refused}");
    assert!(refused.contains("column `iv` is of type interval"), "{refused}");
}

/// A table to which everything was done that pages can show.
const TORTURE: &str = "
    CREATE TABLE torture (id int, junk text, y smallint, x bytea, k int) WITH (fillfactor = 90);
    ALTER TABLE torture ALTER x SET COMPRESSION lz4;
    INSERT INTO torture SELECT i, 'junk' || i, i % 10,
        CASE i % 7
            WHEN 0 THEN NULL
            WHEN 1 THEN decode(repeat(md5(i::text), 200), 'hex')
            WHEN 2 THEN '\\x'::bytea
            WHEN 3 THEN decode(md5(i::text), 'hex')
            WHEN 4 THEN (SELECT string_agg(decode(md5(i::text || k::text), 'hex'), '')
                FROM generate_series(1, 300) k)
            WHEN 5 THEN decode(repeat('ab', 100000), 'hex')
            ELSE decode(repeat(md5(i::text), 20), 'hex')
        END, i % 8
        FROM generate_series(1, 6000) i;
    ALTER TABLE torture DROP COLUMN junk;
    ALTER TABLE torture ADD COLUMN d int DEFAULT 42;
    ALTER TABLE torture ADD COLUMN n numeric(9, 3) DEFAULT 1.250;
    ALTER TABLE torture ADD COLUMN e real;
    ALTER TABLE torture ALTER x SET COMPRESSION pglz;
    INSERT INTO torture SELECT i + 100000, i % 10, decode(repeat(md5(i::text), 300), 'hex'), i % 8, i,
        i / 7.0, i * 0.5 FROM generate_series(1, 1000) i;
    BEGIN; INSERT INTO torture (id, y) SELECT i, 1 FROM generate_series(900000, 901000) i; ROLLBACK;
    UPDATE torture SET y = 9 WHERE id % 50 = 0;
    DELETE FROM torture WHERE id % 33 = 0;
    BEGIN; UPDATE torture SET x = '\\x00' WHERE id BETWEEN 500 AND 600; ROLLBACK;
    BEGIN; SAVEPOINT a; INSERT INTO torture (id, y) VALUES (777777, 1); ROLLBACK TO a;
    INSERT INTO torture (id, y, x) VALUES (777778, 2, '\\x01'); COMMIT;
    BEGIN; SELECT FROM torture WHERE id BETWEEN 1000 AND 1050 FOR SHARE; COMMIT;
";

#[test]
fn whatever_was_done_to_a_table_both_ways_see_the_same() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("torture", &[]);
    cluster.sql(&database, TORTURE);
    let server = server(cluster, &database);
    for after in [
        "SELECT 1",
        "VACUUM torture",
        "UPDATE torture SET k = k + 1 WHERE id % 3 = 0; SELECT sum(k) FROM torture",
        "VACUUM FULL torture",
        "ALTER TABLE torture ALTER x SET STORAGE EXTERNAL; UPDATE torture SET x = x || x WHERE id < 300",
        "VACUUM (FREEZE) torture",
    ] {
        cluster.sql(&database, after);
        let (batch, parts) = both(&server, "torture");
        let count: usize =
            cluster.sql(&database, "SELECT count(*) FROM torture").trim().parse().unwrap();
        assert_eq!(batch.num_rows(), count, "{after}");
        if after.contains("FREEZE") {
            assert_eq!(fallen_back(&parts[0]), 0, "{}", parts[0]);
        }
    }
    let some = Request {
        columns: Some(vec!["n".into(), "x".into()]),
        ..request("torture", Access::Direct)
    };
    let direct = read(&server, &some).unwrap();
    let copied = read(&server, &Request { access: Access::Copy, ..some }).unwrap();
    assert_eq!(rows(&direct), rows(&copied));
    assert_eq!(direct.schema.field(0).name(), "n");
}

#[test]
fn pages_from_the_servers_buffers_are_the_same() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("raw", &["pageinspect"]);
    cluster.sql(&database, TORTURE);
    let server = server(cluster, &database);
    let (session, mut facts) = Session::open_with_facts(&server).unwrap();
    assert_eq!(facts.raw_page.as_deref(), Some("public.get_raw_page"));
    facts.data_folder = None;
    let relation = plan::relation(&session, &facts, "torture").unwrap();
    let wanted = request("torture", Access::Direct);
    let mut plans = plan::of_table(&server, &session, &facts, relation, &wanted).unwrap();
    let plan = plans.remove(0);
    let part = plan.read(&server, &session, &wanted, &Workspace::in_memory()).unwrap();
    assert!(matches!(part.path, Path::Direct { from_files: false, .. }));
    let copied = read(&server, &request("torture", Access::Copy)).unwrap();
    assert_eq!(concat_batches(&part.schema, &part.batches).unwrap(), rows(&copied));
}

#[test]
fn a_table_of_no_rows_and_one_of_no_pages_are_read() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("empty", &[]);
    cluster.sql(
        &database,
        "CREATE TABLE none (a int, t text);
        CREATE TABLE gone AS SELECT generate_series(1, 1000) a; DELETE FROM gone",
    );
    let server = server(cluster, &database);
    assert_eq!(both(&server, "none").0.num_rows(), 0);
    assert_eq!(both(&server, "gone").0.num_rows(), 0);
}

/// The reason why a table was copied although any way would have done.
fn why(server: &Server, table: &str) -> String {
    let reading = read(server, &request(table, Access::Auto)).unwrap();
    match &reading.parts[0].path {
        Path::Copy { why_not_direct, .. } => why_not_direct.join("; "),
        Path::Direct { .. } => "direct".to_owned(),
    }
}

#[test]
fn what_is_no_plain_table_is_copied_and_said_why() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("gates", &["file_fdw"]);
    cluster.sql(
        &database,
        "
        CREATE TABLE plain AS SELECT i, i % 3 AS k FROM generate_series(1, 500) i;
        CREATE VIEW seen AS SELECT * FROM plain;
        CREATE MATERIALIZED VIEW kept AS SELECT * FROM plain;
        CREATE UNLOGGED TABLE fast AS SELECT * FROM plain;
        CREATE TABLE parent (i int); CREATE TABLE child () INHERITS (parent);
        INSERT INTO child VALUES (1); INSERT INTO parent VALUES (2);
        CREATE TABLE grown AS SELECT 1 AS i;
        ALTER TABLE grown ADD COLUMN a int[] DEFAULT '{1,2}';
        CREATE TABLE secured AS SELECT * FROM plain;
        ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
        CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
        CREATE FOREIGN TABLE far (line text) SERVER files OPTIONS (program 'echo hello');
        CREATE TABLE parts (k int, i int) PARTITION BY LIST (k);
        CREATE TABLE part1 (i int, k int);
        ALTER TABLE parts ATTACH PARTITION part1 FOR VALUES IN (1);
        CREATE TABLE part2 PARTITION OF parts FOR VALUES IN (2);
        INSERT INTO parts SELECT 1 + i % 2, i FROM generate_series(1, 100) i;
    ",
    );
    let server = server(cluster, &database);
    for (table, reason) in [
        ("plain", "direct"),
        ("seen", "it is a view"),
        ("kept", "it is a materialised view, which cannot be locked"),
        ("fast", "it is unlogged: checkpoints do not write it out"),
        ("parent", "tables inherit from it"),
        (
            "grown",
            "column `a` was added with an array as its default, which old rows do not hold: \
             VACUUM FULL writes it into them",
        ),
        ("secured", "it has row-level security, which only queries honour"),
        ("far", "it is a foreign table"),
    ] {
        assert_eq!(why(&server, table), reason, "{table}");
    }
    cluster.sql(&database, "VACUUM FULL grown");
    assert_eq!(why(&server, "grown"), "direct");
    let parent = read(&server, &request("parent", Access::Auto)).unwrap();
    assert_eq!(rows(&parent).num_rows(), 2);
    let error = read(&server, &request("fast", Access::Direct)).unwrap_err().to_string();
    assert_eq!(
        error,
        "table public.fast: cannot be read directly: it is unlogged: checkpoints do not write it out"
    );
    let parts = read(&server, &request("parts", Access::Direct)).unwrap();
    let names: Vec<&str> = parts.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["public.part1", "public.part2"]);
    assert_eq!(rows(&parts).num_rows(), 100);
    let copied = read(&server, &request("parts", Access::Copy)).unwrap();
    assert_eq!(rows(&parts), rows(&copied));

    let hashed = Request { hash_key: Some("k".into()), ..request("seen", Access::Copy) };
    assert_eq!(rows(&read(&server, &hashed).unwrap()).num_rows(), 500);
    let query = Request {
        rows: Rows::Query(
            "SELECT i AS \"The \"\"i\", 'a' AS t FROM plain WHERE i < 11 -- the first ten".into(),
        ),
        ..request("", Access::Auto)
    };
    let found = read(&server, &query).unwrap();
    assert_eq!(found.schema.field(0).name(), "The \"i");
    assert_eq!(rows(&found).num_rows(), 10);
}

#[test]
fn what_is_wrong_with_a_request_is_said() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("wrong", &[]);
    cluster.sql(
        &database,
        "CREATE TABLE t (a int, \"B\" int, m int[], d date);
        INSERT INTO t VALUES (1, 2, '{{1,2}}', '2000-01-01'), (1, 2, '{1}', '2000-01-01');
        CREATE TABLE dates (d date); INSERT INTO dates VALUES ('infinity')",
    );
    let server = server(cluster, &database);
    let error = |request: &Request| read(&server, request).unwrap_err().to_string();
    let found = error(&request("T; DROP TABLE t", Access::Auto));
    assert!(found.starts_with("table T; DROP TABLE t: is no name of a table"), "{found}");
    let found = error(&request("gone", Access::Auto));
    assert!(found.starts_with("table \"gone\": does not exist"), "{found}");
    let columns = Request {
        columns: Some(vec!["A".into(), "b".into(), "B".into()]),
        ..request("t", Access::Auto)
    };
    assert_eq!(
        error(&columns),
        "table public.t, column `A`: there is no such column; there are `a`, `B`, `m`, `d`\n\
         table public.t, column `b`: there is no such column; there are `a`, `B`, `m`, `d`"
    );
    for access in [Access::Copy, Access::Direct] {
        let found = error(&request("t", access));
        assert!(
            found.contains("column `m`, row 2 of its part: is an array of another shape"),
            "{found}"
        );
        let found = error(&request("dates", access));
        assert!(found.contains("is an infinite date"), "{found}");
    }
    let query =
        |text: &str| Request { rows: Rows::Query(text.into()), ..request("", Access::Auto) };
    assert!(error(&query("SELECT 1; SELECT 2")).starts_with("run `SELECT 1; SELECT 2` at"));
    assert!(error(&query("DELETE FROM t RETURNING a")).starts_with("read the query's rows at "));
    let found = error(&query("SELECT 1 AS a, 2 AS a"));
    assert_eq!(found, "query: has two columns `a`; name one otherwise with AS");
    let nowhere = Server::parse("host=/nowhere user=u", |_| None).unwrap();
    let found = read(&nowhere, &request("t", Access::Auto)).unwrap_err();
    assert_eq!(found.to_string(), "connect to PostgreSQL at /nowhere:5432/u");
}

#[test]
fn rights_are_those_of_the_one_who_asks() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("rights", &[]);
    cluster.sql(&database, "
        CREATE ROLE analyst; CREATE ROLE loader LOGIN; GRANT analyst TO loader;
        CREATE TABLE open AS SELECT i FROM generate_series(1, 10) i; GRANT SELECT ON open TO analyst;
        CREATE TABLE closed AS SELECT 1 AS a;
        CREATE TABLE half AS SELECT 1 AS a, 2 AS b; GRANT SELECT (a) ON half TO analyst;
        CREATE TABLE own AS SELECT i, i % 2 AS k FROM generate_series(1, 10) i;
        GRANT SELECT ON own TO analyst;
        ALTER TABLE own ENABLE ROW LEVEL SECURITY;
        CREATE POLICY odd ON own TO analyst USING (k = 1);
    ");
    let analyst = server(cluster, &database).with_role(Some("analyst".into()));
    assert_eq!(why(&analyst, "open"), "direct");
    let half = Request { columns: Some(vec!["a".into()]), ..request("half", Access::Auto) };
    let half = read(&analyst, &half).unwrap();
    assert_eq!(rows(&half).num_rows(), 1);
    let way = half.parts[0].to_string();
    assert!(way.contains("role analyst may read columns of it only"), "{way}");
    let error = |table| read(&analyst, &request(table, Access::Direct)).unwrap_err().to_string();
    assert_eq!(
        error("half"),
        "table public.half: cannot be read directly: role analyst may not read b: GRANT SELECT"
    );
    assert_eq!(
        error("closed"),
        "table public.closed: cannot be read directly: role analyst may not read a: GRANT SELECT"
    );
    let error = read(&analyst, &request("closed", Access::Auto)).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("db error"), "{cause}");
    assert_eq!(arrowhop_types::Classify::class(&error), arrowhop_types::ErrorClass::Invalid);
    let own = read(&analyst, &request("own", Access::Auto)).unwrap();
    assert_eq!(rows(&own).num_rows(), 5);

    let text = cluster.connection(&database).replace("user=postgres", "user=loader");
    let loader = Server::parse(&text, |_| None).unwrap();
    assert_eq!(
        why(&loader, "open"),
        "role loader may not know where the files are: GRANT pg_read_all_settings TO loader; \
         role loader may not write a checkpoint: GRANT pg_checkpoint TO loader; \
         nor are its pages to be had from the server's memory: CREATE EXTENSION pageinspect, and \
         connect as a superuser"
    );
    cluster.sql(&database, "GRANT pg_read_all_settings, pg_checkpoint TO loader");
    assert_eq!(
        why(&loader, "open"),
        "role loader may not lock it: GRANT UPDATE, DELETE or TRUNCATE (since PostgreSQL 17 \
         MAINTAIN) ON public.open TO loader"
    );
    cluster.sql(&database, "GRANT UPDATE ON open TO loader");
    assert_eq!(why(&loader, "open"), "direct");
}

/// Rounds of the test with writers; ARROWHOP_ROUNDS asks for more.
fn rounds() -> u64 {
    std::env::var("ARROWHOP_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25)
}

/// Writers move amounts between accounts all the time, and rewrite, add and delete rows with long
/// values; whatever a snapshot sees, amounts add up to the same.
#[test]
fn while_others_write_every_reading_is_of_one_moment() {
    let Some(cluster) = Postgres::start(&[], &["autovacuum_naptime = 1s"]) else { return };
    let database = cluster.database("writers", &[]);
    cluster.sql(
        &database,
        "
        CREATE TABLE accounts (id int PRIMARY KEY, amount int8, note text) WITH (fillfactor = 80);
        ALTER TABLE accounts ALTER note SET STORAGE EXTERNAL;
        INSERT INTO accounts SELECT i, 1000, repeat(md5(i::text), 1 + i % 200)
            FROM generate_series(1, 600) i;
    ",
    );
    let writers: Vec<_> = (1..=3)
        .map(|writer| {
            let mut psql = cluster.psql(&database).spawn().unwrap();
            let mut input = psql.stdin.take().unwrap();
            let feeder = std::thread::spawn(move || {
                for i in 0_u64.. {
                    let (from, to) = (1 + i * 7 * writer % 600, 1 + i * 13 * writer % 600);
                    let text = format!(
                        "BEGIN; UPDATE accounts SET amount = amount - 5, note = md5(note) || note \
                         WHERE id = {from}; UPDATE accounts SET amount = amount + 5 WHERE id = {to}; \
                         {};\n\
                         UPDATE accounts SET note = left(note, 3000) WHERE id = {from};\n\
                         SELECT FROM accounts WHERE id = {to} FOR SHARE;\n",
                        if i % 5 == 0 { "ROLLBACK" } else { "COMMIT" }
                    );
                    if std::io::Write::write_all(&mut input, text.as_bytes()).is_err() {
                        break;
                    }
                }
            });
            (psql, feeder)
        })
        .collect();
    let server = server(&cluster, &database);
    let mut pages = PageCounts::default();
    for round in 0..rounds() {
        let reading = read(&server, &request("accounts", Access::Direct)).unwrap();
        let rows = rows(&reading);
        let ids = rows.column(0).as_primitive::<Int32Type>();
        let mut seen: Vec<i32> = ids.values().to_vec();
        seen.sort_unstable();
        assert_eq!(seen, (1..=600).collect::<Vec<_>>(), "round {round}");
        let amounts = rows.column(1).as_primitive::<Int64Type>();
        assert_eq!(amounts.values().iter().sum::<i64>(), 600_000, "round {round}");
        if let Path::Direct { pages: of_round, .. } = &reading.parts[0].path {
            pages.merge(of_round);
        }
    }
    println!("{} rounds: {pages:?}", rounds());
    for (mut psql, feeder) in writers {
        psql.kill().unwrap();
        psql.wait().unwrap();
        feeder.join().unwrap();
    }
    assert!(pages.direct > 0 && pages.fallen_back.contains_key(&Fallback::Undecided));
    // Once nobody writes, both ways agree to the byte.
    both(&server, "accounts");
}

#[test]
fn after_a_crash_both_ways_see_what_was_committed() {
    let settings = ["full_page_writes = on", "checkpoint_timeout = 1h"];
    let Some(mut cluster) = Postgres::start(&[], &settings) else { return };
    let database = cluster.database("crashed", &[]);
    cluster.sql(&database, TORTURE);
    let before =
        rows(&read(&server(&cluster, &database), &request("torture", Access::Copy)).unwrap());
    cluster.sql(&database, "SET synchronous_commit = on; BEGIN; SELECT txid_current(); COMMIT");
    cluster.crash_and_restart();
    let (after, _) = both(&server(&cluster, &database), "torture");
    assert_eq!(before, after);
}

#[test]
fn a_bit_that_flipped_on_disk_is_caught_by_the_pages_checksum() {
    let Some(mut cluster) = Postgres::start(&["--data-checksums"], &[]) else { return };
    let database = cluster.database("flipped", &[]);
    cluster.sql(&database, TORTURE);
    cluster.sql(&database, "VACUUM (FREEZE) torture");
    let (_, parts) = both(&server(&cluster, &database), "torture");
    assert_eq!(fallen_back(&parts[0]), 0, "checksums of sound pages are right: {}", parts[0]);
    let files = cluster.sql(
        &database,
        "SELECT pg_relation_filepath('torture') UNION ALL \
        SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = 'torture'",
    );
    let files: Vec<&str> = files.lines().collect();
    for file in &files {
        cluster.restart_after(|data| {
            let mut bytes = std::fs::read(data.join(file)).unwrap();
            let at = 3 * 8_192 + 8_100;
            bytes[at] ^= 0x10;
            std::fs::write(data.join(file), bytes).unwrap();
        });
        let server = server(&cluster, &database);
        let error = read(&server, &request("torture", Access::Direct)).unwrap_err();
        let cause = format!("{:?}", std::error::Error::source(&error).unwrap());
        assert!(cause.contains("invalid page in block 3"), "{file}: {cause}");
        let text = error.to_string();
        assert!(text.starts_with("read page") && text.contains("of public.torture at "), "{text}");
        cluster.restart_after(|data| {
            let mut bytes = std::fs::read(data.join(file)).unwrap();
            bytes[3 * 8_192 + 8_100] ^= 0x10;
            std::fs::write(data.join(file), bytes).unwrap();
        });
    }
}

/// Pages in memory, for bytes that no server would write.
struct MemoryBlocks(Vec<u8>);

impl blocks::Blocks for MemoryBlocks {
    fn read(&mut self, first: u32, out: &mut [u8]) -> Result<(), Fallback> {
        let start = first as usize * page::PAGE_BYTES;
        let bytes = self.0.get(start..start + out.len()).ok_or(Fallback::Unreadable)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn lsns(&mut self, _: u32, _: usize) -> Option<Vec<u64>> {
        None
    }
}

/// Changes some bytes; where it matters most, often: page headers, line pointers, tuple headers.
fn spoil(bytes: &mut [u8], random: &mut ChaCha8Rng) {
    for _ in 0..1 + random.next_u32() % 8 {
        let page = random.next_u32() as usize % (bytes.len() / page::PAGE_BYTES) * page::PAGE_BYTES;
        let at = match random.next_u32() % 4 {
            0 => page + random.next_u32() as usize % 24,
            1 => page + 24 + random.next_u32() as usize % 200,
            _ => page + random.next_u32() as usize % page::PAGE_BYTES,
        };
        bytes[at] = match random.next_u32() % 3 {
            0 => 0xff,
            1 => bytes[at] ^ (1 << (random.next_u32() % 8)),
            _ => random.next_u32().to_le_bytes()[0],
        };
    }
}

#[test]
fn hostile_pages_are_refused_and_nothing_panics() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("hostile", &[]);
    cluster.sql(&database, TYPES);
    cluster.sql(&database, TORTURE);
    cluster.sql(&database, "VACUUM (FREEZE) types; VACUUM (FREEZE) torture");
    let server = server(cluster, &database);
    let (session, facts) = Session::open_with_facts(&server).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut refused = 0;
    for table in ["types", "torture"] {
        let relation = plan::relation(&session, &facts, table).unwrap();
        let columns = relation.wanted(None).unwrap();
        let form = relation.form(&session, &columns, None).unwrap();
        let layout = relation.layout(&session, &columns).unwrap();
        cluster.sql(&database, "CHECKPOINT");
        let file = |oid: u32| {
            let path = format!("SELECT pg_relation_filepath({oid}::regclass)");
            std::fs::read(cluster.data().join(cluster.sql(&database, &path).trim())).unwrap()
        };
        let (heap, long) = (file(relation.oid), file(relation.toast));
        let rules = page::PageRules { has_checksums: false, lsn_max: u64::MAX };
        for _ in 0..400 {
            let mut heap = heap[..heap.len().min(4 * page::PAGE_BYTES)].to_vec();
            let mut long = long.clone();
            spoil(&mut heap, &mut random);
            if !long.is_empty() {
                spoil(&mut long, &mut random);
            }
            let pages = u32::try_from(long.len() / page::PAGE_BYTES).unwrap();
            let mut long = MemoryBlocks(long);
            let mut toast = toast::Toast::new(relation.toast, pages, &mut long, rules);
            let mut batches = batches::Batches::new(&form, 2_000);
            for (bytes, block) in heap.as_chunks::<{ page::PAGE_BYTES }>().0.iter().zip(0..) {
                let mut places = Vec::new();
                let before = batches.rows();
                let read = page::Page::read(bytes, block, &rules)
                    .and_then(|page| page.visible(0..u16::MAX, &mut places))
                    .and_then(|()| layout.push(bytes, &places, &mut batches, &mut toast));
                if read.is_err() {
                    batches.truncate(before);
                    refused += 1;
                }
            }
            let _ = batches.take();
        }
    }
    assert!(refused > 200, "only {refused} pages were refused");
}

#[test]
fn hostile_streams_are_refused_and_nothing_panics() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("streams", &[]);
    cluster.sql(&database, TYPES);
    cluster.sql(
        &database,
        "CREATE TABLE fixed AS SELECT i, i::float8 AS f, i::int2 AS s
        FROM generate_series(1, 30000) i",
    );
    let (session, facts) = Session::open_with_facts(&server(cluster, &database)).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let mut refused = 0;
    for table in ["types", "fixed"] {
        let relation = plan::relation(&session, &facts, table).unwrap();
        let form = relation.form(&session, &relation.wanted(None).unwrap(), None).unwrap();
        let mut messages: Vec<Vec<u8>> = Vec::new();
        let query = copy::by_pages(&form, &relation, 1).remove(0);
        session
            .copy(&query.doing, &query.sql, |message| {
                messages.push(message.to_vec());
                Ok(())
            })
            .unwrap();
        messages.truncate(500);
        for _ in 0..300 {
            let mut stream = batches::CopyStream::new(&form);
            let mut messages = messages.clone();
            for _ in 0..1 + random.next_u32() % 3 {
                let i = random.next_u32() as usize % messages.len();
                let message = &mut messages[i];
                let at = random.next_u32() as usize % message.len().max(1);
                match random.next_u32() % 3 {
                    0 => message.truncate(at),
                    1 if at < message.len() => message[at] ^= 0x81,
                    _ => message.insert(at, 0xff),
                }
            }
            let pushed = messages.iter().try_for_each(|message| stream.push(message));
            refused += usize::from(pushed.is_err() || stream.finish().is_err());
        }
    }
    assert!(refused > 150, "only {refused} streams were refused");
}

/// Plain servers that pose as the parts of a larger one, each with half of the rows of `spread`, and
/// with two shards of `Facts`.
fn segments(database: &str) -> Option<[Postgres; 2]> {
    let segments = [Postgres::start(&[], &[])?, Postgres::start(&[], &[])?];
    for (segment, from) in segments.iter().zip([0, 100]) {
        segment.database(database, &[]);
        for first in [from, from + 50] {
            segment.sql(
                database,
                &format!(
                    "CREATE TABLE \"Facts_{}\" AS SELECT i AS id, i % 3 AS y
                FROM generate_series({first}, {first} + 49) i",
                    102_008 + first / 50
                ),
            );
        }
        segment.sql(
            database,
            &format!(
                "CREATE TABLE spread AS SELECT i AS id
            FROM generate_series({from}, {from} + 99) i"
            ),
        );
    }
    Some(segments)
}

/// Host and port, as a catalog has them.
fn node(segment: &Postgres) -> String {
    format!("'{}', {}", segment.folder().display(), segment.port())
}

fn ids(reading: &Reading) -> Vec<i32> {
    rows(reading).column(0).as_primitive::<Int32Type>().values().to_vec()
}

/// The catalog is a recorded one of Citus.
#[test]
fn shards_of_citus_are_read_from_their_workers() {
    let Some(coordinator) = &*SHARED else { return };
    let database = coordinator.database("citus", &[]);
    let Some([one, two]) = segments(&database) else { return };
    coordinator.sql(&database, &format!("
        CREATE TABLE \"Facts\" (id int, y int); CREATE TABLE here (id int);
        CREATE TABLE pg_dist_partition AS SELECT '\"Facts\"'::regclass AS logicalrelid, 'h' AS partmethod;
        CREATE TABLE pg_dist_shard AS SELECT '\"Facts\"'::regclass AS logicalrelid, i AS shardid
            FROM generate_series(102008::bigint, 102011) i;
        CREATE TABLE pg_dist_placement (shardid bigint, shardstate int, groupid int);
        INSERT INTO pg_dist_placement VALUES (102008, 1, 1), (102009, 1, 1), (102010, 1, 2),
            (102011, 1, 2), (102011, 4, 1);
        CREATE TABLE pg_dist_node (groupid int, nodename text, nodeport int, noderole text);
        INSERT INTO pg_dist_node VALUES (1, {}, 'primary'), (2, {}, 'primary'),
            (2, 'standby', 5432, 'secondary');
        CREATE FUNCTION shard_name(regclass, bigint) RETURNS text LANGUAGE sql
            AS $$ SELECT quote_ident('Facts_' || $2) $$;
    ", node(&one), node(&two)));
    let server = server(coordinator, &database);
    for access in [Access::Copy, Access::Direct] {
        let facts = read(&server, &request("\"Facts\"", access)).unwrap();
        assert_eq!(ids(&facts), (0..200).collect::<Vec<_>>());
        assert_eq!(facts.parts.len(), 4);
        let wanted =
            format!("{}:{}/citus public.\"Facts_102010\"", two.folder().display(), two.port());
        assert_eq!(facts.parts[2].name, wanted);
    }
    assert_eq!(rows(&read(&server, &request("here", Access::Auto)).unwrap()).num_rows(), 0);
    let central = Request { segments: false, ..request("\"Facts\"", Access::Auto) };
    assert_eq!(rows(&read(&server, &central).unwrap()).num_rows(), 0);
}

/// The catalog is a recorded one of Greenplum 7.
#[test]
fn segments_of_greenplum_are_read_in_utility_mode() {
    let Some(coordinator) = &*SHARED else { return };
    let database = coordinator.database("greenplum", &[]);
    let Some([one, two]) = segments(&database) else { return };
    coordinator.sql(
        &database,
        &format!(
            "
        CREATE TABLE spread (id int);
        CREATE TABLE gp_distribution_policy AS SELECT 'spread'::regclass::oid AS localoid,
            'p'::\"char\" AS policytype;
        CREATE TABLE gp_segment_configuration (content int, role \"char\", hostname text, port int);
        INSERT INTO gp_segment_configuration VALUES (-1, 'p', 'master', 5432), (0, 'p', {}),
            (1, 'p', {}), (1, 'm', 'mirror', 7000);
    ",
            node(&one),
            node(&two)
        ),
    );
    let server = server(coordinator, &database);
    let (session, facts) = Session::open_with_facts(&server).unwrap();
    let relation = plan::relation(&session, &facts, "spread").unwrap();
    let found = || distributed::placements(&server, &session, &facts, &relation).unwrap().unwrap();
    let placements = found();
    assert_eq!(placements[1].server.options(), Some("-c gp_role=utility"));
    // Plain servers do not know the setting; it is left out to read them.
    let plain = placements.iter().map(|Placement { server, table }| Placement {
        server: server.at(server.host(), server.port(), Some("")),
        table: table.clone(),
    });
    let plain: Vec<_> = plain.collect();
    let (wanted, workspace) = (request("spread", Access::Auto), Workspace::in_memory());
    let spread = read_segments(&["id".into()], &plain, &wanted, &workspace).unwrap();
    assert_eq!(ids(&spread), (0..200).collect::<Vec<_>>());
    coordinator.sql(&database, "UPDATE gp_distribution_policy SET policytype = 'r'");
    assert_eq!(found().len(), 1, "a replicated table is read once");
}

/// Plain servers know no such cursor: its endpoints are recorded ones, and its rows those of a query, which
/// come in the same messages.
#[test]
fn a_parallel_retrieve_cursor_is_read_from_its_endpoints() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("retrieved", &[]);
    cluster.sql(&database, TYPES);
    cluster.sql(&database, "
        CREATE VIEW gp_endpoints AS SELECT * FROM (VALUES
            (1, 'b9', 'arrowhop_rows', 5, 'sdw2', 6001, 'me', 'READY', 'arrowhop_rows0002'),
            (0, 'a7', 'arrowhop_rows', 5, 'sdw1', 6000, 'me', 'READY', 'arrowhop_rows0001'),
            (0, 'c1', 'another', 5, 'sdw1', 6000, 'me', 'READY', 'another0001'))
            e (gp_segment_id, auth_token, cursorname, sessionid, hostname, port, username, state, endpointname)
    ");
    let server = server(cluster, &database).with_role(Some("analyst".into()));
    let plain = server.clone().with_role(None);
    let (session, facts) = Session::open_with_facts(&plain).unwrap();
    let found = retrieve::endpoints(&server, &session).unwrap();
    let at = |host: &str, port, token: &str, name: &str| {
        let options = Some("-c gp_retrieve_conn=true");
        let server = plain.at(host, port, options).with_password(token);
        retrieve::Endpoint { server, name: name.to_owned() }
    };
    let wanted = [
        at("sdw1", 6_000, "a7", "arrowhop_rows0001"),
        at("sdw2", 6_001, "b9", "arrowhop_rows0002"),
    ];
    assert_eq!(found, wanted);
    cluster.sql(
        &database,
        "CREATE FUNCTION gp_get_endpoints() RETURNS SETOF gp_endpoints
        LANGUAGE sql AS 'SELECT * FROM gp_endpoints WHERE port = 6001'",
    );
    assert_eq!(retrieve::endpoints(&server, &session).unwrap(), wanted[1..]);

    let relation = plan::relation(&session, &facts, "types").unwrap();
    let form = relation.form(&session, &relation.wanted(None).unwrap(), None).unwrap();
    let query = copy::whole(&form, &relation.name, "types");
    let tuples = retrieve::stream(&session, &form, &query.doing, &query.sql).unwrap();
    let copied = read(&plain, &request("types", Access::Copy)).unwrap();
    assert_eq!(concat_batches(&form.schema, &tuples).unwrap(), rows(&copied));
    let (wanted, workspace) = (request("types", Access::Auto), Workspace::in_memory());
    let refused = retrieve::read(&plain, &session, &relation, &wanted, &workspace);
    let text = refused.unwrap_err().to_string();
    assert!(text.starts_with("declare a cursor of public.types at "), "{text}");
}

#[test]
fn a_segment_that_refuses_utility_mode_is_told_from_one_that_is_not_there() {
    let Some(cluster) = &*SHARED else { return };
    let database = cluster.database("utility", &[]);
    let server = server(cluster, &database);
    let may = |server: Server| {
        let table = "public.t".to_owned();
        distributed::may_be_asked(&[Placement { server, table }])
    };
    let here = |options| server.at(server.host(), server.port(), Some(options));
    assert!(may(here("")).unwrap());
    // A plain server does not know the setting, and says so.
    assert!(!may(here("-c gp_role=utility")).unwrap());
    assert!(may(server.at("/nowhere", 1, None)).is_err());
}

#[test]
fn a_reading_takes_one_connection_and_few_statements() {
    let settings = ["log_connections = on", "log_statement = 'all'", "autovacuum = off"];
    let Some(cluster) = Postgres::start(&[], &settings) else { return };
    let database = cluster.database("many", &[]);
    cluster.sql(
        &database,
        "
        CREATE TABLE many (k int, i int) PARTITION BY LIST (k);
        SELECT format('CREATE TABLE many%s PARTITION OF many FOR VALUES IN (%s)', k, k)
            FROM generate_series(10, 39) k \\gexec
        INSERT INTO many SELECT 10 + i % 30, i FROM generate_series(1, 3000) i;
        ALTER TABLE many20 SET UNLOGGED; CREATE TABLE one AS TABLE many; VACUUM (FREEZE);
    ",
    );
    let server = server(&cluster, &database);
    let counted = |table| {
        let log = || std::fs::read_to_string(cluster.folder().join("log")).unwrap();
        let before = log().len();
        let reading = read(&server, &request(table, Access::Auto)).unwrap();
        let log = log()[before..].to_owned();
        let count = |word: &str| log.matches(word).count();
        let statements = count("LOG:  statement: ") + count("LOG:  execute ");
        assert_eq!(count("connection authorized"), 1, "{log}");
        (reading, statements)
    };
    let (one, statements) = counted("one");
    assert!(matches!(one.parts[0].path, Path::Direct { .. }));
    assert!(statements <= 13, "{statements} statements");
    let (reading, statements) = counted("many");
    // Each is looked up by two, again once it is locked, and the end of the log is asked for behind it.
    assert!(statements <= 13 + 5 * 30, "{statements} statements");
    assert_eq!((reading.parts.len(), rows(&reading).num_rows()), (30, 3_000));
    let copied = reading.parts.iter().filter(|part| matches!(part.path, Path::Copy { .. }));
    assert_eq!(copied.map(|part| part.name.as_str()).collect::<Vec<_>>(), ["public.many20"]);
    let error = read(&server, &request("many", Access::Direct)).unwrap_err().to_string();
    let unlogged = "it is unlogged: checkpoints do not write it out";
    assert_eq!(error, format!("table public.many20: cannot be read directly: {unlogged}"));
}
