//! A segment host: it keeps shards as Arrow, in memory or in mapped files, serves them and its models'
//! states over Flight, and trains the models that the supervisor sends it. It never decides which model
//! comes next, and writes nothing to disk but shards.

mod actors;
mod control;
mod error;
mod join;
mod opened;
mod peers;
mod place;
mod rows;
mod stores;

use std::sync::Arc;

use actix::{Actor, Recipient, SyncArbiter};
use arrowhop_flight::{
    ByteBudget, FlightFront, FlightServer, Listener, ShardFolder, incoming, listen, server_builder,
};
use arrowhop_runtime::{Actors, Serving, until_stopped};
use arrowhop_train::Device;
use arrowhop_types::{Problems, SegmentId};
use arrowhop_wire::PROTOCOL;
use arrowhop_wire::control::SegmentInfo;
use arrowhop_wire::control::segment_server::SegmentServer;
use tokio::sync::watch;

use crate::actors::host::Host;
use crate::actors::shards::Shards;
use crate::actors::trainer::{Trainer, Work};
use crate::control::Control;
pub use crate::error::SegmentError;
use crate::opened::SlotOffer;
use crate::peers::Peers;
use crate::place::Place;
pub use crate::rows::{inputs, rows};
use crate::stores::{Cache, Models};

/// Connections at a time: the supervisor, the other segments, and clients.
const CONNECTIONS_MAX: usize = 1_024;
/// More slots than this is a mistake.
const SLOTS_MAX: u32 = 1_024;

/// How a segment is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its number in the cluster.
    pub segment: SegmentId,
    /// Where it listens, as `host:port`, port 0 for any, or as `unix:/path`.
    pub listen: String,
    /// Where others reach it, as `host` or `host:port`; by default where it listens.
    pub advertise: Option<String>,
    /// How many models it trains at once, each on one thread.
    pub slots: u32,
    /// The supervisor's location, such as `grpc://10.0.0.1:7400`.
    pub supervisor: String,
    /// Bytes of memory for shards.
    pub cache_memory: u64,
    /// The folder with shards' files. Without one all shards must fit into memory, and are gone when it
    /// stops.
    pub folder: Option<ShardFolder>,
    /// Bytes for models in training, all slots together.
    pub model_memory: u64,
    /// Where they are trained.
    pub device: Device,
    /// Bytes of the device's memory for copies of shards; nothing on the CPU.
    pub device_memory: u64,
}

/// A segment that is running.
pub type Running = Serving<SegmentError>;

/// Where the actors are told what; everything but the actors' insides.
struct Started {
    cache: Cache,
    models: Models,
    control: Control,
    attached: Recipient<actors::host::IsAttached>,
}

/// Starts a segment: its actors on `actors`, its services on the current tokio runtime.
///
/// # Errors
/// All problems of the settings; or why it cannot listen.
pub async fn start(settings: Settings, actors: &Actors) -> Result<Running, SegmentError> {
    let settings = check(settings)?;
    let listening = listen(&settings.listen, settings.advertise.as_deref()).await;
    let (listener, uri) = listening.map_err(SegmentError::Listen)?;
    let (stop, stopped) = watch::channel(false);
    let started = start_actors(&settings, stopped.clone(), actors).await;
    let info = SegmentInfo {
        segment: settings.segment.0,
        uri: uri.clone(),
        slots: settings.slots,
        model_memory_bytes: settings.model_memory,
        protocol: PROTOCOL,
        has_gpu: !settings.device.is_cpu(),
    };
    let attached = started.attached.clone();
    let serving = tokio::spawn(serve(listener, uri.clone(), started, stopped.clone()));
    tokio::spawn(join::stay_joined(settings.supervisor, info, attached, stopped));
    Ok(Serving::new(uri, stop, serving))
}

fn check(settings: Settings) -> Result<Settings, SegmentError> {
    let mut problems = Problems::new();
    if settings.slots == 0 || settings.slots > SLOTS_MAX {
        let text = format!("{} is not from 1 to {SLOTS_MAX}", settings.slots);
        problems.push("slots", text);
    }
    for (name, bytes) in
        [("cache_memory", settings.cache_memory), ("model_memory", settings.model_memory)]
    {
        if bytes == 0 {
            problems.push(name, "must be more than 0 bytes");
        }
    }
    problems.or(settings).map_err(SegmentError::Settings)
}

async fn start_actors(
    settings: &Settings,
    stopped: watch::Receiver<bool>,
    actors: &Actors,
) -> Started {
    let peers = Peers::new(tokio::runtime::Handle::current(), settings.model_memory);
    let slots = settings.slots;
    let offer = SlotOffer {
        memory: settings.model_memory / u64::from(slots.max(1)),
        precisions: settings.device.precisions(),
    };
    let budget = ByteBudget::new(settings.cache_memory);
    let folder = settings.folder.clone();
    let place = Arc::new(Place::new(settings.device.clone(), settings.device_memory));
    actors
        .start(move || {
            let shards = Shards::new(folder.clone(), Arc::clone(&budget)).start();
            let new_trainer = move || -> Recipient<Work> {
                let place = Arc::clone(&place);
                SyncArbiter::start(1, move || Trainer::new(Arc::clone(&place))).recipient()
            };
            let finder = shards.clone().recipient();
            let host = Host::new(slots, Box::new(new_trainer), finder, peers, offer).start();
            Started {
                cache: Cache {
                    budget,
                    folder,
                    in_use: shards.clone().recipient(),
                    list: shards.clone().recipient(),
                    find: shards.clone().recipient(),
                    keep: shards.clone().recipient(),
                    drop: shards.recipient(),
                },
                models: Models { list: host.clone().recipient(), find: host.clone().recipient() },
                control: Control {
                    attach: host.clone().recipient(),
                    detach: host.clone().recipient(),
                    obey: host.clone().recipient(),
                    stopped,
                },
                attached: host.recipient(),
            }
        })
        .await
}

async fn serve(
    listener: Listener,
    uri: String,
    started: Started,
    stopped: watch::Receiver<bool>,
) -> Result<(), SegmentError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SegmentServer<Control>>().await;
    health.set_serving::<FlightFront>().await;
    let flight = FlightServer::new(Arc::new(started.cache), Arc::new(started.models), uri);
    let control = SegmentServer::new(started.control)
        .max_decoding_message_size(arrowhop_flight::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(arrowhop_flight::MESSAGE_BYTES_MAX);
    server_builder()
        .add_service(health_service)
        .add_service(flight.into_service())
        .add_service(control)
        .serve_with_incoming_shutdown(incoming(listener, CONNECTIONS_MAX), until_stopped(stopped))
        .await?;
    Ok(())
}
