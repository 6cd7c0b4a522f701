//! What a feed's write leaves behind, by how much room the socket has.

use callscope_common::CallId;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::auth::Role;
use crate::clock;

const FRAME: &[u8] = b"a frame";

/// A connection over a pipe of `room` bytes, of which `full` are taken, with a caught-up subscription at seq 3.
fn follow(room: usize, full: usize) -> (Connection, Arc<LogTail>, DuplexStream) {
    let (mut near, far) = duplex(room);
    let mut cx = Context::from_waker(Waker::noop());
    if full > 0 {
        let filled = Pin::new(&mut near).poll_write(&mut cx, &vec![b'-'; full]);
        assert!(matches!(filled, Poll::Ready(Ok(written)) if written == full), "{filled:?}");
    }
    let now = clock::now();
    let identity = Identity { username: "test".into(), uid: None, role: Role::Viewer, calls: None, expires: now };
    let connection = Connection::new(identity, None, now, near.into());
    let tail = Arc::new(LogTail::new(CallId::nil()));
    connection.state.lock().subscriptions.push(Subscription {
        id: 0,
        tail: Arc::clone(&tail),
        member: 0,
        names: Vec::new(),
        call_sid: String::new(),
        cursor: 3,
        confirmed: 0,
        caught_up: true,
        end_reason: None,
    });
    (connection, tail, far)
}

fn batch(ended: bool) -> FrameBatch {
    FrameBatch { from: 3, head: 4, bytes: Some(FRAME.into()), events: 1, ended }
}

/// The only subscription's cursor, whether it is owed nothing, and the bytes that wait.
fn state(connection: &Connection) -> (Seq, bool, usize) {
    let state = connection.state.lock();
    (state.subscriptions[0].cursor, state.subscriptions[0].caught_up, state.unsent_bytes())
}

#[test]
fn a_socket_with_room_gets_the_frames_and_owes_nothing() {
    let (connection, tail, _far) = follow(64, 0);
    assert_eq!(connection.try_write(0, &tail, &batch(false)), WriteOutcome::Written);
    assert_eq!(state(&connection), (4, true, 0));
}

#[test]
fn a_socket_that_takes_nothing_is_still_owed_the_events() {
    let (connection, tail, _far) = follow(64, 64);
    assert_eq!(connection.try_write(0, &tail, &batch(false)), WriteOutcome::LeftToSession);
    assert_eq!(state(&connection), (3, false, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_socket_that_takes_a_part_gets_the_rest_before_anything_else() {
    let (connection, tail, mut far) = follow(64, 60);
    assert_eq!(connection.try_write(0, &tail, &batch(false)), WriteOutcome::LeftToSession);
    assert_eq!(state(&connection), (4, false, FRAME.len() - 4));
    let mut read = vec![0; 64];
    far.read_exact(&mut read).await.expect("what is in the pipe");
    let flushed = connection.state.lock().poll_flush(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(flushed, Poll::Ready(Ok(()))), "{flushed:?}");
    let mut rest = vec![0; FRAME.len() - 4];
    far.read_exact(&mut rest).await.expect("the rest");
    assert_eq!([&read[60..], &rest].concat(), FRAME);
}

#[test]
fn what_does_not_follow_the_cursor_is_left_to_the_session() {
    let (connection, tail, _far) = follow(64, 0);
    let later = FrameBatch { from: 4, head: 5, ..batch(false) };
    assert_eq!(connection.try_write(0, &tail, &later), WriteOutcome::LeftToSession);
    assert_eq!(state(&connection), (3, false, 0));
}

#[test]
fn a_session_that_has_read_ahead_of_the_feed_is_written_nothing() {
    let (connection, tail, _far) = follow(64, 0);
    connection.state.lock().subscriptions[0].cursor = 4;
    assert_eq!(connection.try_write(0, &tail, &batch(false)), WriteOutcome::Skipped);
    assert_eq!(state(&connection), (4, true, 0));
}

#[test]
fn the_end_ends_the_subscription_only_with_its_last_byte() {
    let (connection, tail, _far) = follow(64, 0);
    assert_eq!(connection.try_write(0, &tail, &batch(true)), WriteOutcome::Ended);
    assert!(connection.state.lock().subscriptions.is_empty());
    let (connection, tail, _far) = follow(64, 60);
    assert_eq!(connection.try_write(0, &tail, &batch(true)), WriteOutcome::LeftToSession);
    assert_eq!(state(&connection), (4, false, FRAME.len() - 4));
}
