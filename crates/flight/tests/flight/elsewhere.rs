//! A server that lists what others keep.

use std::sync::Arc;

use arrow_flight::FlightDescriptor;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrowhop_flight::{
    ByteBudget, CachedShard, FlightError, FlightPeer, FlightServer, LocatedShard, MemoryModels,
    ShardListing, ShardStore, ShardTicket, connect, incoming, merge, server_builder,
};
use arrowhop_types::{Classify, DataSetId, ErrorClass, Part, Problems};
use arrowhop_wire::tickets::ShardHeader;
use futures::{TryStreamExt, stream};
use tokio::net::TcpListener;
use tonic::Code;

use crate::toy::{LIMIT, Node, batches, schema, shard};

const MIB: u64 = 1 << 20;

/// Knows where shards are, and keeps none.
struct Directory {
    peers: Vec<(String, FlightPeer)>,
    budget: Arc<ByteBudget>,
}

#[tonic::async_trait]
impl ShardStore for Directory {
    async fn list(&self) -> Result<Vec<ShardListing>, FlightError> {
        Ok(Vec::new())
    }

    async fn locate(&self) -> Result<Vec<LocatedShard>, FlightError> {
        let mut kept = Vec::new();
        for (uri, peer) in &self.peers {
            kept.push((uri.clone(), peer.shards(LIMIT).await?));
        }
        Ok(merge(kept))
    }

    async fn shard(&self, shard: ShardTicket) -> Result<Arc<CachedShard>, FlightError> {
        Err(FlightError::Elsewhere { shard, location: self.peers[0].0.clone() })
    }

    fn budget(&self) -> &Arc<ByteBudget> {
        &self.budget
    }

    async fn reserve(&self, _: &ShardHeader) -> Result<arrowhop_flight::Reservation, FlightError> {
        Err(Problems::one("put", "is for another server").into())
    }

    async fn put(&self, _: ShardHeader, _: CachedShard) -> Result<(), FlightError> {
        panic!("nothing could be reserved")
    }

    async fn drop_data_set(&self, data_set: DataSetId) -> Result<(), FlightError> {
        Err(FlightError::MissingDataSet { name: data_set.to_string() })
    }
}

/// Two nodes that share a shard, and the location of a server that lists them.
async fn cluster() -> ([Node; 2], String) {
    let nodes = [Node::start(MIB).await, Node::start(MIB).await];
    for (node, numbers) in [(0, [0, 2]), (1, [1, 2])] {
        let peer = nodes[node].peer().await;
        for number in numbers {
            let ticket = shard(number, Part::Train);
            let rows = batches(100 * (number as usize + 1), 64);
            peer.put_shard(ticket, "toy", schema(), rows, LIMIT).await.unwrap();
        }
    }
    let mut peers = Vec::new();
    for node in &nodes {
        peers.push((node.uri.clone(), node.peer().await));
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("grpc://{}", listener.local_addr().unwrap());
    let directory = Directory { peers, budget: ByteBudget::new(0) };
    let server = FlightServer::new(Arc::new(directory), Arc::new(MemoryModels::default()), &*uri);
    let service = server_builder().add_service(server.into_service());
    tokio::spawn(service.serve_with_incoming(incoming(listener, 16)));
    (nodes, uri)
}

#[tokio::test]
async fn endpoints_name_every_place_where_a_shard_can_be_read() {
    let (nodes, uri) = cluster().await;
    let mut client = FlightServiceClient::new(connect(&uri, LIMIT).await.unwrap());
    let path = FlightDescriptor::new_path(vec!["toy".into(), "train".into()]);
    let info = client.get_flight_info(path).await.unwrap().into_inner();
    assert_eq!(info.total_records, 600);
    let places: Vec<Vec<&str>> = info
        .endpoint
        .iter()
        .map(|endpoint| endpoint.location.iter().map(|place| &*place.uri).collect())
        .collect();
    let [first, second] = nodes.each_ref().map(|node| &*node.uri);
    assert_eq!(places, [vec![first], vec![second], vec![first, second]]);
    for (endpoint, rows) in info.endpoint.into_iter().zip([100, 200, 300]) {
        let place = connect(&endpoint.location[0].uri, LIMIT).await.unwrap();
        let stream = FlightServiceClient::new(place).do_get(endpoint.ticket.unwrap()).await;
        let read = CachedShard::receive(
            stream.unwrap().into_inner(),
            arrowhop_flight::ReceiveLimits { bytes: MIB, rows: Some(rows) },
        );
        assert_eq!(read.await.unwrap().schema(), &schema());
    }
}

#[tokio::test]
async fn what_a_peer_keeps_is_listed_shard_by_shard() {
    let (nodes, _) = cluster().await;
    let listed = nodes[0].peer().await.shards(LIMIT).await.unwrap();
    let kept = nodes[0].shards.list().await.unwrap();
    assert_eq!(listed.len(), 2);
    for (listed, kept) in listed.iter().zip(&kept) {
        assert_eq!((listed.shard, &listed.name), (kept.shard, &kept.name));
        assert_eq!((listed.rows, listed.bytes), (kept.rows, kept.bytes));
        assert_eq!(listed.schema, kept.schema);
    }
}

#[tokio::test]
async fn what_is_elsewhere_is_neither_read_nor_put_here() {
    let (nodes, uri) = cluster().await;
    let peer = FlightPeer::new(connect(&uri, LIMIT).await.unwrap());
    let error = peer.shard(shard(0, Part::Train), MIB, LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Missing);
    assert!(error.to_string().ends_with(&format!("not here; read them at {}", nodes[0].uri)));
    let put = peer.put_shard(shard(0, Part::Train), "toy", schema(), batches(9, 9), LIMIT);
    let error = put.await.unwrap_err();
    assert_eq!(error.to_string(), "put a shard: put: is for another server");
    assert_eq!(error.class(), ErrorClass::Invalid);
    let status = peer.status(LIMIT).await.unwrap();
    assert_eq!((status.shards.len(), status.used_bytes, status.limit_bytes), (0, 0, 0));

    let mut client = FlightServiceClient::new(connect(&uri, LIMIT).await.unwrap());
    let empty = client.do_put(stream::empty()).await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    let flights = client.list_flights(arrow_flight::Criteria::default()).await.unwrap();
    assert_eq!(flights.into_inner().try_collect::<Vec<_>>().await.unwrap().len(), 1);
}
