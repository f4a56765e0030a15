//! Connections: reads requests from any byte stream, authenticates them, answers, and misbehaves as told.
//!
//! TLS is somebody else's: the stream that comes in may be a plain one or one that has been decrypted.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use md5::{Digest, Md5};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::digest::{self, Authorization, Nonces};
use super::fault::Fault;
use super::http::{self, Head};
use super::knobs::Knobs;
use super::service::Service;
use crate::firmware::{Account, DigestProof, Exchange, Qop, hex};

/// The HTTP server of one virtual PC.
#[derive(Debug)]
pub struct Server {
    service: Arc<Service>,
    nonces: Mutex<Nonces>,
    connections: AtomicU32,
    /// Held while a request is answered: the firmware does one at a time.
    busy: tokio::sync::Mutex<()>,
}

/// What a connection does next.
enum Next {
    Request,
    Close,
}

/// A reply, ready to be sent.
struct Reply {
    bytes: Vec<u8>,
    next: Next,
    /// Nothing is sent: the network has gone away.
    lost: bool,
}

impl Server {
    /// The server of `service`.
    pub fn new(service: Arc<Service>) -> Self {
        Self {
            service,
            nonces: Mutex::default(),
            connections: AtomicU32::new(0),
            busy: tokio::sync::Mutex::default(),
        }
    }

    /// The service behind it, for its knobs.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Whether a request is being answered.
    #[cfg(test)]
    pub(super) fn is_busy(&self) -> bool {
        self.busy.try_lock().is_err()
    }

