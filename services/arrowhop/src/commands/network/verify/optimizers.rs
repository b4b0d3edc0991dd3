//! Optimizer runs: steps through Iris in the file's order by many optimizers, and one whole fit.
//!
//! The rows are not in the file: `iris.csv` is looked for beside it and in `../iris`.

use std::path::Path;

use anyhow::Context;
use arrowhop_network::NetworkSpec;
use arrowhop_train::{Device, Stepper};
use arrowhop_types::optimizer::{ParameterValue, Semantics};
use arrowhop_types::{Loss, Metric, ModelConfig, Optimizer, OutputConfig, Problems, Score};
use serde_json::Value;

use super::Record;
use super::arrays::{Array, Difference, Tolerance, data, numbers};
use super::traces::each;

const TOLERANCE: Tolerance = Tolerance { relative: 1e-4, floor: 1e-2 };
/// Of the runs; the fit has its own.
const BATCH_ROWS: usize = 8;
const CLASSES: [&str; 3] = ["Iris-setosa", "Iris-versicolor", "Iris-virginica"];

/// All 150 rows.
struct Iris {
    /// Four of each row.
    inputs: Vec<f32>,
    /// One-hot, three of each row.
    targets: Vec<f32>,
}

pub(super) fn verify(file: &Value, path: &Path, device: &Device) -> anyhow::Result<Vec<Record>> {
    let iris = Iris::beside(path)?;
    let mut records = Vec::new();
    let runs = file.get("runs").and_then(Value::as_array);
    for run in runs.context("runs must be a list")? {
        let text = |key| run.get(key).and_then(Value::as_str).unwrap_or_default();
        let name = format!("{} {}", text("api"), text("optimizer"));
        records.push(Record::of(name, compare_run(file, run, &iris, device)));
    }
    if let Some(fit) = file.get("fit_path") {
        let name = format!("fit {}", fit.get("optimizer").and_then(Value::as_str).unwrap_or("?"));
        records.push(Record::of(name, compare_fit(file, fit, &iris, device)));
    }
    Ok(records)
}

fn compare_run(
    file: &Value,
    run: &Value,
    iris: &Iris,
    device: &Device,
) -> Result<Vec<Difference>, String> {
    let mut stepper = stepper(file, optimizer(run, "api")?, device)?;
    let losses = run.get("loss_per_step").and_then(numbers);
    let losses = losses.ok_or("loss_per_step must be a list of numbers")?;
    let rows = rows(file)?;
    let mut differences = Vec::new();
    let batches = rows.chunks(BATCH_ROWS).cycle();
    for (step, (expected, batch)) in losses.iter().zip(batches).enumerate() {
        let made = stepper.step(&[iris.inputs_of(batch)], &[iris.targets_of(batch)]);
        let found = made.map_err(|e| e.to_string())?.score.loss().unwrap_or(f64::NAN);
        let place = format!("loss of step {step}");
        differences.push(Difference::of_numbers(place, found, f64::from(*expected), TOLERANCE));
    }
    differences.extend(final_weights(&stepper, run)?);
    Ok(differences)
}

fn compare_fit(
    file: &Value,
    fit: &Value,
    iris: &Iris,
    device: &Device,
) -> Result<Vec<Difference>, String> {
    let count = |key: &str| {
        let count = fit.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        count.filter(|count| *count > 0).ok_or_else(|| format!("{key} must be a count"))
    };
    let mut stepper = stepper(file, optimizer(fit, "")?, device)?;
    let (rows, batch_rows, epochs) = (rows(file)?, count("batch_size")?, count("epochs")?);
    let mut differences = Vec::new();
    let history = |key: &str| {
        let values = fit.get("history").and_then(|history| history.get(key)).and_then(numbers);
        values.filter(|values| values.len() == epochs).ok_or(format!("history/{key} is not whole"))
    };
    let (losses, accuracies) = (history("loss")?, history("accuracy")?);
    for epoch in 0..epochs {
        let mut score = Score::default();
        for batch in rows.chunks(batch_rows) {
            let made = stepper.step(&[iris.inputs_of(batch)], &[iris.targets_of(batch)]);
            score.add(&made.map_err(|e| e.to_string())?.score);
        }
        let expected = [losses[epoch], accuracies[epoch]];
        differences.extend(compare_score(&format!("epoch {epoch}"), &score, &expected));
    }
    let all: Vec<usize> = (0..150).collect();
    let evaluated = fit.get("evaluate_all_150_rows_batch32").and_then(numbers);
    let evaluated = evaluated.ok_or("evaluate_all_150_rows_batch32 must be a list of numbers")?;
    let score = stepper.score(&[iris.inputs_of(&all)], &[iris.targets_of(&all)]);
    let score = score.map_err(|e| e.to_string())?;
    differences.extend(compare_score("evaluation", &score, &evaluated));
    let predicted = Array::read(fit, "predict_first5")?.data;
    let found = stepper.predict(&[iris.inputs_of(&all[..5])]).map_err(|e| e.to_string())?;
    let found = found.concat();
    differences.push(Difference::between("prediction", &found, &predicted, TOLERANCE)?);
    differences.extend(final_weights(&stepper, fit)?);
    Ok(differences)
}

