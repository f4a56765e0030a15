//! Reaching a PC: which port, which protection, and a stream of bytes.
//!
//! [`Dial`] is the seam for other ways: TLS for firmware that has it, tunnels that PCs open themselves, and tests.

use std::future::Future;
use std::time::Duration;

use amt_wsman::TransportError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::tcp::{self, TcpError};

/// How the way to a PC is protected.
///
/// TLS has to be that of OpenSSL, since old firmware speaks versions and ciphers that nothing else does; it becomes a variant
/// here, with ports of its own, and a [`Dial`] beside [`Tcp`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protection {
    /// None: who can listen can read, though not the password.
    #[default]
    Plain,
}

impl Protection {
    /// The port of WS-Management.
    #[must_use]
    pub fn wsman_port(self) -> u16 {
        match self {
            Self::Plain => 16992,
        }
    }

    /// The port of redirection.
    #[must_use]
    pub fn redirection_port(self) -> u16 {
        match self {
            Self::Plain => 16994,
        }
    }
}

/// Where a PC's management listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Name or address, without brackets.
    pub host: String,
    /// Port of WS-Management.
    pub port: u16,
    /// How the way is protected.
    pub protection: Protection,
}

impl Endpoint {
    /// The usual port of a host.
    #[must_use]
    pub fn of(host: &str) -> Self {
        let protection = Protection::default();
        Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: protection.wsman_port(),
            protection,
        }
    }

    /// Host and port, as they stand in URLs and in HTTP's `Host`.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Opens streams to one peer.
pub trait Dial: Send {
    /// What it opens.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;

    /// Opens one.
    fn dial(&self) -> impl Future<Output = Result<Self::Stream, TransportError>> + Send;

    /// Host and port, for messages and for HTTP's `Host`.
    fn peer(&self) -> &str;
}

/// Plain TCP.
#[derive(Debug, Clone)]
pub struct Tcp {
    host: String,
    port: u16,
    peer: String,
    patience: Duration,
}

impl Tcp {
    /// TCP to an endpoint, given up after `patience`.
    #[must_use]
    pub fn new(endpoint: &Endpoint, patience: Duration) -> Self {
        Self {
            host: endpoint.host.clone(),
            port: endpoint.port,
            peer: endpoint.authority(),
            patience,
        }
    }
}

impl Tcp {
    fn explain(&self, error: TcpError) -> TransportError {
        let peer = self.peer.clone();
        match error {
            TcpError::NoAddress { host, source } => TransportError::Unresolved {
                host,
                why: match source {
                    Some(error) => error.to_string(),
                    None => "the name is known, but has none".into(),
                },
            },
            TcpError::Refused { .. } => TransportError::Refused { peer },
            TcpError::NoAnswer { after, .. } => TransportError::TimedOut {
                peer,
                doing: "connecting",
                seconds: after.as_secs(),
            },
            TcpError::Unreachable { source, .. } => TransportError::Unreachable {
                peer,
                why: source.to_string(),
            },
        }
    }
}

impl Dial for Tcp {
    type Stream = TcpStream;

    async fn dial(&self) -> Result<TcpStream, TransportError> {
        let connected = tcp::connect(&self.host, self.port, self.patience).await;
        connected.map_err(|error| self.explain(error))
    }

    fn peer(&self) -> &str {
        &self.peer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_ipv6_get_their_brackets() {
        for (host, authority) in [
            ("pc7.example", "pc7.example:16992"),
            ("10.0.0.7", "10.0.0.7:16992"),
            ("fe80::1", "[fe80::1]:16992"),
            ("[fe80::1]", "[fe80::1]:16992"),
        ] {
            assert_eq!(Endpoint::of(host).authority(), authority);
        }
    }

    #[tokio::test]
    async fn a_name_without_address_and_a_closed_port_are_told_apart() {
        let patience = Duration::from_secs(5);
        let nowhere = Tcp::new(&Endpoint::of("no-such-pc.invalid"), patience);
        assert!(matches!(
            nowhere.dial().await,
            Err(TransportError::Unresolved { .. })
        ));
        // Bound and dropped, so that nobody listens on it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut endpoint = Endpoint::of("127.0.0.1");
        endpoint.port = listener.local_addr().unwrap().port();
        drop(listener);
        let closed = Tcp::new(&endpoint, patience);
        assert!(matches!(
            closed.dial().await,
            Err(TransportError::Refused { .. })
        ));
    }
}