    /// Accepts connections for ever, one task each; they end with this call. Failures of single connections are
    /// theirs.
    ///
    /// # Errors
    /// None of the listener's errors are passing ones here except running out of file descriptors, after which it
    /// waits a little.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let mut tasks = tokio::task::JoinSet::new();
        loop {
            while tasks.try_join_next().is_some() {}
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // Small answers must not wait for acknowledgements.
            let _ = stream.set_nodelay(true);
            let server = self.clone();
            tasks.spawn(async move {
                if let Err(error) = server.connection(stream, false).await {
                    tracing::debug!(%error, "WS-MAN connection ended");
                }
            });
        }
    }

    /// Serves one connection until it ends. Over TLS (`tls`) the firmware remembers who has authenticated: later
    /// requests of the connection need no credentials.
    ///
    /// # Errors
    /// The stream's errors, time-outs, and requests that get no answer.
    pub async fn connection(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        tls: bool,
    ) -> io::Result<()> {
        let _counted = Counted::enter(&self.connections);
        if self.connections.load(Ordering::Relaxed) > self.service.knobs().max_connections {
            return Ok(());
        }
        self.service
            .firmware
            .quietly(|firmware| firmware.counters_mut().http_connections += 1);
        let mut buffer = Vec::new();
        let mut remembered = None;
        loop {
            let knobs = self.service.knobs();
            let Some((head, body)) = read_request(&mut stream, &mut buffer, &knobs).await? else {
                return Ok(());
            };
            self.service
                .firmware
                .quietly(|firmware| firmware.counters_mut().http_requests += 1);
            let reply = self.answer(&head, &body, &knobs, &mut remembered).await;
            if !tls {
                remembered = None;
            }
            if reply.lost {
                return Ok(());
            }
            let limit = self.cut();
            let (bytes, cut) = match limit.and_then(|limit| reply.bytes.get(..limit)) {
                Some(part) => (part, true),
                None => (reply.bytes.as_slice(), false),
            };
            let transfer = Duration::from_millis(knobs.transfer_timeout_ms);
            timeout(transfer, async {
                stream.write_all(bytes).await?;
                stream.flush().await
            })
            .await??;
            if cut || matches!(reply.next, Next::Close) {
                return timeout(transfer, stream.shutdown()).await?;
            }
        }
    }

    async fn answer(
        &self,
        head: &Head,
        body: &[u8],
        knobs: &Knobs,
        remembered: &mut Option<Account>,
    ) -> Reply {
        let firmware = &self.service.firmware;
        let version = firmware.quietly(|firmware| firmware.profile().full_version());
        let page = |status, title, text, more| {
            let bytes = http::web_page(status, title, text, &version, more);
            Reply {
                bytes,
                next: Next::Close,
                lost: false,
            }
        };
        match (head.method.as_str(), head.path.as_str()) {
            ("POST", "/wsman") => {}
            ("GET", "/") => {
                return page(
                    "303 See Other",
                    "Intel(R) Active Management Technology",
                    "",
                    "Location: /logon.htm\r\n",
                );
            }
            ("GET", "/logon.htm") => {
                return page(
                    "200 OK",
                    "Intel(R) Active Management Technology",
                    "This PC is simulated; it has no pages for people.",
                    "",
                );
            }
            _ => return page("404 Not Found", "Not found", "No such page.", ""),
        }
        let account = match self.authenticate(head, body, knobs, remembered) {
            Ok(account) => account,
            Err(challenge) => {
                *remembered = None;
                firmware.quietly(|firmware| firmware.counters_mut().http_unauthorized += 1);
                return Reply {
                    bytes: http::unauthorized(&challenge, &version),
                    next: Next::Close,
                    lost: false,
                };
            }
        };
        *remembered = Some(account.clone());
        let answer = match self.busy.try_lock() {
            Err(_) if knobs.refuse_concurrent => self.service.refuse(body, Fault::QuotaLimit),
            attempt => {
                let _turn = match attempt {
                    Ok(turn) => turn,
                    Err(_) => self.busy.lock().await,
                };
                let on = firmware
                    .quietly(|firmware| firmware.power() == crate::firmware::PowerState::On);
                let delay = if on {
                    knobs.delay_ms
                } else {
                    knobs.delay_while_off_ms.max(knobs.delay_ms)
                };
                if delay > 0 {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                }
                self.service.answer(Instant::now(), &account, body)
            }
        };
        let close = knobs.close_after_answer || !head.keep_alive;
        let unix = firmware.quietly(|firmware| firmware.unix(Instant::now()));
        let chunk = |left: usize| {
            if !knobs.random_chunks {
                return left;
            }
            // Up to 0x300 bytes, as in captures; sometimes a single one, so that borders fall inside everything.
            let random = firmware.quietly(|firmware| firmware.random());
            let longest = if random.is_multiple_of(8) { 4 } else { 0x300 };
            1 + usize::try_from((random >> 8) % longest).unwrap_or(0)
        };
        let bytes = http::reply(
            answer.status,
            unix,
            &version,
            close,
            answer.envelope.as_bytes(),
            chunk,
        );
        let lost = answer.power_changed && knobs.drop_after_power_change;
        Reply {
            bytes,
            next: if close { Next::Close } else { Next::Request },
            lost,
        }
    }

    /// The account, or the challenge to answer with.
    fn authenticate(
        &self,
        head: &Head,
        body: &[u8],
        knobs: &Knobs,
        remembered: &Option<Account>,
    ) -> Result<Account, String> {
        let now = Instant::now();
        let challenge = |stale| self.challenge(now, stale && knobs.says_stale);
        let Some(header) = &head.authorization else {
            // An account that was removed, or lost its realms, is not remembered with what it had.
            let account = remembered.as_ref().ok_or_else(|| challenge(false))?;
            let realms = self
                .service
                .firmware
                .quietly(|firmware| firmware.realms_of(&account.user));
            return realms
                .filter(|realms| *realms == account.realms)
                .map(|_| account.clone())
                .ok_or_else(|| challenge(false));
        };
        let offered = self
            .service
            .firmware
            .quietly(|firmware| firmware.profile().http_qop);
        let sent = Authorization::parse(header).filter(Authorization::uses_md5);
        let sent = sent
            .filter(|sent| sent.uri == head.path)
            .ok_or_else(|| challenge(false))?;
        let (Some(qop), Some(count)) = (sent.chosen(offered), sent.count()) else {
            return Err(challenge(false));
        };
        if !self.nonce_is_fresh(now, &sent.nonce, count, knobs) {
            return Err(challenge(true));
        }
        let a2 = match qop {
            Qop::Auth => format!("{}:{}", head.method, sent.uri),
            Qop::AuthInt => format!("{}:{}:{}", head.method, sent.uri, hex(&Md5::digest(body))),
        };
        let exchange = Exchange {
            nonce: &sent.nonce,
            nc: &sent.nc,
            cnonce: &sent.cnonce,
            qop: &sent.qop,
            a2: &a2,
        };
        let proof = DigestProof {
            user: &sent.user,
            realm: &sent.realm,
            exchange,
            response: &sent.response,
        };
        self.service
            .firmware
            .quietly(|firmware| firmware.check_digest(now, &proof))
            .map_err(|_| challenge(false))
    }

    fn nonce_is_fresh(&self, now: Instant, nonce: &str, count: u32, knobs: &Knobs) -> bool {
        let forget = self.service.firmware.quietly(|firmware| firmware.random()) % 100
            < u64::from(knobs.forget_nonce_percent);
        let mut nonces = self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        if forget {
            nonces.forget_all();
        }
        nonces.use_once(
            now,
            nonce,
            count,
            Duration::from_millis(knobs.nonce_lifetime_ms),
        )
    }

    fn challenge(&self, now: Instant, stale: bool) -> String {
        let (nonce, realm, offered) = self.service.firmware.quietly(|firmware| {
            (
                firmware.new_nonce(),
                firmware.digest_realm().to_owned(),
                firmware.profile().http_qop,
            )
        });
        self.nonces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .issue(now, nonce.clone());
        digest::challenge(&realm, &nonce, stale, offered)
    }

    /// After how many bytes this reply is cut off, if it is.
    fn cut(&self) -> Option<usize> {
        let mut limit = None;
        self.service.change_knobs(|knobs| {
            limit = knobs.drop_reply_after;
            match &mut knobs.drop_replies {
                Some(0) => limit = None,
                Some(left) if limit.is_some() => *left -= 1,
                _ => {}
            }
        });
        limit.and_then(|limit| usize::try_from(limit).ok())
    }
}

