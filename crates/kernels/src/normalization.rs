//! Normalisation of channels over rows, channels last: the batch's moments, and both directions.
//!
//! Source: S. Ioffe, C. Szegedy, *Batch Normalization*, ICML 2015, algorithm 1 and the gradients of
//! section 3. Rows are summed up in single precision, blocks of rows in double.

use crate::isa::{Isa, Job};
use crate::lanes::Lanes;

/// Rows that are summed up in single precision.
const BLOCK: usize = 128;

/// What normalises a batch: of each channel its mean and 1 / deviation.
#[derive(Debug, Clone, Copy)]
pub struct Moments<'a> {
    /// Is subtracted.
    pub mean: &'a [f32],
    /// Then multiplies.
    pub scale: &'a [f32],
}

/// The mean and the population variance of each channel over the rows of `x` (rows, channels).
///
/// # Panics
/// When the sizes do not go together, or the CPU lacks the instructions.
pub fn moments(isa: Isa, x: &[f32], mean: &mut [f32], variance: &mut [f32]) {
    assert_eq!(mean.len(), variance.len(), "as many means as variances");
    assert!(x.len().is_multiple_of(mean.len().max(1)), "whole rows");
    isa.run(Sums { x, y: x, channels: mean.len(), term: |x, _, _| x, sums: mean });
    let rows = rows_of(x, mean.len());
    mean.iter_mut().for_each(|sum| *sum /= rows);
    let mean = &*mean;
    let term = |x: f32, _: f32, channel: usize| (x - mean[channel]) * (x - mean[channel]);
    isa.run(Sums { x, y: x, channels: mean.len(), term, sums: variance });
    variance.iter_mut().for_each(|sum| *sum /= rows);
}

/// `result` = (x − mean) · scale · gamma + beta, channel by channel.
///
/// # Panics
/// As [`moments`].
pub fn normalize(
    isa: Isa,
    x: &[f32],
    moments: Moments<'_>,
    gamma: &[f32],
    beta: &[f32],
    result: &mut [f32],
) {
    let channels = moments.mean.len();
    for (what, count) in
        [("scales", moments.scale.len()), ("gammas", gamma.len()), ("betas", beta.len())]
    {
        assert_eq!(count, channels, "as many {what} as means");
    }
    assert_eq!(x.len(), result.len(), "as many results");
    assert!(x.len().is_multiple_of(channels.max(1)), "whole rows");
    isa.run(Normalize { x, moments, gamma, beta, result });
}

/// Gradients through [`normalize`] and the batch's own moments: `of_x`, and the sums `of_gamma` and
/// `of_beta`.
///
/// # Panics
/// As [`moments`].
pub fn normalize_gradient(
    isa: Isa,
    x: &[f32],
    of_result: &[f32],
    moments: Moments<'_>,
    gamma: &[f32],
    of_x: &mut [f32],
    [of_gamma, of_beta]: [&mut [f32]; 2],
) {
    let channels = moments.mean.len();
    for (what, count) in [
        ("scales", moments.scale.len()),
        ("gammas", gamma.len()),
        ("gradients by gammas", of_gamma.len()),
        ("gradients by betas", of_beta.len()),
    ] {
        assert_eq!(count, channels, "as many {what} as means");
    }
    assert!(x.len() == of_result.len() && x.len() == of_x.len(), "as many gradients as numbers");
    assert!(x.len().is_multiple_of(channels.max(1)), "whole rows");
    let Moments { mean, scale } = moments;
    let term = |_: f32, slope: f32, _: usize| slope;
    isa.run(Sums { x, y: of_result, channels, term, sums: &mut *of_beta });
    let term = |x: f32, slope: f32, c: usize| slope * ((x - mean[c]) * scale[c]);
    isa.run(Sums { x, y: of_result, channels, term, sums: &mut *of_gamma });
    let (of_gamma, of_beta) = (&*of_gamma, &*of_beta);
    isa.run(Spread { x, of_result, moments, gamma, of_gamma, of_beta, of_x });
}

#[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^24 rows a channel")]
fn rows_of(x: &[f32], channels: usize) -> f32 {
    (x.len() / channels.max(1)) as f32
}

/// The sum over rows of a term of x, y and the channel, for each channel.
struct Sums<'a, T> {
    x: &'a [f32],
    y: &'a [f32],
    channels: usize,
    term: T,
    sums: &'a mut [f32],
}

impl<T: Fn(f32, f32, usize) -> f32> Job for Sums<'_, T> {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "sums are kept in single precision")]
    unsafe fn run<L: Lanes>(self) {
        let Self { x, y, channels, term, sums } = self;
        let mut totals = vec![0.0_f64; channels];
        let mut block = vec![0.0_f32; channels];
        let blocks = x.chunks(BLOCK * channels.max(1)).zip(y.chunks(BLOCK * channels.max(1)));
        for (x, y) in blocks {
            block.fill(0.0);
            for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact(channels)) {
                for (c, ((sum, x), y)) in block.iter_mut().zip(x).zip(y).enumerate() {
                    *sum += term(*x, *y, c);
                }
            }
            totals.iter_mut().zip(&block).for_each(|(total, sum)| *total += f64::from(*sum));
        }
        sums.iter_mut().zip(totals).for_each(|(sum, total)| *sum = total as f32);
    }
}

struct Normalize<'a> {
    x: &'a [f32],
    moments: Moments<'a>,
    gamma: &'a [f32],
    beta: &'a [f32],
    result: &'a mut [f32],
}

impl Job for Normalize<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { x, moments: Moments { mean, scale }, gamma, beta, result } = self;
        let channels = mean.len();
        let scales: Vec<f32> =
            scale.iter().zip(gamma).map(|(scale, gamma)| scale * gamma).collect();
        for (x, y) in x.chunks_exact(channels).zip(result.chunks_exact_mut(channels)) {
            let constants = mean.iter().zip(&scales).zip(beta);
            for ((x, y), ((mean, scale), beta)) in x.iter().zip(y).zip(constants) {
                *y = (x - mean) * scale + beta;
            }
        }
    }
}

/// scale · gamma · (slope − (Σ slope + x̂ · Σ slope · x̂) / rows).
struct Spread<'a> {
    x: &'a [f32],
    of_result: &'a [f32],
    moments: Moments<'a>,
    gamma: &'a [f32],
    of_gamma: &'a [f32],
    of_beta: &'a [f32],
    of_x: &'a mut [f32],
}

impl Job for Spread<'_> {
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { x, of_result, moments: Moments { mean, scale }, gamma, of_gamma, of_beta, of_x } =
            self;
        let channels = mean.len();
        let rows = rows_of(x, channels);
        // Of each channel a · slope + b · x + c.
        let mut lines = vec![[0.0_f32; 3]; channels];
        for (c, line) in lines.iter_mut().enumerate() {
            let outer = scale[c] * gamma[c];
            let slope_of_x = -outer * scale[c] * of_gamma[c] / rows;
            *line = [outer, slope_of_x, -outer * of_beta[c] / rows - slope_of_x * mean[c]];
        }
        let [a, b, c]: [Vec<f32>; 3] =
            [0, 1, 2].map(|i| lines.iter().map(|line| line[i]).collect());
        let rows = x.chunks_exact(channels).zip(of_result.chunks_exact(channels));
        for ((x, slopes), of_x) in rows.zip(of_x.chunks_exact_mut(channels)) {
            let lines = a.iter().zip(&b).zip(&c);
            for (((x, slope), of_x), ((a, b), c)) in x.iter().zip(slopes).zip(of_x).zip(lines) {
                *of_x = a * slope + (b * x + c);
            }
        }
    }
}
