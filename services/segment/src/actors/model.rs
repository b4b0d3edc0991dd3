//! One resident model: the versions of its state that are here, and the fetch that brings the next
//! one. A state that two visits want is fetched once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorContext, ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture,
};
use arrowhop_flight::{FlightError, ModelTicket, StateBytes};
use arrowhop_types::{Digest, ModelId, RunId, Version};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};

use crate::peers::Peers;

/// A model that is, or was, trained here.
pub(crate) struct Model {
    run: RunId,
    model: ModelId,
    states: BTreeMap<Version, StateBytes>,
    fetching: BTreeMap<Version, Fetch>,
    peers: Peers,
}

type Fetch = Shared<BoxFuture<'static, Result<Obtained, Arc<FlightError>>>>;

/// A state, and what it took to get it here.
#[derive(Debug, Clone)]
pub(crate) struct Obtained {
    pub(crate) state: StateBytes,
    /// How long the fetch took; zero when it was here.
    pub(crate) took: Duration,
    /// Bytes that were fetched.
    pub(crate) bytes: u64,
}

/// Bring a version here, from where it is.
#[derive(Message)]
#[rtype(result = "Result<Obtained, Arc<FlightError>>")]
pub(crate) struct Obtain {
    pub(crate) version: Version,
    pub(crate) from_uri: Option<String>,
    pub(crate) digest: Digest,
}

/// A version that is here, for a peer or the model store.
#[derive(Message)]
#[rtype(result = "Option<StateBytes>")]
pub(crate) struct StateOf(pub(crate) Version);

/// The versions that are here, with their sizes.
#[derive(Message)]
#[rtype(result = "Vec<(Version, StateBytes)>")]
pub(crate) struct ListStates;

/// Keep a version that was made here.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct KeepState {
    pub(crate) version: Version,
    pub(crate) state: StateBytes,
}

/// Versions below this one may go.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ReleaseBelow(pub(crate) Version);

/// The run is closed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Leave;

impl Model {
    pub(crate) fn new(run: RunId, model: ModelId, peers: Peers) -> Self {
        let (states, fetching) = (BTreeMap::new(), BTreeMap::new());
        Self { run, model, states, fetching, peers }
    }

    fn ticket(&self, version: Version) -> ModelTicket {
        ModelTicket { run: self.run, model: self.model, version }
    }

    fn fetch(&self, version: Version, uri: String, digest: Digest) -> Fetch {
        let (ticket, peers) = (self.ticket(version), self.peers.clone());
        let fetch = async move {
            let started_at = Instant::now();
            let state = peers.state(&uri, ticket).await?;
            if state.digest != digest {
                return Err(FlightError::WrongDigest { expected: digest, found: state.digest });
            }
            let bytes = state.bytes.len() as u64;
            Ok(Obtained { state, took: started_at.elapsed(), bytes })
        };
        fetch.map(|result| result.map_err(Arc::new)).boxed().shared()
    }
}

impl Actor for Model {
    type Context = Context<Self>;
}

impl Handler<Obtain> for Model {
    type Result = ResponseActFuture<Self, Result<Obtained, Arc<FlightError>>>;

    fn handle(&mut self, obtain: Obtain, _: &mut Context<Self>) -> Self::Result {
        let version = obtain.version;
        if let Some(state) = self.states.get(&version) {
            let here = Obtained { state: state.clone(), took: Duration::ZERO, bytes: 0 };
            return Box::pin(actix::fut::ready(Ok(here)));
        }
        let Some(uri) = obtain.from_uri else {
            let missing = FlightError::MissingModel(self.ticket(version));
            return Box::pin(actix::fut::ready(Err(Arc::new(missing))));
        };
        let fetch = match self.fetching.get(&version) {
            Some(fetch) => fetch.clone(),
            None => {
                let fetch = self.fetch(version, uri, obtain.digest);
                self.fetching.insert(version, fetch.clone());
                fetch
            }
        };
        Box::pin(fetch.into_actor(self).map(move |result, model, _| {
            model.fetching.remove(&version);
            if let Ok(obtained) = &result {
                model.states.insert(version, obtained.state.clone());
            }
            result
        }))
    }
}

impl Handler<StateOf> for Model {
    type Result = Option<StateBytes>;

    fn handle(&mut self, state: StateOf, _: &mut Context<Self>) -> Self::Result {
        self.states.get(&state.0).cloned()
    }
}

impl Handler<ListStates> for Model {
    type Result = Vec<(Version, StateBytes)>;

    fn handle(&mut self, _: ListStates, _: &mut Context<Self>) -> Self::Result {
        self.states.iter().map(|(version, state)| (*version, state.clone())).collect()
    }
}

impl Handler<KeepState> for Model {
    type Result = ();

    fn handle(&mut self, keep: KeepState, _: &mut Context<Self>) {
        self.states.insert(keep.version, keep.state);
    }
}

impl Handler<ReleaseBelow> for Model {
    type Result = ();

    fn handle(&mut self, release: ReleaseBelow, _: &mut Context<Self>) {
        self.states = self.states.split_off(&release.0);
    }
}

impl Handler<Leave> for Model {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Context<Self>) {
        ctx.stop();
    }
}
