//! Follows a session as server-sent events (WHATWG HTML, "Server-sent events").
//!
//! Each report is a message with `id:` its sequence number and `data:` the event as JSON. The
//! state comes as a message of type `state` without an id, first and whenever it changes, so
//! that expiry and cancellation, which no loader reports, are seen too. A stream ends after a
//! final state; who then connects again with the last id gets 204, which tells an `EventSource`
//! to stop.
//!
//! The database is the queue: a follower reads what comes after its last id, then waits to be
//! woken. However slow it is, it misses nothing and holds up nobody.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse, Response, sse};
use boot_api::State as SessionState;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tracing::warn;

use super::api::{Api, Refusal, Shared};
use super::sessions::SessionError;

#[derive(Debug, Deserialize)]
pub(super) struct From {
    after: Option<u64>,
}

pub(super) async fn stream(
    State(api): Shared,
    headers: HeaderMap,
    Path(id): Path<String>,
    Query(query): Query<From>,
) -> Result<Response, Refusal> {
    api.operator_only(&headers)?;
    let permit = Arc::clone(&api.followers)
        .try_acquire_owned()
        .map_err(|_| Refusal::TooManyFollowers)?;
    // A reconnecting EventSource keeps its URL, so the header is the newer word.
    let after = last_event_id(&headers)?.or(query.after).unwrap_or(0);
    // Before the first read: what happens in between wakes the stream.
    let changes = api.sessions.subscribe(&id);
    let session = api.sessions.get(&id).await?;
    if session.state.is_final()
        && headers.contains_key(LAST_EVENT_ID)
        && session.events_count <= after
    {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let follower = Follower {
        stop: api.stop.clone(),
        api,
        id,
        after,
        changes,
        pending: VecDeque::new(),
        told: None,
        ended: false,
        _permit: permit,
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(follower.messages())
        .keep_alive(keep_alive)
        .into_response())
}

const LAST_EVENT_ID: &str = "last-event-id";

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(LAST_EVENT_ID) else {
        return Ok(None);
    };
    match value.to_str().ok().and_then(|text| text.parse().ok()) {
        Some(id) => Ok(Some(id)),
        None => Err(Refusal::Malformed(
            "Last-Event-ID is not a sequence number".to_owned(),
        )),
    }
}

struct Follower {
    api: Arc<Api>,
    id: String,
    /// Sequence number of the last event sent.
    after: u64,
    changes: watch::Receiver<u64>,
    stop: watch::Receiver<bool>,
    pending: VecDeque<sse::Event>,
    told: Option<SessionState>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    fn messages(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        futures_util::stream::unfold(self, |mut follower| async {
            let message = follower.next().await?;
            Some((Ok(message), follower))
        })
    }

    async fn next(&mut self) -> Option<sse::Event> {
        loop {
            if let Some(message) = self.pending.pop_front() {
                return Some(message);
            }
            if self.ended {
                return None;
            }
            // Marked as seen before reading, so that a change during the read is not lost.
            self.changes.mark_unchanged();
            if let Err(error) = self.read().await {
                // The stream just ends; the follower comes back with its last id.
                if !matches!(error, SessionError::NotFound) {
                    warn!(session = %self.id, %error, "following a session");
                }
                return None;
            }
            if self.pending.is_empty() && !self.ended {
                tokio::select! {
                    changed = self.changes.changed() => changed.ok()?,
                    _ = self.stop.wait_for(|stop| *stop) => return None,
                }
            }
        }
    }

    /// Fills `pending` with what is new. The state is read before the events: events may be
    /// newer than the state that is told, never older.
    async fn read(&mut self) -> Result<(), SessionError> {
        let state = self.api.sessions.get(&self.id).await?.state;
        let events = self
            .api
            .sessions
            .events(&self.id, self.after, READ_AHEAD)
            .await?;
        let caught_up = events.len() < READ_AHEAD as usize;
        if self.told.is_none() || (caught_up && self.told != Some(state)) {
            // On the first turn the state comes first, so that a follower knows where it is;
            // a final one comes last, as the end of the story.
            if !state.is_final() {
                self.pending.push_back(state_message(state));
                self.told = Some(state);
            }
        }
        for event in events {
            self.after = event.seq;
            if let Ok(json) = serde_json::to_string(&event) {
                let message = sse::Event::default().id(event.seq.to_string()).data(json);
                self.pending.push_back(message);
            }
        }
        if state.is_final() && caught_up {
            self.pending.push_back(state_message(state));
            self.ended = true;
        }
        Ok(())
    }
}

/// The data of a message of type `state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateChange {
    pub(crate) state: SessionState,
}

fn state_message(state: SessionState) -> sse::Event {
    let message = sse::Event::default().event("state");
    match serde_json::to_string(&StateChange { state }) {
        Ok(json) => message.data(json),
        Err(_) => message,
    }
}

/// Events held in memory for one follower at a time.
const READ_AHEAD: u32 = 64;
