//! What may arrive from anyone: it ends in an error that says what was wrong, never in a panic.

use arrow_flight::FlightData;
use arrow_flight::utils::batches_to_flight_data;
use arrowhop_flight::{CachedShard, FlightError, ReceiveLimits, StateBytes};
use arrowhop_types::{Classify, ErrorClass, Part};
use arrowhop_wire::status::class_of;
use arrowhop_wire::tickets::{PartPath, ShardHeader, StoreStatus, Ticket};
use bytes::Bytes;
use futures::{FutureExt, stream};
use proptest::prelude::*;

use crate::toy::{self, Node, batches, schema};

fn messages(rows: usize, batch_rows: usize) -> Vec<FlightData> {
    batches_to_flight_data(&schema(), batches(rows, batch_rows)).unwrap()
}

/// What our receiver says to these messages; it never waits for more.
fn receive(messages: Vec<FlightData>) -> Result<CachedShard, FlightError> {
    let limits = ReceiveLimits { bytes: 1 << 20, rows: None };
    let stream = stream::iter(messages.into_iter().map(Ok));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(CachedShard::receive(stream, limits).boxed())
}

fn refusal(messages: Vec<FlightData>) -> String {
    let error = receive(messages).unwrap_err();
    assert_eq!(error.class(), ErrorClass::Invalid);
    error.to_string()
}

#[test]
fn streams_that_are_no_shards_are_refused_with_a_reason() {
    assert_eq!(refusal(Vec::new()), "shard: is an empty stream");
    let whole = messages(100, 40);
    assert_eq!(refusal(whole[1..].to_vec()), "schema: is not the first message");
    assert_eq!(refusal([&whole[..1], &whole[..1]].concat()), "batch 0: batch: is a Schema message");
    let short_first = [&whole[..1], &whole[3..], &whole[1..2]].concat();
    assert_eq!(refusal(short_first), "batch 1: rows: are 40, not 1 to 20 as in the batches before");
    let short_middle = [&whole[..2], &whole[3..], &whole[2..3]].concat();
    assert_eq!(
        refusal(short_middle),
        "batch 2: rows: follow a batch of 20; only the last may be below 40"
    );
    let mut cut = whole;
    cut[1].data_body.truncate(100);
    assert_eq!(refusal(cut), "batch 0: batch: has a buffer outside its body");
}

#[test]
fn a_schema_that_is_not_a_shard_s_is_refused_with_all_its_problems() {
    let batch = &batches(10, 10)[0];
    let refused = |columns: &[usize]| {
        let bare = batch.project(columns).unwrap();
        refusal(batches_to_flight_data(&bare.schema(), vec![bare.clone()]).unwrap())
    };
    assert_eq!(
        refused(&[1, 2]),
        "schema: has columns [\"x\", \"y\"], not row and others of distinct names"
    );
    assert_eq!(
        refused(&[0, 1]),
        "schema: has 1 inputs and 0 targets, and needs both; inputs have the extension type \
         arrow.fixed_shape_tensor"
    );
    let mut fields: Vec<_> =
        schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    fields[1].metadata_mut().clear();
    let schema = arrow::datatypes::Schema::new(fields);
    let messages = batches_to_flight_data(&schema, Vec::new()).unwrap();
    assert_eq!(
        refusal(messages),
        "schema: has 0 inputs and 2 targets, and needs both; inputs have the extension type \
         arrow.fixed_shape_tensor\n\
         column x: is FixedSizeList(12 x non-null UInt8), not Int32 or FixedSizeList of Float32\n\
         column x: is nullable; declare it not null\n\
         column y: is nullable; declare it not null"
    );
}

#[tokio::test]
async fn an_oversized_ticket_is_refused() {
    let node = Node::start(0).await;
    let mut client = node.foreign().await;
    for (bytes, complaint) in [
        (1_024, "ticket: is not as schemas/tickets.proto says"),
        (1_025, "ticket: has 1025 bytes, more than 1024"),
        (5_000_000, "ticket: was not received whole, or is longer than 1 KiB"),
    ] {
        let ticket = arrow_flight::Ticket::new(vec![0xff; bytes]);
        let status = client.do_get(ticket).await.unwrap_err();
        assert_eq!(class_of(&status), ErrorClass::Invalid, "{bytes}: {status}");
        assert!(status.message().starts_with(complaint), "{}", status.message());
    }
    node.models.insert(toy::model(0), StateBytes::new(Bytes::new()));
    node.peer().await.state(toy::model(0), 0, toy::LIMIT).await.unwrap();
}

proptest! {
    #[test]
    fn random_bytes_are_refused_or_understood(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(ticket) = Ticket::try_from(bytes.as_slice()) {
            prop_assert_eq!(Ticket::try_from(ticket.encode().as_slice()), Ok(ticket));
        }
        if let Ok(header) = ShardHeader::try_from(bytes.as_slice()) {
            prop_assert_eq!(ShardHeader::try_from(header.encode().as_slice()), Ok(header));
        }
        drop(StoreStatus::try_from(bytes.as_slice()));
        let header = FlightData { data_header: bytes.into(), ..FlightData::default() };
        refusal(vec![header]);
    }

    #[test]
    fn a_changed_ticket_is_refused_or_names_something_else(
        index in 0_usize..44, byte in any::<u8>(),
    ) {
        let ticket = Ticket::Shard(toy::shard(77, Part::Validation));
        let mut bytes = ticket.encode();
        prop_assume!(bytes[index % bytes.len()] != byte);
        let index = index % bytes.len();
        bytes[index] = byte;
        if let Ok(other) = Ticket::try_from(bytes.as_slice()) {
            prop_assert_ne!(other, ticket);
        }
    }

    /// The decoder's last net catches panics; this shows that the checks before it need no net.
    #[test]
    fn a_changed_message_is_refused_or_read_but_never_caught_panicking(
        message in 0_usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut messages = messages(100, 40);
        let mut header = messages[message].data_header.to_vec();
        for (index, byte) in changes {
            let index = index.index(header.len());
            header[index] = byte;
        }
        messages[message].data_header = header.into();
        match receive(messages) {
            Ok(shard) => prop_assert!(shard.rows() <= 100),
            Err(error) => {
                prop_assert_eq!(error.class(), ErrorClass::Invalid);
                prop_assert!(!error.to_string().contains("cannot be decoded"), "{}", error);
            }
        }
    }

    #[test]
    fn paths_are_refused_or_understood(path in prop::collection::vec(".{0,80}", 0..4)) {
        if let Ok(parsed) = PartPath::try_from(path.as_slice()) {
            prop_assert_eq!(parsed.to_path().len(), 2);
        }
    }
}
