//! How long visits are expected to take: a model's pace times a shard's weight, both learned from
//! the visits measured so far, or a matrix known from the start.

use std::{collections::BTreeMap, time::Duration};

use arrowhop_types::{ModelId, ShardId, VisitKind};

use crate::layout::Layout;

/// No single estimate exceeds this many microseconds (over a year), so that sums cannot overflow.
const VISIT_MAX: f64 = (1_u64 << 45) as f64;
/// A shard's weight stays above this, so that a visit too short to measure cannot divide by zero.
const WEIGHT_MIN: f64 = 0.001;

/// Expected durations of visits.
#[derive(Debug, Clone)]
pub struct Estimates(Source);

#[derive(Debug, Clone)]
enum Source {
    /// Training visits' durations in microseconds, by model and shard.
    Known(BTreeMap<ModelId, Vec<f64>>),
    Learned(Learned),
}

/// A model's training visit to shard s is expected to take `pace · weights[s]`.
#[derive(Debug, Clone)]
struct Learned {
    models: BTreeMap<ModelId, Pace>,
    weights: Vec<f64>,
    weight_means: Vec<Mean>,
    evaluation: Mean,
    /// First measurements and the guesses made for the same models: their ratio scales the guesses
    /// for the models that have not run yet.
    first_measured: f64,
    first_guessed: f64,
}

/// One model's microseconds per visit to a shard of weight 1.
#[derive(Debug, Clone, Default)]
struct Pace {
    guess: Option<f64>,
    measured: Mean,
    first: f64,
}

/// A running mean.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mean {
    sum: f64,
    count: f64,
}

/// The estimates for one model.
pub(crate) struct ModelEstimates<'a> {
    pace: f64,
    weights: &'a [f64],
    evaluation: f64,
}

impl Estimates {
    /// An evaluation visit's share of a training visit's time, until measured: the forward pass is
    /// about a third of the work.
    pub const EVALUATION_SHARE: f64 = 0.3;

    /// Nothing is known but the entrants' own guesses; measured visits teach the rest.
    #[must_use]
    pub fn learned(layout: &Layout) -> Self {
        let shards = layout.shards.len();
        Self(Source::Learned(Learned {
            models: BTreeMap::new(),
            weights: vec![1.0; shards],
            weight_means: vec![Mean { sum: 1.0, count: 1.0 }; shards],
            evaluation: Mean::default(),
            first_measured: 0.0,
            first_guessed: 0.0,
        }))
    }

    /// The duration of each model's training visit to each shard is known beforehand, and
    /// measurements change nothing. Evaluation visits take 0.3 of it.
    ///
    /// # Panics
    /// A schedule with these estimates panics on a model that is not among them.
    #[must_use]
    pub fn known(times: impl IntoIterator<Item = (ModelId, Vec<Duration>)>) -> Self {
        let row = |times: Vec<Duration>| times.into_iter().map(micros).collect();
        Self(Source::Known(times.into_iter().map(|(model, times)| (model, row(times))).collect()))
    }

    /// Learns from a measured visit. A schedule does so by itself; call this for the visits in the
    /// hop log of a run that is resumed.
    ///
    /// # Panics
    /// When the layout has no such shard.
    pub fn record(&mut self, model: ModelId, shard: ShardId, kind: VisitKind, took: Duration) {
        let Source::Learned(learned) = &mut self.0 else {
            return;
        };
        match kind {
            VisitKind::Train => learned.record_training(model, shard.0 as usize, micros(took)),
            VisitKind::Evaluate => learned.record_evaluation(model, shard.0 as usize, micros(took)),
        }
    }

    /// Takes in the guess made for a model.
    pub(crate) fn expect(&mut self, model: ModelId, guess: Duration) {
        let Source::Learned(learned) = &mut self.0 else {
            return;
        };
        let pace = learned.models.entry(model).or_default();
        if pace.guess.is_none() && pace.measured.count > 0.0 {
            learned.first_measured += pace.first;
            learned.first_guessed += micros(guess);
        }
        pace.guess.get_or_insert(micros(guess));
    }

    /// By how much guesses are scaled: their unit is arbitrary until a visit is measured.
    pub(crate) fn calibration(&self) -> f64 {
        match &self.0 {
            Source::Known(_) => 1.0,
            Source::Learned(learned) => learned.calibration(),
        }
    }

    /// The estimates for one model.
    pub(crate) fn of(&self, model: ModelId) -> ModelEstimates<'_> {
        match &self.0 {
            Source::Known(times) => ModelEstimates {
                pace: 1.0,
                weights: times.get(&model).expect("known estimates cover every model"),
                evaluation: Self::EVALUATION_SHARE,
            },
            Source::Learned(learned) => ModelEstimates {
                pace: learned.pace(model),
                weights: &learned.weights,
                evaluation: learned.evaluation.value().unwrap_or(Self::EVALUATION_SHARE),
            },
        }
    }
}

