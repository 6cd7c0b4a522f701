//! Tests of a feed's write into sockets that take all, some or none of the bytes.

use callscope_common::CallId;
use callscope_common::claims::Role;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::clock;

const FRAME: &[u8] = b"a frame";

/// A connection over a pipe of `capacity` bytes, of which `used` are taken, with a caught-up subscription at seq 3.
fn follow(capacity: usize, used: usize) -> (Connection, Arc<LogTail>, DuplexStream) {
    let (mut near, far) = duplex(capacity);
    let mut cx = Context::from_waker(Waker::noop());
    if used > 0 {
        let filled = Pin::new(&mut near).poll_write(&mut cx, &vec![b'-'; used]);
        assert!(matches!(filled, Poll::Ready(Ok(written)) if written == used), "{filled:?}");
    }
    let now = clock::now();
    let identity = Identity { username: "test".into(), uid: None, role: Role::Viewer, calls: None, expires: now };
    let connection = Connection::new(identity, None, now, near.into());
    let log_tail = Arc::new(LogTail::new(CallId::nil()));
    connection.state.lock().subscriptions.push(Subscription {
        id: 0,
        log_tail: Arc::clone(&log_tail),
        feed_member_id: 0,
        names: Vec::new(),
        call_sid: String::new(),
        cursor: 3,
        confirmed_head: 0,
        caught_up: true,
        end_reason: None,
    });
    (connection, log_tail, far)
}

fn batch(ended: bool) -> FrameBatch {
    FrameBatch { from: 3, head: 4, bytes: Some(FRAME.into()), events: 1, ended }
}

/// The only subscription's cursor, whether it is caught up, and the number of unsent bytes.
fn state(connection: &Connection) -> (Seq, bool, usize) {
    let state = connection.state.lock();
    (state.subscriptions[0].cursor, state.subscriptions[0].caught_up, state.unsent_bytes())
}

#[test]
fn a_socket_with_room_gets_the_frames_and_is_owed_nothing() {
    let (connection, log_tail, _far) = follow(64, 0);
    assert_eq!(connection.try_write(0, &log_tail, &batch(false)), WriteOutcome::Written);
    assert_eq!(state(&connection), (4, true, 0));
}

#[test]
fn a_socket_that_takes_nothing_is_still_owed_the_events() {
    let (connection, log_tail, _far) = follow(64, 64);
    assert_eq!(connection.try_write(0, &log_tail, &batch(false)), WriteOutcome::LeftToSession);
    assert_eq!(state(&connection), (3, false, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_socket_that_takes_some_of_the_bytes_gets_the_rest_first() {
    let (connection, log_tail, mut far) = follow(64, 60);
    assert_eq!(connection.try_write(0, &log_tail, &batch(false)), WriteOutcome::LeftToSession);
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
fn a_batch_that_does_not_follow_the_cursor_is_left_to_the_session() {
    let (connection, log_tail, _far) = follow(64, 0);
    let later = FrameBatch { from: 4, head: 5, ..batch(false) };
    assert_eq!(connection.try_write(0, &log_tail, &later), WriteOutcome::LeftToSession);
    assert_eq!(state(&connection), (3, false, 0));
}

#[test]
fn a_batch_that_the_session_has_read_already_is_skipped() {
    let (connection, log_tail, _far) = follow(64, 0);
    connection.state.lock().subscriptions[0].cursor = 4;
    assert_eq!(connection.try_write(0, &log_tail, &batch(false)), WriteOutcome::Skipped);
    assert_eq!(state(&connection), (4, true, 0));
}

#[test]
fn the_end_of_a_call_ends_the_subscription_only_when_its_last_byte_is_written() {
    let (connection, log_tail, _far) = follow(64, 0);
    assert_eq!(connection.try_write(0, &log_tail, &batch(true)), WriteOutcome::Ended);
    assert!(connection.state.lock().subscriptions.is_empty());
    let (connection, log_tail, _far) = follow(64, 60);
    assert_eq!(connection.try_write(0, &log_tail, &batch(true)), WriteOutcome::LeftToSession);
    assert_eq!(state(&connection), (4, false, FRAME.len() - 4));
}
