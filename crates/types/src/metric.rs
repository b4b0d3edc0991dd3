//! What is measured beside the loss: Keras's metrics, by Keras's names, as sums that add up exactly
//! over batches and shards, and the value of such sums.

mod value;

use std::fmt;
use std::str::FromStr;

use crate::term::{self, InvalidTerm, Term};
use crate::{Direction, Loss};

/// A metric. Its text is Keras's name, with the parameters that are not the default:
/// `precision(threshold=0.7)`; top-k accuracies are written as MADlib does.
///
/// Sums over rows, as `arrowhop_train`'s objective makes them, for an output of width w:
///
/// | metric | sums |
/// |---|---|
/// | accuracies, losses, root mean squared error | total, count |
/// | precision; recall | true positives, then false positives; false negatives |
/// | counts of positives and negatives | the count |
/// | AUC | positives by bucket of their output, then negatives |
/// | F1 | true positives by output, then false positives, false negatives, positives |
/// | R² | targets by output, then their squares, squared errors; the number of rows |
///
/// ```
/// # use arrowhop_types::Metric;
/// let metric: Metric = "TopKCategoricalAccuracy(k=3)".parse()?;
/// assert_eq!(metric, "top_3_accuracy".parse()?);
/// assert_eq!(metric.to_string(), "top_3_accuracy");
/// assert_eq!(Metric::Precision { threshold: 0.5 }.value(&[3.0, 1.0]), 0.75);
/// # Ok::<(), arrowhop_types::InvalidTerm>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Metric {
    /// Share of rows classified right: binary accuracy of one output, categorical of several.
    Accuracy,
    /// Share of outputs on the right side of a threshold.
    BinaryAccuracy {
        /// Above it is 1.
        threshold: f64,
    },
    /// Share of rows whose largest output is that of the largest target.
    CategoricalAccuracy,
    /// The same for targets that are classes.
    SparseCategoricalAccuracy,
    /// Share of rows whose largest target is among the k largest outputs; ties count as among.
    TopKCategoricalAccuracy {
        /// At least 1.
        k: u32,
    },
    /// The same for targets that are classes.
    SparseTopKCategoricalAccuracy {
        /// At least 1.
        k: u32,
    },
    /// Share of outputs above a threshold whose target is not 0.
    Precision {
        /// From 0 to 1.
        threshold: f64,
    },
    /// Share of targets that are not 0 whose output is above a threshold.
    Recall {
        /// From 0 to 1.
        threshold: f64,
    },
    /// Outputs above a threshold whose target is not 0.
    TruePositives {
        /// From 0 to 1.
        threshold: f64,
    },
    /// Outputs not above a threshold whose target is 0.
    TrueNegatives {
        /// From 0 to 1.
        threshold: f64,
    },
    /// Outputs above a threshold whose target is 0.
    FalsePositives {
        /// From 0 to 1.
        threshold: f64,
    },
    /// Outputs not above a threshold whose target is not 0.
    FalseNegatives {
        /// From 0 to 1.
        threshold: f64,
    },
    /// Area under a curve, from its points at evenly spaced thresholds.
    Auc {
        /// Which one.
        curve: Curve,
        /// Points, 2 to 1,000.
        thresholds: u32,
    },
    /// Harmonic mean of precision and recall.
    F1Score {
        /// How those of several outputs become one.
        average: Average,
        /// What counts as positive; `None` for a row's largest output.
        threshold: Option<f64>,
    },
    /// Root of the mean squared error.
    RootMeanSquaredError,
    /// Share of the targets' variance that the outputs explain, mean over outputs.
    R2Score,
    /// Mean over rows of a loss; of the cosine similarity, Keras turns the sign round.
    Loss(Loss),
}

/// A curve over thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// Recall over the share of negatives taken for positives.
    Roc,
    /// Precision over recall.
    Pr,
}

/// How one number is made of several outputs' F1 scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Average {
    /// Their mean.
    Macro,
    /// The score of all outputs' counts together.
    Micro,
    /// Their mean, each weighted by its positives.
    Weighted,
}

