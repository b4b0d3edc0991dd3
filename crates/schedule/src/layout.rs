//! Where a run runs: slots, segments, shards; and how: its options. Never changes during a run.

use std::collections::BTreeMap;

use arrowhop_types::{Problems, SegmentId, ShardId, SlotId, VisitId};

/// What the streams' numbering allows; see `arrowhop_types::stream`.
const SHARDS_MAX: usize = 65_535;
const SLOTS_MAX: usize = 65_535;

/// The slots of a cluster and the segment that holds each shard. A segment may hold several
/// shards and own several slots; any of its slots can visit any of its shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub(crate) slots: Vec<SlotId>,
    pub(crate) shards: Vec<SegmentId>,
    pub(crate) segments: Vec<Segment>,
    /// Each slot's place in `segments`.
    pub(crate) segment_of_slot: Vec<usize>,
}

/// A segment as the schedule sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) id: SegmentId,
    /// The shards it holds, ascending.
    pub(crate) shards: Vec<usize>,
    /// The slots it owns.
    pub(crate) slots: u32,
}

/// How a run is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Epochs of every model.
    pub epochs: u32,
    /// Whether evaluation visits follow the training visits of each epoch.
    pub evaluates: bool,
    /// Whether a slot's next model is chosen, and its state fetched, before the slot is free.
    pub prefetch: bool,
    /// The number of the first visit decided; beyond those of the hop log where a run is resumed.
    pub first_visit: VisitId,
}

impl Layout {
    /// A layout of `slots`, where `shards[i]` is the segment that holds shard i.
    ///
    /// # Errors
    /// All problems at once: no slots, no shards, more than 65,535 of either, a slot named twice,
    /// a shard whose segment has no slot.
    pub fn new(slots: Vec<SlotId>, shards: Vec<SegmentId>) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        for (place, count, max) in
            [("slots", slots.len(), SLOTS_MAX), ("shards", shards.len(), SHARDS_MAX)]
        {
            if count == 0 {
                problems.push(place, "there are none; a run needs at least one");
            } else if count > max {
                problems.push(place, format!("{count} are more than the {max} supported"));
            }
        }
        let mut segments: BTreeMap<SegmentId, Segment> = BTreeMap::new();
        let mut slots_seen = std::collections::BTreeSet::new();
        for &slot in &slots {
            if !slots_seen.insert(slot) {
                problems.push(format!("slot {slot}"), "is named twice; name each slot once");
            }
            let id = slot.segment;
            segments.entry(id).or_insert(Segment { id, shards: vec![], slots: 0 }).slots += 1;
        }
        for (shard, id) in shards.iter().enumerate() {
            match segments.get_mut(id) {
                Some(segment) => segment.shards.push(shard),
                None => problems.push(
                    format!("shard {shard}"),
                    format!("its segment {id} has no slot; give it one or move the shard"),
                ),
            }
        }
        let segments: Vec<_> = segments.into_values().collect();
        let segment_of_slot = slots
            .iter()
            .filter_map(|slot| segments.iter().position(|segment| segment.id == slot.segment))
            .collect();
        problems.or(Self { slots, shards, segments, segment_of_slot })
    }

    /// The slots, in the order in which ties between them are broken.
    #[must_use]
    pub fn slots(&self) -> &[SlotId] {
        &self.slots
    }

    /// The segment that holds each shard.
    #[must_use]
    pub fn shards(&self) -> &[SegmentId] {
        &self.shards
    }

    /// The shard's place in `shards`, if there is such a shard.
    pub(crate) fn place(&self, shard: ShardId) -> Option<usize> {
        let place = usize::try_from(shard.0).ok()?;
        (place < self.shards.len()).then_some(place)
    }
}

/// The shard at a place; the inverse of [`Layout::place`].
pub(crate) fn shard_at(place: usize) -> ShardId {
    ShardId(u32::try_from(place).expect("a layout has at most 65,535 shards"))
}

impl Default for Options {
    /// One epoch without evaluation, with prefetching, from visit 1.
    fn default() -> Self {
        Self { epochs: 1, evaluates: false, prefetch: true, first_visit: VisitId(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_wrong_with_a_layout_is_said_at_once() {
        let slot = SlotId { segment: SegmentId(0), index: 0 };
        let problems = Layout::new(vec![slot, slot], vec![SegmentId(0), SegmentId(4)]).unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(places, ["slot 0.0", "shard 1"]);
        assert_eq!(Layout::new(vec![], vec![]).unwrap_err().iter().count(), 2);
    }

    #[test]
    fn a_segment_gathers_its_slots_and_shards() {
        let slot = |segment, index| SlotId { segment: SegmentId(segment), index };
        let shards = [7, 2, 7].map(SegmentId).to_vec();
        let layout = Layout::new(vec![slot(7, 0), slot(2, 0), slot(7, 1)], shards).unwrap();
        assert_eq!(layout.segment_of_slot, [1, 0, 1]);
        assert_eq!(
            layout.segments,
            [
                Segment { id: SegmentId(2), shards: vec![1], slots: 1 },
                Segment { id: SegmentId(7), shards: vec![0, 2], slots: 2 },
            ]
        );
    }
}
