//! Texts meant to hurt: each ends in an error, soon and in little memory.

use std::time::{Duration, Instant};

use arrowhop_network::NetworkSpec;
use serde_json::{Value, json};

/// Far above what any of them takes: only an endless one would hit it on a busy machine.
const TIME_MAX: Duration = Duration::from_secs(2);
const MEMORY_MAX: u64 = 64 << 20;

/// The process's peak memory so far, in bytes.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    Some(1024 * line.split_whitespace().nth(1)?.parse::<u64>().ok()?)
}

fn sequential(layers: &[Value]) -> String {
    json!({"class_name": "Sequential", "config": {"layers": layers}}).to_string()
}

fn dense(name: &str, units: u64) -> Value {
    json!({"class_name": "Dense", "config": {"name": name, "units": units,
        "batch_input_shape": [null, 4]}})
}

/// A chain of calls, the first of which calls the last.
fn ring(length: usize) -> String {
    let name = |i: usize| format!("d{}", i % length);
    let mut layers: Vec<Value> = (0..length)
        .map(|i| {
            json!({"class_name": "Dense", "name": name(i), "config": {"name": name(i), "units": 4},
                "inbound_nodes": [[[name(i + length - 1), 0, 0, {}]]]})
        })
        .collect();
    layers.push(json!({"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
        "config": {"name": "x", "batch_input_shape": [null, 4]}}));
    json!({"class_name": "Functional", "config": {"layers": layers,
        "input_layers": [["x", 0, 0]], "output_layers": [["d0", 0, 0]]}})
    .to_string()
}

/// A chain of one-input layers of this many calls of the same layer.
fn shared(calls: usize) -> String {
    let inbound: Vec<Value> = (0..calls)
        .map(|i| if i == 0 { json!([["x", 0, 0]]) } else { json!([["d", i - 1, 0]]) })
        .collect();
    json!({"class_name": "Functional", "config": {"layers": [
        {"class_name": "InputLayer", "name": "x", "inbound_nodes": [],
            "config": {"name": "x", "batch_input_shape": [null, 4]}},
        {"class_name": "Dense", "name": "d", "config": {"name": "d", "units": 4},
            "inbound_nodes": inbound}],
        "input_layers": [["x", 0, 0]], "output_layers": [["d", calls - 1, 0]]}})
    .to_string()
}

fn texts() -> Vec<(&'static str, String, &'static str)> {
    let nested = |levels: usize| "{\"a\":".repeat(levels) + "1" + &"}".repeat(levels);
    let twins = [dense("same", 4), dense("same", 4)];
    let names = [dense(&"n".repeat(1 << 20), 4)];
    let many = vec![json!({"class_name": "Dense", "config": {"units": 0}}); 4_096];
    let long = vec![json!({"class_name": "Dense", "config": {"units": 0}}); 20_000];
    let objects = format!("[{}{{\"a\":0}}]", "{\"a\":0},".repeat(65_000));
    let mut wide = dense("d", 4);
    wide["config"]["batch_input_shape"] = json!([null, 1_u64 << 40]);
    vec![
        ("100,000 levels of lists", "[".repeat(100_000), ""),
        ("100,000 levels of objects", nested(100_000), ""),
        ("1e9 units", sequential(&[dense("d", 1_000_000_000)]), "/config/layers/0/config/units"),
        ("2^40 inputs", sequential(&[wide]), "/config/layers/0/config/batch_input_shape"),
        ("a cycle of 2,000", ring(2_000), "/config/layers/0/inbound_nodes/0"),
        ("a cycle of one", ring(1), "/config/layers/0/inbound_nodes/0"),
        ("duplicate names", sequential(&twins), "/config/layers/1/config/name"),
        ("a name of a mebibyte", sequential(&names), "/config/layers/0/config/name"),
        ("4,096 wrong layers", sequential(&many), "/config/layers/0/config/batch_input_shape"),
        ("20,000 wrong layers", sequential(&long), "/config/layers"),
        ("65,000 objects", objects, ""),
        ("20,000 calls of a layer", shared(20_000), "/config/layers/1/inbound_nodes/16384"),
        ("4 MiB of digits", "1".repeat(4 << 20), ""),
    ]
}

#[test]
fn each_ends_in_an_error_with_its_pointer_soon_and_in_little_memory() {
    for (what, text, place) in texts() {
        let before = peak_memory();
        let begun = Instant::now();
        let problems = NetworkSpec::parse(&text).expect_err(what);
        let took = begun.elapsed();
        assert_eq!(problems.iter().next().unwrap().place, place, "{what}");
        assert!(took < TIME_MAX, "{what} took {took:?}");
        if let (Some(before), Some(after)) = (before, peak_memory()) {
            let grown = after - before;
            assert!(grown < MEMORY_MAX, "{what} took {grown} bytes");
        }
    }
}
