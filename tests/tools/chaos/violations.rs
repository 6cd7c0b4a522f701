//! How the promise was broken: the number of cases of each kind, and the first ones in full.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Cases of each kind that are kept in full; further ones are only counted.
const MAX_CASES_KEPT: usize = 3;

/// A way in which the promise can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A subscriber did not get an event, or the log has a hole.
    Lost,
    /// A subscriber got an event twice, or the log holds a delivery twice.
    Doubled,
    /// A subscriber got an event after a later one.
    Disordered,
    /// A subscriber got another event than the log holds at that seq.
    Altered,
    /// A delivery was answered 2xx and is not in the log.
    Missing,
    /// The log holds a text that was never sent, or a subscriber got an event that it did not request.
    Unexpected,
    /// A turn has another seq in the log than in the answer to its webhook, or a subscription resumed at another seq.
    Misplaced,
    /// A delivery that was sent again got another answer than the first time.
    AnswerDiffers,
    /// A request was refused that should have been accepted.
    Refused,
    /// A server ended without a signal, or did not end after SIGTERM.
    Died,
    /// A second server was not refused on an SQLite file, or the owner of the file held no lock on it.
    Unguarded,
    /// A server or a follower made no progress for a long time, or a task of the run panicked.
    Stuck,
}

impl Violation {
    /// All kinds, in the order of the table.
    pub const ALL: [Self; 12] = [
        Self::Lost,
        Self::Doubled,
        Self::Disordered,
        Self::Altered,
        Self::Missing,
        Self::Unexpected,
        Self::Misplaced,
        Self::AnswerDiffers,
        Self::Refused,
        Self::Died,
        Self::Unguarded,
        Self::Stuck,
    ];

    /// Returns the name in the outcome's table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Disordered => "disordered",
            Self::Altered => "altered",
            Self::Missing => "answered but missing",
            Self::Unexpected => "never sent",
            Self::Misplaced => "misplaced in the log",
            Self::AnswerDiffers => "repeats answered differently",
            Self::Refused => "wrongly refused",
            Self::Died => "servers that died",
            Self::Unguarded => "databases without a guard",
            Self::Stuck => "stuck",
        }
    }
}

#[derive(Debug, Default)]
pub struct Violations {
    found: Mutex<BTreeMap<Violation, (u64, Vec<String>)>>,
}

impl Violations {
    /// Counts a case, and keeps and prints it if it is one of the first of its kind.
    pub fn add(&self, violation: Violation, case: impl FnOnce() -> String) {
        let mut found = self.found.lock().unwrap();
        let (count, cases) = found.entry(violation).or_default();
        *count += 1;
        if cases.len() < MAX_CASES_KEPT {
            let case = case();
            // It is printed at once, so that a person can look at the servers' logs while the run goes on.
            eprintln!("{}: {case}", violation.as_str());
            cases.push(case);
        }
    }

    /// Returns the number of cases of a kind, and the ones that were kept.
    #[must_use]
    pub fn cases_of(&self, violation: Violation) -> (u64, Vec<String>) {
        self.found.lock().unwrap().get(&violation).cloned().unwrap_or_default()
    }

    /// Returns whether there is no violation.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found.lock().unwrap().is_empty()
    }
}
