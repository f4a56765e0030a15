//! All routes of the server, and the line that each request leaves in the log.
//!
//! The log names method, path, status, time and peer. Tokens travel in headers, and headers are
//! not logged.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{any, get};
use tracing::{debug, info, warn};

use super::api::{self, Api, Shared};
use super::listen::Peer;
use super::store::{StoreRoot, serve_store};
use super::stream::stream;

pub(super) fn router(api: Arc<Api>, store: StoreRoot) -> Router {
    let sessions = Router::new()
        .route("/sessions", get(api::list).post(api::create))
        .route("/sessions/{id}", get(api::show).delete(api::cancel))
        .route("/sessions/{id}/events", get(api::events).post(api::report))
        .route("/sessions/{id}/stream", get(stream));
    Router::new()
        .route("/healthz", get(healthz))
        .nest("/api/v1", sessions)
        .with_state(api)
        .route("/store/{*path}", any(serve_store).with_state(store))
        .fallback(api::no_route)
        .layer(from_fn(log))
}

/// 200 when requests can be answered, that is, when the database does.
async fn healthz(State(api): Shared) -> (StatusCode, &'static str) {
    match api.sessions.check().await {
        Ok(()) => (StatusCode::OK, "ok\n"),
        Err(error) => {
            warn!(%error, "health check");
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "database does not answer\n",
            )
        }
    }
}

async fn log(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    // At most hyper's limit for a head; Debug escapes what a terminal might obey.
    let path = request.uri().path().to_owned();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let response = next.run(request).await;
    let status = response.status();
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let peer = peer.map(|peer| peer.to_string()).unwrap_or_default();
    if status.is_server_error() {
        warn!(%method, ?path, status = status.as_u16(), ms, peer, "request");
    } else if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        info!(%method, ?path, status = status.as_u16(), ms, peer, "request refused");
    } else if method == Method::GET || method == Method::HEAD || status.is_client_error() {
        debug!(%method, ?path, status = status.as_u16(), ms, peer, "request");
    } else {
        info!(%method, ?path, status = status.as_u16(), ms, peer, "request");
    }
    response
}
