//! TCP to a name or an address: one address after the other, and which of the ways in which that fails.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// Why there is no connection: what the last address tried did.
#[derive(Debug, Error)]
pub enum TcpError {
    /// The name has no address.
    #[error("{host} has no address")]
    NoAddress {
        /// As it was given.
        host: String,
        /// From name service; none when it answered with nothing.
        #[source]
        source: Option<io::Error>,
    },
    /// Nothing listens.
    #[error("{address} refuses connections")]
    Refused {
        /// Address and port.
        address: SocketAddr,
    },
    /// No answer.
    #[error("no answer from {host} port {port} within {} s", .after.as_secs())]
    NoAnswer {
        /// As it was given.
        host: String,
        /// TCP port.
        port: u16,
        /// How long was waited.
        after: Duration,
    },
    /// The network has no way there, or the like.
    #[error("connecting to {host} port {port}")]
    Unreachable {
        /// As it was given.
        host: String,
        /// TCP port.
        port: u16,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// Connects, with Nagle's algorithm off: with it, replies of several segments wait for the peer's delayed acknowledgement (44 ms
/// for 64 KiB measured). Name service, and then each address, may take `patience`.
///
/// # Errors
///
/// See [`TcpError`].
pub async fn connect(host: &str, port: u16, patience: Duration) -> Result<TcpStream, TcpError> {
    let no_answer = || TcpError::NoAnswer {
        host: host.to_owned(),
        port,
        after: patience,
    };
    let no_address = |source| TcpError::NoAddress {
        host: host.to_owned(),
        source,
    };
    let unreachable = |source| TcpError::Unreachable {
        host: host.to_owned(),
        port,
        source,
    };
    let addresses = timeout(patience, lookup_host((host, port)))
        .await
        .map_err(|_| no_answer())?
        .map_err(|error| no_address(Some(error)))?;
    let mut last = no_address(None);
    for address in addresses {
        match timeout(patience, TcpStream::connect(address)).await {
            Err(_) => last = no_answer(),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                last = TcpError::Refused { address };
            }
            Ok(Err(error)) => last = unreachable(error),
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(unreachable)?;
                return Ok(stream);
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_port_where_nothing_listens_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        match connect("127.0.0.1", address.port(), PATIENCE).await {
            Err(TcpError::Refused { address: found }) => assert_eq!(found, address),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn connections_do_not_wait_for_acknowledgements() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = connect("127.0.0.1", port, PATIENCE).await.unwrap();
        assert!(stream.nodelay().unwrap());
    }
}
