//! Foreign clients on the data plane: a stock pyarrow client that knows only the supervisor, and
//! gRPC health checks, against a cluster of real processes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use arrowhop_tests::{Cluster, Experiment, Program, python, shapes, shared, wait_for, workspace};
use arrowhop_wire::control::SegmentsRequest;
use arrowhop_wire::control::supervisor_client::SupervisorClient;
use serde_json::Value;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

const BINARY: &str = env!("CARGO_BIN_EXE_arrowhop-under-test");
const LIMIT: Duration = Duration::from_secs(30);
/// What the script needs.
const MODULES: &str = "blake3, pyarrow.flight";

/// What the script `read_shards.py` saw of a cluster.
fn read_shards(python: &Path, supervisor: &str, arguments: &[&str]) -> Value {
    let script = workspace().join("tests/python/read_shards.py");
    let output = Command::new(python).arg(script).arg(supervisor).args(arguments).output();
    let output = output.expect("start Python");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    serde_json::from_slice(&output.stdout).expect("the script prints JSON")
}

/// A cluster whose segments are all attached.
fn attached_cluster(program: &Program, segments: u32) -> Cluster {
    let cluster = Cluster::start(program, segments);
    await_segments(&cluster, segments as usize);
    cluster
}

fn await_segments(cluster: &Cluster, count: usize) {
    let runtime = runtime();
    let mut client = SupervisorClient::new(runtime.block_on(connect(&cluster.uri)));
    wait_for("the attachment of all segments", LIMIT, || {
        let listed = runtime.block_on(client.segments(SegmentsRequest {}));
        (listed.expect("list the segments").into_inner().segments.len() == count).then_some(())
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("make a runtime")
}

async fn connect(uri: &str) -> Channel {
    let uri = uri.replace("grpc://", "http://").replace("grpc+unix://", "unix:");
    let endpoint = Endpoint::from_shared(uri).expect("it is an address").timeout(LIMIT);
    endpoint.connect().await.expect("connect")
}

/// Asserts that an error is of this kind and says this.
fn assert_refused(seen: &Value, name: &str, kind: &str, text: &str) {
    let refusal = &seen["refusals"][name];
    assert_eq!(refusal["kind"], kind, "{name}: {refusal}");
    let found = refusal["text"].as_str().expect("an error has a text");
    assert!(found.contains(text), "{name}: {found}");
}

/// The shards' numbers, rows and first locations of a part, in the order of its endpoints.
fn endpoints<'a>(seen: &'a Value, part: &str) -> Vec<(u64, u64, &'a str)> {
    let endpoints = seen["parts"][part]["endpoints"].as_array().expect("a part has endpoints");
    endpoints
        .iter()
        .map(|endpoint| {
            assert_eq!(endpoint["locations"].as_array().map(Vec::len), Some(1), "{endpoint}");
            let number = |key: &str| endpoint[key].as_u64().expect("a number");
            let location = endpoint["locations"][0].as_str().expect("a location");
            (number("shard"), number("rows"), location)
        })
        .collect()
}

/// Asserts that the rows seen are exactly those of the run's data set.
fn assert_whole(seen: &Value, fitted: &Value) {
    assert_eq!(seen["data_sets"], serde_json::json!([fitted["data"]["id"]]));
    for part in ["train", "validation"] {
        let rows = &fitted["data"][format!("{part}_rows")];
        let sum: u64 = endpoints(seen, part).iter().map(|endpoint| endpoint.1).sum();
        assert_eq!(Some(sum), rows.as_u64(), "{part}");
        assert_eq!(&seen["parts"][part]["rows_distinct"], rows, "{part}");
        assert_eq!(&seen["parts"][part]["rows"], rows, "{part}");
        assert_eq!(
            seen["parts"][part]["classes"], fitted["data"]["targets"][0]["classes"],
            "{part}"
        );
    }
    assert_eq!(seen["rows_digest"], fitted["data"]["rows_digest"]);
}

#[test]
fn a_stock_client_that_knows_only_the_supervisor_reads_everything() {
    let Some(python) = python(MODULES) else { return };
    let program = Program::new(BINARY);
    let mut cluster = attached_cluster(&program, 2);
    let experiment = shapes(200, 3, 1, 9, "");
    let fit = ["fit", &experiment.argument(), "--cluster", &cluster.uri, "--output", "json"];
    let fitted = program.json(&fit);
    let model = fitted["best"].to_string();

    // One epoch over three shards makes version 3.
    let seen = read_shards(&python, &cluster.uri, &["--model", "1", &model, "3"]);
    assert_whole(&seen, &fitted);
    assert_eq!(seen["parts"]["train"]["name"], "shapes");
    let segments = cluster.segments.clone();
    let [first, second] = [0, 1].map(|segment| segments[segment].as_str());
    for part in ["train", "validation"] {
        let shards = endpoints(&seen, part);
        assert_eq!(shards, [(0, 67, first), (1, 67, second), (2, 66, first)], "{part}");
    }

    // Of shards of 67, 67 and 66 rows, from row 3 to 66, and from row 33 on of the first and last.
    let selections = serde_json::json!([
        { "shards": 3, "rows": 3 },
        { "shards": 3, "rows": 189 },
        { "shards": 2, "rows": 67 },
        { "shards": 1, "rows": 1 },
    ]);
    assert_eq!(seen["selections"], selections);

    // The supervisor keeps no shards; the segments keep all of them.
    assert_eq!(seen["actions"], serde_json::json!(["status", "drop-data-set"]));
    assert_eq!((&seen["status"]["shards"], &seen["status"]["limit_bytes"]), (&0.into(), &0.into()));
    let kept: Vec<_> = [first, second].map(|uri| &seen["segments"][uri]).into();
    for (status, (shards, rows)) in kept.iter().zip([(4, 266), (2, 134)]) {
        assert_eq!((&status["shards"], &status["rows"]), (&shards.into(), &rows.into()));
        assert_eq!(status["used_bytes"], status["shard_bytes"]);
        assert_eq!(status["limit_bytes"], 1_u64 << 30);
    }

    let best = fitted["models"].as_array().expect("models are listed");
    let best = best.iter().find(|listed| listed["model"] == fitted["best"]).expect("the best one");
    assert_eq!(seen["model"]["digest"], best["digest"]);
    assert_eq!(seen["model"]["announced"]["digest"], best["digest"]);
    assert_eq!(seen["model"]["announced"]["bytes"], seen["model"]["bytes"].to_string());

    assert_refused(
        &seen,
        "garbage",
        "ArrowInvalid",
        "ticket: is not as schemas/tickets.proto says",
    );
    let elsewhere = format!("are not here; read them at {first}");
    assert_refused(&seen, "elsewhere", "ArrowKeyError", &elsewhere);
    assert_refused(&seen, "no_shard", "ArrowKeyError", "no train rows of shard 999 of data set");
    assert_refused(&seen, "no_model", "ArrowKeyError", "no version 1 of model 1 of run 999 here");
    assert_refused(&seen, "no_data_set", "ArrowKeyError", "no data set absent/train here");
    let column = "descriptor.columns: z: is not there; there are row, x, y";
    assert_refused(&seen, "no_column", "ArrowInvalid", column);
    assert_refused(&seen, "put", "ArrowInvalid", "put: is for a segment, not for the supervisor");
    assert_refused(&seen, "action", "ArrowNotImplementedError", "no action shuffle; use status");

    // What a lost segment kept is not listed any more; the rest still is.
    cluster.kill_segment(1);
    let left = read_shards(&python, &cluster.uri, &[]);
    for part in ["train", "validation"] {
        assert_eq!(endpoints(&left, part), [(0, 67, first), (2, 66, first)], "{part}");
    }
}

#[test]
fn a_cluster_on_unix_sockets_is_read_by_a_stock_client() {
    let Some(python) = python(MODULES) else { return };
    let program = Program::new(BINARY);
    let folder = tempfile::tempdir().expect("make a temporary folder");
    let socket = |name: &str| folder.path().join(name).display().to_string();
    let cluster = Cluster::start_at(&program, 2, &["--cache-memory", "1GiB"], |name| {
        format!("unix:{}", socket(name))
    });
    await_segments(&cluster, 2);
    assert_eq!(cluster.uri, format!("grpc+unix://{}", socket("supervisor")));
    let experiment = shapes(200, 2, 1, 9, "");
    let fit = ["fit", &experiment.argument(), "--cluster", &cluster.uri, "--output", "json"];
    let fitted = program.json(&fit);
    let seen = read_shards(&python, &cluster.uri, &[]);
    assert_whole(&seen, &fitted);
    let [first, second] = [0, 1].map(|segment| cluster.segments[segment].clone());
    assert_eq!(first, format!("grpc+unix://{}", socket("0")));
    assert_eq!(endpoints(&seen, "train"), [(0, 100, &*first), (1, 100, &*second)]);
    cluster.stop();
    assert_eq!(folder.path().read_dir().expect("list the folder").count(), 0);
}

#[test]
fn a_real_data_set_arrives_as_it_is_in_its_files() {
    let (Some(python), Some(data)) = (python(MODULES), shared("data")) else { return };
    let networks = workspace().join("examples/networks");
    let experiment = Experiment::new(&format!(
        r#"
version = 1
name = "fashion"
seed = 4
epochs = 1
[data]
train = "fashion-mnist-train.parquet"
validation = "fashion-mnist-test.parquet"
input = "image"
normalize = 255
target = "label"
shards = 3
[search]
networks = ["{}/fashion_mlp.json"]
batch_size = [64]
[[search.optimizer]]
name = "adam"
learning_rate = 0.001
"#,
        networks.display()
    ));
    let path =
        |file: &str| data.join(file).to_str().expect("the folder's name is UTF-8").to_owned();
    let (train, test) = (path("fashion-mnist-train.parquet"), path("fashion-mnist-test.parquet"));
    let program = Program::new(BINARY);
    let cluster = attached_cluster(&program, 2);
    let mut fit = program.command(&["fit", &experiment.argument(), "--max-rows", "3000"]);
    fit.arg("--data").arg(&data).args(["--cluster", &cluster.uri, "--output", "json"]);
    let output = fit.output().expect("start the program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let fitted: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");

    let sources = [
        ["--source", "train", &train, "image", "label"],
        ["--source", "validation", &test, "image", "label"],
    ];
    let seen = read_shards(&python, &cluster.uri, sources.as_flattened());
    assert_whole(&seen, &fitted);
    assert_eq!(seen["parts"]["train"]["rows"], 3_000);
    assert_eq!(seen["parts"]["train"]["shape"], serde_json::json!([28, 28, 1]));
    cluster.stop();
}

#[test]
fn clients_that_leave_give_back_what_they_held() {
    let Some(python) = python(MODULES) else { return };
    let program = Program::new(BINARY);
    let cluster = Cluster::start(&program, 1);
    let script = workspace().join("tests/python/leave_early.py");
    let output = Command::new(python).arg(script).arg(&cluster.segments[0]).output();
    let output = output.expect("start Python");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Value = serde_json::from_slice(&output.stdout).expect("the script prints JSON");
    let used = |step: &str| seen[step]["used_bytes"].as_u64().expect("a number");
    let shards = |step: &str| seen[step]["shards"].as_u64().expect("a number");
    assert_eq!(
        (shards("whole"), used("whole")),
        (1, seen["whole"]["shard_bytes"].as_u64().expect("a number"))
    );
    // The reader has the shard's memory until it leaves.
    assert_eq!((shards("dropped"), used("dropped")), (0, used("whole")));
    assert_eq!((shards("left"), used("left")), (0, 0));
    // As much as the upload announced: 24,000 rows.
    assert_eq!((shards("reserved"), used("reserved")), (0, 24_000 * 3_172));
    assert_eq!((shards("vanished"), used("vanished")), (0, 0));
    cluster.stop();
}

#[test]
fn every_process_answers_health_checks() {
    let program = Program::new(BINARY);
    let cluster = Cluster::start(&program, 1);
    let serving = i32::from(ServingStatus::Serving);
    let check = async |uri: &str, service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(connect(uri).await).check(request).await;
        answer.map(|answer| answer.into_inner().status).map_err(|status| status.code())
    };
    runtime().block_on(async {
        for (uri, service) in [
            (&cluster.uri, "arrowhop.control.v1.Supervisor"),
            (&cluster.segments[0], "arrowhop.control.v1.Segment"),
        ] {
            assert_eq!(check(uri, "").await, Ok(serving));
            assert_eq!(check(uri, service).await, Ok(serving));
            assert_eq!(check(uri, "arrowhop.control.v1.Nothing").await, Err(Code::NotFound));
        }
    });
    cluster.stop();
}
