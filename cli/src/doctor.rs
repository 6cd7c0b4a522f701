//! `callscope doctor`: checks the settings, the way to the server, the server, the token and the terminal. Each check
//! that fails says what to do.

mod network;
mod server;
mod surroundings;

use std::time::Duration;

use serde::Serialize;

use crate::exit::{Exit, Result};
use crate::render::{Format, Output, Safe, Tint};
use crate::settings::Settings;

/// Runs all checks. Each step that waits for the network takes `time_limit` at most.
pub(crate) async fn run(settings: &Settings, time_limit: Duration) -> Result {
    let mut report = Report { output: settings.output(Format::Table), checks: Vec::new(), is_header_printed: false };
    report.add(surroundings::check_settings(settings))?;
    let health = network::check(settings, time_limit, &mut report).await?;
    server::check(settings, time_limit, health, &mut report).await?;
    report.add(surroundings::check_terminal(settings))?;
    report.finish(settings)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// What was checked works, but something about it should be changed.
    Warning,
    Failed,
    /// There was nothing to check, or a check that this one depends on failed.
    Skipped,
}

/// The result of one check.
#[derive(Debug, Clone, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What was found.
    detail: String,
    /// What to do about a warning or a failure.
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
        Self::failed_with_hint(name, detail, Some(remedy.into()))
    }

    fn failed_with_hint(name: &'static str, detail: impl Into<String>, hint: Option<String>) -> Self {
        Self { state: State::Failed, remedy: hint, ..Self::ok(name, detail) }
    }
}

/// Collects the checks, and prints each at once unless the format is one JSON document.
struct Report {
    output: Output,
    checks: Vec<Check>,
    is_header_printed: bool,
}

impl Report {
    fn add(&mut self, check: Check) -> Result<()> {
        match self.output.format {
            // One document is printed at the end.
            Format::Json => {}
            Format::Ndjson => {
                self.output.write(&Safe::json_line(&serde_json::to_string(&check)?))?;
            }
            Format::Text => {
                let cells =
                    [check.name, state_text(check.state), &check.detail, check.remedy.as_deref().unwrap_or_default()];
                self.output.write(&Safe::tabbed(&cells))?;
            }
            Format::Table => self.print_row(&check)?,
        }
        self.checks.push(check);
        Ok(())
    }

    fn print_row(&mut self, check: &Check) -> Result<()> {
        if !std::mem::replace(&mut self.is_header_printed, true) {
            self.output.line("CHECK      STATE    DETAIL", Tint::Header)?;
        }
        let tint = match check.state {
            State::Ok => Tint::Good,
            State::Warning => Tint::Warning,
            State::Failed => Tint::Bad,
            State::Skipped => Tint::Plain,
        };
        self.output.write_tinted_wrapped(
            &format!("{:<10} {:<8} ", check.name, state_text(check.state)),
            &check.detail,
            tint,
        )?;
        match &check.remedy {
            Some(remedy) => self.output.write_tinted_wrapped("           do:      ", remedy, Tint::Plain),
            None => Ok(()),
        }
    }

    fn finish(mut self, settings: &Settings) -> Result {
        if self.output.format == Format::Json {
            self.output.record(&serde_json::json!({"checks": self.checks}), &[])?;
        }
        let count = |state| self.checks.iter().filter(|check| check.state == state).count();
        let (failed, warnings) = (count(State::Failed), count(State::Warning));
        match (failed, warnings) {
            (0, 0) => settings.console.say("all is well"),
            (0, warnings) => settings.console.say(format!("everything works; warnings: {warnings}")),
            (failed, _) => settings.console.say(format!("failed: {failed}")),
        }
        Ok(if failed > 0 { Exit::CheckFailed } else { Exit::Ok })
    }
}

fn state_text(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Warning => "warning",
        State::Failed => "FAILED",
        State::Skipped => "skipped",
    }
}
