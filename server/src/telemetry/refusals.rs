//! Limits how many refusals are logged a second, because strangers can cause them at no cost.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

/// Maximum number of refusals that are logged in a window. Further ones are counted by kind.
const MAX_LINES: u32 = 50;
const WINDOW: Duration = Duration::from_secs(1);
/// Maximum number of kinds that are counted separately. Further kinds are counted together.
const MAX_KINDS: usize = 8;

/// The refusals of a second: those that are logged one by one, and those that are counted.
#[derive(Debug)]
pub struct RefusalWindow {
    /// When the window began: with its first refusal.
    began: Option<Instant>,
    logged: u32,
    /// The number of refusals that were not logged, by kind.
    suppressed: Vec<(String, u64)>,
    /// The number of refusals of further kinds that were not logged.
    suppressed_others: u64,
}

static CURRENT: Mutex<RefusalWindow> = Mutex::new(RefusalWindow::EMPTY);

/// The refusals of a window that were not logged.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many there were.
    pub refusals: u64,
    kinds: String,
}

impl RefusalWindow {
    /// A window that begins with its first refusal.
    pub const EMPTY: Self = Self { began: None, logged: 0, suppressed: Vec::new(), suppressed_others: 0 };

    /// Returns whether a refusal may be logged now, and the summary of the window before if that is over.
    pub fn admit(&mut self, now: Instant, kind: impl FnOnce() -> String) -> (bool, Option<Summary>) {
        let summary = self.end_if_over(now);
        if self.began.is_none() {
            self.began = Some(now);
        }
        if self.logged < MAX_LINES {
            self.logged += 1;
            return (true, summary);
        }
        let kind = kind();
        match self.suppressed.iter().position(|(known, _)| *known == kind) {
            Some(at) => self.suppressed[at].1 += 1,
            None if self.suppressed.len() < MAX_KINDS => self.suppressed.push((kind, 1)),
            None => self.suppressed_others += 1,
        }
        (false, summary)
    }

    /// Ends the window if its time is over, and returns its summary.
    pub fn end_if_over(&mut self, now: Instant) -> Option<Summary> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) < WINDOW) {
            return None;
        }
        self.end()
    }

    /// Ends the window and returns its summary, unless all its refusals were logged.
    fn end(&mut self) -> Option<Summary> {
        let ended = std::mem::replace(self, Self::EMPTY);
        let refusals = ended.suppressed.iter().map(|(_, count)| count).sum::<u64>() + ended.suppressed_others;
        let mut kinds: Vec<String> = ended.suppressed.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        if ended.suppressed_others > 0 {
            kinds.push(format!("others: {}", ended.suppressed_others));
        }
        (refusals > 0).then(|| Summary { refusals, kinds: kinds.join(", ") })
    }
}

/// Returns whether a refusal of this kind may be logged now. Otherwise counts it; the count is logged within seconds.
pub fn may_log(kind: impl FnOnce() -> String) -> bool {
    let (may_log, summary) = CURRENT.lock().admit(Instant::now(), kind);
    log_summary(summary);
    may_log
}

/// Logs the summary of the window, if the window is over.
pub(super) fn log_if_over() {
    let summary = CURRENT.lock().end_if_over(Instant::now());
    log_summary(summary);
}

/// Logs the summary of the window at once, because the process ends.
pub(super) fn log_now() {
    let summary = CURRENT.lock().end();
    log_summary(summary);
}

fn log_summary(summary: Option<Summary>) {
    if let Some(Summary { refusals, kinds }) = summary {
        warn!(refusals, %kinds, "further refusals were not logged one by one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_beyond_fifty_a_second_are_counted_by_kind() {
        let mut window = RefusalWindow::EMPTY;
        let began = Instant::now();
        let logged = (0..1_000).filter(|_| window.admit(began, || "401 POST /a".into()).0).count();
        assert_eq!(logged, 50);
        for n in 0..20 {
            assert_eq!(window.admit(began, || format!("404 GET /{n}")), (false, None));
        }
        let (may_log, summary) = window.admit(began + WINDOW, || "x".into());
        let summary = summary.expect("a summary");
        assert!(may_log);
        assert_eq!(summary.refusals, 970);
        assert!(summary.kinds.starts_with("401 POST /a: 950, 404 GET /0: 1"), "{summary:?}");
        assert!(summary.kinds.ends_with("others: 13"), "{summary:?}");
        assert_eq!(window.end_if_over(began + 2 * WINDOW), None);
    }
}
