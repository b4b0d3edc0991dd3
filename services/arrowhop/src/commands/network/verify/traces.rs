//! Training traces: some steps on one batch, from given weights.

use arrowhop_network::NetworkSpec;
use arrowhop_train::{Device, Stepper};
use arrowhop_types::optimizer::{Method, Semantics, Sgd};
use arrowhop_types::{Loss, ModelConfig, Optimizer};
use serde_json::Value;

use super::Record;
use super::arrays::{Array, Difference, Tolerance, data, numbers};

/// Gradients of weights in front of a normalisation are nothing but rounding: hence the floor.
const TOLERANCE: Tolerance = Tolerance { relative: 1e-4, floor: 1e-2 };

pub(super) fn verify(records: &[Value], device: &Device) -> Vec<Record> {
    let records = records.iter().enumerate();
    let record = |(i, record): (usize, &Value)| {
        let name = record.get("name").and_then(Value::as_str).map(ToOwned::to_owned);
        Record::of(name.unwrap_or_else(|| format!("record {i}")), compare(record, device))
    };
    records.map(record).collect()
}

fn compare(record: &Value, device: &Device) -> Result<Vec<Difference>, String> {
    let model = record.get("model").ok_or("model is missing")?.to_string();
    let network = NetworkSpec::parse(&model).map_err(|problems| problems.to_string())?;
    let names: Vec<String> = network.weights().into_iter().map(|weight| weight.name).collect();
    let trainable: Vec<String> = network
        .weights()
        .into_iter()
        .filter(|weight| weight.trainable)
        .map(|weight| weight.name)
        .collect();
    let inputs = data(Array::read_all(record, "inputs")?);
    let targets = vec![Array::read(record, "y")?.data];
    let weights = data(Array::read_all(record, "initial_weights")?);
    let stepper = Stepper::new(network, &config(record)?, weights, device);
    let mut stepper = stepper.map_err(|error| error.to_string())?;

    let gradients = data(Array::read_all(record, "first_step_gradients_trainable_order")?);
    let losses = record.get("loss_per_step_incl_regularizers").and_then(numbers);
    let losses = losses.ok_or("loss_per_step_incl_regularizers must be a list of numbers")?;
    let mut differences = Vec::new();
    for (step, expected) in losses.iter().enumerate() {
        let made = stepper.step(&inputs, &targets).map_err(|e| e.to_string())?;
        let found = made.score.loss().unwrap_or(f64::NAN);
        let place = format!("loss of step {step}");
        differences.push(Difference::of_numbers(place, found, f64::from(*expected), TOLERANCE));
        if step == 0 {
            let place = |name: &String| format!("gradient of {name}");
            differences.extend(each(&trainable, &made.gradients, &gradients, place)?);
        }
    }
    let after = data(Array::read_all(record, "weights_after")?);
    differences.extend(each(&names, &stepper.weights(), &after, |name| format!("{name} after"))?);
    let predicted = Array::read(record, "predict_after")?;
    let found = stepper.predict(&inputs).map_err(|e| e.to_string())?.concat();
    differences.push(Difference::between("prediction", &found, &predicted.data, TOLERANCE)?);
    Ok(differences)
}

/// Compares lists of arrays, one by one.
pub(super) fn each(
    names: &[String],
    found: &[Vec<f32>],
    expected: &[Vec<f32>],
    place: impl Fn(&String) -> String,
) -> Result<Vec<Difference>, String> {
    if found.len() != expected.len() {
        return Err(format!("there are {} arrays, not {}", found.len(), expected.len()));
    }
    let pairs = names.iter().zip(found.iter().zip(expected));
    let compared = pairs.map(|(name, (found, expected))| {
        Difference::between(place(name), found, expected, TOLERANCE)
    });
    compared.collect()
}

/// The trace's loss, and its optimizer: plain gradient descent by the rate that its text names.
fn config(record: &Value) -> Result<ModelConfig, String> {
    let text = |key: &str| {
        record.get(key).and_then(Value::as_str).ok_or_else(|| format!("{key} must be a text"))
    };
    let loss: Loss = text("loss")?.parse().map_err(|error| format!("loss: {error}"))?;
    let optimizer = text("optimizer")?;
    let rate = optimizer
        .strip_prefix("SGD lr=")
        .and_then(|rest| rest.strip_suffix(", no momentum"))
        .and_then(|rate| rate.parse().ok())
        .ok_or_else(|| format!("optimizer {optimizer:?} is not \"SGD lr=…, no momentum\""))?;
    let sgd = Optimizer::new(Method::Sgd(Sgd::default()), Semantics::Current).at_rate(rate);
    Ok(ModelConfig::new("trace", sgd, loss, 1))
}
