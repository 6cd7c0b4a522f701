//! Prints a line for each delivery to stdout.

use std::time::Duration;

use callscope_common::api::{Attempt, DeliveryView};
use serde_json::json;

use super::target_client::duplicate;
use crate::exit::Result;
use crate::render::{Format, Output, Safe, Tint};
use crate::settings::Settings;

/// How many characters of an answer of the target are printed.
const MAX_ANSWER_CHARS: usize = 120;

pub(crate) struct Report {
    output: Output,
}

/// A delivery that was sent, and the last answer.
pub(crate) struct Sent<'s> {
    pub(crate) view: &'s DeliveryView,
    /// The status of the answer; `None` if there was none.
    pub(crate) status: Option<u16>,
    /// The beginning of the answer, or why there was none.
    pub(crate) text: &'s str,
    /// The number of the attempt, from 1.
    pub(crate) attempt: u32,
    /// Whether an earlier attempt may have reached the target.
    pub(crate) may_be_repeat: bool,
    /// How long the answer took.
    pub(crate) took: Duration,
}

impl Report {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { output: settings.output(Format::Text) }
    }

    /// Writes a delivery that is not forwarded.
    pub(crate) fn write_received(&mut self, view: &DeliveryView) -> Result<()> {
        if self.output.is_json() {
            return self.output.write(&Safe::json_line(&json!({"type": "delivery", "delivery": view}).to_string()));
        }
        self.output.write(&Safe::line(facts(view).trim_end()).with_newline())
    }

    /// Writes a webhook that the server refused because of its signature.
    pub(crate) fn write_refused(&mut self, attempt: &Attempt) -> Result<()> {
        if self.output.is_json() {
            let line = json!({"type": "refused", "attempt": attempt}).to_string();
            return self.output.write(&Safe::json_line(&line));
        }
        let at = attempt.at.to_string();
        let (from, cause) = (attempt.remote_addr.as_deref().unwrap_or("-"), attempt.diagnosis.as_deref());
        let cause = cause.map_or(String::new(), |cause| format!("; likely cause: {cause}"));
        let line = format!(
            "{}  {:<23}  refused    from {from}: {}{cause}",
            at.get(11..19).unwrap_or_default(),
            attempt.route,
            attempt.reason
        );
        let line = self.output.tinted(Safe::line(&line), Tint::Bad);
        self.output.write(&line.with_newline())
    }

    /// Writes a delivery that the target answered, or whose retries have ended.
    pub(crate) fn write_forwarded(&mut self, sent: &Sent<'_>) -> Result<()> {
        let Sent { view, status, text, attempt, may_be_repeat, took } = sent;
        let ok = status.is_some_and(|status| (200..300).contains(&status));
        let tint = if ok { Tint::Good } else { Tint::Bad };
        let duplicate = duplicate(view, *may_be_repeat);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if self.output.is_json() {
            let line = json!({
                "type": "forwarded", "delivery_id": view.delivery_id, "call_id": view.call_id, "call_sid": view.call_sid,
                "kind": view.kind, "verdict": view.verdict, "status": status, "ok": ok, "attempt": attempt,
                "duplicate": (!duplicate.is_empty()).then_some(duplicate), "took_ms": took_ms,
                "answer": (!ok).then_some(text),
            });
            return self.output.write(&Safe::json_line(&line.to_string()));
        }
        let answer = status.map_or("no answer".into(), |status| status.to_string());
        let mut line = format!("{}  -> {answer} in {took_ms} ms", facts(view));
        if *attempt > 1 {
            line.push_str(&format!(", attempt {attempt}"));
        }
        if !duplicate.is_empty() {
            line.push_str(&format!(", duplicate: {duplicate}"));
        }
        if !ok {
            let short: String = text.chars().take(MAX_ANSWER_CHARS).collect();
            line.push_str(&format!("  {}", short.trim()));
        }
        let line = self.output.tinted(Safe::line(&line), tint);
        self.output.write(&line.with_newline())
    }
}

/// Returns the time, the kind, the verdict and the call of a delivery.
fn facts(view: &DeliveryView) -> String {
    let at = view.received_at.to_string();
    let call = view.call_sid.as_deref().unwrap_or("-");
    let kind = view.kind.as_deref().unwrap_or(view.route.as_str());
    format!("{}  {kind:<23}  {:<9}  {call}", at.get(11..19).unwrap_or_default(), view.verdict)
}
