//! Initial weights: Keras's initialisers, drawn from a ChaCha stream. The distributions are
//! Keras's; the draws are ours, since no two engines share seeds.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Standard deviation of a standard normal cut at ±2.
const CUT_NORMAL_DEVIATION: f64 = 0.879_625_661_034_239_8;

/// What a scaled initialiser divides its variance by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fan {
    In,
    Out,
    Average,
}

/// The shape of a random distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Distribution {
    Uniform,
    /// Cut at two standard deviations, and widened to keep its variance.
    TruncatedNormal,
    UntruncatedNormal,
}

/// How a weight array is filled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Initializer {
    Constant(f64),
    Uniform {
        low: f64,
        high: f64,
    },
    Normal {
        mean: f64,
        deviation: f64,
    },
    TruncatedNormal {
        mean: f64,
        deviation: f64,
    },
    Scaled {
        scale: f64,
        fan: Fan,
        distribution: Distribution,
    },
    Orthogonal {
        gain: f64,
    },
    Identity {
        gain: f64,
    },
    /// An LSTM's biases: ones in the second of four parts, the forget gate's, the rest as said.
    OpenForgetGate(Box<Initializer>),
}

impl Initializer {
    /// Fills an array of this shape.
    pub(crate) fn draw(&self, shape: &[usize], rng: &mut ChaCha8Rng) -> Vec<f32> {
        let count = shape.iter().product();
        match *self {
            Self::Constant(value) => vec![single(value); count],
            Self::Uniform { low, high } => uniform(low, high, count, rng),
            Self::Normal { mean, deviation } => normal(mean, deviation, f64::INFINITY, count, rng),
            Self::TruncatedNormal { mean, deviation } => normal(mean, deviation, 2.0, count, rng),
            Self::Scaled { scale, fan, distribution } => {
                let variance = scale / fan_of(shape, fan).max(1.0);
                match distribution {
                    Distribution::Uniform => {
                        let limit = (3.0 * variance).sqrt();
                        uniform(-limit, limit, count, rng)
                    }
                    Distribution::TruncatedNormal => {
                        normal(0.0, variance.sqrt() / CUT_NORMAL_DEVIATION, 2.0, count, rng)
                    }
                    Distribution::UntruncatedNormal => {
                        normal(0.0, variance.sqrt(), f64::INFINITY, count, rng)
                    }
                }
            }
            Self::Orthogonal { gain } => orthogonal(shape, gain, rng),
            Self::Identity { gain } => identity(shape, gain),
            Self::OpenForgetGate(ref rest) => open_forget_gate(rest, count, rng),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "weights are single precision")]
fn single(value: f64) -> f32 {
    value as f32
}

/// Inputs or outputs per unit. Source: Keras's `compute_fans`; kernels are (…, in, out).
#[expect(clippy::cast_precision_loss, reason = "shapes stay below 2^31 elements")]
fn fan_of(shape: &[usize], fan: Fan) -> f64 {
    let (inputs, outputs) = match shape {
        [] => (1, 1),
        [length] => (*length, *length),
        [field @ .., inputs, outputs] => {
            let field: usize = field.iter().product();
            (field * inputs, field * outputs)
        }
    };
    match fan {
        Fan::In => inputs as f64,
        Fan::Out => outputs as f64,
        Fan::Average => (inputs + outputs) as f64 / 2.0,
    }
}

/// A draw in [0, 1) with 32 bits.
fn fraction(rng: &mut ChaCha8Rng) -> f64 {
    f64::from(rng.next_u32()) / 4_294_967_296.0
}

fn uniform(low: f64, high: f64, count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| single(low + (high - low) * fraction(rng))).collect()
}

