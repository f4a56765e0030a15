//! Where the PC gets its image and reports to: a server of our own for this one boot, or one
//! that runs already.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use boot_api::{CreateSession, SessionCreated};
use reqwest::Url;
use sparetire_builder::exit::{ExitCode, WithCode, coded};
use tempfile::TempDir;
use tokio::net::{UdpSocket, lookup_host};

use crate::failure::advise;
use crate::serve::{Clock, Limits, Server, SessionLimits, Settings};
use crate::session::client::{Client, ServerArgs};

/// A server with the image and the boot-session API.
#[derive(Debug)]
pub(super) struct Site {
    /// Calls its API.
    pub(super) client: Arc<Client>,
    /// URL under which the PC reaches it.
    pub(super) loader_server: String,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    server: Server,
    /// Sessions of this boot; gone with it.
    _state: TempDir,
}

impl Site {
    /// Starts a server for this boot on a free port of the address that faces the PC.
    ///
    /// # Errors
    ///
    /// When no address faces the PC, or the server does not start.
    pub(super) async fn start(
        store: &Path,
        pc: SocketAddr,
        advertise: Option<&str>,
    ) -> anyhow::Result<Self> {
        let facing = address_towards(pc).await.with_context(|| {
            format!("finding the address of this machine that faces {}", pc.ip())
        })?;
        let state = tempfile::Builder::new()
            .prefix("sparetire-")
            .tempdir()
            .context("making a folder for the session")?;
        let settings = Settings {
            listen: vec![SocketAddr::new(facing, 0)],
            store: store.to_owned(),
            state: state.path().to_owned(),
            operator_token_file: None,
            tls: None,
            limits: Limits::default(),
            sessions: SessionLimits::default(),
        };
        let server = Server::start(settings, Clock::system())
            .await
            .context("starting a server for this boot")?;
        let address = *server
            .addresses()
            .first()
            .context("the server listens nowhere")?;
        let client = Client::new(&ServerArgs {
            server: url(&address.ip().to_string(), address.port())?,
            operator_token_file: Some(crate::serve::operator::default_file(state.path())),
            ca: None,
        })?;
        let loader_server = match advertise {
            Some(text) => advertised(text, address.port())?,
            None => client.server().clone(),
        };
        Ok(Self {
            client: Arc::new(client),
            loader_server: without_slash(&loader_server),
            own: Some(Own {
                server,
                _state: state,
            }),
        })
    }

    /// Uses a running server.
    ///
    /// # Errors
    ///
    /// When its address or the operator's token cannot be used.
    pub(super) fn running(args: &ServerArgs, advertise: Option<&str>) -> anyhow::Result<Self> {
        let client = Client::new(args)?;
        let loader_server = match advertise {
            Some(text) => {
                let port = client.server().port_or_known_default().unwrap_or(80);
                advertised(text, port)?
            }
            None => client.server().clone(),
        };
        Ok(Self {
            client: Arc::new(client),
            loader_server: without_slash(&loader_server),
            own: None,
        })
    }

    /// Whether the server ends with this program.
    pub(super) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Opens a session for the boot.
    pub(super) async fn open(&self, new: &CreateSession) -> anyhow::Result<SessionCreated> {
        self.client
            .create(new)
            .await
            .context("opening a boot session")
    }

    /// Ends a server of our own in order.
    pub(super) async fn close(self) {
        if let Some(own) = self.own {
            own.server.stop().await;
        }
    }
}

/// The source address packets to `pc` get: nothing is sent for that.
async fn address_towards(pc: SocketAddr) -> std::io::Result<IpAddr> {
    let any: SocketAddr = if pc.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(pc).await?;
    Ok(socket.local_addr()?.ip())
}

/// The first address of a PC's name, those of IPv4 before others: management firmware has
/// IPv6 off unless someone switched it on.
///
/// # Errors
///
/// When the name has no address; exit code 5.
pub(crate) async fn resolve(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let bare = host.trim_matches(['[', ']']);
    let mut addresses: Vec<SocketAddr> = lookup_host((bare, port))
        .await
        .map_err(|error| {
            advise(
                anyhow::Error::new(error).context(format!("looking up {host}")),
                "check the name, or use the PC's address",
            )
        })
        .code(ExitCode::Unreachable)?
        .collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses
        .first()
        .copied()
        .ok_or_else(|| coded(ExitCode::Unreachable, anyhow!("{host} has no address")))
}

/// What `--advertise` says: a URL as it is, or a host to which the server's port belongs.
fn advertised(text: &str, port: u16) -> anyhow::Result<Url> {
    if text.contains("://") {
        return Url::parse(text)
            .with_context(|| format!("reading the URL {text:?}"))
            .code(ExitCode::Usage);
    }
    url(text, port)
}

fn url(host: &str, port: u16) -> anyhow::Result<Url> {
    let host = match host.parse() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => host.to_owned(),
    };
    Url::parse(&format!("http://{host}:{port}/"))
        .with_context(|| format!("making a URL of {host:?}"))
        .code(ExitCode::Usage)
}

fn without_slash(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertised_host_gets_the_servers_port_and_a_url_keeps_its_own() {
        let text = |text| without_slash(&advertised(text, 8123).unwrap());
        assert_eq!(text("10.0.2.2"), "http://10.0.2.2:8123");
        assert_eq!(text("fd00::1"), "http://[fd00::1]:8123");
        assert_eq!(text("boot.example"), "http://boot.example:8123");
        assert_eq!(
            text("https://boot.example/sparetire/"),
            "https://boot.example/sparetire"
        );
        assert!(advertised("no host", 1).is_err());
    }

    #[tokio::test]
    async fn a_pc_on_this_machine_is_faced_by_loopback() {
        let pc = resolve("127.0.0.1", 16992).await.unwrap();
        assert!(address_towards(pc).await.unwrap().is_loopback());
    }
}
