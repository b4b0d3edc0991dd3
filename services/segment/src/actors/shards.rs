//! The shard cache: which parts of which shards are open, in memory or mapped. It hands out shared
//! snapshots, never bytes, and never touches a stream. What it has only in its folder is opened when it is
//! asked for.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::fut::{ActorFutureExt, ready, wrap_future};
use actix::{Actor, Context, Handler, Message, ResponseActFuture};
use arrowhop_flight::{
    ByteBudget, CachedShard, FlightError, ShardFolder, ShardHeader, ShardListing, ShardTicket,
};
use arrowhop_types::DataSetId;

/// Parts of shards, by ticket.
pub(crate) struct Shards {
    parts: BTreeMap<ShardTicket, Part>,
    folder: Option<ShardFolder>,
    budget: Arc<ByteBudget>,
}

impl Shards {
    pub(crate) fn new(folder: Option<ShardFolder>, budget: Arc<ByteBudget>) -> Self {
        Self { parts: BTreeMap::new(), folder, budget }
    }
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

/// Which data sets does somebody work on?
#[derive(Message)]
#[rtype(result = "Vec<DataSetId>")]
pub(crate) struct InUse;

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
    type Result = ResponseActFuture<Self, Result<Arc<CachedShard>, FlightError>>;

    fn handle(&mut self, FindShard(shard): FindShard, _: &mut Context<Self>) -> Self::Result {
        if let Some(part) = self.parts.get(&shard) {
            return Box::pin(ready(Ok(Arc::clone(&part.content))));
        }
        let Some(folder) = self.folder.clone() else {
            return Box::pin(ready(Err(FlightError::MissingShard(shard))));
        };
        let budget = Arc::clone(&self.budget);
        let open = tokio::task::spawn_blocking(move || {
            let content = folder.open(shard, &budget)?;
            folder.touch(shard.data_set);
            Ok::<_, FlightError>((folder.name(shard.data_set)?, content))
        });
        let opened = wrap_future::<_, Self>(open);
        Box::pin(opened.map(move |opened, shards: &mut Self, _| {
            let (name, content) = opened.expect("opening a shard does not panic")?;
            // Whoever asked at the same time may have been first.
            let part = shards.parts.entry(shard);
            let part = part.or_insert_with(|| Part { name, content: Arc::new(content) });
            Ok(Arc::clone(&part.content))
        }))
    }
}

impl Handler<InUse> for Shards {
    type Result = Vec<DataSetId>;

    fn handle(&mut self, _: InUse, _: &mut Context<Self>) -> Vec<DataSetId> {
        if let Some(folder) = &self.folder {
            // Files that were removed take room until they are closed.
            self.parts.retain(|shard, part| {
                Arc::strong_count(&part.content) > 1
                    || !part.content.is_mapped()
                    || folder.of(shard.data_set).is_dir()
            });
        }
        let used = self.parts.iter().filter(|(_, part)| Arc::strong_count(&part.content) > 1);
        let mut used: Vec<_> = used.map(|(shard, _)| shard.data_set).collect();
        used.dedup();
        used
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
