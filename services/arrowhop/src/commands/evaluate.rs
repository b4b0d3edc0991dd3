//! `arrowhop evaluate`.

use std::ops::ControlFlow;

use anyhow::Context;
use arrowhop_segment::rows;
use arrowhop_source::{NewOptions, NewOrigin, TargetUse, prepare_new};
use arrowhop_types::Score;
use serde_json::json;

use crate::cli::{Evaluate, Output};
use crate::exit::Exit;
use crate::report::print;
use crate::trained::Trained;

pub(super) fn evaluate(options: &Evaluate) -> anyhow::Result<Exit> {
    let trained = Trained::open(&options.which)?;
    let new = prepare_new(
        &trained.record.spec.data.preparation,
        &NewOrigin::Parquet(options.rows.data.clone()),
        &NewOptions { max_rows: options.rows.max_rows, target: TargetUse::Required },
    )?;
    let rows = rows(&trained.task, &new.batches)?;
    let mut go_on = |_: u64, _: &Score| ControlFlow::Continue(());
    let score = arrowhop_train::evaluate(&trained.task, &trained.state, &rows, &mut go_on)
        .context("evaluate the model")?;
    let (run, model) = (trained.record.run, trained.model);
    let accuracy = score.accuracy();
    let text = match options.output {
        Output::Json => {
            let object = json!({
                "schema_version": 1,
                "run": run.0,
                "model": model.0,
                "rows": score.rows,
                "loss": score.loss(),
                "accuracy": accuracy,
            });
            format!("{object:#}\n")
        }
        Output::Csv => format!(
            "run,model,rows,loss,accuracy\n{run},{model},{},{},{}\n",
            score.rows,
            score.loss().unwrap_or(f64::NAN),
            accuracy.map_or_else(String::new, |accuracy| accuracy.to_string()),
        ),
        Output::Table => {
            let accuracy = accuracy.map(|accuracy| format!(", accuracy {accuracy:.4}"));
            format!(
                "model {model} of run {run} on {} rows: loss {:.4}{}\n",
                score.rows,
                score.loss().unwrap_or(f64::NAN),
                accuracy.unwrap_or_default(),
            )
        }
    };
    print(&text)?;
    Ok(Exit::Done)
}
