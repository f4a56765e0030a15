//! WS-Management over HTTP/1.1, as AMT serves it: one request at a time, digest authentication, chunked answers, a
//! connection that is kept while it lasts.
//!
//! AMT closes the connection after each 401 and keeps it after answers. It drops connections while its network or the PC's
//! power changes: what may be sent twice is then sent again, what may not is reported as lost. Never sent: `Expect` and
//! chunked requests, which AMT is not known to take. Who controls the bytes: the device, or whoever answers in its place;
//! length and time of an answer are bounded.

use std::time::Duration;

use amt_wsman::digest::{Challenge, ChallengeError, Client, Credentials, Verdict};
use amt_wsman::reply::MAX_REPLY;
use amt_wsman::request::{Repeat, Request};
use amt_wsman::transport::WAITING;
use amt_wsman::{Transport, TransportError};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, SERVER, WWW_AUTHENTICATE,
};
use hyper::{Method, Response, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};

use super::dial::Dial;

const PATH: &str = "/wsman";

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// For a connection.
    pub connect: Duration,
    /// For a whole answer; in soft-off AMT may take 15 seconds.
    pub answer: Duration,
    /// Between tries after a dropped connection.
    pub retry_pause: Duration,
    /// How many such tries.
    pub retries: u32,
    /// After this long without a request a connection is taken for closed by the device.
    pub idle: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(30),
            retry_pause: Duration::from_millis(500),
            retries: 5,
            idle: Duration::from_secs(5),
        }
    }
}

/// Carries messages to one device over streams that a [`Dial`] opens.
#[derive(Debug)]
pub struct HttpTransport<D> {
    dial: D,
    digest: Client,
    timing: Timing,
    connection: Option<Connection>,
    server: Option<String>,
    /// The device was heard from, so that silence means trouble on the way and not a wrong address.
    heard: bool,
}

/// A connection and the task that drives it; both end together.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: AbortHandle,
    used: Instant,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

/// An exchange without answer.
struct Failure {
    error: TransportError,
    /// The device cannot have seen the request.
    unsent: bool,
}

impl<D: Dial> HttpTransport<D> {
    /// A transport that has not connected yet.
    pub fn new(dial: D, credentials: Credentials, timing: Timing) -> Self {
        Self {
            dial,
            digest: Client::new(credentials),
            timing,
            connection: None,
            server: None,
            heard: false,
        }
    }

