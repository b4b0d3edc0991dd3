//! Keras's losses along the last axis of an output, and their derivatives by each output.
//!
//! With p the outputs, y the targets, n their number, ε = 1e-7, and means over the axis:
//!
//! | loss | formula |
//! |---|---|
//! | categorical cross-entropy | −Σ y ln q, q = p / Σp cut to [ε, 1 − ε]; of logits −Σ y ln softmax(p) |
//! | binary cross-entropy | −mean(y ln(q + ε) + (1 − y) ln(1 − q + ε)), q = p cut to [ε, 1 − ε]; of logits exactly |
//! | Kullback–Leibler divergence | Σ y ln(y / p), both cut to [ε, 1] |
//! | Poisson | mean(p − y ln(p + ε)) |
//! | cosine similarity | −Σ y p / (‖y‖ ‖p‖), squared norms at least 1e-12 |
//! | categorical hinge | max(0, 1 + max((1 − y) p) − Σ y p) |
//! | hinge | mean(max(0, 1 − y p)), targets 0 taken for −1; squared hinge: its square |
//! | squared, absolute error | mean((p − y)²), mean(\|p − y\|) |
//! | absolute percentage error | 100 mean(\|p − y\| / max(\|y\|, ε)) |
//! | squared logarithmic error | mean((ln(1 + max(p, ε)) − ln(1 + max(y, ε)))²) |
//! | log cosh | mean(ln cosh(p − y)) |
//! | Huber | mean of e² / 2 where \|e\| ≤ δ, else δ\|e\| − δ² / 2 |
//!
//! Label smoothing s turns y into (1 − s) y + s / n, or (1 − s) y + s / 2 in the binary one.

use arrowhop_types::Loss;

/// Keras's fuzz factor.
const EPSILON: f64 = 1e-7;

/// The loss of outputs against targets; `slopes` become its derivatives by the outputs.
pub(super) fn loss(loss: Loss, outputs: &[f64], targets: &[f64], slopes: &mut [f64]) -> f64 {
    let mut mean = |of: &dyn Fn(f64, f64) -> (f64, f64)| mean(outputs, targets, slopes, of);
    match loss {
        Loss::CategoricalCrossentropy(of) => {
            categorical(of.from_logits, of.label_smoothing, outputs, targets, slopes)
        }
        Loss::SparseCategoricalCrossentropy { from_logits } => {
            categorical(from_logits, 0.0, outputs, targets, slopes)
        }
        Loss::BinaryCrossentropy(of) => {
            let smooth = |y: f64| y * (1.0 - of.label_smoothing) + of.label_smoothing / 2.0;
            if of.from_logits {
                mean(&|x, y| sigmoid_crossentropy(x, smooth(y)))
            } else {
                mean(&|p, y| binary_crossentropy(p, smooth(y)))
            }
        }
        Loss::MeanSquaredError => mean(&|p, y| ((p - y) * (p - y), 2.0 * (p - y))),
        Loss::MeanAbsoluteError => mean(&|p, y| ((p - y).abs(), sign(p - y))),
        Loss::MeanAbsolutePercentageError => mean(&|p, y| {
            let percent = 100.0 / y.abs().max(EPSILON);
            (percent * (p - y).abs(), percent * sign(p - y))
        }),
        Loss::MeanSquaredLogarithmicError => mean(&|p, y| {
            let difference = p.max(EPSILON).ln_1p() - y.max(EPSILON).ln_1p();
            let slope = if p > EPSILON { 2.0 * difference / (1.0 + p) } else { 0.0 };
            (difference * difference, slope)
        }),
        Loss::KullbackLeiblerDivergence => divergence(outputs, targets, slopes),
        Loss::Poisson => mean(&|p, y| (p - y * (p + EPSILON).ln(), 1.0 - y / (p + EPSILON))),
        Loss::CosineSimilarity => cosine(outputs, targets, slopes),
        Loss::CategoricalHinge => categorical_hinge(outputs, targets, slopes),
        Loss::Hinge => mean(&|p, y| {
            let (gap, y) = hinge(p, y);
            (gap, if gap > 0.0 { -y } else { 0.0 })
        }),
        Loss::SquaredHinge => mean(&|p, y| {
            let (gap, y) = hinge(p, y);
            (gap * gap, -2.0 * gap * y)
        }),
        Loss::LogCosh => mean(&|p, y| {
            let error = p - y;
            (error + softplus(-2.0 * error) - std::f64::consts::LN_2, error.tanh())
        }),
        Loss::Huber { delta } => mean(&|p, y| {
            let error = p - y;
            if error.abs() <= delta {
                (error * error / 2.0, error)
            } else {
                (delta * error.abs() - delta * delta / 2.0, delta * sign(error))
            }
        }),
    }
}

