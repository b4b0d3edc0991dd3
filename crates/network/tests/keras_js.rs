//! Predictions of small networks, nearly one for each layer and option, as keras-js's test data have
//! them. The file is not part of the repository; without it this test says so and passes.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests panic, and say when they skip"
)]

use std::path::Path;

use arrowhop_network::{Input, Memory, Network, NetworkSpec};
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::Value;

fn records() -> Option<Vec<Value>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures");
    let file = folder.join("kerasjs_fixtures/fixtures.json");
    if !file.exists() {
        println!("skipped: {} is not there", file.display());
        return None;
    }
    Some(serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
}

fn floats(array: &Value) -> Vec<f32> {
    let single = |value: &Value| value.as_f64().unwrap().to_string().parse().unwrap();
    array["data"].as_array().unwrap().iter().map(single).collect()
}

fn all_floats(arrays: &Value) -> Vec<Vec<f32>> {
    arrays.as_array().unwrap().iter().map(floats).collect()
}

/// The output of the last of the record's calls: stateful layers go on from call to call.
fn predict(record: &Value) -> Result<Vec<f32>, String> {
    let spec = NetworkSpec::parse(&record["keras2_model_json"].to_string());
    let spec = spec.map_err(|problems| problems.to_string())?;
    let device = Device::flex();
    let network = Network::from_weights(&spec, all_floats(&record["weights"]), &device);
    let network = network.map_err(|error| error.to_string())?;
    let inputs = || {
        let tensor = |data: Vec<f32>| {
            let shape = [1, data.len()];
            Input::Values(Tensor::from_data(TensorData::new(data, shape), &device))
        };
        all_floats(&record["inputs"]).into_iter().map(tensor).collect()
    };
    let mut memory = Memory::default();
    for _ in 1..record["calls"].as_u64().unwrap_or(1) {
        let _ = network.predict_on(inputs(), &mut memory);
    }
    let outputs = network.predict_on(inputs(), &mut memory);
    Ok(outputs.into_iter().next().unwrap().into_data().try_into_vec().unwrap())
}

/// Whether the values are the same but for rounding; the file has six digits of most.
fn is_near(found: &[f32], expected: &[f32]) -> bool {
    let mut pairs = found.iter().zip(expected);
    found.len() == expected.len() && pairs.all(|(a, b)| (a - b).abs() <= 2e-5 * (1.0 + b.abs()))
}

#[test]
fn predictions_are_those_of_keras_js() {
    let Some(records) = records() else { return };
    let mut differ = Vec::new();
    let mut checked = 0;
    for record in records.iter().filter(|record| record["status"] == "match") {
        checked += 1;
        let (id, expected) = (&record["id"], floats(&record["expected"]));
        match predict(record) {
            Ok(found) if is_near(&found, &expected) => {}
            Ok(found) => differ.push(format!("{id}: {found:?}, not {expected:?}")),
            Err(error) => differ.push(format!("{id}: {error}")),
        }
    }
    assert!(differ.is_empty(), "{} of {checked} differ:\n{}", differ.len(), differ.join("\n"));
    assert_eq!(checked, 275);
}
