//! One slot's trainer, on a thread of its own. It does one visit at a time, start to finish, and
//! keeps nothing between visits.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{Actor, Handler, Message, Recipient, SyncContext};
use arrowhop_flight::{CachedShard, StateBytes};
use arrowhop_runtime::{panics::contained, tell};
use arrowhop_train::{
    Control, Rows, Task, TrainError, Visit, evaluate, initial_state, thread_cpu_time, train_visit,
};
use arrowhop_types::{Part, Problems, Score, VisitKind, VisitTiming};
use arrowhop_wire::{Fact, StartVisit, VisitOutcome, VisitReport};
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::error;

use crate::opened::AbortFlag;
use crate::place::Place;
use crate::rows::{ShardData, rows};

/// Progress is reported at most this often.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// Works for one slot.
pub(crate) struct Trainer {
    place: Arc<Place>,
}

impl Trainer {
    pub(crate) fn new(place: Arc<Place>) -> Self {
        Self { place }
    }
}

/// A visit to be done.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Work {
    pub(crate) order: StartVisit,
    pub(crate) task: Arc<Task>,
    /// The state to start from; `None` for a model that is to be initialised.
    pub(crate) state: Option<StateBytes>,
    /// How long its fetch took, and how many bytes came.
    pub(crate) fetch: Option<(Duration, u64)>,
    /// How long the slot waited for it.
    pub(crate) stall: Duration,
    pub(crate) data: ShardData,
    /// Evaluation visits score the training rows, too.
    pub(crate) evaluates_training: bool,
    pub(crate) abort: AbortFlag,
    pub(crate) facts: mpsc::Sender<Fact>,
    pub(crate) reply: Recipient<Worked>,
}

/// What came of a visit.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Worked {
    pub(crate) order: StartVisit,
    pub(crate) outcome: VisitOutcome,
    /// The new version's state, after training.
    pub(crate) state: Option<StateBytes>,
    /// The thread is not to be trusted any more.
    pub(crate) panicked: bool,
}

impl Actor for Trainer {
    type Context = SyncContext<Self>;
}

impl Handler<Work> for Trainer {
    type Result = ();

    fn handle(&mut self, work: Work, _: &mut SyncContext<Self>) {
        let done = contained(|| match work.order.kind {
            VisitKind::Train => train(&work, &self.place),
            VisitKind::Evaluate => score(&work, &self.place).map(|report| (report, None)),
        });
        let (outcome, state, panicked) = match done {
            Ok(Ok((report, state))) => (VisitOutcome::Done(Box::new(report)), state, false),
            Ok(Err(outcome)) => (outcome, None, false),
            Err(panic) => {
                (VisitOutcome::Failed(format!("the trainer panicked: {panic}")), None, true)
            }
        };
        let worked = Worked { order: work.order, outcome, state, panicked };
        if let Err(error) = tell(&work.reply, worked) {
            error!(%error, "the host does not take a visit's result");
        }
    }
}

type Done = (VisitReport, Option<StateBytes>);

fn train(work: &Work, place: &Place) -> Result<Done, VisitOutcome> {
    let began_at = Instant::now();
    let start: Bytes = match &work.state {
        Some(state) => state.bytes.clone(),
        None => initial_state(&work.task).map_err(outcome_of)?.into(),
    };
    let made = began_at.elapsed();
    let rows = shard_rows(work, Part::Train, &work.data.train, place).map_err(unreadable)?;
    let visit = Visit { epoch: work.order.epoch, shard: work.order.shard };
    let trained =
        train_visit(&work.task, &start, visit, &rows, &mut Watch::new(work)).map_err(outcome_of)?;
    let state = StateBytes { bytes: trained.state.into(), digest: trained.digest };
    let report = VisitReport {
        version: work.order.version.next(),
        digest: state.digest,
        state_bytes: state.bytes.len() as u64,
        computed_by: place.device().computes(work.task.config().precision).to_owned(),
        timing: VisitTiming {
            train: trained.timing.train,
            state: trained.timing.state + made,
            cpu: trained.timing.cpu,
            ..waited(work)
        },
        train: trained.score,
        validation: Score::default(),
    };
    Ok((report, Some(state)))
}

fn score(work: &Work, place: &Place) -> Result<VisitReport, VisitOutcome> {
    let Some(state) = &work.state else {
        let reason = "a model that was never trained cannot be evaluated";
        return Err(VisitOutcome::Failed(reason.to_owned()));
    };
    let (began_at, cpu_before) = (Instant::now(), thread_cpu_time());
    let score = |part: Part, cached: Option<&CachedShard>| {
        let Some(cached) = cached else { return Ok(Score::default()) };
        let rows = shard_rows(work, part, cached, place).map_err(unreadable)?;
        evaluate(&work.task, &state.bytes, &rows, &mut Watch::new(work)).map_err(outcome_of)
    };
    let train = score(Part::Train, work.evaluates_training.then_some(&*work.data.train))?;
    let validation = score(Part::Validation, work.data.validation.as_deref())?;
    Ok(VisitReport {
        version: work.order.version,
        digest: state.digest,
        state_bytes: state.bytes.len() as u64,
        computed_by: place.device().computes(work.task.config().precision).to_owned(),
        timing: VisitTiming {
            evaluate: began_at.elapsed(),
            cpu: thread_cpu_time().saturating_sub(cpu_before),
            ..waited(work)
        },
        train,
        validation,
    })
}

fn waited(work: &Work) -> VisitTiming {
    let (fetch, hop_bytes) = work.fetch.unwrap_or_default();
    VisitTiming { fetch, stall: work.stall, hop_bytes, ..VisitTiming::default() }
}

fn shard_rows<'a>(
    work: &Work,
    part: Part,
    cached: &'a CachedShard,
    place: &Place,
) -> Result<Rows<'a>, Problems> {
    let rows = rows(&work.task, cached.batches().iter().map(|batch| &batch.batch))?;
    Ok(place.bring(rows, part, &work.task, &work.data.copies))
}

fn unreadable(problems: Problems) -> VisitOutcome {
    VisitOutcome::Failed(format!("read the shard: {problems}"))
}

fn outcome_of(error: TrainError) -> VisitOutcome {
    match error {
        TrainError::Stopped { .. } => VisitOutcome::Aborted,
        TrainError::Diverged { .. } => VisitOutcome::Diverged(error.to_string()),
        other => VisitOutcome::Failed(arrowhop_wire::status::chain(&other)),
    }
}

/// Stops a visit when its run is aborted, and reports its progress.
struct Watch<'a> {
    work: &'a Work,
    reported_at: Instant,
}

impl<'a> Watch<'a> {
    fn new(work: &'a Work) -> Self {
        Self { work, reported_at: Instant::now() }
    }
}

impl Control for Watch<'_> {
    fn batch_done(&mut self, rows: u64, running: &Score) -> ControlFlow<()> {
        if self.reported_at.elapsed() >= PROGRESS_INTERVAL {
            self.reported_at = Instant::now();
            let (run, visit) = (self.work.order.run, self.work.order.visit);
            // Progress may be lost when the supervisor is slow: the next one says more.
            let loss = running.loss().unwrap_or_default();
            drop(self.work.facts.try_send(Fact::VisitProgress { run, visit, rows, loss }));
        }
        if self.work.abort.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}
