//! Which database errors pass by themselves, and how long they are waited out.

use std::time::Duration;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no, or nothing.
    #[error("database: {0}")]
    Database(#[from] sqlx::Error),
    /// Another process got in between; the same work again will see what it did.
    #[error("another writer got in between")]
    Conflict,
    /// No answer came in time.
    #[error("the database does not answer")]
    TimedOut,
    /// The queue of writes is full.
    #[error("too many writes are waiting")]
    Overloaded,
    /// The server is shutting down.
    #[error("the store is closing")]
    Closing,
    /// What a whole transaction failed of, for each of its operations.
    #[error("{0}")]
    Failed(std::sync::Arc<StoreError>),
    /// A stored row cannot be read.
    #[error("a stored {0} is damaged")]
    Damaged(&'static str),
}

impl StoreError {
    /// Whether the same work may succeed if tried again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Conflict | Self::TimedOut => true,
            Self::Database(error) => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::WorkerCrashed
                | sqlx::Error::Protocol(_) => true,
                sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_code(&code)),
                _ => false,
            },
            Self::Failed(error) => error.is_transient(),
            Self::Overloaded | Self::Closing | Self::Damaged(_) => false,
        }
    }
}

/// SQLite's extended result codes are decimal numbers, PostgreSQL's SQLSTATEs have five characters.
fn is_transient_code(code: &str) -> bool {
    match code.len() {
        5 => {
            // Connection exceptions, serialization failure, deadlock, shutdowns, starting up, too many connections, lock timeout.
            code.starts_with("08")
                || matches!(code, "40001" | "40P01" | "57P01" | "57P02" | "57P03" | "53300" | "55P03" | "25006")
        }
        _ => match code.parse::<u32>() {
            // SQLITE_BUSY and SQLITE_LOCKED, whatever their extension.
            Ok(code) => matches!(code & 0xff, 5 | 6),
            Err(_) => false,
        },
    }
}

/// Attempts at one transaction, the first included.
pub(super) const ATTEMPTS: u32 = 8;

/// How long to wait before attempt number `attempt` (the first retry is 1): 5 ms doubled each time up to 500 ms, half of it random.
pub(super) fn backoff(attempt: u32) -> Duration {
    let full = 5_u64.saturating_mul(1 << attempt.min(8)).min(500);
    Duration::from_millis(full / 2 + u64::from(random_byte()) * (full / 2) / 255)
}

fn random_byte() -> u8 {
    let mut byte = [0];
    // Without randomness the waits are merely less spread.
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_serialization_and_lost_connections_pass_by_themselves() {
        for code in ["5", "261", "517", "6", "40001", "40P01", "57P01", "08006"] {
            assert!(is_transient_code(code), "{code}");
        }
        for code in ["2067", "1", "13", "23505", "42P01"] {
            assert!(!is_transient_code(code), "{code}");
        }
    }

    #[test]
    fn waits_grow_and_stay_bounded() {
        assert!(backoff(1) <= Duration::from_millis(10));
        assert!(backoff(40) >= Duration::from_millis(250) && backoff(40) <= Duration::from_millis(500));
    }
}
