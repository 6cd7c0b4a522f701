-- Names that a merge moved, further keys of a delivery, places of deleted deliveries, recordings in chunks. The same under the same
-- number stands in migrations/sqlite.

-- Whether a merge brought the name to its call: a seq alone does not tell which log it counts.
ALTER TABLE identifiers ADD COLUMN moved BOOLEAN NOT NULL DEFAULT FALSE;
-- Which names earlier merges moved is not known, so every name of a call that absorbed another counts as moved.
UPDATE identifiers SET moved = TRUE WHERE call_id IN (SELECT merged_into FROM calls WHERE merged_into IS NOT NULL);

-- The sender's own key, beside dedup_key: a delivery is a repeat by either.
ALTER TABLE deliveries ADD COLUMN idempotency_key BYTEA;
CREATE UNIQUE INDEX deliveries_once_by_sender ON deliveries (idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Deliveries that were deleted with their call or by retention. Who follows deliveries may stand behind one; the place stays known
-- to be of this order for a month.
CREATE TABLE delivery_tombstones (
    delivery_id UUID   NOT NULL PRIMARY KEY,
    tx          BIGINT NOT NULL,
    deleted_at  BIGINT NOT NULL
);
CREATE INDEX delivery_tombstones_by_age ON delivery_tombstones (deleted_at);

-- Recordings, in chunks that are read one after the other. Older ones stay whole in the table audio, and are served from there.
CREATE TABLE recordings (
    call_id      UUID   NOT NULL PRIMARY KEY,
    content_type TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    length       BIGINT NOT NULL,                 -- in bytes, over all chunks
    chunk_length BIGINT NOT NULL                  -- of every chunk but the last
);
CREATE TABLE recording_chunks (
    call_id UUID   NOT NULL,
    number  BIGINT NOT NULL,                      -- 0, 1, 2…
    bytes   BYTEA  NOT NULL,
    PRIMARY KEY (call_id, number)
);

-- When this database was brought to a version, for what older rows lack.
CREATE TABLE upgrades (
    version BIGINT NOT NULL PRIMARY KEY,
    at      BIGINT NOT NULL
);
INSERT INTO upgrades (version, at) VALUES (5, (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint);
