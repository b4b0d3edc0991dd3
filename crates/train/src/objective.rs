//! What a model is trained for and measured by, from a batch's outputs: losses, their gradients and
//! metrics. Outputs are few, so this runs on the host in double precision, once for training and
//! evaluation alike.
//!
//! An output of a row is a vector, or several of them: losses compare vectors with their targets,
//! and the row's loss is the mean over its vectors. The loss of several outputs is their weighted
//! sum. A softmax at the end of a network is left to the objective, which fuses it with a
//! categorical cross-entropy.
//!
//! Source: Keras's numerics (2.15), in double precision.

mod check;
mod losses;
mod metrics;

use arrowhop_types::{
    Loss, Metric, MetricSums, ModelConfig, OutputConfig, Problems, Score, Target,
};

use self::metrics::Seen;
use crate::rows::Targets;

/// What is minimised and measured, of which outputs.
#[derive(Debug, Clone)]
pub(crate) struct Objective {
    outputs: Vec<Output>,
    /// By class; empty where every class counts 1.
    class_weights: Vec<f64>,
}

/// An output as the network describes it.
#[derive(Debug, Clone)]
pub(crate) struct OutputShape {
    pub(crate) name: String,
    /// Without the batch.
    pub(crate) shape: Vec<usize>,
    /// Before its softmax over the last axis.
    pub(crate) gives_logits: bool,
}

/// One output and what it is held to.
#[derive(Debug, Clone)]
struct Output {
    /// Where there are several.
    name: Option<String>,
    /// Elements of a row.
    elements: usize,
    /// Elements of a vector.
    width: usize,
    gives_logits: bool,
    loss: Loss,
    weight: f64,
    /// As they are reported, and as they are counted.
    metrics: Vec<(Metric, Metric)>,
}

/// One row's vectors at work.
struct Work {
    raw: Vec<f64>,
    activated: Vec<f64>,
    targets: Vec<f64>,
    slopes: Vec<f64>,
}

impl Objective {
    /// Checks that a configuration goes together with a network's outputs and their targets, and
    /// adds to `problems` all that does not.
    pub(crate) fn new(
        config: &ModelConfig,
        shapes: &[OutputShape],
        targets: &[&Target],
        problems: &mut Problems,
    ) -> Self {
        check::check(config, shapes, targets, problems);
        let class_weights = config.class_weights.clone();
        Self { class_weights, ..Self::unchecked(&config.outputs, shapes) }
    }

    /// What these outputs are held to, which may be more than a target can tell.
    pub(crate) fn unchecked(held_to: &[OutputConfig], shapes: &[OutputShape]) -> Self {
        let is_one = shapes.len() == 1;
        let outputs = shapes.iter().enumerate().filter_map(|(i, output)| {
            let held_to = held_to.get(i).or(held_to.first())?;
            let own = (!is_one).then_some(Metric::Loss(held_to.loss));
            let metrics = own.into_iter().chain(held_to.metrics.iter().copied());
            let width = output.width();
            Some(Output {
                name: (!is_one).then(|| output.name.clone()),
                elements: output.elements(),
                width,
                gives_logits: output.gives_logits,
                loss: held_to.loss,
                weight: held_to.loss_weight,
                metrics: metrics.map(|metric| (metric, metrics::resolve(metric, width))).collect(),
            })
        });
        Self { outputs: outputs.collect(), class_weights: Vec::new() }
    }

    /// The names of what is measured beside the loss, and which way each improves.
    pub(crate) fn metrics(&self) -> Vec<MetricSums> {
        self.outputs.iter().flat_map(Output::zeros).collect()
    }

    /// The score of a batch: of each output all rows' elements, and their targets.
    pub(crate) fn score(&self, outputs: &[&[f32]], targets: &[Targets]) -> Score {
        self.each_row(outputs, targets, &[], |_, _| {})
    }

    /// The score of a batch, in which class weights count, and the gradient of its mean loss by
    /// each element of each output.
    #[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^52 rows")]
    #[expect(clippy::cast_possible_truncation, reason = "gradients are single precision")]
    pub(crate) fn score_and_gradients(
        &self,
        outputs: &[&[f32]],
        targets: &[Targets],
    ) -> (Score, Vec<Vec<f32>>) {
        let mut gradients: Vec<Vec<f32>> =
            outputs.iter().map(|output| Vec::with_capacity(output.len())).collect();
        let rows = self.rows(outputs) as f64;
        let score = self.each_row(outputs, targets, &self.class_weights, |output, slopes| {
            gradients[output].extend(slopes.iter().map(|slope| (slope / rows) as f32));
        });
        (score, gradients)
    }

    fn rows(&self, outputs: &[&[f32]]) -> usize {
        self.outputs.first().map_or(0, |first| outputs[0].len() / first.elements)
    }

