//! How far a model is, and its checked ticket into a schedule.

use std::time::Duration;

use arrowhop_types::{ModelId, Problems, SegmentId, ShardId, Version, VisitKind};

use crate::layout::{Layout, Options};

/// How far a model has come: all that a schedule must know of its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Epochs completed, which is the number of the current one.
    pub epoch: u32,
    /// What the current phase of the epoch does.
    pub kind: VisitKind,
    /// Shards already visited in this phase, in any order.
    pub done: Vec<ShardId>,
    /// Its version.
    pub version: Version,
    /// The segment that has its state; `None` for a fresh model and for one in the model store.
    pub home: Option<SegmentId>,
}

/// A model about to join a schedule, checked against the layout and the options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrant {
    pub(crate) model: ModelId,
    pub(crate) start: Progress,
    pub(crate) prescribed: Vec<ShardId>,
    pub(crate) estimate: Duration,
}

impl Progress {
    /// That of a model that has done nothing yet.
    #[must_use]
    pub fn fresh() -> Self {
        Self { epoch: 0, kind: VisitKind::Train, done: vec![], version: Version(0), home: None }
    }
}

impl Entrant {
    /// A model that joins with the progress `start`.
    ///
    /// `prescribed` is the order of its next training visits, from here on: the rest of the current
    /// epoch, then any number of epochs, the last of which may be cut short; where it ends the
    /// schedule chooses. `estimate` is a guess of one training visit's duration, used until a visit
    /// of the model was measured; only the ratios between models matter.
    ///
    /// # Errors
    /// All problems at once: a shard that the layout lacks, a shard done or prescribed twice in an
    /// epoch, more epochs than the options have, evaluation in a run without it.
    pub fn new(
        layout: &Layout,
        options: &Options,
        model: ModelId,
        start: Progress,
        prescribed: Vec<ShardId>,
        estimate: Duration,
    ) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        if start.epoch > options.epochs || (start.epoch == options.epochs && !start.done.is_empty())
        {
            let text = format!("epoch {} of a run of {} epochs", start.epoch, options.epochs);
            problems.push(format!("model {model}: progress"), text);
        }
        if start.kind == VisitKind::Evaluate && !options.evaluates {
            let text = "an evaluation phase in a run without evaluation";
            problems.push(format!("model {model}: progress"), text);
        }
        let mut owed = vec![true; layout.shards.len()];
        for &shard in &start.done {
            match layout.place(shard) {
                Some(place) if owed[place] => owed[place] = false,
                Some(_) => {
                    problems.push(format!("model {model}: progress"), twice(shard, start.epoch));
                }
                None => problems.push(format!("model {model}: progress"), missing(shard, layout)),
            }
        }
        if problems.is_empty() {
            check_order(layout, options, model, &start, owed, &prescribed, &mut problems);
        }
        problems.or(Self { model, start, prescribed, estimate })
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> ModelId {
        self.model
    }
}

/// Follows a prescribed order through the epochs that are left.
fn check_order(
    layout: &Layout,
    options: &Options,
    model: ModelId,
    start: &Progress,
    mut owed: Vec<bool>,
    prescribed: &[ShardId],
    problems: &mut Problems,
) {
    let place = format!("model {model}: prescribed order");
    let mut epoch = start.epoch;
    let training_is_over = start.kind == VisitKind::Evaluate;
    if epoch < options.epochs && (training_is_over || !owed.contains(&true)) {
        epoch += 1;
        owed.fill(true);
    }
    for &shard in prescribed {
        if epoch >= options.epochs {
            problems.push(place, format!("goes on after epoch {}; cut it there", options.epochs));
            return;
        }
        match layout.place(shard) {
            Some(shard) if owed[shard] => owed[shard] = false,
            Some(_) => {
                problems.push(place, twice(shard, epoch));
                return;
            }
            None => {
                problems.push(place, missing(shard, layout));
                return;
            }
        }
        if !owed.contains(&true) {
            epoch += 1;
            owed.fill(true);
        }
    }
}

fn twice(shard: ShardId, epoch: u32) -> String {
    format!("shard {shard} comes twice in epoch {epoch}; each shard comes once per epoch")
}

fn missing(shard: ShardId, layout: &Layout) -> String {
    format!("shard {shard} does not exist; the data has {} shards", layout.shards.len())
}

#[cfg(test)]
mod tests {
    use arrowhop_types::SlotId;

    use super::*;

    fn layout() -> Layout {
        let segment = SegmentId(0);
        Layout::new(vec![SlotId { segment, index: 0 }], vec![segment; 3]).unwrap()
    }

    fn enter(start: Progress, prescribed: &[u32]) -> Result<Entrant, Problems> {
        let options = Options { epochs: 2, evaluates: true, ..Options::default() };
        let prescribed = prescribed.iter().copied().map(ShardId).collect();
        Entrant::new(&layout(), &options, ModelId(7), start, prescribed, Duration::from_secs(1))
    }

    #[test]
    fn a_prescribed_order_visits_each_shard_once_per_epoch() {
        assert!(enter(Progress::fresh(), &[2, 0, 1, 1, 2]).is_ok());
        let text = enter(Progress::fresh(), &[2, 0, 2]).unwrap_err().to_string();
        assert_eq!(
            text,
            "model 7: prescribed order: shard 2 comes twice in epoch 0; \
             each shard comes once per epoch"
        );
        assert!(enter(Progress::fresh(), &[0, 1, 2, 0, 1, 2, 0]).is_err());
        assert!(enter(Progress::fresh(), &[3]).is_err());
    }

    #[test]
    fn a_prescribed_order_goes_on_where_the_progress_stops() {
        let half = Progress { done: vec![ShardId(1)], ..Progress::fresh() };
        assert!(enter(half.clone(), &[2, 0, 1]).is_ok());
        assert!(enter(half, &[1]).is_err());
        let scored = Progress { kind: VisitKind::Evaluate, ..Progress::fresh() };
        assert!(enter(scored.clone(), &[1, 0, 2]).is_ok());
        assert!(enter(scored, &[1, 0, 2, 1]).is_err());
    }

    #[test]
    fn every_problem_of_a_progress_is_said() {
        let done = [0, 0, 9].map(ShardId).to_vec();
        let problems = enter(Progress { epoch: 3, done, ..Progress::fresh() }, &[]).unwrap_err();
        assert_eq!(problems.iter().count(), 3);
    }
}
