//! Rows of PostgreSQL into Arrow, beside ADBC's driver, connectorx and `cat` of the table's files:
//! five kinds of tables, each way in a process of its own, taken in turn, wall and CPU seconds of
//! client and server together. `cargo bench --package arrowhop-source --bench postgres -- --help`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "it prints figures or stops")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use arrowhop_source::postgres::{Access, Request, Rows, Server, read};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

#[path = "../../../tests/harness/postgres.rs"]
#[expect(dead_code, unreachable_pub, reason = "it is also the tests'")]
mod harness;

use harness::Postgres;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The ways, as they are shown.
const WAYS: [&str; 7] = ["cat", "direct", "direct-2", "copy", "copy-2", "adbc", "connectorx"];
/// The database.
const DATABASE: &str = "bench";
/// What a server of a machine like this would have.
const SETTINGS: [&str; 6] = [
    "listen_addresses = '127.0.0.1'",
    "shared_buffers = 512MB",
    "max_wal_size = 4GB",
    "full_page_writes = off",
    "autovacuum = off",
    "max_parallel_workers = 2",
];

/// One kind of table.
struct Table {
    name: &'static str,
    /// Its columns, and what is done before rows come in.
    definition: &'static str,
    rows: u64,
    /// Writes one row in the form of `COPY … (FORMAT binary)`.
    row: fn(u64, &mut ChaCha8Rng, &mut Vec<u8>),
}

const TABLES: [Table; 5] = [
    // Of no weight: what a reading costs before its first row.
    Table {
        name: "small",
        definition: "CREATE TABLE small (id int, y int2, x real, k int)",
        rows: 1_000,
        row: small_row,
    },
    Table { name: "criteo", definition: "criteo", rows: 2_000_000, row: criteo },
    Table {
        name: "cifar",
        definition: "CREATE TABLE cifar (id int, y int2, x bytea, k int)",
        rows: 50_000,
        row: cifar,
    },
    Table {
        name: "reals",
        definition: "CREATE TABLE reals (id int, y int2, x real[], k int)",
        rows: 10_000,
        row: reals,
    },
    Table {
        name: "packed",
        definition: "CREATE TABLE packed (id int, x bytea, y bytea, k int); \
                     ALTER TABLE packed ALTER x SET STORAGE EXTERNAL",
        rows: 100,
        row: packed,
    },
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let options: BTreeMap<&str, &str> =
        arguments.iter().filter_map(|it| it.strip_prefix("--")?.split_once('=')).collect();
    if arguments.iter().any(|it| it == "--help") {
        println!(
            "--rounds=5 --scale=1.0 --tables=small,criteo,cifar,reals,packed --ways={}",
            WAYS.join(",")
        );
        println!(
            "ARROWHOP_PEERS_PYTHON: a Python with adbc-driver-postgresql, connectorx and pyarrow"
        );
        return;
    }
    if let Some(way) = options.get("one") {
        return one(way, options["connection"], options["table"]);
    }
    let get = |key: &str, otherwise: &str| {
        options.get(key).map_or_else(|| otherwise.to_owned(), |value| (*value).to_owned())
    };
    let rounds: usize = get("rounds", "5").parse().unwrap();
    let scale: f64 = get("scale", "1").parse().unwrap();
    let tables = get("tables", "small,criteo,cifar,reals,packed");
    let ways = get("ways", &WAYS.join(","));
    let Some(cluster) = Postgres::start(&[], &SETTINGS) else { return };
    cluster.database(DATABASE, &[]);
    for table in TABLES.iter().filter(|table| tables.split(',').any(|name| name == table.name)) {
        fill(&cluster, table, scale);
        compare(&cluster, table, rounds, &ways.split(',').collect::<Vec<_>>());
    }
}

