//! From a fresh connection to an authenticated session (reference, section 2.5).
//!
//! ```text
//! 0x10 -> WaitStart  -> 0x13 query    -> WaitMethods   -> 0x13 user, address
//!                    -> WaitChallenge -> 0x13 response -> WaitResult -> opened
//! ```
//! Methods are tried in the order digest (4), old digest (3), password in clear (1); the last two only where
//! the policy allows them. Kerberos is never chosen.

use std::fmt;
use std::mem;
use std::time::{Duration, Instant};

use thiserror::Error;
use zeroize::Zeroizing;

use crate::auth::{DigestChallenge, DigestRequest, PasswordRequest, URI};
use crate::digest;
use crate::session::{
    AuthData, AuthMethod, AuthStatus, ConsoleMessage, FirmwareMessage, SessionKind, StartStatus,
    Started,
};
use crate::wire::{DecodeError, Decoded, Field, Inbox, TooLong};

/// How long each answer may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// A constant in every known console, and never a counter: each session has one response.
const NONCE_COUNT: &[u8] = b"00000002";

/// Who logs on. The password is wiped when dropped.
#[derive(Clone)]
pub struct Credentials {
    /// User name; at most 255 bytes can be sent.
    pub user: String,
    /// Password; at most 255 bytes can be sent in clear.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Which weaker methods may be used when firmware does not offer digest with qop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuthPolicy {
    /// Type 3: the console contributes nothing to the hash, so a false firmware can prepare for it.
    pub allow_legacy_digest: bool,
    /// Type 1: the password in clear, for AMT before 7.0.
    pub allow_clear_password: bool,
}

/// A session that is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Major and minor.
    pub firmware_version: (u8, u8),
    /// Private enterprise number; Intel's is 343.
    pub oem: u32,
    /// Bytes that arrived after the last answer. They belong to the protocol of the session.
    pub rest: Vec<u8>,
}

/// What an [`Opening`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The reply to StartRedirectionSession.
    Start,
    /// The list of authentication methods.
    Methods,
    /// The challenge.
    Challenge,
    /// Whether the response was accepted.
    Result,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "the reply to the session start",
            Self::Methods => "the list of authentication methods",
            Self::Challenge => "the authentication challenge",
            Self::Result => "the result of authentication",
        })
    }
}

/// Why there is no session.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Another console has a session of this type.
    #[error("another console has a session of this type")]
    Busy,
    /// The user at the PC must give consent first, through WS-MAN.
    #[error("user consent is required first")]
    UserConsentRequired,
    /// The type of session is switched off or not part of this firmware.
    #[error("the firmware does not support this session type, or it is switched off")]
    Unsupported,
    /// The firmware does not know the type of session.
    #[error("the firmware does not know this session type")]
    UnknownType,
    /// Internal error of the firmware.
    #[error("the firmware reports an internal error")]
    Internal,
    /// User name or password is wrong, or cannot be sent at all because it is too long.
    #[error("user name or password is wrong")]
    BadCredentials,
    /// Nothing that the firmware offers is allowed here.
    #[error("no authentication method in common; the firmware offers {offered:?}")]
    NoCommonAuthentication {
        /// Method numbers as offered; empty when the firmware refused the one method that it had offered.
        offered: Vec<u8>,
    },
    /// An answer did not come in time.
    #[error("{0} did not arrive in time")]
    Timeout(Step),
    /// The firmware broke the protocol.
    #[error("the firmware broke the protocol")]
    Protocol(#[source] ProtocolError),
}

/// How firmware broke the session protocol.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// Bytes that are no message.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A message that answers nothing that was asked.
    #[error("an unexpected message came instead of {0}")]
    Unexpected(Step),
    /// A start status without a known meaning.
    #[error("start status 0x{0:02x} is not known")]
    StartStatus(u8),
    /// An authentication status that makes no sense at this step.
    #[error("authentication status 0x{status:02x} came instead of {step}")]
    AuthStatus {
        /// Byte 1 of 0x14.
        status: u8,
        /// What was waited for.
        step: Step,
    },
    /// An answer to another method than the one in use.
    #[error("authentication method {found} is answered, not {expected}")]
    Method {
        /// The method in use.
        expected: u8,
        /// The method in the answer.
        found: u8,
    },
    /// A digest challenge without the quality of protection that every AMT offers.
    #[error("the challenge does not allow qop auth")]
    NoQopAuth,
}

#[derive(Debug)]
enum State {
    WaitStart,
    WaitMethods { about: About },
    WaitChallenge { about: About, method: AuthMethod },
    WaitResult { about: About, method: AuthMethod },
    Over,
}

/// What the start reply has told.
#[derive(Clone, Copy, Debug)]
struct About {
    firmware_version: (u8, u8),
    oem: u32,
}

/// Starts and authenticates one session.
#[derive(Debug)]
pub struct Opening {
    credentials: Credentials,
    policy: AuthPolicy,
    cnonce: digest::Hex,
    state: State,
    deadline: Instant,
    inbox: Inbox,
    transmit: Option<Vec<u8>>,
    outcome: Option<Result<Opened, OpenError>>,
}