const THRESHOLDS_MAX: f64 = 1_000.0;

const THRESHOLD: &str = "threshold";

const CURVES: [(&str, Curve); 2] = [("ROC", Curve::Roc), ("PR", Curve::Pr)];

const AVERAGES: [(&str, Average); 3] =
    [("macro", Average::Macro), ("micro", Average::Micro), ("weighted", Average::Weighted)];

/// Keras's names and the metrics with their defaults; those that are losses are not here. The first
/// name of a metric is the one it is written by, but for the k of top-k accuracies.
const NAMES: [(&str, Metric); 19] = [
    ("accuracy", Metric::Accuracy),
    ("acc", Metric::Accuracy),
    ("binary_accuracy", Metric::BinaryAccuracy { threshold: 0.5 }),
    ("categorical_accuracy", Metric::CategoricalAccuracy),
    ("sparse_categorical_accuracy", Metric::SparseCategoricalAccuracy),
    ("top_k_categorical_accuracy", Metric::TopKCategoricalAccuracy { k: 5 }),
    ("sparse_top_k_categorical_accuracy", Metric::SparseTopKCategoricalAccuracy { k: 5 }),
    ("precision", Metric::Precision { threshold: 0.5 }),
    ("recall", Metric::Recall { threshold: 0.5 }),
    ("true_positives", Metric::TruePositives { threshold: 0.5 }),
    ("true_negatives", Metric::TrueNegatives { threshold: 0.5 }),
    ("false_positives", Metric::FalsePositives { threshold: 0.5 }),
    ("false_negatives", Metric::FalseNegatives { threshold: 0.5 }),
    ("auc", Metric::Auc { curve: Curve::Roc, thresholds: 200 }),
    ("f1_score", Metric::F1Score { average: Average::Macro, threshold: None }),
    ("root_mean_squared_error", Metric::RootMeanSquaredError),
    ("rmse", Metric::RootMeanSquaredError),
    ("r2_score", Metric::R2Score),
    ("r2", Metric::R2Score),
];

impl Metric {
    /// Which way it improves.
    #[must_use]
    pub fn direction(&self) -> Direction {
        match self {
            Self::Loss(Loss::CosineSimilarity) => Direction::Maximize,
            Self::Loss(_)
            | Self::RootMeanSquaredError
            | Self::FalsePositives { .. }
            | Self::FalseNegatives { .. } => Direction::Minimize,
            _ => Direction::Maximize,
        }
    }

