//! The numbers of turns and of transactions on SQLite.
//!
//! They are reserved in the table `counters` in blocks, so that its page is written once for many transactions. The
//! rest of a block is lost when the process ends: like a sequence of PostgreSQL, the numbers ascend and have gaps.

use rusqlite::{CachedStatement, Connection};

/// How many numbers are reserved at a time.
const BLOCK: i64 = 256;

/// Sequence of one kind.
#[derive(Debug)]
pub(in crate::store) struct Sequence {
    update: &'static str,
    select: &'static str,
    /// The next number, and the last one that is reserved.
    next: i64,
    last: i64,
    /// Whether the current transaction reserved the block. A rollback undoes that.
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

    /// Gives out `count` consecutive numbers and returns the first. A transaction must be open.
    pub fn take(&mut self, connection: &Connection, count: i64) -> rusqlite::Result<i64> {
        if self.last - self.next + 1 < count {
            let block = count.max(BLOCK);
            let prepare = |sql| -> rusqlite::Result<CachedStatement<'_>> { connection.prepare_cached(sql) };
            // These are two statements because SQLite creates and drops a table of its own for each RETURNING.
            prepare(self.update)?.execute([block])?;
            let last: i64 = prepare(self.select)?.query_row([], |row| row.get(0))?;
            (self.next, self.last, self.is_new) = (last - block + 1, last, true);
        }
        let first = self.next;
        self.next += count;
        Ok(first)
    }

    /// Keeps the block: the transaction was committed.
    pub fn keep(&mut self) {
        self.is_new = false;
    }

    /// Begins a transaction. Drops the block of the one before if that was not committed, or not acknowledged.
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
    fn numbers_ascend_whatever_is_rolled_back_and_none_is_given_twice() {
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
        // Another process goes on behind all of them.
        run("BEGIN");
        assert!(Sequence::of_transactions().take(&connection, 1).unwrap() > *committed.last().unwrap());
    }
}
