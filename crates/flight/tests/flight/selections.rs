//! Some columns and rows of shards: asked for, described, read, and refused.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use arrow::ipc::convert::try_schema_from_ipc_buffer;
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightDescriptor;
use arrowhop_flight::{
    CachedShard, DataSetName, PartPath, PartQuery, Selection, SelectionListing, ShardStore, Ticket,
    connect,
};
use arrowhop_types::{Classify, ErrorClass, Part, ShardId};
use tonic::Code;

use crate::toy::{self, LIMIT, Node, batches, schema, shard};

const MIB: u64 = 1 << 20;

/// Three training shards of 600, 500 and 40 rows, in batches of 256.
async fn loaded() -> Node {
    let node = Node::start(MIB).await;
    let peer = node.peer().await;
    for (number, rows) in [(0, 600), (1, 500), (2, 40)] {
        let rows = batches(rows, 256);
        let ticket = shard(number, Part::Train);
        peer.put_shard(ticket, "toy", schema(), rows, LIMIT).await.unwrap();
    }
    node
}

fn query(columns: &[&str], rows: Option<std::ops::Range<u64>>) -> PartQuery {
    let data_set = DataSetName::Name("toy".into());
    let names = columns.iter().map(|&name| name.to_owned()).collect();
    PartQuery {
        columns: Some(names).filter(|_| !columns.is_empty()),
        rows,
        ..PartQuery::whole(PartPath { data_set, part: Part::Train })
    }
}

/// Everything that a listing lists, shard by shard.
async fn read(node: &Node, listing: &SelectionListing) -> Vec<Vec<RecordBatch>> {
    let mut read = Vec::new();
    for (ticket, locations) in &listing.endpoints {
        assert_eq!(locations, std::slice::from_ref(&node.uri));
        read.push(node.peer().await.batches(ticket.clone(), MIB, LIMIT).await.unwrap());
    }
    read
}

#[tokio::test]
async fn columns_and_rows_arrive_as_they_lie_in_their_shards() {
    let node = loaded().await;
    // Within a batch, over a batch's end, up to the end, and beyond it.
    for (rows, counts) in [
        (3..9, vec![6, 6, 6]),
        (250..520, vec![270, 250]),
        (512..600, vec![88]),
        (30..9_999, vec![570, 470, 10]),
    ] {
        let asked = query(&["x", "row"], Some(rows.clone()));
        let listing = node.peer().await.select(&asked, LIMIT).await.unwrap();
        assert_eq!(*listing.schema, schema().project(&[1, 0]).unwrap());
        assert_eq!(listing.rows, counts.iter().sum::<u64>());
        // A row's number, and twelve bytes.
        assert_eq!((&*listing.name, listing.bytes), ("toy", listing.rows * 20));
        let found = read(&node, &listing).await;
        assert_eq!(found.len(), counts.len());
        for (batches, &count) in found.iter().zip(&counts) {
            let sizes = batches.iter().map(RecordBatch::num_rows);
            assert_eq!(sizes.sum::<usize>() as u64, count);
            let numbers = batches.iter().flat_map(|batch| {
                assert_eq!(batch.schema(), listing.schema);
                batch.column(1).as_primitive::<UInt64Type>().values().to_vec()
            });
            assert!(numbers.eq(rows.start..rows.start + count), "{rows:?}");
            let wanted = toy::batches(usize::try_from(rows.start + count).unwrap(), 1 << 20);
            let start = usize::try_from(rows.start).unwrap();
            let wanted = wanted[0].slice(start, usize::try_from(count).unwrap());
            let found = arrow::compute::concat_batches(&listing.schema, batches).unwrap();
            assert_eq!(found.column(0), wanted.column(1), "{rows:?}");
        }
    }
}

