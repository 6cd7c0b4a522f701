//! `calls`: list, show, watch and export calls.

mod export;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use callscope_common::api::CallView;
use callscope_common::transcript::clock;
use callscope_common::{Timestamp, text};
use clap::{Subcommand, ValueEnum};
use serde_json::value::RawValue;
use unicode_normalization::UnicodeNormalization as _;

use super::complete;
use crate::api::{Client, MAX_LIST_BYTES, Query, Raw, too_long};
use crate::exit::{Exit, Failure, Result};
use crate::render::{Format, format_utc, outcome};
use crate::settings::Settings;
use crate::{clock, duration};

/// `calls`.
#[derive(Debug, Subcommand)]
pub(crate) enum Calls {
    /// The calls, newest first
    Ls {
        /// Only calls of this status: initiated, in_progress, completed, failed
        #[arg(long)]
        status: Option<callscope_common::CallStatus>,
        /// Only calls of this agent
        #[arg(long, value_name = "ID")]
        agent: Option<String>,
        /// Only calls in which this occurs
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only calls since this time: 2026-10-01, 2026-10-01T14:00:00Z, Unix seconds, or 30m, 1h30m, 7d ago
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Number of calls to list
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One call: state, result, identifiers
    Show {
        /// Any identifier of the call
        #[arg(add = complete::calls())]
        id: String,
    },
    /// A line for every call that begins, moves on or ends, as it happens
    #[command(after_help = "Ends with Ctrl-C. For the words of a call: callscope tail ID")]
    Watch {
        /// Only calls of this agent
        #[arg(long, value_name = "ID")]
        agent: Option<String>,
        /// Only beginnings and ends, not every turn
        #[arg(long)]
        ends: bool,
        /// Seconds between two looks at the server
        #[arg(long, value_name = "SECS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
        interval: u64,
    },
    /// A call as a file: what was said, or every event
    #[command(
        after_help = "txt   a line a turn\nmd    for reading: result, summary and turns\njson  the turns with their times\n\
        ndjson  every event as the stream sends it; callscope play shows it again\nsrt, vtt  subtitles for the recording"
    )]
    Export {
        /// Any identifier of the call
        #[arg(add = complete::calls())]
        id: String,
        /// What to make of it [default: by the ending of --to, else txt]
        #[arg(long, value_name = "FORMAT")]
        format: Option<Kind>,
        /// Whose turns: those that came live, the provider's final ones, or the first of these there are
        #[arg(long, value_name = "SOURCE", default_value = "auto", value_parser = ["auto", "live", "final"])]
        source: String,
        /// The file to write; never a half one
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
        /// Take the place of a file that is there
        #[arg(long, requires = "to")]
        force: bool,
    },
}

/// What `export` makes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A line a turn
    Txt,
    /// Markdown
    Md,
    /// The turns as JSON
    Json,
    /// Every event, one a line
    Ndjson,
    /// SubRip subtitles
    Srt,
    /// WebVTT subtitles
    Vtt,
}

/// How many calls one request asks for.
const PAGE_LEN: u32 = 100;

