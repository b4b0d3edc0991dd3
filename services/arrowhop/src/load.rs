//! Puts a prepared data set's shards on the segments of a cluster, as evenly as it goes: a shard stays
//! where it is already, and is not sent again.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use arrowhop_flight::{FlightPeer, ShardTicket, connect};
use arrowhop_source::Prepared;
use arrowhop_types::{DataSet, Part, Problems, SegmentId};
use arrowhop_wire::control::SegmentInfo;
use futures::future::try_join_all;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const STATUS_TIMEOUT: Duration = Duration::from_secs(30);
/// A shard may take this long; 10 GB at 10 MB/s.
const PUT_TIMEOUT: Duration = Duration::from_secs(1_000);

/// Which segments get shards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum On {
    /// All of them.
    #[default]
    All,
    /// Those that compute on a GPU.
    Gpus,
    /// Those of these numbers.
    These(BTreeSet<u32>),
}

/// How shards are spread.
#[derive(Debug, Clone, Default)]
pub(crate) struct Distribution {
    pub(crate) on: On,
    /// On how many segments each shard is.
    pub(crate) copies: u32,
}

impl FromStr for On {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::All),
            "gpus" => return Ok(Self::Gpus),
            _ => {}
        }
        let numbers = text.split(',').map(|number| number.trim().parse());
        numbers
            .collect::<Result<_, _>>()
            .map(Self::These)
            .map_err(|_| format!("{text:?} is neither all, nor gpus, nor numbers such as 0,2,3"))
    }
}

impl Distribution {
    /// The segments that get shards, and so take part in the run.
    fn choose(&self, segments: &[SegmentInfo]) -> Result<Vec<SegmentInfo>, Problems> {
        let chosen: Vec<SegmentInfo> = match &self.on {
            On::All => segments.to_vec(),
            On::Gpus => segments.iter().filter(|segment| segment.has_gpu).cloned().collect(),
            On::These(numbers) => {
                let is_there = |number| segments.iter().any(|at| at.segment == number);
                let absent: Vec<_> = numbers.iter().filter(|number| !is_there(**number)).collect();
                if !absent.is_empty() {
                    let text = format!("names segments {absent:?}, which are not attached");
                    return Err(Problems::one("--on", text));
                }
                let is_named = |at: &&SegmentInfo| numbers.contains(&at.segment);
                segments.iter().filter(is_named).cloned().collect()
            }
        };
        let mut problems = Problems::new();
        if chosen.is_empty() {
            problems.push("--on", "leaves no segment: none of those attached has a GPU");
        } else if (chosen.len() as u64) < u64::from(self.copies) {
            let text = format!(
                "is {}, but there are only {} segments; a segment has a shard once",
                self.copies,
                chosen.len()
            );
            problems.push("--replicas", text);
        }
        problems.or(chosen)
    }
}

/// Puts every shard where it belongs, all segments at once. Returns which segment each is visited on.
pub(crate) async fn put_shards(
    prepared: Prepared,
    segments: &[SegmentInfo],
    distribution: &Distribution,
) -> anyhow::Result<Vec<SegmentId>> {
    if segments.is_empty() {
        bail!("no segment is attached to the supervisor; start one with `arrowhop segment`");
    }
    let segments = distribution.choose(segments)?;
    let data = &prepared.data_set;
    let peers = try_join_all(segments.iter().map(|segment| held_on(segment, data))).await?;
    let held: Vec<BTreeSet<usize>> = peers.iter().map(|(_, held)| whole(held, data)).collect();
    let places = place(data.shards.len(), &held, distribution.copies.max(1) as usize);
    let puts = segments.iter().zip(&peers).enumerate().map(|(at, (segment, (peer, held)))| {
        let shards = (0..places.len()).filter(|&shard| places[shard].contains(&at));
        let shards: Vec<usize> = shards.collect();
        let prepared = &prepared;
        async move {
            let put = put_on(peer, prepared, &shards, held).await;
            put.with_context(|| format!("load segment {} at {}", segment.segment, segment.uri))
        }
    });
    try_join_all(puts).await?;
    Ok(places.iter().map(|places| SegmentId(segments[places[0]].segment)).collect())
}

/// A segment, and the parts of the data set's shards that it has.
async fn held_on(
    segment: &SegmentInfo,
    data: &DataSet,
) -> anyhow::Result<(FlightPeer, BTreeSet<ShardTicket>)> {
    let ask = async {
        let peer = FlightPeer::new(connect(&segment.uri, CONNECT_TIMEOUT).await?);
        let held = peer.status(STATUS_TIMEOUT).await?.shards.into_iter().map(|held| held.shard);
        Ok::<_, arrowhop_flight::FlightError>((
            peer,
            held.filter(|held| held.data_set == data.id).collect(),
        ))
    };
    ask.await.with_context(|| format!("ask segment {} at {}", segment.segment, segment.uri))
}