impl Opening {
    /// Begins on a fresh connection. `cnonce` must be random.
    pub fn new(
        kind: SessionKind,
        credentials: Credentials,
        policy: AuthPolicy,
        cnonce: [u8; 16],
        now: Instant,
    ) -> Self {
        let mut opening = Self {
            credentials,
            policy,
            cnonce: digest::hex(&cnonce),
            state: State::WaitStart,
            deadline: now + STEP_TIMEOUT,
            inbox: Inbox::default(),
            transmit: None,
            outcome: None,
        };
        opening.send(ConsoleMessage::start(kind));
        opening
    }

    /// Takes bytes from the connection. After the outcome is there, they are ignored.
    pub fn handle_input(&mut self, now: Instant, input: &[u8]) {
        let mut inbox = mem::take(&mut self.inbox);
        inbox.push(input);
        while !matches!(self.state, State::Over) {
            match FirmwareMessage::decode(inbox.unread()) {
                Err(error) => self.fail(OpenError::Protocol(error.into())),
                Ok(Decoded::NeedMore) => {
                    self.inbox = inbox;
                    return;
                }
                Ok(Decoded::Message { message, length }) => {
                    let before = mem::replace(&mut self.state, State::Over);
                    match self.step(before, message) {
                        Ok(Next::Wait(state)) => {
                            self.state = state;
                            self.deadline = now + STEP_TIMEOUT;
                            inbox.consume(length);
                        }
                        Ok(Next::Open(about)) => {
                            inbox.consume(length);
                            self.outcome = Some(Ok(Opened {
                                firmware_version: about.firmware_version,
                                oem: about.oem,
                                rest: inbox.into_unread(),
                            }));
                            return;
                        }
                        Err(error) => self.fail(error),
                    }
                }
            }
        }
    }