fn compare_score(place: &str, score: &Score, expected: &[f32]) -> Vec<Difference> {
    let found = [score.loss(), score.accuracy()];
    let names = ["loss", "accuracy"].into_iter().zip(found.into_iter().zip(expected));
    let difference = |(name, (found, expected)): (&str, (Option<f64>, &f32))| {
        let (found, expected) = (found.unwrap_or(f64::NAN), f64::from(*expected));
        Difference::of_numbers(format!("{place}: {name}"), found, expected, TOLERANCE)
    };
    names.map(difference).collect()
}

fn final_weights(stepper: &Stepper, run: &Value) -> Result<Vec<Difference>, String> {
    let expected = data(Array::read_all(run, "final_weights")?);
    let names: Vec<String> = (0..expected.len()).map(|i| format!("weights {i}")).collect();
    each(&names, &stepper.weights(), &expected, Clone::clone)
}

/// The file's network with its initial weights, about to be trained by this optimizer.
fn stepper(file: &Value, optimizer: Optimizer, device: &Device) -> Result<Stepper, String> {
    let model = file.get("model").ok_or("model is missing")?.to_string();
    let network = NetworkSpec::parse(&model).map_err(|problems| problems.to_string())?;
    let weights = data(Array::read_all(file, "initial_weights")?);
    let metrics = vec![Metric::Accuracy];
    let loss = Loss::CATEGORICAL_CROSSENTROPY;
    let outputs = vec![OutputConfig { loss, loss_weight: 1.0, metrics }];
    let config = ModelConfig { outputs, ..ModelConfig::new("run", optimizer, loss, 1) };
    Stepper::new(network, &config, weights, device).map_err(|error| error.to_string())
}

/// The optimizer of a run, or of the fit, whose text ends in its semantics.
fn optimizer(run: &Value, api: &str) -> Result<Optimizer, String> {
    let text = |key: &str| run.get(key).and_then(Value::as_str).unwrap_or_default();
    let written = text("optimizer");
    let (call, semantics) = match (text(api), written.strip_suffix(" legacy")) {
        (_, Some(call)) => (call, Semantics::Legacy),
        ("legacy", None) => (written, Semantics::Legacy),
        ("keras_2_11_plus", None) => (written, Semantics::Current),
        (other, None) => return Err(format!("api {other:?} is not legacy or keras_2_11_plus")),
    };
    let unreadable = || format!("optimizer {written:?} is not Name(key=value, …)");
    let (name, rest) = call.split_once('(').ok_or_else(unreadable)?;
    let inside = rest.strip_suffix(')').ok_or_else(unreadable)?;
    let mut parameters = Vec::new();
    for argument in inside.split(',').map(str::trim).filter(|argument| !argument.is_empty()) {
        let (key, value) = argument.split_once('=').ok_or_else(unreadable)?;
        let key = if key.trim() == "lr" { "learning_rate" } else { key.trim() };
        let value = match value.trim() {
            "True" => ParameterValue::Flag(true),
            "False" => ParameterValue::Flag(false),
            number => ParameterValue::Number(number.parse().map_err(|_| unreadable())?),
        };
        parameters.push((key, value));
    }
    let optimizer = Optimizer::named(name, semantics).and_then(|named| named.with(&parameters));
    optimizer.map_err(|problems| problems.to_string())
}

/// The numbers of the rows that are trained on.
fn rows(file: &Value) -> Result<Vec<usize>, String> {
    let rows = file.get("rows_index").and_then(Value::as_array).and_then(|rows| {
        let row = |row: &Value| usize::try_from(row.as_u64()?).ok().filter(|row| *row < 150);
        rows.iter().map(row).collect::<Option<Vec<_>>>()
    });
    rows.filter(|rows| !rows.is_empty())
        .ok_or_else(|| "rows_index must list rows from 0 to 149".to_owned())
}

impl Iris {
    fn beside(file: &Path) -> anyhow::Result<Self> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let places = [folder.join("iris.csv"), folder.join("../iris/iris.csv")];
        let Some(place) = places.iter().find(|place| place.exists()) else {
            let text = format!("its rows are not there: put iris.csv at {}", places[0].display());
            return Err(Problems::one("rows_index", text).into());
        };
        let text =
            std::fs::read_to_string(place).with_context(|| format!("read {}", place.display()))?;
        Self::of_csv(&text).with_context(|| format!("read {}", place.display()))
    }

    /// From lines of four numbers and a class among other columns, after a header.
    fn of_csv(text: &str) -> anyhow::Result<Self> {
        let mut iris = Self { inputs: Vec::new(), targets: Vec::new() };
        for (number, line) in text.lines().enumerate().skip(1) {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let class = fields.iter().find_map(|field| CLASSES.iter().position(|c| c == field));
            let [.., a, b, c, d, _] = fields[..] else {
                anyhow::bail!("line {}: needs four numbers and a class", number + 1);
            };
            for field in [a, b, c, d] {
                let value = field.parse::<f32>();
                iris.inputs.push(value.with_context(|| format!("line {}", number + 1))?);
            }
            let class = class.with_context(|| format!("line {}: has no class", number + 1))?;
            iris.targets.extend((0..3).map(|i| f32::from(u8::from(i == class))));
        }
        anyhow::ensure!(
            iris.targets.len() == 450,
            "it has {} rows, not 150",
            iris.targets.len() / 3
        );
        Ok(iris)
    }

    fn inputs_of(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|row| self.inputs[4 * row..4 * row + 4].iter().copied()).collect()
    }

    fn targets_of(&self, rows: &[usize]) -> Vec<f32> {
        rows.iter().flat_map(|row| self.targets[3 * row..3 * row + 3].iter().copied()).collect()
    }
}
