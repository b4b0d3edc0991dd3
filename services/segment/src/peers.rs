//! Connections to the hosts that states are fetched from: one per host, made when first needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrowhop_flight::{FlightError, FlightPeer, ModelTicket, StateBytes, connect};
use tokio::sync::Mutex;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const FETCH_TIMEOUT: Duration = Duration::from_secs(180);

/// The other hosts, by their locations.
#[derive(Clone)]
pub(crate) struct Peers {
    runtime: tokio::runtime::Handle,
    state_bytes_max: u64,
    connected: Arc<Mutex<BTreeMap<String, FlightPeer>>>,
}

impl Peers {
    /// Fetches run on `runtime`; a state larger than `state_bytes_max` is refused.
    pub(crate) fn new(runtime: tokio::runtime::Handle, state_bytes_max: u64) -> Self {
        Self { runtime, state_bytes_max, connected: Arc::default() }
    }

    /// Pulls a state from the host at `uri`.
    pub(crate) async fn state(
        &self,
        uri: &str,
        ticket: ModelTicket,
    ) -> Result<StateBytes, FlightError> {
        let (peers, uri) = (self.clone(), uri.to_owned());
        // Not on the actors' thread: a large state would hold up their messages.
        let pull = self.runtime.spawn(async move {
            let peer = peers.connect(&uri).await?;
            let pulled = peer.state(ticket, peers.state_bytes_max, FETCH_TIMEOUT).await;
            if pulled.is_err() {
                peers.connected.lock().await.remove(&uri);
            }
            pulled
        });
        pull.await.expect("a fetch does not panic and is not aborted")
    }

    async fn connect(&self, uri: &str) -> Result<FlightPeer, FlightError> {
        if let Some(peer) = self.connected.lock().await.get(uri) {
            return Ok(peer.clone());
        }
        // Without the lock: a host that does not answer must not hold up fetches from others.
        let peer = FlightPeer::new(connect(uri, CONNECT_TIMEOUT).await?);
        self.connected.lock().await.insert(uri.to_owned(), peer.clone());
        Ok(peer)
    }
}
