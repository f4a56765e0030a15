//! What carries messages to a device: a seam, so that sockets, TLS, tunnels and tests look alike.

use std::future::Future;
use std::time::Duration;

use crate::explain::{Blame, Explain};
use crate::request::{Repeat, Request};

/// Carries one message at a time to one device and brings its answer back.
pub trait Transport: Send {
    /// Posts a message and returns the body of the answer, of whatever HTTP status if it is XML: faults come with 400.
    ///
    /// The transport authenticates, and sends again what may be sent again ([`Repeat::Safe`]) when a connection drops.
    fn post(
        &mut self,
        request: &Request,
    ) -> impl Future<Output = Result<String, TransportError>> + Send;

    /// Waits. Here because flows poll, and this crate knows no clock.
    fn pause(&mut self, how_long: Duration) -> impl Future<Output = ()> + Send;

    /// The `Server` header of the last answer, also of one that asked for credentials.
    fn server(&self) -> Option<&str>;
}

/// Why no answer could be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The name has no address.
    #[error("{host} has no address ({why})")]
    Unresolved {
        /// The name.
        host: String,
        /// The resolver's words.
        why: String,
    },
    /// Nothing listens on the port.
    #[error("{peer} refuses connections")]
    Refused {
        /// Address and port.
        peer: String,
    },
    /// No way to the host.
    #[error("{peer} cannot be reached ({why})")]
    Unreachable {
        /// Address and port.
        peer: String,
        /// The system's words.
        why: String,
    },
    /// Nothing came back in time.
    #[error("{peer} did not answer within {seconds} s while {doing}")]
    TimedOut {
        /// Address and port.
        peer: String,
        /// What was being done.
        doing: &'static str,
        /// How long was waited, in seconds.
        seconds: u64,
    },
    /// Something else than AMT's web server listens there.
    #[error("{peer} answers, but not as Intel AMT does: {why}")]
    NotAmt {
        /// Address and port.
        peer: String,
        /// What gave it away.
        why: String,
    },
    /// The device speaks another kind of authentication.
    #[error("{peer} offers no way to log in that is known here: {why}")]
    NoCommonAuthentication {
        /// Address and port.
        peer: String,
        /// What it offers.
        why: String,
    },
    /// The device does not take the credentials.
    #[error("{peer} does not accept user name and password of {user:?}")]
    BadCredentials {
        /// Address and port.
        peer: String,
        /// The user name that was tried.
        user: String,
    },
    /// The device calls every answer to its challenges outdated.
    #[error("{peer} forgets its challenges before they can be answered")]
    ForgetsChallenges {
        /// Address and port.
        peer: String,
    },
    /// The connection broke while an answer was due; whether the request was carried out is unknown.
    #[error("the connection to {peer} broke before an answer came ({why})")]
    Lost {
        /// Address and port.
        peer: String,
        /// The system's words.
        why: String,
    },
    /// An HTTP status that is neither an answer nor a fault.
    #[error("{peer} answered with HTTP status {status}")]
    Status {
        /// Address and port.
        peer: String,
        /// The status.
        status: u16,
    },
    /// The answer is longer than is read.
    #[error("{peer} sent an answer of more than {limit} bytes")]
    TooLong {
        /// Address and port.
        peer: String,
        /// The limit, in bytes.
        limit: usize,
    },
}

impl TransportError {
    /// Whether the request may have been carried out although no answer came.
    #[must_use]
    pub fn may_have_worked(&self, repeat: Repeat) -> bool {
        repeat == Repeat::Never
            && match self {
                Self::Lost { .. } => true,
                Self::TimedOut { doing, .. } => *doing == WAITING,
                _ => false,
            }
    }
}

/// What [`TransportError::TimedOut`] says was being done when the request was out and the answer did not come.
pub const WAITING: &str = "waiting for its answer";

impl Explain for TransportError {
    fn blame(&self) -> Blame {
        match self {
            Self::BadCredentials { .. } | Self::NoCommonAuthentication { .. } => Blame::Refused,
            Self::NotAmt { .. } | Self::TooLong { .. } => Blame::Failed,
            Self::Status { status, .. } if *status < 500 => Blame::Failed,
            _ => Blame::Unreachable,
        }
    }

    fn cure(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unresolved { .. } => "check the name, or give the PC's IP address",
            Self::Refused { .. } => {
                "the PC may not be provisioned, AMT may be switched off in its BIOS, or its firmware may speak TLS only: \
                 set AMT up in the PC's MEBx menu or with a provisioning tool, and check the port"
            }
            Self::Unreachable { .. } => {
                "check address, cable and the PC's mains; behind a router or firewall, ports 16992 and 16994 must pass"
            }
            Self::TimedOut { .. } => {
                "check that the PC has power and its AMT address is right; in soft-off AMT can be slow, so trying once more \
                 is worth it"
            }
            Self::NotAmt { .. } => "check address and port: AMT's own web server listens on 16992",
            Self::NoCommonAuthentication { .. } => {
                "use an AMT user with a password (digest); Kerberos accounts do not work here"
            }
            Self::BadCredentials { .. } => {
                "check user and password; after several wrong ones AMT refuses right ones as well, so wait some minutes \
                 before the next try"
            }
            Self::ForgetsChallenges { .. } => {
                "try again in a minute; another console may be talking to this PC all the time"
            }
            Self::Lost { .. } => {
                "look at the PC's state first (`pc info`), then try again: AMT drops connections while the power state or \
                 its address changes"
            }
            Self::Status { .. } => "try again in a minute: AMT may be restarting",
            Self::TooLong { .. } => "check that address and port are AMT's",
        })
    }
}
