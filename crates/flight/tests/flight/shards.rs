//! Shards: put, listed, read and dropped, by our client and by a foreign one.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Schema, UInt8Type};
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError as ForeignError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::{Action, Criteria, Empty, FlightData, FlightDescriptor};
use arrowhop_flight::{
    CachedShard, FlightError, FlightPeer, FlightServer, MemoryModels, MemoryShards, ShardStore,
    connect, incoming, listen, server_builder,
};
use arrowhop_types::{Classify, ErrorClass, Part, ShardId};
use arrowhop_wire::status::class_of;
use arrowhop_wire::tickets::{DataSetName, ShardHeader, Ticket};
use futures::{StreamExt, TryStreamExt, stream};
use tonic::Code;

use crate::toy::{self, LIMIT, Node, batches, digest, schema, shard};

const MIB: u64 = 1 << 20;

/// Two training shards and one of validation rows.
async fn loaded() -> Node {
    let node = Node::start(MIB).await;
    let peer = node.peer().await;
    for (number, part, rows) in
        [(0, Part::Train, 1_000), (1, Part::Train, 700), (0, Part::Validation, 50)]
    {
        let rows = batches(rows, 256);
        peer.put_shard(shard(number, part), "toy", schema(), rows, LIMIT).await.unwrap();
    }
    node
}

#[tokio::test]
async fn a_shard_goes_there_and_back() {
    let node = Node::start(MIB).await;
    let peer = node.peer().await;
    let sent = batches(1_000, 256);
    let receipt =
        peer.put_shard(shard(0, Part::Train), "toy", schema(), sent.clone(), LIMIT).await.unwrap();
    let kept = node.shards.shard(shard(0, Part::Train)).await.unwrap();
    assert_eq!((receipt.rows, receipt.bytes), (1_000, kept.bytes()));
    assert_eq!(node.shards.budget().used(), kept.bytes());
    let got = peer.shard(shard(0, Part::Train), MIB, LIMIT).await.unwrap();
    assert_eq!((got.rows(), got.bytes(), got.batches().len()), (1_000, kept.bytes(), 4));
    assert_eq!(got.schema(), &schema());
    assert_eq!(digest(got.batches().iter().map(|cached| &cached.batch)), digest(&sent));
}

#[tokio::test]
async fn cached_rows_are_views_over_the_bytes_that_are_served() {
    let encoded = CachedShard::encode(schema(), batches(600, 256)).unwrap();
    let node = loaded().await;
    let received = node.shards.shard(shard(0, Part::Train)).await.unwrap();
    for shard in [&encoded, &*received] {
        for cached in shard.batches() {
            let pixels = cached.batch.column(1).as_fixed_size_list().values().to_data();
            let address = pixels.buffers()[0].as_ptr();
            assert!(cached.body.as_ptr_range().contains(&address));
            assert_eq!(cached.body.as_ptr() as usize % 64, 0);
            let values = cached.batch.column(1).as_fixed_size_list().values();
            assert_eq!(values.as_primitive::<UInt8Type>().len(), cached.batch.num_rows() * 12);
        }
    }
}

#[tokio::test]
async fn a_foreign_client_lists_describes_and_reads_everything() {
    let node = loaded().await;
    let mut client = node.foreign().await;
    let flights = client.list_flights(Criteria::default()).await.unwrap().into_inner();
    let flights: Vec<_> = flights.try_collect().await.unwrap();
    assert_eq!(flights.len(), 2);
    let path = FlightDescriptor::new_path(vec!["toy".into(), "train".into()]);
    let info = client.get_flight_info(path.clone()).await.unwrap().into_inner();
    assert_eq!(info, flights[0]);
    assert_eq!((info.total_records, &*info.app_metadata), (1_700, &b"toy"[..]));
    let described = client.get_schema(path).await.unwrap().into_inner();
    assert_eq!(Schema::try_from(&described).unwrap(), *schema());
    let mut rows = Vec::new();
    for (number, endpoint) in info.endpoint.iter().enumerate() {
        assert_eq!(endpoint.app_metadata, number.to_string());
        assert_eq!(endpoint.location[0].uri, node.uri);
        let ticket = endpoint.ticket.clone().unwrap();
        let stream = client.do_get(ticket).await.unwrap().into_inner();
        let mut stream = FlightRecordBatchStream::new_from_flight_data(
            stream.map_err(|status| ForeignError::Tonic(Box::new(status))),
        );
        while let Some(batch) = stream.next().await {
            rows.push(batch.unwrap());
        }
        let announced = try_schema_from_ipc_buffer(&info.schema).unwrap();
        assert_eq!(**stream.schema().unwrap(), announced);
    }
    let sent: Vec<_> = batches(1_000, 256).into_iter().chain(batches(700, 256)).collect();
    assert_eq!(digest(&rows), digest(&sent));
}