/// The mean of a loss and its slope of one output and its target.
fn mean(
    outputs: &[f64],
    targets: &[f64],
    slopes: &mut [f64],
    of: &dyn Fn(f64, f64) -> (f64, f64),
) -> f64 {
    let count = count(outputs);
    let mut sum = 0.0;
    for ((&output, &target), slope) in outputs.iter().zip(targets).zip(slopes) {
        let (loss, by_output) = of(output, target);
        sum += loss;
        *slope = by_output / count;
    }
    sum / count
}

#[expect(clippy::cast_precision_loss, reason = "outputs are below 2^24")]
fn count(outputs: &[f64]) -> f64 {
    outputs.len() as f64
}

/// −1, 0 or 1: the slope of an absolute value, 0 at its corner.
fn sign(value: f64) -> f64 {
    if value == 0.0 { 0.0 } else { value.signum() }
}

/// ln(1 + eˣ) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn categorical(
    from_logits: bool,
    smoothing: f64,
    outputs: &[f64],
    targets: &[f64],
    slopes: &mut [f64],
) -> f64 {
    let spread = smoothing / count(outputs);
    let smooth = |y: &f64| y * (1.0 - smoothing) + spread;
    let mut sum = 0.0;
    if from_logits {
        let log_sum = softmax(outputs, slopes);
        let whole: f64 = targets.iter().map(smooth).sum();
        for ((x, y), slope) in outputs.iter().zip(targets.iter().map(smooth)).zip(slopes) {
            sum += y * (log_sum - x);
            *slope = *slope * whole - y;
        }
        return sum;
    }
    let total: f64 = outputs.iter().sum();
    let mut mean_slope = 0.0;
    for ((p, y), slope) in outputs.iter().zip(targets.iter().map(smooth)).zip(&mut *slopes) {
        let share = p / total;
        let cut = share.clamp(EPSILON, 1.0 - EPSILON);
        sum -= y * cut.ln();
        #[expect(clippy::float_cmp, reason = "what was cut is not what it was")]
        let by_share = if cut == share { -y / share } else { 0.0 };
        mean_slope += by_share * share;
        *slope = by_share;
    }
    slopes.iter_mut().for_each(|slope| *slope = (*slope - mean_slope) / total);
    sum
}

/// Gives the logarithm of the softmax's denominator; `probabilities` become the softmax.
pub(super) fn softmax(logits: &[f64], probabilities: &mut [f64]) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for (probability, logit) in probabilities.iter_mut().zip(logits) {
        *probability = (logit - largest).exp();
        sum += *probability;
    }
    probabilities.iter_mut().for_each(|probability| *probability /= sum);
    largest + sum.ln()
}

/// Turns slopes by a softmax's outputs into slopes by its inputs.
pub(super) fn through_softmax(probabilities: &[f64], slopes: &mut [f64]) {
    let mean: f64 = probabilities.iter().zip(slopes.iter()).map(|(p, slope)| p * slope).sum();
    for (slope, p) in slopes.iter_mut().zip(probabilities) {
        *slope = p * (*slope - mean);
    }
}

fn binary_crossentropy(p: f64, y: f64) -> (f64, f64) {
    let cut = p.clamp(EPSILON, 1.0 - EPSILON);
    let (is, is_not) = (cut + EPSILON, 1.0 - cut + EPSILON);
    let loss = -(y * is.ln() + (1.0 - y) * is_not.ln());
    #[expect(clippy::float_cmp, reason = "what was cut is not what it was")]
    let slope = if cut == p { (1.0 - y) / is_not - y / is } else { 0.0 };
    (loss, slope)
}

fn sigmoid_crossentropy(x: f64, y: f64) -> (f64, f64) {
    (softplus(x) - x * y, 1.0 / (1.0 + (-x).exp()) - y)
}

