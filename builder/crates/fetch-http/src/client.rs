//! Single requests: a small file, or a report to the server.

use std::time::Duration;

use fetch::ConnectionFailure;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderMap,
    HeaderValue, RANGE,
};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Method, NoProxy, Proxy, Request, Response, Url};
use serde::Serialize;
use tokio::time::{Instant, timeout, timeout_at};

use crate::error::{HttpError, HttpFailure, NO_TRUST, connection_failure, parse_url, shown};
use crate::tls::Trust;

/// What requests call themselves.
pub const USER_AGENT: &str = concat!("sparetire/", env!("CARGO_PKG_VERSION"));

/// How to make requests.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Whom TLS believes.
    pub trust: Trust,
    /// URL of an HTTP proxy for all requests, credentials included.
    pub proxy: Option<String>,
    /// Time for a connection to come about, TLS included.
    pub connect_timeout: Duration,
    /// Time for a small request; a longer answer gets more, at 16 KiB per second.
    pub timeout: Duration,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            trust: Trust::default(),
            proxy: None,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
        }
    }
}

/// An answer that comes slower than this, in bytes per second, is given up.
const SLOWEST: u64 = 16 << 10;
const MAX_REDIRECTS: usize = 5;
/// Longest answer to a report; it is thrown away.
const MAX_ANSWER: usize = 64 << 10;

/// Makes requests. Clones share their connections.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client,
    trusts_nobody: bool,
    timeout: Duration,
}

impl HttpClient {
    /// Sets up TLS and the proxy; connects to nothing yet.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpFailure> {
        let tls = options.trust.client_config()?;
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .tls_backend_preconfigured(tls)
            .http1_only()
            .referer(false)
            .redirect(Policy::custom(follow))
            .connect_timeout(options.connect_timeout)
            // Only an answer tells whether a request arrived: retrying is the state machine's business.
            .retry(reqwest::retry::never())
            .no_proxy();
        if let Some(proxy) = &options.proxy {
            let proxy = parse_url(proxy)
                .ok()
                .filter(|proxy| proxy.scheme() == "http")
                .ok_or(HttpFailure::ProxyUrl)?;
            let proxy = Proxy::all(proxy).map_err(|_| HttpFailure::ProxyUrl)?;
            builder =
                builder.proxy(proxy.no_proxy(NoProxy::from_string("localhost,127.0.0.1,::1")));
        }
        let client = builder
            .build()
            .map_err(|error| HttpFailure::Connection(connection_failure(&error)))?;
        Ok(Self {
            client,
            trusts_nobody: options.trust.is_empty(),
            timeout: options.timeout,
        })
    }

    /// The bytes at `url`, at most `limit` of them.
    pub async fn get_small(&self, url: &str, limit: usize) -> Result<Vec<u8>, HttpError> {
        let url = parse_url(url)?;
        let answer = self
            .small(Request::new(Method::GET, url.clone()), limit)
            .await;
        answer.map_err(|what| HttpError {
            url: shown(&url),
            what,
        })
    }

    /// Length of the file at `url`, as its server says it when asked for the first byte: whoever answers that can be
    /// asked for any other.
    pub async fn file_size(&self, url: &str) -> Result<u64, HttpError> {
        let url = parse_url(url)?;
        let answer = async {
            let mut request = Request::new(Method::GET, url.clone());
            request
                .headers_mut()
                .insert(RANGE, HeaderValue::from_static("bytes=0-0"));
            let response = timeout(self.timeout, self.send(request))
                .await
                .map_err(|_| HttpFailure::Connection(ConnectionFailure::TimedOut))??;
            let status = response.status().as_u16();
            if !matches!(status, 200 | 206) {
                return Err(HttpFailure::Status(status));
            }
            let range = response.headers().get(CONTENT_RANGE);
            range
                .filter(|_| status == 206)
                .and_then(|value| {
                    value
                        .to_str()
                        .ok()?
                        .strip_prefix("bytes 0-0/")?
                        .parse()
                        .ok()
                })
                .ok_or(HttpFailure::NoRanges)
        };
        answer.await.map_err(|what| HttpError {
            url: shown(&url),
            what,
        })
    }

    /// Posts `body` as JSON, with `token` as the bearer token, and returns what the server answers.
    pub async fn post_json(
        &self,
        url: &str,
        token: Option<&str>,
        body: &(impl Serialize + Sync + ?Sized),
    ) -> Result<Vec<u8>, HttpError> {
        let url = parse_url(url)?;
        let answer = async {
            let mut request = Request::new(Method::POST, url.clone());
            request
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            if let Some(token) = token {
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| HttpFailure::Token)?;
                value.set_sensitive(true);
                request.headers_mut().insert(AUTHORIZATION, value);
            }
            let body = serde_json::to_vec(body).map_err(|cause| HttpFailure::Body {
                cause: cause.to_string(),
            })?;
            *request.body_mut() = Some(body.into());
            self.small(request, MAX_ANSWER).await
        };
        answer.await.map_err(|what| HttpError {
            url: shown(&url),
            what,
        })
    }

    async fn small(&self, request: Request, limit: usize) -> Result<Vec<u8>, HttpFailure> {
        const LATE: HttpFailure = HttpFailure::Connection(ConnectionFailure::TimedOut);
        let started = Instant::now();
        let sent = timeout(self.timeout, self.send(request))
            .await
            .map_err(|_| LATE)?;
        let mut response = sent?;
        let status = response.status();
        if !status.is_success() {
            return Err(HttpFailure::Status(status.as_u16()));
        }
        if is_encoded(response.headers()) {
            return Err(HttpFailure::Encoded);
        }
        // Cap before allocating: what the header says is only a reason to give up early.
        let too_large = HttpFailure::TooLarge { limit };
        if response
            .content_length()
            .is_some_and(|length| usize::try_from(length).map_or(true, |length| length > limit))
        {
            return Err(too_large);
        }
        let mut bytes = Vec::new();
        loop {
            let allowance = Duration::from_secs(bytes.len() as u64 / SLOWEST);
            let part = timeout_at(started + self.timeout + allowance, response.chunk())
                .await
                .map_err(|_| LATE)?;
            let Some(part) = part.map_err(|error| connection_failure(&error))? else {
                return Ok(bytes);
            };
            if part.len() > limit.saturating_sub(bytes.len()) {
                return Err(too_large);
            }
            bytes.extend_from_slice(&part);
        }
    }

    /// Sends a request; the body of the answer is still to come.
    pub(crate) async fn send(&self, mut request: Request) -> Result<Response, HttpFailure> {
        if request.url().scheme() == "https" && self.trusts_nobody {
            return Err(NO_TRUST);
        }
        request
            .headers_mut()
            .insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        self.client
            .execute(request)
            .await
            .map_err(|error| HttpFailure::Connection(connection_failure(&error)))
    }
}

fn is_encoded(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"))
}

/// Follows a few redirects, none of which leaves the scheme: HTTPS stays HTTPS, and HTTP needs no CA later on.
fn follow(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let before = attempt.previous().last().map(Url::scheme);
    if attempt.previous().len() > MAX_REDIRECTS || before != Some(attempt.url().scheme()) {
        attempt.error("redirect refused")
    } else {
        attempt.follow()
    }
}
