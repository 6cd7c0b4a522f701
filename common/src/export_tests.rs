use super::*;
use crate::api::TurnView;
use crate::{CallStatus, Speaker};

fn view(turns: &[(f64, Speaker, &str)]) -> TranscriptView {
    let turns = turns.iter().zip(1..).map(|((offset, speaker, said), number)| TurnView {
        sequence_number: number,
        speaker_type: *speaker,
        message_text: (*said).to_owned(),
        timestamp: None,
        offset_seconds: *offset,
        seq: Some(number),
    });
    TranscriptView {
        call_id: uuid::Uuid::nil(),
        call_sid: "EL_a_1".into(),
        conversation_id: Some("conv_1".into()),
        status: CallStatus::Completed,
        source: TranscriptSource::Live.into(),
        turns: turns.collect(),
    }
}

fn call() -> CallView {
    serde_json::from_str(
        r##"{"call_id":"00000000-0000-0000-0000-000000000000","call_sid":"EL_a_1","conversation_id":"conv_1","identifiers":[],
        "status":"completed","subject":null,"agent_id":"agent_7","metadata":null,"created_at":"2026-10-01T14:00:00Z",
        "updated_at":"2026-10-01T14:00:00Z","call_end_time":null,"seq":3,"turns":2,"has_audio":false,
        "call_data":{"status":"completed","call_successful":true,"duration_seconds":41,"cost":74,
        "transcript_summary":"# A *tow truck*\nwas sent.\n"}}"##,
    )
    .unwrap()
}

const HOSTILE: &str = "a\n\n2\n00:00:00,000 --> 00:00:09,000\n<b onclick=x>&\x1b[2J\u{202e}";

#[test]
fn subtitles_last_until_read_or_until_the_next() {
    let view = view(&[
        (0.0, Speaker::Agent, "Hello"),
        (2.5, Speaker::User, "x"),
        (2.5, Speaker::Tool, "y"),
        (3661.5, Speaker::Agent, "z"),
    ]);
    assert_eq!(cues(&view), [(0, 1000), (2500, 3500), (2500, 3500), (3_661_500, 3_662_500)]);
    let long = "word ".repeat(100);
    let quick =
        super::tests::view(&[(0.0, Speaker::Agent, &long), (3.0, Speaker::User, &long), (90.0, Speaker::User, "")]);
    assert_eq!(cues(&quick), [(0, 3000), (3000, 13_000), (90_000, 91_000)]);
}

#[test]
fn subtitles_never_go_back() {
    let back = view(&[
        (3.0, Speaker::Agent, "a"),
        (5.0, Speaker::Agent, "b"),
        (1.0, Speaker::User, "c"),
        (f64::NAN, Speaker::User, "d"),
    ]);
    assert_eq!(cues(&back).iter().map(|(from, _)| *from).collect::<Vec<_>>(), [3000, 5000, 5000, 5000]);
    let odd = view(&[(1.0, Speaker::Agent, "a"), (1e12, Speaker::User, "b"), (3.0, Speaker::User, "c")]);
    assert_eq!(cues(&odd), [(1000, 2000), (1000, 2000), (3000, 4000)]);
}

#[test]
fn what_players_read_as_markup_is_none() {
    let said = srt(&view(&[(0.0, Speaker::User, r"{\an8}<i>top</i> <font color=red>x &lt; \N y")]));
    for markup in ["<i", "</", "<font", "{\\", "\\an8", "\\N", "&lt"] {
        assert!(!said.contains(markup), "{markup} in {said}");
    }
    let seen = said.replace('\u{2060}', "");
    assert!(seen.contains(r"user: {\an8}<i>top</i> <font color=red>x &lt; \N y"), "{seen}");
}

#[test]
fn subrip() {
    let view = view(&[(0.0, Speaker::Agent, "Hello"), (3661.25, Speaker::User, HOSTILE)]);
    assert_eq!(
        srt(&view),
        "1\n00:00:00,000 --> 00:00:01,000\nagent: Hello\n\n\
         2\n01:01:01,250 --> 01:01:04,500\nuser: a  2 00:00:00,000 --> 00:00:09,000 <\u{2060}b onclick=x>&\u{2060}\u{fffd}\n\n"
    );
}

#[test]
fn webvtt() {
    let view = view(&[(0.0, Speaker::Tool, HOSTILE)]);
    assert_eq!(
        vtt(&view),
        "WEBVTT\n\n1\n00:00:00.000 --> 00:00:03.250\n\
         <v tool>a  2 00:00:00,000 --&gt; 00:00:09,000 &lt;b onclick=x&gt;&amp;\u{fffd}\n\n"
    );
}

#[test]
fn markdown_shows_what_was_said_and_nothing_else() {
    let view = view(&[(0.0, Speaker::Agent, "# *Hi* _x_ [x](javascript:1) <script>"), (61.0, Speaker::User, HOSTILE)]);
    assert_eq!(
        md(&view, &call()),
        "# Call EL_a_1\n\n- Conversation: conv_1\n- Agent: agent_7\n- Status: completed, successful\n\
         - Started: 2026-10-01 14:00:00 UTC\n- Duration: 00:41\n- Cost: 74 credits\n- Turns from: the live stream\n\
         \n## Summary\n\n\\# A \\*tow truck\\* was sent.\n\
         \n## Transcript\n\n**00:00 agent:** \\# \\*Hi\\* \\_x\\_ \\[x\\](javascript:1) \\<script\\>\n\
         \n**01:01 user:** a  2 00:00:00,000 --\\> 00:00:09,000 \\<b onclick=x\\>\\&\u{fffd}\n"
    );
}

#[test]
fn text_is_a_line_a_turn() {
    let view = view(&[(0.0, Speaker::Agent, "two\nlines"), (61.0, Speaker::User, "x")]);
    assert_eq!(txt(&view), "EL_a_1 completed\n[00:00] agent: two lines\n[01:01] user: x\n");
}