#[tokio::test]
async fn listings_can_be_narrowed_to_a_data_set_by_name_or_id() {
    let node = loaded().await;
    let peer = node.peer().await;
    let all = peer.list(None, LIMIT).await.unwrap();
    let parts: Vec<_> = all.iter().map(|part| (part.path.part, part.rows, &*part.shards)).collect();
    assert_eq!(
        parts,
        [
            (Part::Train, 1_700, &[ShardId(0), ShardId(1)][..]),
            (Part::Validation, 50, &[ShardId(0)][..]),
        ]
    );
    assert_eq!((&*all[0].name, &all[0].schema), ("toy", &*schema()));
    let id = DataSetName::Id(shard(0, Part::Train).data_set);
    assert_eq!(peer.list(Some(&id), LIMIT).await.unwrap(), all);
    let name = DataSetName::Name("toy".into());
    assert_eq!(peer.list(Some(&name), LIMIT).await.unwrap(), all);
    let other = DataSetName::Name("other".into());
    assert_eq!(peer.list(Some(&other), LIMIT).await.unwrap(), []);
}

#[tokio::test]
async fn actions_report_and_drop() {
    let node = loaded().await;
    let peer = node.peer().await;
    let status = peer.status(LIMIT).await.unwrap();
    assert_eq!(status.shards.len(), 3);
    assert_eq!(status.limit_bytes, MIB);
    assert_eq!(status.used_bytes, status.shards.iter().map(|stored| stored.bytes).sum::<u64>());
    let data_set = shard(0, Part::Train).data_set;
    let reader = node.shards.shard(shard(1, Part::Train)).await.unwrap();
    peer.drop_data_set(data_set, LIMIT).await.unwrap();
    let status = peer.status(LIMIT).await.unwrap();
    assert_eq!((status.shards.len(), status.used_bytes), (0, reader.bytes()));
    drop(reader);
    assert_eq!(node.shards.budget().used(), 0);
    let error = peer.drop_data_set(data_set, LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Missing);

    let mut client = node.foreign().await;
    let actions = client.list_actions(Empty {}).await.unwrap().into_inner();
    let names: Vec<_> = actions.map_ok(|action| action.r#type).try_collect().await.unwrap();
    assert_eq!(names, ["status", "drop-data-set"]);
    let refusal = client.do_action(Action::new("shuffle", "")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unimplemented);
    assert_eq!(refusal.message(), "no action shuffle; use status or drop-data-set");
}

#[tokio::test]
async fn the_class_of_an_error_travels_on_both_ways_through_the_server() {
    let node = Node::start(MIB).await;
    let mut client = node.foreign().await;
    let ticket = Ticket::Shard(shard(5, Part::Train)).encode();
    let by_front = client.do_get(arrow_flight::Ticket::new(ticket)).await.unwrap_err();
    let path = FlightDescriptor::new_path(vec!["absent".into(), "train".into()]);
    let by_tonic = client.get_flight_info(path).await.unwrap_err();
    for status in [by_front, by_tonic] {
        assert_eq!(status.code(), Code::NotFound);
        assert_eq!(status.metadata().get("arrowhop-class").unwrap(), "missing");
        assert_eq!(class_of(&status), ErrorClass::Missing);
    }
    let error = node.peer().await.shard(shard(5, Part::Train), MIB, LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Missing);
    assert!(error.to_string().starts_with("read a shard: no train rows of shard 5 of data set 09"));
}

#[tokio::test]
async fn a_shard_that_does_not_fit_is_refused_before_it_is_sent() {
    let node = Node::start(10_000).await;
    let peer = node.peer().await;
    let put = peer.put_shard(shard(0, Part::Train), "toy", schema(), batches(2_000, 256), LIMIT);
    let error = put.await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Overloaded);
    assert!(error.to_string().contains("0 of 10000 are used"), "{error}");
    assert_eq!(node.shards.budget().used(), 0);
}

/// An upload's messages under a header that may lie.
fn upload(header: &ShardHeader, rows: usize) -> Vec<FlightData> {
    let content = CachedShard::encode(schema(), batches(rows, 256)).unwrap();
    let mut messages = toy_messages(&content);
    messages[0].flight_descriptor = Some(FlightDescriptor::new_cmd(header.encode()));
    messages
}

fn toy_messages(content: &CachedShard) -> Vec<FlightData> {
    let batches: Vec<_> = content.batches().iter().map(|cached| cached.batch.clone()).collect();
    arrow_flight::utils::batches_to_flight_data(content.schema(), batches).unwrap()
}

