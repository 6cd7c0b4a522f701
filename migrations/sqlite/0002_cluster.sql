-- The server processes that share this database (here: the one). The same tables under the same number stand in
-- migrations/postgres.

-- One row: the name under which they find each other elsewhere (Redis channels).
CREATE TABLE cluster (
    cluster_id BLOB NOT NULL
);
INSERT INTO cluster (cluster_id) VALUES (randomblob(16));

-- A row for each process, written again every few seconds; also what a readiness probe writes.
CREATE TABLE nodes (
    node       TEXT    NOT NULL PRIMARY KEY,      -- drawn at start
    version    TEXT    NOT NULL,
    address    TEXT    NOT NULL,                  -- where it listens
    started_at INTEGER NOT NULL,                  -- by the process's clock
    seen_at    INTEGER NOT NULL                   -- by the database's clock
);
