//! Tests of [`super::follow`] against a server that plays scripted connections.
#![allow(clippy::unwrap_used)]

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;

/// So that a silent server is found out within the test.
const SHORT: Silence = Silence { ask_after: Duration::from_secs(1), dead_after: Duration::from_secs(2) };
const CALL: &str = "00000000-0000-0000-0000-000000000007";

/// What the server does on one connection.
enum Script {
    /// Upgrades, takes the subscription, sends these and breaks off without a close frame.
    Send(Vec<Value>),
    /// The same, but closes with a code.
    Close(Vec<Value>, u16),
    /// The same, but waits for the client to close.
    Stay(Vec<Value>),
    /// Takes a subscription, sends the first, takes another subscription, sends the second and stays.
    Twice(Vec<Value>, Vec<Value>),
    /// Answers the upgrade with this status.
    Refuse(u16),
}

/// Follows a call on a server that plays `scripts`; gives what was said to the server, and what came of it.
async fn play(scripts: Vec<Script>, reconnect: bool) -> (Vec<Value>, Vec<Update>) {
    play_request(scripts, Request { reconnect, ..request(Start::First) }).await
}

fn request(start: Start) -> Request {
    let identifier = Identifier::parse("EL_a_1").unwrap();
    Request { identifier, start, wait: true, follow: true, reconnect: true }
}

/// The same, of another request.
async fn play_request(scripts: Vec<Script>, request: Request) -> (Vec<Value>, Vec<Update>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let serving = tokio::spawn(serve(listener, scripts));
    let (sender, mut receiver) = queue();
    tokio::spawn(follow(
        Endpoint { flags: String::new(), server, token: Some(Secret::new("t")), silence: SHORT },
        request,
        0,
        sender,
    ));
    let mut updates = Vec::new();
    while let Some((_, update)) = receiver.next().await {
        updates.push(update);
    }
    (serving.await.unwrap(), updates)
}

/// Plays `scripts`, one a connection; gives what was said to the server.
async fn serve(listener: TcpListener, scripts: Vec<Script>) -> Vec<Value> {
    let mut asked = Vec::new();
    for script in scripts {
        let (mut stream, _) = listener.accept().await.unwrap();
        if let Script::Refuse(status) = script {
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await.unwrap();
            let answer = format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            continue;
        }
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        let (rounds, code, stay) = match script {
            Script::Send(messages) => (vec![messages], None, false),
            Script::Close(messages, code) => (vec![messages], Some(code), true),
            Script::Stay(messages) => (vec![messages], None, true),
            Script::Twice(first, second) => (vec![first, second], None, true),
            Script::Refuse(_) => unreachable!(),
        };
        for messages in rounds {
            let subscribe = socket.next().await.unwrap().unwrap();
            asked.push(serde_json::from_str(subscribe.to_text().unwrap()).unwrap());
            for message in messages {
                socket.send(Message::text(message.to_string())).await.unwrap();
            }
        }
        if let Some(code) = code {
            socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await.unwrap();
        }
        while stay && socket.next().await.is_some_and(|frame| frame.is_ok()) {}
    }
    asked
}

fn confirmed(seq: i64) -> Value {
    json!({"type": "subscription_confirmed", "identifier": "EL_a_1", "call_sid": "EL_a_1", "conversation_id": null,
        "status": "in_progress", "message": "", "call_id": CALL, "seq": seq})
}

fn turn(seq: i64) -> Value {
    json!({"type": "transcription", "conversation_id": null, "call_sid": "EL_a_1", "transcription_id": seq,
        "sequence_number": seq, "speaker_type": "agent", "message_text": "hi", "timestamp": "2026-10-01T14:00:00Z", "seq": seq})
}

fn completed(seq: i64) -> Value {
    json!({"type": "call_completed", "conversation_id": null, "call_sid": "EL_a_1", "call_data": {"status": "completed"}, "seq": seq})
}

