-- Names that a merge moved, further keys of a delivery, places of deleted deliveries, recordings in chunks. The same under the same
-- number stands in migrations/postgres.

-- Whether a merge brought the name to its call: a seq alone does not tell which log it counts.
ALTER TABLE identifiers ADD COLUMN moved INTEGER NOT NULL DEFAULT 0;
-- Which names earlier merges moved is not known, so every name of a call that absorbed another counts as moved.
UPDATE identifiers SET moved = 1 WHERE call_id IN (SELECT merged_into FROM calls WHERE merged_into IS NOT NULL);

-- The sender's own key, beside dedup_key: a delivery is a repeat by either.
ALTER TABLE deliveries ADD COLUMN idempotency_key BLOB;
CREATE UNIQUE INDEX deliveries_once_by_sender ON deliveries (idempotency_key) WHERE idempotency_key IS NOT NULL;

-- Deliveries that were deleted with their call or by retention. Who follows deliveries may stand behind one; the place stays known
-- to be of this order for a month.
CREATE TABLE delivery_tombstones (
    delivery_id BLOB    NOT NULL PRIMARY KEY,
    tx          INTEGER NOT NULL,
    deleted_at  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX delivery_tombstones_by_age ON delivery_tombstones (deleted_at);

-- Recordings, in chunks that are read one after the other. Older ones stay whole in the table audio, and are served from there.
CREATE TABLE recordings (
    call_id      BLOB    NOT NULL PRIMARY KEY,
    content_type TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    length       INTEGER NOT NULL,                -- in bytes, over all chunks
    chunk_length INTEGER NOT NULL                 -- of every chunk but the last
) WITHOUT ROWID;
CREATE TABLE recording_chunks (
    call_id BLOB    NOT NULL,
    number  INTEGER NOT NULL,                     -- 0, 1, 2…
    bytes   BLOB    NOT NULL,
    PRIMARY KEY (call_id, number)
);

-- When this database was brought to a version, for what older rows lack.
CREATE TABLE upgrades (
    version INTEGER NOT NULL PRIMARY KEY,
    at      INTEGER NOT NULL
);
INSERT INTO upgrades (version, at) VALUES (5, CAST(unixepoch('subsec') * 1000000 AS INTEGER));
