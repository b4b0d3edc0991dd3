//! Counts what metrics measure. `arrowhop_types::Metric` says what the sums are.

use arrowhop_types::{Loss, Metric};

/// One position of an output, as metrics see it.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    /// As the network gave them: what is larger stays larger when a softmax follows.
    pub(super) raw: &'a [f32],
    /// As a prediction gives them.
    pub(super) activated: &'a [f64],
    pub(super) targets: &'a [f64],
}

/// Keras resolves `accuracy` by the output's width.
pub(super) fn resolve(metric: Metric, width: usize) -> Metric {
    match metric {
        Metric::Accuracy if width == 1 => Metric::BinaryAccuracy { threshold: 0.5 },
        Metric::Accuracy | Metric::SparseCategoricalAccuracy => Metric::CategoricalAccuracy,
        Metric::SparseTopKCategoricalAccuracy { k } => Metric::TopKCategoricalAccuracy { k },
        other => other,
    }
}

/// Adds one position to a resolved metric's sums. `loss` gives the position's loss of a kind.
pub(super) fn count(
    metric: Metric,
    seen: Seen<'_>,
    sums: &mut [f64],
    loss: &mut dyn FnMut(Loss) -> f64,
) {
    match metric {
        Metric::BinaryAccuracy { threshold } => tally(sums, binary_accuracy(seen, threshold)),
        Metric::CategoricalAccuracy => {
            tally(sums, share(first_largest(seen.raw) == first_largest(seen.targets)));
        }
        Metric::TopKCategoricalAccuracy { k } => tally(sums, share(is_among(seen, k as usize))),
        Metric::Precision { threshold } => {
            let [right, wrong, ..] = confusion(seen, threshold);
            add(sums, &[right, wrong]);
        }
        Metric::Recall { threshold } => {
            let [right, _, missed, _] = confusion(seen, threshold);
            add(sums, &[right, missed]);
        }
        Metric::TruePositives { threshold } => add(sums, &confusion(seen, threshold)[..1]),
        Metric::FalsePositives { threshold } => add(sums, &confusion(seen, threshold)[1..2]),
        Metric::FalseNegatives { threshold } => add(sums, &confusion(seen, threshold)[2..3]),
        Metric::TrueNegatives { threshold } => add(sums, &confusion(seen, threshold)[3..]),
        Metric::Auc { .. } => fill_buckets(seen, sums),
        Metric::F1Score { threshold, .. } => f1_score(seen, threshold, sums),
        Metric::RootMeanSquaredError => tally(sums, loss(Loss::MeanSquaredError)),
        Metric::R2Score => r2_score(seen, sums),
        Metric::Loss(of) => tally(sums, loss(of)),
        Metric::Accuracy
        | Metric::SparseCategoricalAccuracy
        | Metric::SparseTopKCategoricalAccuracy { .. } => unreachable!("they are resolved"),
    }
}

fn tally(sums: &mut [f64], value: f64) {
    add(sums, &[value, 1.0]);
}

fn add(sums: &mut [f64], more: &[f64]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

fn share(is_right: bool) -> f64 {
    f64::from(u8::from(is_right))
}

/// Outputs and thresholds meet in single precision, as in Keras.
#[expect(clippy::cast_possible_truncation, reason = "Keras's precision")]
fn is_above(output: f64, threshold: f64) -> bool {
    output as f32 > threshold as f32
}

fn binary_accuracy(seen: Seen<'_>, threshold: f64) -> f64 {
    let pairs = seen.activated.iter().zip(seen.targets);
    #[expect(clippy::float_cmp, reason = "Keras compares, too")]
    let right = pairs.map(|(&p, y)| share(share(is_above(p, threshold)) == *y));
    #[expect(clippy::cast_precision_loss, reason = "outputs are below 2^24")]
    (right.sum::<f64>() / seen.targets.len() as f64)
}

/// The first of the largest.
fn first_largest<T: PartialOrd>(values: &[T]) -> usize {
    let mut best = 0;
    for (i, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = i;
        }
    }
    best
}

/// Whether fewer than k outputs are larger than that of the target.
fn is_among(seen: Seen<'_>, k: usize) -> bool {
    let wanted = seen.raw[first_largest(seen.targets)];
    !wanted.is_nan() && seen.raw.iter().filter(|value| **value > wanted).count() < k
}

/// True positives, false positives, false negatives, true negatives.
fn confusion(seen: Seen<'_>, threshold: f64) -> [f64; 4] {
    let mut counts = [0.0; 4];
    for (&output, target) in seen.activated.iter().zip(seen.targets) {
        let place = match (is_above(output, threshold), *target != 0.0) {
            (true, true) => 0,
            (true, false) => 1,
            (false, true) => 2,
            (false, false) => 3,
        };
        counts[place] += 1.0;
    }
    counts
}

/// Bucket i of n holds the outputs in (i / (n − 1), (i + 1) / (n − 1)]; the first one also 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "Keras's precision; a bucket's number is from 0 to n − 2"
)]
fn fill_buckets(seen: Seen<'_>, sums: &mut [f64]) {
    let buckets = sums.len() / 2;
    for (&output, target) in seen.activated.iter().zip(seen.targets) {
        let place = (output as f32).clamp(0.0, 1.0) * (buckets - 1) as f32;
        let bucket = (place.ceil() - 1.0).max(0.0) as usize;
        sums[if *target != 0.0 { bucket } else { buckets + bucket }] += 1.0;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "Keras's precision")]
fn f1_score(seen: Seen<'_>, threshold: Option<f64>, sums: &mut [f64]) {
    let width = seen.targets.len();
    let largest = seen.activated.iter().fold(f32::NEG_INFINITY, |most, p| most.max(*p as f32));
    for (i, (&output, y)) in seen.activated.iter().zip(seen.targets).enumerate() {
        let is_taken = match threshold {
            Some(threshold) => is_above(output, threshold),
            None => output as f32 >= largest && output.abs() > 1e-9,
        };
        let taken = share(is_taken);
        sums[i] += taken * y;
        sums[width + i] += taken * (1.0 - y);
        sums[2 * width + i] += (1.0 - taken) * y;
        sums[3 * width + i] += y;
    }
}

fn r2_score(seen: Seen<'_>, sums: &mut [f64]) {
    let width = seen.targets.len();
    for (i, (p, y)) in seen.activated.iter().zip(seen.targets).enumerate() {
        sums[i] += y;
        sums[width + i] += y * y;
        sums[2 * width + i] += (y - p) * (y - p);
    }
    sums[3 * width] += 1.0;
}
