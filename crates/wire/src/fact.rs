//! What a segment reports to the supervisor.

use std::time::Duration;

use arrowhop_types::{Digest, RunId, Score, Version, VisitId, VisitTiming};

use crate::WireError;
use crate::control as proto;
use crate::convert::{digest, micros, present};

/// A fact on the `Attach` stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// Still there.
    Heartbeat,
    /// Ready for a run, or not.
    RunOpened {
        /// The run.
        run: RunId,
        /// Why it cannot be run here.
        problem: Option<String>,
    },
    /// A prefetched state is here.
    StateArrived {
        /// The run.
        run: RunId,
        /// The visit it was fetched for.
        visit: VisitId,
        /// How long the fetch took.
        took: Duration,
        /// Bytes fetched.
        bytes: u64,
    },
    /// A visit goes on.
    VisitProgress {
        /// The run.
        run: RunId,
        /// The visit.
        visit: VisitId,
        /// Rows done.
        rows: u64,
        /// Running mean loss.
        loss: f64,
    },
    /// A visit ended.
    VisitEnded {
        /// The run.
        run: RunId,
        /// The visit.
        visit: VisitId,
        /// The try that ended.
        attempt: u32,
        /// How.
        outcome: VisitOutcome,
    },
}

/// How a visit ended.
#[derive(Debug, Clone, PartialEq)]
pub enum VisitOutcome {
    /// As it should.
    Done(Box<VisitReport>),
    /// Given up by request.
    Aborted,
    /// The loss became NaN or infinite.
    Diverged(String),
    /// Anything else; may be tried again.
    Failed(String),
}

/// What a visit that ended well brought.
#[derive(Debug, Clone, PartialEq)]
pub struct VisitReport {
    /// The version the model has now.
    pub version: Version,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub state_bytes: u64,
    /// What computed it, as [`arrowhop_types::VisitRecord::computed_by`] has it.
    pub computed_by: String,
    /// Where the time went; `queue` is the supervisor's to know.
    pub timing: VisitTiming,
    /// Score on training rows.
    pub train: Score,
    /// Score on validation rows.
    pub validation: Score,
}

impl From<Fact> for proto::Fact {
    fn from(fact: Fact) -> Self {
        use proto::fact::Kind;
        Self {
            kind: Some(match fact {
                Fact::Heartbeat => Kind::Heartbeat(proto::Heartbeat {}),
                Fact::RunOpened { run, problem } => Kind::RunOpened(proto::RunOpened {
                    run: run.0,
                    problem: problem.unwrap_or_default(),
                }),
                Fact::StateArrived { run, visit, took, bytes } => {
                    let took_us = micros(took);
                    Kind::StateArrived(proto::StateArrived {
                        run: run.0,
                        visit: visit.0,
                        took_us,
                        bytes,
                    })
                }
                Fact::VisitProgress { run, visit, rows, loss } => {
                    Kind::VisitProgress(proto::VisitProgress {
                        run: run.0,
                        visit: visit.0,
                        rows,
                        loss,
                    })
                }
                Fact::VisitEnded { run, visit, attempt, outcome } => {
                    Kind::VisitEnded(proto::VisitEnded {
                        run: run.0,
                        visit: visit.0,
                        attempt,
                        outcome: Some(outcome.into()),
                    })
                }
            }),
        }
    }
}

impl From<VisitOutcome> for proto::visit_ended::Outcome {
    fn from(outcome: VisitOutcome) -> Self {
        match outcome {
            VisitOutcome::Done(report) => Self::Done(proto::VisitDone {
                version: report.version.0,
                digest: report.digest.0.to_vec(),
                state_bytes: report.state_bytes,
                computed_by: report.computed_by,
                timing: Some(report.timing.into()),
                train: Some(report.train.into()),
                validation: Some(report.validation.into()),
            }),
            VisitOutcome::Aborted => Self::Aborted(proto::Aborted {}),
            VisitOutcome::Diverged(reason) => Self::Diverged(reason),
            VisitOutcome::Failed(reason) => Self::Failed(reason),
        }
    }
}

impl TryFrom<proto::Fact> for Fact {
    type Error = WireError;

    fn try_from(fact: proto::Fact) -> Result<Self, WireError> {
        use proto::fact::Kind;
        Ok(match present(fact.kind, "fact.kind")? {
            Kind::Heartbeat(_) => Self::Heartbeat,
            Kind::RunOpened(opened) => Self::RunOpened {
                run: RunId(opened.run),
                problem: (!opened.problem.is_empty()).then_some(opened.problem),
            },
            Kind::StateArrived(arrived) => Self::StateArrived {
                run: RunId(arrived.run),
                visit: VisitId(arrived.visit),
                took: Duration::from_micros(arrived.took_us),
                bytes: arrived.bytes,
            },
            Kind::VisitProgress(progress) => Self::VisitProgress {
                run: RunId(progress.run),
                visit: VisitId(progress.visit),
                rows: progress.rows,
                loss: progress.loss,
            },
            Kind::VisitEnded(ended) => Self::VisitEnded {
                run: RunId(ended.run),
                visit: VisitId(ended.visit),
                attempt: ended.attempt,
                outcome: present(ended.outcome, "visit_ended.outcome")?.try_into()?,
            },
        })
    }
}

impl TryFrom<proto::visit_ended::Outcome> for VisitOutcome {
    type Error = WireError;

    fn try_from(outcome: proto::visit_ended::Outcome) -> Result<Self, WireError> {
        use proto::visit_ended::Outcome;
        Ok(match outcome {
            Outcome::Done(done) => Self::Done(Box::new(VisitReport {
                version: Version(done.version),
                digest: digest(&done.digest, "done.digest")?,
                state_bytes: done.state_bytes,
                computed_by: done.computed_by,
                timing: present(done.timing, "done.timing")?.into(),
                train: present(done.train, "done.train")?.try_into()?,
                validation: present(done.validation, "done.validation")?.try_into()?,
            })),
            Outcome::Aborted(_) => Self::Aborted,
            Outcome::Diverged(reason) => Self::Diverged(reason),
            Outcome::Failed(reason) => Self::Failed(reason),
        })
    }
}