fn divergence(outputs: &[f64], targets: &[f64], slopes: &mut [f64]) -> f64 {
    let mut sum = 0.0;
    for ((p, y), slope) in outputs.iter().zip(targets).zip(slopes) {
        let (cut, y) = (p.clamp(EPSILON, 1.0), y.clamp(EPSILON, 1.0));
        sum += y * (y / cut).ln();
        #[expect(clippy::float_cmp, reason = "what was cut is not what it was")]
        let is_cut = cut != *p;
        *slope = if is_cut { 0.0 } else { -y / p };
    }
    sum
}

fn cosine(outputs: &[f64], targets: &[f64], slopes: &mut [f64]) -> f64 {
    const SQUARES_MIN: f64 = 1e-12;
    let squares = |vector: &[f64]| vector.iter().map(|v| v * v).sum::<f64>();
    let length = squares(outputs).max(SQUARES_MIN).sqrt();
    let wanted = squares(targets).max(SQUARES_MIN).sqrt();
    let product: f64 = outputs.iter().zip(targets).map(|(p, y)| p * y).sum();
    let cosine = product / (length * wanted);
    // A vector too short to be normalised keeps its length.
    let turn = if squares(outputs) > SQUARES_MIN { cosine } else { 0.0 };
    for ((p, y), slope) in outputs.iter().zip(targets).zip(slopes) {
        *slope = -(y / wanted - turn * p / length) / length;
    }
    -cosine
}

/// The slope of several largest wrong outputs is shared among them.
fn categorical_hinge(outputs: &[f64], targets: &[f64], slopes: &mut [f64]) -> f64 {
    let right: f64 = outputs.iter().zip(targets).map(|(p, y)| p * y).sum();
    let wrong = |(p, y): (&f64, &f64)| (1.0 - y) * p;
    let pairs = || outputs.iter().zip(targets);
    let largest = pairs().map(wrong).fold(f64::NEG_INFINITY, f64::max);
    let gap = largest - right + 1.0;
    if gap <= 0.0 {
        slopes.fill(0.0);
        return 0.0;
    }
    #[expect(clippy::float_cmp, reason = "the largest of these very numbers")]
    let is_largest = |pair| wrong(pair) == largest;
    let ties = pairs().filter(|pair| is_largest(*pair)).map(|_| 1.0).sum::<f64>();
    for (pair, slope) in pairs().zip(slopes) {
        let share = if is_largest(pair) { (1.0 - pair.1) / ties } else { 0.0 };
        *slope = share - pair.1;
    }
    gap
}

/// How far an output is from the right side of the margin, and its target as −1 or 1.
fn hinge(p: f64, y: f64) -> (f64, f64) {
    let y = if y == 0.0 { -1.0 } else { y };
    ((1.0 - y * p).max(0.0), y)
}

#[cfg(test)]
mod tests {
    use arrowhop_types::Crossentropy;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// A number in `low..high`.
    fn draw(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
        low + (high - low) * f64::from(rng.next_u32()) / 4_294_967_296.0
    }

    fn every_loss() -> Vec<Loss> {
        let logits = Crossentropy { from_logits: true, label_smoothing: 0.2 };
        let smoothed = Crossentropy { from_logits: false, label_smoothing: 0.2 };
        let more = [
            Loss::CategoricalCrossentropy(logits),
            Loss::CategoricalCrossentropy(smoothed),
            Loss::SparseCategoricalCrossentropy { from_logits: true },
            Loss::BinaryCrossentropy(logits),
            Loss::BinaryCrossentropy(smoothed),
            Loss::Huber { delta: 0.2 },
        ];
        Loss::names().map(|name| name.parse().unwrap()).chain(more).collect()
    }

