//! Stores that are just maps in memory: for tests, and for programs without actors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use arrowhop_types::DataSetId;
use arrowhop_wire::tickets::{ModelTicket, ShardHeader, ShardTicket, StoredModel};

use crate::{
    ByteBudget, CachedShard, FlightError, ModelStore, ShardListing, ShardStore, StateBytes,
};

/// Shards in memory.
#[derive(Debug)]
pub struct MemoryShards {
    budget: Arc<ByteBudget>,
    shards: Mutex<BTreeMap<ShardTicket, (String, Arc<CachedShard>)>>,
}

/// States in memory. Unbounded: whoever inserts decides how much.
#[derive(Debug, Default)]
pub struct MemoryModels {
    states: Mutex<BTreeMap<ModelTicket, StateBytes>>,
}

impl MemoryShards {
    /// An empty store for at most `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { budget: ByteBudget::new(limit), shards: Mutex::default() }
    }
}

impl MemoryModels {
    /// Keeps a state, instead of any that had the same ticket.
    pub fn insert(&self, model: ModelTicket, state: StateBytes) {
        held(&self.states).insert(model, state);
    }

    /// Forgets a state; says whether it was there.
    pub fn remove(&self, model: ModelTicket) -> bool {
        held(&self.states).remove(&model).is_some()
    }
}

#[tonic::async_trait]
impl ShardStore for MemoryShards {
    async fn list(&self) -> Result<Vec<ShardListing>, FlightError> {
        let list =
            |(shard, (name, content)): (&ShardTicket, &(String, Arc<CachedShard>))| ShardListing {
                shard: *shard,
                name: name.clone(),
                rows: content.rows(),
                bytes: content.bytes(),
                schema: Arc::clone(content.schema()),
            };
        Ok(held(&self.shards).iter().map(list).collect())
    }

    async fn shard(&self, shard: ShardTicket) -> Result<Arc<CachedShard>, FlightError> {
        let shards = held(&self.shards);
        let (_, content) = shards.get(&shard).ok_or(FlightError::MissingShard(shard))?;
        Ok(Arc::clone(content))
    }

    fn budget(&self) -> &Arc<ByteBudget> {
        &self.budget
    }

    async fn put(&self, header: ShardHeader, content: CachedShard) -> Result<(), FlightError> {
        held(&self.shards).insert(header.shard, (header.name, Arc::new(content)));
        Ok(())
    }

    async fn drop_data_set(&self, data_set: DataSetId) -> Result<(), FlightError> {
        let mut shards = held(&self.shards);
        let before = shards.len();
        shards.retain(|shard, _| shard.data_set != data_set);
        if shards.len() == before {
            return Err(FlightError::MissingDataSet { name: data_set.to_string() });
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl ModelStore for MemoryModels {
    async fn list(&self) -> Result<Vec<StoredModel>, FlightError> {
        let list = |(model, state): (&ModelTicket, &StateBytes)| StoredModel {
            model: *model,
            bytes: state.bytes.len() as u64,
            digest: state.digest,
        };
        Ok(held(&self.states).iter().map(list).collect())
    }

    async fn state(&self, model: ModelTicket) -> Result<StateBytes, FlightError> {
        held(&self.states).get(&model).cloned().ok_or(FlightError::MissingModel(model))
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no one panics while holding a store")
}
