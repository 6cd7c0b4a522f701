/// What a follower does with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FollowerKind {
    /// Follows a running call.
    Live,
    /// Replays an ended call.
    Late,
    /// Subscribes before the call exists.
    Waiting,
    /// Follows without history.
    NoHistory,
    /// Reads a little and sleeps.
    Slow,
    /// Follows many calls at the same time.
    Many,
}

impl FollowerKind {
    /// The kinds in the proportion in which a run has them.
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

    /// Returns how many calls it follows at the same time.
    #[must_use]
    pub fn room(self) -> usize {
        if self == Self::Many { 10 } else { 1 }
    }
}