    /// This metric with a term's parameters.
    fn with(self, term: &Term) -> Result<Self, InvalidTerm> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let threshold = || {
            term.allow(&[THRESHOLD, "thresholds"])?;
            let key = if term.value("thresholds").is_some() { "thresholds" } else { THRESHOLD };
            term.number(key, 0.5, "one number from 0 to 1", share)
        };
        Ok(match self {
            Self::BinaryAccuracy { threshold } => {
                term.allow(&[THRESHOLD])?;
                let threshold = term.number(THRESHOLD, threshold, "a number", f64::is_finite)?;
                Self::BinaryAccuracy { threshold }
            }
            Self::TopKCategoricalAccuracy { .. } => Self::TopKCategoricalAccuracy { k: k(term)? },
            Self::SparseTopKCategoricalAccuracy { .. } => {
                Self::SparseTopKCategoricalAccuracy { k: k(term)? }
            }
            Self::Precision { .. } => Self::Precision { threshold: threshold()? },
            Self::Recall { .. } => Self::Recall { threshold: threshold()? },
            Self::TruePositives { .. } => Self::TruePositives { threshold: threshold()? },
            Self::TrueNegatives { .. } => Self::TrueNegatives { threshold: threshold()? },
            Self::FalsePositives { .. } => Self::FalsePositives { threshold: threshold()? },
            Self::FalseNegatives { .. } => Self::FalseNegatives { threshold: threshold()? },
            Self::Auc { .. } => {
                term.allow(&["num_thresholds", "curve"])?;
                let curve = term.choice("curve", &CURVES)?;
                let thresholds = whole(term, "num_thresholds", 200.0, 2.0, THRESHOLDS_MAX)?;
                Self::Auc { curve, thresholds }
            }
            Self::F1Score { .. } => {
                term.allow(&["average", THRESHOLD])?;
                let average = term.choice("average", &AVERAGES)?;
                let is_given = term.value(THRESHOLD).is_some();
                let threshold = term.number(THRESHOLD, 0.5, "from 0 to 1", share)?;
                Self::F1Score { average, threshold: is_given.then_some(threshold) }
            }
            _ => term.allow(&[]).map(|()| self)?,
        })
    }

    /// `top_5_accuracy` and `sparse_top_5_accuracy`.
    fn top_k(term: &Term) -> Option<Result<Self, InvalidTerm>> {
        let key = term.key();
        let (is_sparse, rest) = match key.strip_prefix("sparse") {
            Some(rest) => (true, rest),
            None => (false, key.as_str()),
        };
        let k: u32 = rest.strip_prefix("top")?.strip_suffix("accuracy")?.parse().ok()?;
        if k == 0 {
            return Some(Err(InvalidTerm(format!("{}: k must be at least 1", term.name))));
        }
        let metric = if is_sparse {
            Self::SparseTopKCategoricalAccuracy { k }
        } else {
            Self::TopKCategoricalAccuracy { k }
        };
        Some(term.allow(&[]).map(|()| metric))
    }
}

/// A whole number in `low..=high`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole and bounded")]
fn whole(term: &Term, key: &str, default: f64, low: f64, high: f64) -> Result<u32, InvalidTerm> {
    let rule = format!("a whole number from {low} to {high}");
    let is_right = |value: f64| value.fract() == 0.0 && (low..=high).contains(&value);
    Ok(term.number(key, default, &rule, is_right)? as u32)
}

fn k(term: &Term) -> Result<u32, InvalidTerm> {
    term.allow(&["k"])?;
    whole(term, "k", 5.0, 1.0, 1e9)
}

/// The word that stands for a choice.
fn word<T: PartialEq>(choices: &[(&str, T)], choice: T) -> String {
    let named = choices.iter().find(|(_, other)| *other == choice);
    named.map_or_else(String::new, |(word, _)| (*word).to_owned())
}

impl FromStr for Metric {
    type Err = InvalidTerm;

