//! [`StoreError`]: which database errors are transient, and the backoff between two tries.

use std::borrow::Cow;
use std::time::Duration;

/// Why the store could not read or write.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// PostgreSQL, or SQLite through its pool, reported an error.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// SQLite reported an error to the write path or to an inline read.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Another process wrote the same rows first. A new transaction will see what it wrote.
    #[error("another writer got in between")]
    Conflict,
    /// The database did not answer in time.
    #[error("the database does not answer")]
    TimedOut,
    /// The queue of writes is full.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The server is shutting down.
    #[error("the store is closing")]
    Closing,
    /// The error of a whole transaction, shared by its operations.
    #[error("{0}")]
    Failed(std::sync::Arc<StoreError>),
    /// The database file, or a file that SQLite keeps beside it, was deleted or replaced since it was opened.
    #[error(
        "{0} was deleted or replaced while the server had it open; nothing is stored until the server is restarted"
    )]
    Replaced(std::path::PathBuf),
    /// A stored row cannot be read.
    #[error("a stored {0} is damaged")]
    Damaged(&'static str),
    /// The program broke an invariant of its own, or panicked. Nothing stored is damaged.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl StoreError {
    /// Whether the same work may succeed if tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Conflict
            | Self::TimedOut
            | Self::Database(
                sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_),
            ) => true,
            Self::Failed(error) => error.is_transient(),
            _ => self.code().is_some_and(|code| is_transient_code(&code)),
        }
    }

    /// Whether a retry is useless, because a stored row is damaged or the program is at fault.
    #[must_use]
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_fault(),
            _ => matches!(self, Self::Damaged(_) | Self::Internal(_)),
        }
    }

    /// Whether the database itself is not available, so that other work would fail too.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        self.outage_reason().is_some() && !self.is_row_local()
    }

    /// Whether the error may concern one row only: a row that is locked elsewhere, or one on a damaged page.
    #[must_use]
    pub fn is_row_local(&self) -> bool {
        self.code().is_some_and(|code| matches!(&*code, "55P03" | "XX001" | "XX002" | "11"))
    }

    /// Whether a row stayed locked elsewhere longer than the lock timeout.
    #[must_use]
    pub fn is_lock_timeout(&self) -> bool {
        self.code().is_some_and(|code| code == "55P03")
    }

    /// Whether the database cannot store a text: PostgreSQL accepts no NUL.
    #[must_use]
    pub fn is_unstorable_text(&self) -> bool {
        self.code().is_some_and(|code| matches!(&*code, "22021" | "22P05"))
    }

    /// SQLite's extended result code in decimal, or PostgreSQL's SQLSTATE.
    fn code(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Database(sqlx::Error::Database(error)) => error.code(),
            Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => Some(error.extended_code.to_string().into()),
            Self::Failed(error) => error.code(),
            _ => None,
        }
    }

    /// Why the database is not available, in words that may be shown to anyone; `None` if only this work failed.
    #[must_use]
    pub fn outage_reason(&self) -> Option<&'static str> {
        match self {
            Self::TimedOut | Self::Database(sqlx::Error::PoolTimedOut) => Some("no answer in time"),
            Self::Database(sqlx::Error::Io(_) | sqlx::Error::WorkerCrashed | sqlx::Error::PoolClosed) => {
                Some("no connection")
            }
            Self::Overloaded => Some("too many writes are waiting"),
            Self::Closing => Some("shutting down"),
            Self::Replaced(_) => Some("the database file was deleted or replaced"),
            Self::Failed(error) => error.outage_reason(),
            _ => self.code().and_then(|code| outage_reason_of_code(&code)),
        }
    }
}

/// Classifies a code; [`is_transient_code`] describes the two kinds of codes.
fn outage_reason_of_code(code: &str) -> Option<&'static str> {
    if code.len() == 5 {
        return match code {
            "53100" => Some("disk full"),
            "53300" => Some("too many connections"),
            "25006" => Some("read-only"),
            "57014" | "55P03" => Some("no answer in time"),
            _ if code.starts_with("57P") || code.starts_with("08") => Some("no connection"),
            _ if code.starts_with("53") => Some("out of resources"),
            _ if code.starts_with("58") || code.starts_with("XX") => Some("input/output error"),
            _ if code.starts_with("28") || code.starts_with("3D") => Some("access refused"),
            _ => None,
        };
    }
    match code.parse::<u32>().ok()? & 0xff {
        7 => Some("out of memory"),
        8 => Some("read-only"),
        10 => Some("input/output error"),
        11 | 26 => Some("damaged"),
        13 => Some("disk full"),
        14 => Some("cannot be opened"),
        _ => None,
    }
}

/// Whether a code is transient. SQLite's extended result codes are decimal numbers; PostgreSQL's SQLSTATEs have five
/// characters.
fn is_transient_code(code: &str) -> bool {
    if code.len() == 5 {
        // These are connection exceptions, serialization failures, deadlocks, shutdown, start-up, too many connections,
        // lock timeouts and a read-only transaction (a primary that is becoming a replica).
        return code.starts_with("08")
            || matches!(code, "40001" | "40P01" | "57P01" | "57P02" | "57P03" | "53300" | "55P03" | "25006");
    }
    // These are SQLITE_BUSY and SQLITE_LOCKED with any extension.
    code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6))
}

/// Attempts at one transaction, the first included.
pub(super) const ATTEMPTS: u32 = 8;

/// How long to wait before a retry (the first one is 1): 5 ms, doubled each time up to 500 ms, half of it random.
pub(super) fn backoff(attempt: u32) -> Duration {
    let full = 5_u64.saturating_mul(1 << attempt.min(8)).min(500);
    Duration::from_millis(full / 2 + u64::from(random_byte()) * (full / 2) / 255)
}

fn random_byte() -> u8 {
    let mut byte = [0];
    // Without randomness the retries are only less spread.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_serialization_and_lost_connections_are_transient() {
        for code in ["5", "261", "517", "6", "40001", "40P01", "57P01", "08006"] {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["2067", "1", "13", "23505", "42P01"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }

    #[test]
    fn a_full_disk_is_an_outage_and_a_bad_row_is_not() {
        for code in ["13", "10", "1034", "14", "8", "53100", "57P01", "08006", "58030", "25006"] {
            assert!(outage_reason_of_code(code).is_some(), "{code}");
        }
        for code in ["2067", "1", "19", "23505", "42P01", "40001", "22021"] {
            assert!(outage_reason_of_code(code).is_none(), "{code}");
        }
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        assert!(backoff(1) <= Duration::from_millis(10));
        assert!(backoff(40) >= Duration::from_millis(250) && backoff(40) <= Duration::from_millis(500));
    }
}
