//! Readers of a session that the storage does not answer, while it may answer others.

use std::time::{Duration, Instant};

/// Between two tries of a failing read.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// What of a session reads the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reader {
    /// A subscription that is owed events, or whose call was merged or deleted.
    Subscription(u64),
    /// Calls that were waited for and appeared.
    Appeared,
}

struct FailedRead {
    reader: Reader,
    since: Instant,
    /// When it is tried again.
    again: Instant,
}

/// The readers whose last read failed, each once. One pointer while there are none, as nearly always.
#[derive(Default)]
pub(super) struct ReadRetries(Option<Box<List>>);

#[derive(Default)]
struct List(Vec<FailedRead>);

impl ReadRetries {
    /// A read failed: it is tried again in a moment.
    pub fn failed(&mut self, reader: Reader, now: Instant) {
        let List(list) = &mut **self.0.get_or_insert_default();
        let again = now + RETRY_DELAY;
        match list.iter_mut().find(|failed| failed.reader == reader) {
            Some(failed) => failed.again = again,
            None => list.push(FailedRead { reader, since: now, again }),
        }
    }

    /// A read succeeded, or is not needed any more. What another reader cannot read stays unread.
    pub fn succeeded(&mut self, reader: Reader) {
        self.retain(|other| other != reader);
    }

    /// Forgets the readers that are no more.
    pub fn retain(&mut self, keep: impl Fn(Reader) -> bool) {
        if let Some(list) = &mut self.0 {
            list.0.retain(|failed| keep(failed.reader));
            if list.0.is_empty() {
                self.0 = None;
            }
        }
    }

    /// Whether a reader may read: its last read succeeded, or failed long enough ago to be tried again.
    pub fn may_read(&self, reader: Reader, now: Instant) -> bool {
        self.iter().all(|failed| failed.reader != reader || failed.again <= now)
    }

    /// When the next of them that has to wait may read.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.iter().map(|failed| failed.again).filter(|again| *again > now).min()
    }

    /// For how long the storage has not answered one of them.
    pub fn longest_failure(&self, now: Instant) -> Duration {
        self.iter().map(|failed| now.saturating_duration_since(failed.since)).max().unwrap_or_default()
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
    fn one_that_fails_is_not_forgiven_by_another_that_works() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let (one, other) = (Reader::Subscription(1), Reader::Subscription(2));
        let mut read_retries = ReadRetries::default();
        read_retries.failed(one, start);
        read_retries.failed(one, start + second);
        read_retries.succeeded(other);
        assert_eq!(read_retries.longest_failure(start + second), second);
        assert!(!read_retries.may_read(one, start + second) && read_retries.may_read(other, start + second));
        assert!(read_retries.may_read(one, start + second + RETRY_DELAY));
        assert_eq!(read_retries.next(start + second), Some(start + second + RETRY_DELAY));
        read_retries.succeeded(one);
        assert!(read_retries.is_empty() && read_retries.longest_failure(start + second) == Duration::ZERO);
    }
}
