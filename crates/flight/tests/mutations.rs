//! Thousands of damaged requests to a live server: each ends in an answer that says what is wrong, or
//! in a sound one; none costs more memory than it has bytes, and the server goes on.

#[cfg(test)]
#[path = "flight/toy.rs"]
#[expect(dead_code, reason = "it is also the other tests'")]
mod toy;

use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{Action, Criteria, FlightData, FlightDescriptor};
use arrowhop_flight::{Selection, ShardStore, StateBytes, Ticket};
use arrowhop_types::{DataSetId, Digest, Part};
use arrowhop_wire::tickets::DropDataSet;
use futures::{TryStreamExt, stream};
use peak_alloc::PeakAlloc;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::toy::{LIMIT, Node, batches, header, model, schema, shard};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MIB: u64 = 1 << 20;
const ROUNDS: u64 = 1_500;
/// Over what the server and its client take before: windows of a connection, and a shard.
const GROWTH_MAX: usize = 48 << 20;
/// What a refusal may be; anything else would be a failure of ours.
const REFUSALS: [Code; 5] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::FailedPrecondition,
    Code::ResourceExhausted,
    Code::Unimplemented,
];

/// Damages bytes in one to four places.
fn damage(bytes: &[u8], draw: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=draw.next_u32() % 4 {
        let mut place = |bytes: &[u8]| draw.next_u32() as usize % bytes.len().max(1);
        let at = place(&bytes);
        let byte = draw.next_u32().to_le_bytes()[0];
        match draw.next_u32() % 6 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, byte),
            4 if at < bytes.len() => {
                // A number that is as large as it can be, or negative.
                let end = bytes.len().min(at + 8);
                bytes[at..end].fill(0xff);
            }
            _ => {
                let again = bytes[at.min(bytes.len())..].to_vec();
                bytes.extend_from_slice(&again[..again.len().min(64)]);
            }
        }
    }
    bytes
}

/// An answer is sound, or a refusal with its class.
fn check<T>(seed: u64, what: &str, answer: Result<T, Status>) {
    let Err(status) = answer else { return };
    assert!(REFUSALS.contains(&status.code()), "seed {seed}, {what}: {status}");
    assert!(!status.message().is_empty(), "seed {seed}, {what}: nothing is said");
    let text = status.message();
    assert!(!text.contains("cannot be decoded"), "seed {seed}, {what}: caught a panic: {text}");
}

/// The messages of an upload with something damaged.
fn damaged_upload(draw: &mut ChaCha8Rng) -> Vec<FlightData> {
    let mut messages =
        batches_to_flight_data(&schema(), batches(300, 128)).expect("batches are encoded");
    let announced = header(300, 20_000).encode();
    let place = draw.next_u32() as usize % (2 * messages.len() + 1);
    let announced = if place == 0 { damage(&announced, draw) } else { announced };
    messages[0].flight_descriptor = Some(FlightDescriptor::new_cmd(announced));
    if let Some(place) = place.checked_sub(1) {
        let message = &mut messages[place / 2];
        if place.is_multiple_of(2) {
            message.data_header = damage(&message.data_header, draw).into();
        } else {
            message.data_body = damage(&message.data_body, draw).into();
        }
    }
    messages
}

/// Every kind of request once, damaged.
async fn round(seed: u64, client: &mut FlightServiceClient<Channel>) {
    let mut draw = ChaCha8Rng::seed_from_u64(seed);
    let kept = shard(7, Part::Train);
    let selection = Selection { shard: kept, columns: vec![1, 0], rows: 3..250 };
    for ticket in [Ticket::Shard(kept), Ticket::Selection(selection), Ticket::Model(model(0))] {
        let ticket = arrow_flight::Ticket::new(damage(&ticket.encode(), &mut draw));
        let answer = async { client.do_get(ticket).await?.into_inner().try_collect().await };
        check::<Vec<_>>(seed, "DoGet", answer.await);
    }
    let query =
        br#"{"data_set":"toy","part":"train","columns":["x","y"],"rows":[0,9],"shards":[7]}"#;
    let descriptor = FlightDescriptor::new_cmd(damage(query, &mut draw));
    check(seed, "GetFlightInfo", client.get_flight_info(descriptor.clone()).await);
    check(seed, "GetSchema", client.get_schema(descriptor.clone()).await);
    check(seed, "PollFlightInfo", client.poll_flight_info(descriptor).await);
    let mut text = |word: &[u8]| String::from_utf8_lossy(&damage(word, &mut draw)).into_owned();
    let path = FlightDescriptor::new_path(vec![text(b"toy"), text(b"train")]);
    let criteria = Criteria { expression: text(b"toy").into() };
    check(seed, "GetFlightInfo", client.get_flight_info(path).await);
    check(seed, "ListFlights", client.list_flights(criteria).await);
    let other = DropDataSet::DataSet(DataSetId(Digest([1; 32])));
    let action = Action::new("drop-data-set", damage(&other.encode(), &mut draw));
    check(seed, "DoAction", client.do_action(action).await);
    let upload = damaged_upload(&mut draw);
    check(seed, "DoPut", client.do_put(stream::iter(upload)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_requests_are_refused_in_flat_memory_by_a_server_that_lives() {
    let node = Node::start(MIB).await;
    let peer = node.peer().await;
    let kept = shard(7, Part::Train);
    peer.put_shard(kept, "toy", schema(), batches(300, 128), LIMIT).await.unwrap();
    node.models.insert(model(0), StateBytes::new(vec![5; 10_000].into()));
    let mut client = node.foreign().await;
    // Whatever is made when it is first needed is made.
    round(u64::MAX, &mut client).await;
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    for seed in 0..ROUNDS {
        round(seed, &mut client).await;
    }
    let growth = ALLOCATOR.peak_usage().saturating_sub(before);
    assert!(growth < GROWTH_MAX, "{growth} bytes more at a time");
    // An upload that was sound all the same is kept; the rest was given back.
    let listed = node.shards.list().await.unwrap();
    let bytes: u64 = listed.iter().map(|listing| listing.bytes).sum();
    assert_eq!(node.shards.budget().used(), bytes);
    let read = peer.shard(kept, MIB, LIMIT).await.unwrap();
    assert_eq!(
        toy::digest(read.batches().iter().map(|cached| &cached.batch)),
        toy::digest(&batches(300, 128))
    );
}
