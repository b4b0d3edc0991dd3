//! The segment's stores as the Flight server sees them: questions to its actors.

use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use arrowhop_flight::{
    ByteBudget, CachedShard, FlightError, ModelStore, ModelTicket, ShardHeader, ShardListing,
    ShardStore, ShardTicket, StateBytes, StoredModel,
};
use arrowhop_runtime::{AskError, ask};
use arrowhop_types::{Classify, DataSetId};

use crate::actors::host::{FindModel, ListModels};
use crate::actors::model::{ListStates, StateOf};
use crate::actors::shards::{DropDataSet, FindShard, KeepShard, ListShards};

const TIMEOUT: Duration = Duration::from_secs(10);

/// An actor that does not answer is the store's failure.
fn unanswered(error: AskError) -> FlightError {
    FlightError::Store { action: "ask the segment", class: error.class(), source: error.into() }
}

/// The shard cache.
pub(crate) struct Cache {
    pub(crate) budget: Arc<ByteBudget>,
    pub(crate) list: Recipient<ListShards>,
    pub(crate) find: Recipient<FindShard>,
    pub(crate) keep: Recipient<KeepShard>,
    pub(crate) drop: Recipient<DropDataSet>,
}

/// The resident models.
pub(crate) struct Models {
    pub(crate) list: Recipient<ListModels>,
    pub(crate) find: Recipient<FindModel>,
}

#[tonic::async_trait]
impl ShardStore for Cache {
    async fn list(&self) -> Result<Vec<ShardListing>, FlightError> {
        Ok(ask(&self.list, ListShards, TIMEOUT).await.map_err(unanswered)?)
    }

    async fn shard(&self, shard: ShardTicket) -> Result<Arc<CachedShard>, FlightError> {
        ask(&self.find, FindShard(shard), TIMEOUT).await.map_err(unanswered)?
    }

    fn budget(&self) -> &Arc<ByteBudget> {
        &self.budget
    }

    async fn put(&self, header: ShardHeader, content: CachedShard) -> Result<(), FlightError> {
        let keep = KeepShard { header, content: Box::new(content) };
        ask(&self.keep, keep, TIMEOUT).await.map_err(unanswered)
    }

    async fn drop_data_set(&self, data_set: DataSetId) -> Result<(), FlightError> {
        ask(&self.drop, DropDataSet(data_set), TIMEOUT).await.map_err(unanswered)?
    }
}

#[tonic::async_trait]
impl ModelStore for Models {
    async fn list(&self) -> Result<Vec<StoredModel>, FlightError> {
        let mut listed = Vec::new();
        for (run, model, holder) in
            ask(&self.list, ListModels, TIMEOUT).await.map_err(unanswered)?
        {
            // A model that leaves meanwhile has nothing to list.
            let states = ask(&holder, ListStates, TIMEOUT).await.unwrap_or_default();
            listed.extend(states.into_iter().map(|(version, state)| StoredModel {
                model: ModelTicket { run, model, version },
                bytes: state.bytes.len() as u64,
                digest: state.digest,
            }));
        }
        Ok(listed)
    }

    async fn state(&self, ticket: ModelTicket) -> Result<StateBytes, FlightError> {
        let missing = || FlightError::MissingModel(ticket);
        let find = FindModel(ticket.run, ticket.model);
        let holder = ask(&self.find, find, TIMEOUT).await.map_err(unanswered)?;
        let state = ask(&holder.ok_or_else(missing)?, StateOf(ticket.version), TIMEOUT).await;
        state.map_err(unanswered)?.ok_or_else(missing)
    }
}
