//! The front of the Flight service. It answers `DoGet` itself, with bodies whose bytes are the
//! stores' own memory: no message is encoded, and none is copied on its way to the socket.
//! Everything else goes on to tonic.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use arrowhop_types::Problems;
use arrowhop_wire::tickets::{TICKET_BYTES_MAX, Ticket, UploadName};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, stream};
use http_body::Frame;
use http_body_util::{BodyExt, Limited, StreamBody};
use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

use crate::FlightError;
use crate::encode::GRPC_PREFIX_BYTES;
use crate::server::FlightServer;

const DO_GET: &str = "/arrow.flight.protocol.FlightService/DoGet";
/// A ticket with its gRPC prefix, its protobuf key and its length.
const REQUEST_BYTES_MAX: usize = TICKET_BYTES_MAX + 16;
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// The service to add to [`crate::server_builder`]; made by [`FlightServer::into_service`].
#[derive(Debug, Clone)]
pub struct FlightFront {
    tonic: FlightServiceServer<FlightServer>,
    server: Arc<FlightServer>,
}

impl FlightFront {
    pub(crate) fn new(tonic: FlightServiceServer<FlightServer>, server: Arc<FlightServer>) -> Self {
        Self { tonic, server }
    }
}

impl NamedService for FlightFront {
    const NAME: &'static str = <FlightServiceServer<FlightServer> as NamedService>::NAME;
}

impl Service<http::Request<Body>> for FlightFront {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<Body>>::poll_ready(&mut self.tonic, cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != DO_GET {
            return self.tonic.call(watched(request));
        }
        let server = Arc::clone(&self.server);
        async move {
            let answer = do_get(&server, request.into_body()).await;
            Ok(answer.unwrap_or_else(Status::into_http))
        }
        .boxed()
    }
}

/// Whether a request's body broke off. tonic ends the messages of a cancelled request as if they were
/// all, which an upload must not believe.
#[derive(Debug, Clone, Default)]
pub(crate) struct BrokeOff(Arc<AtomicBool>);

