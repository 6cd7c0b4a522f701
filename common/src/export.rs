//! The transcript of a call as text, Markdown and subtitles.
//!
//! What was said is untrusted. It becomes text that is safe to show and that has no meaning in the format around it.

use std::fmt::Write as _;

use crate::api::{CallView, TranscriptSource, TranscriptView};
use crate::monotonic::make_monotonic;
use crate::transcript::clock;
use crate::{CallData, Timestamp, text};

/// How long a subtitle is shown at least.
const MIN_CUE_MS: i64 = 1_000;
/// How long a subtitle is shown at most.
const MAX_CUE_MS: i64 = 10_000;
/// How long reading a character takes.
const READING_MS_PER_CHAR: i64 = 65;

/// Writes plain text: a line for the call, and a line `[MM:SS] speaker: text` for each turn.
#[must_use]
pub fn txt(view: &TranscriptView) -> String {
    let mut txt = format!("{} {}\n", text::one_line(&view.call_sid), view.status);
    for turn in &view.turns {
        let said = text::one_line(&turn.message_text);
        let _ = writeln!(txt, "[{}] {}: {said}", clock(turn.offset_seconds), turn.speaker_type);
    }
    txt
}

/// Writes Markdown: what is known of the call, the provider's summary, then a paragraph for each turn.
#[must_use]
pub fn md(view: &TranscriptView, call: &CallView) -> String {
    let mut md = format!("# Call {}\n\n", plain_md(&view.call_sid));
    for (name, value) in facts(view, call) {
        let _ = writeln!(md, "- {name}: {}", plain_md(&value));
    }
    let summary = call.call_data.as_ref().and_then(|data| data.transcript_summary.as_deref()).map(str::trim);
    if let Some(summary) = summary.filter(|summary| !summary.is_empty()) {
        let _ = write!(md, "\n## Summary\n\n{}\n", plain_md(summary));
    }
    md.push_str("\n## Transcript\n");
    if view.turns.is_empty() {
        md.push_str("\nNothing was said.\n");
    }
    for turn in &view.turns {
        let said = plain_md(&turn.message_text);
        let _ = write!(md, "\n**{} {}:** {said}\n", clock(turn.offset_seconds), turn.speaker_type);
    }
    md
}

/// Writes SubRip subtitles.
#[must_use]
pub fn srt(view: &TranscriptView) -> String {
    let mut srt = String::new();
    for (number, (cue, turn)) in (1..).zip(cues(view).into_iter().zip(&view.turns)) {
        // The text is on one line, behind the speaker, so that no part of it is read as another cue.
        let said = plain_srt(&turn.message_text);
        let (from, to) = (timestamp(cue.0, ','), timestamp(cue.1, ','));
        let _ = write!(srt, "{number}\n{from} --> {to}\n{}: {said}\n\n", turn.speaker_type);
    }
    srt
}

/// Writes WebVTT subtitles.
#[must_use]
pub fn vtt(view: &TranscriptView) -> String {
    let mut vtt = "WEBVTT\n\n".to_owned();
    for (number, (cue, turn)) in (1..).zip(cues(view).into_iter().zip(&view.turns)) {
        let said = text::one_line(&turn.message_text);
        let said = said.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let (from, to) = (timestamp(cue.0, '.'), timestamp(cue.1, '.'));
        let _ = write!(vtt, "{number}\n{from} --> {to}\n<v {}>{said}\n\n", turn.speaker_type);
    }
    vtt
}