/// Counts a connection for as long as it lives.
struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn enter(count: &'a AtomicU32) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The next request; `None` when the peer closes, or stays silent, between requests.
async fn read_request(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    knobs: &Knobs,
) -> io::Result<Option<(Head, Vec<u8>)>> {
    if buffer.is_empty() {
        let idle = Duration::from_millis(knobs.idle_timeout_ms);
        match timeout(idle, read_some(stream, buffer)).await {
            Err(_) => return Ok(None),
            Ok(result) => {
                if !result? {
                    return Ok(None);
                }
            }
        }
    }
    timeout(Duration::from_millis(knobs.transfer_timeout_ms), async {
        loop {
            let refused =
                |error: http::HeadError| io::Error::new(io::ErrorKind::InvalidData, error);
            if let Some((head, start)) = http::head(buffer).map_err(refused)? {
                let end = start + head.length;
                while buffer.len() < end {
                    more(stream, buffer).await?;
                }
                let body = buffer.get(start..end).unwrap_or_default().to_vec();
                buffer.drain(..end);
                return Ok(Some((head, body)));
            }
            more(stream, buffer).await?;
        }
    })
    .await?
}

/// Reads what comes; `false` at the end of the stream.
async fn read_some(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut part = [0; 4096];
    let count = stream.read(&mut part).await?;
    buffer.extend_from_slice(part.get(..count).unwrap_or_default());
    Ok(count > 0)
}

/// The same, where the end would be too early. The buffer stays below the limits of head and body and one read.
async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> io::Result<()> {
    if read_some(stream, buffer).await? {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
