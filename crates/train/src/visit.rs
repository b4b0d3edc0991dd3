//! One training visit: a model's passes over the rows of one shard.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use arrowhop_types::stream::{self, Stream};
use arrowhop_types::{Digest, Score, ShardId, Version};
use burn::tensor::Device;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rustix::time::{ClockId, clock_gettime};

use crate::error::TrainError;
use crate::learner::Learner;
use crate::rows::Rows;
use crate::state::State;
use crate::task::Task;

/// Which visit this is: the place of its random streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// From 0.
    pub epoch: u32,
    /// The shard whose rows these are.
    pub shard: ShardId,
}

/// Watches a visit, and may end it.
pub trait Control {
    /// Called after each batch with the rows done so far, over all passes, and their running
    /// score. To break ends the visit at once, without a result.
    fn batch_done(&mut self, rows_done: u64, running: &Score) -> ControlFlow<()>;
}

impl<F: FnMut(u64, &Score) -> ControlFlow<()>> Control for F {
    fn batch_done(&mut self, rows_done: u64, running: &Score) -> ControlFlow<()> {
        self(rows_done, running)
    }
}

/// Where a visit's time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timing {
    /// Training.
    pub train: Duration,
    /// Decoding and encoding the state.
    pub state: Duration,
    /// CPU time of this thread in both.
    pub cpu: Duration,
}

/// What a training visit made.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The new encoded state.
    pub state: Vec<u8>,
    /// Its digest.
    pub digest: Digest,
    /// Its version: one more than before.
    pub version: Version,
    /// Running score: each batch before its own update, summed over all passes.
    pub score: Score,
    /// Where the time went.
    pub timing: Timing,
}

/// Trains the model on these rows, from this encoded state.
///
/// # Errors
/// When the state is not the task's, the model diverges, or the control ends the visit.
pub fn train_visit(
    task: &Task,
    state: &[u8],
    visit: Visit,
    rows: &Rows<'_>,
    control: &mut dyn Control,
) -> Result<Trained, TrainError> {
    let (begun, cpu_begun) = (Instant::now(), thread_cpu_time());
    let device = rows.inputs().device();
    let mut trainer = Trainer::start(task, State::decode(task, state)?, visit, device)?;
    let decoded = Instant::now();
    for _ in 0..task.config.passes {
        trainer.pass(rows, control)?;
    }
    let trained = Instant::now();
    let (state, score) = trainer.finish()?;
    let version = state.version;
    let state = state.encode(task)?;
    let digest = Digest(*blake3::hash(&state).as_bytes());
    let timing = Timing {
        train: trained - decoded,
        state: (decoded - begun) + trained.elapsed(),
        cpu: thread_cpu_time().saturating_sub(cpu_begun),
    };
    Ok(Trained { state, digest, version, score, timing })
}

/// CPU time that this thread has used.
#[must_use]
pub fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// A visit under way.
struct Trainer<'a> {
    task: &'a Task,
    visit: Visit,
    learner: Learner,
    order: ChaCha8Rng,
    masks: ChaCha8Rng,
    batches: u64,
    last_loss: f64,
    score: Score,
}

impl<'a> Trainer<'a> {
    fn start(
        task: &'a Task,
        state: State,
        visit: Visit,
        device: &Device,
    ) -> Result<Self, TrainError> {
        let Visit { epoch, shard } = visit;
        let generator = |stream: Stream| {
            let mut rng = ChaCha8Rng::seed_from_u64(task.seed);
            rng.set_stream(stream.id());
            rng
        };
        Ok(Self {
            task,
            visit,
            learner: Learner::start(task, state, device)?,
            order: generator(Stream::Order { model: task.model, epoch, shard }),
            masks: generator(Stream::Dropout { model: task.model, epoch, shard }),
            batches: 0,
            last_loss: 0.0,
            score: Score::default(),
        })
    }

    /// Every row once, in a new order.
    fn pass(&mut self, rows: &Rows<'_>, control: &mut dyn Control) -> Result<(), TrainError> {
        let count = u32::try_from(rows.rows()).expect("a view has fewer than 2^32 rows");
        let mut order: Vec<u32> = (0..count).collect();
        stream::shuffle(&mut order, || self.order.next_u32());
        for batch in order.chunks(self.task.config.batch_rows as usize) {
            self.batch(rows, batch)?;
            if control.batch_done(self.score.rows, &self.score).is_break() {
                return Err(TrainError::Stopped { rows_done: self.score.rows });
            }
        }
        Ok(())
    }