/// The updates in short.
fn told(updates: &[Update]) -> Vec<String> {
    let tell = |update: &Update| match update {
        Update::Message(Incoming { seq: Some(seq), .. }) => format!("event {seq}"),
        Update::Message(Incoming { message, .. }) => match message {
            ServerMessage::SubscriptionConfirmed(_) => "confirmed".into(),
            ServerMessage::SubscriptionPending(_) => "pending".into(),
            ServerMessage::Error(_) => "error".into(),
            _ => "other".into(),
        },
        Update::Ready(place) => format!("ready {}", place.seq),
        Update::Resumed { place, proven } => format!("resumed {}{}", place.seq, if *proven { ", proven" } else { "" }),
        Update::Reconnecting { .. } => "reconnecting".into(),
        Update::Quiet { .. } => "quiet".into(),
        Update::Heard => "heard".into(),
        Update::Gap(gap) => format!("{gap:?}"),
        Update::Ended(Ending { reason: EndReason::CallEnded, place, .. }) => format!("ended {}", place.seq),
        Update::Ended(Ending { reason: EndReason::CaughtUp, .. }) => "caught up".into(),
        Update::Ended(Ending { reason: EndReason::Failed(failure), .. }) => format!("failed {:?}", failure.exit),
    };
    updates.iter().map(tell).collect()
}

#[tokio::test]
async fn a_break_is_resumed_and_nothing_comes_twice() {
    let scripts = vec![
        Script::Send(vec![confirmed(1), turn(1), turn(2)]),
        Script::Stay(vec![confirmed(3), turn(2), turn(3), completed(4)]),
    ];
    let (asked, updates) = play(scripts, true).await;
    assert_eq!(asked[0], json!({"subscribe": "EL_a_1", "wait": true}));
    assert_eq!(asked[1], json!({"subscribe": "EL_a_1", "wait": true, "after": 2, "call_id": CALL}));
    assert_eq!(
        told(&updates),
        [
            "confirmed",
            "ready 0",
            "event 1",
            "event 2",
            "reconnecting",
            "confirmed",
            "resumed 2",
            "event 3",
            "event 4",
            "ended 4"
        ]
    );
}

#[tokio::test]
async fn a_silent_server_is_asked_and_left_when_it_stays_silent() {
    let scripts = vec![
        Script::Twice(vec![confirmed(1), turn(1)], vec![json!({"type": "pong", "ping": 0})]),
        Script::Stay(vec![confirmed(2), completed(2)]),
    ];
    let (asked, updates) = play(scripts, true).await;
    assert_eq!(asked[1], json!({"ping": 0}));
    let told = told(&updates);
    let told: Vec<&str> = told.iter().map(String::as_str).filter(|what| *what != "other").collect();
    assert_eq!(told[2..8], ["event 1", "quiet", "heard", "quiet", "reconnecting", "confirmed"]);
}

#[tokio::test]
async fn a_missing_event_is_asked_for_again() {
    let scripts = vec![
        Script::Stay(vec![confirmed(3), turn(1), turn(3)]),
        Script::Stay(vec![confirmed(3), turn(2), turn(3), completed(4)]),
    ];
    let (asked, updates) = play(scripts, true).await;
    assert_eq!(asked[1]["after"], 1);
    assert_eq!(
        told(&updates)[2..],
        [
            "event 1",
            "Hole { expected: 2, found: 3 }",
            "reconnecting",
            "confirmed",
            "resumed 1",
            "event 2",
            "event 3",
            "event 4",
            "ended 4"
        ]
    );
}

#[tokio::test]
async fn a_log_in_another_life_is_read_from_its_start_and_that_is_said() {
    let invalid = json!({"type": "error", "message": "no", "code": "CURSOR_INVALID", "identifier": "EL_a_1"});
    let scripts = vec![
        Script::Send(vec![confirmed(1), turn(1)]),
        Script::Twice(vec![invalid], vec![confirmed(2), turn(1), completed(2)]),
    ];
    let (asked, updates) = play(scripts, true).await;
    assert_eq!(asked[2], json!({"subscribe": "EL_a_1", "wait": true}));
    assert_eq!(
        told(&updates)[3..],
        ["reconnecting", "error", "CursorInvalid { after: 1 }", "confirmed", "event 1", "event 2", "ended 2"]
    );
}

#[tokio::test]
async fn a_call_that_is_awaited_is_ready_before_it_appears() {
    let pending = json!({"type": "subscription_pending", "identifier": "EL_a_1", "message": ""});
    let (_, updates) = play(vec![Script::Stay(vec![pending, confirmed(0), turn(1), completed(2)])], true).await;
    assert_eq!(told(&updates), ["pending", "ready 0", "confirmed", "event 1", "event 2", "ended 2"]);
}

