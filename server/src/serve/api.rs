//! The boot-session API under `/api/v1`: who may call what, and how outcomes become statuses.
//!
//! Two keys: the operator's token opens everything but reporting, a session's token opens
//! reporting for that session and nothing else. Tokens travel in the `Authorization` header
//! only, never in a URL, where logs and histories would keep them.
//!
//! | call | key | answers |
//! |---|---|---|
//! | `POST /sessions` | operator | 201 with id and token |
//! | `GET /sessions?limit=` | operator | the newest sessions |
//! | `GET /sessions/{id}` | operator | one session |
//! | `DELETE /sessions/{id}` | operator | 204; 409 when it had ended otherwise |
//! | `POST /sessions/{id}/events` | session | 204; 410 once the session has ended |
//! | `GET /sessions/{id}/events?after=&limit=` | operator | events in order |
//! | `GET /sessions/{id}/stream` | operator | server-sent events, see `stream` |

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes, HttpBody, to_bytes};
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, LOCATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use boot_api::{BatchError, CreateSession, EventBatch, Problem, Secret, SessionCreated};
use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tracing::{error, info};

use super::clock::Clock;
use super::sessions::{SessionError, Sessions};
use super::token::{Token, TokenHash};

/// What the handlers work with.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) sessions: Sessions,
    pub(super) operator: TokenHash,
    pub(super) clock: Clock,
    /// Time in which a request's body must be there.
    pub(super) body_timeout: Duration,
    /// Followers at a time.
    pub(super) followers: Arc<Semaphore>,
    /// Turns true when the server stops.
    pub(super) stop: watch::Receiver<bool>,
}

pub(super) type Shared = State<Arc<Api>>;

pub(super) async fn create(
    State(api): Shared,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    api.operator_only(&headers)?;
    let body = api.read(body, MAX_CREATE).await?;
    let new: CreateSession =
        serde_json::from_slice(&body).map_err(|error| Refusal::Malformed(error.to_string()))?;
    new.check()
        .map_err(|error| Refusal::Malformed(chain(&error)))?;
    let (session, token) = api.sessions.create(&new, api.clock.now()).await?;
    info!(session = %session.id, image = %session.image, "session created");
    let location = format!("/api/v1/sessions/{}", session.id);
    let created = SessionCreated {
        id: session.id,
        token: Secret::new(token.reveal().to_owned()),
        expires: session.expires,
    };
    let headers = [(LOCATION, location), (CACHE_CONTROL, "no-store".to_owned())];
    Ok((StatusCode::CREATED, headers, Json(created)).into_response())
}

#[derive(Debug, Deserialize)]
pub(super) struct Listing {
    #[serde(default)]
    after: u64,
    limit: Option<u32>,
}

pub(super) async fn list(
    State(api): Shared,
    headers: HeaderMap,
    Query(query): Query<Listing>,
) -> Result<Response, Refusal> {
    api.operator_only(&headers)?;
    let limit = query.limit.unwrap_or(200).min(MAX_LISTING);
    Ok(Json(api.sessions.list(limit).await?).into_response())
}

pub(super) async fn show(
    State(api): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    api.operator_only(&headers)?;
    Ok(Json(api.sessions.get(&id).await?).into_response())
}

