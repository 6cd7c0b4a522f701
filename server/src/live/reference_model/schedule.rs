//! The steps of a case, and random schedules of them.

use proptest::collection::vec;
use proptest::prelude::*;

/// Number of calls in a case.
pub(super) const CALLS: usize = 3;

/// How commits are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announcing {
    /// Each once, in the order of the commits.
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

/// One of a call's two names: its index, and whether the name is the conversation id instead of the SID.
pub(super) type Name = (usize, bool);

#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Commits a number of turns, each with a text of a number of bytes. Creates the call if it does not exist.
    Turns(usize, usize, usize),
    /// Commits one turn, and announces it before anything else runs.
    AnnouncedTurn(usize),
    /// Commits turns while everything else goes on.
    TurnsMeanwhile(usize, usize),
    /// Sends a turn that is not final.
    Partial(usize),
    /// Commits the provider's result, which ends the call.
    End(usize),
    /// Merges the two calls into one.
    Merge(usize, usize),
    Delete(usize),
    /// Stops the server, restores the database to a state in which the call's log has this many events fewer, and
    /// starts the server.
    Restore(usize, usize),
    /// Announces one of the unannounced commits.
    Announce(usize, AnnounceMode),
    AnnounceAll,
    /// Announces a head that is this many events lower than the call's head.
    ReportHead(usize, usize),
    Reconcile,
    Subscribe(usize, Name, StartFrom),
    Unsubscribe(usize, Name),
    /// Replaces the client by one that resumes on a new connection, through a pipe of that size.
    Reconnect(usize, usize),
    /// The client reads this many bytes.
    Read(usize, usize),
    /// The client reads as many bytes as the server could not write yet. Then the pipe is full and the server has
    /// nothing left to write.
    FillPipe(usize),
    /// Yields to the executor this many times.
    Yield(usize),
    /// Runs everything else until it is idle.
    RunUntilIdle,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum StartFrom {
    Start,
    /// After a seq, with the `call_id` that it belongs to.
    After(usize),
    /// After a seq alone.
    Number(usize),
    /// After an event that any record ever had: the index of the record, and of the event's cursor.
    Cursor(usize, usize),
    Live,
    Wait,
    /// Waits for the call, and starts without history.
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
    /// The head of the log, then the events.
    HeadFirst,
}

pub(super) fn schedule() -> impl Strategy<Value = Schedule> {
    (vec(pipe(), 1..4), vec(step(), 1..48)).prop_map(|(pipes, steps)| Schedule { pipes, steps })
}

/// A subscription, and one turn that is announced at a random moment while the subscription starts.
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
        // About as long as a database read takes.
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
