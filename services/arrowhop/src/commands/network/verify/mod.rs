//! `arrowhop network verify`: what Keras computed, computed again.
//!
//! | file | told by | compared |
//! |---|---|---|
//! | predictions | a list of records with `expected` | predictions |
//! | training traces | a list of records with `weights_after` | losses, gradients, weights, predictions |
//! | optimizer runs | an object with `runs` | losses and weights; a whole fit where there is one |
//! | losses and metrics | an object with `loss` and `metric` | values per row and over all rows |
//!
//! A record's error is the largest difference between an array and Keras's, relative to that array's
//! largest value, or to a floor where that is smaller.

mod arrays;
mod losses;
mod optimizers;
mod predictions;
mod traces;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use arrowhop_train::{Device, DeviceChoice};
use arrowhop_types::Problems;
use serde_json::{Value, json};

use self::arrays::Difference;
use crate::cli::Output;
use crate::exit::Exit;
use crate::report::{print, table};

/// What became of one record.
struct Record {
    name: String,
    /// The difference that is largest for its tolerance; else why there is none.
    outcome: Result<Difference, String>,
}

impl Record {
    fn of(name: impl Into<String>, differences: Result<Vec<Difference>, String>) -> Self {
        let outcome = differences.and_then(|differences| {
            let worst = differences.into_iter().max_by(|a, b| a.share().total_cmp(&b.share()));
            worst.ok_or_else(|| "there is nothing to compare".to_owned())
        });
        Self { name: name.into(), outcome }
    }

    fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Difference::is_small)
    }
}

pub(super) fn verify(
    files: &[PathBuf],
    device: DeviceChoice,
    output: Output,
) -> anyhow::Result<Exit> {
    let devices = Device::find(device);
    let devices = devices.map_err(|error| Problems::one("--device", error.to_string()))?;
    let mut checked = Vec::new();
    for file in files {
        let records = read(file, &devices[0]).with_context(|| file.display().to_string())?;
        checked.push((file.display().to_string(), records));
    }
    print(&match output {
        Output::Json => format!("{:#}\n", as_json(&checked)),
        Output::Csv => as_csv(&checked),
        Output::Table => as_text(&checked),
    })?;
    Ok(if count(&checked, false) == 0 { Exit::Done } else { Exit::Failed })
}

/// Computes the records of a file again.
fn read(file: &Path, device: &Device) -> anyhow::Result<Vec<Record>> {
    let text = std::fs::read_to_string(file).context("read it")?;
    let value: Value = serde_json::from_str(&text).context("read its JSON")?;
    let has = |value: &Value, key: &str| value.get(key).is_some();
    let records = match &value {
        Value::Array(records) if records.iter().all(|record| has(record, "expected")) => {
            predictions::verify(records, device)
        }
        Value::Array(records) if records.iter().all(|record| has(record, "weights_after")) => {
            traces::verify(records, device)
        }
        Value::Object(_) if has(&value, "runs") => optimizers::verify(&value, file, device)?,
        Value::Object(_) if has(&value, "loss") && has(&value, "metric") => losses::verify(&value),
        _ => {
            let text = "is none of the formats that can be verified: predictions, training traces, \
                        optimizer runs, losses and metrics";
            return Err(Problems::one("", text).into());
        }
    };
    if records.is_empty() {
        return Err(Problems::one("", "has no records").into());
    }
    Ok(records)
}

fn count(checked: &[(String, Vec<Record>)], passed: bool) -> usize {
    let records = checked.iter().flat_map(|(_, records)| records);
    records.filter(|record| record.passed() == passed).count()
}

fn as_json(checked: &[(String, Vec<Record>)]) -> Value {
    let files = checked.iter().map(|(file, records)| {
        let rows = records.iter().map(|record| {
            let difference = record.outcome.as_ref().ok();
            json!({
                "record": record.name,
                "passed": record.passed(),
                "largest_error": difference.map(|difference| difference.error),
                "tolerance": difference.map(|difference| difference.tolerance),
                "where": difference.map(|difference| &difference.place),
                "problem": record.outcome.as_ref().err(),
            })
        });
        let passed = records.iter().filter(|record| record.passed()).count();
        json!({
            "file": file,
            "passed": passed,
            "failed": records.len() - passed,
            "records": rows.collect::<Vec<_>>(),
        })
    });
    json!({
        "schema_version": 1,
        "files": files.collect::<Vec<_>>(),
        "passed": count(checked, true),
        "failed": count(checked, false),
    })
}

fn as_csv(checked: &[(String, Vec<Record>)]) -> String {
    let mut text = "file,record,passed,largest_error,tolerance,where\n".to_owned();
    for (file, records) in checked {
        for record in records {
            let (error, tolerance, place) = match &record.outcome {
                Ok(difference) => (
                    difference.error.to_string(),
                    difference.tolerance.to_string(),
                    difference.place.as_str(),
                ),
                Err(_) => Default::default(),
            };
            let (name, passed) = (&record.name, record.passed());
            let _ = writeln!(text, "{file},\"{name}\",{passed},{error},{tolerance},{place}");
        }
    }
    text
}

fn as_text(checked: &[(String, Vec<Record>)]) -> String {
    let mut text = String::new();
    for (file, records) in checked {
        let mut rows = table(["", "Record", "Largest error", "Tolerance", "Where"], &[2, 3]);
        for record in records {
            let mark = if record.passed() { "ok" } else { "FAILED" };
            match &record.outcome {
                Ok(difference) => rows.add_row([
                    mark.to_owned(),
                    record.name.clone(),
                    format!("{:.1e}", difference.error),
                    format!("{:.0e}", difference.tolerance),
                    difference.place.clone(),
                ]),
                Err(problem) => {
                    let nothing = String::new();
                    let name = record.name.clone();
                    rows.add_row([mark.into(), name, nothing.clone(), nothing, problem.clone()])
                }
            };
        }
        let passed = records.iter().filter(|record| record.passed()).count();
        let _ = writeln!(text, "{file}: {passed} of {}\n{rows}\n", records.len());
    }
    let (passed, failed) = (count(checked, true), count(checked, false));
    let _ = writeln!(text, "{passed} passed, {failed} failed");
    text
}
