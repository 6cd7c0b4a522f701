-- Deliveries in the order in which they were committed: tx numbers the transaction that wrote the row (docs/adr/0008). It only
-- grows, so its index does so at its end. The same under the same number stands in migrations/postgres.
ALTER TABLE deliveries ADD COLUMN tx INTEGER NOT NULL DEFAULT 0;
CREATE INDEX deliveries_by_tx ON deliveries (tx);
INSERT INTO counters (name, value) VALUES ('tx', 0);
