//! What sums over rows amount to, by Keras's formulas.

use super::{Average, Curve, Metric};
use crate::Loss;

/// Keras's fuzz factor.
const EPSILON: f64 = 1e-7;

impl Metric {
    /// Sums of no rows, for an output of this width.
    #[must_use]
    pub fn zeros(&self, width: usize) -> Vec<f64> {
        let count = match self {
            Self::TruePositives { .. }
            | Self::TrueNegatives { .. }
            | Self::FalsePositives { .. }
            | Self::FalseNegatives { .. } => 1,
            Self::Auc { thresholds, .. } => 2 * *thresholds as usize,
            Self::F1Score { .. } => 4 * width,
            Self::R2Score => 3 * width + 1,
            _ => 2,
        };
        vec![0.0; count]
    }

    /// The metric's value, by Keras's formulas: a quotient of nothing is 0. Not a number where the
    /// sums are of no rows, or not this metric's.
    #[must_use]
    pub fn value(&self, sums: &[f64]) -> f64 {
        match (self, sums) {
            (Self::Precision { .. } | Self::Recall { .. }, [right, wrong]) => {
                divide(*right, right + wrong)
            }
            (
                Self::TruePositives { .. }
                | Self::TrueNegatives { .. }
                | Self::FalsePositives { .. }
                | Self::FalseNegatives { .. },
                [count],
            ) => *count,
            (Self::Auc { curve, thresholds }, _) if sums.len() == 2 * *thresholds as usize => {
                let (positives, negatives) = sums.split_at(sums.len() / 2);
                area(*curve, &above(positives), &above(negatives))
            }
            (Self::F1Score { average, .. }, _) if sums.len().is_multiple_of(4) => {
                f1_score(*average, sums)
            }
            (Self::R2Score, [sums @ .., rows]) if sums.len().is_multiple_of(3) => {
                r2_score(sums, *rows)
            }
            (Self::RootMeanSquaredError, [total, count]) => (total / count).sqrt(),
            (Self::Loss(Loss::CosineSimilarity), [total, count]) => -total / count,
            (_, [total, count]) => total / count,
            _ => f64::NAN,
        }
    }
}

/// What lies in each bucket and those above.
fn above(buckets: &[f64]) -> Vec<f64> {
    let mut sum = 0.0;
    let mut sums: Vec<f64> = buckets
        .iter()
        .rev()
        .map(|bucket| {
            sum += bucket;
            sum
        })
        .collect();
    sums.reverse();
    sums
}

/// Area under a curve, from true and false positives at rising thresholds; Keras's interpolation.
///
/// Source of the second: J. Davis and M. Goadrich, *The Relationship Between Precision-Recall and
/// ROC Curves*, 2006, in closed form: true positives change linearly with all positives.
fn area(curve: Curve, true_positives: &[f64], false_positives: &[f64]) -> f64 {
    let (positives, negatives) = (true_positives[0], false_positives[0]);
    let pairs = true_positives.windows(2).zip(false_positives.windows(2));
    let parts = pairs.map(|(trues, falses)| match curve {
        Curve::Roc => {
            let height = divide(trues[0], positives) + divide(trues[1], positives);
            (divide(falses[0], negatives) - divide(falses[1], negatives)) * height / 2.0
        }
        Curve::Pr => {
            let (taken, taken_after) = (trues[0] + falses[0], trues[1] + falses[1]);
            let gained = trues[0] - trues[1];
            let slope = divide(gained, (taken - taken_after).max(0.0));
            let intercept = trues[1] - slope * taken_after;
            let ratio = if taken > 0.0 && taken_after > 0.0 { taken / taken_after } else { 1.0 };
            divide(slope * (gained + intercept * ratio.ln()), positives)
        }
    });
    parts.sum()
}

