//! `arrowhop predict`: one row per prediction, or per prediction and class.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use arrow::array::{ArrayRef, Float32Array, Int32Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrowhop_network::OutputSpec;
use arrowhop_segment::inputs;
use arrowhop_source::{NewOptions, NewOrigin, TableFormat, TargetUse, prepare_new, write_table};
use arrowhop_types::{Target, TargetColumn};
use serde_json::json;

use crate::cli::{NewData, Output, Predict};
use crate::exit::Exit;
use crate::report::{csv_field, print, table};
use crate::trained::Trained;

/// More predictions than this are for a file, not for a table.
const TABLE_ROWS_MAX: usize = 10_000;

/// One class, or one number, of one row.
#[derive(Debug, PartialEq)]
pub(super) struct Prediction<'a> {
    row: u64,
    /// The name of what is predicted.
    target: &'a str,
    /// From 1, by probability; of values, the number's place.
    rank: i32,
    /// The class's name; empty for values, nothing for missing values and padding.
    class: Option<&'a str>,
    value: f32,
}

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
    let targets = trained.task.targets();
    let widths: Vec<_> =
        trained.task.network().outputs().iter().map(OutputSpec::elements).collect();
    let (mut predictions, mut row) = (Vec::new(), 0);
    let mut sink = |outputs: &[Vec<f32>]| {
        for i in 0..outputs[0].len() / widths[0] {
            for ((output, &width), target) in outputs.iter().zip(&widths).zip(targets) {
                let values = &output[i * width..(i + 1) * width];
                rank(row, values, target, top_k, &mut predictions);
            }
            row += 1;
        }
        ControlFlow::Continue(())
    };
    arrowhop_train::predict(&trained.task, &trained.state, &inputs, &mut sink)
        .context("apply the model")?;
    Ok(predictions)
}

/// A row's output: classes from the most probable on, ties by number; values as they are. The single
/// number of a network for two classes is the second one's probability.
fn rank<'a>(
    row: u64,
    output: &[f32],
    TargetColumn { name, target }: &'a TargetColumn,
    top_k: Option<u32>,
    predictions: &mut Vec<Prediction<'a>>,
) {
    let of_both;
    let (values, list) = match (output, target) {
        (&[second], Target::Classes(list)) if list.len() == 2 => {
            of_both = [1.0 - second, second];
            (of_both.as_slice(), Some(list))
        }
        (output, Target::Classes(list)) => (output, Some(list)),
        (output, Target::Values(_)) => (output, None),
    };
    let mut order: Vec<usize> = (0..values.len()).collect();
    if list.is_some() {
        order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    }
    let most = top_k.map_or(values.len(), |k| k as usize);
    for (rank, place) in (1..).zip(order.into_iter().take(most)) {
        let class = list.map_or(Some(""), |list| list.name(place));
        predictions.push(Prediction { row, target: name, rank, class, value: values[place] });
    }
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
    let schema = Arc::new(Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("target", DataType::Utf8, false),
        Field::new("rank", DataType::Int32, false),
        Field::new("class", DataType::Utf8, true),
        Field::new("probability", DataType::Float32, false),
    ]));
    let of = predictions.iter();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(of.clone().map(|p| p.row))),
        Arc::new(StringArray::from_iter_values(of.clone().map(|p| p.target))),
        Arc::new(Int32Array::from_iter_values(of.clone().map(|p| p.rank))),
        Arc::new(of.clone().map(|p| p.class).collect::<StringArray>()),
        Arc::new(Float32Array::from_iter_values(of.map(|p| p.value))),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns)?;
    Ok(write_table(file, &schema, &[batch], format)?)
}

#[cfg(test)]
mod tests {
    use arrowhop_types::ClassList;

    use super::*;

    fn ranked(
        output: &[f32],
        target: Target,
        top_k: Option<u32>,
    ) -> Vec<(i32, Option<String>, f32)> {
        let column = TargetColumn::only(target);
        let mut predictions = Vec::new();
        rank(7, output, &column, top_k, &mut predictions);
        assert!(predictions.iter().all(|p| (p.row, p.target) == (7, "y")));
        predictions.into_iter().map(|p| (p.rank, p.class.map(str::to_owned), p.value)).collect()
    }

    fn classes(names: &[&str]) -> Target {
        Target::Classes(ClassList::named(names.iter().copied()))
    }

    #[test]
    fn classes_come_by_probability_and_values_as_they_are() {
        let found = ranked(&[0.2, 0.5, 0.3], classes(&["a", "b", "c"]), Some(2));
        assert_eq!(found, [(1, Some("b".into()), 0.5), (2, Some("c".into()), 0.3)]);
        let found = ranked(&[1.0, 2.0], Target::Values(2), None);
        assert_eq!(found, [(1, Some(String::new()), 1.0), (2, Some(String::new()), 2.0)]);
    }

    #[test]
    fn one_number_for_two_classes_is_the_second_one_s_probability() {
        let found = ranked(&[0.25], classes(&["no", "yes"]), None);
        assert_eq!(found, [(1, Some("no".into()), 0.75), (2, Some("yes".into()), 0.25)]);
        assert_eq!(ranked(&[0.75], classes(&["no", "yes"]), Some(1))[0].1.as_deref(), Some("yes"));
    }

    #[test]
    fn missing_values_and_padding_have_no_name() {
        let list = ClassList::new(vec![None, Some("a".into()), None]);
        let predictions = ranked(&[0.2, 0.3, 0.5], Target::Classes(list), None);
        assert_eq!(predictions, [(1, None, 0.5), (2, Some("a".into()), 0.3), (3, None, 0.2)]);
        let list = ClassList::new(vec![None, Some("a".into())]);
        let column = TargetColumn::only(Target::Classes(list));
        let mut made = Vec::new();
        rank(0, &[0.6, 0.4], &column, None, &mut made);
        assert!(text(&made, false, Output::Csv).ends_with("0,y,1,,0.6\n0,y,2,a,0.4\n"));
        assert!(text(&made, false, Output::Json).contains("\"class\": null"));
    }
}