pub(super) async fn cancel(
    State(api): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    api.operator_only(&headers)?;
    api.sessions.cancel(&id, api.clock.now()).await?;
    info!(session = %id, "session cancelled");
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn events(
    State(api): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<Listing>,
) -> Result<Response, Refusal> {
    api.operator_only(&headers)?;
    // A session without events is an empty list, no session is 404.
    api.sessions.get(&id).await?;
    let limit = query.limit.unwrap_or(MAX_LISTING).min(MAX_LISTING);
    Ok(Json(api.sessions.events(&id, query.after, limit).await?).into_response())
}

pub(super) async fn report(
    State(api): Shared,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ReportRefusal> {
    let token = Token::from_headers(&headers).ok_or(Refusal::Unauthorized)?;
    let body = api.read(body, boot_api::MAX_BATCH).await?;
    let batch = EventBatch::parse(&body).map_err(|error| match error {
        BatchError::TooLarge { .. } => Refusal::TooLarge(boot_api::MAX_BATCH),
        error => Refusal::Malformed(chain(&error)),
    })?;
    let now = api.clock.now();
    api.sessions
        .append(&id, &token.hash(), batch.events, now)
        .await
        .map_err(Refusal::from)?;
    Ok(StatusCode::NO_CONTENT)
}

impl Api {
    pub(super) fn operator_only(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match Token::from_headers(headers) {
            Some(token) if token.hash().matches(&self.operator) => Ok(()),
            _ => Err(Refusal::Unauthorized),
        }
    }

    async fn read(&self, body: Body, cap: usize) -> Result<Bytes, Refusal> {
        // Announced as too long: not worth waiting for.
        if body.size_hint().lower() > cap as u64 {
            return Err(Refusal::TooLarge(cap));
        }
        tokio::time::timeout(self.body_timeout, to_bytes(body, cap))
            .await
            .map_err(|_| Refusal::TooSlow)?
            // Broken off, or longer than the cap: who broke off does not read the answer.
            .map_err(|_| Refusal::TooLarge(cap))
    }
}

/// Whatever matches no route.
pub(super) async fn no_route() -> Refusal {
    Refusal::NoSuchPath
}

const MAX_CREATE: usize = 16 * 1024;
const MAX_LISTING: u32 = 1000;

/// Why a call was not granted.
#[derive(Debug)]
pub(super) enum Refusal {
    Unauthorized,
    NoSuchPath,
    Malformed(String),
    TooLarge(usize),
    TooSlow,
    TooManyFollowers,
    Session(SessionError),
}

impl From<SessionError> for Refusal {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, code, message) = match self {
            Self::Unauthorized | Self::Session(SessionError::WrongToken) => (
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "the token is missing or not the right one".to_owned(),
            ),
            Self::NoSuchPath => (
                StatusCode::NOT_FOUND,
                "no-such-path",
                "no such path".to_owned(),
            ),
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, "malformed", why),
            Self::TooLarge(cap) => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                format!("the body is cut short or longer than {cap} bytes"),
            ),
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "too-slow",
                "the body took too long to arrive".to_owned(),
            ),
            Self::TooManyFollowers => (
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-followers",
                "too many sessions are being followed at a time".to_owned(),
            ),
            Self::Session(error) => session_refusal(error),
        };
        let problem = Problem {
            code: code.to_owned(),
            message,
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1 wants to see the scheme named.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn session_refusal(error: SessionError) -> (StatusCode, &'static str, String) {
    let (status, code) = match &error {
        SessionError::NotFound => (StatusCode::NOT_FOUND, "no-such-session"),
        SessionError::WrongToken => (StatusCode::UNAUTHORIZED, "unauthorized"),
        SessionError::Ended(_) => (StatusCode::CONFLICT, "session-ended"),
        SessionError::TooManyEvents(_) => (StatusCode::TOO_MANY_REQUESTS, "too-many-events"),
        SessionError::TooManySessions(_) => (StatusCode::SERVICE_UNAVAILABLE, "too-many-sessions"),
        SessionError::Random(_)
        | SessionError::Database(_)
        | SessionError::Migrate(_)
        | SessionError::Corrupt { .. } => {
            // The cause is the operator's business, not the caller's.
            error!(error = chain(&error), "session store");
            let message = "the server could not do it; its log says why".to_owned();
            return (StatusCode::INTERNAL_SERVER_ERROR, "internal", message);
        }
    };
    (status, code, error.to_string())
}

/// A loader's call: the same refusals, but an ended session is 410 (gone for good, stop
/// reporting) where an operator's conflicting wish is 409.
#[derive(Debug)]
pub(super) struct ReportRefusal(Refusal);

impl From<Refusal> for ReportRefusal {
    fn from(refusal: Refusal) -> Self {
        Self(refusal)
    }
}

impl IntoResponse for ReportRefusal {
    fn into_response(self) -> Response {
        let ended = matches!(self.0, Refusal::Session(SessionError::Ended(_)));
        let mut response = self.0.into_response();
        if ended {
            *response.status_mut() = StatusCode::GONE;
        }
        response
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
