//! `calls`: list, show, watch and export calls.

mod export;
mod watch;

use std::time::{Duration, SystemTime};

use callscope_common::api::CallView;
use callscope_common::transcript::clock;
use callscope_common::{Timestamp, text};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::args::{Calls, Format};
use crate::client::Client;
use crate::exit::{Exit, Failure, Result};
use crate::output::moment;
use crate::settings::Settings;
use crate::tail::outcome;

/// Most calls asked for at once.
const PAGE: u32 = 100;

/// Runs it.
pub async fn run(settings: &Settings, args: Calls) -> Result {
    let client = Client::new(settings)?;
    match args {
        Calls::Ls { status, agent, search, since, limit } => {
            let since = since.as_deref().map(moment_ago).transpose()?;
            let wanted = [
                ("status", status.map(|status| status.to_string())),
                ("agent_id", agent),
                ("q", search),
                ("since", since.map(|since| since.to_string())),
            ];
            let query: Vec<_> = wanted.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            list(settings, &client, &query, limit).await
        }
        Calls::Show { id } => {
            let raw = client.get_raw(&["api", "v1", "calls", &id], &[]).await.map_err(with_hint)?;
            settings.output(Format::Table).record(&raw, &fields(&read(&raw)?))?;
            Ok(Exit::Ok)
        }
        Calls::Watch { agent, ends, interval } => {
            let watch = watch::Watch { agent, ends, interval: Duration::from_secs(interval) };
            watch::run(settings, &client, watch).await
        }
        Calls::Export { id, format, source, to, force } => {
            export::run(settings, &client, export::Export { id, format, source, to, force }).await
        }
    }
}

fn with_hint(failure: Failure) -> Failure {
    if failure.exit == Exit::NotFound { failure.hint("see which there are: callscope calls ls") } else { failure }
}

async fn list(settings: &Settings, client: &Client, query: &[(&str, String)], limit: u32) -> Result {
    #[derive(Deserialize)]
    struct Page {
        calls: Vec<Box<RawValue>>,
        #[serde(default)]
        next_cursor: Option<String>,
    }
    let mut calls: Vec<Box<RawValue>> = Vec::new();
    let mut cursor = None;
    let mut left = limit;
    while left > 0 {
        let mut query = query.to_vec();
        query.push(("limit", left.min(PAGE).to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page: Page = client.get(&["api", "v1", "calls"], &query).await?;
        left = left.saturating_sub(u32::try_from(page.calls.len()).unwrap_or(u32::MAX));
        calls.extend(page.calls);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    calls.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let rows = calls.iter().map(|call| read(call).map(|call| row(&call))).collect::<Result<Vec<_>>>()?;
    let header = ["STARTED", "STATUS", "TURNS", "LENGTH", "CALL", "SUBJECT", "CONVERSATION"];
    // What stays on the narrowest screen is how it stands and which call it is.
    settings.output(Format::Table).list_without("calls", &calls, &header, &rows, &[6, 5, 3, 2, 0])?;
    if calls.is_empty() {
        settings.console.say("no calls");
    } else if cursor.is_some() {
        settings.console.say(format!("there are more: --limit {}", limit.saturating_mul(2)));
    }
    Ok(Exit::Ok)
}

fn read(raw: &RawValue) -> Result<CallView> {
    serde_json::from_str(raw.get()).map_err(|error| Failure::error(format!("the server's answer is no call: {error}")))
}

#[allow(clippy::cast_precision_loss)]
fn length(call: &CallView) -> String {
    let secs = call.call_data.as_ref().and_then(|data| data.duration_seconds);
    secs.map_or(String::new(), |secs| clock(secs as f64))
}

fn row(call: &CallView) -> Vec<String> {
    vec![
        moment(call.created_at),
        call.status.to_string(),
        call.turns.to_string(),
        length(call),
        call.call_sid.clone(),
        call.subject.clone().unwrap_or_default(),
        call.conversation_id.clone().unwrap_or_default(),
    ]
}

fn fields(call: &CallView) -> Vec<(&'static str, String)> {
    let result = call.call_data.as_ref().map(outcome);
    let (ended, summary) = result.map_or((String::new(), None), |(line, summary)| (line, summary));
    vec![
        ("call", call.call_sid.clone()),
        ("conversation", call.conversation_id.clone().unwrap_or_default()),
        ("identifiers", call.identifiers.join(" ")),
        ("call id", call.call_id.to_string()),
        ("status", call.status.to_string()),
        ("subject", call.subject.clone().unwrap_or_default()),
        ("agent", call.agent_id.clone().unwrap_or_default()),
        ("started", moment(call.created_at)),
        ("ended", call.call_end_time.map(moment).unwrap_or_default()),
        ("turns", call.turns.to_string()),
        ("newest event", call.seq.to_string()),
        ("recording", if call.has_audio { "kept".into() } else { String::new() }),
        ("result", ended),
        ("summary", summary.map(|summary| text::one_line(&summary).into_owned()).unwrap_or_default()),
    ]
}

/// Reads a time: RFC 3339, or how long ago.
pub(super) fn moment_ago(text: &str) -> Result<Timestamp> {
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        return Ok(at);
    }
    let now = Timestamp::from_system_time(SystemTime::now());
    span_secs(text).map(|secs| now.plus_secs(-secs)).ok_or_else(|| {
        Failure::usage(format!("{text:?} is no time; --since takes 2026-10-01T14:00:00Z, or 30m, 2h, 7d"))
    })
}

/// Reads a length of time such as `30m`, in seconds.
pub(super) fn span_secs(text: &str) -> Option<i64> {
    [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400), ("w", 604_800)].iter().find_map(|(unit, secs)| {
        let count: i64 = text.strip_suffix(unit)?.parse().ok().filter(|count| *count >= 0)?;
        count.checked_mul(*secs)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(moment_ago("1970-01-01T00:00:07Z").unwrap().as_unix_secs(), 7);
        let now = Timestamp::from_system_time(SystemTime::now());
        assert!((now.secs_since(moment_ago("2h").unwrap()) - 7200.0).abs() < 5.0);
        for wrong in ["", "h", "yesterday", "-1h", "99999999999999999w"] {
            assert_eq!(moment_ago(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }
}
