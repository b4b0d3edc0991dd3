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
        Err(location.map_or(FlightError::MissingShard(shard), |location| FlightError::Elsewhere {
            shard,
            location,
        }))
    }

    fn budget(&self) -> &Arc<ByteBudget> {
        &self.budget
    }

    async fn reserve(&self, _: &ShardHeader) -> Result<Reservation, FlightError> {
        Err(not_put_here())
    }

    async fn put(&self, _: ShardHeader, _: CachedShard) -> Result<(), FlightError> {
        Err(not_put_here())
    }

    async fn drop_data_set(&self, data_set: DataSetId) -> Result<(), FlightError> {
        let text =
            "has no shards on the supervisor; drop it on each segment that ListFlights names";
        Err(Problems::one(format!("data set {data_set}"), text).into())
    }
}

fn not_put_here() -> FlightError {
    let text = "is for a segment, not for the supervisor; ListFlights says which shards are where, \
                and the control service's Segments which segments there are";
    Problems::one("put", text).into()
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context, Handler};
    use arrowhop_flight::{FlightServer, MemoryModels, MemoryShards, incoming, server_builder};
    use arrowhop_runtime::Actors;
    use arrowhop_types::{Digest, ErrorClass, Part, ShardId};
    use arrowhop_wire::control::SegmentInfo;
    use tokio::net::TcpListener;

    use super::*;

    /// Says that the segments at these locations are attached.
    struct Attached(Vec<String>);

    impl Actor for Attached {
        type Context = Context<Self>;
    }

    impl Handler<ListSegments> for Attached {
        type Result = Vec<SegmentInfo>;

        fn handle(&mut self, _: ListSegments, _: &mut Context<Self>) -> Vec<SegmentInfo> {
            let segment = |uri: &String| SegmentInfo { uri: uri.clone(), ..SegmentInfo::default() };
            self.0.iter().map(segment).collect()
        }
    }

    async fn federation(actors: &Actors, uris: &[String]) -> Federation {
        let uris = uris.to_vec();
        Federation::new(actors.start(|| Attached(uris).start().recipient()).await)
    }

    fn ticket() -> ShardTicket {
        let data_set = DataSetId(Digest([7; 32]));
        ShardTicket { data_set, shard: ShardId(3), part: Part::Train }
    }

    #[tokio::test]
    async fn segments_that_do_not_answer_in_time_are_left_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = |listener: &TcpListener| format!("grpc://{}", listener.local_addr().unwrap());
        let uris = [uri(&silent), uri(&listener), "grpc://127.0.0.1:1".to_owned()];
        let (shards, models) = (MemoryShards::new(0), MemoryModels::default());
        let server = FlightServer::new(Arc::new(shards), Arc::new(models), &*uris[1]);
        let service = server_builder().add_service(server.into_service());
        tokio::spawn(service.serve_with_incoming(incoming(listener, 16)));
        let actors = Actors::run().unwrap();
        let federation = federation(&actors, &uris).await;
        let answered = federation.holdings().await.unwrap();
        assert_eq!(answered.len(), 1);
        assert_eq!((&answered[0].0, answered[0].1.len()), (&uris[1], 0));
        assert_eq!(federation.peers().keys().collect::<Vec<_>>(), [&uris[1]]);
    }

    #[tokio::test]
    async fn nothing_is_kept_put_or_dropped_here() {
        let actors = Actors::run().unwrap();
        let federation = federation(&actors, &[]).await;
        assert!(federation.list().await.unwrap().is_empty());
        let missing = federation.shard(ticket()).await.unwrap_err();
        assert!(matches!(missing, FlightError::MissingShard(shard) if shard == ticket()));
        let header = ShardHeader { shard: ticket(), name: "iris".into(), rows: 1, bytes: 1 };
        let refused = federation.reserve(&header).await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Invalid);
        assert!(refused.to_string().starts_with("put: is for a segment"), "{refused}");
        let refused = federation.drop_data_set(ticket().data_set).await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Invalid);
    }

    #[tokio::test]
    async fn a_hopper_that_is_gone_is_an_error_and_not_an_empty_cluster() {
        let actors = Actors::run().unwrap();
        let federation = federation(&actors, &[]).await;
        drop(actors);
        let error = federation.locate().await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Unavailable);
    }
}
