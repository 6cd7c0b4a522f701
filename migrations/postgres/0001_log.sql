-- The durable log. Times are UTC microseconds, ids are UUIDs. The same tables under the same number stand in
-- migrations/sqlite.

CREATE TABLE calls (
    call_id         UUID    NOT NULL PRIMARY KEY, -- UUIDv7: sorts by when the server first heard of the call
    call_sid        TEXT    NOT NULL,
    sid_made_up     BOOLEAN NOT NULL,             -- whether the server made the sid up
    conversation_id TEXT,
    status          TEXT    NOT NULL,
    subject         TEXT,
    agent_id        TEXT,
    metadata        TEXT,                         -- JSON, as registered
    head            BIGINT NOT NULL,             -- seq of the newest event
    turns           BIGINT NOT NULL,             -- sequence_number of the newest turn
    live            BOOLEAN NOT NULL,             -- whether any turn came in live
    has_audio       BOOLEAN NOT NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL,
    end_time        BIGINT,
    merged_into     UUID                          -- the surviving call, where this record was absorbed
);
CREATE INDEX calls_by_status ON calls (status, call_id);
CREATE INDEX calls_by_agent ON calls (agent_id, call_id) WHERE agent_id IS NOT NULL;
CREATE INDEX calls_by_end ON calls (end_time) WHERE end_time IS NOT NULL;

CREATE TABLE identifiers (
    identifier TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    call_id    UUID NOT NULL,
    kind       TEXT NOT NULL                      -- call_sid, conversation_id, provider
);
CREATE INDEX identifiers_by_call ON identifiers (call_id);

CREATE TABLE events (
    call_id     UUID    NOT NULL,
    seq         BIGINT NOT NULL,                 -- 1, 2, 3… per call, without holes
    kind        TEXT    NOT NULL,                 -- transcription, call_status, call_completed
    frame       TEXT    NOT NULL,                 -- the WebSocket message, as every subscriber gets it
    created_at  BIGINT NOT NULL,
    delivery_id UUID,                             -- what caused it
    PRIMARY KEY (call_id, seq)
);

CREATE TABLE results (
    call_id    UUID NOT NULL PRIMARY KEY,
    call_data  TEXT NOT NULL,                     -- JSON, as in call_completed
    transcript TEXT                               -- the provider's transcript, JSON as it came
);

CREATE TABLE audio (
    call_id      UUID    NOT NULL PRIMARY KEY,
    content_type TEXT    NOT NULL,
    created_at   BIGINT NOT NULL,
    bytes        BYTEA    NOT NULL
);

CREATE TABLE deliveries (
    delivery_id     UUID    NOT NULL PRIMARY KEY, -- UUIDv7: sorts by receipt
    route           TEXT    NOT NULL,             -- transcription, post-call
    kind            TEXT,
    verdict         TEXT    NOT NULL,             -- accepted, duplicate, ignored, rejected
    reason          TEXT,
    dedup_key       BYTEA,                         -- SHA-256; what makes a delivery take effect at most once
    body_hash       BYTEA    NOT NULL,             -- SHA-256 of the body
    turn_hash       BYTEA,                        -- SHA-256 of the turn_id
    call_id         UUID,
    duplicate_of    UUID,
    received_at     BIGINT NOT NULL,
    remote_addr     TEXT,
    headers         TEXT    NOT NULL,             -- JSON: [[name, value], …]
    body            BYTEA,                         -- as received; NULL where it equals the body of duplicate_of
    body_bytes      BIGINT NOT NULL,
    response_status BIGINT NOT NULL,
    response        TEXT    NOT NULL
);
CREATE UNIQUE INDEX deliveries_once ON deliveries (dedup_key) WHERE dedup_key IS NOT NULL;
CREATE INDEX deliveries_by_call ON deliveries (call_id) WHERE call_id IS NOT NULL;

CREATE SEQUENCE transcription_id;
