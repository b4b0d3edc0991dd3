//! The segment's stores as the Flight server sees them: questions to its actors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::Recipient;
use arrowhop_flight::{
    ByteBudget, CachedShard, FlightError, ModelStore, ModelTicket, ShardFolder, ShardHeader,
    ShardListing, ShardStore, ShardTicket, StateBytes, StoredModel,
};
use arrowhop_runtime::{AskError, ask};
use arrowhop_types::{Classify, DataSetId};

use crate::actors::host::{FindModel, ListModels};
use crate::actors::model::{ListStates, StateOf};
use crate::actors::shards::{DropDataSet, FindShard, InUse, KeepShard, ListShards};

const TIMEOUT: Duration = Duration::from_secs(10);
/// A shard may be read from a disk first; 10 GB at 100 MB/s.
pub(crate) const FIND_TIMEOUT: Duration = Duration::from_secs(100);

/// An actor that does not answer is the store's failure.
fn unanswered(error: AskError) -> FlightError {
    FlightError::Store { action: "ask the segment", class: error.class(), source: error.into() }
}

/// The shard cache.
pub(crate) struct Cache {
    pub(crate) budget: Arc<ByteBudget>,
    pub(crate) folder: Option<ShardFolder>,
    pub(crate) in_use: Recipient<InUse>,
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
        let open = ask(&self.list, ListShards, TIMEOUT).await.map_err(unanswered)?;
        let Some(folder) = self.folder.clone() else { return Ok(open) };
        let on_disk = tokio::task::spawn_blocking(move || folder.list()).await;
        let on_disk = on_disk.expect("listing a folder does not panic")?;
        let all = on_disk.into_iter().chain(open).map(|listing| (listing.shard, listing));
        Ok(all.collect::<BTreeMap<_, _>>().into_values().collect())
    }

    async fn shard(&self, shard: ShardTicket) -> Result<Arc<CachedShard>, FlightError> {
        ask(&self.find, FindShard(shard), FIND_TIMEOUT).await.map_err(unanswered)?
    }

    fn budget(&self) -> &Arc<ByteBudget> {
        &self.budget
    }

    fn folder(&self) -> Option<&ShardFolder> {
        self.folder.as_ref()
    }

    async fn in_use(&self) -> Result<Vec<DataSetId>, FlightError> {
        ask(&self.in_use, InUse, TIMEOUT).await.map_err(unanswered)
    }

    async fn put(&self, header: ShardHeader, content: CachedShard) -> Result<(), FlightError> {
        let keep = KeepShard { header, content: Box::new(content) };
        ask(&self.keep, keep, TIMEOUT).await.map_err(unanswered)
    }

    async fn drop_data_set(&self, data_set: DataSetId) -> Result<(), FlightError> {
        let was_open = ask(&self.drop, DropDataSet(data_set), TIMEOUT).await.map_err(unanswered)?;
        let Some(folder) = self.folder.clone() else { return was_open };
        let removed = tokio::task::spawn_blocking(move || folder.remove(data_set)).await;
        if removed.expect("removing a folder does not panic")? { Ok(()) } else { was_open }
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
