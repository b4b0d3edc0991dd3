//! Readers that do not read: what they hold is bounded by the windows of their connections, and is let
//! go of when they leave. One test, as it counts what its whole process allocates.

#[cfg(test)]
#[path = "flight/toy.rs"]
#[expect(dead_code, reason = "it is also the other tests'")]
mod toy;

use arrowhop_flight::{CachedShard, Selection, ShardStore, StateBytes, Ticket};
use arrowhop_types::Part;
use peak_alloc::PeakAlloc;

use crate::toy::{Node, batches, header, model, schema, shard, wait_until};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

const MIB: usize = 1 << 20;
const READERS: usize = 6;
const ROWS: usize = 1_600_000;
/// A connection's window is 8 MiB, a stream's 4; a chunk of a state, or a batch that does not lie in
/// a shard, comes on top.
const HELD_MAX: usize = 16 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_reading_hold_their_windows_and_those_that_leave_nothing() {
    let node = Node::start(1 << 30).await;
    let content = CachedShard::encode(schema(), batches(ROWS, 50_000)).unwrap();
    let bytes = content.bytes();
    let reservation = node.shards.budget().reserve(bytes).unwrap();
    let kept = shard(0, Part::Train);
    let header = header(ROWS as u64, bytes);
    node.shards.put(header, content.hold(reservation)).await.unwrap();
    let state = 64 * MIB;
    node.models.insert(model(0), StateBytes::new(vec![5; state].into()));
    let selection = Selection { shard: kept, columns: vec![1, 0], rows: 7..ROWS as u64 };
    for ticket in [Ticket::Shard(kept), Ticket::Selection(selection), Ticket::Model(model(0))] {
        let before = ALLOCATOR.current_usage();
        ALLOCATOR.reset_peak_usage();
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let mut client = node.foreign().await;
            client = client.max_decoding_message_size(64 * MIB);
            let ticket = arrow_flight::Ticket::new(ticket.encode());
            let mut stream = client.do_get(ticket).await.unwrap().into_inner();
            stream.message().await.unwrap().unwrap();
            readers.push((client, stream));
        }
        // Time for a server without bounds to send everything.
        let mut others = node.foreign().await;
        for _ in 0..50 {
            others.list_flights(arrow_flight::Criteria::default()).await.unwrap();
        }
        let held = ALLOCATOR.peak_usage().saturating_sub(before);
        assert!(held < READERS * HELD_MAX, "{ticket:?}: {held} bytes for {READERS} readers");
        drop((readers, others));
        wait_until(|| ALLOCATOR.current_usage() < before + 2 * MIB).await;
    }
}
