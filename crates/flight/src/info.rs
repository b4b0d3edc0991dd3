//! What is kept, as Flight describes it: one flight per part of a data set, one endpoint per shard.

use std::collections::BTreeMap;

use arrow::datatypes::{Schema, SchemaRef};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo};
use arrowhop_types::{DataSetId, Part, Problems, ShardId};
use arrowhop_wire::tickets::{DataSetName, PartPath, Ticket};
use bytes::Bytes;

use crate::decode::decode_schema;
use crate::encode::IPC_PREFIX_BYTES;
use crate::select::{SelectedPart, SelectedShard};
use crate::upload_file::encapsulated;
use crate::uploads::UploadListing;
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

/// What a query selects, as a peer describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelectionListing {
    /// The data set's name.
    pub name: String,
    /// The columns that are selected.
    pub schema: SchemaRef,
    /// Rows that are selected, over the shards.
    pub rows: u64,
    /// Bytes of their values, about.
    pub bytes: u64,
    /// What to ask for and where, shard by shard; nowhere named is where the listing came from.
    pub endpoints: Vec<(Ticket, Vec<String>)>,
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

/// A flight, as the server at `here` describes it.
pub(crate) fn flight_info(part: &SelectedPart, here: &str) -> Result<FlightInfo, FlightError> {
    let mut info = FlightInfo::new()
        .try_with_schema(&part.schema)?
        .with_descriptor(part.descriptor())
        .with_app_metadata(part.name.clone())
        .with_total_records(total(part, |shard| shard.rows))
        .with_total_bytes(total(part, |shard| shard.bytes));
    for SelectedShard { shard, ticket, locations, .. } in &part.shards {
        let endpoint = FlightEndpoint::new()
            .with_ticket(arrow_flight::Ticket::new(ticket.encode()))
            .with_app_metadata(shard.to_string());
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

/// The flight of an upload.
pub(crate) fn upload_info(upload: &UploadListing, here: &str) -> FlightInfo {
    let ticket = Ticket::Upload(upload.name.clone()).encode();
    let endpoint =
        FlightEndpoint::new().with_ticket(arrow_flight::Ticket::new(ticket)).with_location(here);
    let mut info = FlightInfo::new()
        .with_descriptor(FlightDescriptor::new_path(upload.name.to_path()))
        .with_app_metadata(upload.name.to_string())
        .with_total_records(i64::try_from(upload.rows).unwrap_or(i64::MAX))
        .with_total_bytes(i64::try_from(upload.bytes).unwrap_or(i64::MAX))
        .with_endpoint(endpoint);
    // Flight has schemas as they lie in a stream.
    [info.schema, _] = encapsulated(&upload.schema, &Bytes::new());
    info
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

impl TryFrom<FlightInfo> for SelectionListing {
    type Error = FlightError;

    fn try_from(info: FlightInfo) -> Result<Self, FlightError> {
        let endpoint = |endpoint: FlightEndpoint| {
            let ticket = endpoint.ticket.unwrap_or_default();
            let ticket = Ticket::try_from(&*ticket.ticket)?;
            let locations = endpoint.location.into_iter().map(|place| place.uri).collect();
            Ok((ticket, locations))
        };
        let endpoints = info.endpoint.into_iter().map(endpoint).collect::<Result<_, Problems>>()?;
        Ok(Self {
            name: String::from_utf8_lossy(&info.app_metadata).into_owned(),
            schema: decode_schema(info.schema.get(IPC_PREFIX_BYTES..).unwrap_or_default())?.into(),
            rows: u64::try_from(info.total_records).unwrap_or(0),
            bytes: u64::try_from(info.total_bytes).unwrap_or(0),
            endpoints,
        })
    }
}

/// A sum as Flight counts: signed.
fn total(part: &SelectedPart, count: impl Fn(&SelectedShard) -> u64) -> i64 {
    i64::try_from(part.shards.iter().map(count).sum::<u64>()).unwrap_or(i64::MAX)
}