#[tokio::test]
async fn some_closes_are_final_and_others_are_not() {
    let (_, updates) = play(vec![Script::Close(vec![confirmed(0)], 4012)], true).await;
    assert_eq!(told(&updates), ["confirmed", "ready 0", "failed StreamLost"]);
    let scripts = vec![Script::Close(vec![confirmed(0)], 4101), Script::Stay(vec![confirmed(0), completed(1)])];
    let (_, updates) = play(scripts, true).await;
    assert_eq!(told(&updates).last().unwrap(), "ended 1");
}

#[tokio::test]
async fn without_reconnecting_a_break_is_the_end() {
    let (_, updates) = play(vec![Script::Send(vec![confirmed(1), turn(1)])], false).await;
    assert_eq!(told(&updates).last().unwrap(), "failed StreamLost");
}

#[tokio::test]
async fn the_upgrade_may_be_refused_for_good_or_for_now() {
    let (_, updates) = play(vec![Script::Refuse(401)], true).await;
    assert_eq!(told(&updates), ["failed NotAllowed"]);
    let scripts = vec![Script::Refuse(503), Script::Stay(vec![confirmed(0), completed(1)])];
    let (_, updates) = play(scripts, true).await;
    assert_eq!(told(&updates), ["reconnecting", "confirmed", "ready 0", "event 1", "ended 1"]);
}

#[tokio::test]
async fn a_server_that_goes_away_is_left_when_it_said_so() {
    let leave = json!({"type": "reconnect", "after_ms": 40, "reason": "drain"});
    // The server does not close: it delivers until the client leaves.
    let scripts = vec![Script::Stay(vec![confirmed(0), leave]), Script::Stay(vec![confirmed(0), completed(1)])];
    let (_, updates) = play(scripts, true).await;
    assert_eq!(
        told(&updates),
        ["confirmed", "ready 0", "other", "reconnecting", "confirmed", "resumed 0", "event 1", "ended 1"]
    );
}

#[tokio::test]
async fn the_server_says_when_to_come_back() {
    let leave = json!({"type": "reconnect", "after_ms": 40, "reason": "drain"});
    let scripts = vec![Script::Close(vec![confirmed(0), leave], 1001), Script::Stay(vec![confirmed(0), completed(1)])];
    let (_, updates) = play(scripts, true).await;
    let delay = updates.iter().find_map(|update| match update {
        Update::Reconnecting { delay, .. } => Some(*delay),
        _ => None,
    });
    // Exactly the wish would bring every client back at once where it is short; it is only ever lengthened.
    assert!(
        delay.is_some_and(|delay| (Duration::from_millis(40)..=Duration::from_millis(250)).contains(&delay)),
        "{delay:?}"
    );
}

fn with_cursor(mut message: Value, cursor: &str) -> Value {
    message["cursor"] = cursor.into();
    message
}

#[tokio::test]
async fn a_wait_for_new_words_that_breaks_misses_none() {
    let pending = json!({"type": "subscription_pending", "identifier": "EL_a_1", "message": ""});
    let turns = (1..=3).map(|seq| with_cursor(turn(seq), &format!("{seq}.AAAAAAAHxxxxxxxxxxx")));
    let mut messages = vec![with_cursor(confirmed(3), "0.AAAAAAAH")];
    messages.extend(turns);
    messages.push(completed(4));
    let scripts = vec![Script::Send(vec![pending]), Script::Stay(messages)];
    let (asked, updates) = play_request(scripts, request(Start::Live)).await;
    assert_eq!(asked[0], json!({"subscribe": "EL_a_1", "wait": true, "history": false}));
    assert_eq!(asked[1], json!({"subscribe": "EL_a_1", "wait": true}));
    let expected =
        ["reconnecting", "confirmed", "resumed 0, proven", "event 1", "event 2", "event 3", "event 4", "ended 4"];
    assert_eq!(told(&updates)[2..], expected);
}

