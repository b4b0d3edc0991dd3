//! `arrowhop predict`: one row per prediction, or per prediction and class.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, Float32Array, Int32Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrowhop_segment::inputs;
use arrowhop_source::{NewOptions, NewOrigin, TargetUse, prepare_new};
use arrowhop_types::Target;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::json;

use crate::cli::{Output, Predict};
use crate::exit::Exit;
use crate::report::{csv_field, print, table};
use crate::trained::Trained;

/// More predictions than this are for a file, not for a table.
const TABLE_ROWS_MAX: usize = 10_000;

/// One class, or one output, of one row.
struct Prediction {
    row: u64,
    /// From 1, by probability; of values, the output's number.
    rank: i32,
    /// The class's name; empty for values.
    class: String,
    value: f32,
}

pub(super) fn predict(options: &Predict) -> anyhow::Result<Exit> {
    let trained = Trained::open(&options.which)?;
    let new = prepare_new(
        &trained.record.spec.data.preparation,
        &NewOrigin::Parquet(options.rows.data.clone()),
        &NewOptions { max_rows: options.rows.max_rows, target: TargetUse::Ignored },
    )?;
    let inputs = inputs(&trained.task, &new.batches)?;
    let width = trained.task.target().width();
    let (mut predictions, mut row) = (Vec::new(), 0);
    let mut sink = |outputs: &[f32]| {
        for outputs in outputs.chunks_exact(width) {
            rank(row, outputs, trained.task.target(), options.top_k, &mut predictions);
            row += 1;
        }
        ControlFlow::Continue(())
    };
    arrowhop_train::predict(&trained.task, &trained.state, &inputs, &mut sink)
        .context("apply the model")?;
    match &options.to {
        Some(file) => write(file, &predictions)?,
        None => print(&text(&predictions, options.output))?,
    }
    Ok(Exit::Done)
}

/// A row's outputs: classes from the most probable on, ties by number; values as they are.
fn rank(
    row: u64,
    outputs: &[f32],
    target: &Target,
    top_k: Option<u32>,
    predictions: &mut Vec<Prediction>,
) {
    let most = top_k.map_or(outputs.len(), |k| (k as usize).min(outputs.len()));
    let mut order: Vec<usize> = (0..outputs.len()).collect();
    let name = |output: usize| match target {
        Target::Classes(names) => names[output].clone(),
        Target::Values(_) => String::new(),
    };
    if matches!(target, Target::Classes(_)) {
        order.sort_by(|&a, &b| outputs[b].total_cmp(&outputs[a]));
    }
    for (rank, &output) in (1..).zip(order.iter().take(most)) {
        predictions.push(Prediction { row, rank, class: name(output), value: outputs[output] });
    }
}

fn text(predictions: &[Prediction], output: Output) -> String {
    match output {
        Output::Table => {
            let mut table = table(["row", "rank", "class", "probability"], &[0, 1, 3]);
            for prediction in predictions.iter().take(TABLE_ROWS_MAX) {
                table.add_row([
                    prediction.row.to_string(),
                    prediction.rank.to_string(),
                    prediction.class.clone(),
                    format!("{:.6}", prediction.value),
                ]);
            }
            let more = predictions.len().saturating_sub(TABLE_ROWS_MAX);
            let more = match more {
                0 => String::new(),
                more => format!("and {more} more; write them to a file with --to\n"),
            };
            format!("{table}\n{more}")
        }
        Output::Json => {
            let entries = predictions.iter().map(|prediction| {
                json!({
                    "row": prediction.row,
                    "rank": prediction.rank,
                    "class": prediction.class,
                    "probability": prediction.value,
                })
            });
            let object = json!({
                "schema_version": 1,
                "predictions": entries.collect::<Vec<_>>(),
            });
            format!("{object:#}\n")
        }
        Output::Csv => {
            let mut text = String::from("row,rank,class,probability\n");
            for prediction in predictions {
                let class = csv_field(&prediction.class);
                let Prediction { row, rank, value, .. } = prediction;
                text.push_str(&format!("{row},{rank},{class},{value}\n"));
            }
            text
        }
    }
}

/// Writes a Parquet file, which appears under its name only when it is complete.
fn write(file: &Path, predictions: &[Prediction]) -> anyhow::Result<()> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("rank", DataType::Int32, false),
        Field::new("class", DataType::Utf8, false),
        Field::new("probability", DataType::Float32, false),
    ]));
    let of = predictions.iter();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(of.clone().map(|p| p.row))),
        Arc::new(Int32Array::from_iter_values(of.clone().map(|p| p.rank))),
        Arc::new(StringArray::from_iter_values(of.clone().map(|p| &p.class))),
        Arc::new(Float32Array::from_iter_values(of.map(|p| p.value))),
    ];
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .build();
    let partial = file.with_extension(format!("{}.part", std::process::id()));
    let written = (|| {
        let mut writer = ArrowWriter::try_new(File::create(&partial)?, schema, Some(properties))?;
        writer.write(&batch)?;
        writer.into_inner()?.sync_all()?;
        fs::rename(&partial, file)?;
        Ok::<_, anyhow::Error>(())
    })();
    if written.is_err() {
        // What is half-written is nobody's.
        drop(fs::remove_file(&partial));
    }
    written.with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_come_by_probability_and_values_as_they_are() {
        let classes = Target::Classes(["a", "b", "c"].map(str::to_owned).to_vec());
        let mut predictions = Vec::new();
        rank(7, &[0.2, 0.5, 0.3], &classes, Some(2), &mut predictions);
        let ranked: Vec<_> =
            predictions.iter().map(|p| (p.row, p.rank, p.class.as_str())).collect();
        assert_eq!(ranked, [(7, 1, "b"), (7, 2, "c")]);
        predictions.clear();
        rank(0, &[1.0, 2.0], &Target::Values(2), None, &mut predictions);
        assert_eq!(predictions.iter().map(|p| p.value).collect::<Vec<_>>(), [1.0, 2.0]);
    }
}