    /// One step; an infinite loss ends the visit.
    fn batch(&mut self, rows: &Rows<'_>, indices: &[u32]) -> Result<(), TrainError> {
        let (inputs, targets) = (rows.inputs().batch(indices), rows.targets(indices));
        let score = self.learner.learn(inputs, &targets, &mut self.masks, None);
        self.last_loss = score.loss().unwrap_or_default();
        if !self.last_loss.is_finite() {
            return Err(self.diverged(self.batches));
        }
        self.batches += 1;
        self.score.add(&score);
        Ok(())
    }

    /// The state after the visit; its weights must be numbers.
    fn finish(self) -> Result<(State, Score), TrainError> {
        let diverged = self.diverged(self.batches.saturating_sub(1));
        let mut state = self.learner.into_state();
        if self.task.reset_optimizer_each_visit {
            // Nothing of the optimizer is kept: as at the end of Keras's `fit`.
            state.use_averages(self.task);
        }
        state.version = state.version.next();
        if !state.is_finite() {
            return Err(diverged);
        }
        Ok((state, self.score))
    }

    fn diverged(&self, batch: u64) -> TrainError {
        let Visit { epoch, shard } = self.visit;
        TrainError::Diverged { epoch, shard, batch, loss: self.last_loss }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Data, adam, classifier, keep_on, sgd, softmax_regression};
    use crate::{Inputs, TargetChunks, evaluate, initial_state, predict};

    const VISIT: Visit = Visit { epoch: 0, shard: ShardId(0) };

    #[test]
    fn a_small_network_learns() {
        let data = Data::blobs(300);
        let task = classifier(adam(0.01), 16, 1);
        let rows = data.rows(&task);
        let first = initial_state(&task).unwrap();
        let before = evaluate(&task, &first, &rows, &mut keep_on).unwrap();
        let mut state = first;
        for epoch in 0..4 {
            let visit = Visit { epoch, ..VISIT };
            let trained = train_visit(&task, &state, visit, &rows, &mut keep_on).unwrap();
            assert_eq!(trained.version, Version(u64::from(epoch) + 1));
            assert_eq!(trained.digest.0, *blake3::hash(&trained.state).as_bytes());
            assert_eq!(trained.score.rows, 300);
            state = trained.state;
        }
        let after = evaluate(&task, &state, &rows, &mut keep_on).unwrap();
        assert!(after.loss().unwrap() < 0.5 * before.loss().unwrap(), "{before:?} to {after:?}");
        assert!(after.accuracy().unwrap() > 0.9, "{after:?}");
    }

    #[test]
    fn the_same_visit_gives_the_same_bits_and_another_one_does_not() {
        let data = Data::blobs(70);
        let task = classifier(adam(0.01), 16, 2);
        let rows = data.rows(&task);
        let state = initial_state(&task).unwrap();
        let train = |visit| train_visit(&task, &state, visit, &rows, &mut keep_on).unwrap();
        let (once, again) = (train(VISIT), train(VISIT));
        assert_eq!((&once.state, &once.score), (&again.state, &again.score));
        assert_eq!(once.score.rows, 140, "two passes over 70 rows");
        assert_ne!(once.digest, train(Visit { epoch: 1, ..VISIT }).digest);
        assert_ne!(once.digest, train(Visit { shard: ShardId(1), ..VISIT }).digest);
    }

    #[test]
    fn a_hop_changes_no_bit() {
        let data = Data::blobs(70);
        let task = classifier(adam(0.01), 16, 1);
        let rows = data.rows(&task);
        let visits = [VISIT, Visit { epoch: 0, shard: ShardId(1) }];

        let mut hopped = initial_state(&task).unwrap();
        let mut stayed = State::initial(&task);
        for visit in visits {
            hopped = train_visit(&task, &hopped, visit, &rows, &mut keep_on).unwrap().state;
            let mut trainer = Trainer::start(&task, stayed, visit, &Device::flex()).unwrap();
            trainer.pass(&rows, &mut keep_on).unwrap();
            stayed = trainer.finish().unwrap().0;
        }
        assert_eq!(stayed.encode(&task).unwrap(), hopped);
        assert_eq!((stayed.version, stayed.step), (Version(2), 10));
    }

