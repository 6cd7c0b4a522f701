//! The kinds of subscribers.

/// What a follower does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowerKind {
    /// Follows a running call.
    Live,
    /// Replays ended calls.
    Late,
    /// Is there before the call.
    Waiting,
    /// Takes no history.
    NoHistory,
    /// Takes a little and sleeps.
    Slow,
    /// Follows many calls at one time.
    Many,
}

impl FollowerKind {
    /// The kinds, as often as they come.
    pub const MIX: [Self; 10] = [
        Self::Live,
        Self::Many,
        Self::Live,
        Self::Waiting,
        Self::NoHistory,
        Self::Live,
        Self::Slow,
        Self::Late,
        Self::Live,
        Self::Waiting,
    ];

    /// How many calls it follows at one time.
    #[must_use]
    pub fn room(self) -> usize {
        if self == Self::Many { 10 } else { 1 }
    }
}
