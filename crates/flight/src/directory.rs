//! What several peers keep, as one listing: each shard once, with every place where it can be read.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use arrowhop_wire::tickets::ShardTicket;
use tracing::warn;

use crate::ShardListing;

/// A shard, and where it is read.
#[derive(Debug, Clone)]
pub struct LocatedShard {
    /// The shard.
    pub listing: ShardListing,
    /// Locations such as `grpc://10.0.0.7:7410`, each as good as the others; none when the shard is
    /// read from the server that lists it.
    pub locations: Vec<String>,
}

impl LocatedShard {
    /// A shard that is read from the server that lists it.
    #[must_use]
    pub fn here(listing: ShardListing) -> Self {
        Self { listing, locations: Vec::new() }
    }
}

/// One listing out of those of several peers, each given with its location, in the tickets' order.
///
/// A data set is named by its content, so copies of a shard are interchangeable: it is listed once,
/// with the locations of all its copies. A copy that contradicts the first is left out.
pub fn merge(peers: impl IntoIterator<Item = (String, Vec<ShardListing>)>) -> Vec<LocatedShard> {
    let mut merged: BTreeMap<ShardTicket, LocatedShard> = BTreeMap::new();
    for (location, listings) in peers {
        for listing in listings {
            let locations = vec![location.clone()];
            match merged.entry(listing.shard) {
                Entry::Vacant(place) => {
                    place.insert(LocatedShard { listing, locations });
                }
                Entry::Occupied(mut first) if are_copies(&first.get().listing, &listing) => {
                    first.get_mut().locations.extend(locations);
                }
                Entry::Occupied(first) => {
                    let ShardTicket { data_set, shard, part } = listing.shard;
                    let (part, other) = (part.name(), &first.get().locations[0]);
                    warn!(%data_set, %shard, part, location, other, "copies of a shard differ");
                }
            }
        }
    }
    merged.into_values().collect()
}

/// As far as listings tell.
fn are_copies(one: &ShardListing, other: &ShardListing) -> bool {
    one.rows == other.rows && one.schema == other.schema
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::{DataType, Field, Schema};
    use arrowhop_types::{DataSetId, Digest, Part, ShardId};

    use super::*;

    fn listing(shard: u32, rows: u64) -> ShardListing {
        let data_set = DataSetId(Digest([7; 32]));
        ShardListing {
            shard: ShardTicket { data_set, shard: ShardId(shard), part: Part::Train },
            name: "iris".into(),
            rows,
            bytes: 100 * rows,
            schema: Arc::new(Schema::new(vec![Field::new("row", DataType::UInt64, false)])),
        }
    }

    #[test]
    fn a_shard_is_listed_once_with_the_locations_of_its_copies() {
        let other_schema = ShardListing { schema: Arc::new(Schema::empty()), ..listing(1, 9) };
        let merged = merge([
            ("grpc://a:1".to_owned(), vec![listing(2, 5), listing(0, 8)]),
            ("grpc://b:1".to_owned(), vec![listing(1, 9), listing(2, 5)]),
            ("grpc://c:1".to_owned(), vec![listing(0, 7), other_schema, listing(2, 5)]),
        ]);
        let found: Vec<_> = merged
            .iter()
            .map(|found| (found.listing.shard.shard.0, found.listing.rows, &*found.locations))
            .collect();
        let [a, b, c] = ["grpc://a:1", "grpc://b:1", "grpc://c:1"].map(ToOwned::to_owned);
        assert_eq!(
            found,
            [(0, 8, &[a.clone()][..]), (1, 9, &[b.clone()][..]), (2, 5, &[a, b, c][..])]
        );
    }
}
