//! Tests of [`super::Player`] on a clock of their own, so that nothing waits.

use callscope_common::Identifier;

use super::*;
use crate::stream::{EndReason, Ending, Place};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_unix_secs(1_790_855_000 + secs).unwrap()
}

fn turn(seq: i64, secs: i64) -> SavedLine {
    let raw = format!(
        r#"{{"type":"transcription","conversation_id":null,"call_sid":"a","transcription_id":1,"sequence_number":1,
        "speaker_type":"user","message_text":"hi","timestamp":"{}","seq":{seq}}}"#,
        at(secs)
    );
    SavedLine { call: 0, content: LineContent::Message(raw.into()), at: Some(at(secs)) }
}

fn step(update: Update, at: Option<Timestamp>) -> SavedLine {
    SavedLine { call: 0, content: LineContent::Client(Box::new(update)), at }
}

fn player(lines: Vec<SavedLine>, speed: &str, begin: Instant) -> Player {
    let recording = SavedTail { identifiers: vec![Identifier::parse("a").unwrap()], lines };
    Player::new(recording, speed.parse().unwrap(), begin)
}

/// The second at which each line is played, on the clock of the test and on that of the recording.
fn told(lines: Vec<SavedLine>, speed: &str) -> Vec<(u64, i64)> {
    let begin = Instant::now();
    let mut player = player(lines, speed, begin);
    let (mut told, mut clock) = (Vec::new(), begin);
    while let Some(wait) = player.wait(clock) {
        clock += wait;
        player.advance(clock).unwrap();
        told.push(((clock - begin).as_secs(), player.now(clock).as_unix_secs() - at(0).as_unix_secs()));
    }
    told
}

#[test]
fn turns_come_at_the_calls_own_pace() {
    let lines = || vec![turn(1, 0), turn(2, 4), turn(3, 20)];
    assert_eq!(told(lines(), "1x"), [(0, 0), (4, 4), (20, 20)]);
    assert_eq!(told(lines(), "4x"), [(0, 0), (1, 4), (5, 20)]);
    assert_eq!(told(lines(), "max"), [(0, 0), (0, 4), (0, 20)]);
}

#[test]
fn a_long_silence_is_cut_and_what_follows_keeps_its_pace() {
    let lines = vec![turn(1, 0), turn(2, 4000), turn(3, 4002)];
    assert_eq!(told(lines, "1x"), [(0, 0), (60, 4000), (62, 4002)]);
}

#[test]
fn a_break_takes_as_long_as_it_took_whenever_it_was_saved() {
    let place = Place::after(1);
    let gone = Update::Reconnecting { attempt: 1, delay: Duration::from_secs(1), reason: "gone".into(), broke: true };
    let days_later = 500_000;
    let lines = vec![
        step(Update::Ready(Place::default()), Some(at(days_later - 9))),
        turn(1, 0),
        step(gone, Some(at(days_later))),
        step(Update::Resumed { place, proven: true }, Some(at(days_later + 7))),
        turn(2, 3),
        turn(3, 9),
    ];
    let content: Vec<u64> = told(lines, "1x").into_iter().map(|(secs, _)| secs).collect();
    assert_eq!(content, [0, 0, 0, 7, 7, 9]);
}

#[test]
fn a_held_recording_goes_on_where_it_was() {
    let begin = Instant::now();
    let secs = |secs| begin + Duration::from_secs(secs);
    let mut player = player(vec![turn(1, 0), turn(2, 10)], "1x", begin);
    assert!(player.advance(begin).is_some());
    player.toggle_pause(secs(4));
    assert_eq!((player.is_paused(), player.wait(secs(100)), player.now(secs(100))), (true, None, at(4)));
    player.toggle_pause(secs(104));
    assert_eq!(player.wait(secs(104)), Some(Duration::from_secs(6)));
    assert_eq!(player.wait(secs(200)), Some(Duration::ZERO));
}

#[tokio::test]
async fn the_end_is_the_end() {
    let ending = Ending { reason: EndReason::CaughtUp, status: None, place: Place::default() };
    let mut player = player(vec![step(Update::Ended(ending), None)], "1x", Instant::now());
    assert!(matches!(player.next().await.unwrap().updates[0], Update::Ended(_)));
    assert!(player.next().await.is_none() && player.try_next().is_none());
}
