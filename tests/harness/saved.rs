//! Saved streams, as `tail --record` and a full-screen `tail` write them.

/// Returns the line of a turn at `secs` seconds after 14:00, with a line feed.
#[must_use]
pub fn turn_line(call_sid: &str, seq: usize, speaker: &str, text: &str, secs: usize) -> String {
    let (text, minutes, secs) = (serde_json::Value::from(text), secs / 60 % 60, secs % 60);
    format!(
        "{{\"type\":\"transcription\",\"conversation_id\":null,\"call_sid\":\"{call_sid}\",\"transcription_id\":{seq},\
         \"sequence_number\":{seq},\"speaker_type\":\"{speaker}\",\"message_text\":{text},\
         \"timestamp\":\"2026-10-01T14:{minutes:02}:{secs:02}Z\",\"seq\":{seq}}}\n"
    )
}