    async fn exchange(
        &mut self,
        body: &str,
        authorization: Option<&str>,
    ) -> Result<Answer, Failure> {
        // Taken out, so that a caller that gives up leaves no half-read answer behind.
        let mut connection = self.connected().await?;
        let request = self.request(body, authorization)?;
        let peer = self.dial.peer();
        let work = async {
            let sent = connection.sender.try_send_request(request).await;
            let response = sent.map_err(|mut error| Failure {
                unsent: error.take_message().is_some(),
                error: failed(error.error(), peer),
            })?;
            let keep = keeps(&response);
            let answer = read(response, peer).await.map_err(|error| Failure {
                error,
                unsent: false,
            })?;
            Ok((answer, keep))
        };
        let (answer, keep) = match timeout(self.timing.answer, work).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Failure {
                    error: TransportError::TimedOut {
                        peer: peer.to_owned(),
                        doing: WAITING,
                        seconds: self.timing.answer.as_secs(),
                    },
                    unsent: false,
                });
            }
        };
        if keep {
            connection.used = Instant::now();
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    async fn connected(&mut self) -> Result<Connection, Failure> {
        let unsent = |error| Failure {
            error,
            unsent: true,
        };
        if let Some(mut connection) = self.connection.take()
            && connection.used.elapsed() < self.timing.idle
            && connection.sender.ready().await.is_ok()
        {
            return Ok(connection);
        }
        let stream = self.dial.dial().await.map_err(unsent)?;
        let (sender, driver) = Builder::new()
            // The oldest firmware was never seen with lower-case names.
            .title_case_headers(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unsent(failed(&error, self.dial.peer())))?;
        let driver = tokio::spawn(async move {
            // The sender is told of errors as well.
            let _ = driver.await;
        });
        Ok(Connection {
            sender,
            driver: driver.abort_handle(),
            used: Instant::now(),
        })
    }

    fn request(
        &self,
        body: &str,
        authorization: Option<&str>,
    ) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let mut request = hyper::Request::builder()
            .method(Method::POST)
            .uri(PATH)
            .header(HOST, self.dial.peer())
            .header(CONTENT_TYPE, "application/soap+xml; charset=utf-8");
        let invalid = |why: String| Failure {
            error: TransportError::NotAmt {
                peer: self.dial.peer().to_owned(),
                why,
            },
            unsent: true,
        };
        if let Some(authorization) = authorization {
            // Realm and nonce are the device's and may hold what a header must not.
            let mut value = HeaderValue::from_bytes(authorization.as_bytes())
                .map_err(|_| invalid("its challenge cannot be answered in a header".into()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(|error| invalid(error.to_string()))
    }

    /// Whether to try again after a failure.
    fn may_repeat(&self, failure: &Failure, repeat: Repeat, authorized: bool) -> bool {
        let harmless = failure.unsent || repeat == Repeat::Safe || !authorized;
        let passing = match failure.error {
            TransportError::Lost { .. } => true,
            // Where it answered before, it may be on its way back.
            TransportError::Refused { .. } | TransportError::Unreachable { .. } => self.heard,
            _ => false,
        };
        harmless && passing
    }

    fn challenged(&mut self, headers: &HeaderMap) -> Result<(), TransportError> {
        let peer = || self.dial.peer().to_owned();
        let values: Vec<String> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        let challenge =
            Challenge::of(values.iter().map(String::as_str)).map_err(|error| match error {
                ChallengeError::NoDigest(_) if is_amt(headers) => {
                    TransportError::NoCommonAuthentication {
                        peer: peer(),
                        why: error.to_string(),
                    }
                }
                ChallengeError::Algorithm(_) | ChallengeError::Protection(_) => {
                    TransportError::NoCommonAuthentication {
                        peer: peer(),
                        why: error.to_string(),
                    }
                }
                _ => TransportError::NotAmt {
                    peer: peer(),
                    why: error.to_string(),
                },
            })?;
        match self.digest.challenged(challenge) {
            Verdict::TryAgain => Ok(()),
            Verdict::Forgotten => Err(TransportError::ForgetsChallenges { peer: peer() }),
            Verdict::Denied => Err(TransportError::BadCredentials {
                peer: peer(),
                user: self.digest.user().to_owned(),
            }),
        }
    }
}

impl<D: Dial> Transport for HttpTransport<D> {
    async fn post(&mut self, request: &Request) -> Result<String, TransportError> {
        self.digest.begin_request();
        let mut drops = 0;
        loop {
            let mut client_nonce = [0; 8];
            getrandom::fill(&mut client_nonce).map_err(|error| TransportError::Unreachable {
                peer: self.dial.peer().to_owned(),
                why: format!("no random numbers: {error}"),
            })?;
            let authorization =
                self.digest
                    .authorize("POST", PATH, request.body.as_bytes(), client_nonce);
            match self.exchange(&request.body, authorization.as_deref()).await {
                Ok(answer) => {
                    self.heard = true;
                    if let Some(server) = answer.headers.get(SERVER) {
                        self.server = server.to_str().ok().map(str::to_owned);
                    }
                    if answer.status == StatusCode::UNAUTHORIZED {
                        self.challenged(&answer.headers)?;
                        continue;
                    }
                    return understood(answer, self.dial.peer());
                }
                Err(failure) => {
                    let again = self.may_repeat(&failure, request.repeat, authorization.is_some());
                    if !again || drops >= self.timing.retries {
                        return Err(failure.error);
                    }
                    drops += 1;
                    sleep(self.timing.retry_pause).await;
                }
            }
        }
    }

    async fn pause(&mut self, how_long: Duration) {
        sleep(how_long).await;
    }

    fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }
}

fn is_amt(headers: &HeaderMap) -> bool {
    headers
        .get(SERVER)
        .and_then(|server| server.to_str().ok())
        .is_some_and(|server| server.contains("Active Management Technology"))
}

fn keeps(response: &Response<Incoming>) -> bool {
    let close = response
        .headers()
        .get_all(CONNECTION)
        .iter()
        .any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
    response.version() == Version::HTTP_11 && !close
}

async fn read(response: Response<Incoming>, peer: &str) -> Result<Answer, TransportError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, MAX_REPLY)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                return TransportError::TooLong {
                    peer: peer.to_owned(),
                    limit: MAX_REPLY,
                };
            }
            match error.downcast::<hyper::Error>() {
                Ok(error) => failed(&error, peer),
                Err(error) => TransportError::Lost {
                    peer: peer.to_owned(),
                    why: error.to_string(),
                },
            }
        })?;
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: body.to_bytes().into(),
    })
}

fn failed(error: &hyper::Error, peer: &str) -> TransportError {
    let peer = peer.to_owned();
    if error.is_parse() {
        return TransportError::NotAmt {
            peer,
            why: "what it sends is no HTTP".into(),
        };
    }
    let why = std::error::Error::source(error)
        .map_or_else(|| error.to_string(), std::string::ToString::to_string);
    TransportError::Lost { peer, why }
}

/// Faults come with status 400, and with others from some firmware: what counts is whether it is XML.
fn understood(answer: Answer, peer: &str) -> Result<String, TransportError> {
    let peer = peer.to_owned();
    let status = answer.status;
    let start = answer.body.iter().take(256).copied().collect::<Vec<_>>();
    let start = String::from_utf8_lossy(&start).to_ascii_lowercase();
    let start = start.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    let is_xml =
        start.starts_with("<?xml") || (start.starts_with('<') && start.contains("envelope"));
    if is_xml {
        return String::from_utf8(answer.body).map_err(|_| TransportError::NotAmt {
            peer,
            why: "its answer is not UTF-8".into(),
        });
    }
    if status.is_server_error() || (status.is_client_error() && is_amt(&answer.headers)) {
        return Err(TransportError::Status {
            peer,
            status: status.as_u16(),
        });
    }
    Err(TransportError::NotAmt {
        peer,
        why: format!("HTTP status {}, and no XML", status.as_u16()),
    })
}
