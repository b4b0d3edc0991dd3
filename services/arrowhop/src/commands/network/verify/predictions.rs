//! Predictions: one example through a model with given weights.

use arrowhop_network::NetworkSpec;
use arrowhop_train::{Device, infer};
use serde_json::Value;

use super::Record;
use super::arrays::{Array, Difference, Tolerance, data};

/// Expected values have six decimals.
const TOLERANCE: Tolerance = Tolerance { relative: 2e-4, floor: 1e-2 };

pub(super) fn verify(records: &[Value], device: &Device) -> Vec<Record> {
    let names = records.iter().enumerate();
    let record = |(i, record): (usize, &Value)| {
        let name = record.get("id").and_then(Value::as_str).map(ToOwned::to_owned);
        Record::of(name.unwrap_or_else(|| format!("record {i}")), compare(record, device))
    };
    names.map(record).collect()
}

fn compare(record: &Value, device: &Device) -> Result<Vec<Difference>, String> {
    let model = record.get("keras2_model_json").or_else(|| record.get("model"));
    let model = model.ok_or("keras2_model_json is missing")?;
    let text = model.as_str().map_or_else(|| model.to_string(), ToOwned::to_owned);
    let network = NetworkSpec::parse(&text).map_err(|problems| problems.to_string())?;
    let weights = data(Array::read_all(record, "weights")?);
    let inputs = data(Array::read_all(record, "inputs")?);
    let expected = Array::read(record, "expected")?;
    // Records of stateful layers hold what the second of two equal batches gives.
    let times = if network.stateful_layers().is_empty() { 1 } else { 2 };
    let outputs = infer(&network, weights, &inputs, times, device);
    let outputs = outputs.map_err(|error| error.to_string())?;
    let found = outputs.concat();
    Ok(vec![Difference::between("prediction", &found, &expected.data, TOLERANCE)?])
}
