//! Reaches a PC's firmware and authenticates a session. Any byte stream will do: TCP now, TLS and tunnels alike.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

pub use amt_redirection::console::Credentials;
use amt_redirection::console::{AuthPolicy, OpenError, Opened, Opening};
use amt_redirection::session::SessionKind;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use crate::tcp::{self, TcpError};

/// TCP port of redirection without TLS.
pub const PORT: u16 = 16994;

/// How long name service, and then each address, may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);

/// A connection to firmware, whatever carries it.
pub trait Channel: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Channel for S {}

/// What [`Dial::dial`] is about to yield.
pub type Dialing<'a> =
    Pin<Box<dyn Future<Output = Result<Box<dyn Channel>, ConnectError>> + Send + 'a>>;

/// Makes connections to one PC, again after each loss.
pub trait Dial: Send + Sync {
    /// A fresh connection.
    fn dial(&self) -> Dialing<'_>;
}

/// Plain TCP.
#[derive(Debug, Clone)]
pub struct Tcp {
    /// Name or address.
    pub host: String,
    /// Usually [`PORT`].
    pub port: u16,
}

impl Dial for Tcp {
    fn dial(&self) -> Dialing<'_> {
        Box::pin(async {
            let stream = tcp::connect(&self.host, self.port, CONNECT_PATIENCE).await?;
            Ok(Box::new(stream) as Box<dyn Channel>)
        })
    }
}

/// Why there is no session.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// There is no connection. Refused, it may be that redirection is switched off, or that this is no AMT.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// The connection broke before the session was open.
    #[error("the connection broke while the session was opened")]
    Lost(#[source] io::Error),
    /// The firmware closed the connection before the session was open.
    #[error("the firmware closed the connection while the session was opened")]
    Closed,
    /// The firmware said no, or broke the protocol.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The system has no random numbers.
    #[error("no random numbers for authentication ({0})")]
    Random(getrandom::Error),
}

impl ConnectError {
    /// Trying again cannot help, and with wrong credentials may lock the account.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Random(_)
                | Self::Open(
                    OpenError::BadCredentials
                        | OpenError::NoCommonAuthentication { .. }
                        | OpenError::UserConsentRequired
                        | OpenError::Unsupported
                        | OpenError::UnknownType
                )
        )
    }
}

/// Starts and authenticates a session on a fresh connection. Each answer has a deadline. On failure the connection is good for
/// nothing more.
pub async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    kind: SessionKind,
    credentials: &Credentials,
    policy: AuthPolicy,
) -> Result<Opened, ConnectError> {
    let mut cnonce = [0; 16];
    getrandom::fill(&mut cnonce).map_err(ConnectError::Random)?;
    let now = Instant::now().into_std();
    let mut opening = Opening::new(kind, credentials.clone(), policy, cnonce, now);
    let mut input = [0; 1024];
    loop {
        if let Some(outcome) = opening.outcome() {
            return Ok(outcome?);
        }
        let now = Instant::now().into_std();
        let deadline = opening.poll_timeout().unwrap_or(now).into();
        // Some firmware reads a message per segment: each goes out by itself.
        if let Some(message) = opening.poll_transmit() {
            match timeout_at(deadline, stream.write_all(&message)).await {
                Ok(sent) => sent.map_err(ConnectError::Lost)?,
                Err(_) => opening.handle_timeout(Instant::now().into_std()),
            }
            continue;
        }
        match timeout_at(deadline, stream.read(&mut input)).await {
            Ok(Ok(0)) => return Err(ConnectError::Closed),
            Ok(Ok(length)) => {
                opening.handle_input(Instant::now().into_std(), &input[..length]);
            }
            Ok(Err(error)) => return Err(ConnectError::Lost(error)),
            Err(_) => opening.handle_timeout(Instant::now().into_std()),
        }
    }
}
