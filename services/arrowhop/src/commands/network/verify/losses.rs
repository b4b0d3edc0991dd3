//! Losses and metrics of given predictions and targets.

use arrowhop_train::{measure, row_losses};
use arrowhop_types::{Loss, Metric};
use serde_json::{Map, Value};

use super::Record;
use super::arrays::{Array, Difference, Tolerance, numbers};

const TOLERANCE: Tolerance = Tolerance { relative: 1e-4, floor: 1e-3 };

pub(super) fn verify(file: &Value) -> Vec<Record> {
    let part = |key: &str| file.get(key).and_then(Value::as_object).cloned().unwrap_or_default();
    let record = |kind: &str, (name, entry): (&String, &Value), compare: Compare| {
        Record::of(format!("{kind} {name}"), compare(file, name, entry))
    };
    let (losses, metrics): (Map<_, _>, Map<_, _>) = (part("loss"), part("metric"));
    let losses = losses.iter().map(|entry| record("loss", entry, compare_loss));
    losses.chain(metrics.iter().map(|entry| record("metric", entry, compare_metric))).collect()
}

type Compare = fn(&Value, &str, &Value) -> Result<Vec<Difference>, String>;

fn compare_loss(file: &Value, name: &str, entry: &Value) -> Result<Vec<Difference>, String> {
    let loss = loss_of(name)?;
    let (predictions, targets, width) = input(file, entry)?;
    let found = row_losses(loss, &predictions, &targets, width);
    let mut differences = Vec::new();
    if let Some(expected) = entry.get("per_row").and_then(numbers) {
        differences.push(Difference::between("rows", &singles(&found), &expected, TOLERANCE)?);
    }
    differences.push(compare_mean(entry, "mean", mean(&found))?);
    Ok(differences)
}

fn compare_metric(file: &Value, name: &str, entry: &Value) -> Result<Vec<Difference>, String> {
    let metric = metric_of(name)?;
    let (predictions, targets, width) = input(file, entry)?;
    let mut differences = Vec::new();
    if let Some(expected) = entry.get("per_row").and_then(numbers) {
        let rows = predictions.chunks(width).zip(targets.chunks(width));
        let found: Vec<f64> =
            rows.map(|(predicted, target)| measure(metric, predicted, target, width)).collect();
        differences.push(Difference::between("rows", &singles(&found), &expected, TOLERANCE)?);
    }
    let key = if entry.get("value").is_some() { "value" } else { "mean" };
    let found = measure(metric, &predictions, &targets, width);
    differences.push(compare_mean(entry, key, found)?);
    Ok(differences)
}

fn compare_mean(entry: &Value, key: &str, found: f64) -> Result<Difference, String> {
    let expected = entry.get(key).and_then(Value::as_f64);
    let expected = expected.ok_or_else(|| format!("{key} must be a number"))?;
    Ok(Difference::of_numbers(key, found, expected, TOLERANCE))
}

/// Predictions, targets and their width. A list of single numbers is a column of rows for losses per
/// row, as Keras takes it.
fn input(file: &Value, entry: &Value) -> Result<(Vec<f32>, Vec<f32>, usize), String> {
    let name = entry.get("input").and_then(Value::as_str).ok_or("input must be a text")?;
    let arrays = file.get(name).ok_or_else(|| format!("there is no input {name:?}"))?;
    let (predictions, targets) = (Array::read(arrays, "y_pred")?, Array::read(arrays, "y_true")?);
    if predictions.shape != targets.shape {
        return Err(format!("{name}: y_pred and y_true have different shapes"));
    }
    let width = predictions.shape.last().copied().filter(|width| *width > 0);
    Ok((predictions.data, targets.data, width.ok_or_else(|| format!("{name} has no values"))?))
}

/// `huber`, or a name with what differs from Keras's defaults behind it.
fn loss_of(name: &str) -> Result<Loss, String> {
    let text = if let Some(loss) = name.strip_suffix("_from_logits") {
        format!("{loss}(from_logits=True)")
    } else if let Some((loss, smoothing)) = name.split_once("_label_smoothing_") {
        format!("{loss}(label_smoothing={smoothing})")
    } else {
        name.to_owned()
    };
    text.parse().map_err(|error| format!("{error}"))
}

/// `Precision`, or a name with what differs from Keras's defaults behind it.
fn metric_of(name: &str) -> Result<Metric, String> {
    let text = if let Some((metric, k)) = name.rsplit_once("_k") {
        match k.parse::<u32>() {
            Ok(k) => format!("{metric}(k={k})"),
            Err(_) => name.to_owned(),
        }
    } else if let Some((metric, thresholds)) = name.split_once('_')
        && let Some(count) = thresholds.strip_suffix("_thresholds")
    {
        format!("{metric}(num_thresholds={count})")
    } else {
        name.to_owned()
    };
    text.parse().map_err(|error| format!("{error}"))
}

#[expect(clippy::cast_precision_loss, reason = "there are few rows")]
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[expect(clippy::cast_possible_truncation, reason = "Keras's values are single precision")]
fn singles(values: &[f64]) -> Vec<f32> {
    values.iter().map(|value| *value as f32).collect()
}
