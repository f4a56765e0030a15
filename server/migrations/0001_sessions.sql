-- Boot sessions and what their loaders reported.
-- Times are Unix seconds. Versions are text: they are 64 bits without a sign. Only SQL that
-- PostgreSQL understands as well.

CREATE TABLE sessions (
    id           TEXT PRIMARY KEY,
    -- SHA-256 in hex of the loader's token; the token itself is kept nowhere.
    token_sha256 TEXT NOT NULL,
    image        TEXT NOT NULL,
    version      TEXT,
    target       TEXT NOT NULL,
    note         TEXT,
    state        TEXT NOT NULL,
    created      BIGINT NOT NULL,
    expires      BIGINT NOT NULL,
    -- When it was handed off, expired or was cancelled.
    ended        BIGINT,
    -- Sequence numbers run from 1 to event_count without a gap.
    event_count  BIGINT NOT NULL DEFAULT 0,
    event_bytes  BIGINT NOT NULL DEFAULT 0
);

CREATE INDEX sessions_by_expiry ON sessions (expires) WHERE ended IS NULL;
CREATE INDEX sessions_by_end ON sessions (ended) WHERE ended IS NOT NULL;
CREATE INDEX sessions_by_creation ON sessions (created);

CREATE TABLE events (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq        BIGINT NOT NULL,
    received   BIGINT NOT NULL,
    -- The report as JSON.
    report     TEXT NOT NULL,
    PRIMARY KEY (session_id, seq)
);