/// The shards of which all parts are held.
fn whole(held: &BTreeSet<ShardTicket>, data: &DataSet) -> BTreeSet<usize> {
    let has = |shard, part| held.contains(&ShardTicket { data_set: data.id, shard, part });
    let whole = data.shards.iter().enumerate().filter(|(_, info)| {
        has(info.shard, Part::Train)
            && (info.validation_rows == 0 || has(info.shard, Part::Validation))
    });
    whole.map(|(place, _)| place).collect()
}

/// On which segments each shard is, by their places, the one where it is visited first: where it is
/// `held` already as long as no segment has more than its share, else where the fewest are.
fn place(shards: usize, held: &[BTreeSet<usize>], copies: usize) -> Vec<Vec<usize>> {
    let share = shards.div_ceil(held.len());
    let mut places = vec![Vec::new(); shards];
    for copy in 0..copies {
        let mut load = vec![0; held.len()];
        for keeps in [true, false] {
            for (shard, places) in places.iter_mut().enumerate().filter(|(_, at)| at.len() == copy)
            {
                let may = (0..held.len()).filter(|at| {
                    !places.contains(at)
                        && (!keeps || (held[*at].contains(&shard) && load[*at] < share))
                });
                if let Some(at) = may.min_by_key(|at| load[*at]) {
                    load[at] += 1;
                    places.push(at);
                }
            }
        }
    }
    places
}

async fn put_on(
    peer: &FlightPeer,
    prepared: &Prepared,
    shards: &[usize],
    held: &BTreeSet<ShardTicket>,
) -> anyhow::Result<()> {
    let data = &prepared.data_set;
    for &place in shards {
        let (info, shard) = (&data.shards[place], &prepared.shards[place]);
        for (part, batches) in [(Part::Train, &shard.train), (Part::Validation, &shard.validation)]
        {
            let ticket = ShardTicket { data_set: data.id, shard: info.shard, part };
            let Some(first) = batches.first().filter(|_| !held.contains(&ticket)) else { continue };
            let schema = first.schema();
            peer.put_shard(ticket, &data.name, schema, batches.clone(), PUT_TIMEOUT)
                .await
                .with_context(|| format!("put shard {} ({})", info.shard, part.name()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(shards: &[&[usize]]) -> Vec<BTreeSet<usize>> {
        shards.iter().map(|shards| shards.iter().copied().collect()).collect()
    }

    fn segment(segment: u32, has_gpu: bool) -> SegmentInfo {
        SegmentInfo { segment, has_gpu, ..SegmentInfo::default() }
    }

    #[test]
    fn shards_go_round_and_stay_where_they_are() {
        let firsts = |places: Vec<Vec<usize>>| places.iter().map(|at| at[0]).collect::<Vec<_>>();
        assert_eq!(firsts(place(5, &held(&[&[], &[]]), 1)), [0, 1, 0, 1, 0]);
        let all: &[usize] = &[0, 1, 2, 3];
        assert_eq!(firsts(place(4, &held(&[all, all]), 1)), [0, 1, 0, 1], "all have all");
        assert_eq!(firsts(place(4, &held(&[&[2], &[0, 1]]), 1)), [1, 1, 0, 0]);
        let lost = place(4, &held(&[&[0, 2], &[]]), 1);
        assert_eq!(firsts(lost), [0, 1, 0, 1], "a segment that came anew gets the others");
        assert_eq!(firsts(place(4, &held(&[all, &[]]), 1)), [0, 0, 1, 1], "nobody has too many");
    }

    #[test]
    fn copies_are_on_different_segments() {
        let places = place(4, &held(&[&[], &[], &[]]), 2);
        assert_eq!(places, [[0, 1], [1, 0], [2, 0], [0, 2]].map(Vec::from));
        for places in place(60, &held(&[&[], &[0], &[], &[]]), 3) {
            assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), 3);
        }
    }

    #[test]
    fn segments_are_chosen_by_number_or_by_their_gpus() {
        let segments = [segment(0, false), segment(1, true), segment(7, false)];
        let chosen = |text: &str, copies| {
            let chosen = Distribution { on: text.parse().unwrap(), copies }.choose(&segments);
            chosen.map(|chosen| chosen.iter().map(|at| at.segment).collect::<Vec<_>>())
        };
        assert_eq!(chosen("all", 1), Ok(vec![0, 1, 7]));
        assert_eq!(chosen("gpus", 1), Ok(vec![1]));
        assert_eq!(chosen("7, 0", 2), Ok(vec![0, 7]));
        let error = |text, copies| chosen(text, copies).unwrap_err().to_string();
        assert_eq!(error("2,7", 1), "--on: names segments [2], which are not attached");
        assert!(error("gpus", 2).starts_with("--replicas: is 2, but there are only 1 segments"));
        assert!("gpu".parse::<On>().is_err());
    }
}
