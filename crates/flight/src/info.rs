//! What is kept, as Flight describes it: one flight per part of a data set, one endpoint per shard.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::Schema;
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo};
use arrowhop_types::{DataSetId, Part, Problems, ShardId};
use arrowhop_wire::tickets::{DataSetName, PartPath, Ticket};

use crate::decode::decode_schema;
use crate::encode::IPC_PREFIX_BYTES;
use crate::{FlightError, LocatedShard, ShardListing};

/// One part of a data set, as a peer lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartListing {
    /// Which part of which data set, by its id.
    pub path: PartPath,
    /// The data set's name.
    pub name: String,
    /// The columns.
    pub schema: Schema,
    /// Rows over the shards.
    pub rows: u64,
    /// Bytes over the shards.
    pub bytes: u64,
    /// The shards that the peer has.
    pub shards: Vec<ShardId>,
}

/// The shards of one part of one data set, by number.
pub(crate) type PartShards = Vec<LocatedShard>;

/// Listings by data set and part.
pub(crate) fn by_part(shards: Vec<LocatedShard>) -> BTreeMap<(DataSetId, Part), PartShards> {
    let mut parts: BTreeMap<_, PartShards> = BTreeMap::new();
    for located in shards {
        let shard = located.listing.shard;
        parts.entry((shard.data_set, shard.part)).or_default().push(located);
    }
    parts.values_mut().for_each(|shards| shards.sort_by_key(|located| located.listing.shard));
    parts
}

/// Whether a listing belongs to the data set that somebody named.
pub(crate) fn is_named(listing: &ShardListing, name: &DataSetName) -> bool {
    match name {
        DataSetName::Id(id) => listing.shard.data_set == *id,
        DataSetName::Name(name) => listing.name == *name,
    }
}

/// The shards that a descriptor names.
pub(crate) fn find(
    descriptor: &FlightDescriptor,
    mut shards: Vec<LocatedShard>,
) -> Result<PartShards, FlightError> {
    if !descriptor.cmd.is_empty() {
        let text = "is for DoPut alone; use a path such as [\"cifar10\", \"train\"]";
        return Err(Problems::one("descriptor.cmd", text).into());
    }
    let path = PartPath::try_from(&*descriptor.path)?;
    shards.retain(|located| is_named(&located.listing, &path.data_set));
    let name = descriptor.path.join("/");
    let ids: BTreeSet<_> = shards.iter().map(|located| located.listing.shard.data_set).collect();
    match ids.len() {
        0 | 1 => {}
        count => return Err(FlightError::AmbiguousName { name, count }),
    }
    shards.retain(|located| located.listing.shard.part == path.part);
    by_part(shards).into_values().next().ok_or(FlightError::MissingDataSet { name })
}

/// The flight of a part, as the server at `here` describes it.
pub(crate) fn flight_info(shards: &PartShards, here: &str) -> Result<FlightInfo, FlightError> {
    let first = &shards.first().expect("a part is listed because it has a shard").listing;
    let path = PartPath { data_set: DataSetName::Id(first.shard.data_set), part: first.shard.part };
    let mut info = FlightInfo::new()
        .try_with_schema(&first.schema)?
        .with_descriptor(FlightDescriptor::new_path(path.to_path()))
        .with_app_metadata(first.name.clone())
        .with_total_records(total(shards, |listing| listing.rows))
        .with_total_bytes(total(shards, |listing| listing.bytes));
    for LocatedShard { listing, locations } in shards {
        let endpoint = FlightEndpoint::new()
            .with_ticket(arrow_flight::Ticket::new(Ticket::Shard(listing.shard).encode()))
            .with_app_metadata(listing.shard.shard.to_string());
        let endpoint = match locations.as_slice() {
            [] => endpoint.with_location(here),
            elsewhere => {
                elsewhere.iter().fold(endpoint, |endpoint, uri| endpoint.with_location(uri))
            }
        };
        info = info.with_endpoint(endpoint);
    }
    Ok(info)
}

impl TryFrom<FlightInfo> for PartListing {
    type Error = FlightError;

    fn try_from(info: FlightInfo) -> Result<Self, FlightError> {
        let refuse = |text: &str| Problems::one("flight info", text);
        let descriptor = info.flight_descriptor.as_ref();
        let path = descriptor.ok_or_else(|| refuse("lacks a descriptor"))?.path.as_slice();
        let shards = info.endpoint.iter().map(|endpoint| {
            let number = std::str::from_utf8(&endpoint.app_metadata).ok();
            let number = number.and_then(|number| number.parse().ok());
            number.map(ShardId).ok_or_else(|| refuse("has an endpoint without a shard's number"))
        });
        Ok(Self {
            path: path.try_into()?,
            name: String::from_utf8_lossy(&info.app_metadata).into_owned(),
            rows: u64::try_from(info.total_records).unwrap_or(0),
            bytes: u64::try_from(info.total_bytes).unwrap_or(0),
            shards: shards.collect::<Result<_, _>>()?,
            schema: decode_schema(info.schema.get(IPC_PREFIX_BYTES..).unwrap_or_default())?,
        })
    }
}

/// A sum as Flight counts: signed.
fn total(shards: &PartShards, count: impl Fn(&ShardListing) -> u64) -> i64 {
    i64::try_from(shards.iter().map(|located| count(&located.listing)).sum::<u64>())
        .unwrap_or(i64::MAX)
}
