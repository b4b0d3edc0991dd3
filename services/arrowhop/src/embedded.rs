//! A whole cluster in this process: a supervisor and its segments, on loopback ports.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use arrowhop_flight::ShardFolder;
use arrowhop_runtime::Actors;
use arrowhop_runtime::panics::{self, Uncontained};
use arrowhop_segment::Settings as SegmentSettings;
use arrowhop_supervisor::Settings as SupervisorSettings;
use arrowhop_types::SegmentId;

use crate::cli::Means;
use crate::client::Client;

const ANY_PORT: &str = "127.0.0.1:0";
const START_LIMIT: Duration = Duration::from_secs(20);
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A cluster in this process.
pub(crate) struct Embedded {
    supervisor: arrowhop_supervisor::Running,
    segments: Vec<arrowhop_segment::Running>,
    actors: Actors,
}

/// How large it is.
#[derive(Debug, Clone)]
pub(crate) struct Size {
    pub(crate) segments: u32,
    pub(crate) slots: u32,
    /// Of all segments together.
    pub(crate) means: Means,
    /// The folder with shards' files, which all segments share.
    pub(crate) folder: Option<ShardFolder>,
}

impl Embedded {
    /// Starts it, and waits until every segment is attached.
    pub(crate) async fn start(state: &Path, size: Size) -> anyhow::Result<(Self, Client)> {
        panics::install(Uncontained::EndProcess);
        let actors = Actors::run().context("start the actors")?;
        let settings = SupervisorSettings {
            listen: ANY_PORT.to_owned(),
            advertise: None,
            state: state.to_owned(),
            // Nobody else is told where it is.
            predictor: None,
            upload_disk: 0,
        };
        let supervisor = arrowhop_supervisor::start(settings, &actors).await?;
        let mut segments = Vec::new();
        let Size { segments: count, slots, means, folder } = size;
        for (segment, device) in (0..count).zip(means.devices.iter().cycle()) {
            let settings = SegmentSettings {
                segment: SegmentId(segment),
                listen: ANY_PORT.to_owned(),
                advertise: None,
                slots,
                supervisor: supervisor.uri.clone(),
                cache_memory: means.cache_memory / u64::from(count),
                folder: folder.clone(),
                model_memory: means.model_memory / u64::from(count),
                device: device.clone(),
                device_memory: means.device_memory / sharing(count, means.devices.len()),
            };
            segments.push(arrowhop_segment::start(settings, &actors).await?);
        }
        let mut client = Client::connect(&supervisor.uri).await?;
        let began_at = Instant::now();
        while client.segments().await?.len() < segments.len() {
            if began_at.elapsed() > START_LIMIT {
                bail!("the segments in this process did not attach within {START_LIMIT:?}");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok((Self { supervisor, segments, actors }, client))
    }

    /// Stops it, supervisor last.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        let Self { supervisor, segments, actors } = self;
        let segments = segments.into_iter().map(arrowhop_segment::Running::stop);
        let (supervisor, segments) =
            tokio::join!(supervisor.stop(), futures::future::join_all(segments));
        supervisor?;
        segments.into_iter().collect::<Result<(), _>>()?;
        // It joins its threads.
        tokio::task::spawn_blocking(move || drop(actors)).await?;
        Ok(())
    }
}

/// At most so many of these segments share a device.
fn sharing(segments: u32, devices: usize) -> u64 {
    u64::from(segments).div_ceil(devices.max(1) as u64)
}
