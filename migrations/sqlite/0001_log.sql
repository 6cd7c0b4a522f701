-- The durable log. Times are UTC microseconds, ids are 16-byte UUIDs. The same tables under the same number stand in
-- migrations/postgres.

CREATE TABLE calls (
    call_id         BLOB    NOT NULL PRIMARY KEY, -- UUIDv7: sorts by when the server first heard of the call
    call_sid        TEXT    NOT NULL,
    sid_made_up     INTEGER NOT NULL,             -- whether the server made the sid up
    conversation_id TEXT,
    status          TEXT    NOT NULL,
    subject         TEXT,
    agent_id        TEXT,
    metadata        TEXT,                         -- JSON, as registered
    head            INTEGER NOT NULL,             -- seq of the newest event
    turns           INTEGER NOT NULL,             -- sequence_number of the newest turn
    live            INTEGER NOT NULL,             -- whether any turn came in live
    has_audio       INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    end_time        INTEGER,
    merged_into     BLOB                          -- the surviving call, where this record was absorbed
) WITHOUT ROWID;
CREATE INDEX calls_by_status ON calls (status, call_id);
CREATE INDEX calls_by_agent ON calls (agent_id, call_id) WHERE agent_id IS NOT NULL;
CREATE INDEX calls_by_end ON calls (end_time) WHERE end_time IS NOT NULL;

CREATE TABLE identifiers (
    identifier TEXT NOT NULL PRIMARY KEY,
    call_id    BLOB NOT NULL,
    kind       TEXT NOT NULL                      -- call_sid, conversation_id, provider
) WITHOUT ROWID;
CREATE INDEX identifiers_by_call ON identifiers (call_id);

CREATE TABLE events (
    call_id     BLOB    NOT NULL,
    seq         INTEGER NOT NULL,                 -- 1, 2, 3… per call, without holes
    kind        TEXT    NOT NULL,                 -- transcription, call_status, call_completed
    frame       TEXT    NOT NULL,                 -- the WebSocket message, as every subscriber gets it
    created_at  INTEGER NOT NULL,
    delivery_id BLOB,                             -- what caused it
    PRIMARY KEY (call_id, seq)
) WITHOUT ROWID;

CREATE TABLE results (
    call_id    BLOB NOT NULL PRIMARY KEY,
    call_data  TEXT NOT NULL,                     -- JSON, as in call_completed
    transcript TEXT                               -- the provider's transcript, JSON as it came
) WITHOUT ROWID;

CREATE TABLE audio (
    call_id      BLOB    NOT NULL PRIMARY KEY,
    content_type TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    bytes        BLOB    NOT NULL
);

CREATE TABLE deliveries (
    delivery_id     BLOB    NOT NULL PRIMARY KEY, -- UUIDv7: sorts by receipt
    route           TEXT    NOT NULL,             -- transcription, post-call
    kind            TEXT,
    verdict         TEXT    NOT NULL,             -- accepted, duplicate, ignored, rejected
    reason          TEXT,
    dedup_key       BLOB,                         -- SHA-256; what makes a delivery take effect at most once
    body_hash       BLOB    NOT NULL,             -- SHA-256 of the body
    turn_hash       BLOB,                         -- SHA-256 of the turn_id
    call_id         BLOB,
    duplicate_of    BLOB,
    received_at     INTEGER NOT NULL,
    remote_addr     TEXT,
    headers         TEXT    NOT NULL,             -- JSON: [[name, value], …]
    body            BLOB,                         -- as received; NULL where it equals the body of duplicate_of
    body_bytes      INTEGER NOT NULL,
    response_status INTEGER NOT NULL,
    response        TEXT    NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX deliveries_once ON deliveries (dedup_key) WHERE dedup_key IS NOT NULL;
CREATE INDEX deliveries_by_call ON deliveries (call_id) WHERE call_id IS NOT NULL;

-- SQLite has no sequences; the single writer counts here.
CREATE TABLE counters (
    name  TEXT    NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('transcription_id', 0);
