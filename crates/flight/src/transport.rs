//! HTTP/2 as every service of ours speaks it: the same limits, windows and keepalive at both ends,
//! set on purpose. The frame size is what matters most: with 1 MiB instead of HTTP/2's default of
//! 16 KiB, receiving costs half the CPU and sending two thirds of it less.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrowhop_types::Problems;
use futures::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server};

use crate::FlightError;
use crate::listen::{Listener, UNIX_SCHEME};

/// Largest message, either way.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Largest IPC body: a message has a header, too.
pub(crate) const BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX - (64 << 10);

const FRAME_BYTES: u32 = 1 << 20;
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
const STREAMS_PER_CONNECTION: u32 = 256;
const HEADER_LIST_BYTES: u32 = 16 << 10;
/// A peer that is silent this long is asked for a sign of life…
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// …and is taken for lost if none comes within this.
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(20);
/// After a failed accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A server without services yet.
#[must_use]
pub fn server_builder() -> Server {
    Server::builder()
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(HEADER_LIST_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_LIMIT))
}

/// Connects to `grpc://host:port` (or `http://host:port`), or to `grpc+unix:///path`.
///
/// # Errors
/// [`FlightError::Invalid`] for another kind of address, [`FlightError::Connect`] or
/// [`FlightError::TimedOut`] when no connection comes about within `limit`.
pub async fn connect(uri: &str, limit: Duration) -> Result<Channel, FlightError> {
    let malformed = |text: String| FlightError::Invalid(Problems::one(format!("{uri:?}"), text));
    let tcp = ["grpc://", "grpc+tcp://", "http://"];
    let place = match uri.strip_prefix(UNIX_SCHEME) {
        Some(path) => Some(format!("unix:{path}")),
        None => tcp
            .into_iter()
            .find_map(|scheme| uri.strip_prefix(scheme))
            .map(|authority| format!("http://{authority}")),
    };
    let place = place.ok_or_else(|| {
        malformed("is not an address such as grpc://10.0.0.7:7410 or grpc+unix:///path".into())
    })?;
    let endpoint = Endpoint::from_shared(place)
        .map_err(|error| malformed(error.to_string()))?
        .connect_timeout(limit)
        .tcp_nodelay(true)
        .max_frame_size(FRAME_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_LIST_BYTES)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true);
    tokio::time::timeout(limit, endpoint.connect())
        .await
        .map_err(|_| FlightError::TimedOut { action: "connect", limit })?
        .map_err(|source| FlightError::Connect { uri: uri.to_owned(), source })
}

/// Connections to serve with `serve_with_incoming`: at most `connections_max` at a time, further
/// ones wait in the listener's backlog. (tonic itself sets no limit.)
pub fn incoming(
    listener: impl Into<Listener>,
    connections_max: usize,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(connections_max));
    stream::unfold((listener.into(), places), |(listener, places)| async move {
        let place = Arc::clone(&places).acquire_owned().await.expect("places are never closed");
        let connection = accept(&listener, place).await;
        if connection.is_err() {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        Some((connection, (listener, places)))
    })
}

async fn accept(listener: &Listener, place: OwnedSemaphorePermit) -> io::Result<Connection> {
    let socket = match listener {
        Listener::Tcp(listener) => {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            Socket::Tcp(socket)
        }
        Listener::Unix(listener, _) => Socket::Unix(listener.accept().await?.0),
    };
    Ok(Connection { socket, _place: place })
}

/// An accepted connection that counts against a limit until it is closed.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    _place: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Connection {
    fn socket(self: Pin<&mut Self>) -> Pin<&mut dyn Duplex> {
        match &mut self.get_mut().socket {
            Socket::Tcp(socket) => Pin::new(socket),
            Socket::Unix(socket) => Pin::new(socket),
        }
    }
}

/// Nothing here asks who is at the other end.
impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.socket().poll_write_vectored(cx, pieces)
    }

    /// Both kinds write many pieces at once.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket().poll_shutdown(cx)
    }
}
