//! The shards of the cluster, as the supervisor lists them. It keeps none: it asks the attached
//! segments what they keep, so that a client that knows only the supervisor finds every data set,
//! and reads each shard straight from its segment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::Recipient;
use arrowhop_flight::{
    ByteBudget, CachedShard, FlightError, FlightPeer, LocatedShard, Reservation, ShardHeader,
    ShardListing, ShardStore, ShardTicket, connect, merge,
};
use arrowhop_runtime::ask;
use arrowhop_types::{Classify, DataSetId, Problems};
use arrowhop_wire::status::status_of;
use futures::future::join_all;
use tracing::warn;

use crate::actors::hopper::ListSegments;

const HOPPER_TIMEOUT: Duration = Duration::from_secs(10);
/// A segment that does not answer within this is left out of a listing.
const SEGMENT_TIMEOUT: Duration = Duration::from_secs(3);

/// What the attached segments keep.
pub(crate) struct Federation {
    segments: Recipient<ListSegments>,
    /// Connections, by location; to segments that were attached when last asked for.
    peers: Mutex<BTreeMap<String, FlightPeer>>,
    /// Nothing is kept here, so nothing may be taken.
    budget: Arc<ByteBudget>,
}

impl Federation {
    /// Asks the segments that `segments` lists.
    pub(crate) fn new(segments: Recipient<ListSegments>) -> Self {
        Self { segments, peers: Mutex::default(), budget: ByteBudget::new(0) }
    }

    /// What each attached segment keeps, by segment number; all are asked at once.
    async fn holdings(&self) -> Result<Vec<(String, Vec<ShardListing>)>, FlightError> {
        let segments = ask(&self.segments, ListSegments, HOPPER_TIMEOUT).await;
        let segments = segments.map_err(|error| FlightError::Store {
            action: "list the segments",
            class: error.class(),
            source: error.into(),
        })?;
        let uris: Vec<_> = segments.into_iter().map(|segment| segment.uri).collect();
        self.peers().retain(|uri, _| uris.contains(uri));
        let answers = join_all(uris.into_iter().map(async |uri| {
            let shards = self.held_at(&uri).await;
            Some((uri, shards?))
        }));
        Ok(answers.await.into_iter().flatten().collect())
    }

    /// What one segment keeps; `None`, after a warning, when it does not say in time.
    async fn held_at(&self, uri: &str) -> Option<Vec<ShardListing>> {
        let asked = tokio::time::timeout(SEGMENT_TIMEOUT, async {
            self.peer(uri).await?.shards(SEGMENT_TIMEOUT).await
        });
        let late = FlightError::TimedOut { action: "list its shards", limit: SEGMENT_TIMEOUT };
        match asked.await.unwrap_or(Err(late)) {
            Ok(shards) => Some(shards),
            Err(error) => {
                self.peers().remove(uri);
                let reason = status_of(&error).message().to_owned();
                warn!(uri, reason, "a segment's shards are left out of a listing");
                None
            }
        }
    }

    /// The connection to a segment, made when first needed.
    async fn peer(&self, uri: &str) -> Result<FlightPeer, FlightError> {
        let known = self.peers().get(uri).cloned();
        if let Some(peer) = known {
            return Ok(peer);
        }
        let peer = FlightPeer::new(connect(uri, SEGMENT_TIMEOUT).await?);
        self.peers().insert(uri.to_owned(), peer.clone());
        Ok(peer)
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, FlightPeer>> {
        self.peers.lock().expect("no one panics while holding the connections")
    }
}

#[tonic::async_trait]
impl ShardStore for Federation {
    /// Nothing: the segments keep the shards.
    async fn list(&self) -> Result<Vec<ShardListing>, FlightError> {
        Ok(Vec::new())
    }

    async fn locate(&self) -> Result<Vec<LocatedShard>, FlightError> {
        Ok(merge(self.holdings().await?))
    }

    async fn shard(&self, shard: ShardTicket) -> Result<Arc<CachedShard>, FlightError> {
        let located = self.locate().await?.into_iter().find(|found| found.listing.shard == shard);
        let location = located.and_then(|found| found.locations.into_iter().next());
        Err(location.map_or(FlightError::MissingShard(shard), |location| {
            FlightError::Elsewhere { shard, location }
        }))
    }

    fn budget(&self) -> &Arc<ByteBudget> {
        &self.budget
    }

    async fn reserve(&self, _: &ShardHeader) -> Result<Reservation, FlightError> {
        Err(not_here("put", "shards are put on segments, not on the supervisor"))
    }

    async fn put(&self, _: ShardHeader, _: CachedShard) -> Result<(), FlightError> {
        unreachable!("nothing is put where nothing can be reserved")
    }

    async fn drop_data_set(&self, _: DataSetId) -> Result<(), FlightError> {
        Err(not_here("drop-data-set", "data sets are dropped on each segment that has shards of one"))
    }
}

/// The refusal of what only a segment does.
fn not_here(place: &str, text: &str) -> FlightError {
    Problems::one(place, format!("{text}; ListFlights says where each shard is")).into()
}