#[tokio::test]
async fn some_shards_can_be_asked_for_and_all_of_one_is_the_shard_itself() {
    let node = loaded().await;
    let asked = PartQuery { shards: Some(vec![ShardId(2), ShardId(0)]), ..query(&[], None) };
    let listing = node.peer().await.select(&asked, LIMIT).await.unwrap();
    let tickets: Vec<_> = listing.endpoints.iter().map(|(ticket, _)| ticket.clone()).collect();
    assert_eq!(tickets, [0, 2].map(|number| Ticket::Shard(shard(number, Part::Train))));
    assert_eq!(listing.rows, 640);
    let mut client = node.foreign().await;
    let descriptor = FlightDescriptor::new_cmd(asked.to_json());
    let info = client.get_flight_info(descriptor.clone()).await.unwrap().into_inner();
    let polled = client.poll_flight_info(descriptor).await.unwrap().into_inner();
    assert_eq!((polled.flight_descriptor, polled.progress), (None, Some(1.0)));
    assert_eq!(polled.info.as_ref(), Some(&info));
    // The description says how to get it again, by the data set's id.
    let again = info.flight_descriptor.clone().unwrap();
    assert_ne!(again.cmd, asked.to_json());
    assert_eq!(client.get_flight_info(again.clone()).await.unwrap().into_inner(), info);
    let described = client.get_schema(again).await.unwrap().into_inner();
    assert_eq!(
        arrow::datatypes::Schema::try_from(&described).unwrap(),
        try_schema_from_ipc_buffer(&info.schema).unwrap()
    );
}

#[tokio::test]
async fn what_cannot_be_selected_is_said() {
    let node = loaded().await;
    let peer = node.peer().await;
    let asked = query(&["x", "z"], Some(600..700));
    let error = peer.select(&asked, LIMIT).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    assert_eq!(
        error.to_string(),
        "describe a selection: descriptor.columns: z: is not there; there are row, x, y\n\
         descriptor.rows: begin at 600, but no shard asked for has over 600"
    );
    let wrong = FlightDescriptor::new_cmd(r#"{"data_set": "toy", "row": [0, 1]}"#);
    let status = node.foreign().await.get_flight_info(wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("unknown field `row`"), "{status}");

    for (number, columns, rows, class, complaint) in [
        (0, vec![3], 0..1, ErrorClass::Invalid, "selection.columns: are [3], but there are only 3"),
        (0, vec![1, 1], 0..1, ErrorClass::Invalid, "selection.columns: are [1, 1]; ask for each"),
        (0, vec![], 0..601, ErrorClass::Invalid, "selection.rows: are 0 to 601, but the shard has"),
        (9, vec![], 0..1, ErrorClass::Missing, "no train rows of shard 9"),
    ] {
        let shard = shard(number, Part::Train);
        let ticket = Ticket::Selection(Selection { shard, columns, rows });
        let error = peer.batches(ticket, MIB, LIMIT).await.unwrap_err();
        assert_eq!(error.class(), class, "{error}");
        assert!(error.to_string().contains(complaint), "{error}");
    }
    let ticket = Ticket::Shard(shard(0, Part::Train));
    let error = peer.batches(ticket, 9_000, LIMIT).await.unwrap_err();
    assert!(error.to_string().contains("more than the 9000 bytes"), "{error}");
}

#[tokio::test]
async fn a_selection_is_neither_copied_nor_encoded_before_it_is_sent() {
    let node = Node::start(64 * MIB).await;
    let content = CachedShard::encode(schema(), batches(800_000, 40_000)).unwrap();
    let ticket = shard(0, Part::Train);
    node.shards.put(toy::header(800_000, 0), content).await.unwrap();
    let kept = node.shards.shard(ticket).await.unwrap();
    let selection = Selection { shard: ticket, columns: vec![1], rows: 5..799_995 };
    let flight_ticket = arrow_flight::Ticket::new(Ticket::Selection(selection).encode());
    let channel = connect(&node.uri, LIMIT).await.unwrap();
    let mut client = arrow_flight::flight_service_client::FlightServiceClient::new(channel);
    let mut stream = client.do_get(flight_ticket).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    // One for the store, one for this test, one for the stream; and no shard's worth of messages.
    assert_eq!(Arc::strong_count(&kept), 3);
    let first = stream.message().await.unwrap().unwrap();
    assert!((480_000..500_000).contains(&first.data_body.len()), "{}", first.data_body.len());
    drop(stream);
    toy::wait_until(|| Arc::strong_count(&kept) == 2).await;
}
