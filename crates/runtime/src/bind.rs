//! Where a process listens.

use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::RuntimeError;

/// Listens on `host:port`. Port 0 takes any free one; the address returned is the real one.
///
/// # Errors
/// [`RuntimeError::Bind`], which names the address.
pub async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), RuntimeError> {
    let refused = |source| RuntimeError::Bind { address: address.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let actual = listener.local_addr().map_err(refused)?;
    Ok((listener, actual))
}

#[cfg(test)]
mod tests {
    use arrowhop_types::{Classify, ErrorClass};

    use super::*;

    #[tokio::test]
    async fn port_0_becomes_a_real_port_that_accepts() {
        let (listener, actual) = bind("127.0.0.1:0").await.unwrap();
        assert_ne!(actual.port(), 0);
        let (dialled, accepted) =
            tokio::join!(tokio::net::TcpStream::connect(actual), listener.accept());
        assert_eq!(dialled.unwrap().local_addr().unwrap(), accepted.unwrap().1);
    }

    #[tokio::test]
    async fn a_port_in_use_and_a_non_address_are_named() {
        let (_listener, actual) = bind("127.0.0.1:0").await.unwrap();
        let taken = bind(&actual.to_string()).await.unwrap_err();
        assert_eq!(taken.class(), ErrorClass::Conflict);
        assert!(taken.to_string().starts_with(&format!("listen on {actual}; ")), "{taken}");
        let no_port = bind("localhost").await.unwrap_err();
        assert_eq!(no_port.class(), ErrorClass::Invalid);
        assert!(no_port.to_string().starts_with("listen on localhost; "), "{no_port}");
    }
}
