//! Bounds that no schedule can beat.

use std::{collections::BTreeMap, time::Duration};

use arrowhop_types::{ModelId, SegmentId, SlotId};

use crate::Layout;

/// The open-shop bound of a run on as many slots as shards, where `times[model][shard]` is one
/// visit's duration: no model and no shard can be done before the sum of its own visits.
/// `epochs · max(max over models Σ times, max over shards Σ times)`.
///
/// Source: Gonzalez, Sahni, *Open Shop Scheduling to Minimize Finish Time*, JACM 23(4), 1976.
#[must_use]
pub fn lower_bound(times: &[Vec<Duration>], epochs: u32) -> Duration {
    let shards = times.iter().map(Vec::len).max().unwrap_or(0);
    let model_max: Duration = times.iter().map(|row| row.iter().sum()).max().unwrap_or_default();
    let shard_sum = |shard| times.iter().filter_map(|row| row.get(shard)).sum();
    let shard_max = (0..shards).map(shard_sum).max().unwrap_or_default();
    model_max.max(shard_max) * epochs
}

/// The bound of a run that was measured: what its visits took, on this layout, could not have
/// been done sooner than the busiest model's visits one after the other, nor than the busiest
/// segment's visits spread evenly over its slots.
#[must_use]
pub fn measured_lower_bound(
    layout: &Layout,
    visits: impl IntoIterator<Item = (ModelId, SlotId, Duration)>,
) -> Duration {
    let mut models: BTreeMap<ModelId, Duration> = BTreeMap::new();
    let mut segments: BTreeMap<SegmentId, Duration> = BTreeMap::new();
    for (model, slot, took) in visits {
        *models.entry(model).or_default() += took;
        *segments.entry(slot.segment).or_default() += took;
    }
    let spread = |(id, busy): (&SegmentId, &Duration)| {
        let segment = layout.segments.iter().find(|segment| segment.id == *id);
        *busy / segment.map_or(1, |segment| segment.slots)
    };
    let model_max = models.into_values().max().unwrap_or_default();
    model_max.max(segments.iter().map(spread).max().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_bound_is_the_longest_model_or_the_longest_shard() {
        let by_model = [vec![seconds(5), seconds(5)], vec![seconds(1), seconds(1)]];
        assert_eq!(lower_bound(&by_model, 3), seconds(30));
        let by_shard = [vec![seconds(5), seconds(1)], vec![seconds(5), seconds(1)]];
        assert_eq!(lower_bound(&by_shard, 1), seconds(10));
        assert_eq!(lower_bound(&[], 3), Duration::ZERO);
    }

    #[test]
    fn a_segment_of_two_slots_is_bound_by_half_its_work() {
        let slot = |index| SlotId { segment: SegmentId(0), index };
        let layout = Layout::new(vec![slot(0), slot(1)], vec![SegmentId(0)]).unwrap();
        let visits = [1, 2, 3].map(|model| (ModelId(model), slot(model % 2), seconds(4)));
        assert_eq!(measured_lower_bound(&layout, visits), seconds(6));
        let longer = visits.into_iter().chain([(ModelId(1), slot(0), seconds(8))]);
        assert_eq!(measured_lower_bound(&layout, longer), seconds(12));
    }
}
