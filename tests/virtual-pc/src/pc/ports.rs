//! The firmware's TCP ports: WS-MAN and redirection, plain and over TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::{Parts, TlsAddresses};
use crate::config::Config;
use crate::redirection::Listener;
use crate::tls::Identity;

/// Ports that are ours and not served yet.
pub(super) struct Ports {
    wsman: TcpListener,
    redirection: Listener,
    tls: Option<TlsPorts>,
}

struct TlsPorts {
    identity: Identity,
    wsman: TcpListener,
    redirection: Listener,
}

impl Ports {
    pub(super) async fn bind(config: &Config) -> Result<Self> {
        let amt = &config.amt;
        let at = |port| SocketAddr::new(config.listen, port);
        let tls = if amt.tls {
            Some(TlsPorts {
                identity: Identity::new(&format!("{}.{}", amt.host_name, amt.domain_name))?,
                wsman: bind_wsman(at(amt.wsman_tls_port)).await?,
                redirection: bind_redirection(at(amt.redirection_tls_port)).await?,
            })
        } else {
            None
        };
        Ok(Ports {
            wsman: bind_wsman(at(amt.wsman_port)).await?,
            redirection: bind_redirection(at(amt.redirection_port)).await?,
            tls,
        })
    }

    /// WS-MAN and redirection.
    pub(super) fn addresses(&self) -> Result<(SocketAddr, SocketAddr)> {
        Ok((local(&self.wsman)?, self.redirection.address()))
    }

    pub(super) fn tls_addresses(&self) -> Result<Option<TlsAddresses>> {
        let Some(tls) = &self.tls else {
            return Ok(None);
        };
        Ok(Some(TlsAddresses {
            wsman: local(&tls.wsman)?,
            redirection: tls.redirection.address(),
            fingerprint: tls.identity.fingerprint().to_owned(),
        }))
    }

    /// Serves them in tasks that never end.
    pub(super) fn serve(self, parts: &Arc<Parts>) -> Vec<JoinHandle<()>> {
        let mut tasks = vec![
            tokio::spawn(serve_wsman(self.wsman, None, Arc::clone(parts))),
            tokio::spawn(serve_redirection(self.redirection, None, Arc::clone(parts))),
        ];
        if let Some(tls) = self.tls {
            let identity = Some(tls.identity);
            tasks.push(tokio::spawn(serve_wsman(
                tls.wsman,
                identity.clone(),
                Arc::clone(parts),
            )));
            tasks.push(tokio::spawn(serve_redirection(
                tls.redirection,
                identity,
                Arc::clone(parts),
            )));
        }
        tasks
    }
}

async fn bind_wsman(address: SocketAddr) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("listening for WS-MAN on {address}"))
}

async fn bind_redirection(address: SocketAddr) -> Result<Listener> {
    let bound = Listener::bind(address).await;
    bound.with_context(|| format!("listening for redirection on {address}"))
}

fn local(listener: &TcpListener) -> Result<SocketAddr> {
    listener.local_addr().context("asking for a port")
}

async fn serve_wsman(socket: TcpListener, identity: Option<Identity>, parts: Arc<Parts>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = socket.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Small answers must not wait for acknowledgements.
                    let _ = stream.set_nodelay(true);
                    let stream = parts.cable.wrap(stream);
                    let (server, identity) = (Arc::clone(&parts.wsman), identity.clone());
                    connections.spawn(async move {
                        let ended = async {
                            match identity {
                                Some(identity) => server.connection(identity.accept(stream).await?, true).await,
                                None => server.connection(stream, false).await,
                            }
                        };
                        if let Err(error) = ended.await {
                            tracing::debug!(%peer, %error, "a WS-MAN connection ended");
                        }
                    });
                }
                // Out of descriptors, or a connection gone before it was accepted.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Either kind of stream of a redirection session.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn serve_redirection(listener: Listener, identity: Option<Identity>, parts: Arc<Parts>) {
    let cable = parts.redirection_cable.clone();
    let accept = move |stream| {
        let (stream, identity) = (cable.wrap(stream), identity.clone());
        async move {
            let stream: Box<dyn Stream> = match identity {
                Some(identity) => Box::new(identity.accept(stream).await?),
                None => Box::new(stream),
            };
            io::Result::Ok(stream)
        }
    };
    listener
        .run_with(Arc::clone(&parts.redirection), accept)
        .await;
}
