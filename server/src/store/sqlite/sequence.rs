//! The numbers of turns and of transactions on SQLite.
//!
//! The numbers are reserved in blocks in the table `counters`, so that its page is written once for many transactions.
//! The rest of a block is lost when the process ends. So the numbers ascend and have gaps, like those of a sequence of
//! PostgreSQL.

use rusqlite::{CachedStatement, Connection};

/// Numbers that are reserved at a time.
const BLOCK_SIZE: i64 = 256;

/// A sequence of ascending numbers, of which a block is reserved.
#[derive(Debug)]
pub(in crate::store) struct Sequence {
    update: &'static str,
    select: &'static str,
    /// The next number of the reserved block, and its last one. The block is empty if `next` is greater.
    next: i64,
    last: i64,
    /// Whether the current transaction reserved the block. A rollback undoes the reservation.
    is_new: bool,
}

impl Sequence {
    /// The `transcription_id`s.
    pub fn of_turns() -> Self {
        Self::new(
            "UPDATE counters SET value = value + ?1 WHERE name = 'transcription_id'",
            "SELECT value FROM counters WHERE name = 'transcription_id'",
        )
    }

    /// The numbers of the transactions that deliveries are ordered by.
    pub fn of_transactions() -> Self {
        Self::new(
            "UPDATE counters SET value = value + ?1 WHERE name = 'tx'",
            "SELECT value FROM counters WHERE name = 'tx'",
        )
    }

    fn new(update: &'static str, select: &'static str) -> Self {
        Self { update, select, next: 1, last: 0, is_new: false }
    }

    /// Takes `count` consecutive numbers and returns the first. A transaction must be open.
    pub fn take(&mut self, connection: &Connection, count: i64) -> rusqlite::Result<i64> {
        if self.last - self.next + 1 < count {
            let block = count.max(BLOCK_SIZE);
            let prepare = |sql| -> rusqlite::Result<CachedStatement<'_>> { connection.prepare_cached(sql) };
            // Two statements, because SQLite creates and drops a temporary table for each RETURNING.
            prepare(self.update)?.execute([block])?;
            let last: i64 = prepare(self.select)?.query_row([], |row| row.get(0))?;
            (self.next, self.last, self.is_new) = (last - block + 1, last, true);
        }
        let first = self.next;
        self.next += count;
        Ok(first)
    }

    /// Keeps the block, because its transaction was committed.
    pub fn keep(&mut self) {
        self.is_new = false;
    }

    /// Prepares for a transaction: drops the block if the last transaction reserved it and was not known to commit.
    pub fn begin(&mut self) {
        if std::mem::take(&mut self.is_new) {
            (self.next, self.last) = (1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_after_rollbacks_and_none_is_taken_twice() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch("CREATE TABLE counters (name TEXT, value INTEGER); INSERT INTO counters VALUES ('tx', 40)")
            .unwrap();
        let run = |sql: &str| connection.execute_batch(sql).unwrap();
        let mut numbers = Sequence::of_transactions();
        let mut committed = Vec::new();
        for (count, is_committed) in
            [(1, false), (1, true), (3, true), (1_000, false), (2, true), (1_000, true), (1, true)]
        {
            run("BEGIN");
            numbers.begin();
            let first = numbers.take(&connection, count).unwrap();
            if is_committed {
                run("COMMIT");
                numbers.keep();
                committed.extend(first..first + count);
            } else {
                run("ROLLBACK");
            }
        }
        assert!(committed.is_sorted_by(|one, next| one < next), "{committed:?}");
        assert_eq!(committed[..4], [41, 42, 43, 44]);
        // The next process starts after all of them.
        run("BEGIN");
        assert!(Sequence::of_transactions().take(&connection, 1).unwrap() > *committed.last().unwrap());
    }
}
