//! Puts a prepared data set's shards on the segments of a cluster: shard i on the i-th segment,
//! round and round. What a segment has already is not sent again.

use std::time::Duration;

use anyhow::{Context, bail};
use arrowhop_flight::{FlightPeer, ShardTicket, connect};
use arrowhop_source::Prepared;
use arrowhop_types::{DataSet, Part, SegmentId, ShardId};
use arrowhop_wire::control::SegmentInfo;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const STATUS_TIMEOUT: Duration = Duration::from_secs(30);
/// A shard may take this long; 10 GB at 10 MB/s.
const PUT_TIMEOUT: Duration = Duration::from_secs(1_000);

/// Which segment holds each shard.
pub(crate) fn placement(data: &DataSet, segments: &[SegmentInfo]) -> Vec<SegmentId> {
    let segments = segments.iter().map(|info| SegmentId(info.segment)).cycle();
    segments.take(data.shards.len()).collect()
}

/// Puts every shard where it belongs, all segments at once.
pub(crate) async fn put_shards(
    prepared: Prepared,
    segments: &[SegmentInfo],
) -> anyhow::Result<Vec<SegmentId>> {
    if segments.is_empty() {
        bail!("no segment is attached to the supervisor; start one with `arrowhop segment`");
    }
    let placement = placement(&prepared.data_set, segments);
    let data = &prepared.data_set;
    let mut uploads: Vec<Vec<_>> = segments.iter().map(|_| Vec::new()).collect();
    for (i, shard) in prepared.shards.into_iter().enumerate() {
        let id = data.shards[i].shard;
        let parts = [(Part::Train, shard.train), (Part::Validation, shard.validation)];
        uploads[i % segments.len()].extend(parts.map(|(part, batches)| (id, part, batches)));
    }
    let puts = segments.iter().zip(uploads).map(|(segment, parts)| async move {
        let put = put_on(data, &segment.uri, parts).await;
        put.with_context(|| format!("load segment {} at {}", segment.segment, segment.uri))
    });
    futures::future::try_join_all(puts).await?;
    Ok(placement)
}

async fn put_on(
    data: &DataSet,
    uri: &str,
    parts: Vec<(ShardId, Part, Vec<arrow::array::RecordBatch>)>,
) -> anyhow::Result<()> {
    let peer = FlightPeer::new(connect(uri, CONNECT_TIMEOUT).await?);
    let held = peer.status(STATUS_TIMEOUT).await?.shards;
    for (shard, part, batches) in parts {
        let ticket = ShardTicket { data_set: data.id, shard, part };
        let Some(first) = batches.first() else { continue };
        if held.iter().any(|held| held.shard == ticket) {
            continue;
        }
        let schema = first.schema();
        peer.put_shard(ticket, &data.name, schema, batches, PUT_TIMEOUT)
            .await
            .with_context(|| format!("put shard {shard} ({})", part.name()))?;
    }
    Ok(())
}
