//! `arrowhop predict`: one row per prediction, or per prediction and class.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::Context;
use arrowhop_segment::inputs;
use arrowhop_source::{NewOptions, NewOrigin, TableFormat, TargetUse, prepare_new, write_table};
use serde_json::json;

use crate::cli::{NewData, Output, Predict};
use crate::exit::Exit;
use crate::predictions::{Prediction, Ranking, batch};
use crate::report::{csv_field, print, table};
use crate::trained::Trained;

/// More predictions than this are for a file, not for a table.
const TABLE_ROWS_MAX: usize = 10_000;

pub(super) fn predict(options: &Predict) -> anyhow::Result<Exit> {
    let trained = Trained::open(&options.which)?;
    let predictions = predicted(&trained, &options.rows, options.top_k)?;
    match &options.to {
        Some(file) => {
            let format = match file.extension().and_then(|end| end.to_str()) {
                Some("csv") => TableFormat::Csv,
                Some("arrow") => TableFormat::Arrow,
                _ => TableFormat::Parquet,
            };
            write_predictions(file, &predictions, format)?;
        }
        None => {
            let several = trained.task.targets().len() > 1;
            print(&text(&predictions, several, options.output))?;
        }
    }
    Ok(Exit::Done)
}

/// What a model says about new rows.
pub(super) fn predicted<'a>(
    trained: &'a Trained,
    rows: &NewData,
    top_k: Option<u32>,
) -> anyhow::Result<Vec<Prediction<'a>>> {
    let new = prepare_new(
        &trained.record.spec.data.preparation,
        &NewOrigin::Table(rows.location()?),
        &NewOptions { max_rows: rows.max_rows, target: TargetUse::Ignored },
    )?;
    let inputs = inputs(&trained.task, &new.batches)?;
    let ranking = Ranking::new(&trained.task, top_k);
    let (mut predictions, mut row) = (Vec::new(), 0);
    let mut sink = |outputs: &[Vec<f32>]| {
        ranking.add(&mut row, outputs, &mut predictions);
        ControlFlow::Continue(())
    };
    arrowhop_train::predict(&trained.task, &trained.state, &inputs, &mut sink)
        .context("apply the model")?;
    Ok(predictions)
}

/// With the target's name for people where there are `several`, and always for programs.
fn text(predictions: &[Prediction<'_>], several: bool, output: Output) -> String {
    match output {
        Output::Table => {
            let mut table = if several {
                table(["row", "target", "rank", "class", "probability"], &[0, 2, 4])
            } else {
                table(["row", "rank", "class", "probability"], &[0, 1, 3])
            };
            for Prediction { row, target, rank, class, value } in
                predictions.iter().take(TABLE_ROWS_MAX)
            {
                let mut cells = vec![row.to_string()];
                cells.extend(several.then(|| (*target).to_owned()));
                let class = class.unwrap_or_default().to_owned();
                cells.extend([rank.to_string(), class, format!("{value:.6}")]);
                table.add_row(cells);
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
                    "target": prediction.target,
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
            let mut text = String::from("row,target,rank,class,probability\n");
            for Prediction { row, target, rank, class, value } in predictions {
                let (target, class) = (csv_field(target), csv_field(class.unwrap_or_default()));
                text.push_str(&format!("{row},{target},{rank},{class},{value}\n"));
            }
            text
        }
    }
}

/// Writes them to a file, which appears under its name only when it is complete.
pub(super) fn write_predictions(
    file: &Path,
    predictions: &[Prediction<'_>],
    format: TableFormat,
) -> anyhow::Result<()> {
    let batch = batch(predictions)?;
    Ok(write_table(file, &batch.schema(), &[batch], format)?)
}
