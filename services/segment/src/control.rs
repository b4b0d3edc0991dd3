//! The control service: one stream of commands in, one stream of facts out. When either ends the
//! supervisor counts as gone.

use std::pin::Pin;
use std::time::Duration;

use actix::Recipient;
use arrowhop_runtime::{ask, tell, until_stopped};
use arrowhop_wire::control::segment_server::Segment;
use arrowhop_wire::status::status_of;
use arrowhop_wire::{Command, Fact, control as proto};
use futures::{Stream, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};

use crate::actors::host::{Attach, Detach, Obey};

const TIMEOUT: Duration = Duration::from_secs(10);
/// Facts that may wait for a slow supervisor; beyond that it counts as gone.
const FACTS_MAX: usize = 1_024;
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);

/// The segment as its supervisor sees it.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) attach: Recipient<Attach>,
    pub(crate) detach: Recipient<Detach>,
    pub(crate) obey: Recipient<Obey>,
    /// The segment is stopping: the attachment ends.
    pub(crate) stopped: watch::Receiver<bool>,
}

#[tonic::async_trait]
impl Segment for Control {
    type AttachStream = Pin<Box<dyn Stream<Item = Result<proto::Fact, Status>> + Send>>;

    async fn attach(
        &self,
        request: Request<Streaming<proto::Command>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let (facts, outgoing) = mpsc::channel(FACTS_MAX);
        let attached = ask(&self.attach, Attach(facts.clone()), TIMEOUT).await;
        let attachment =
            attached.map_err(|error| status_of(&error))?.map_err(|error| status_of(&error))?;
        info!(attachment, "a supervisor attached");
        let control = self.clone();
        tokio::spawn(async move {
            control.obey_all(request.into_inner(), facts).await;
            if let Err(error) = tell(&control.detach, Detach(attachment)) {
                warn!(%error, "the host does not hear that the supervisor left");
            }
        });
        let outgoing = ReceiverStream::new(outgoing).map(|fact: Fact| Ok(fact.into()));
        Ok(Response::new(Box::pin(outgoing)))
    }
}

impl Control {
    /// Passes commands on, in order, until the stream ends; sends heartbeats meanwhile.
    async fn obey_all(&self, mut commands: Streaming<proto::Command>, facts: mpsc::Sender<Fact>) {
        let mut heartbeat = tokio::time::interval(HEARTBEAT_INTERVAL);
        let stopped = until_stopped(self.stopped.clone());
        let mut stopped = std::pin::pin!(stopped);
        loop {
            tokio::select! {
                () = &mut stopped => return,
                command = commands.next() => match command {
                    Some(Ok(command)) => if !self.obey(command).await { return },
                    Some(Err(status)) => return info!(%status, "the supervisor's stream broke"),
                    None => return,
                },
                _ = heartbeat.tick() => {
                    if facts.is_closed() {
                        return;
                    }
                    // A full channel has signs of life enough.
                    drop(facts.try_send(Fact::Heartbeat));
                }
            }
        }
    }

    async fn obey(&self, command: proto::Command) -> bool {
        let command = match Command::try_from(command) {
            Ok(command) => command,
            Err(error) => {
                warn!(%error, "a command that cannot be understood ends the attachment");
                return false;
            }
        };
        match ask(&self.obey, Obey(command), TIMEOUT).await {
            Ok(()) => true,
            Err(error) => {
                warn!(%error, "the host does not take commands");
                false
            }
        }
    }
}