#[tokio::test]
async fn an_upload_that_is_not_what_its_header_says_leaves_nothing() {
    let node = Node::start(MIB).await;
    for (header, complaint) in [
        (toy::header(700, MIB / 2), "shard: ends after 600 of 700 rows; send it again"),
        (toy::header(500, MIB / 2), "shard: has more than the 500 rows announced"),
        (toy::header(600, 9_000), "shard: has more than the 9000 bytes that it may have"),
    ] {
        let put = node.foreign().await.do_put(stream::iter(upload(&header, 600))).await;
        let status = put.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::InvalidArgument, complaint));
        assert_eq!(node.shards.budget().used(), 0);
        assert!(node.shards.list().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_upload_that_is_given_up_halfway_leaves_nothing() {
    let node = Node::start(MIB).await;
    let mut client = node.foreign().await;
    let half = upload(&toy::header(600, MIB / 2), 600).into_iter().take(2);
    let put =
        tokio::spawn(
            async move { client.do_put(stream::iter(half).chain(stream::pending())).await },
        );
    toy::wait_until(|| node.shards.budget().used() == MIB / 2).await;
    put.abort();
    toy::wait_until(|| node.shards.budget().used() == 0).await;
    assert!(node.shards.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn dropping_a_reader_midway_lets_go_of_the_shard() {
    let node = Node::start(64 * MIB).await;
    let content = CachedShard::encode(schema(), batches(800_000, 40_000)).unwrap();
    let ticket = shard(0, Part::Train);
    node.shards.put(toy::header(800_000, 0), content).await.unwrap();
    let kept = node.shards.shard(ticket).await.unwrap();
    let flight_ticket = arrow_flight::Ticket::new(Ticket::Shard(ticket).encode());
    let mut stream = node.foreign().await.do_get(flight_ticket).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    assert_eq!(Arc::strong_count(&kept), 3);
    drop(stream);
    toy::wait_until(|| Arc::strong_count(&kept) == 2).await;
}

#[tokio::test]
async fn a_shard_that_is_dropped_under_a_reader_is_let_go_of_when_the_reader_leaves() {
    let node = Node::start(64 * MIB).await;
    let peer = node.peer().await;
    let kept = shard(0, Part::Train);
    peer.put_shard(kept, "toy", schema(), batches(800_000, 40_000), LIMIT).await.unwrap();
    let used = node.shards.budget().used();
    let whole = Arc::downgrade(&node.shards.shard(kept).await.unwrap());
    let mut client = node.foreign().await;
    let ticket = arrow_flight::Ticket::new(Ticket::Shard(kept).encode());
    let mut stream = client.do_get(ticket).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    peer.drop_data_set(kept.data_set, LIMIT).await.unwrap();
    assert_eq!((peer.shards(LIMIT).await.unwrap().len(), node.shards.budget().used()), (0, used));
    drop((client, stream));
    toy::wait_until(|| whole.strong_count() == 0).await;
    assert_eq!(node.shards.budget().used(), 0);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let node = Node::start_limited(MIB, 1).await;
    let first = node.peer().await;
    first.status(LIMIT).await.unwrap();
    let second = node.peer().await;
    let error = second.status(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, FlightError::TimedOut { action: "status", .. }));
    assert_eq!(error.class(), ErrorClass::Unavailable);
    drop(first);
    second.status(LIMIT).await.unwrap();
}

#[tokio::test]
async fn shards_go_over_a_unix_socket_too_and_its_limit_holds() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}/flight.sock", folder.path().display());
    let (listener, uri) = listen(&address, None).await.unwrap();
    let (shards, models) = (Arc::new(MemoryShards::new(MIB)), Arc::new(MemoryModels::default()));
    let server = FlightServer::new(shards, models, &*uri).into_service();
    let service = server_builder().add_service(server);
    let serving = tokio::spawn(service.serve_with_incoming(incoming(listener, 1)));
    let peer = FlightPeer::new(connect(&uri, LIMIT).await.unwrap());
    let sent = batches(1_000, 256);
    let ticket = shard(0, Part::Train);
    peer.put_shard(ticket, "toy", schema(), sent.clone(), LIMIT).await.unwrap();
    let got = peer.shard(ticket, MIB, LIMIT).await.unwrap();
    assert_eq!(digest(got.batches().iter().map(|cached| &cached.batch)), digest(&sent));
    let mut client = FlightServiceClient::new(connect(&uri, LIMIT).await.unwrap());
    let waits = client.list_flights(Criteria::default());
    assert!(tokio::time::timeout(Duration::from_millis(100), waits).await.is_err());
    drop(peer);
    let flights = client.list_flights(Criteria::default()).await.unwrap().into_inner();
    let flights: Vec<_> = flights.try_collect().await.unwrap();
    assert_eq!(flights[0].endpoint[0].location[0].uri, uri);
    drop(client);
    serving.abort();
    drop(serving.await);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let error = connect(&uri, LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable);
}

#[tokio::test]
async fn an_address_that_cannot_be_reached_is_told_from_one_that_is_none() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = connect(&format!("grpc://{address}"), LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Unavailable);
    let error = connect("10.0.0.7:7410", LIMIT).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"10.0.0.7:7410\": is not an address such as grpc://10.0.0.7:7410 or grpc+unix:///path"
    );
}