/// Normal draws no further than `cut` deviations from the mean.
pub(crate) fn normal(
    mean: f64,
    deviation: f64,
    cut: f64,
    count: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<f32> {
    let mut draws = Vec::with_capacity(count);
    while draws.len() < count {
        for z in standard_normals(rng) {
            if z.abs() <= cut && draws.len() < count {
                draws.push(single(mean + deviation * z));
            }
        }
    }
    draws
}

/// Two independent standard normals. Source: G. Box and M. Muller, *A Note on the Generation of
/// Random Normal Deviates*, 1958.
fn standard_normals(rng: &mut ChaCha8Rng) -> [f64; 2] {
    let radius = (-2.0 * (1.0 - fraction(rng)).ln()).sqrt();
    let (sine, cosine) = (std::f64::consts::TAU * fraction(rng)).sin_cos();
    [radius * cosine, radius * sine]
}

/// The Q of a normal matrix whose R has a positive diagonal; all axes but the last are rows.
///
/// Gram–Schmidt gives just that Q. Each vector is orthogonalised twice ("twice is enough":
/// L. Giraud, J. Langou, M. Rozložník, 2005), in double precision.
fn orthogonal(shape: &[usize], gain: f64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let columns = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().product::<usize>() / columns;
    let (long, short) = (rows.max(columns), rows.min(columns));
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(short);
    for _ in 0..short {
        let mut vector: Vec<f64> =
            (0..long.div_ceil(2)).flat_map(|_| standard_normals(rng)).take(long).collect();
        for _ in 0..2 {
            for other in &basis {
                let overlap: f64 = vector.iter().zip(other).map(|(a, b)| a * b).sum();
                vector.iter_mut().zip(other).for_each(|(a, b)| *a -= overlap * b);
            }
        }
        let length = vector.iter().map(|a| a * a).sum::<f64>().sqrt();
        vector.iter_mut().for_each(|a| *a /= length);
        basis.push(vector);
    }
    let entry = |row: usize, column: usize| {
        if rows >= columns { basis[column][row] } else { basis[row][column] }
    };
    (0..rows * columns).map(|i| single(gain * entry(i / columns, i % columns))).collect()
}

fn identity(shape: &[usize], gain: f64) -> Vec<f32> {
    let columns = shape.last().copied().unwrap_or(1);
    let count: usize = shape.iter().product();
    (0..count).map(|i| if i / columns == i % columns { single(gain) } else { 0.0 }).collect()
}

/// Each part but the forget gate's is drawn by itself, as in Keras, since fans depend on lengths.
fn open_forget_gate(rest: &Initializer, count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let units = count / 4;
    let mut values = rest.draw(&[units], rng);
    values.resize(2 * units, 1.0);
    values.extend(rest.draw(&[count - 2 * units], rng));
    values
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::SeedableRng;

    fn draw(initializer: &Initializer, shape: &[usize]) -> Vec<f32> {
        initializer.draw(shape, &mut ChaCha8Rng::seed_from_u64(7))
    }

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = f64::from(u32::try_from(values.len()).unwrap());
        let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
        let variance = values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n;
        (mean, variance)
    }

    #[test]
    fn scaled_initialisers_have_the_variance_of_their_fan() {
        let shape = [3, 3, 20, 40];
        for distribution in
            [Distribution::Uniform, Distribution::TruncatedNormal, Distribution::UntruncatedNormal]
        {
            for (fan, units) in [(Fan::In, 180.0), (Fan::Out, 360.0), (Fan::Average, 270.0)] {
                let values = draw(&Initializer::Scaled { scale: 2.0, fan, distribution }, &shape);
                let (mean, variance) = moments(&values);
                assert!(mean.abs() < 0.004, "{distribution:?} {fan:?}: mean {mean}");
                let ratio = variance / (2.0 / units);
                assert!((ratio - 1.0).abs() < 0.05, "{distribution:?} {fan:?}: ratio {ratio}");
            }
        }
    }

    #[test]
    fn truncated_normals_stay_within_two_deviations() {
        let values = draw(&Initializer::TruncatedNormal { mean: 1.0, deviation: 0.5 }, &[5_000]);
        assert!(values.iter().all(|v| (0.0..=2.0).contains(v)));
        assert!((moments(&values).0 - 1.0).abs() < 0.02);
        let uncut = draw(&Initializer::Normal { mean: 0.0, deviation: 0.5 }, &[5_000]);
        assert!(uncut.iter().any(|v| v.abs() > 1.0));
    }

    #[test]
    fn orthogonal_rows_or_columns_are_orthonormal() {
        for shape in [[6, 4], [4, 6]] {
            let values = draw(&Initializer::Orthogonal { gain: 2.0 }, &shape);
            let [rows, columns] = shape;
            let vector = |i: usize| -> Vec<f32> {
                if rows >= columns {
                    (0..rows).map(|r| values[r * columns + i]).collect()
                } else {
                    values[i * columns..(i + 1) * columns].to_vec()
                }
            };
            for i in 0..4 {
                for j in 0..4 {
                    let dot: f32 = vector(i).iter().zip(vector(j)).map(|(a, b)| a * b).sum();
                    let expected = if i == j { 4.0 } else { 0.0 };
                    assert!((dot - expected).abs() < 1e-5, "{shape:?} {i}·{j} = {dot}");
                }
            }
        }
    }

    #[test]
    fn an_lstm_forgets_nothing_at_first() {
        let zeros = Box::new(Initializer::Constant(0.0));
        let biases = draw(&Initializer::OpenForgetGate(zeros), &[8]);
        assert_eq!(biases, [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn identity_is_one_on_the_diagonal() {
        assert_eq!(
            draw(&Initializer::Identity { gain: 3.0 }, &[2, 3]),
            [3.0, 0.0, 0.0, 0.0, 3.0, 0.0]
        );
    }
}
