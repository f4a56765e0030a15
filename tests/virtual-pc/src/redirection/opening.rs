//! Start and authentication of a session, from the firmware's side (reference, sections 2.1 to 2.4).
//!
//! [`Opening`] decides; [`run`] moves the bytes. The session is taken at its start, before authentication, because
//! that is when the console learns that another holds it; a console that then does not authenticate in time loses
//! it again.

use std::time::{Duration, Instant};

use amt_redirection::auth::{DigestChallenge, DigestRequest, PasswordRequest, URI};
use amt_redirection::session::{
    AuthData, AuthMethod, AuthStatus, ConsoleMessage, FirmwareMessage, OEM_INTEL,
    SessionKind as WireKind, StartStatus as WireStatus, Started,
};
use amt_redirection::wire::{Decoded, Field, Inbox};
use tokio::io::{AsyncRead, AsyncWrite};

use super::knobs::Knobs;
use super::link::Link;
use crate::firmware::{
    Account, DigestProof, Exchange, Firmware, Realm, SessionKind, SessionTicket, Shared,
    StartStatus,
};

/// Wrong answers until the connection is closed.
const MAX_FAILURES: u32 = 3;
/// Most bytes read at once before authentication.
const READ_AT_ONCE: usize = 4096;

/// An authenticated session, and what its console has sent beyond.
pub(super) struct Opened {
    pub(super) held: Held,
    pub(super) rest: Vec<u8>,
}

/// Gives a session back to the firmware when it goes out of scope.
pub(super) struct Held {
    firmware: Shared,
    ticket: SessionTicket,
}

impl Held {
    fn new(firmware: Shared, ticket: SessionTicket) -> Self {
        Self { firmware, ticket }
    }

    pub(super) fn ticket(&self) -> SessionTicket {
        self.ticket
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.firmware
            .with(|firmware| firmware.end_session(Instant::now(), self.ticket));
    }
}

/// Takes a fresh connection to an authenticated session; none when it did not come to that.
pub(super) async fn run<S>(
    link: &mut Link<S>,
    firmware: &Shared,
    knobs: &Knobs,
    peer: &str,
) -> Option<Opened>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let patience = Duration::from_millis(knobs.authentication_ms);
    let opened = tokio::time::timeout(patience, open(link, firmware, knobs, peer)).await;
    opened.ok().flatten()
}

async fn open<S>(link: &mut Link<S>, firmware: &Shared, knobs: &Knobs, peer: &str) -> Option<Opened>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut opening = Opening::new(knobs, peer);
    let mut held = None;
    let mut inbox = Inbox::default();
    let mut buffer = Vec::new();
    loop {
        let (message, length) = match ConsoleMessage::decode(inbox.unread()) {
            Ok(Decoded::Message { message, length }) => (message, length),
            Ok(Decoded::NeedMore) => {
                buffer.clear();
                if link.read(&mut buffer, READ_AT_ONCE).await.ok()? == 0 {
                    return None;
                }
                inbox.push(&buffer);
                continue;
            }
            Err(error) => {
                tracing::info!("{peer} does not speak redirection: {error}");
                return None;
            }
        };
        let mut reply = Vec::new();
        let verdict =
            firmware.with(|firmware| opening.answer(Instant::now(), message, firmware, &mut reply));
        inbox.consume(length);
        if held.is_none() {
            // From here on the session is given back whatever happens.
            held = opening
                .ticket
                .map(|ticket| Held::new(firmware.clone(), ticket));
        }
        link.write(&reply).await.ok()?;
        match verdict {
            Verdict::Continue => {}
            Verdict::Close => {
                link.shut_down().await;
                return None;
            }
            Verdict::Opened => {
                let rest = inbox.into_unread();
                return held.map(|held| Opened { held, rest });
            }
        }
    }
}

/// What follows an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Continue,
    Close,
    Opened,
}

/// Decides on the messages of one connection until it is authenticated.
pub(super) struct Opening {
    methods: Vec<u8>,
    accept_stray_space: bool,
    peer: String,
    pub(super) ticket: Option<SessionTicket>,
    nonce: Option<String>,
    failures: u32,
}

impl Opening {
    pub(super) fn new(knobs: &Knobs, peer: &str) -> Self {
        Self {
            methods: knobs.methods.clone(),
            accept_stray_space: knobs.accept_stray_space,
            peer: peer.to_owned(),
            ticket: None,
            nonce: None,
            failures: 0,
        }
    }

    pub(super) fn answer(
        &mut self,
        now: Instant,
        message: ConsoleMessage<'_>,
        firmware: &mut Firmware,
        reply: &mut Vec<u8>,
    ) -> Verdict {
        match (message, self.ticket) {
            (ConsoleMessage::Start { tag, .. }, None) => self.start(now, tag, firmware, reply),
            (ConsoleMessage::Authenticate { method, data }, Some(_)) => {
                self.authenticate(now, method, data.bytes(), firmware, reply)
            }
            // A second start, or authentication of nothing.
            _ => Verdict::Close,
        }
    }