    #[test]
    fn other_models_training_at_the_same_time_change_no_bit() {
        let data = Data::blobs(70);
        let task = classifier(adam(0.01), 16, 2);
        let rows = data.rows(&task);
        let state = initial_state(&task).unwrap();
        let train = || train_visit(&task, &state, VISIT, &rows, &mut keep_on).unwrap().digest;
        let alone = train();
        let together = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(train)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(together, [alone; 4]);
    }

    #[test]
    fn a_reset_optimizer_starts_each_visit_afresh() {
        let data = Data::blobs(32);
        let mut task = classifier(adam(0.01), 16, 1);
        let first = initial_state(&task).unwrap();
        let train = |task: &Task, state: &[u8]| {
            train_visit(task, state, VISIT, &data.rows(task), &mut keep_on).unwrap().state
        };
        let kept = State::decode(&task, &train(&task, &train(&task, &first))).unwrap();
        task.reset_optimizer_each_visit = true;
        let first = initial_state(&task).unwrap();
        let reset = State::decode(&task, &train(&task, &train(&task, &first))).unwrap();
        assert_eq!((kept.step, reset.step), (4, 0));
        assert_ne!(kept.weights, reset.weights);
    }

    #[test]
    fn an_infinite_loss_ends_the_visit_within_its_batch() {
        let mut data = Data::blobs(64);
        let task = classifier(sgd(0.1), 16, 1);
        data.inputs[0] = f32::NAN;
        let state = initial_state(&task).unwrap();
        let mut batches = 0;
        let mut count = |_: u64, _: &Score| {
            batches += 1;
            ControlFlow::Continue(())
        };
        let error = train_visit(&task, &state, VISIT, &data.rows(&task), &mut count).unwrap_err();
        let TrainError::Diverged { epoch: 0, shard: ShardId(0), batch, loss } = error else {
            panic!("{error}");
        };
        assert_eq!(batch, batches, "no batch after the one with the row that is no number");
        assert!(loss.is_nan());
    }

    #[test]
    fn weights_that_overflow_in_the_last_batch_are_no_result() {
        let data = Data::blobs(16);
        let task = classifier(sgd(1e39), 16, 1);
        let state = initial_state(&task).unwrap();
        let rows = data.rows(&task);
        let error = train_visit(&task, &state, VISIT, &rows, &mut keep_on).unwrap_err();
        let TrainError::Diverged { batch: 0, loss, .. } = error else { panic!("{error}") };
        assert!(loss.is_finite());
    }

    #[test]
    fn a_stop_takes_effect_after_one_batch() {
        let data = Data::blobs(64);
        let task = classifier(adam(0.01), 16, 1);
        let state = initial_state(&task).unwrap();
        let rows = data.rows(&task);
        let mut stop = |rows_done: u64, _: &Score| {
            if rows_done >= 32 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let error = train_visit(&task, &state, VISIT, &rows, &mut stop).unwrap_err();
        assert!(matches!(error, TrainError::Stopped { rows_done: 32 }), "{error}");
        let error = evaluate(&task, &state, &rows, &mut |_: u64, _: &Score| ControlFlow::Break(()));
        assert!(matches!(error, Err(TrainError::Stopped { rows_done: 64 })), "{error:?}");
    }

    /// One step by hand: softmax regression from zero weights on two rows.
    #[test]
    fn one_step_of_softmax_regression_is_the_one_by_hand() {
        let task = softmax_regression(sgd(1.0));
        let inputs: Vec<f32> = vec![1.0, 2.0, 3.0, -1.0];
        let x = || vec![crate::InputChunks::F32(vec![&inputs])];
        let rows = Rows::new(&task, x(), vec![TargetChunks::Classes(vec![&[0, 1]])]).unwrap();
        let state = initial_state(&task).unwrap();
        let trained = train_visit(&task, &state, VISIT, &rows, &mut keep_on).unwrap();
        let weights = State::decode(&task, &trained.state).unwrap().weights;
        assert_eq!(weights[0], [-0.5, 0.5, 0.75, -0.75]);
        assert_eq!(weights[1], [0.0, 0.0]);
        assert!((trained.score.loss().unwrap() - 2_f64.ln()).abs() < 1e-7);
        assert_eq!(trained.score.accuracy(), Some(0.5), "ties go to the first class");

        let mut probabilities = Vec::new();
        let inputs = Inputs::new(&task, x()).unwrap();
        predict(&task, &state, &inputs, &mut |outputs| {
            probabilities.extend_from_slice(&outputs[0]);
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(probabilities, [0.5; 4]);
    }
}