#[tokio::test]
async fn a_cursor_is_sent_back_and_proves_the_resumption() {
    let behind = "1.AAAAAAAHxxxxxxxxxxx";
    let scripts = vec![
        Script::Send(vec![with_cursor(confirmed(0), "0.AAAAAAAH")]),
        Script::Send(vec![with_cursor(confirmed(0), "0.AAAAAAAH"), with_cursor(turn(1), behind)]),
        Script::Stay(vec![with_cursor(confirmed(1), behind), completed(2)]),
    ];
    let (asked, updates) = play(scripts, true).await;
    assert_eq!(asked[1], json!({"subscribe": "EL_a_1", "wait": true, "after": "0.AAAAAAAH"}));
    assert_eq!(asked[2], json!({"subscribe": "EL_a_1", "wait": true, "after": behind}));
    let resumed: Vec<_> = told(&updates).into_iter().filter(|what| what.starts_with("resumed")).collect();
    assert_eq!(resumed, ["resumed 0, proven", "resumed 1, proven"]);
}

#[tokio::test]
async fn a_call_that_is_gone_is_awaited_and_not_resumed() {
    let pending = json!({"type": "subscription_pending", "identifier": "EL_a_1", "message": ""});
    let invalid = json!({"type": "error", "message": "no", "code": "CURSOR_INVALID", "identifier": "EL_a_1"});
    let scripts = vec![
        Script::Send(vec![confirmed(1), turn(1)]),
        Script::Twice(vec![pending, invalid], vec![confirmed(1), completed(1)]),
    ];
    let (_, updates) = play(scripts, true).await;
    assert_eq!(
        told(&updates)[3..],
        ["reconnecting", "pending", "error", "CursorInvalid { after: 1 }", "confirmed", "event 1", "ended 1"]
    );
}

#[tokio::test]
async fn all_there_is_now_includes_the_log_of_the_call_it_was_merged_into() {
    const OTHER: &str = "00000000-0000-0000-0000-000000000008";
    let merged =
        json!({"type": "call_merged", "identifier": "EL_a_1", "from_call_id": CALL, "call_id": OTHER, "message": ""});
    let mut survivor = confirmed(2);
    survivor["call_id"] = OTHER.into();
    let scripts = vec![Script::Stay(vec![confirmed(2), turn(1), merged, survivor, turn(1), turn(2)])];
    let (_, updates) = play_request(scripts, Request { follow: false, ..request(Start::First) }).await;
    let told = told(&updates);
    assert_eq!(told[2..4], ["event 1", "other"]);
    assert!(told[4].starts_with("Merged"), "{told:?}");
    assert_eq!(told[5..], ["confirmed", "event 1", "event 2", "caught up"]);
}

#[test]
fn an_unreadable_event_still_counts() {
    let read = |text: &str| Incoming::read(text.to_owned());
    let incoming = read(r#"{"type":"transcription","speaker_type":"whale","seq":7}"#);
    let Some(Incoming { message: ServerMessage::Unknown(kind), seq: Some(7), .. }) = incoming else {
        panic!("{incoming:?}")
    };
    assert_eq!(kind, "transcription");
    let new = read(r#"{"type":"transcription_retold","seq":8,"cursor":"8.x"}"#).unwrap();
    assert_eq!((new.seq, new.cursor.unwrap().as_str()), (Some(8), "8.x"));
    assert_eq!(read(r#"{"type":"weather","seq":8}"#).unwrap().seq, None, "nothing says that this is an event");
    assert!(read("no json").is_none());
}

#[tokio::test]
async fn a_silent_server_of_deliveries_is_asked_and_left_as_well() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let endpoint = Endpoint { flags: String::new(), server, token: None, silence: SHORT };
    let (sender, _updates) = tokio::sync::mpsc::channel(16);
    tokio::spawn(deliveries::follow(endpoint, deliveries::Begin::Now, sender));
    let mut socket = tokio_tungstenite::accept_async(listener.accept().await.unwrap().0).await.unwrap();
    socket.next().await.unwrap().unwrap();
    let confirmed = json!({"type": "deliveries_confirmed", "cursor": "c7", "message": ""});
    socket.send(Message::text(confirmed.to_string())).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), r#"{"ping":0}"#);
    let mut next = tokio_tungstenite::accept_async(listener.accept().await.unwrap().0).await.unwrap();
    let asked: Value = serde_json::from_str(next.next().await.unwrap().unwrap().to_text().unwrap()).unwrap();
    assert_eq!(asked, json!({"subscribe_deliveries": {"after": "c7"}}));
}