impl BrokeOff {
    pub(crate) fn has(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// The same request, which tells in its extensions whether its body broke off.
fn watched(request: http::Request<Body>) -> http::Request<Body> {
    let broke_off = BrokeOff::default();
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(broke_off.clone());
    let body = body.map_err(move |status| {
        broke_off.0.store(true, Ordering::Release);
        status
    });
    http::Request::from_parts(parts, Body::new(body))
}

async fn do_get(server: &FlightServer, body: Body) -> Result<http::Response<Body>, Status> {
    let ticket = read_ticket(body).await?;
    let frames: Frames = match ticket {
        Ticket::Upload(name) => return upload(server, name),
        Ticket::Shard(shard) => Box::new(server.shards.shard(shard).await?.frames()),
        Ticket::Selection(selection) => {
            Box::new(server.shards.shard(selection.shard).await?.selected(&selection)?)
        }
        Ticket::Model(model) => Box::new(server.models.state(model).await?.frames(model)),
    };
    Ok(respond(Body::new(Direct { frames: Some(frames) })))
}

fn respond(body: Body) -> http::Response<Body> {
    let mut response = http::Response::new(body);
    let content_type = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, content_type);
    response
}

/// Reads an upload from its file, on a thread that may wait for the disk, two messages ahead.
fn upload(server: &FlightServer, name: UploadName) -> Result<http::Response<Body>, Status> {
    let uploads = Arc::clone(server.uploads()?);
    let (frames, read) = mpsc::channel(2);
    let listed = uploads.find(&name)?;
    tokio::task::spawn_blocking(move || {
        let mut trailers = http::HeaderMap::new();
        let read = uploads.read(&listed.name).and_then(|mut messages| {
            let failed = |source| FlightError::File { path: uploads.path(&listed.name), source };
            while let Some(pieces) = messages.next_frames().map_err(failed)? {
                for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
                    if frames.blocking_send(Ok::<_, Infallible>(Frame::data(piece))).is_err() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        });
        let status = read.map_or_else(Status::from, |()| Status::ok(""));
        if status.add_header(&mut trailers).is_ok() {
            // A client that has left needs none.
            drop(frames.blocking_send(Ok(Frame::trailers(trailers))));
        }
    });
    let body = stream::unfold(read, async |mut read| Some((read.recv().await?, read)));
    Ok(respond(Body::new(StreamBody::new(body))))
}

/// Reads a unary request: one uncompressed gRPC message with a Flight ticket.
async fn read_ticket(body: Body) -> Result<Ticket, Status> {
    let refuse = |text: &str| FlightError::Invalid(Problems::one("ticket", text));
    let request =
        tokio::time::timeout(REQUEST_LIMIT, Limited::new(body, REQUEST_BYTES_MAX).collect())
            .await
            .map_err(|_| FlightError::TimedOut { action: "read a ticket", limit: REQUEST_LIMIT })?
            .map_err(|_| refuse("was not received whole, or is longer than 1 KiB"))?
            .to_bytes();
    if request.len() < GRPC_PREFIX_BYTES {
        return Err(refuse("is absent").into());
    }
    let (prefix, message) = request.split_at(GRPC_PREFIX_BYTES);
    if prefix[0] != 0 {
        return Err(Status::unimplemented("compressed requests are not read; send plain ones"));
    }
    if prefix[1..] != u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes() {
        return Err(refuse("is not one gRPC message").into());
    }
    let ticket =
        arrow_flight::Ticket::decode(message).map_err(|_| refuse("is not a Flight ticket"))?;
    Ticket::try_from(&*ticket.ticket).map_err(|problems| FlightError::from(problems).into())
}

type Frames = Box<dyn Iterator<Item = Bytes> + Send>;

/// A gRPC response body: messages as they lie in memory, then the trailers. Dropping it, at any
/// time, lets go of the store's memory.
struct Direct {
    /// What is still to be sent; `None` once the trailers were.
    frames: Option<Frames>,
}

impl http_body::Body for Direct {
    type Data = Bytes;
    type Error = Infallible;

    /// Always ready: HTTP/2's flow control decides when it is asked.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(frames) = &mut self.frames else {
            return Poll::Ready(None);
        };
        let frame = frames.next().map(Frame::data).unwrap_or_else(|| {
            let mut trailers = http::HeaderMap::new();
            trailers.insert(Status::GRPC_STATUS, http::HeaderValue::from_static("0"));
            Frame::trailers(trailers)
        });
        if frame.is_trailers() {
            self.frames = None;
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tonic::Code;

    use super::*;
    use crate::{MemoryModels, MemoryShards};

    /// The status of `DoGet` for a request that no gRPC library would send.
    async fn refusal(request: &[u8]) -> (Code, String) {
        let (shards, models) = (MemoryShards::new(0), MemoryModels::default());
        let server = FlightServer::new(Arc::new(shards), Arc::new(models), "grpc://here:1");
        let body = Body::new(Full::new(Bytes::copy_from_slice(request)));
        let request = http::Request::post(DO_GET).body(body).unwrap();
        let response = server.into_service().call(request).await.unwrap();
        assert_eq!(response.headers()[http::header::CONTENT_TYPE], "application/grpc");
        let status = Status::from_header_map(response.headers()).unwrap();
        (status.code(), status.message().to_owned())
    }

    #[tokio::test]
    async fn malformed_requests_get_proper_grpc_answers() {
        for (request, complaint) in [
            (&[][..], "ticket: is absent"),
            (&[0, 0, 0, 0], "ticket: is absent"),
            (&[0, 0, 0, 0, 9, 1], "ticket: is not one gRPC message"),
            (&[0, 0, 0, 0, 1, 0xff], "ticket: is not a Flight ticket"),
            (&[0; 2_000], "ticket: was not received whole, or is longer than 1 KiB"),
        ] {
            assert_eq!(refusal(request).await, (Code::InvalidArgument, complaint.to_owned()));
        }
        assert_eq!(refusal(&[1, 0, 0, 0, 0]).await.0, Code::Unimplemented);
    }
}
