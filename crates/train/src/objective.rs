//! Losses, their gradients and accuracy, from a batch's outputs. Outputs are few, so this runs on
//! the host in double precision, once for training and evaluation alike.
//!
//! Source: Keras's numerics. A softmax at the end and categorical cross-entropy are fused; other
//! outputs are rescaled to sum 1 and clipped to [1e-7, 1 − 1e-7].

use arrowhop_types::{Loss, Score};

use crate::rows::Targets;

/// Keras's fuzz factor.
const EPSILON: f64 = 1e-7;

/// What is minimised, and of which outputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Objective {
    pub(crate) loss: Loss,
    /// Outputs per row.
    pub(crate) outputs: usize,
    /// Outputs are before their softmax.
    pub(crate) takes_logits: bool,
}

/// The target of one row.
#[derive(Clone, Copy)]
enum Label<'a> {
    Class(usize),
    Values(&'a [f32]),
}

impl Objective {
    /// The score of a batch.
    pub(crate) fn score(&self, output: &[f32], targets: &Targets) -> Score {
        self.each_row(output, targets, |_, _, _| {})
    }

    /// The score of a batch, and the gradient of its mean loss by each output.
    #[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 rows")]
    #[expect(clippy::cast_possible_truncation, reason = "gradients are single precision")]
    pub(crate) fn score_and_gradient(
        &self,
        output: &[f32],
        targets: &Targets,
    ) -> (Score, Vec<f32>) {
        let rows = (output.len() / self.outputs) as f64;
        let mut gradient = Vec::with_capacity(output.len());
        let mut by_output = vec![0.0; self.outputs];
        let score = self.each_row(output, targets, |objective, activated, label| {
            objective.row_gradient(activated, label, &mut by_output);
            gradient.extend(by_output.iter().map(|slope| (slope / rows) as f32));
        });
        (score, gradient)
    }

    /// Sums up the rows' losses, and shows each row's activated outputs.
    fn each_row(
        &self,
        output: &[f32],
        targets: &Targets,
        mut visit: impl FnMut(&Self, &[f64], Label<'_>),
    ) -> Score {
        let is_class = matches!(targets, Targets::Classes(_));
        let mut score = Score { rows: 0, loss_sum: 0.0, correct: is_class.then_some(0) };
        let mut activated = vec![0.0; self.outputs];
        for (row, raw) in output.chunks_exact(self.outputs).enumerate() {
            let label = targets.label(row, self.outputs);
            let log_sum = self.activate(raw, &mut activated);
            score.rows += 1;
            score.loss_sum += self.row_loss(raw, &activated, log_sum, label);
            if let (Some(correct), Label::Class(class)) = (&mut score.correct, label) {
                *correct += u64::from(self.predicted_class(raw, &activated) == class);
            }
            visit(self, &activated, label);
        }
        score
    }

    /// Softmax where the outputs are logits; gives the logarithm of its denominator.
    fn activate(&self, raw: &[f32], activated: &mut [f64]) -> f64 {
        for (value, &raw) in activated.iter_mut().zip(raw) {
            *value = f64::from(raw);
        }
        if !self.takes_logits {
            return 0.0;
        }
        let largest = activated.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        activated.iter_mut().for_each(|value| *value = (*value - largest).exp());
        let sum: f64 = activated.iter().sum();
        activated.iter_mut().for_each(|value| *value /= sum);
        largest + sum.ln()
    }

    fn row_loss(&self, raw: &[f32], activated: &[f64], log_sum: f64, label: Label<'_>) -> f64 {
        match (self.loss, label) {
            (Loss::CategoricalCrossentropy, Label::Class(class)) if self.takes_logits => {
                log_sum - f64::from(raw[class])
            }
            (Loss::CategoricalCrossentropy, Label::Class(class)) => {
                let sum: f64 = activated.iter().sum();
                -(activated[class] / sum).clamp(EPSILON, 1.0 - EPSILON).ln()
            }
            _ => {
                let errors =
                    (0..self.outputs).map(|i| activated[i] - label.expected(i, self.outputs));
                errors.map(|error| error * error).sum::<f64>() / self.width()
            }
        }
    }

    /// The derivative of one row's loss by each raw output.
    fn row_gradient(&self, activated: &[f64], label: Label<'_>, by_output: &mut [f64]) {
        match (self.loss, label) {
            (Loss::CategoricalCrossentropy, Label::Class(class)) if self.takes_logits => {
                by_output.copy_from_slice(activated);
                by_output[class] -= 1.0;
            }
            (Loss::CategoricalCrossentropy, Label::Class(class)) => {
                let sum: f64 = activated.iter().sum();
                let share = activated[class] / sum;
                let is_clipped = !(EPSILON..=1.0 - EPSILON).contains(&share);
                by_output.fill(if is_clipped { 0.0 } else { 1.0 / sum });
                if !is_clipped {
                    by_output[class] -= 1.0 / activated[class];
                }
            }
            _ => {
                for (i, slope) in by_output.iter_mut().enumerate() {
                    let error = activated[i] - label.expected(i, self.outputs);
                    *slope = 2.0 * error / self.width();
                }
                if self.takes_logits {
                    through_softmax(activated, by_output);
                }
            }
        }
    }

    /// The first of the largest outputs; of a single output, whether it is above one half.
    fn predicted_class(&self, raw: &[f32], activated: &[f64]) -> usize {
        if self.outputs == 1 {
            return usize::from(activated[0] > 0.5);
        }
        let mut best = 0;
        for (i, value) in raw.iter().enumerate() {
            if *value > raw[best] {
                best = i;
            }
        }
        best
    }

    #[expect(clippy::cast_precision_loss, reason = "outputs are below 2^24")]
    fn width(&self) -> f64 {
        self.outputs as f64
    }
}

/// Turns slopes by a softmax's outputs into slopes by its inputs.
fn through_softmax(probabilities: &[f64], slopes: &mut [f64]) {
    let mean: f64 = probabilities.iter().zip(slopes.iter()).map(|(p, slope)| p * slope).sum();
    for (slope, p) in slopes.iter_mut().zip(probabilities) {
        *slope = p * (*slope - mean);
    }
}

impl Targets {
    fn label(&self, row: usize, width: usize) -> Label<'_> {
        match self {
            Self::Classes(classes) => Label::Class(classes[row]),
            Self::Values(values) => Label::Values(&values[row * width..(row + 1) * width]),
        }
    }
}

