//! Serving a shard beside pyarrow's C++ Flight server: two kinds of rows, over TCP and a Unix socket,
//! to pyarrow's client and to ours, every server and client in a process of its own, the servers taken
//! in turn. Prints CPU seconds per gigabyte (of the server as the kernel counts them), gigabytes per
//! second, and how much memory our server holds while it serves for each byte that it caches.
//!
//! `cargo bench --package arrowhop-flight --bench serve -- [--mib N] [--rounds N] [--times N]`; Python
//! with pyarrow is `ARROWHOP_PYTHON`.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "it prints figures or stops")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, Int32Array, UInt8Array};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrowhop_flight::{
    CachedShard, FlightPeer, FlightServer, MemoryModels, MemoryShards, ShardHeader, ShardStore,
    ShardTicket, connect, incoming, listen, server_builder,
};
use arrowhop_types::{DataSetId, Digest, Part, ShardId};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMIT: Duration = Duration::from_secs(600);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/python/serve_shards.py");
/// A kind's name, the bytes of its batches, and how wide its input is.
const KINDS: [(&str, usize, i32); 2] = [("features", 1_000_000, 40), ("images", 2_000_000, 3_072)];
/// Ticks per second of `/proc/PID/stat`, on every Linux.
const TICKS: f64 = 100.0;
const GIGA: f64 = 1e9;

/// What is measured, and how much of it.
struct Options {
    mib: u64,
    rounds: usize,
    times: u64,
}

/// A server that is running; it ends when this is dropped.
struct Server {
    name: &'static str,
    process: Child,
    location: String,
    /// Bytes that it caches, and its memory before it did; zero for theirs.
    cached: u64,
    before: u64,
}

/// One client's reading.
struct Sample {
    server_cpu: f64,
    client_cpu: f64,
    wall: f64,
    gigabytes: f64,
    memory: u64,
}

fn main() {
    // Cargo passes `--bench`, too.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", address, kind, mib] => serve(address, kind, mib.parse().unwrap()),
        ["read", location, times] => read(location, times.parse().unwrap()),
        words => {
            let mut options = Options { mib: 512, rounds: 5, times: 4 };
            for pair in words.chunks(2) {
                match pair {
                    ["--mib", value] => options.mib = value.parse().unwrap(),
                    ["--rounds", value] => options.rounds = value.parse().unwrap(),
                    ["--times", value] => options.times = value.parse().unwrap(),
                    other => panic!("{other:?} is none of --mib N, --rounds N, --times N"),
                }
            }
            measure(&options);
        }
    }
}

fn measure(options: &Options) {
    println!("rows      over  client   server   server s/GB  client s/GB   GB/s  memory/cached");
    let folder = tempfile::tempdir().unwrap();
    for (kind, ..) in KINDS {
        for transport in ["tcp", "unix"] {
            let servers = start(options, kind, transport, folder.path());
            for client in ["pyarrow", "ours"] {
                let mut samples = [Vec::new(), Vec::new()];
                for round in 0..options.rounds {
                    // Neither is always first.
                    for place in [round % 2, (round + 1) % 2] {
                        samples[place].push(sample(&servers[place], client, options.times));
                    }
                }
                let costs = servers.iter().zip(&samples).map(|(server, samples)| {
                    let cost = median(samples, |sample| sample.server_cpu / sample.gigabytes);
                    let of_client = median(samples, |sample| sample.client_cpu / sample.gigabytes);
                    let speed = median(samples, |sample| sample.gigabytes / sample.wall);
                    let name = server.name;
                    let memory = held(server, samples);
                    println!(
                        "{kind:<9} {transport:<5} {client:<8} {name:<8} {cost:>11.3} \
                         {of_client:>12.3} {speed:>6.2}  {memory}"
                    );
                    cost
                });
                let costs: Vec<f64> = costs.collect();
                let ratio = costs[1] / costs[0];
                println!("{kind:<9} {transport:<5} {client:<8} theirs/ours {ratio:>8.2}");
            }
        }
    }
}

/// The most memory held while serving, beyond what it took before, for each byte cached.
fn held(server: &Server, samples: &[Sample]) -> String {
    let most = samples.iter().map(|sample| sample.memory).max().unwrap_or(0);
    match server.cached {
        0 => String::new(),
        cached => format!("{:.3}", most.saturating_sub(server.before) as f64 / cached as f64),
    }
}

/// Ours, and pyarrow's with what ours has.
fn start(options: &Options, kind: &str, transport: &str, folder: &Path) -> [Server; 2] {
    let (ours, theirs) = match transport {
        "tcp" => ("127.0.0.1:0".to_owned(), "grpc+tcp://127.0.0.1:0".to_owned()),
        _ => {
            let path = |name: &str| folder.join(format!("{kind}-{name}")).display().to_string();
            (format!("unix:{}", path("ours")), format!("grpc+unix://{}", path("theirs")))
        }
    };
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["serve", &ours, kind, &options.mib.to_string()]);
    let ours = spawn("ours", command);
    let mut command = Command::new(python());
    command.args([SCRIPT, "serve", &theirs, &ours.location]);
    [ours, spawn("pyarrow", command)]
}

fn python() -> String {
    std::env::var("ARROWHOP_PYTHON").unwrap_or_else(|_| "python3".to_owned())
}

/// Starts a server and reads what it says first: its location, and with ours two numbers.
fn spawn(name: &'static str, mut command: Command) -> Server {
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let location = words.next().expect("a server says where it is").to_owned();
    let mut number = || words.next().map_or(0, |word| word.parse().unwrap());
    Server { name, process, location, cached: number(), before: number() }
}

