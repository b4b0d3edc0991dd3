//! Which row goes where: the split into training, validation and test rows, the one shuffle, and the
//! deal into shards. Decided from row counts and the seed alone.

use arrowhop_types::stream::{Stream, shuffle};
use arrowhop_types::{Part, Problems};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::spec::DataSpec;

/// Rows in their final order, before they are cut into shards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deal {
    /// Into how many shards.
    shards: u32,
    /// Training rows, shuffled.
    train: Vec<u32>,
    /// Validation rows, shuffled.
    validation: Vec<u32>,
    /// Test rows of the training source, ascending.
    pub(crate) test: Vec<u32>,
    /// All rows of the training source that training could use, ascending: what statistics are
    /// taken of, so that a bound on rows changes no width.
    pub(crate) candidates: Vec<u32>,
}

/// The rows of one batch, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BatchRows {
    /// Its shard.
    pub(crate) shard: u32,
    /// Its part.
    pub(crate) part: Part,
    /// Numbers of rows in the part's source.
    pub(crate) rows: Vec<u32>,
}

impl Deal {
    /// Deals out `train_rows` rows, and `validation_rows` where validation has a source of its own.
    pub(crate) fn new(
        spec: &DataSpec,
        train_rows: u32,
        validation_rows: Option<u32>,
    ) -> Result<Self, Problems> {
        let mut validation = Vec::new();
        let mut candidates: Vec<u32> = (0..train_rows).collect();
        if let Some(rows) = validation_rows {
            validation = (0..rows).collect();
            shuffle_with(&mut validation, spec.seed, Stream::Split);
        } else if let Some(fraction) = spec.validation_fraction {
            shuffle_with(&mut candidates, spec.seed, Stream::Split);
            let count = share(train_rows, fraction, train_rows, "validation_fraction")?;
            let rest = candidates.split_off(count);
            validation = std::mem::replace(&mut candidates, rest);
            candidates.sort_unstable();
        }
        let bound = bound(spec);
        let mut test = Vec::new();
        if let Some(fraction) = spec.test_fraction {
            // Of what validation leaves, so that a test changes no validation row.
            let left = u32::try_from(candidates.len()).expect("they are some of the rows");
            let count = share(train_rows, fraction, left, "test_fraction")?;
            let drawn = drawn_for_test(&candidates, spec.seed, count);
            candidates.retain(|row| drawn.binary_search(row).is_err());
            test = drawn_for_test(&drawn, spec.seed, bound);
        }
        let mut train = candidates.clone();
        shuffle_with(&mut train, spec.seed, Stream::Shuffle);
        train.truncate(bound);
        validation.truncate(bound);
        if train.len() < spec.shards as usize {
            let text = format!(
                "is {}, but there are only {} training rows; every shard needs at least one",
                spec.shards,
                train.len()
            );
            return Err(Problems::one("shards", text));
        }
        Ok(Self { shards: spec.shards, train, validation, test, candidates })
    }

    /// The first row of the training source that is used for training.
    pub(crate) fn first_row(&self) -> u32 {
        self.train.iter().copied().min().expect("every shard has a training row")
    }

    /// The batches of every shard, at most `batch_rows` each: shard by shard, training before
    /// validation.
    pub(crate) fn batches(&self, batch_rows: usize) -> Vec<BatchRows> {
        let mut batches = Vec::new();
        for shard in 0..self.shards {
            for (part, rows) in [(Part::Train, &self.train), (Part::Validation, &self.validation)] {
                for rows in hand(rows, shard as usize, self.shards as usize).chunks(batch_rows) {
                    batches.push(BatchRows { shard, part, rows: rows.to_vec() });
                }
            }
        }
        batches
    }
}

/// A shard's run of the shuffled rows: sizes differ by at most one, larger ones first.
fn hand(rows: &[u32], shard: usize, shards: usize) -> &[u32] {
    let (share, over) = (rows.len() / shards, rows.len() % shards);
    let start = shard * share + shard.min(over);
    &rows[start..start + share + usize::from(shard < over)]
}

/// At most so many rows are taken of each part.
pub(crate) fn bound(spec: &DataSpec) -> usize {
    spec.max_rows.and_then(|rows| usize::try_from(rows).ok()).unwrap_or(usize::MAX)
}

/// So many of these rows (ascending), or all, drawn for testing; ascending.
pub(crate) fn drawn_for_test(rows: &[u32], seed: u64, count: usize) -> Vec<u32> {
    let mut drawn = rows.to_vec();
    if count < drawn.len() {
        shuffle_with(&mut drawn, seed, Stream::Test);
        drawn.truncate(count);
        drawn.sort_unstable();
    }
    drawn
}

/// A share of rows, to the nearest row; neither none nor all of those that are left.
#[expect(clippy::cast_possible_truncation, reason = "a share of 2^31 rows fits")]
#[expect(clippy::cast_sign_loss, reason = "a share is positive")]
fn share(rows: u32, fraction: f64, left: u32, place: &str) -> Result<usize, Problems> {
    let taken = (f64::from(rows) * fraction).round() as u32;
    if taken == 0 || taken >= left {
        let text = format!(
            "is {fraction}, which of {rows} rows leaves none for one of the parts; \
             give another share, or more rows"
        );
        return Err(Problems::one(place, text));
    }
    Ok(taken as usize)
}

