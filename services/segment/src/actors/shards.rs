//! The shard cache: which parts of which shards are in memory. It hands out shared snapshots, never
//! bytes, and never touches a stream.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::{Actor, Context, Handler, Message};
use arrowhop_flight::{CachedShard, FlightError, ShardHeader, ShardListing, ShardTicket};
use arrowhop_types::DataSetId;

/// Parts of shards, by ticket.
#[derive(Default)]
pub(crate) struct Shards {
    parts: BTreeMap<ShardTicket, Part>,
}

struct Part {
    name: String,
    content: Arc<CachedShard>,
}

/// What is in the cache?
#[derive(Message)]
#[rtype(result = "Vec<ShardListing>")]
pub(crate) struct ListShards;

/// A part of a shard.
#[derive(Message)]
#[rtype(result = "Result<Arc<CachedShard>, FlightError>")]
pub(crate) struct FindShard(pub(crate) ShardTicket);

/// Keep a part that has arrived whole.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct KeepShard {
    pub(crate) header: ShardHeader,
    pub(crate) content: Box<CachedShard>,
}

/// Forget a data set. Visits that are going on keep what they read.
#[derive(Message)]
#[rtype(result = "Result<(), FlightError>")]
pub(crate) struct DropDataSet(pub(crate) DataSetId);

impl Actor for Shards {
    type Context = Context<Self>;
}

impl Handler<ListShards> for Shards {
    type Result = Vec<ShardListing>;

    fn handle(&mut self, _: ListShards, _: &mut Context<Self>) -> Vec<ShardListing> {
        let listing = |(shard, part): (&ShardTicket, &Part)| ShardListing {
            shard: *shard,
            name: part.name.clone(),
            rows: part.content.rows(),
            bytes: part.content.bytes(),
            schema: Arc::clone(part.content.schema()),
        };
        self.parts.iter().map(listing).collect()
    }
}

impl Handler<FindShard> for Shards {
    type Result = Result<Arc<CachedShard>, FlightError>;

    fn handle(&mut self, find: FindShard, _: &mut Context<Self>) -> Self::Result {
        let part = self.parts.get(&find.0).ok_or(FlightError::MissingShard(find.0))?;
        Ok(Arc::clone(&part.content))
    }
}

impl Handler<KeepShard> for Shards {
    type Result = ();

    fn handle(&mut self, keep: KeepShard, _: &mut Context<Self>) {
        let part = Part { name: keep.header.name, content: Arc::new(*keep.content) };
        self.parts.insert(keep.header.shard, part);
    }
}

impl Handler<DropDataSet> for Shards {
    type Result = Result<(), FlightError>;

    fn handle(&mut self, drop: DropDataSet, _: &mut Context<Self>) -> Self::Result {
        let before = self.parts.len();
        self.parts.retain(|shard, _| shard.data_set != drop.0);
        if self.parts.len() == before {
            return Err(FlightError::MissingDataSet { name: drop.0.to_string() });
        }
        Ok(())
    }
}