/// Lets a client read, `times` over.
fn sample(server: &Server, client: &str, times: u64) -> Sample {
    let mut command = match client {
        "ours" => Command::new(std::env::current_exe().unwrap()),
        _ => Command::new(python()),
    };
    command.args((client != "ours").then_some(SCRIPT));
    command.args(["read", &server.location, &times.to_string()]).stdout(Stdio::piped());
    let before = cpu_seconds(server.process.id());
    let reading = command.spawn().unwrap();
    // Looks at the server's memory until the client is done.
    let (done, is_done) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let output = reading.wait_with_output().unwrap();
        done.send(()).unwrap();
        output
    });
    let mut memory = 0;
    while is_done.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
        memory = memory.max(pss(&server.process.id().to_string()));
    }
    let output = waiting.join().unwrap();
    assert!(output.status.success(), "{client} cannot read from {}", server.name);
    let seen: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |key: &str| seen[key].as_f64().unwrap();
    Sample {
        server_cpu: cpu_seconds(server.process.id()) - before,
        client_cpu: number("cpu_seconds"),
        wall: number("wall_seconds"),
        gigabytes: number("bytes") / GIGA,
        memory,
    }
}

fn median(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    let mut values: Vec<f64> = samples.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds of CPU that a process has used, its kernel's included.
fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, in brackets, may hold spaces.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

/// Bytes of memory that a process holds, its share of what it shares.
fn pss(process: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

/// Our server: one shard, until it is killed.
fn serve(address: &str, kind: &str, mib: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let (listener, location) = listen(address, None).await.unwrap();
        let before = pss("self");
        let shards = Arc::new(MemoryShards::new(u64::MAX));
        let content = shard(kind, mib << 20);
        let cached = content.bytes();
        let header =
            ShardHeader { shard: ticket(), name: kind.into(), rows: content.rows(), bytes: 0 };
        shards.put(header, content).await.unwrap();
        println!("{location} {cached} {before}");
        std::io::stdout().flush().unwrap();
        let models = Arc::new(MemoryModels::default());
        let service = FlightServer::new(shards, models, location).into_service();
        let server = server_builder().add_service(service);
        server.serve_with_incoming(incoming(listener, 16)).await.unwrap();
    });
}

fn ticket() -> ShardTicket {
    let data_set = DataSetId(Digest([7; 32]));
    ShardTicket { data_set, shard: ShardId(0), part: Part::Train }
}

/// Our client.
fn read(location: &str, times: u64) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let peer = FlightPeer::new(connect(location, LIMIT).await.unwrap());
        let (began_at, cpu) = (Instant::now(), cpu_seconds(std::process::id()));
        let (mut bytes, mut rows) = (0, 0);
        for _ in 0..times {
            let shard = peer.shard(ticket(), u64::MAX, LIMIT).await.unwrap();
            bytes += shard.bytes();
            rows += shard.rows();
        }
        let seen = serde_json::json!({
            "wall_seconds": began_at.elapsed().as_secs_f64(),
            "cpu_seconds": cpu_seconds(std::process::id()) - cpu,
            "bytes": bytes,
            "rows": rows,
        });
        println!("{seen}");
    });
}

/// About `bytes` bytes of rows, made batch by batch.
fn shard(kind: &str, bytes: u64) -> CachedShard {
    let &(_, batch_bytes, width) = KINDS.iter().find(|known| known.0 == kind).unwrap();
    let is_image = kind == "images";
    let item_type = if is_image { DataType::UInt8 } else { DataType::Float32 };
    let item = Arc::new(Field::new("item", item_type.clone(), false));
    let row_bytes = item_type.primitive_width().unwrap() * usize::try_from(width).unwrap() + 12;
    let rows = batch_bytes / row_bytes;
    let batches = bytes / batch_bytes as u64;
    let schema = schema(&item, width);
    let of_batch = |batch: u64| {
        let rows_of_it = batch * rows as u64..(batch + 1) * rows as u64;
        let values = rows * usize::try_from(width).unwrap();
        let mix = |at: usize| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(batch);
        let bytes = (0..values).map(|at| mix(at).to_le_bytes()[7]);
        let values: ArrayRef = if is_image {
            Arc::new(UInt8Array::from_iter_values(bytes))
        } else {
            Arc::new(Float32Array::from_iter_values(bytes.map(f32::from)))
        };
        let columns: Vec<ArrayRef> = vec![
            Arc::new(UInt64Array::from_iter_values(rows_of_it)),
            Arc::new(FixedSizeListArray::new(Arc::clone(&item), width, values, None)),
            Arc::new(Int32Array::from(vec![7; rows])),
        ];
        RecordBatch::try_new(SchemaRef::clone(&schema), columns).unwrap()
    };
    CachedShard::encode(SchemaRef::clone(&schema), (0..batches).map(of_batch)).unwrap()
}

fn schema(item: &Arc<Field>, width: i32) -> SchemaRef {
    let tensor = ("ARROW:extension:name".into(), "arrow.fixed_shape_tensor".into());
    let shape = ("ARROW:extension:metadata".into(), format!("{{\"shape\":[{width}]}}"));
    let x = Field::new("x", DataType::FixedSizeList(Arc::clone(item), width), false);
    Arc::new(Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        x.with_metadata([tensor, shape].into()),
        Field::new("y", DataType::Int32, false),
    ]))
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