    fn from_str(text: &str) -> Result<Self, InvalidTerm> {
        let term = Term::parse(text)?;
        let key = term.key();
        if let Some((_, metric)) = NAMES.iter().find(|(name, _)| name.replace('_', "") == key) {
            return metric.with(&term);
        }
        if let Some(metric) = Self::top_k(&term) {
            return metric;
        }
        match Loss::read(&term) {
            Some(loss) => loss.map(Self::Loss),
            None => {
                let known: Vec<_> =
                    NAMES.iter().map(|(name, _)| *name).chain(Loss::names()).collect();
                let known = known.join(", ");
                Err(InvalidTerm(format!("{:?} is no metric; known: {known}", term.name)))
            }
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = std::mem::discriminant(self);
        let named = NAMES.iter().find(|(_, metric)| std::mem::discriminant(metric) == same);
        let name = named.map_or("", |(name, _)| *name);
        #[expect(clippy::float_cmp, reason = "exactly the default is not written")]
        let cut = |value: f64| (value != 0.5).then(|| (THRESHOLD, value.to_string()));
        match *self {
            Self::TopKCategoricalAccuracy { k } => write!(f, "top_{k}_accuracy"),
            Self::SparseTopKCategoricalAccuracy { k } => write!(f, "sparse_top_{k}_accuracy"),
            Self::BinaryAccuracy { threshold }
            | Self::Precision { threshold }
            | Self::Recall { threshold }
            | Self::TruePositives { threshold }
            | Self::TrueNegatives { threshold }
            | Self::FalsePositives { threshold }
            | Self::FalseNegatives { threshold } => term::write(f, name, &[cut(threshold)]),
            Self::Auc { curve, thresholds } => {
                let curve = (curve != Curve::Roc).then(|| ("curve", word(&CURVES, curve)));
                let points =
                    (thresholds != 200).then(|| ("num_thresholds", thresholds.to_string()));
                term::write(f, name, &[points, curve])
            }
            Self::F1Score { average, threshold } => {
                let is_default = average == Average::Macro;
                let average = (!is_default).then(|| ("average", word(&AVERAGES, average)));
                let threshold = threshold.map(|value| (THRESHOLD, value.to_string()));
                term::write(f, name, &[average, threshold])
            }
            Self::Loss(loss) => loss.fmt(f),
            Self::Accuracy
            | Self::CategoricalAccuracy
            | Self::SparseCategoricalAccuracy
            | Self::RootMeanSquaredError
            | Self::R2Score => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_keras_is_read_and_written_so_that_it_is_read_again() {
        let losses = Loss::names().map(|name| (name, Metric::Loss(name.parse().unwrap())));
        for (name, metric) in NAMES.into_iter().chain(losses) {
            assert_eq!(name.parse(), Ok(metric));
            assert_eq!(metric.to_string().parse(), Ok(metric), "{metric}");
        }
        let classes = ["AUC", "F1Score", "R2Score", "TopKCategoricalAccuracy", "Precision", "MAE"];
        for class in classes {
            assert!(class.parse::<Metric>().is_ok(), "{class}");
        }
    }

    #[test]
    fn parameters_come_back_as_they_went_in() {
        let f1_score = Metric::F1Score { average: Average::Weighted, threshold: Some(0.5) };
        let table = [
            (Metric::Precision { threshold: 0.7 }, "precision(threshold=0.7)"),
            (Metric::SparseTopKCategoricalAccuracy { k: 3 }, "sparse_top_3_accuracy"),
            (Metric::TopKCategoricalAccuracy { k: 10 }, "top_10_accuracy"),
            (f1_score, "f1_score(average=weighted,threshold=0.5)"),
            (Metric::Auc { curve: Curve::Pr, thresholds: 50 }, "auc(num_thresholds=50,curve=PR)"),
            (Metric::Loss(Loss::Huber { delta: 2.0 }), "huber(delta=2)"),
        ];
        for (metric, text) in table {
            assert_eq!(metric.to_string(), text);
            assert_eq!(text.parse(), Ok(metric));
        }
        assert_eq!("recall(thresholds=0.2)".parse(), Ok(Metric::Recall { threshold: 0.2 }));
    }

    #[test]
    fn what_is_no_metric_is_refused_with_what_there_is() {
        let refused = |text: &str| text.parse::<Metric>().unwrap_err().to_string();
        assert!(refused("f2").starts_with("\"f2\" is no metric; known: accuracy, acc, binary_a"));
        assert_eq!(refused("top_0_accuracy"), "top_0_accuracy: k must be at least 1");
        assert_eq!(
            refused("auc(num_thresholds=1)"),
            "num_thresholds of auc must be a whole number from 2 to 1000, not \"1\""
        );
        assert_eq!(
            refused("precision(threshold=2)"),
            "threshold of precision must be one number from 0 to 1, not \"2\""
        );
        assert_eq!(
            refused("f1_score(average=mean)"),
            "average of f1_score must be one of macro, micro, weighted, not \"mean\""
        );
    }

    #[test]
    fn errors_are_minimised_and_scores_maximised() {
        let up = ["accuracy", "auc", "cosine_similarity", "r2_score", "true_positives"];
        let down = ["mse", "rmse", "false_negatives", "hinge"];
        for (names, direction) in [(&up[..], Direction::Maximize), (&down[..], Direction::Minimize)]
        {
            for name in names {
                assert_eq!(name.parse::<Metric>().unwrap().direction(), direction, "{name}");
            }
        }
    }
}