impl Learned {
    fn record_training(&mut self, model: ModelId, shard: usize, took: f64) {
        let pace = self.models.entry(model).or_default();
        let at_weight_one = took / self.weights[shard];
        pace.measured.add(at_weight_one);
        if pace.measured.count > 1.0 {
            // A model's first visit says nothing of the shard: its pace was not known.
            let mean = &mut self.weight_means[shard];
            mean.add(took / pace.measured.value_or(1.0));
            self.weights[shard] = mean.value_or(1.0).max(WEIGHT_MIN);
        } else {
            pace.first = at_weight_one;
            if let Some(guess) = pace.guess {
                self.first_measured += at_weight_one;
                self.first_guessed += guess;
            }
        }
    }

    fn record_evaluation(&mut self, model: ModelId, shard: usize, took: f64) {
        let measured = self.models.get(&model).and_then(|pace| pace.measured.value());
        if let Some(pace) = measured {
            self.evaluation.add(took / (pace * self.weights[shard]));
        }
    }

    fn pace(&self, model: ModelId) -> f64 {
        let pace = self.models.get(&model);
        pace.and_then(|pace| pace.measured.value()).unwrap_or_else(|| {
            let guess = pace.and_then(|pace| pace.guess).unwrap_or(1.0);
            guess * self.calibration()
        })
    }

    fn calibration(&self) -> f64 {
        if self.first_guessed > 0.0 { self.first_measured / self.first_guessed } else { 1.0 }
    }
}

impl Mean {
    pub(crate) fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1.0;
    }

    pub(crate) fn value(self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }

    pub(crate) fn value_or(self, default: f64) -> f64 {
        self.value().unwrap_or(default)
    }
}

impl ModelEstimates<'_> {
    /// Microseconds of one visit to the shard at this place, at least 1.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to 1..=2^45 before"
    )]
    pub(crate) fn visit(&self, shard: usize, kind: VisitKind) -> u64 {
        let train = self.pace * self.weights[shard];
        let expected = match kind {
            VisitKind::Train => train,
            VisitKind::Evaluate => train * self.evaluation,
        };
        expected.round().clamp(1.0, VISIT_MAX) as u64
    }
}

/// Microseconds, at least 1 so that ratios exist.
pub(crate) fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round().max(1.0)
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{SegmentId, SlotId};

    use super::*;

    const MS: u64 = 1_000;

    fn learned() -> Estimates {
        let segment = SegmentId(0);
        let layout = Layout::new(vec![SlotId { segment, index: 0 }], vec![segment; 2]).unwrap();
        Estimates::learned(&layout)
    }

    fn train(estimates: &Estimates, model: u32, shard: usize) -> u64 {
        estimates.of(ModelId(model)).visit(shard, VisitKind::Train)
    }

    fn milliseconds(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn the_first_measurement_scales_the_guesses_for_the_others() {
        let mut estimates = learned();
        estimates.expect(ModelId(1), milliseconds(1));
        estimates.expect(ModelId(2), milliseconds(4));
        assert_eq!((train(&estimates, 1, 0), train(&estimates, 2, 0)), (MS, 4 * MS));
        estimates.record(ModelId(1), ShardId(0), VisitKind::Train, milliseconds(10));
        assert_eq!((train(&estimates, 1, 1), train(&estimates, 2, 1)), (10 * MS, 40 * MS));
    }

    #[test]
    fn a_log_replayed_before_the_guesses_teaches_the_same() {
        let mut before = learned();
        before.record(ModelId(1), ShardId(0), VisitKind::Train, milliseconds(10));
        let mut after = learned();
        for estimates in [&mut before, &mut after] {
            estimates.expect(ModelId(1), milliseconds(1));
            estimates.expect(ModelId(2), milliseconds(4));
        }
        after.record(ModelId(1), ShardId(0), VisitKind::Train, milliseconds(10));
        assert_eq!(train(&before, 2, 0), train(&after, 2, 0));
    }

    #[test]
    fn a_shard_twice_as_slow_is_found_out() {
        let mut estimates = learned();
        for model in 1..=40 {
            for (shard, factor) in [(0, 1), (1, 2)] {
                let took = milliseconds(u64::from(model) * factor);
                estimates.record(ModelId(model), ShardId(shard), VisitKind::Train, took);
            }
        }
        let of = estimates.of(ModelId(40));
        let ratio = of.visit(1, VisitKind::Train) as f64 / of.visit(0, VisitKind::Train) as f64;
        assert!((1.5..=2.1).contains(&ratio), "{ratio}");
    }

    #[test]
    fn evaluation_has_a_scale_of_its_own() {
        let mut estimates = learned();
        estimates.record(ModelId(1), ShardId(0), VisitKind::Train, milliseconds(10));
        let evaluation =
            |estimates: &Estimates| estimates.of(ModelId(1)).visit(0, VisitKind::Evaluate);
        assert_eq!(evaluation(&estimates), 3 * MS);
        estimates.record(ModelId(1), ShardId(0), VisitKind::Evaluate, milliseconds(5));
        assert_eq!((evaluation(&estimates), train(&estimates, 1, 0)), (5 * MS, 10 * MS));
    }

    #[test]
    fn known_times_are_exact_and_stay() {
        let mut estimates = Estimates::known([(ModelId(1), vec![Duration::from_micros(12_345)])]);
        estimates.record(ModelId(1), ShardId(0), VisitKind::Train, milliseconds(99));
        assert_eq!(train(&estimates, 1, 0), 12_345);
    }
}
