//! The methods whose steps depend on sums over a whole array: LAMB and Adafactor. They pass over
//! the array several times rather than keep what they can work out again.

use arrowhop_types::optimizer::{Adafactor, Lamb};

use super::elementwise::Moments;
use super::number::Number;
use super::pass::{Pass, square_sum};
use super::{Array, Step, rest_of_power, single};

/// LAMB's numbers at a step. The step is as long as the array's norm, times the rate.
pub(super) struct LambStep {
    pub(super) moments: Moments,
    /// The corrections of both moments.
    pub(super) first: f32,
    pub(super) second: f32,
    pub(super) epsilon: f32,
    pub(super) rate: f64,
}

impl LambStep {
    pub(super) fn new(lamb: &Lamb, step: Step) -> Self {
        Self {
            moments: Moments::new(lamb.beta_1, lamb.beta_2, step.semantics),
            first: single(1.0 / rest_of_power(lamb.beta_1, step.number)),
            second: single((1.0 / rest_of_power(lamb.beta_2, step.number)).sqrt()),
            epsilon: single(lamb.epsilon),
            rate: step.rate,
        }
    }

    pub(super) fn direction<N: Number>(&self, m: N, v: N) -> N {
        m * self.first / (v.sqrt() * self.second + self.epsilon)
    }
}

pub(super) fn lamb(lamb: &LambStep, pass: Pass, array: Array<'_>) {
    let Array { weights, gradient, slots, .. } = array;
    pass.each(weights, gradient, slots, &lamb.moments);
    let [m, v] = slots else { unreachable!("LAMB keeps two slots") };
    let updates = || m.iter().zip(v.iter()).map(|(&m, &v)| lamb.direction(m, v));
    let length: f64 = updates().map(|u| f64::from(u) * f64::from(u)).sum();
    let (weight_norm, update_norm) = (square_sum(weights).sqrt(), length.sqrt());
    let has_ratio = weight_norm > 0.0 && update_norm > 0.0;
    let ratio = if has_ratio { weight_norm / update_norm } else { 1.0 };
    let rate = single(ratio * lamb.rate);
    for (w, u) in weights.iter_mut().zip(updates()) {
        *w -= rate * u;
    }
}

/// Adafactor's numbers at a step.
pub(super) struct AdafactorStep {
    /// At most 1/√t.
    pub(super) rate: f64,
    /// tᵈ: what is new in the moments.
    pub(super) rest: f64,
    pub(super) epsilon_1: f32,
    pub(super) epsilon_2: f64,
    pub(super) clip_threshold: f64,
}

impl AdafactorStep {
    #[expect(clippy::cast_precision_loss, reason = "steps stay below 2^52")]
    pub(super) fn new(adafactor: &Adafactor, step: Step) -> Self {
        let number = step.number as f64;
        Self {
            rate: step.rate.min(1.0 / number.sqrt()),
            rest: number.powf(adafactor.beta_2_decay),
            epsilon_1: single(adafactor.epsilon_1),
            epsilon_2: adafactor.epsilon_2,
            clip_threshold: adafactor.clip_threshold,
        }
    }
}

/// An array of two or more dimensions keeps its second moments as sums over the rows and over the
/// columns of its last two; any other keeps each one.
#[expect(clippy::cast_precision_loss, reason = "an array has fewer than 2^52 elements")]
pub(super) fn adafactor(step: &AdafactorStep, pass: Pass, array: Array<'_>) {
    let Array { shape, weights, gradient, slots } = array;
    for w in weights.iter_mut() {
        *w = pass.weight(*w);
    }
    let squared = |g: f32| {
        let g = pass.gradient(g);
        g * g + step.epsilon_1
    };
    let second = match (shape, &mut *slots) {
        ([.., rows, columns], [by_row, by_column]) => {
            follow_rows(by_row, gradient, *columns, step.rest, squared);
            follow_columns(by_column, gradient, *rows, *columns, step.rest, squared);
            Second::Factored { by_row, by_column, rows: *rows, columns: *columns }
        }
        (_, [each]) => {
            let (kept, rest) = (single(1.0 - step.rest), single(step.rest));
            for (v, &g) in each.iter_mut().zip(gradient) {
                *v = kept * *v + rest * squared(g);
            }
            Second::Each(each)
        }
        _ => unreachable!("Adafactor keeps one slot, or one for rows and one for columns"),
    };
    let mean = |sum: f64| (sum / weights.len() as f64).sqrt();
    let mut sum = 0.0;
    second.each(|i, v| sum += f64::from(pass.gradient(gradient[i])).powi(2) / f64::from(v));
    let size = mean(square_sum(weights)).max(step.epsilon_2);
    let rate = single(step.rate * size / (mean(sum) / step.clip_threshold).max(1.0));
    second.each(|i, v| weights[i] -= rate * (pass.gradient(gradient[i]) / v.sqrt()));
}

/// The second moments that Adafactor takes an array to have.
enum Second<'a> {
    Each(&'a [f32]),
    /// At each place of the outer dimensions, the product of a row's share and a column's mean.
    Factored {
        by_row: &'a [f32],
        by_column: &'a [f32],
        rows: usize,
        columns: usize,
    },
}

impl Second<'_> {
    /// Calls `visit(i, v)` for the array's elements in order.
    fn each(&self, mut visit: impl FnMut(usize, f32)) {
        match self {
            Self::Each(each) => each.iter().enumerate().for_each(|(i, &v)| visit(i, v)),
            Self::Factored { by_row, by_column, rows, columns } => {
                let matrices = by_row.chunks_exact(*rows).zip(by_column.chunks_exact(*columns));
                let mut i = 0;
                for (by_row, by_column) in matrices {
                    let mean = single(average(by_row.iter().copied()));
                    for row in by_row {
                        for column in by_column {
                            visit(i, row / mean * column);
                            i += 1;
                        }
                    }
                }
            }
        }
    }
}

/// Moves each row's mean towards that of `squared` over its gradients.
fn follow_rows(
    by_row: &mut [f32],
    gradient: &[f32],
    columns: usize,
    rest: f64,
    squared: impl Fn(f32) -> f32,
) {
    for (r, row) in by_row.iter_mut().zip(gradient.chunks_exact(columns)) {
        let mean = average(row.iter().map(|&g| squared(g)));
        *r = single((1.0 - rest) * f64::from(*r) + rest * mean);
    }
}

/// Moves each column's mean towards that of `squared` over its gradients.
#[expect(clippy::cast_precision_loss, reason = "a dimension is below 2^52")]
fn follow_columns(
    by_column: &mut [f32],
    gradient: &[f32],
    rows: usize,
    columns: usize,
    rest: f64,
    squared: impl Fn(f32) -> f32,
) {
    let (kept, each) = (single(1.0 - rest), single(rest / rows as f64));
    let matrices = gradient.chunks_exact(rows * columns);
    for (by_column, matrix) in by_column.chunks_exact_mut(columns).zip(matrices) {
        for c in by_column.iter_mut() {
            *c *= kept;
        }
        for row in matrix.chunks_exact(columns) {
            for (c, &g) in by_column.iter_mut().zip(row) {
                *c += each * squared(g);
            }
        }
    }
}

/// The mean, in double precision.
#[expect(clippy::cast_precision_loss, reason = "a dimension is below 2^52")]
fn average(values: impl ExactSizeIterator<Item = f32>) -> f64 {
    let count = values.len() as f64;
    values.map(f64::from).sum::<f64>() / count
}
