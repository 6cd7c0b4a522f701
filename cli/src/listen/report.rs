//! A line for each delivery, on stdout.

use std::time::Duration;

use callscope_common::api::{Attempt, DeliveryView};
use serde_json::json;

use super::target_client::duplicate;
use crate::exit::Result;
use crate::render::{Format, Output, Safe, Tint};
use crate::settings::Settings;

/// Most characters shown of what a target said.
const MAX_SAID: usize = 120;

/// Writes the lines.
pub(crate) struct Report {
    output: Output,
}

/// What became of a delivery.
pub(crate) struct Sent<'s> {
    pub(crate) view: &'s DeliveryView,
    /// The target's status.
    pub(crate) status: Option<u16>,
    /// What it said.
    pub(crate) text: &'s str,
    /// Which try it was.
    pub(crate) attempt: u32,
    /// Whether the target may have seen it before.
    pub(crate) seen: bool,
    /// How long the answer took.
    pub(crate) took: Duration,
}

impl Report {
    /// As the flags ask for.
    pub(crate) fn new(settings: &Settings) -> Self {
        Self { output: settings.output(Format::Text) }
    }

    /// A delivery that goes nowhere.
    pub(crate) fn shown(&mut self, view: &DeliveryView) -> Result<()> {
        if self.output.is_json() {
            return self.output.write(&Safe::json_line(&json!({"type": "delivery", "delivery": view}).to_string()));
        }
        self.output.write(&Safe::line(facts(view).trim_end()).end())
    }

    /// A webhook that the server refused, since its signature does not fit.
    pub(crate) fn refused(&mut self, attempt: &Attempt) -> Result<()> {
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
        self.output.write(&line.end())
    }

    /// A delivery that the target answered, or that was given up.
    pub(crate) fn forwarded(&mut self, sent: &Sent<'_>) -> Result<()> {
        let Sent { view, status, text: said, attempt, seen, took } = sent;
        let ok = status.is_some_and(|status| (200..300).contains(&status));
        let tint = if ok { Tint::Good } else { Tint::Bad };
        let duplicate = duplicate(view, *seen);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        if self.output.is_json() {
            let line = json!({
                "type": "forwarded", "delivery_id": view.delivery_id, "call_id": view.call_id, "call_sid": view.call_sid,
                "kind": view.kind, "verdict": view.verdict, "status": status, "ok": ok, "attempt": attempt,
                "duplicate": (!duplicate.is_empty()).then_some(duplicate), "took_ms": took_ms,
                "answer": (!ok).then_some(said),
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
            let short: String = said.chars().take(MAX_SAID).collect();
            line.push_str(&format!("  {}", short.trim()));
        }
        let line = self.output.tinted(Safe::line(&line), tint);
        self.output.write(&line.end())
    }
}

/// When, what, how taken, whose.
fn facts(view: &DeliveryView) -> String {
    let at = view.received_at.to_string();
    let call = view.call_sid.as_deref().unwrap_or("-");
    let kind = view.kind.as_deref().unwrap_or(view.route.as_str());
    format!("{}  {kind:<23}  {:<9}  {call}", at.get(11..19).unwrap_or_default(), view.verdict)
}