fn facts(view: &TranscriptView, call: &CallView) -> Vec<(&'static str, String)> {
    let data = call.call_data.as_ref();
    let verdict = match data.and_then(|data| data.call_successful) {
        Some(true) => ", successful",
        Some(false) => ", not successful",
        None => "",
    };
    let started = data.and_then(|data| data.call_start_time).unwrap_or(call.created_at);
    #[allow(clippy::cast_precision_loss)]
    let length = |data: &CallData| data.duration_seconds.map(|secs| clock(secs as f64));
    let cost = |data: &CallData| data.cost.as_ref().map(|cost| format!("{cost} credits"));
    let facts = [
        ("Conversation", view.conversation_id.clone()),
        ("Subject", call.subject.clone()),
        ("Agent", call.agent_id.clone()),
        ("Status", Some(format!("{}{verdict}", view.status))),
        ("Started", Some(day_and_time(started))),
        ("Duration", data.and_then(length)),
        ("Cost", data.and_then(cost)),
        ("Reason", data.and_then(|data| data.failure_reason.clone())),
        (
            "Turns from",
            Some(
                if view.source == TranscriptSource::Final { "the provider's transcript" } else { "the live stream" }
                    .into(),
            ),
        ),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn day_and_time(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
}

/// Returns `text` on one line, without a meaning in Markdown.
fn plain_md(text: &str) -> String {
    let safe = text::one_line(text.trim());
    let mut md = String::with_capacity(safe.len());
    let mut chars = safe.chars().enumerate().peekable();
    let mut before = ' ';
    while let Some((place, c)) = chars.next() {
        // An underscore inside a word has no meaning, and ids often contain it, so it is not escaped.
        let is_inside_word = before.is_alphanumeric() && chars.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        // `#`, `+`, `-` and `=` have a meaning only at the start of a line.
        let is_special = matches!(c, '\\' | '`' | '*' | '[' | ']' | '<' | '>' | '|' | '~' | '&' | '$')
            || (c == '_' && !is_inside_word)
            || (place == 0 && matches!(c, '#' | '+' | '-' | '='));
        if is_special {
            md.push('\\');
        }
        md.push(c);
        before = c;
    }
    md
}

/// Returns `text` on one line, without a meaning to a player of SubRip subtitles.
///
/// The format knows no escapes, but players read tags (`<i>`, `<font>`) and the braces of other formats (`{\an8}`,
/// `{y:i}`). An invisible word joiner behind the first character of such a tag keeps players from reading it as one.
fn plain_srt(text: &str) -> String {
    const WORD_JOINER: char = '\u{2060}';
    let safe = text::one_line(text);
    let mut srt = String::with_capacity(safe.len());
    for c in safe.chars() {
        srt.push(c);
        if matches!(c, '<' | '{' | '\\' | '&') {
            srt.push(WORD_JOINER);
        }
    }
    srt
}

/// Returns when each turn is shown, in milliseconds: from when it was spoken until it has been read or the next one is
/// shown.
fn cues(view: &TranscriptView) -> Vec<(i64, i64)> {
    let offsets: Vec<f64> = view.turns.iter().map(|turn| turn.offset_seconds).collect();
    #[allow(clippy::cast_possible_truncation)]
    let starts: Vec<i64> = make_monotonic(&offsets).into_iter().map(|secs| (secs * 1e3).round() as i64).collect();
    let cue = |(place, turn): (usize, &crate::api::TurnView)| {
        let length = i64::try_from(text::one_line(&turn.message_text).chars().count()).unwrap_or(i64::MAX);
        let read = length.saturating_mul(READING_MS_PER_CHAR).clamp(MIN_CUE_MS, MAX_CUE_MS);
        let start = starts[place];
        let next = starts.get(place + 1).copied().unwrap_or(i64::MAX);
        // If the next turn starts too soon, the two overlap.
        (start, start.saturating_add(read).min(next.max(start.saturating_add(MIN_CUE_MS))))
    };
    view.turns.iter().enumerate().map(cue).collect()
}

/// Formats `HH:MM:SS,mmm` with this separator before the milliseconds.
fn timestamp(ms: i64, separator: char) -> String {
    let (secs, ms) = (ms / 1000, ms % 1000);
    format!("{:02}:{:02}:{:02}{separator}{ms:03}", secs / 3600, secs / 60 % 60, secs % 60)
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
