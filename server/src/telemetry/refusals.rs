//! Refusals are logged at a bounded rate, because strangers can cause them at no cost.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::warn;

/// Maximum number of lines in a window.
const MAX_LINES: u32 = 50;
const WINDOW: Duration = Duration::from_secs(1);
/// Maximum number of kinds that are counted separately; others are counted together.
const MAX_KINDS: usize = 8;

struct RefusalWindow {
    began: Option<Instant>,
    logged: u32,
    /// The number of refusals that were not logged, by kind.
    counted: Vec<(String, u64)>,
    others: u64,
}

static CURRENT: Mutex<RefusalWindow> =
    Mutex::new(RefusalWindow { began: None, logged: 0, counted: Vec::new(), others: 0 });

/// The refusals that a window counted without logging them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    refusals: u64,
    kinds: String,
}

impl RefusalWindow {
    fn admit(&mut self, now: Instant, kind: impl FnOnce() -> String) -> (bool, Option<Summary>) {
        let summary = self.turn(now);
        if self.began.is_none() {
            self.began = Some(now);
        }
        if self.logged < MAX_LINES {
            self.logged += 1;
            return (true, summary);
        }
        let kind = kind();
        match self.counted.iter().position(|(known, _)| *known == kind) {
            Some(at) => self.counted[at].1 += 1,
            None if self.counted.len() < MAX_KINDS => self.counted.push((kind, 1)),
            None => self.others += 1,
        }
        (false, summary)
    }

    /// Begins a new window if the old one is over, and returns the summary of the old one.
    fn turn(&mut self, now: Instant) -> Option<Summary> {
        if self.began.is_none_or(|began| now.saturating_duration_since(began) < WINDOW) {
            return None;
        }
        self.sum_up()
    }

    fn sum_up(&mut self) -> Option<Summary> {
        let past = std::mem::replace(self, Self { began: None, logged: 0, counted: Vec::new(), others: 0 });
        let refusals = past.counted.iter().map(|(_, count)| count).sum::<u64>() + past.others;
        let mut kinds: Vec<String> = past.counted.iter().map(|(kind, count)| format!("{kind}: {count}")).collect();
        if past.others > 0 {
            kinds.push(format!("others: {}", past.others));
        }
        (refusals > 0).then(|| Summary { refusals, kinds: kinds.join(", ") })
    }
}

/// Whether a refusal of this kind may be logged now. Otherwise it is counted, and the count is logged within seconds.
pub fn may_log(kind: impl FnOnce() -> String) -> bool {
    let (may, summary) = CURRENT.lock().admit(Instant::now(), kind);
    log_summary(summary);
    may
}

/// Logs the summary of the window, if the window is over.
pub(super) fn tick() {
    let summary = CURRENT.lock().turn(Instant::now());
    log_summary(summary);
}

/// Logs the summary of the window at once, because the process ends.
pub(super) fn finish() {
    let summary = CURRENT.lock().sum_up();
    log_summary(summary);
}

fn log_summary(summary: Option<Summary>) {
    if let Some(Summary { refusals, kinds }) = summary {
        warn!(refusals, %kinds, "further refusals, counted and not listed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_fifty_a_second_equal_refusals_are_counted() {
        let mut window = RefusalWindow { began: None, logged: 0, counted: Vec::new(), others: 0 };
        let began = Instant::now();
        let logged = (0..1_000).filter(|_| window.admit(began, || "401 POST /a".into()).0).count();
        assert_eq!(logged, 50);
        for n in 0..20 {
            assert_eq!(window.admit(began, || format!("404 GET /{n}")), (false, None));
        }
        let (may, summary) = window.admit(began + WINDOW, || "x".into());
        let summary = summary.expect("a summary");
        assert!(may);
        assert_eq!(summary.refusals, 970);
        assert!(summary.kinds.starts_with("401 POST /a: 950, 404 GET /0: 1"), "{summary:?}");
        assert!(summary.kinds.ends_with("others: 13"), "{summary:?}");
        assert_eq!(window.turn(began + 2 * WINDOW), None);
    }
}