impl Label<'_> {
    /// The wanted output: one-hot for classes, but the class itself for a single output.
    #[expect(clippy::cast_precision_loss, reason = "the class of a single output is 0 or 1")]
    fn expected(self, i: usize, outputs: usize) -> f64 {
        match self {
            Self::Values(values) => f64::from(values[i]),
            Self::Class(class) if outputs == 1 => class as f64,
            Self::Class(class) => f64::from(u8::from(class == i)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objective(loss: Loss, outputs: usize, takes_logits: bool) -> Objective {
        Objective { loss, outputs, takes_logits }
    }

    /// Slopes by central differences.
    fn assert_gradient_is_the_slope(objective: Objective, output: &[f32], targets: &Targets) {
        let (_, gradient) = objective.score_and_gradient(output, targets);
        for (i, slope) in gradient.iter().enumerate() {
            let loss_at = |offset: f32| {
                let mut moved = output.to_vec();
                moved[i] += offset;
                objective.score(&moved, targets).loss().unwrap()
            };
            let expected = (loss_at(1.0 / 256.0) - loss_at(-1.0 / 256.0)) * 128.0;
            assert!((f64::from(*slope) - expected).abs() < 2e-4, "{i}: {slope}, not {expected}");
        }
    }

    #[test]
    fn gradients_are_the_slopes_of_their_losses() {
        let classes = Targets::Classes(vec![2, 0]);
        let values = Targets::Values(vec![0.1, 0.2, 0.3, -1.0, 0.0, 1.0]);
        let output = [0.5, 0.25, 1.0, 0.75, 0.125, 0.5];
        for loss in [Loss::CategoricalCrossentropy, Loss::MeanSquaredError] {
            for takes_logits in [true, false] {
                let objective = objective(loss, 3, takes_logits);
                assert_gradient_is_the_slope(objective, &output, &classes);
            }
        }
        for takes_logits in [true, false] {
            let objective = objective(Loss::MeanSquaredError, 3, takes_logits);
            assert_gradient_is_the_slope(objective, &output, &values);
        }
    }

    #[test]
    fn probabilities_are_rescaled_and_clipped_as_in_keras() {
        let objective = objective(Loss::CategoricalCrossentropy, 2, false);
        let loss = |output: [f32; 2], class| {
            objective.score(&output, &Targets::Classes(vec![class])).loss_sum
        };
        assert!((loss([1.0, 3.0], 0) - 4_f64.ln()).abs() < 1e-9);
        assert!((loss([0.0, 1.0], 0) - 16.1181).abs() < 1e-4);
        let (_, gradient) = objective.score_and_gradient(&[0.0, 1.0], &Targets::Classes(vec![0]));
        assert_eq!(gradient, [0.0, 0.0], "a clipped loss has no slope");
    }

    #[test]
    fn logits_of_any_size_have_a_finite_loss() {
        let objective = objective(Loss::CategoricalCrossentropy, 2, true);
        let (score, gradient) =
            objective.score_and_gradient(&[1000.0, -1000.0], &Targets::Classes(vec![1]));
        assert_eq!((score.loss_sum, gradient.as_slice()), (2000.0, &[1.0, -1.0][..]));
    }

    #[test]
    fn ties_go_to_the_first_class_and_one_output_is_cut_at_one_half() {
        let three = objective(Loss::MeanSquaredError, 3, false);
        let correct = |class| three.score(&[0.5, 0.7, 0.7], &Targets::Classes(vec![class])).correct;
        assert_eq!((correct(1), correct(2)), (Some(1), Some(0)));
        let one = objective(Loss::MeanSquaredError, 1, false);
        let score = one.score(&[0.5, 0.6, 0.6], &Targets::Classes(vec![0, 1, 0]));
        assert_eq!((score.rows, score.correct), (3, Some(2)));
        let values = one.score(&[0.5], &Targets::Values(vec![0.5]));
        assert_eq!((values.loss_sum, values.correct), (0.0, None));
    }
}
