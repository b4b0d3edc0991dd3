//! What a segment must be able to do so that its shards and states can be served. Implemented by
//! the segment's actors, and by [`crate::MemoryShards`] and [`crate::MemoryModels`].

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrowhop_types::DataSetId;
use arrowhop_wire::tickets::{ModelTicket, ShardHeader, ShardTicket, StoredModel};

use crate::{
    ByteBudget, CachedShard, FlightError, LocatedShard, Reservation, ShardFolder, StateBytes,
};

/// One part of one shard, as it is listed.
#[derive(Debug, Clone)]
pub struct ShardListing {
    /// What it is.
    pub shard: ShardTicket,
    /// The data set's name.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its columns.
    pub schema: SchemaRef,
}

/// Keeps shards.
#[tonic::async_trait]
pub trait ShardStore: Send + Sync + 'static {
    /// What is kept, in the tickets' order.
    async fn list(&self) -> Result<Vec<ShardListing>, FlightError>;

    /// What readers are told of, in the tickets' order, and where they find it: what is kept here,
    /// unless the store knows of more.
    async fn locate(&self) -> Result<Vec<LocatedShard>, FlightError> {
        Ok(self.list().await?.into_iter().map(LocatedShard::here).collect())
    }

    /// A shard, or [`FlightError::MissingShard`], or [`FlightError::Elsewhere`].
    async fn shard(&self, shard: ShardTicket) -> Result<Arc<CachedShard>, FlightError>;

    /// Where the memory of uploads comes from. It is reserved before an upload's first batch, tied
    /// to the shard that came of it, and given back when that is dropped, or never came about.
    fn budget(&self) -> &Arc<ByteBudget>;

    /// The folder where uploads go, if there is one: they are served from there as far as the budget
    /// has no room for them.
    fn folder(&self) -> Option<&ShardFolder> {
        None
    }

    /// The data sets that somebody works on, whose files must stay.
    async fn in_use(&self) -> Result<Vec<DataSetId>, FlightError> {
        Ok(Vec::new())
    }

    /// Takes the memory of an upload out of the budget; a store that takes no uploads refuses.
    async fn reserve(&self, header: &ShardHeader) -> Result<Reservation, FlightError> {
        self.budget().reserve(header.bytes)
    }

    /// Keeps a shard that arrived whole, instead of any that had the same ticket.
    async fn put(&self, header: ShardHeader, content: CachedShard) -> Result<(), FlightError>;

    /// Drops all shards of a data set, or says [`FlightError::MissingDataSet`].
    async fn drop_data_set(&self, data_set: DataSetId) -> Result<(), FlightError>;
}

/// Keeps models' states.
#[tonic::async_trait]
pub trait ModelStore: Send + Sync + 'static {
    /// What is kept, in the tickets' order.
    async fn list(&self) -> Result<Vec<StoredModel>, FlightError>;

    /// A state, or [`FlightError::MissingModel`].
    async fn state(&self, model: ModelTicket) -> Result<StateBytes, FlightError>;

    /// Bytes of the largest state that may be put here; most stores take none.
    fn put_bytes_max(&self) -> u64 {
        0
    }

    /// Takes a state that arrived whole, under its digest.
    async fn put(&self, _: StateBytes) -> Result<(), FlightError> {
        let text = "takes no states here; put them on the supervisor";
        Err(arrowhop_types::Problems::one("put", text).into())
    }
}
