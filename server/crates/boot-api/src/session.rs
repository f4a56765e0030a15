//! Sessions: asking for one, what it is, and how reports move it along.

use serde::{Deserialize, Serialize};
use sparetire_manifest::{ImageName, Timestamp};
use stage1_config::{Secret, Target};

use crate::event::{Event, ReportKind, step};
use crate::limits::MAX_TTL_SECONDS;

/// Body of a POST that opens a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateSession {
    /// Image to boot.
    pub image: ImageName,
    /// Where it goes.
    #[serde(default)]
    pub target: Target,
    /// Exactly this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Seconds until the session expires, at most [`MAX_TTL_SECONDS`]; the server has a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Why, for people; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl CreateSession {
    /// Whether every value is within its limits.
    pub fn check(&self) -> Result<(), RequestError> {
        if let Some(found) = self.ttl_seconds
            && !(1..=MAX_TTL_SECONDS).contains(&found)
        {
            return Err(RequestError::Ttl { found });
        }
        match &self.note {
            Some(note) if note.len() > MAX_NOTE || note.chars().any(char::is_control) => {
                Err(RequestError::Note)
            }
            _ => Ok(()),
        }
    }
}

/// Why a session is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// A life that is too long or over at once.
    #[error("ttl_seconds is {found}, allowed are 1 to {MAX_TTL_SECONDS}")]
    Ttl {
        /// Seconds asked for.
        found: u64,
    },
    /// A note that cannot be shown.
    #[error("note is longer than {MAX_NOTE} bytes or has control characters")]
    Note,
}

/// Answer to [`CreateSession`]. The only time that the server shows the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionCreated {
    /// ID of the session.
    pub id: String,
    /// Bearer token for the session's events.
    pub token: Secret,
    /// When the session and its token end.
    pub expires: Timestamp,
}

/// A session as the server shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Session {
    /// Its ID.
    pub id: String,
    /// Image to boot.
    pub image: ImageName,
    /// Exactly this version, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Where the image goes.
    pub target: Target,
    /// How far it is.
    pub state: State,
    /// When it was opened.
    pub created: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The newest event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_event: Option<Event>,
    /// How many events there are.
    pub events_count: u64,
}

/// How far a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Opened; no PC reported yet.
    Created,
    /// A PC reports.
    Booting,
    /// It fetches the image.
    Downloading,
    /// It started the second system. Final.
    HandedOff,
    /// A step failed; the PC may try again.
    Failed,
    /// Its time is over. Final.
    Expired,
    /// Someone ended it. Final.
    Cancelled,
}

impl State {
    /// The state after a report. Final states stay what they are.
    pub fn after(self, report: &ReportKind) -> Self {
        if self.is_final() {
            return self;
        }
        match report {
            ReportKind::HandOff { .. } => Self::HandedOff,
            ReportKind::StepFailed { .. } => Self::Failed,
            ReportKind::StepStarted { step } if step == step::FETCH => Self::Downloading,
            ReportKind::StepStarted { .. } => Self::Booting,
            // A failed PC sends its log and memory as well; only a new step says that it tries again.
            _ if self == Self::Created => Self::Booting,
            _ => self,
        }
    }

    /// Whether nothing can happen any more. The token is dead.
    pub fn is_final(self) -> bool {
        matches!(self, Self::HandedOff | Self::Expired | Self::Cancelled)
    }

    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Booting => "booting",
            Self::Downloading => "downloading",
            Self::HandedOff => "handed-off",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::str::FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        use State::*;
        [
            Created,
            Booting,
            Downloading,
            HandedOff,
            Failed,
            Expired,
            Cancelled,
        ]
        .into_iter()
        .find(|state| state.as_str() == text)
        .ok_or(UnknownState)
    }
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that names no state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unknown session state")]
pub struct UnknownState;

/// Body of every answer that is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// For programs: a word in kebab-case that stays the same.
    pub code: String,
    /// For people.
    pub message: String,
}

const MAX_NOTE: usize = 256;
