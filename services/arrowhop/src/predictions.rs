//! What a model says about rows: its outputs, ranked, and as a table.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, Int32Array, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrowhop_network::OutputSpec;
use arrowhop_train::Task;
use arrowhop_types::{Target, TargetColumn};

/// One class, or one number, of one row.
#[derive(Debug, PartialEq)]
pub(crate) struct Prediction<'a> {
    pub(crate) row: u64,
    /// The name of what is predicted.
    pub(crate) target: &'a str,
    /// From 1, by probability; of values, the number's place.
    pub(crate) rank: i32,
    /// The class's name; empty for values, nothing for missing values and padding.
    pub(crate) class: Option<&'a str>,
    pub(crate) value: f32,
}

/// From a model's outputs to predictions.
pub(crate) struct Ranking<'a> {
    targets: &'a [TargetColumn],
    /// How many numbers each output has for a row.
    widths: Vec<usize>,
    top_k: Option<u32>,
}

impl<'a> Ranking<'a> {
    pub(crate) fn new(task: &'a Task, top_k: Option<u32>) -> Self {
        let widths = task.network().outputs().iter().map(OutputSpec::elements).collect();
        Self { targets: task.targets(), widths, top_k }
    }

    /// Adds what the outputs of some rows say, from `row` on, and counts on.
    pub(crate) fn add(
        &self,
        row: &mut u64,
        outputs: &[Vec<f32>],
        predictions: &mut Vec<Prediction<'a>>,
    ) {
        for i in 0..outputs[0].len() / self.widths[0] {
            for ((output, &width), target) in outputs.iter().zip(&self.widths).zip(self.targets) {
                let values = &output[i * width..(i + 1) * width];
                rank(*row, values, target, self.top_k, predictions);
            }
            *row += 1;
        }
    }
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

/// Predictions as a table, of the columns that every way of writing them has.
pub(crate) fn batch(predictions: &[Prediction<'_>]) -> Result<RecordBatch, ArrowError> {
    let schema = Schema::new(vec![
        Field::new("row", DataType::UInt64, false),
        Field::new("target", DataType::Utf8, false),
        Field::new("rank", DataType::Int32, false),
        Field::new("class", DataType::Utf8, true),
        Field::new("probability", DataType::Float32, false),
    ]);
    let of = predictions.iter();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(UInt64Array::from_iter_values(of.clone().map(|p| p.row))),
        Arc::new(StringArray::from_iter_values(of.clone().map(|p| p.target))),
        Arc::new(Int32Array::from_iter_values(of.clone().map(|p| p.rank))),
        Arc::new(of.clone().map(|p| p.class).collect::<StringArray>()),
        Arc::new(Float32Array::from_iter_values(of.map(|p| p.value))),
    ];
    RecordBatch::try_new(Arc::new(schema), columns)
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
    }

    #[test]
    fn predictions_of_no_rows_have_their_columns() {
        let none = batch(&[]).unwrap();
        let schema = none.schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(
            (none.num_rows(), &*names),
            (0, &["row", "target", "rank", "class", "probability"][..])
        );
    }
}