    /// To be called when [`Opening::poll_timeout`] says so; earlier calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now < self.deadline {
            return;
        }
        if let Some(step) = self.waits_for() {
            self.fail(OpenError::Timeout(step));
        }
    }

    /// When [`Opening::handle_timeout`] is due; none once the outcome is there.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waits_for().map(|_| self.deadline)
    }

    /// Bytes to send.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.take()
    }

    /// The outcome, once: after it was taken, and before it is there, none.
    pub fn outcome(&mut self) -> Option<Result<Opened, OpenError>> {
        self.outcome.take()
    }

    fn waits_for(&self) -> Option<Step> {
        match self.state {
            State::WaitStart => Some(Step::Start),
            State::WaitMethods { .. } => Some(Step::Methods),
            State::WaitChallenge { .. } => Some(Step::Challenge),
            State::WaitResult { .. } => Some(Step::Result),
            State::Over => None,
        }
    }

    fn step(&mut self, state: State, message: FirmwareMessage<'_>) -> Result<Next, OpenError> {
        match (state, message) {
            (State::WaitStart, FirmwareMessage::Refused(status)) => Err(refusal(status)),
            (State::WaitStart, FirmwareMessage::Started(Started { firmware, oem, .. })) => {
                self.send(ConsoleMessage::Authenticate {
                    method: AuthMethod::QUERY,
                    data: AuthData::EMPTY,
                });
                let firmware_version = firmware;
                Ok(Next::Wait(State::WaitMethods {
                    about: About {
                        firmware_version,
                        oem,
                    },
                }))
            }
            (State::WaitStart, _) => Err(broken(ProtocolError::Unexpected(Step::Start))),
            (
                State::WaitMethods { about },
                FirmwareMessage::AuthenticateReply {
                    status,
                    method,
                    data,
                },
            ) => {
                expect_method(AuthMethod::QUERY, method)?;
                if status != AuthStatus::SUCCESS {
                    let (status, step) = (status.0, Step::Methods);
                    return Err(broken(ProtocolError::AuthStatus { status, step }));
                }
                self.choose(about, data.bytes())
            }
            (State::WaitMethods { .. }, _) => Err(broken(ProtocolError::Unexpected(Step::Methods))),
            (
                State::WaitChallenge { about, method },
                FirmwareMessage::AuthenticateReply {
                    status,
                    method: answered,
                    data,
                },
            ) => {
                if status == AuthStatus::UNSUPPORTED {
                    return Err(OpenError::NoCommonAuthentication {
                        offered: Vec::new(),
                    });
                }
                expect_method(method, answered)?;
                match status {
                    AuthStatus::FAILURE if data.is_empty() => Err(OpenError::BadCredentials),
                    AuthStatus::FAILURE => self.respond(about, method, data.bytes()),
                    AuthStatus(status) => {
                        let step = Step::Challenge;
                        Err(broken(ProtocolError::AuthStatus { status, step }))
                    }
                }
            }
            (State::WaitChallenge { .. }, _) => {
                Err(broken(ProtocolError::Unexpected(Step::Challenge)))
            }
            (
                State::WaitResult { about, method },
                FirmwareMessage::AuthenticateReply {
                    status,
                    method: answered,
                    ..
                },
            ) => {
                if status == AuthStatus::UNSUPPORTED {
                    return Err(OpenError::NoCommonAuthentication {
                        offered: Vec::new(),
                    });
                }
                expect_method(method, answered)?;
                match status {
                    AuthStatus::SUCCESS => Ok(Next::Open(about)),
                    // With data it is another challenge, which says the same: this response was wrong.
                    AuthStatus::FAILURE => Err(OpenError::BadCredentials),
                    AuthStatus(status) => {
                        let step = Step::Result;
                        Err(broken(ProtocolError::AuthStatus { status, step }))
                    }
                }
            }
            (State::WaitResult { .. } | State::Over, _) => {
                Err(broken(ProtocolError::Unexpected(Step::Result)))
            }
        }
    }

    fn choose(&mut self, about: About, offered: &[u8]) -> Result<Next, OpenError> {
        let has = |method: AuthMethod| offered.contains(&method.0);
        let method = if has(AuthMethod::DIGEST) {
            AuthMethod::DIGEST
        } else if has(AuthMethod::DIGEST_LEGACY) && self.policy.allow_legacy_digest {
            AuthMethod::DIGEST_LEGACY
        } else if has(AuthMethod::PASSWORD) && self.policy.allow_clear_password {
            AuthMethod::PASSWORD
        } else {
            return Err(OpenError::NoCommonAuthentication {
                offered: offered.to_vec(),
            });
        };
        let mut data = Zeroizing::new(Vec::new());
        let user = sendable(self.credentials.user.as_bytes())?;
        if method == AuthMethod::PASSWORD {
            let password = sendable(self.credentials.password.as_bytes())?;
            PasswordRequest { user, password }.encode(&mut data);
            self.authenticate(method, &data)?;
            return Ok(Next::Wait(State::WaitResult { about, method }));
        }
        let request = DigestRequest {
            user,
            uri: sendable(URI)?,
            ..DigestRequest::default()
        };
        request.encode(method, &mut data);
        self.authenticate(method, &data)?;
        Ok(Next::Wait(State::WaitChallenge { about, method }))
    }

    fn respond(
        &mut self,
        about: About,
        method: AuthMethod,
        challenge: &[u8],
    ) -> Result<Next, OpenError> {
        let challenge =
            DigestChallenge::decode(method, challenge).map_err(|error| broken(error.into()))?;
        let qop = match method {
            AuthMethod::DIGEST if challenge.allows_auth() => sendable(b"auth")?,
            AuthMethod::DIGEST => return Err(broken(ProtocolError::NoQopAuth)),
            _ => Field::EMPTY,
        };
        let user = sendable(self.credentials.user.as_bytes())?;
        let request = DigestRequest {
            user,
            realm: challenge.realm,
            nonce: challenge.nonce,
            uri: sendable(URI)?,
            cnonce: sendable(&self.cnonce)?,
            nonce_count: sendable(NONCE_COUNT)?,
            response: Field::EMPTY,
            qop,
        };
        let password = self.credentials.password.as_bytes();
        let ha1 = digest::ha1(user.bytes(), challenge.realm.bytes(), password);
        let response = digest::response(method, &ha1, &request);
        let request = DigestRequest {
            response: sendable(&response)?,
            ..request
        };
        let mut data = Vec::new();
        request.encode(method, &mut data);
        self.authenticate(method, &data)?;
        Ok(Next::Wait(State::WaitResult { about, method }))
    }

    fn authenticate(&mut self, method: AuthMethod, data: &[u8]) -> Result<(), OpenError> {
        let data = AuthData::new(data).map_err(too_long)?;
        self.send(ConsoleMessage::Authenticate { method, data });
        Ok(())
    }

    fn send(&mut self, message: ConsoleMessage<'_>) {
        message.encode(self.transmit.get_or_insert_default());
    }

    fn fail(&mut self, error: OpenError) {
        self.state = State::Over;
        self.transmit = None;
        self.outcome = Some(Err(error));
    }
}

enum Next {
    Wait(State),
    Open(About),
}

fn broken(error: ProtocolError) -> OpenError {
    OpenError::Protocol(error)
}

fn expect_method(expected: AuthMethod, found: AuthMethod) -> Result<(), OpenError> {
    if expected == found {
        return Ok(());
    }
    Err(broken(ProtocolError::Method {
        expected: expected.0,
        found: found.0,
    }))
}

fn refusal(status: StartStatus) -> OpenError {
    match status {
        StartStatus::UNKNOWN_TYPE => OpenError::UnknownType,
        StartStatus::BUSY => OpenError::Busy,
        StartStatus::UNSUPPORTED => OpenError::Unsupported,
        StartStatus::USER_CONSENT_REQUIRED => OpenError::UserConsentRequired,
        StartStatus::INTERNAL => OpenError::Internal,
        StartStatus(other) => broken(ProtocolError::StartStatus(other)),
    }
}

/// Fields that come from the credentials. Firmware has no account whose name does not fit.
fn sendable(bytes: &[u8]) -> Result<Field<'_>, OpenError> {
    Field::new(bytes).map_err(too_long)
}

fn too_long(_: TooLong) -> OpenError {
    OpenError::BadCredentials
}

#[cfg(test)]
mod tests;
