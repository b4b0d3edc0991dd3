//! One model's course through the run: what it owes now, and how much work that leaves.

use std::collections::VecDeque;

use arrowhop_types::{ModelId, SegmentId, ShardId, Version, VisitKind};

use crate::{
    Command, Entrant, Options, Progress,
    estimates::ModelEstimates,
    layout::{Layout, shard_at},
};

/// A model that has work left.
#[derive(Debug, Clone)]
pub(crate) struct Course {
    pub(crate) model: ModelId,
    pub(crate) epoch: u32,
    pub(crate) kind: VisitKind,
    pub(crate) version: Version,
    pub(crate) home: Option<SegmentId>,
    pub(crate) status: Status,
    /// Expected microseconds of all its visits not yet completed, over all epochs: its rank.
    pub(crate) remaining: u128,
    /// The same by shard: what it adds to each shard's load.
    work: Vec<u64>,
    /// Shards whose visit in the current phase is not yet completed.
    owed: Vec<bool>,
    owed_count: usize,
    /// The order of its next training visits, as far as one is prescribed.
    prescribed: VecDeque<ShardId>,
}

/// Where a model is; the number is a slot's place in the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Ready,
    Reserved(usize),
    Running(usize),
}

impl Course {
    /// The course of a model that joins. Its work is not weighed yet.
    pub(crate) fn new(entrant: Entrant, layout: &Layout) -> Self {
        let Entrant { model, start, prescribed, estimate: _ } = entrant;
        let mut owed = vec![true; layout.shards.len()];
        for &shard in &start.done {
            owed[layout.place(shard).expect("an entrant's progress was checked")] = false;
        }
        Self {
            model,
            epoch: start.epoch,
            kind: start.kind,
            version: start.version,
            home: start.home,
            status: Status::Ready,
            remaining: 0,
            work: vec![0; owed.len()],
            owed_count: owed.iter().filter(|&&is_owed| is_owed).count(),
            owed,
            prescribed: prescribed.into(),
        }
    }

    /// Whether its next visit may be to this shard.
    pub(crate) fn may_visit(&self, shard: usize) -> bool {
        match self.prescribed_next() {
            Some(next) => next == shard,
            None => self.owed[shard],
        }
    }

    /// The shards its next visit may be to.
    pub(crate) fn open_shards(&self) -> impl Iterator<Item = usize> {
        let prescribed = self.prescribed_next();
        let free = if prescribed.is_none() { &self.owed[..] } else { &[] };
        let free = free.iter().enumerate().filter_map(|(shard, &is_owed)| is_owed.then_some(shard));
        prescribed.into_iter().chain(free)
    }

    fn prescribed_next(&self) -> Option<usize> {
        let next = self.prescribed.front().filter(|_| self.kind == VisitKind::Train)?;
        Some(next.0 as usize)
    }

    /// Takes in that a visit to `shard` on `segment` was completed.
    pub(crate) fn complete(&mut self, shard: usize, segment: SegmentId) {
        assert!(self.owed[shard], "HOP-1: a visit that was not owed was completed");
        self.owed[shard] = false;
        self.owed_count -= 1;
        self.home = Some(segment);
        self.status = Status::Ready;
        if self.kind == VisitKind::Train {
            self.version = self.version.next();
            self.prescribed.pop_front();
        }
    }

    /// Goes on to the next phase that owes something; whether the model has finished.
    pub(crate) fn advance(&mut self, options: &Options, commands: &mut Vec<Command>) -> bool {
        while self.owed_count == 0 && self.epoch < options.epochs {
            if self.kind == VisitKind::Train && options.evaluates {
                self.kind = VisitKind::Evaluate;
            } else {
                commands.push(Command::EpochEnded { model: self.model, epoch: self.epoch });
                self.kind = VisitKind::Train;
                self.epoch += 1;
            }
            self.owed.fill(true);
            self.owed_count = self.owed.len();
        }
        let is_finished = self.epoch >= options.epochs;
        if is_finished {
            commands.push(Command::ModelFinished { model: self.model });
        }
        is_finished
    }

    /// Weighs its remaining work by the estimates of now, and corrects the shards' loads by what
    /// changed.
    pub(crate) fn weigh(
        &mut self,
        estimates: &ModelEstimates<'_>,
        options: &Options,
        loads: &mut [u128],
    ) {
        let epochs_after = u64::from(options.epochs - self.epoch - 1);
        let is_training = self.kind == VisitKind::Train;
        self.remaining = 0;
        for (shard, load) in loads.iter_mut().enumerate() {
            let owed = u64::from(self.owed[shard]);
            let trainings = epochs_after + if is_training { owed } else { 0 };
            let mut work = trainings * estimates.visit(shard, VisitKind::Train);
            if options.evaluates {
                let evaluations = epochs_after + if is_training { 1 } else { owed };
                work += evaluations * estimates.visit(shard, VisitKind::Evaluate);
            }
            *load = *load + u128::from(work) - u128::from(self.work[shard]);
            self.work[shard] = work;
            self.remaining += u128::from(work);
        }
    }

    /// Takes its work out of the shards' loads.
    pub(crate) fn withdraw(&self, loads: &mut [u128]) {
        for (load, &work) in loads.iter_mut().zip(&self.work) {
            *load -= u128::from(work);
        }
    }

    /// How far it has come; a visit that is running does not count.
    pub(crate) fn progress(&self) -> Progress {
        let done = self.owed.iter().enumerate().filter(|&(_, &is_owed)| !is_owed);
        Progress {
            epoch: self.epoch,
            kind: self.kind,
            done: done.map(|(shard, _)| shard_at(shard)).collect(),
            version: self.version,
            home: self.home,
        }
    }
}