/// Makes a table, as one that has been there for a while.
fn fill(cluster: &Postgres, table: &Table, scale: f64) {
    let definition = match table.definition {
        "criteo" => {
            let numbers = (0..13).map(|i| format!(", i{i} float4"));
            let categories = (0..26).map(|i| format!(", c{i} int4"));
            let columns: String = numbers.chain(categories).collect();
            format!("CREATE TABLE criteo (label int2{columns})")
        }
        other => other.to_owned(),
    };
    cluster.sql(DATABASE, &definition);
    let mut psql = cluster.psql(DATABASE);
    psql.arg("-c").arg(format!("COPY {} FROM STDIN (FORMAT binary)", table.name));
    let mut psql = psql.spawn().unwrap();
    let mut out = BufWriter::with_capacity(1 << 20, psql.stdin.take().unwrap());
    out.write_all(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0").unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut row = Vec::new();
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a share")]
    #[expect(clippy::cast_sign_loss, reason = "a share")]
    let rows = (table.rows as f64 * scale) as u64;
    for i in 0..rows {
        row.clear();
        (table.row)(i, &mut random, &mut row);
        out.write_all(&row).unwrap();
    }
    out.write_all(&(-1_i16).to_be_bytes()).unwrap();
    drop(out.into_inner().unwrap());
    assert!(psql.wait().unwrap().success());
    cluster.sql(DATABASE, &format!("VACUUM (FREEZE, ANALYZE) {}; CHECKPOINT", table.name));
}

fn field(row: &mut Vec<u8>, value: &[u8]) {
    row.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
    row.extend(value);
}

fn small(i: u64) -> i32 {
    i32::try_from(i).unwrap()
}

fn small_row(i: u64, random: &mut ChaCha8Rng, row: &mut Vec<u8>) {
    row.extend(4_i16.to_be_bytes());
    field(row, &small(i).to_be_bytes());
    field(row, &i16::try_from(i % 10).unwrap().to_be_bytes());
    field(row, &f32::from(u16::try_from(random.next_u32() % 1_000).unwrap()).to_be_bytes());
    field(row, &small(i % 8).to_be_bytes());
}

fn criteo(_: u64, random: &mut ChaCha8Rng, row: &mut Vec<u8>) {
    row.extend(40_i16.to_be_bytes());
    field(row, &i16::from(random.next_u32().is_multiple_of(4)).to_be_bytes());
    for _ in 0..13 {
        let number = f64::from(random.next_u32() | 1) / f64::from(u32::MAX);
        #[expect(clippy::cast_possible_truncation, reason = "a feature")]
        field(row, &((-3.0 * number.ln()) as f32).to_be_bytes());
    }
    for _ in 0..26 {
        field(row, &(random.next_u32() % 1_000_000).to_be_bytes());
    }
}

fn cifar(i: u64, random: &mut ChaCha8Rng, row: &mut Vec<u8>) {
    row.extend(4_i16.to_be_bytes());
    field(row, &small(i).to_be_bytes());
    field(row, &i16::try_from(i % 10).unwrap().to_be_bytes());
    let mut image = [0; 3_072];
    random.fill_bytes(&mut image);
    field(row, &image);
    field(row, &small(i % 8).to_be_bytes());
}

fn reals(i: u64, random: &mut ChaCha8Rng, row: &mut Vec<u8>) {
    row.extend(4_i16.to_be_bytes());
    field(row, &small(i).to_be_bytes());
    field(row, &i16::try_from(i % 10).unwrap().to_be_bytes());
    let mut image = [0; 3_072];
    random.fill_bytes(&mut image);
    // One axis, no nulls, float4, 3,072 elements from 1.
    let mut array: Vec<u8> =
        [1, 0, 700, 3_072, 1_u32].iter().flat_map(|it| it.to_be_bytes()).collect();
    for pixel in image {
        field(&mut array, &(f32::from(pixel) / 255.0).to_be_bytes());
    }
    field(row, &array);
    field(row, &small(i % 8).to_be_bytes());
}

fn packed(i: u64, random: &mut ChaCha8Rng, row: &mut Vec<u8>) {
    const EXAMPLES: usize = 256;
    row.extend(4_i16.to_be_bytes());
    field(row, &small(i).to_be_bytes());
    let mut images = vec![0; EXAMPLES * 3_072];
    random.fill_bytes(&mut images);
    let images: Vec<u8> =
        images.iter().flat_map(|&pixel| (f32::from(pixel) / 255.0).to_le_bytes()).collect();
    field(row, &images);
    let labels: Vec<u8> = (0..EXAMPLES).flat_map(|i| [u8::try_from(i % 10).unwrap(), 0]).collect();
    field(row, &labels);
    field(row, &small(i % 8).to_be_bytes());
}

/// Every way in turn, round after round; the medians.
fn compare(cluster: &Postgres, table: &Table, rounds: usize, ways: &[&str]) {
    let connection = cluster.connection(DATABASE);
    let mut found: BTreeMap<&str, Vec<[f64; 2]>> = BTreeMap::new();
    let mut digests = BTreeMap::new();
    for round in 0..=rounds {
        for &way in ways {
            run(cluster, "touch", &connection, table.name);
            let before = server_cpu(cluster);
            let Some(said) = run(cluster, way, &connection, table.name) else { continue };
            let server = settled_server_cpu(cluster, before);
            let mut words = said.split_whitespace();
            let mut next = || words.next().unwrap().parse::<f64>().unwrap();
            let (wall, client) = (next(), next());
            digests.insert(way, words.next().unwrap_or_default().to_owned());
            // The first one warms the caches.
            if round > 0 {
                found.entry(way).or_default().push([wall, client + server]);
            }
        }
    }
    let median = |values: &[[f64; 2]], i: usize| {
        let mut values: Vec<f64> = values.iter().map(|value| value[i]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let bytes = cluster.sql(DATABASE, &format!("SELECT pg_table_size('{}')", table.name));
    println!(
        "\n{}: {} MB, {rounds} rounds",
        table.name,
        bytes.trim().parse::<u64>().unwrap() / 1_000_000
    );
    let adbc = found.get("adbc").map(|values| median(values, 1));
    println!("{:>12} {:>8} {:>8} {:>14}", "", "wall s", "CPU s", "CPU to ADBC's");
    for way in ways {
        let Some(values) = found.get(way) else { continue };
        let (wall, cpu) = (median(values, 0), median(values, 1));
        let ratio = adbc.map_or_else(String::new, |adbc| format!("{:.2}x", adbc / cpu));
        println!("{way:>12} {wall:>8.3} {cpu:>8.3} {ratio:>14}  {}", digests[way]);
    }
}

/// Runs one way in a process of its own.
fn run(cluster: &Postgres, way: &str, connection: &str, table: &str) -> Option<String> {
    let mut command = match way {
        "adbc" | "connectorx" => {
            let python = std::env::var("ARROWHOP_PEERS_PYTHON").ok()?;
            let script =
                concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python/read_postgres.py");
            let mut command = Command::new(python);
            let port = cluster.port().to_string();
            command.arg(script).args([
                way,
                &cluster.folder().display().to_string(),
                port.trim(),
                table,
            ]);
            command
        }
        _ => {
            let mut command = Command::new(std::env::current_exe().unwrap());
            let connection =
                if way == "cat" { files(cluster, table) } else { connection.to_owned() };
            command.args([
                format!("--one={way}"),
                format!("--connection={connection}"),
                format!("--table={table}"),
            ]);
            command
        }
    };
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{way} failed");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// The files of a table and of its long values.
fn files(cluster: &Postgres, table: &str) -> String {
    let paths = cluster.sql(
        DATABASE,
        &format!(
            "SELECT pg_relation_filepath(oid) FROM pg_class WHERE oid = '{table}'::regclass \
         UNION ALL SELECT pg_relation_filepath(reltoastrelid) FROM pg_class \
         WHERE oid = '{table}'::regclass AND reltoastrelid <> 0"
        ),
    );
    let paths = paths.lines().map(|path| cluster.data().join(path).display().to_string());
    paths.collect::<Vec<_>>().join(",")
}

/// One way, here: prints wall and CPU seconds, and rows with bytes.
fn one(way: &str, connection: &str, table: &str) {
    let (begun, cpu) = (Instant::now(), client_cpu());
    let said = if way == "touch" {
        // A virtual machine's host may have taken back what the last way freed; getting it again costs
        // more than reading, so it happens here.
        std::hint::black_box(vec![1_u8; 2 << 30]).len().to_string()
    } else if way == "cat" {
        let mut buffer = vec![0; 1 << 20];
        let mut bytes = 0;
        for path in connection.split(',') {
            let mut file = File::open(Path::new(path)).unwrap();
            while let count @ 1.. = file.read(&mut buffer).unwrap() {
                bytes += count;
            }
        }
        format!("{bytes}B")
    } else {
        let server = Server::parse(connection, |_| None).unwrap();
        let access = if way.starts_with("copy") { Access::Copy } else { Access::Direct };
        let threads = if way.ends_with("-2") { 2 } else { 1 };
        let request = Request { access, threads, ..Request::of(Rows::Table(table.into())) };
        let reading = read(&server, &request).unwrap();
        reading.parts[0].to_string().replace(' ', "_")
    };
    println!("{} {} {said}", begun.elapsed().as_secs_f64(), client_cpu() - cpu);
}

/// CPU seconds of this process.
fn client_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    #[expect(clippy::cast_precision_loss, reason = "seconds of a process")]
    let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
    seconds
}

/// CPU seconds of the server's processes, those that ended included.
fn server_cpu(cluster: &Postgres) -> f64 {
    let file = std::fs::read_to_string(cluster.data().join("postmaster.pid")).unwrap();
    let leader = file.lines().next().unwrap();
    let own = ticks(leader, 13..17);
    let children = std::fs::read_to_string(format!("/proc/{leader}/task/{leader}/children"));
    let children = children.unwrap_or_default();
    own + children.split_whitespace().map(|child| ticks(child, 13..15)).sum::<f64>()
}

/// The same, once the backend that served a client has ended.
fn settled_server_cpu(cluster: &Postgres, before: f64) -> f64 {
    std::thread::park_timeout(std::time::Duration::from_millis(100));
    server_cpu(cluster) - before
}

fn ticks(process: &str, fields: std::ops::Range<usize>) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Behind the name, which may have blanks, the third field begins.
    let Some((_, rest)) = stat.rsplit_once(") ") else { return 0.0 };
    let words: Vec<&str> = rest.split(' ').collect();
    fields.map(|field| words[field - 2].parse::<f64>().unwrap_or(0.0) / 100.0).sum()
}
