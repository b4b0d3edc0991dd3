//! What was measured on rows: sums while they are being added up, values once they are.

use crate::{LOSS, Metric};

/// Sums over rows, so that batches and shards add up exactly like one pass over all rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Score {
    /// Rows scored.
    pub rows: u64,
    /// Sum of the rows' losses.
    pub loss_sum: f64,
    /// Each metric's sums, output by output, in the configuration's order.
    pub metrics: Vec<MetricSums>,
}

/// A metric's sums over rows.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricSums {
    /// The output's name, where a network has several.
    pub output: Option<String>,
    /// What is measured of it.
    pub metric: Metric,
    /// As [`Metric`] says.
    pub sums: Vec<f64>,
}

/// What was measured on rows.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measures {
    /// Rows measured.
    pub rows: u64,
    /// Mean loss per row; `None` without rows.
    pub loss: Option<f64>,
    /// Each metric's name and value, in the configuration's order; none without rows.
    pub metrics: Vec<(String, f64)>,
}

impl Score {
    /// Mean loss per row; `None` without rows.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^53")]
    pub fn loss(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.loss_sum / self.rows as f64)
    }

    /// The first output's accuracy; `None` without rows, or where it is not measured.
    #[must_use]
    pub fn accuracy(&self) -> Option<f64> {
        let accuracy = self.metrics.iter().find(|entry| entry.metric == Metric::Accuracy);
        accuracy.filter(|_| self.rows > 0).map(MetricSums::value)
    }

    /// What the sums amount to.
    #[must_use]
    pub fn measures(&self) -> Measures {
        let metrics = self.metrics.iter().filter(|_| self.rows > 0);
        Measures {
            rows: self.rows,
            loss: self.loss(),
            metrics: metrics.map(|entry| (entry.name(), entry.value())).collect(),
        }
    }

    /// Adds the score of other rows. What was not measured on both is dropped.
    ///
    /// ```
    /// # use arrowhop_types::{Metric, MetricSums, Score};
    /// let accuracy = |right, rows| MetricSums {
    ///     output: None,
    ///     metric: Metric::Accuracy,
    ///     sums: vec![right, rows],
    /// };
    /// let mut sum = Score::default();
    /// sum.add(&Score { rows: 4, loss_sum: 2.0, metrics: vec![accuracy(3.0, 4.0)] });
    /// sum.add(&Score { rows: 4, loss_sum: 6.0, metrics: vec![accuracy(1.0, 4.0)] });
    /// assert_eq!((sum.loss(), sum.accuracy()), (Some(1.0), Some(0.5)));
    /// ```
    pub fn add(&mut self, other: &Self) {
        if self.rows == 0 {
            self.metrics.clone_from(&other.metrics);
        } else if other.rows > 0 {
            self.metrics.retain_mut(|entry| {
                let same = other.metrics.iter().find(|theirs| entry.is_like(theirs));
                same.inspect(|same| entry.add(same)).is_some()
            });
        }
        self.rows += other.rows;
        self.loss_sum += other.loss_sum;
    }

    /// Adds a penalty that does not depend on the row, such as that of large weights, to each row's
    /// loss.
    #[expect(clippy::cast_precision_loss, reason = "row counts stay far below 2^53")]
    pub fn penalise(&mut self, penalty: f64) {
        self.loss_sum += penalty * self.rows as f64;
    }
}

impl MetricSums {
    /// The metric's name in reports: its text, behind the output's name where there are several.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.output {
            Some(output) => format!("{output}_{}", self.metric),
            None => self.metric.to_string(),
        }
    }

    /// What the sums amount to.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.metric.value(&self.sums)
    }

    fn is_like(&self, other: &Self) -> bool {
        (&self.output, self.metric, self.sums.len())
            == (&other.output, other.metric, other.sums.len())
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            *sum += more;
        }
    }
}

impl Measures {
    /// The loss, or a metric by its name; `None` where it was not measured.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<f64> {
        if name == LOSS {
            return self.loss;
        }
        self.metrics.iter().find(|(other, _)| other == name).map(|(_, value)| *value)
    }

    /// The names of what was measured and the values, the loss first.
    pub fn named(&self) -> impl Iterator<Item = (&str, f64)> {
        let metrics = self.metrics.iter().map(|(name, value)| (name.as_str(), *value));
        self.loss.map(|loss| (LOSS, loss)).into_iter().chain(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(output: Option<&str>, metric: &str, sums: &[f64]) -> MetricSums {
        MetricSums {
            output: output.map(str::to_owned),
            metric: metric.parse().unwrap(),
            sums: sums.to_vec(),
        }
    }

    #[test]
    fn scores_become_measures_by_name() {
        let metrics = vec![
            sums(None, "accuracy", &[1.0, 4.0]),
            sums(Some("digit"), "precision", &[3.0, 1.0]),
        ];
        let mut score = Score { rows: 4, loss_sum: 2.0, metrics };
        score.penalise(0.25);
        let measures = score.measures();
        let named: Vec<_> = measures.named().collect();
        assert_eq!(named, [("loss", 0.75), ("accuracy", 0.25), ("digit_precision", 0.75)]);
        assert_eq!(measures.value("digit_precision"), Some(0.75));
        assert_eq!(measures.value("precision"), None);
        assert_eq!(Score::default().measures(), Measures::default());
    }

    #[test]
    fn only_what_was_measured_on_both_adds_up() {
        let metrics = vec![sums(None, "accuracy", &[1.0, 2.0]), sums(None, "mse", &[8.0, 2.0])];
        let mut sum = Score { rows: 2, loss_sum: 1.0, metrics };
        let all = sum.clone();
        sum.add(&Score::default());
        assert_eq!(sum, all);
        let metrics = vec![sums(None, "mae", &[1.0, 1.0]), sums(None, "mse", &[1.0, 1.0])];
        sum.add(&Score { rows: 1, loss_sum: 1.0, metrics });
        assert_eq!(sum.metrics, [sums(None, "mse", &[9.0, 3.0])]);
        assert_eq!((sum.rows, sum.accuracy()), (3, None));
    }
}
