/// What a follower does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowerKind {
    /// Follows a running call.
    Live,
    /// Replays an ended call.
    Late,
    /// Subscribes before the call exists.
    Waiting,
    /// Follows a call from its current head, without history.
    NoHistory,
    /// Follows a running call, and pauses reading again and again.
    Slow,
    /// Follows many calls at the same time.
    Many,
}

impl FollowerKind {
    /// The kinds in the proportions of a run, whose follower `n` has the kind `n % 10`.
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

    /// Returns the number of calls that a follower follows at the same time.
    #[must_use]
    pub fn max_calls(self) -> usize {
        if self == Self::Many { 10 } else { 1 }
    }
}