    #[test]
    fn every_slope_is_that_of_its_loss() {
        const STEP: f64 = 1e-6;
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for of in every_loss() {
            for case in 0..200 {
                let outputs: Vec<f64> = (0..4).map(|_| draw(&mut rng, 0.05, 0.95)).collect();
                let targets: Vec<f64> = match case % 3 {
                    0 => vec![0.0, 1.0, 0.0, 0.0],
                    1 => vec![1.0, 0.0, 0.0, 1.0],
                    _ => (0..4).map(|_| draw(&mut rng, 0.1, 1.0)).collect(),
                };
                let mut slopes = vec![0.0; 4];
                let value = loss(of, &outputs, &targets, &mut slopes);
                for (i, slope) in slopes.iter().enumerate() {
                    let at = |offset: f64| {
                        let mut moved = outputs.clone();
                        moved[i] += offset;
                        loss(of, &moved, &targets, &mut [0.0; 4])
                    };
                    let expected = (at(STEP) - at(-STEP)) / (2.0 * STEP);
                    // The second is what rounding the losses does to their difference.
                    let near = 1e-6 * expected.abs().max(1.0) + 1e-9 * value.abs();
                    assert!(
                        (slope - expected).abs() < near,
                        "{of} at {outputs:?} of {targets:?}: {slope}, not {expected}"
                    );
                }
            }
        }
    }

    fn value(of: &str, outputs: &[f64], targets: &[f64]) -> f64 {
        loss(of.parse().unwrap(), outputs, targets, &mut vec![0.0; outputs.len()])
    }

    /// Each by hand.
    #[test]
    fn known_losses_are_those_by_hand() {
        let table = [
            ("categorical_crossentropy", [1.0, 3.0], [1.0, 0.0], 4_f64.ln()),
            ("categorical_crossentropy", [0.0, 1.0], [1.0, 0.0], -1e-7_f64.ln()),
            ("binary_crossentropy", [0.0, 0.5], [1.0, 0.0], -(2e-7_f64.ln() + 0.5_f64.ln()) / 2.0),
            ("mean_squared_error", [1.0, 3.0], [0.0, 1.0], 2.5),
            ("mean_absolute_error", [1.0, 3.0], [0.0, 1.0], 1.5),
            ("mean_absolute_percentage_error", [1.0, 3.0], [2.0, -1.0], 225.0),
            ("kullback_leibler_divergence", [0.25, 0.5], [0.5, 0.5], 0.5 * 2_f64.ln()),
            ("cosine_similarity", [3.0, 4.0], [4.0, 3.0], -0.96),
            ("cosine_similarity", [0.0, 0.0], [4.0, 3.0], 0.0),
            ("categorical_hinge", [0.25, 1.5], [1.0, 0.0], 2.25),
            ("hinge", [0.5, -3.0], [0.0, -1.0], 0.75),
            ("squared_hinge", [0.5, -3.0], [0.0, -1.0], 1.125),
            ("huber(delta=0.5)", [0.25, 2.0], [0.0, 0.0], (0.03125 + 0.875) / 2.0),
            ("logcosh", [1.0, -1.0], [0.0, 0.0], 1_f64.cosh().ln()),
        ];
        for (of, outputs, targets, expected) in table {
            let found = value(of, &outputs, &targets);
            assert!((found - expected).abs() < 1e-6, "{of}: {found}, not {expected}");
        }
    }

    #[test]
    fn what_is_cut_has_no_slope() {
        let mut slopes = [9.0; 2];
        for of in ["categorical_crossentropy", "binary_crossentropy", "kld"] {
            loss(of.parse().unwrap(), &[0.0, 1.0], &[1.0, 0.0], &mut slopes);
            let is_flat = slopes[0] == 0.0 && (of == "kld" || slopes[1] == 0.0);
            assert!(is_flat, "{of}: {slopes:?}");
        }
    }

    #[test]
    fn logits_of_any_size_have_a_finite_loss() {
        let mut slopes = [0.0; 2];
        let logits = |of: &str| format!("{of}(from_logits=true)").parse().unwrap();
        let of = logits("categorical_crossentropy");
        assert_eq!(loss(of, &[1000.0, -1000.0], &[0.0, 1.0], &mut slopes), 2000.0);
        assert_eq!(slopes, [1.0, -1.0]);
        let of = logits("binary_crossentropy");
        assert_eq!(loss(of, &[1000.0, -1000.0], &[0.0, 1.0], &mut slopes), 1000.0);
        assert_eq!(slopes, [0.5, -0.5]);
    }

    #[test]
    fn largest_wrong_outputs_share_their_slope() {
        let mut slopes = [0.0; 3];
        loss(Loss::CategoricalHinge, &[0.5, 0.5, 0.0], &[0.0, 0.0, 1.0], &mut slopes);
        assert_eq!(slopes, [0.5, 0.5, -1.0]);
    }
}
