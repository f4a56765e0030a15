//! Rows of the database as values of the API. SQLite's integers are signed: a number that does
//! not fit is stored as the largest that does, which no time or count ever reaches.

use boot_api::{Event, ImageName, Report, Session, State, Target, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{FromRow, Row};

use super::SessionError;
use crate::serve::token::TokenHash;

/// A session with its newest event.
#[derive(Debug)]
pub(super) struct SessionRow {
    id: String,
    token_sha256: String,
    image: String,
    version: Option<String>,
    target: String,
    note: Option<String>,
    state: String,
    created: i64,
    expires: i64,
    pub(super) event_count: i64,
    pub(super) event_bytes: i64,
    last: Option<EventRow>,
}

impl FromRow<'_, SqliteRow> for SessionRow {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let id: String = row.try_get("id")?;
        let last = match row.try_get::<Option<i64>, _>("last_seq")? {
            None => None,
            Some(seq) => Some(EventRow {
                session_id: id.clone(),
                seq,
                received: row.try_get("last_received")?,
                report: row.try_get("last_report")?,
            }),
        };
        Ok(Self {
            id,
            token_sha256: row.try_get("token_sha256")?,
            image: row.try_get("image")?,
            version: row.try_get("version")?,
            target: row.try_get("target")?,
            note: row.try_get("note")?,
            state: row.try_get("state")?,
            created: row.try_get("created")?,
            expires: row.try_get("expires")?,
            event_count: row.try_get("event_count")?,
            event_bytes: row.try_get("event_bytes")?,
            last,
        })
    }
}

impl SessionRow {
    pub(super) fn token(&self) -> Result<TokenHash, SessionError> {
        TokenHash::from_hex(&self.token_sha256).ok_or_else(|| corrupt(&self.id, "token_sha256"))
    }

    /// The state as it is at `now`, even when nobody has written down yet that it has expired.
    pub(super) fn state_at(&self, now: Timestamp) -> Result<State, SessionError> {
        let state: State = self.state.parse().map_err(|_| corrupt(&self.id, "state"))?;
        let over = !state.is_final() && time(self.expires) <= now;
        Ok(if over { State::Expired } else { state })
    }

    pub(super) fn session(self) -> Result<Session, SessionError> {
        let Self { id, .. } = self;
        let bad = |field| corrupt(&id, field);
        let version = match self.version {
            Some(text) => Some(text.parse().map_err(|_| bad("version"))?),
            None => None,
        };
        Ok(Session {
            image: ImageName::try_from(self.image).map_err(|_| bad("image"))?,
            version,
            target: self.target.parse().map_err(|()| bad("target"))?,
            state: self.state.parse().map_err(|_| bad("state"))?,
            created: time(self.created),
            expires: time(self.expires),
            note: self.note,
            last_event: self.last.map(EventRow::event).transpose()?,
            events_count: unsigned(self.event_count),
            id,
        })
    }
}

/// One event.
#[derive(Debug)]
pub(super) struct EventRow {
    session_id: String,
    seq: i64,
    received: i64,
    report: String,
}

impl FromRow<'_, SqliteRow> for EventRow {
    fn from_row(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            session_id: row.try_get("session_id")?,
            seq: row.try_get("seq")?,
            received: row.try_get("received")?,
            report: row.try_get("report")?,
        })
    }
}

impl EventRow {
    pub(super) fn event(self) -> Result<Event, SessionError> {
        let report: Report =
            serde_json::from_str(&self.report).map_err(|_| corrupt(&self.session_id, "report"))?;
        Ok(Event {
            seq: unsigned(self.seq),
            received: time(self.received),
            report,
        })
    }
}

/// A target as it is stored; reading it back is `FromStr`.
pub(super) fn target_name(target: Target) -> &'static str {
    match target {
        Target::Ram => "ram",
        Target::Usb => "usb",
        Target::Disk => "disk",
    }
}

fn corrupt(id: &str, field: &'static str) -> SessionError {
    SessionError::Corrupt {
        id: id.to_owned(),
        field,
    }
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(unsigned(seconds))
}

pub(super) fn seconds(time: Timestamp) -> i64 {
    number(time.unix())
}

pub(super) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_targets_read_back() {
        for target in [Target::Ram, Target::Usb, Target::Disk] {
            assert_eq!(target_name(target).parse(), Ok(target));
        }
    }

    #[test]
    fn numbers_beyond_sqlite_become_the_largest() {
        assert_eq!(number(u64::MAX), i64::MAX);
        assert_eq!(unsigned(number(7)), 7);
        assert_eq!(unsigned(-1), 0);
    }
}
