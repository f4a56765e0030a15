//! Accepts connections and bounds what each may cost: how many there are, how many come from one
//! address, how long a request's head may take, how long a client may refuse to read.
//!
//! HTTP/1.1 only: clients are our loader, our tools, browsers of a few people, and proxies, all
//! of which speak it, and each HTTP/2 server has had its own ways to be exhausted.
//!
//! The peers are anyone who can reach the port.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// What connections may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Connections at a time from one address; further ones are closed at once.
    pub connections_per_peer: usize,
    /// Time for a TLS handshake, and for a request's head, idle time before it included.
    pub head: Duration,
    /// Time in which a client must take at least some of what was sent to it.
    pub stall: Duration,
    /// Time that running requests get when the server stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_peer: 256,
            head: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

/// Counts connections over all listeners.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    all: Arc<Semaphore>,
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    per_peer: usize,
}

impl Gate {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            peers: Arc::default(),
            per_peer: limits.connections_per_peer,
        }
    }

    fn admit(&self, peer: IpAddr) -> Option<PeerSlot> {
        // An IPv6 host has at least a /64 of addresses: they count as one.
        let peer = match peer.to_canonical() {
            IpAddr::V6(address) => {
                Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
            }
            v4 => v4,
        };
        let mut peers = lock(&self.peers);
        let count = peers.entry(peer).or_default();
        if *count >= self.per_peer {
            return None;
        }
        *count += 1;
        Some(PeerSlot {
            peers: Arc::clone(&self.peers),
            peer,
        })
    }
}

/// One connection of a peer; dropping it gives the place back.
#[derive(Debug)]
struct PeerSlot {
    peers: Arc<Mutex<HashMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Drop for PeerSlot {
    fn drop(&mut self) {
        let mut peers = lock(&self.peers);
        if let Some(count) = peers.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                peers.remove(&self.peer);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The counts stay right whatever panicked while holding them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One listening socket with all that its connections need.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) router: Router,
    pub(crate) gate: Gate,
    pub(crate) limits: Limits,
}

impl Listener {
    /// Serves until `stop` turns true, then lets running requests end.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        while let Some((stream, peer, permit)) = self.accept(&mut stop).await {
            // Reap what has ended, so that the set does not grow.
            while connections.try_join_next().is_some() {}
            let Some(slot) = self.gate.admit(peer.ip()) else {
                debug!(%peer, "too many connections from this address");
                continue;
            };
            let (tls, router) = (self.tls.clone(), self.router.clone());
            let (limits, stop) = (self.limits.clone(), stop.clone());
            connections.spawn(async move {
                if let Err(error) = connection(stream, peer, tls, router, &limits, stop).await {
                    debug!(%peer, %error, "connection ended");
                }
                drop((slot, permit));
            });
        }
        drop(self.socket);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.drain, drained)
            .await
            .is_err()
        {
            warn!(
                left = connections.len(),
                "closing connections that did not end"
            );
            connections.shutdown().await;
        }
    }

    /// The next connection, or `None` when it is time to stop.
    async fn accept(
        &self,
        stop: &mut watch::Receiver<bool>,
    ) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        loop {
            let accepted = async {
                // A closed semaphore cannot be: nothing closes it.
                let permit = Arc::clone(&self.gate.all).acquire_owned().await.ok()?;
                Some((self.socket.accept().await, permit))
            };
            let (accepted, permit) = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return None,
                accepted = accepted => accepted?,
            };
            match accepted {
                Ok((stream, peer)) => return Some((stream, peer, permit)),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of file descriptors or memory: taking a breath is all one can do.
                    warn!(%error, "accepting connections");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

/// The address at the other end, for handlers and the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    router: Router,
    limits: &Limits,
    stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.stall));
    let stream = Box::pin(stream);
    let router = router.layer(axum::Extension(Peer(peer)));
    match tls {
        None => requests(stream, router, limits, stop).await,
        Some(tls) => {
            let stream = tokio::time::timeout(limits.head, tls.accept(stream)).await??;
            requests(stream, router, limits, stop).await
        }
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(MAX_HEAD);
    let serving = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut serving = pin!(serving);
    tokio::select! {
        result = serving.as_mut() => return Ok(result?),
        _ = stop.wait_for(|stop| *stop) => serving.as_mut().graceful_shutdown(),
    }
    Ok(serving.await?)
}

/// A request's head, and hyper's read buffer, are at most this long.
const MAX_HEAD: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(per_peer: usize) -> Gate {
        Gate::new(&Limits {
            connections_per_peer: per_peer,
            ..Limits::default()
        })
    }

    #[test]
    fn a_peer_gets_its_place_back_when_a_connection_ends() {
        let gate = gate(2);
        let peer = IpAddr::from([192, 0, 2, 1]);
        let first = gate.admit(peer).unwrap();
        let _second = gate.admit(peer).unwrap();
        assert!(gate.admit(peer).is_none());
        assert!(gate.admit(IpAddr::from([192, 0, 2, 2])).is_some());
        drop(first);
        assert!(gate.admit(peer).is_some());
    }

    #[test]
    fn no_count_is_kept_of_peers_that_left() {
        let gate = gate(2);
        drop(gate.admit(IpAddr::from([192, 0, 2, 1])));
        assert!(lock(&gate.peers).is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one_peer() {
        let gate = gate(1);
        let _first = gate.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(gate.admit("2001:db8::2:3".parse().unwrap()).is_none());
        assert!(gate.admit("2001:db8:0:1::1".parse().unwrap()).is_some());
        // An IPv4 client on a dual-stack socket is that IPv4 client.
        let _v4 = gate.admit("::ffff:192.0.2.1".parse().unwrap()).unwrap();
        assert!(gate.admit("::ffff:192.0.2.2".parse().unwrap()).is_some());
        assert!(gate.admit("192.0.2.1".parse().unwrap()).is_none());
    }
}
