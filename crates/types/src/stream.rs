//! Names of random streams. Every draw of the program comes from `ChaCha8(seed)` with
//! `set_stream(Stream::…id())`, so that no draw depends on what was drawn elsewhere, on threads,
//! or on the order of visits. This module only numbers the streams and turns draws into
//! permutations; the generator belongs to the caller.

use crate::{ModelId, ShardId};

/// What a random stream is for. Fields wider than their bits are refused where a run is checked:
/// at most 2²⁴−1 models, 2¹⁶−1 epochs and 2¹⁶−1 shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The shuffle that deals rows out to shards.
    Shuffle,
    /// The split of one table into training and validation rows.
    Split,
    /// The choice of test rows.
    Test,
    /// Generated data sets.
    Generate,
    /// Draws of a search.
    Search,
    /// A model's initial weights.
    Init(ModelId),
    /// The order of rows in one visit.
    Order {
        /// The model that visits.
        model: ModelId,
        /// Its epoch, from 0.
        epoch: u32,
        /// The shard it visits.
        shard: ShardId,
    },
    /// Dropout masks of one visit.
    Dropout {
        /// The model that visits.
        model: ModelId,
        /// Its epoch, from 0.
        epoch: u32,
        /// The shard it visits.
        shard: ShardId,
    },
}

impl Stream {
    /// The number to give to `set_stream`: eight bits of purpose, then model, epoch and shard.
    #[must_use]
    pub fn id(self) -> u64 {
        let pack = |purpose: u64, model: ModelId, epoch: u32, shard: ShardId| {
            purpose << 56
                | u64::from(model.0 & 0xff_ffff) << 32
                | u64::from(epoch & 0xffff) << 16
                | u64::from(shard.0 & 0xffff)
        };
        match self {
            Self::Shuffle => 1 << 56,
            Self::Split => 2 << 56,
            Self::Generate => 3 << 56,
            Self::Test => 8 << 56,
            Self::Search => 4 << 56,
            Self::Init(model) => pack(5, model, 0, ShardId(0)),
            Self::Order { model, epoch, shard } => pack(6, model, epoch, shard),
            Self::Dropout { model, epoch, shard } => pack(7, model, epoch, shard),
        }
    }
}

/// A draw in `0..bound` from 32-bit draws, without bias.
///
/// Source: D. Lemire, *Fast Random Integer Generation in an Interval*, 2019, algorithm 5.
///
/// # Panics
/// When `bound` is 0.
pub fn below(bound: u32, mut next: impl FnMut() -> u32) -> u32 {
    assert!(bound > 0, "a draw below 0");
    let threshold = bound.wrapping_neg() % bound;
    loop {
        let product = u64::from(next()) * u64::from(bound);
        if (product & 0xffff_ffff) >= u64::from(threshold) {
            return u32::try_from(product >> 32).expect("the high half of a 64-bit product");
        }
    }
}

/// Shuffles in place (Fisher–Yates, from the end): each of the n! orders is equally likely.
///
/// # Panics
/// When there are more than 2³²−1 items.
pub fn shuffle<T>(items: &mut [T], mut next: impl FnMut() -> u32) {
    for i in (1..items.len()).rev() {
        let bound = u32::try_from(i + 1).expect("at most 2^32-1 items are shuffled");
        items.swap(i, below(bound, &mut next) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_never_collide() {
        let (model, shard) = (ModelId(3), ShardId(5));
        let ids = [
            Stream::Shuffle,
            Stream::Split,
            Stream::Generate,
            Stream::Search,
            Stream::Init(model),
            Stream::Init(ModelId(4)),
            Stream::Order { model, epoch: 1, shard },
            Stream::Order { model, epoch: 2, shard },
            Stream::Order { model, epoch: 1, shard: ShardId(6) },
            Stream::Dropout { model, epoch: 1, shard },
        ]
        .map(Stream::id);
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn draws_below_a_bound_reach_every_value_and_shuffles_lose_nothing() {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        let drawn: std::collections::BTreeSet<_> = (0..200).map(|_| below(7, &mut next)).collect();
        assert_eq!(drawn, (0..7).collect());
        let mut items: Vec<u32> = (0..100).collect();
        shuffle(&mut items, &mut next);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
