//! Bodies of the boot-session API: what the loader tells, what the server answers, what people follow.
//!
//! JSON over HTTP under `/api/v1`; the page is `docs/formats/boot-session-api.md`. No I/O, no clock. Who controls the bytes:
//! reports come from a PC that booted something of ours, or from anyone who holds that PC's token; so [`EventBatch::parse`]
//! caps every length and takes control characters out of every text before it can reach a terminal.

mod event;
mod limits;
mod session;

pub use event::{Event, EventBatch, InvalidReport, Inventory, Report, ReportKind, step};
pub use limits::{
    BatchError, MAX_BATCH, MAX_EVENTS, MAX_LINES, MAX_REPORTS, MAX_TEXT, MAX_TTL_SECONDS, clip,
};
pub use session::{
    CreateSession, Problem, RequestError, Session, SessionCreated, State, UnknownState,
};
pub use sparetire_manifest::{ImageName, Timestamp};
pub use stage1_config::{Secret, Target};

/// Where the API lives below the server's base URL.
pub const BASE_PATH: &str = "/api/v1";

/// Path of the list of sessions, below the server's base URL.
pub fn sessions_path() -> String {
    format!("{BASE_PATH}/sessions")
}

/// Path of one session.
pub fn session_path(id: &str) -> String {
    format!("{BASE_PATH}/sessions/{id}")
}

/// Path to which the loader posts its reports, and from which they can be read.
pub fn events_path(id: &str) -> String {
    format!("{BASE_PATH}/sessions/{id}/events")
}

/// Path of the stream of events.
pub fn stream_path(id: &str) -> String {
    format!("{BASE_PATH}/sessions/{id}/stream")
}
