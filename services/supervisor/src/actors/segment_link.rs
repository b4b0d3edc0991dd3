//! The supervisor's side of one segment: a proxy that turns messages into the `Attach` stream and
//! the stream's facts into messages. When the stream breaks, or falls silent, the segment is lost.

use std::time::Duration;

use actix::{Actor, Context, Handler, Message, Recipient};
use arrowhop_flight::{MESSAGE_BYTES_MAX, connect};
use arrowhop_runtime::{AskError, ask, tell};
use arrowhop_types::SegmentId;
use arrowhop_wire::control::SegmentInfo;
use arrowhop_wire::control::segment_client::SegmentClient;
use arrowhop_wire::status::status_of;
use arrowhop_wire::{Command, Fact, PROTOCOL, control as proto};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use crate::actors::hopper::{Attached, Lost, Reported};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A segment sends a fact every second; one that is silent this long is lost.
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// A decider that takes longer than this for one fact is broken.
const REPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// Commands that may wait for a slow segment; beyond that it is lost.
const COMMANDS_MAX: usize = 1_024;

/// Sends commands to one segment.
pub(crate) struct SegmentLink {
    segment: SegmentId,
    commands: mpsc::Sender<Command>,
    lost: Recipient<Lost>,
}

/// Send a command.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Tell(pub(crate) Command);

/// Whom a link tells what.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) attached: Recipient<Attached>,
    pub(crate) reported: Recipient<Reported>,
    pub(crate) lost: Recipient<Lost>,
}

impl SegmentLink {
    /// Starts the link; its stream lives on `runtime`.
    pub(crate) fn open(
        info: &SegmentInfo,
        listener: Listener,
        runtime: &tokio::runtime::Handle,
    ) -> Recipient<Tell> {
        let segment = SegmentId(info.segment);
        let (commands, outgoing) = mpsc::channel(COMMANDS_MAX);
        let lost = listener.lost.clone();
        runtime.spawn(stay_attached(info.clone(), outgoing, listener));
        Self { segment, commands, lost }.start().recipient()
    }
}

impl Actor for SegmentLink {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(COMMANDS_MAX);
    }
}

impl Handler<Tell> for SegmentLink {
    type Result = ();

    fn handle(&mut self, command: Tell, _: &mut Context<Self>) {
        if let Err(error) = self.commands.try_send(command.0) {
            warn!(segment = %self.segment, %error, "a segment does not take commands");
            let lost = Lost { segment: self.segment, reason: error.to_string() };
            if let Err(error) = tell(&self.lost, lost) {
                warn!(%error, "the hopper does not hear of a lost segment");
            }
        }
    }
}

async fn stay_attached(info: SegmentInfo, outgoing: mpsc::Receiver<Command>, listener: Listener) {
    let segment = SegmentId(info.segment);
    let status = match attach(&info.uri, outgoing).await {
        Ok(facts) => {
            info!(%segment, uri = info.uri, "segment attached");
            if tell(&listener.attached, Attached { segment }).is_err() {
                return;
            }
            pass_on(segment, facts, &listener.reported).await
        }
        Err(status) => status,
    };
    let lost = Lost { segment, reason: status.message().to_owned() };
    match ask(&listener.lost, lost, REPORT_TIMEOUT).await {
        // The supervisor is stopping; nobody is left to care.
        Ok(()) | Err(AskError::Closed { .. }) => {}
        Err(error) => warn!(%segment, %error, "the hopper does not hear of a lost segment"),
    }
}

async fn attach(
    uri: &str,
    outgoing: mpsc::Receiver<Command>,
) -> Result<Streaming<proto::Fact>, Status> {
    let channel = connect(uri, CONNECT_TIMEOUT).await.map_err(|error| status_of(&error))?;
    let hello = tokio_stream::once(Command::Hello { protocol: PROTOCOL });
    let commands = hello.chain(ReceiverStream::new(outgoing)).map(proto::Command::from);
    let mut client = SegmentClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let attached = tokio::time::timeout(CONNECT_TIMEOUT, client.attach(commands)).await;
    Ok(attached.map_err(|_| Status::deadline_exceeded("it does not answer"))??.into_inner())
}

/// Passes facts on, each when the one before it was taken, until the stream ends.
async fn pass_on(
    segment: SegmentId,
    mut facts: Streaming<proto::Fact>,
    reported: &Recipient<Reported>,
) -> Status {
    loop {
        let fact = match tokio::time::timeout(SILENCE_MAX, facts.next()).await {
            Err(_) => return Status::deadline_exceeded(format!("silent for {SILENCE_MAX:?}")),
            Ok(None) => return Status::unavailable("it ended the connection"),
            Ok(Some(Err(status))) => return status,
            Ok(Some(Ok(fact))) => fact,
        };
        let fact = match Fact::try_from(fact) {
            Ok(Fact::Heartbeat) => continue,
            Ok(fact) => fact,
            Err(error) => return status_of(&error),
        };
        if let Err(error) = ask(reported, Reported { segment, fact }, REPORT_TIMEOUT).await {
            return status_of(&error);
        }
    }
}