fn shuffle_with(rows: &mut [u32], seed: u64, stream: Stream) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(stream.id());
    shuffle(rows, || random.next_u32());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::fixtures::generated_spec;

    fn rows_of(deal: &Deal, part: Part) -> Vec<u32> {
        let batches = deal.batches(7);
        batches.into_iter().filter(|b| b.part == part).flat_map(|b| b.rows).collect()
    }

    proptest! {
        #[test]
        fn every_row_is_dealt_once_and_shards_differ_by_at_most_one(
            rows in 1_u32..500,
            shards in 1_u32..20,
            seed: u64,
            batch_rows in 1_usize..50,
        ) {
            prop_assume!(rows >= shards);
            let spec = DataSpec { shards, seed, ..generated_spec(0, 0) };
            let deal = Deal::new(&spec, rows, None).unwrap();
            let mut sizes = BTreeMap::new();
            let mut dealt: Vec<u32> = Vec::new();
            let batches = deal.batches(batch_rows);
            for (i, batch) in batches.iter().enumerate() {
                *sizes.entry(batch.shard).or_insert(0) += batch.rows.len();
                dealt.extend(&batch.rows);
                let is_last = batches.get(i + 1).is_none_or(|next| next.shard != batch.shard);
                prop_assert!(batch.rows.len() == batch_rows || is_last);
            }
            dealt.sort_unstable();
            prop_assert_eq!(dealt, (0..rows).collect::<Vec<_>>());
            prop_assert_eq!(sizes.len(), shards as usize);
            prop_assert!(sizes.values().max().unwrap() - sizes.values().min().unwrap() <= 1);
        }

        #[test]
        fn a_split_takes_its_share_and_shares_no_row(rows in 10_u32..500, fraction in 0.1_f64..0.9) {
            let spec = DataSpec {
                shards: 1,
                validation_fraction: Some(fraction),
                ..generated_spec(0, 0)
            };
            let deal = Deal::new(&spec, rows, None).unwrap();
            let (train, validation) =
                (rows_of(&deal, Part::Train), rows_of(&deal, Part::Validation));
            prop_assert_eq!(validation.len(), share(rows, fraction, rows, "").unwrap());
            let mut all: Vec<u32> = train.iter().chain(&validation).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..rows).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_test_takes_rows_from_training_alone_and_by_its_own_stream() {
        let plain = DataSpec {
            shards: 1,
            validation_fraction: Some(0.2),
            max_rows: None,
            ..generated_spec(0, 0)
        };
        let spec = DataSpec { test_fraction: Some(0.1), ..plain.clone() };
        let (without, with) =
            (Deal::new(&plain, 200, None).unwrap(), Deal::new(&spec, 200, None).unwrap());
        assert_eq!((with.test.len(), with.validation.len(), with.train.len()), (20, 40, 140));
        assert_eq!(with.validation, without.validation);
        let mut all = [&with.test[..], &with.validation, &with.candidates].concat();
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>());
        assert!(with.train.iter().all(|row| with.candidates.contains(row)));
        assert!(with.test.is_sorted() && with.test != (0..20).collect::<Vec<_>>());
        assert_eq!(Deal::new(&spec, 200, None).unwrap(), with);
        assert_ne!(
            Deal::new(&DataSpec { seed: 8, ..spec.clone() }, 200, None).unwrap().test,
            with.test
        );
        // A bound takes some of the same rows.
        let bounded =
            Deal::new(&DataSpec { max_rows: Some(5), ..spec.clone() }, 200, None).unwrap();
        assert_eq!((bounded.test.len(), bounded.candidates.len()), (5, 140));
        assert!(bounded.test.iter().all(|row| with.test.contains(row)));
        let greedy = DataSpec { test_fraction: Some(0.8), ..spec };
        assert_eq!(
            Deal::new(&greedy, 200, None).unwrap_err().to_string(),
            "test_fraction: is 0.8, which of 200 rows leaves none for one of the parts; \
             give another share, or more rows"
        );
    }

    #[test]
    fn a_bound_takes_a_random_subset_of_both_parts() {
        let spec = DataSpec { shards: 2, max_rows: Some(30), ..generated_spec(0, 0) };
        let deal = Deal::new(&spec, 1_000, Some(500)).unwrap();
        let (train, validation) = (rows_of(&deal, Part::Train), rows_of(&deal, Part::Validation));
        assert_eq!((train.len(), validation.len(), deal.candidates.len()), (30, 30, 1_000));
        assert!(train.iter().any(|&row| row > 500), "a sorted file must not lose its last classes");
        let unbounded = Deal::new(&DataSpec { max_rows: None, ..spec }, 1_000, Some(500)).unwrap();
        assert_eq!(rows_of(&unbounded, Part::Train)[..30], train);
    }

    #[test]
    fn the_order_follows_the_seed_and_stays_as_it_was() {
        let spec = DataSpec { shards: 1, seed: 7, ..generated_spec(0, 0) };
        let deal = Deal::new(&spec, 10, None).unwrap();
        assert_eq!(deal, Deal::new(&spec, 10, None).unwrap());
        assert_eq!(rows_of(&deal, Part::Train), PERMUTATION_OF_SEED_7);
        let other = Deal::new(&DataSpec { seed: 8, ..spec }, 10, None).unwrap();
        assert_ne!(rows_of(&other, Part::Train), PERMUTATION_OF_SEED_7);
    }

    /// A change here changes every data set's order: never edit it.
    const PERMUTATION_OF_SEED_7: [u32; 10] = [1, 5, 8, 7, 6, 2, 9, 0, 3, 4];

    #[test]
    fn too_few_rows_are_refused() {
        let spec = DataSpec { shards: 3, ..generated_spec(0, 0) };
        assert_eq!(
            Deal::new(&spec, 2, None).unwrap_err().to_string(),
            "shards: is 3, but there are only 2 training rows; every shard needs at least one"
        );
        let spec = DataSpec { validation_fraction: Some(0.1), ..spec };
        assert_eq!(
            Deal::new(&spec, 4, None).unwrap_err().to_string(),
            "validation_fraction: is 0.1, which of 4 rows leaves none for one of the parts; \
             give another share, or more rows"
        );
    }
}
