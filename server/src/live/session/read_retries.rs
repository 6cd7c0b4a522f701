//! Failed reads of a session: when each is tried again, and for how long it has failed.

use std::time::{Duration, Instant};

/// Pause before a failed read is tried again.
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
    since: Instant,
    /// When it may be tried again.
    again: Instant,
}

/// The readers whose last read failed, each once. It takes one pointer while there are none, which is nearly always.
#[derive(Default)]
pub(super) struct ReadRetries(Option<Box<List>>);

#[derive(Default)]
struct List(Vec<FailedRead>);

impl ReadRetries {
    /// Records a failed read, which is tried again after a pause.
    pub fn failed(&mut self, reader: Reader, now: Instant) {
        let List(list) = &mut **self.0.get_or_insert_default();
        let again = now + RETRY_DELAY;
        match list.iter_mut().find(|failed| failed.reader == reader) {
            Some(failed) => failed.again = again,
            None => list.push(FailedRead { reader, since: now, again }),
        }
    }

    /// Records that a read succeeded or is not needed any more. Failures of other readers stay.
    pub fn succeeded(&mut self, reader: Reader) {
        self.retain(|other| other != reader);
    }

    /// Forgets the readers that are gone.
    pub fn retain(&mut self, keep: impl Fn(Reader) -> bool) {
        if let Some(list) = &mut self.0 {
            list.0.retain(|failed| keep(failed.reader));
            if list.0.is_empty() {
                self.0 = None;
            }
        }
    }

    /// Whether a reader may read: its last read succeeded, or failed long enough ago.
    pub fn may_read(&self, reader: Reader, now: Instant) -> bool {
        self.iter().all(|failed| failed.reader != reader || failed.again <= now)
    }

    /// When the next reader that has to wait may read.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        self.iter().map(|failed| failed.again).filter(|again| *again > now).min()
    }

    /// For how long the storage has failed the reader that has failed longest.
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
