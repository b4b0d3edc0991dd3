//! Where a process listens: a port, or a Unix socket, which only its own user reaches. The socket's
//! file goes when the listener does; one that a dead process left behind is replaced.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use crate::FlightError;

/// Before the path of a Unix socket, where one listens.
const UNIX: &str = "unix:";
/// Before the path of a Unix socket, as Flight's locations say it.
pub(crate) const UNIX_SCHEME: &str = "grpc+unix://";

/// What a process listens on.
#[derive(Debug)]
pub enum Listener {
    /// A port.
    Tcp(TcpListener),
    /// A Unix socket and its file.
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix socket, removed when this is dropped unless another process has replaced it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

/// Listens on `host:port`, where port 0 takes any free one, or on `unix:/path`; says where that is
/// reached: as advertised (a `host` or `host:port`), else where it listens.
///
/// # Errors
/// [`FlightError::Listen`], which names the address.
pub async fn listen(
    address: &str,
    advertise: Option<&str>,
) -> Result<(Listener, String), FlightError> {
    let refused = |source| FlightError::Listen { address: address.to_owned(), source };
    let Some(path) = address.strip_prefix(UNIX) else {
        let listener = TcpListener::bind(address).await.map_err(refused)?;
        let actual = listener.local_addr().map_err(refused)?;
        return Ok((Listener::Tcp(listener), location(advertise, actual)));
    };
    if advertise.is_some() {
        let text = "a Unix socket is reached on this machine alone; advertise nothing";
        return Err(refused(io::Error::new(io::ErrorKind::InvalidInput, text)));
    }
    let path = std::path::absolute(path).map_err(refused)?;
    let (listener, file) = listen_unix(&path).map_err(refused)?;
    Ok((Listener::Unix(listener, file), format!("{UNIX_SCHEME}{}", path.display())))
}

/// Where a service that listens on `address` is reached.
fn location(advertise: Option<&str>, address: SocketAddr) -> String {
    match advertise {
        None => format!("grpc://{address}"),
        Some(host) if host.contains(':') => format!("grpc://{host}"),
        Some(host) => format!("grpc://{host}:{}", address.port()),
    }
}

/// The socket is made in a folder that nobody else may enter, and moved to its place when it is as
/// closed as it must be: at no time can others reach it.
fn listen_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    check_place(path)?;
    let folder = path.with_extension(format!("{}.new", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&folder)?;
    let made = folder.join("s");
    let listening = (|| {
        let listener = UnixListener::bind(&made)?;
        fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
        let metadata = fs::symlink_metadata(&made)?;
        fs::rename(&made, path)?;
        let identity = (metadata.dev(), metadata.ino());
        Ok((listener, SocketFile { path: path.to_owned(), identity }))
    })();
    // Left over where something failed.
    drop(fs::remove_file(&made));
    fs::remove_dir(&folder)?;
    listening
}

/// Nothing is there, or only what a dead process left behind.
fn check_place(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !metadata.file_type().is_socket() {
        let text = "there is something that is not a socket; remove it, or choose another path";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
    }
    match BlockingStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "a process is listening there")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(|found| ours(&found))
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a socket's file is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{Classify, ErrorClass};

    use super::*;

    #[tokio::test]
    async fn port_0_becomes_a_real_port_that_accepts() {
        let (listener, uri) = listen("127.0.0.1:0", None).await.unwrap();
        let Listener::Tcp(listener) = listener else { panic!("a port") };
        let actual = listener.local_addr().unwrap();
        assert_ne!(actual.port(), 0);
        assert_eq!(uri, format!("grpc://{actual}"));
        let (dialled, accepted) =
            tokio::join!(tokio::net::TcpStream::connect(actual), listener.accept());
        assert_eq!(dialled.unwrap().local_addr().unwrap(), accepted.unwrap().1);
    }

    #[test]
    fn a_service_is_reached_where_it_says() {
        let address = "127.0.0.1:7410".parse().unwrap();
        assert_eq!(location(None, address), "grpc://127.0.0.1:7410");
        assert_eq!(location(Some("node7"), address), "grpc://node7:7410");
        assert_eq!(location(Some("node7:80"), address), "grpc://node7:80");
    }

    #[tokio::test]
    async fn a_port_in_use_and_a_non_address_are_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let actual = taken.local_addr().unwrap();
        let error = listen(&actual.to_string(), None).await.unwrap_err();
        assert_eq!(error.class(), ErrorClass::Conflict);
        assert!(error.to_string().starts_with(&format!("listen on {actual}; ")), "{error}");
        let no_port = listen("localhost", None).await.unwrap_err();
        assert_eq!(no_port.class(), ErrorClass::Invalid);
        assert!(no_port.to_string().starts_with("listen on localhost; "), "{no_port}");
    }

    /// Why it cannot be listened there.
    async fn refusal(address: &str, advertise: Option<&str>) -> (ErrorClass, String) {
        let error = listen(address, advertise).await.unwrap_err();
        (error.class(), std::error::Error::source(&error).expect("it has a cause").to_string())
    }

    #[tokio::test]
    async fn a_socket_s_file_is_its_user_s_alone_and_goes_with_the_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let address = format!("unix:{}", path.display());
        let (listener, uri) = listen(&address, None).await.unwrap();
        assert_eq!(uri, format!("grpc+unix://{}", path.display()));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let live = refusal(&address, None).await;
        assert_eq!(live, (ErrorClass::Conflict, "a process is listening there".to_owned()));
        drop(listener);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

        // What a killed process leaves behind is replaced, and is nobody else's to remove.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let (first, _) = listen(&address, None).await.unwrap();
        fs::remove_file(&path).unwrap();
        let (_second, _) = listen(&address, None).await.unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn what_is_not_a_socket_stays_and_a_socket_is_not_advertised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes");
        fs::write(&path, "mine").unwrap();
        let address = format!("unix:{}", path.display());
        let (class, text) = refusal(&address, None).await;
        assert_eq!(class, ErrorClass::Conflict);
        assert!(text.starts_with("there is something that is not a socket"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(refusal(&address, Some("head")).await.0, ErrorClass::Invalid);
        let (class, _) = refusal("unix:/nowhere/at/all.sock", None).await;
        assert_eq!(class, ErrorClass::Invalid);
    }
}
