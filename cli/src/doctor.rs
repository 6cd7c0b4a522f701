//! `doctor`: is everything as it should be, from here to the server and back? Each check that fails says what to do.

mod network;
mod server;
mod surroundings;

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::exit::{Exit, Failure, Result};
use crate::render::{Format, Output, Safe, Tint};
use crate::settings::Settings;

/// Makes every check; each may take as long as `patience`.
pub(crate) async fn run(settings: &Settings, patience: Duration) -> Result {
    let mut report = Report { output: settings.output(Format::Table), checks: Vec::new(), has_header: false };
    report.add(surroundings::context(settings))?;
    let reached = network::check(settings, patience, &mut report).await?;
    server::check(settings, patience, reached, &mut report).await?;
    report.add(surroundings::terminal(settings))?;
    report.end(settings)
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// As it should be.
    Ok,
    /// It works, but not as well as it could.
    Warning,
    /// It does not work.
    Failed,
    /// There was nothing to check, or another check failed that it needs.
    Skipped,
}

/// A check that was made.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What was seen.
    detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, state: State::Ok, detail: detail.into(), remedy: None }
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { state: State::Skipped, ..Self::ok(name, why) }
    }

    fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Warning, remedy: Some(remedy.into()), ..Self::ok(name, detail) }
    }

    fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Failed, remedy: Some(remedy.into()), ..Self::ok(name, detail) }
    }
}

/// The checks, each shown as soon as it was made.
struct Report {
    output: Output,
    checks: Vec<Check>,
    has_header: bool,
}

impl Report {
    fn add(&mut self, check: Check) -> Result<()> {
        match self.output.format {
            Format::Json => {}
            Format::Ndjson => {
                let json = serde_json::to_string(&check).map_err(|error| Failure::error(error.to_string()))?;
                self.output.write(&Safe::json_line(&json))?;
            }
            Format::Text => {
                let cells = [check.name, word(check.state), &check.detail, check.remedy.as_deref().unwrap_or_default()];
                self.output.write(&Safe::tabbed(&cells))?;
            }
            Format::Table => self.show(&check)?,
        }
        self.checks.push(check);
        Ok(())
    }

    fn show(&mut self, check: &Check) -> Result<()> {
        if !std::mem::replace(&mut self.has_header, true) {
            self.output.line("CHECK      STATE    DETAIL", Tint::Header)?;
        }
        let tint = match check.state {
            State::Ok => Tint::Good,
            State::Warning => Tint::Odd,
            State::Failed => Tint::Bad,
            State::Skipped => Tint::Plain,
        };
        self.output.write_tinted_wrapped(
            &format!("{:<10} {:<8} ", check.name, word(check.state)),
            &check.detail,
            tint,
        )?;
        match &check.remedy {
            Some(remedy) => self.output.write_tinted_wrapped("           do:      ", remedy, Tint::Plain),
            None => Ok(()),
        }
    }

    fn end(mut self, settings: &Settings) -> Result {
        if self.output.format == Format::Json {
            let json = serde_json::to_string(&serde_json::json!({"checks": self.checks}));
            let raw = json.and_then(RawValue::from_string).map_err(|error| Failure::error(error.to_string()))?;
            self.output.record(&raw, &[])?;
        }
        let count = |state| self.checks.iter().filter(|check| check.state == state).count();
        let (failed, warnings) = (count(State::Failed), count(State::Warning));
        match (failed, warnings) {
            (0, 0) => settings.console.say("all is well"),
            (0, warnings) => settings.console.say(format!("it works; to be looked at: {warnings}")),
            (failed, _) => settings.console.say(format!("failed: {failed}")),
        }
        Ok(if failed > 0 { Exit::CheckFailed } else { Exit::Ok })
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Failed => "FAILED",
        State::Skipped => "skipped",
    }
}
