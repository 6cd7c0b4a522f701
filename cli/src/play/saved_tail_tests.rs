//! Tests of [`super::SavedTail`].

use std::time::Duration;

use callscope_common::CallStatus;

use super::*;
use crate::stream::Gap;

const CALL: &str = "00000000-0000-0000-0000-000000000007";

fn read(text: &str) -> Result<SavedTail> {
    SavedTail::read(text.as_bytes(), Path::new("saved.ndjson"))
}

fn turn(sid: &str, seq: i64) -> String {
    format!(
        r#"{{"type":"transcription","conversation_id":null,"call_sid":"{sid}","transcription_id":1,"sequence_number":1,
        "speaker_type":"user","message_text":"hi","timestamp":"2026-10-01T14:00:0{seq}Z","seq":{seq}}}"#
    )
    .replace('\n', " ")
}

#[test]
fn what_tail_wrote_is_read_back() {
    use crate::tail::{NdjsonWriter, Sink as _};
    let mut bytes = Vec::new();
    let mut ndjson = NdjsonWriter::new(&mut bytes, vec![Identifier::parse("EL_a_1").unwrap()]);
    let place = Place { seq: 1, call_id: CALL.parse().ok(), cursor: "1.AAAAAAAHxxxxxxxxxxx".parse().ok() };
    let updates = [
        Update::Ready(Place { seq: 0, ..place }),
        Update::Message(Incoming::read(turn("EL_a_1", 1)).unwrap()),
        Update::Reconnecting { attempt: 1, delay: Duration::from_millis(250), reason: "gone".into(), broke: true },
        Update::Resumed { place, proven: true },
        Update::Gap(Gap::Hole { expected: 2, found: 4 }),
        Update::Gap(Gap::CursorInvalid { after: 2 }),
        Update::Gap(Gap::Merged { call_id: CALL.parse().unwrap() }),
        Update::Ended(Ending { reason: EndReason::CallEnded, status: Some(CallStatus::Completed), place }),
    ];
    for update in &updates {
        ndjson.update(0, update, None).unwrap();
    }
    let recording = read(&String::from_utf8(bytes).unwrap()).unwrap();
    assert!(recording.lines.iter().all(|step| step.at.is_some()), "every line has its time");
    let names = |update: &Update| format!("{update:?}");
    let before: Vec<String> = updates.iter().map(names).collect();
    let after: Vec<String> = recording.lines.into_iter().map(|step| names(&step.content.into_update())).collect();
    assert_eq!(before, after);
}

#[test]
fn several_calls_are_told_apart_and_each_ends() {
    let recording = read(&format!("{}\n{}\n{}\n", turn("a", 1), turn("b", 1), turn("a", 2))).unwrap();
    let calls: Vec<usize> = recording.lines.iter().map(|step| step.call).collect();
    assert_eq!(calls, [0, 1, 0, 0, 1]);
    assert_eq!(recording.identifiers[1].as_str(), "b");
}

#[test]
fn a_wrong_line_is_named_and_half_a_last_one_is_not() {
    let half = &turn("a", 2)[..40];
    assert_eq!(read(&format!("{}\n{half}", turn("a", 1))).unwrap().lines.len(), 2);
    let failure = read(&format!("{}\n{half}\n", turn("a", 1))).unwrap_err();
    assert!(failure.message.starts_with("saved.ndjson:2: "), "{}", failure.message);
    assert!(read("dear diary\n").unwrap_err().message.contains("saved.ndjson:1"));
    assert!(read("").is_err() && read("\n\n").is_err());
}

#[test]
fn a_newer_version_is_refused() {
    let line = r#"{"type":"ready","version":99,"identifier":"a","after":0,"call_id":null}"#;
    assert!(read(&format!("{line}\n")).unwrap_err().message.contains("newer"));
}

#[test]
fn tails_with_and_without_cursors_play_back() {
    let with = turn("a", 1).replace(
        r#""seq":1}"#,
        r#""seq":1,"call_id":"00000000-0000-0000-0000-000000000007","cursor":"1.AAAAAAAHxxxxxxxxxxx"}"#,
    );
    let resumed = r#"{"type":"resumed","identifier":"a","after":1,"call_id":null}"#;
    let recording = read(&format!("{with}\n{resumed}\n{}\n", turn("a", 2))).unwrap();
    let updates: Vec<Update> = recording.lines.into_iter().map(|step| step.content.into_update()).collect();
    let [Update::Message(first), Update::Resumed { proven: false, .. }, Update::Message(second), _] = &updates[..]
    else {
        panic!("{updates:?}")
    };
    assert_eq!((first.seq, first.cursor.unwrap().as_str()), (Some(1), "1.AAAAAAAHxxxxxxxxxxx"));
    assert_eq!((second.seq, second.cursor), (Some(2), None));
}
