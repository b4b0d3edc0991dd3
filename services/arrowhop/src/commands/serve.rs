//! `arrowhop supervisor` and `arrowhop segment`.

use std::io::Write;
use std::sync::Arc;

use anyhow::Context;
use arrowhop_runtime::panics::{self, Uncontained};
use arrowhop_runtime::{Actors, Serving, Stop, StopSignal};
use arrowhop_segment::Settings as SegmentSettings;
use arrowhop_supervisor::Settings as SupervisorSettings;
use arrowhop_types::SegmentId;
use tracing::info;

use crate::cli::{Means, Segment, Supervisor};
use crate::exit::Exit;
use crate::predictor::StoredModels;

/// Models that share a GPU: while one waits for its losses, others have work there.
const GPU_SLOTS: usize = 4;

pub(super) async fn supervisor(options: Supervisor) -> anyhow::Result<Exit> {
    let (actors, stop) = begin()?;
    let state = options.state.folder();
    let settings = SupervisorSettings {
        listen: options.listen,
        advertise: options.advertise,
        upload_disk: options.upload_disk.as_u64(),
        predictor: Some(Arc::new(StoredModels { state: state.clone() })),
        state,
    };
    let running = arrowhop_supervisor::start(settings, &actors).await?;
    serve(running, stop, actors).await
}

pub(super) async fn segment(options: Segment) -> anyhow::Result<Exit> {
    let (actors, stop) = begin()?;
    let Means { cache_memory, model_memory, device_memory, mut devices } =
        Means::find(options.memory, options.computing)?;
    let device = devices.swap_remove(options.segment as usize % devices.len());
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let slots = if device.is_cpu() { cores() } else { GPU_SLOTS };
    let settings = SegmentSettings {
        segment: SegmentId(options.segment),
        listen: options.listen,
        advertise: options.advertise,
        slots: options.slots.unwrap_or_else(|| u32::try_from(slots).unwrap_or(1)),
        supervisor: options.supervisor,
        cache_memory,
        folder: options.shard_folder.and_then(|root| options.memory.shard_folder(&root)),
        model_memory,
        device,
        device_memory,
    };
    let running = arrowhop_segment::start(settings, &actors).await?;
    serve(running, stop, actors).await
}

/// Serves until it breaks off or is told to stop.
async fn serve<E>(mut running: Serving<E>, stop: StopSignal, actors: Actors) -> anyhow::Result<Exit>
where
    E: std::error::Error + Send + Sync + 'static,
{
    announce(&running.uri)?;
    tokio::select! {
        ended = running.ended() => ended?,
        _ = stop.reached(Stop::AfterVisit) => {
            info!("stopping");
            running.stop().await?;
        }
    }
    // It joins its threads.
    tokio::task::spawn_blocking(move || drop(actors)).await?;
    Ok(Exit::Done)
}

fn begin() -> anyhow::Result<(Actors, StopSignal)> {
    panics::install(Uncontained::EndProcess);
    let stop = StopSignal::new();
    stop.listen()?;
    Ok((Actors::run().context("start the actors")?, stop))
}

/// The location, alone on standard output, for scripts that chose port 0.
fn announce(uri: &str) -> std::io::Result<()> {
    info!(uri, "listening");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{uri}")?;
    out.flush()
}
