-- A call's accepted turns are found through its events, which name them: an index entry for each would cost every webhook a
-- page of writing. The index keeps the others. The same under the same number stands in migrations/sqlite.
DROP INDEX deliveries_by_call;
CREATE INDEX deliveries_beside_turns ON deliveries (call_id)
    WHERE call_id IS NOT NULL AND (verdict <> 'accepted' OR COALESCE(kind, '') <> 'turn');
