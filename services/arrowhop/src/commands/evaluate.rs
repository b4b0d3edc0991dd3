//! `arrowhop evaluate`.

use std::ops::ControlFlow;

use anyhow::Context;
use arrowhop_segment::rows;
use arrowhop_source::{NewOptions, NewOrigin, TargetUse, prepare_new, prepare_test};
use arrowhop_types::{Measures, ModelId, RunId, Score};
use serde_json::json;

use crate::cli::{Evaluate, Output};
use crate::exit::Exit;
use crate::experiment::Experiment;
use crate::report::{csv_field, print};
use crate::trained::Trained;

pub(super) fn evaluate(options: &Evaluate) -> anyhow::Result<Exit> {
    let trained = Trained::open(&options.which)?;
    let spec = &trained.record.spec;
    let new = match &options.rows {
        Some(rows) => prepare_new(
            &spec.data.preparation,
            &NewOrigin::Table(rows.location()?),
            &NewOptions { max_rows: rows.max_rows, target: TargetUse::Required },
        )?,
        None => {
            let experiment = Experiment::recorded(&spec.experiment, None, spec.bounds.clone())?;
            prepare_test(&experiment.data, &spec.data).context("prepare the test rows")?
        }
    };
    let rows = rows(&trained.task, &new.batches)?;
    let mut go_on = |_: u64, _: &Score| ControlFlow::Continue(());
    let score = arrowhop_train::evaluate(&trained.task, &trained.state, &rows, &mut go_on)
        .context("evaluate the model")?;
    let (run, model) = (trained.record.run, trained.model);
    print(&text(run, model, &score.measures(), options.output))?;
    Ok(Exit::Done)
}

/// The loss and every metric, by name.
fn text(run: RunId, model: ModelId, measures: &Measures, output: Output) -> String {
    let named = measures.named();
    match output {
        Output::Json => {
            let mut object = json!({
                "schema_version": 1,
                "run": run.0,
                "model": model.0,
                "rows": measures.rows,
            });
            for (name, value) in named {
                object[name] = value.into();
            }
            format!("{object:#}\n")
        }
        Output::Csv => {
            let (names, values): (Vec<_>, Vec<_>) =
                named.map(|(name, value)| (csv_field(name), value.to_string())).unzip();
            format!(
                "run,model,rows,{}\n{run},{model},{},{}\n",
                names.join(","),
                measures.rows,
                values.join(",")
            )
        }
        Output::Table => {
            let named: Vec<_> = named.map(|(name, value)| format!("{name} {value:.4}")).collect();
            let rows = measures.rows;
            format!("model {model} of run {run} on {rows} rows: {}\n", named.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_printed() {
        let metrics =
            vec![("accuracy".to_owned(), 0.75), ("auc(num_thresholds=9)".to_owned(), 1.0)];
        let measures = Measures { rows: 8, loss: Some(0.5), metrics };
        let text = |output| text(RunId(1), ModelId(2), &measures, output);
        assert_eq!(
            text(Output::Table),
            "model 2 of run 1 on 8 rows: loss 0.5000, accuracy 0.7500, \
             auc(num_thresholds=9) 1.0000\n"
        );
        assert_eq!(
            text(Output::Csv),
            "run,model,rows,loss,accuracy,auc(num_thresholds=9)\n1,2,8,0.5,0.75,1\n"
        );
        let object: serde_json::Value = serde_json::from_str(&text(Output::Json)).unwrap();
        assert_eq!((&object["loss"], &object["accuracy"]), (&json!(0.5), &json!(0.75)));
    }
}