pub(crate) async fn run(settings: &Settings, args: Calls) -> Result {
    let client = Client::new(settings)?;
    match args {
        Calls::Ls { status, agent, search, since, limit } => {
            let since = since.as_deref().map(parse_time).transpose()?;
            let wanted = [
                ("status", status.map(|status| status.to_string())),
                ("agent_id", agent),
                ("q", search.map(|text| text.nfc().collect())),
                ("since", since.map(|since| since.to_string())),
            ];
            let query: Vec<_> = wanted.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
            list(settings, &client, &query, limit).await
        }
        Calls::Show { id } => {
            let call = client.call(&id).await.map_err(with_hint)?;
            settings.output(Format::Table).record(&call.json, &fields(&call.value))?;
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

async fn list(settings: &Settings, client: &Client, query: &Query, limit: u32) -> Result {
    let mut calls: Vec<Raw<CallView>> = Vec::new();
    let mut cursor = None;
    let mut left = limit;
    while left > 0 {
        let mut query = query.to_vec();
        query.push(("limit", left.min(PAGE_LEN).to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page = client.calls(&query).await?;
        let is_empty = page.items.is_empty();
        left = left.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
        calls.extend(page.items);
        check_list_size(&calls)?;
        cursor = page.next_cursor;
        // An empty page ends the list even if it has a cursor, so that a faulty server causes no endless loop.
        if cursor.is_none() || is_empty {
            break;
        }
    }
    calls.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let rows: Vec<_> = calls.iter().map(|call| row(&call.value)).collect();
    let header = ["STARTED", "STATUS", "TURNS", "LENGTH", "CALL", "SUBJECT", "CONVERSATION"];
    // The narrowest screen shows only STATUS and CALL.
    settings.output(Format::Table).list_to_fit("calls", &calls, &header, &rows, &[6, 5, 3, 2, 0])?;
    if calls.is_empty() {
        settings.console.say("no calls");
    } else if cursor.is_some() {
        settings.console.say(format!("there are more: --limit {}", limit.saturating_mul(2)));
    }
    Ok(Exit::Ok)
}

/// Returns an error if a list collected from several pages exceeds [`MAX_LIST_BYTES`].
pub(super) fn check_list_size(items: &[impl AsRef<RawValue>]) -> Result<()> {
    let length: usize = items.iter().map(|item| item.as_ref().get().len()).sum();
    if length > MAX_LIST_BYTES { Err(too_long("the list", MAX_LIST_BYTES)) } else { Ok(()) }
}

#[allow(clippy::cast_precision_loss)]
fn length(call: &CallView) -> String {
    let secs = call.call_data.as_ref().and_then(|data| data.duration_seconds);
    secs.map_or(String::new(), |secs| clock(secs as f64))
}

fn row(call: &CallView) -> Vec<String> {
    vec![
        format_utc(call.created_at),
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
        ("started", format_utc(call.created_at)),
        ("ended", call.call_end_time.map(format_utc).unwrap_or_default()),
        ("turns", call.turns.to_string()),
        ("newest event", call.seq.to_string()),
        ("recording", if call.has_audio { "kept".into() } else { String::new() }),
        ("result", ended),
        ("summary", summary.map(|summary| text::one_line(&summary).into_owned()).unwrap_or_default()),
    ]
}

/// Parses a time: RFC 3339, a date, Unix seconds, or how long ago.
pub(super) fn parse_time(text: &str) -> Result<Timestamp> {
    let now = clock::now();
    absolute(text).or_else(|| duration::parse_secs(text).map(|secs| now.plus_secs(-secs))).ok_or_else(|| {
        Failure::usage(format!(
            "{text:?} is not a time; it takes 2026-10-01, 2026-10-01T14:00:00Z, Unix seconds such as 1790855035, or how long ago: \
             30m, 1h30m, 7d"
        ))
    })
}

/// Parses a time that is not relative to now. A time without a zone is UTC.
fn absolute(text: &str) -> Option<Timestamp> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Timestamp::from_unix_secs(text.parse().ok()?);
    }
    if let Some(at) = Timestamp::parse_rfc3339(text) {
        return Some(at);
    }
    let (date, time) = text.split_once(['T', 't', ' ']).unwrap_or((text, "00:00:00"));
    let seconds = if time.len() == 5 { ":00" } else { "" };
    Timestamp::parse_rfc3339(&format!("{date}T{time}{seconds}Z"))
        .or_else(|| Timestamp::parse_rfc3339(&format!("{date}T{time}")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        assert_eq!(parse_time("1970-01-01T00:00:07Z").unwrap().as_unix_secs(), 7);
        let now = clock::now();
        for (text, secs) in [("2h", 7200.0), ("1h30m", 5400.0), ("1w2d", 777_600.0), ("90s", 90.0)] {
            assert!((now.secs_since(parse_time(text).unwrap()) - secs).abs() < 5.0, "{text}");
        }
        let at = |text: &str| parse_time(text).unwrap().to_string();
        for (text, expected) in [
            ("2026-11-25", "2026-11-25T00:00:00.000000Z"),
            ("2026-11-25T14:05", "2026-11-25T14:05:00.000000Z"),
            ("2026-11-25 14:05:06", "2026-11-25T14:05:06.000000Z"),
            ("2026-11-25 14:05:06.5Z", "2026-11-25T14:05:06.500000Z"),
            ("2026-11-25T14:05:06+02:00", "2026-11-25T12:05:06.000000Z"),
            ("1790855035", "2026-10-01T11:43:55.000000Z"),
        ] {
            assert_eq!(at(text), expected, "{text}");
        }
        for wrong in
            ["", "h", "yesterday", "-1h", "1m1h", "1h1h", "1x", "2026-13-01", "2026-11-25T25:00", "99999999999999999w"]
        {
            assert_eq!(parse_time(wrong).unwrap_err().exit, Exit::Usage, "{wrong}");
        }
    }
}