    /// Sums up the rows, output by output, and shows each vector's slopes.
    fn each_row(
        &self,
        outputs: &[&[f32]],
        targets: &[Targets],
        class_weights: &[f64],
        mut visit: impl FnMut(usize, &[f64]),
    ) -> Score {
        let rows = self.rows(outputs);
        let mut score = Score { rows: rows as u64, ..Score::default() };
        for (i, output) in self.outputs.iter().enumerate() {
            let mut work = Work::new(output.width);
            let mut sums = output.zeros();
            for (row, raw) in outputs[i].chunks_exact(output.elements).enumerate() {
                let weight = output.weight * class_weight(class_weights, &targets[i], row);
                let mean = output.width_share() * weight;
                for (place, raw) in raw.chunks_exact(output.width).enumerate() {
                    work.take(raw, &targets[i], row, place, output.elements);
                    score.loss_sum += mean * output.measure(&mut work, raw, &mut sums);
                    work.slopes.iter_mut().for_each(|slope| *slope *= mean);
                    visit(i, &work.slopes);
                }
            }
            score.metrics.append(&mut sums);
        }
        score
    }
}

impl OutputShape {
    /// Elements of a row.
    pub(crate) fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Elements of the last axis.
    fn width(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

impl Output {
    /// What one of a row's vectors counts in the row's mean.
    #[expect(clippy::cast_precision_loss, reason = "outputs are below 2^24")]
    fn width_share(&self) -> f64 {
        self.width as f64 / self.elements as f64
    }

    fn zeros(&self) -> Vec<MetricSums> {
        let sums = |(metric, _): &(Metric, Metric)| MetricSums {
            output: self.name.clone(),
            metric: *metric,
            sums: metric.zeros(self.width),
        };
        self.metrics.iter().map(sums).collect()
    }

    /// A vector's loss and, in `work`, its slopes; adds the vector to the metrics' sums.
    fn measure(&self, work: &mut Work, raw: &[f32], sums: &mut [MetricSums]) -> f64 {
        if self.gives_logits {
            losses::softmax(&work.raw, &mut work.activated);
        } else {
            work.activated.copy_from_slice(&work.raw);
        }
        let Work { raw: logits, activated, targets, slopes } = work;
        for ((_, metric), entry) in self.metrics.iter().zip(sums) {
            let seen = Seen { raw, activated, targets };
            let mut loss = |of| self.loss(of, logits, activated, targets, slopes);
            metrics::count(*metric, seen, &mut entry.sums, &mut loss);
        }
        self.loss(self.loss, logits, activated, targets, slopes)
    }

    /// A vector's loss of this kind; `slopes` become its slopes by the network's outputs.
    fn loss(
        &self,
        loss: Loss,
        raw: &[f64],
        activated: &[f64],
        targets: &[f64],
        slopes: &mut [f64],
    ) -> f64 {
        let fused = match loss {
            Loss::CategoricalCrossentropy(mut of) if self.gives_logits => {
                of.from_logits = true;
                Loss::CategoricalCrossentropy(of)
            }
            Loss::SparseCategoricalCrossentropy { .. } if self.gives_logits => {
                Loss::SparseCategoricalCrossentropy { from_logits: true }
            }
            other => {
                let value = losses::loss(other, activated, targets, slopes);
                if self.gives_logits {
                    losses::through_softmax(activated, slopes);
                }
                return value;
            }
        };
        losses::loss(fused, raw, targets, slopes)
    }
}

impl Work {
    fn new(width: usize) -> Self {
        let zeros = || vec![0.0; width];
        Self { raw: zeros(), activated: zeros(), targets: zeros(), slopes: zeros() }
    }

    /// Takes in a vector and its target: one-hot for a class, but the class itself for a single
    /// output.
    fn take(&mut self, raw: &[f32], targets: &Targets, row: usize, place: usize, elements: usize) {
        for (value, raw) in self.raw.iter_mut().zip(raw) {
            *value = f64::from(*raw);
        }
        match targets {
            Targets::Classes(classes) => match self.targets.as_mut_slice() {
                [only] => *only = if classes[row] == 0 { 0.0 } else { 1.0 },
                several => {
                    several.fill(0.0);
                    several[classes[row]] = 1.0;
                }
            },
            Targets::Values(values) => {
                let vector = &values[row * elements + place * raw.len()..];
                for (target, value) in self.targets.iter_mut().zip(vector) {
                    *target = f64::from(*value);
                }
            }
        }
    }
}

/// What a row counts, by its class.
fn class_weight(weights: &[f64], targets: &Targets, row: usize) -> f64 {
    match targets {
        Targets::Classes(classes) if !weights.is_empty() => weights[classes[row]],
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests;
