//! The models that are ready, most remaining work first, and the choice among them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use arrowhop_types::ModelId;

use crate::{course::Course, layout::Segment};

/// Ready models: neither running nor reserved.
#[derive(Debug, Clone)]
pub(crate) struct Ready {
    by_work: BTreeSet<(Reverse<u128>, ModelId)>,
    /// How many of them could visit each shard next; saves walking the set in vain.
    candidates: Vec<u32>,
}

impl Ready {
    pub(crate) fn new(shards: usize) -> Self {
        Self { by_work: BTreeSet::new(), candidates: vec![0; shards] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_work.is_empty()
    }

    /// Adds a model; between this and [`Self::remove`] its course must not change.
    pub(crate) fn insert(&mut self, course: &Course) {
        let is_new = self.by_work.insert((Reverse(course.remaining), course.model));
        assert!(is_new, "HOP-3: a model became ready twice");
        course.open_shards().for_each(|shard| self.candidates[shard] += 1);
    }

    pub(crate) fn remove(&mut self, course: &Course) {
        let was_there = self.by_work.remove(&(Reverse(course.remaining), course.model));
        assert!(was_there, "HOP-3: a model that was not ready was taken");
        course.open_shards().for_each(|shard| self.candidates[shard] -= 1);
    }

    /// The model with the most remaining work that may visit a shard of this segment next, then
    /// the lower number; and of those shards the one with the most load, then the lower number.
    pub(crate) fn choose(
        &self,
        segment: &Segment,
        courses: &BTreeMap<ModelId, Course>,
        loads: &[u128],
        passed_over: &[ModelId],
    ) -> Option<(ModelId, usize)> {
        if segment.shards.iter().all(|&shard| self.candidates[shard] == 0) {
            return None;
        }
        let models = self.by_work.iter().map(|(_, model)| model);
        models.filter(|model| !passed_over.contains(model)).find_map(|model| {
            let open = segment.shards.iter().filter(|&&shard| courses[model].may_visit(shard));
            let shard = open.min_by_key(|&&shard| (Reverse(loads[shard]), shard))?;
            Some((*model, *shard))
        })
    }
}
