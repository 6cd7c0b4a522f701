//! Failed reads of a session: when each is tried again, and for how long it has failed.

use std::time::{Duration, Instant};

/// Delay before a failed read is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// The parts of a session that read the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A subscription that is owed events, or whose call was merged or deleted.
    Subscription(u64),
    /// Subscriptions to awaited calls that have appeared.
    Appeared,
}

struct FailedRead {
    reader: Reader,
    failing_since: Instant,
    retry_at: Instant,
}

/// The readers whose last read failed, each once. The list is boxed because it is nearly always empty.
#[derive(Default)]
pub(super) struct ReadRetries(Option<Box<List>>);

#[derive(Default)]
struct List(Vec<FailedRead>);

impl ReadRetries {
    /// Records a failed read, which may be tried again after [`RETRY_DELAY`].
    pub fn record_failure(&mut self, reader: Reader, now: Instant) {
        let List(list) = &mut **self.0.get_or_insert_default();
        let retry_at = now + RETRY_DELAY;
        match list.iter_mut().find(|failed| failed.reader == reader) {
            Some(failed) => failed.retry_at = retry_at,
            None => list.push(FailedRead { reader, failing_since: now, retry_at }),
        }
    }

    /// Forgets the failure of a reader whose read succeeded or is not needed any more.
    pub fn clear(&mut self, reader: Reader) {
        self.retain(|other| other != reader);
    }

    /// Forgets the failures of all readers that `keep` returns false for.
    pub fn retain(&mut self, keep: impl Fn(Reader) -> bool) {
        if let Some(list) = &mut self.0 {
            list.0.retain(|failed| keep(failed.reader));
            if list.0.is_empty() {
                self.0 = None;
            }
        }
    }

    /// Whether a reader may read: its last read did not fail, or the delay after the failure is over.
    pub fn may_read(&self, reader: Reader, now: Instant) -> bool {
        self.iter().all(|failed| failed.reader != reader || failed.retry_at <= now)
    }

    /// When the first of the waiting readers may read.
    pub fn next_retry(&self, now: Instant) -> Option<Instant> {
        self.iter().map(|failed| failed.retry_at).filter(|retry_at| *retry_at > now).min()
    }

    /// For how long the reader that has failed longest has failed; zero if none has.
    pub fn longest_failure(&self, now: Instant) -> Duration {
        self.iter().map(|failed| now.saturating_duration_since(failed.failing_since)).max().unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn iter(&self) -> impl Iterator<Item = &FailedRead> {
        self.0.iter().flat_map(|list| &list.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_of_one_reader_does_not_clear_the_failure_of_another() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (one, other) = (Reader::Subscription(1), Reader::Subscription(2));
        let mut read_retries = ReadRetries::default();
        read_retries.record_failure(one, start);
        read_retries.record_failure(one, start + second);
        read_retries.clear(other);
        assert_eq!(read_retries.longest_failure(start + second), second);
        assert!(!read_retries.may_read(one, start + second) && read_retries.may_read(other, start + second));
        assert!(read_retries.may_read(one, start + second + RETRY_DELAY));
        assert_eq!(read_retries.next_retry(start + second), Some(start + second + RETRY_DELAY));
        read_retries.clear(one);
        assert!(read_retries.is_empty() && read_retries.longest_failure(start + second) == Duration::ZERO);
    }
}
