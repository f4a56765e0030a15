//! The redirection port: open while the firmware's listener is switched on, refused while it is off.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::Redirection;

/// Most connections at once, each of which may yet have to authenticate.
const MAX_CONNECTIONS: usize = 32;

/// A TCP port for redirection.
#[derive(Debug)]
pub struct Listener {
    address: SocketAddr,
    socket: Option<TcpListener>,
}

impl Listener {
    /// Takes the port, so that it is known and ours.
    ///
    /// # Errors
    /// Those of bind.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        Ok(Self {
            address: socket.local_addr()?,
            socket: Some(socket),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves plain TCP; never returns.
    pub async fn run(self, redirection: Arc<Redirection>) {
        self.run_with(redirection, |stream| async { Ok(stream) })
            .await;
    }

    /// Serves connections that `accept` makes of TCP streams, such as TLS; never returns.
    pub async fn run_with<A, F, S>(mut self, redirection: Arc<Redirection>, accept: A)
    where
        A: Fn(TcpStream) -> F + Clone + Send + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut changes = redirection.firmware.changes();
        let mut connections = JoinSet::new();
        loop {
            changes.mark_unchanged();
            let on = redirection
                .firmware
                .quietly(|firmware| firmware.redirection_listening());
            if !on {
                // Open sessions stay: the firmware ends those that its switches forbid.
                self.socket = None;
            } else if self.socket.is_none() {
                self.socket = self.bind_again().await;
            }
            let accepted = async {
                match &self.socket {
                    Some(socket) => socket.accept().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changes.changed() => {}
                Some(_) = connections.join_next() => {}
                accepted = accepted => match accepted {
                    Ok((stream, peer)) if connections.len() < MAX_CONNECTIONS => {
                        let (redirection, accept) = (redirection.clone(), accept.clone());
                        connections.spawn(async move {
                            // Small messages must not wait for each other.
                            let _ = stream.set_nodelay(true);
                            match accept(stream).await {
                                Ok(stream) => redirection.serve(stream, &peer.ip().to_string()).await,
                                Err(error) => tracing::info!("no session with {peer}: {error}"),
                            }
                        });
                    }
                    Ok(_) => {}
                    // Out of descriptors, or a connection gone before it was accepted.
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                },
            }
        }
    }

    async fn bind_again(&self) -> Option<TcpListener> {
        match TcpListener::bind(self.address).await {
            Ok(socket) => Some(socket),
            Err(error) => {
                tracing::warn!("listening at {} again: {error}", self.address);
                // The next change of the firmware's state tries again.
                None
            }
        }
    }
}