    fn start(
        &mut self,
        now: Instant,
        tag: [u8; 4],
        firmware: &mut Firmware,
        reply: &mut Vec<u8>,
    ) -> Verdict {
        let begun = match WireKind::from_tag(tag) {
            None => Err(StartStatus::UnknownType),
            Some(kind) => {
                let kind = match kind {
                    WireKind::Sol => SessionKind::Sol,
                    WireKind::Ider => SessionKind::Ider,
                    WireKind::Kvm => SessionKind::Kvm,
                };
                firmware.begin_session(now, kind, &self.peer)
            }
        };
        match begun {
            Err(status) => {
                FirmwareMessage::Refused(WireStatus(status.code())).encode(reply);
                Verdict::Close
            }
            Ok(ticket) => {
                self.ticket = Some(ticket);
                if self.methods.is_empty() {
                    self.methods = firmware.profile().redirection_methods.to_vec();
                }
                FirmwareMessage::Started(Started {
                    protocol: (1, 0),
                    firmware: version(firmware),
                    oem: OEM_INTEL,
                    oem_data: Field::EMPTY,
                })
                .encode(reply);
                Verdict::Continue
            }
        }
    }

    fn authenticate(
        &mut self,
        now: Instant,
        method: AuthMethod,
        data: &[u8],
        firmware: &mut Firmware,
        reply: &mut Vec<u8>,
    ) -> Verdict {
        let mut say = |status, data: &[u8]| {
            let data = AuthData::split(data).0;
            FirmwareMessage::AuthenticateReply {
                status,
                method,
                data,
            }
            .encode(reply);
        };
        if method == AuthMethod::QUERY {
            say(AuthStatus::SUCCESS, &self.methods);
            return Verdict::Continue;
        }
        if !self.methods.contains(&method.0) {
            say(AuthStatus::UNSUPPORTED, &[]);
            return Verdict::Continue;
        }
        let account = match method {
            AuthMethod::PASSWORD => check_password(now, data, firmware),
            AuthMethod::DIGEST | AuthMethod::DIGEST_LEGACY => {
                match DigestRequest::decode(method, data) {
                    Err(_) => None,
                    Ok(request) if request.response.is_empty() => {
                        let nonce = firmware.new_nonce();
                        let challenge = DigestChallenge {
                            realm: field(firmware.digest_realm()),
                            nonce: field(&nonce),
                            qop: field("auth"),
                        };
                        let mut data = Vec::new();
                        challenge.encode(method, &mut data);
                        say(AuthStatus::FAILURE, &data);
                        self.nonce = Some(nonce);
                        return Verdict::Continue;
                    }
                    Ok(request) => {
                        // A nonce is good for one response.
                        let nonce = self.nonce.take();
                        self.check_digest(now, method, &request, nonce.as_deref(), firmware)
                    }
                }
            }
            _ => None,
        };
        if account.is_some_and(|account| account.realms.permit(Realm::Redirection)) {
            say(AuthStatus::SUCCESS, &[]);
            return Verdict::Opened;
        }
        say(AuthStatus::FAILURE, &[]);
        self.failures += 1;
        if self.failures >= MAX_FAILURES {
            return Verdict::Close;
        }
        Verdict::Continue
    }

    fn check_digest(
        &self,
        now: Instant,
        method: AuthMethod,
        request: &DigestRequest<'_>,
        nonce: Option<&str>,
        firmware: &mut Firmware,
    ) -> Option<Account> {
        let text = |field: Field<'_>| std::str::from_utf8(field.bytes()).ok().map(str::to_owned);
        let sent_nonce = text(request.nonce)?;
        let qop = text(request.qop)?;
        let known_qop = match method {
            AuthMethod::DIGEST => qop == "auth",
            _ => qop.is_empty(),
        };
        if request.uri.bytes() != URI || !known_qop || nonce != Some(&sent_nonce) {
            return None;
        }
        let (user, realm) = (text(request.user)?, text(request.realm)?);
        let (nc, cnonce) = (text(request.nonce_count)?, text(request.cnonce)?);
        let response = text(request.response)?;
        let proof = |qop| DigestProof {
            user: &user,
            realm: &realm,
            exchange: Exchange {
                nonce: &sent_nonce,
                nc: &nc,
                cnonce: &cnonce,
                qop,
                a2: "POST:/RedirectionService",
            },
            response: &response,
        };
        if self.accept_stray_space
            && method == AuthMethod::DIGEST
            && let Ok(account) = firmware.check_digest(now, &proof("auth "))
        {
            return Some(account);
        }
        firmware.check_digest(now, &proof(&qop)).ok()
    }
}

fn check_password(now: Instant, data: &[u8], firmware: &mut Firmware) -> Option<Account> {
    let request = PasswordRequest::decode(data).ok()?;
    let user = std::str::from_utf8(request.user.bytes()).ok()?;
    let password = std::str::from_utf8(request.password.bytes()).ok()?;
    firmware.check_password(now, user, password).ok()
}

/// Major and minor, as far as a byte holds them.
pub(super) fn version(firmware: &Firmware) -> (u8, u8) {
    let [major, minor, ..] = firmware.profile().version;
    let byte = |number: u16| u8::try_from(number).unwrap_or(u8::MAX);
    (byte(major), byte(minor))
}

fn field(text: &str) -> Field<'_> {
    Field::split(text.as_bytes()).0
}
