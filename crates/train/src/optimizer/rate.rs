//! What a learning rate is at a step. Formulas: `keras.optimizers.schedules`, with the steps
//! counted from 0; in double precision.

use std::f64::consts::PI;

use arrowhop_types::optimizer::LearningRate;

/// The rate of the step after so many others.
#[expect(clippy::cast_precision_loss, reason = "steps stay below 2^52")]
pub(crate) fn rate(learning_rate: &LearningRate, steps_done: u64) -> f64 {
    let steps = steps_done as f64;
    match learning_rate {
        LearningRate::Constant(rate) => *rate,
        LearningRate::Decaying { initial, decay } => initial / (1.0 + decay * steps),
        LearningRate::ExponentialDecay {
            initial_learning_rate,
            decay_steps,
            decay_rate,
            staircase,
        } => initial_learning_rate * decay_rate.powf(turns(steps, *decay_steps, *staircase)),
        LearningRate::PiecewiseConstantDecay { boundaries, values } => {
            values[boundaries.partition_point(|boundary| *boundary < steps)]
        }
        LearningRate::PolynomialDecay {
            initial_learning_rate,
            decay_steps,
            end_learning_rate,
            power,
            cycle,
        } => {
            let cycles = if *cycle { (steps / decay_steps).ceil().max(1.0) } else { 1.0 };
            let share = (steps / (decay_steps * cycles)).min(1.0);
            (initial_learning_rate - end_learning_rate) * (1.0 - share).powf(*power)
                + end_learning_rate
        }
        LearningRate::InverseTimeDecay {
            initial_learning_rate,
            decay_steps,
            decay_rate,
            staircase,
        } => initial_learning_rate / (1.0 + decay_rate * turns(steps, *decay_steps, *staircase)),
        LearningRate::CosineDecay {
            initial_learning_rate,
            decay_steps,
            alpha,
            warmup_target,
            warmup_steps,
        } => {
            let (peak, warmup) = match warmup_target {
                Some(target) => (*target, *warmup_steps),
                None => (*initial_learning_rate, 0.0),
            };
            if steps < warmup {
                initial_learning_rate + (peak - initial_learning_rate) * steps / warmup
            } else {
                let share = ((steps - warmup) / decay_steps).min(1.0);
                peak * ((1.0 - alpha) * wave(share) + alpha)
            }
        }
        LearningRate::CosineDecayRestarts {
            initial_learning_rate,
            first_decay_steps,
            t_mul,
            m_mul,
            alpha,
        } => {
            let (restarts, share) = restarts(steps / first_decay_steps, *t_mul);
            let wave = m_mul.powf(restarts) * wave(share);
            initial_learning_rate * ((1.0 - alpha) * wave + alpha)
        }
    }
}

/// How often the decay took place.
fn turns(steps: f64, decay_steps: f64, staircase: bool) -> f64 {
    let turns = steps / decay_steps;
    if staircase { turns.floor() } else { turns }
}

/// Half a cosine wave, from 1 down to 0.
fn wave(share: f64) -> f64 {
    0.5 * (1.0 + (PI * share).cos())
}

/// How many waves are over, and the share of the one going on, with the time in first waves.
fn restarts(time: f64, t_mul: f64) -> (f64, f64) {
    if t_mul <= 1.0 {
        return (time.floor(), time.fract());
    }
    let (mut over, mut rest, mut length) = (0.0, time, 1.0);
    while rest >= length {
        rest -= length;
        length *= t_mul;
        over += 1.0;
    }
    (over, rest / length)
}
