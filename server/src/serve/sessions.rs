//! Boot sessions at rest: who may report, what was reported, in which state that leaves the
//! session. One SQLite file; every change is one transaction.
//!
//! Time is an argument. A session's token opens that session only, and only until it ends by
//! hand-off, expiry or cancellation. Ends are stored; expiry already counts when the time has
//! come, whether or not [`Sessions::expire`] has run since.

use std::path::Path;
use std::time::Duration;

use boot_api::{CreateSession, Event, Report, ReportKind, Session, State};
use sparetire_manifest::Timestamp;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{SqlSafeStr, SqliteConnection};
use tokio::sync::watch;

use self::hub::Hub;
use self::row::{SessionRow, number, seconds, unsigned};
use super::token::{Token, TokenHash};

mod hub;
mod row;

/// The columns of a [`SessionRow`], of the sessions that `$rest` selects and orders.
macro_rules! concat_select {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.token_sha256, s.image, s.version, s.target, s.note, s.state,
                    s.created, s.expires, s.event_count, s.event_bytes,
                    e.seq AS last_seq, e.received AS last_received, e.report AS last_report
             FROM sessions s
             LEFT JOIN events e ON e.session_id = s.id AND e.seq = s.event_count ",
            $rest
        )
    };
}

/// What sessions may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLimits {
    /// Sessions that have not ended, at a time.
    pub live: u64,
    /// How long a session lives when its creator does not say.
    pub lifetime: Duration,
    /// The longest life a creator may ask for.
    pub max_lifetime: Duration,
    /// Events of one session.
    pub events: u64,
    /// Bytes of one session's events, as JSON.
    pub event_bytes: u64,
    /// How long ended sessions are kept.
    pub keep: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            live: 10_000,
            lifetime: Duration::from_secs(4 * 3600),
            max_lifetime: Duration::from_secs(boot_api::MAX_TTL_SECONDS),
            events: boot_api::MAX_EVENTS,
            event_bytes: 16 * 1024 * 1024,
            keep: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// Why a request concerning sessions was not granted.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is no session of that name.
    #[error("no such session")]
    NotFound,
    /// The token is not this session's; also said for sessions that do not exist.
    #[error("the token does not open this session")]
    WrongToken,
    /// The token is right, but the session has ended.
    #[error("the session has ended: {0}")]
    Ended(State),
    /// The session has as many events, or bytes of them, as it may have.
    #[error("the session has reached its limit of {0} events")]
    TooManyEvents(u64),
    /// There are as many sessions as there may be.
    #[error("there are {0} sessions that have not ended, and no more are allowed")]
    TooManySessions(u64),
    /// The system gave no random bytes.
    #[error("making a random token")]
    Random(#[source] getrandom::Error),
    /// The database failed.
    #[error("using the session database")]
    Database(#[from] sqlx::Error),
    /// The database could not be brought up to date.
    #[error("bringing the session database up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this version never wrote.
    #[error("reading {field} of session {id} from the database")]
    Corrupt {
        /// The session.
        id: String,
        /// The column that makes no sense.
        field: &'static str,
    },
}

/// The sessions of one server.
#[derive(Debug)]
pub(super) struct Sessions {
    pool: SqlitePool,
    limits: SessionLimits,
    hub: Hub,
}

impl Sessions {
    /// Opens the database file, creating it or bringing it up to date where needed.
    ///
    /// # Errors
    ///
    /// When it cannot be opened, or a newer version has written it.
    pub(super) async fn open(path: &Path, limits: SessionLimits) -> Result<Self, SessionError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // With WAL this survives a crash of the server; a power cut may cost the events of
            // the last moments, which no boot depends on.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(10));
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(Duration::from_secs(10))
            .connect_with(options)
            .await?;
        migrations().run(&pool).await?;
        Ok(Self {
            pool,
            limits,
            hub: Hub::default(),
        })
    }

    /// Whether the database answers.
    pub(super) async fn check(&self) -> Result<(), SessionError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Writes everything back and lets go of the file.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    /// Makes a session. Its token is in the answer and nowhere else.
    pub(super) async fn create(
        &self,
        new: &CreateSession,
        now: Timestamp,
    ) -> Result<(Session, Token), SessionError> {
        let token = Token::random().map_err(SessionError::Random)?;
        let id = random_id().map_err(SessionError::Random)?;
        let lifetime = new
            .ttl_seconds
            .map_or(self.limits.lifetime, Duration::from_secs)
            .min(self.limits.max_lifetime);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let live: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions WHERE ended IS NULL")
            .fetch_one(&mut *transaction)
            .await?;
        if unsigned(live) >= self.limits.live {
            return Err(SessionError::TooManySessions(self.limits.live));
        }
        sqlx::query(
            "INSERT INTO sessions
             (id, token_sha256, image, version, target, note, state, created, expires)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&id)
        .bind(token.hash().to_hex())
        .bind(new.image.as_str())
        .bind(new.version.map(|version| version.to_string()))
        .bind(row::target_name(new.target))
        .bind(new.note.as_deref())
        .bind(State::Created.as_str())
        .bind(seconds(now))
        .bind(seconds(now.plus(lifetime)))
        .execute(&mut *transaction)
        .await?;
        let session = read(&mut transaction, &id).await?.session()?;
        transaction.commit().await?;
        Ok((session, token))
    }

    /// One session.
    pub(super) async fn get(&self, id: &str) -> Result<Session, SessionError> {
        let mut connection = self.pool.acquire().await?;
        read(&mut connection, id).await?.session()
    }

    /// The newest `limit` sessions, newest first.
    pub(super) async fn list(&self, limit: u32) -> Result<Vec<Session>, SessionError> {
        let rows: Vec<SessionRow> =
            sqlx::query_as(concat_select!("ORDER BY s.created DESC, s.id LIMIT $1"))
                .bind(i64::from(limit))
                .fetch_all(&self.pool)
                .await?;
        rows.into_iter().map(SessionRow::session).collect()
    }

    /// Ends a session before its time. Cancelling twice is no error.
    pub(super) async fn cancel(&self, id: &str, now: Timestamp) -> Result<(), SessionError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        match read(&mut transaction, id).await?.state_at(now)? {
            State::Cancelled => return Ok(()),
            state if state.is_final() => return Err(SessionError::Ended(state)),
            _ => {}
        }
        sqlx::query("UPDATE sessions SET state = $1, ended = $2 WHERE id = $3")
            .bind(State::Cancelled.as_str())
            .bind(seconds(now))
            .bind(id)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        self.hub.notify(id);
        Ok(())
    }

    /// Stores what a loader reports, all of it or nothing.
    pub(super) async fn append(
        &self,
        id: &str,
        token: &TokenHash,
        reports: Vec<Report>,
        now: Timestamp,
    ) -> Result<(), SessionError> {
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let row = match read(&mut transaction, id).await {
            Err(SessionError::NotFound) => return Err(SessionError::WrongToken),
            row => row?,
        };
        if !row.token()?.matches(token) {
            return Err(SessionError::WrongToken);
        }
        let mut state = row.state_at(now)?;
        if state.is_final() {
            return Err(SessionError::Ended(state));
        }
        let (mut count, mut bytes) = (unsigned(row.event_count), unsigned(row.event_bytes));
        let reports = self.within_limits(count, bytes, reports)?;
        for report in &reports {
            state = state.after(&report.kind);
            let json = serde_json::to_string(report)
                .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
            count = count.saturating_add(1);
            bytes = bytes.saturating_add(json.len() as u64);
            sqlx::query(
                "INSERT INTO events (session_id, seq, received, report) VALUES ($1, $2, $3, $4)",
            )
            .bind(id)
            .bind(number(count))
            .bind(seconds(now))
            .bind(json)
            .execute(&mut *transaction)
            .await?;
            // Nothing comes after the hand-off: the system that reported it is gone.
            if state.is_final() {
                break;
            }
        }
        sqlx::query(
            "UPDATE sessions SET state = $1, ended = $2, event_count = $3, event_bytes = $4
             WHERE id = $5",
        )
        .bind(state.as_str())
        .bind(state.is_final().then(|| seconds(now)))
        .bind(number(count))
        .bind(number(bytes))
        .bind(id)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        self.hub.notify(id);
        Ok(())
    }

    /// A session at its limit may still be handed off: of a batch too many, only that is kept.
    fn within_limits(
        &self,
        count: u64,
        bytes: u64,
        mut reports: Vec<Report>,
    ) -> Result<Vec<Report>, SessionError> {
        let fits = count.saturating_add(reports.len() as u64) <= self.limits.events
            && bytes < self.limits.event_bytes;
        if !fits {
            reports.retain(|report| matches!(report.kind, ReportKind::HandOff { .. }));
            if reports.is_empty() {
                return Err(SessionError::TooManyEvents(self.limits.events));
            }
        }
        Ok(reports)
    }

    /// Up to `limit` events that come after sequence number `after`, in order.
    pub(super) async fn events(
        &self,
        id: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<Event>, SessionError> {
        let rows: Vec<row::EventRow> = sqlx::query_as(
            "SELECT session_id, seq, received, report FROM events
             WHERE session_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .bind(id)
        .bind(number(after))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.into_iter().map(row::EventRow::event).collect()
    }

    /// Marks what has expired by now, and forgets what ended long ago.
    pub(super) async fn expire(&self, now: Timestamp) -> Result<(), SessionError> {
        // Most of the time there is nothing to do, and then nothing is written.
        let due: Vec<String> =
            sqlx::query_scalar("SELECT id FROM sessions WHERE ended IS NULL AND expires <= $1")
                .bind(seconds(now))
                .fetch_all(&self.pool)
                .await?;
        for id in due {
            let changed = sqlx::query(
                "UPDATE sessions SET state = $1, ended = expires WHERE id = $2 AND ended IS NULL",
            )
            .bind(State::Expired.as_str())
            .bind(&id)
            .execute(&self.pool)
            .await?;
            if changed.rows_affected() > 0 {
                self.hub.notify(&id);
            }
        }
        let horizon = now.unix().saturating_sub(self.limits.keep.as_secs());
        let stale: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sessions WHERE ended < $1)")
                .bind(number(horizon))
                .fetch_one(&self.pool)
                .await?;
        if stale {
            sqlx::query("DELETE FROM sessions WHERE ended < $1")
                .bind(number(horizon))
                .execute(&self.pool)
                .await?;
        }
        Ok(())
    }

    /// Turns whenever the session may have changed. Subscribe first, read afterwards.
    pub(super) fn subscribe(&self, id: &str) -> watch::Receiver<u64> {
        self.hub.subscribe(id)
    }
}

async fn read(connection: &mut SqliteConnection, id: &str) -> Result<SessionRow, SessionError> {
    sqlx::query_as(concat_select!("WHERE s.id = $1"))
        .bind(id)
        .fetch_optional(connection)
        .await?
        .ok_or(SessionError::NotFound)
}

fn migrations() -> Migrator {
    Migrator::with_migrations(vec![Migration::new(
        1,
        "sessions".into(),
        MigrationType::Simple,
        include_str!("../../migrations/0001_sessions.sql").into_sql_str(),
        false,
    )])
}

/// Twelve letters and digits without those that look alike: 60 bits, short enough to read out.
fn random_id() -> Result<String, getrandom::Error> {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes)?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect())
}
