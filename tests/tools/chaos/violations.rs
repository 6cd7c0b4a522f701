//! How the promise was broken: the number of cases, and the first ones in full.

use std::collections::BTreeMap;
use std::sync::Mutex;

/// Cases kept of each kind.
const KEPT: usize = 3;

/// A way in which the promise can be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// A subscriber did not get an event, or the log has a hole.
    Lost,
    /// A subscriber got an event twice, or the log holds a delivery twice.
    Doubled,
    /// A subscriber got an event after a later one.
    Disordered,
    /// A subscriber got something else than the log holds.
    Altered,
    /// A delivery was answered 2xx and is not in the log.
    Missing,
    /// The log or a subscriber holds what was never sent.
    Alien,
    /// A turn stands at another place than its answer said.
    Misplaced,
    /// A repeat was answered differently from the first.
    Answer,
    /// A request was refused that should have been accepted.
    Refused,
    /// A server ended by itself, or did not end when it was told to.
    Died,
    /// Another program could become the owner of the database.
    Unguarded,
    /// There was no progress any more.
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
        Self::Alien,
        Self::Misplaced,
        Self::Answer,
        Self::Refused,
        Self::Died,
        Self::Unguarded,
        Self::Stuck,
    ];

    /// Returns the name in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Doubled => "doubled",
            Self::Disordered => "disordered",
            Self::Altered => "altered",
            Self::Missing => "answered but missing",
            Self::Alien => "never sent",
            Self::Misplaced => "misplaced in the log",
            Self::Answer => "repeats answered differently",
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
    /// Notes a case.
    pub fn add(&self, violation: Violation, case: impl FnOnce() -> String) {
        let mut found = self.found.lock().unwrap();
        let (count, cases) = found.entry(violation).or_default();
        *count += 1;
        if cases.len() < KEPT {
            let case = case();
            // The case is printed at once, so that a person can look at the logs while the run goes on.
            eprintln!("{}: {case}", violation.as_str());
            cases.push(case);
        }
    }

    /// Returns the number of cases of a kind, and the first of them.
    #[must_use]
    pub fn of(&self, violation: Violation) -> (u64, Vec<String>) {
        self.found.lock().unwrap().get(&violation).cloned().unwrap_or_default()
    }

    /// Returns whether there is no violation.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.found.lock().unwrap().is_empty()
    }
}
