-- Deliveries in the order in which they were committed: tx numbers the transaction that wrote the row (docs/adr/0008). It only
-- grows, so its index does so at its end. The same under the same number stands in migrations/sqlite.
ALTER TABLE deliveries ADD COLUMN tx BIGINT NOT NULL DEFAULT 0;
ALTER TABLE deliveries ALTER COLUMN tx SET DEFAULT txid_current();
CREATE INDEX deliveries_by_tx ON deliveries (tx);
