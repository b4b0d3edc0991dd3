//! The supervisor: it owns runs, the schedule and the hop log, and sends models from segment to
//! segment. It holds no data and no weights; states pass through its archive only on their way to
//! the model store, in the background.

mod actors;
mod error;
mod federation;
mod front;
mod lock;
mod run;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context};
use arrowhop_catalog::Catalog;
use arrowhop_flight::{
    FlightError, FlightFront, FlightServer, Listener, MESSAGE_BYTES_MAX, Predictor, Uploads,
    incoming, listen, server_builder,
};
use arrowhop_runtime::panics::contained;
use arrowhop_runtime::{Actors, Serving, until_stopped};
use arrowhop_types::ErrorClass;
use arrowhop_wire::control::supervisor_server::SupervisorServer;
use tokio::sync::watch;

use crate::actors::archive::Archive;
pub use crate::actors::archive::Store;
use crate::actors::hopper::{Hopper, UseArchive};
pub use crate::error::SupervisorError;
use crate::federation::Federation;
use crate::front::Front;

/// Connections at a time: segments and clients.
const CONNECTIONS_MAX: usize = 1_024;

/// States that clients put are kept this long for the run that is to start from them.
const OFFER_LIMIT: Duration = Duration::from_secs(24 * 3_600);

/// Where uploads are kept, below the state directory.
const UPLOADS: &str = "uploads";

/// How a supervisor is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens, as `host:port`, port 0 for any, or as `unix:/path`.
    pub listen: String,
    /// Where others reach it, as `host` or `host:port`; by default where it listens.
    pub advertise: Option<String>,
    /// Catalog and model store.
    pub state: PathBuf,
    /// Bytes of uploads that are kept, in the folder `uploads` beside the catalog; 0 for none.
    pub upload_disk: u64,
    /// Answers clients that stream rows in for predictions; none refuses them.
    pub predictor: Option<Arc<dyn Predictor>>,
}

/// A supervisor that is running.
pub type Running = Serving<SupervisorError>;

/// Starts a supervisor: its actors on `actors`, its services on the current tokio runtime.
///
/// # Errors
/// When the catalog cannot be opened or the address not listened on.
pub async fn start(settings: Settings, actors: &Actors) -> Result<Running, SupervisorError> {
    let listening = listen(&settings.listen, settings.advertise.as_deref()).await;
    let (listener, uri) = listening.map_err(SupervisorError::Listen)?;
    let catalog = Catalog::open(&settings.state)?;
    let store = Store::new(&settings.state);
    let unwanted = store.withdraw_older(OFFER_LIMIT);
    unwanted.map_err(|source| SupervisorError::File { path: settings.state.clone(), source })?;
    let front = start_actors(&settings, catalog, store.clone(), &uri, actors).await;
    let (stop, stopped) = watch::channel(false);
    let federation = Federation::new(front.segments.clone());
    let mut flight = FlightServer::new(Arc::new(federation), Arc::new(store), &*uri);
    if settings.upload_disk > 0 {
        let (folder, limit) = (settings.state.join(UPLOADS), settings.upload_disk);
        let opening = move || Uploads::open(&folder, limit, contain);
        let uploads = tokio::task::spawn_blocking(opening).await;
        flight = flight.with_uploads(Arc::new(uploads.expect("opening uploads does not panic")?));
    }
    if let Some(predictor) = settings.predictor {
        flight = flight.with_predictor(predictor);
    }
    let serving = tokio::spawn(serve(listener, front, flight, stopped));
    Ok(Serving::new(uri, stop, serving))
}

/// What clients upload may hold anything: reading it must not end the process.
fn contain(work: &mut dyn FnMut()) -> Result<(), FlightError> {
    contained(work).map_err(|panic| FlightError::Store {
        action: "read what was uploaded",
        class: ErrorClass::Invalid,
        source: panic.into(),
    })
}

async fn start_actors(
    settings: &Settings,
    catalog: Catalog,
    store: Store,
    uri: &str,
    actors: &Actors,
) -> Front {
    let runtime = tokio::runtime::Handle::current();
    let (state, uri) = (settings.state.clone(), uri.to_owned());
    actors
        .start(move || {
            let hopper = Hopper::create(|ctx: &mut Context<Hopper>| {
                let kept = ctx.address().recipient();
                let archive = Archive::new(store.clone(), runtime.clone(), kept).start();
                ctx.notify(UseArchive(archive.clone().recipient(), archive.recipient()));
                Hopper::new(catalog, store, uri, runtime)
            });
            Front {
                state,
                join: hopper.clone().recipient(),
                segments: hopper.clone().recipient(),
                submit: hopper.clone().recipient(),
                resume: hopper.clone().recipient(),
                watch: hopper.clone().recipient(),
                stop: hopper.recipient(),
            }
        })
        .await
}

async fn serve(
    listener: Listener,
    front: Front,
    flight: FlightServer,
    stopped: watch::Receiver<bool>,
) -> Result<(), SupervisorError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<SupervisorServer<Front>>().await;
    health.set_serving::<FlightFront>().await;
    let front = SupervisorServer::new(front)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    server_builder()
        .add_service(health_service)
        .add_service(flight.into_service())
        .add_service(front)
        .serve_with_incoming_shutdown(incoming(listener, CONNECTIONS_MAX), until_stopped(stopped))
        .await?;
    Ok(())
}
