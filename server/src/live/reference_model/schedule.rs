//! What can happen in a case.

use proptest::collection::vec;
use proptest::prelude::*;

/// Calls of a case.
pub(super) const CALLS: usize = 3;

/// How announcements come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announcing {
    /// Each once, in the order of the log.
    Faithful,
    /// In any order, in pieces, more than once or never.
    Unreliable,
}

#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// How many bytes each client's pipe takes.
    pub pipes: Vec<usize>,
    pub steps: Vec<Step>,
}

/// A call by one of its two names.
pub(super) type Name = (usize, bool);

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A number of turns, each of a number of bytes, committed together. Creates the call if it is not there.
    Turns(usize, usize, usize),
    /// One turn, announced before anything else runs.
    AnnouncedTurn(usize),
    /// Turns that are committed while everything else goes on.
    TurnsMeanwhile(usize, usize),
    /// A turn that is not final.
    Partial(usize),
    /// The provider's result.
    End(usize),
    /// The second is found to be the first.
    Merge(usize, usize),
    Delete(usize),
    /// The server ends, the database is restored to a state with this many events fewer in the call's log, and the
    /// server starts.
    Restore(usize, usize),
    /// Announces one of the commits that were not announced yet.
    Announce(usize, AnnounceMode),
    /// Announces all of them.
    AnnounceAll,
    /// Tells a feed that its log reaches this many events less than it does.
    ReportHead(usize, usize),
    Reconcile,
    Subscribe(usize, Name, StartFrom),
    Unsubscribe(usize, Name),
    /// A new connection, through a pipe of that size, that goes on where the old one stood.
    Reconnect(usize, usize),
    /// The client reads this many bytes.
    Read(usize, usize),
    /// The client reads as much as waits for its pipe, which then is full, with nothing left to write.
    FillPipe(usize),
    /// Everything else runs for this many turns of the executor.
    Yield(usize),
    /// Everything else runs as far as it can.
    RunUntilIdle,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum StartFrom {
    Start,
    /// Behind an event, with the record that its number belongs to.
    After(usize),
    /// Behind a number alone.
    Number(usize),
    /// Behind an event that some record had at some time: the record, and which of its cursors.
    Cursor(usize, usize),
    Live,
    Wait,
    /// To wait for the call, and follow it from now on.
    WaitLive,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum AnnounceMode {
    Once,
    Twice,
    Never,
    /// One event at a time.
    InPieces,
    /// One event at a time, the last one first.
    Backwards,
    /// Only how far the log reaches.
    HeadFirst,
}

pub(super) fn schedule() -> impl Strategy<Value = Schedule> {
    (vec(pipe(), 1..4), vec(step(), 1..48)).prop_map(|(pipes, steps)| Schedule { pipes, steps })
}

/// A subscription, and one turn that is announced at any moment while it starts.
pub(super) fn interruption() -> impl Strategy<Value = Schedule> {
    (any::<bool>(), begin(), 0..400_usize).prop_map(|(is_known, begin, turns)| {
        let before = if is_known { vec![Step::Turns(0, 1, 8), Step::AnnounceAll] } else { Vec::new() };
        let then = [Step::Subscribe(0, (0, false), begin), Step::Yield(turns), Step::AnnouncedTurn(0)];
        Schedule { pipes: vec![1 << 20], steps: before.into_iter().chain(then).collect() }
    })
}

fn pipe() -> impl Strategy<Value = usize> {
    prop_oneof![Just(1 << 20), 1..64_usize, 200..800_usize, Just(4096)]
}

fn step() -> impl Strategy<Value = Step> {
    let call = || 0..CALLS;
    let client = || 0..3_usize;
    let name = || (call(), any::<bool>());
    prop_oneof![
        8 => (call(), 1..4_usize, prop_oneof![8 => 1..40_usize, 1 => 200..4_000_usize]).prop_map(|(c, n, len)| Step::Turns(c, n, len)),
        1 => (call(), 100..200_usize).prop_map(|(c, n)| Step::Turns(c, n, 8)),
        6 => call().prop_map(Step::AnnouncedTurn),
        4 => (call(), 1..3_usize).prop_map(|(c, n)| Step::TurnsMeanwhile(c, n)),
        2 => call().prop_map(Step::Partial),
        1 => call().prop_map(Step::End),
        1 => (call(), call()).prop_map(|(a, b)| Step::Merge(a, b)),
        1 => call().prop_map(Step::Delete),
        1 => (call(), 0..6_usize).prop_map(|(c, back)| Step::Restore(c, back)),
        8 => (0..8_usize, announce_mode()).prop_map(|(at, how)| Step::Announce(at, how)),
        4 => Just(Step::AnnounceAll),
        2 => (call(), 0..4_usize).prop_map(|(c, back)| Step::ReportHead(c, back)),
        1 => Just(Step::Reconcile),
        8 => (client(), name(), begin()).prop_map(|(at, name, begin)| Step::Subscribe(at, name, begin)),
        2 => (client(), name()).prop_map(|(at, name)| Step::Unsubscribe(at, name)),
        2 => (client(), pipe()).prop_map(|(at, pipe)| Step::Reconnect(at, pipe)),
        4 => (client(), 1..600_usize).prop_map(|(at, bytes)| Step::Read(at, bytes)),
        2 => (client(), Just(1 << 16)).prop_map(|(at, bytes)| Step::Read(at, bytes)),
        3 => client().prop_map(Step::FillPipe),
        5 => (1..6_usize).prop_map(Step::Yield),
        // Long enough for a read of the database to be under way, or just over.
        5 => (10..400_usize).prop_map(Step::Yield),
        5 => Just(Step::RunUntilIdle),
    ]
}

fn begin() -> impl Strategy<Value = StartFrom> {
    prop_oneof![
        4 => Just(StartFrom::Start),
        2 => (0..6_usize).prop_map(StartFrom::After),
        1 => (0..6_usize).prop_map(StartFrom::Number),
        3 => (0..8_usize, 0..8_usize).prop_map(|(record, at)| StartFrom::Cursor(record, at)),
        2 => Just(StartFrom::Live),
        2 => Just(StartFrom::Wait),
        1 => Just(StartFrom::WaitLive),
    ]
}

fn announce_mode() -> impl Strategy<Value = AnnounceMode> {
    prop_oneof![
        4 => Just(AnnounceMode::Once),
        1 => Just(AnnounceMode::Twice),
        2 => Just(AnnounceMode::Never),
        1 => Just(AnnounceMode::InPieces),
        1 => Just(AnnounceMode::Backwards),
        1 => Just(AnnounceMode::HeadFirst),
    ]
}