fn f1_score(average: Average, sums: &[f64]) -> f64 {
    let width = sums.len() / 4;
    let column = |i: usize| [0, 1, 2, 3].map(|count| sums[count * width + i]);
    let score = |[right, wrong, missed, _]: [f64; 4]| {
        let precision = right / (right + wrong + EPSILON);
        let recall = right / (right + missed + EPSILON);
        2.0 * precision * recall / (precision + recall + EPSILON)
    };
    #[expect(clippy::cast_precision_loss, reason = "outputs are below 2^24")]
    match average {
        Average::Micro => {
            score([0, 1, 2, 3].map(|count| sums[count * width..][..width].iter().sum()))
        }
        Average::Macro => (0..width).map(|i| score(column(i))).sum::<f64>() / width as f64,
        Average::Weighted => {
            let positives = sums[3 * width..].iter().sum::<f64>() + EPSILON;
            (0..width).map(|i| score(column(i)) * column(i)[3] / positives).sum()
        }
    }
}

fn r2_score(sums: &[f64], rows: f64) -> f64 {
    let width = sums.len() / 3;
    let scores = (0..width).map(|i| {
        let (sum, squares, errors) = (sums[i], sums[width + i], sums[2 * width + i]);
        let score = 1.0 - errors / (squares - sum * sum / rows);
        if score.is_infinite() { 0.0 } else { score }
    });
    #[expect(clippy::cast_precision_loss, reason = "outputs are below 2^24")]
    (scores.sum::<f64>() / width as f64)
}

fn divide(part: f64, whole: f64) -> f64 {
    if whole == 0.0 { 0.0 } else { part / whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metric: &str, sums: &[f64]) -> f64 {
        metric.parse::<Metric>().unwrap().value(sums)
    }

    #[test]
    fn quotients_of_nothing_are_zero_and_of_no_rows_not_a_number() {
        for metric in ["precision", "recall", "auc", "auc(curve=PR)", "f1_score"] {
            let metric: Metric = metric.parse().unwrap();
            assert_eq!(metric.value(&metric.zeros(3)), 0.0, "{metric}");
        }
        for metric in ["accuracy", "mse", "rmse", "r2_score"] {
            let metric: Metric = metric.parse().unwrap();
            assert!(metric.value(&metric.zeros(3)).is_nan(), "{metric}");
        }
    }

    #[test]
    fn sums_of_another_metric_have_no_value() {
        for metric in ["accuracy", "precision", "true_positives", "auc", "f1_score", "r2_score"] {
            assert!(value(metric, &[1.0; 7][..5]).is_nan(), "{metric}");
        }
    }

    /// Two rows at 0.75 and 0.25 with 3 thresholds: a perfect order, and its reverse.
    #[test]
    fn an_area_is_that_under_the_points() {
        assert_eq!(value("auc(num_thresholds=3)", &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0]), 1.0);
        assert_eq!(value("auc(num_thresholds=3)", &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), 0.0);
        assert_eq!(value("auc(num_thresholds=3)", &[1.0, 1.0, 0.0, 1.0, 1.0, 0.0]), 0.5);
        let pr = "auc(num_thresholds=3,curve=PR)";
        assert_eq!(value(pr, &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0]), 1.0);
    }

    #[test]
    fn scores_of_known_counts_are_those_by_hand() {
        assert_eq!(value("rmse", &[18.0, 2.0]), 3.0);
        assert_eq!(value("cosine_similarity", &[-3.0, 4.0]), 0.75);
        // Targets 1, 3 and outputs off by 1 each: 1 − 2 / (10 − 16 / 2).
        assert_eq!(value("r2_score", &[4.0, 10.0, 2.0, 2.0]), 0.0);
        // Precision and recall 0.5 and 1 of the first output, nothing of the second.
        let counts = [1.0, 0.0, 1.0, 0.0, 0.0, 3.0, 1.0, 3.0];
        let near = |metric, expected: f64| {
            let found = value(metric, &counts);
            assert!((found - expected).abs() < 1e-6, "{metric}: {found}");
        };
        near("f1_score", 1.0 / 3.0);
        near("f1_score(average=weighted)", 2.0 / 3.0 / 4.0);
        near("f1_score(average=micro)", 2.0 * 0.5 * 0.25 / 0.75);
    }
}
