//! `calls watch`: a line for every call that begins, moves on or ends.
//!
//! It polls the newest calls and all live calls. A call in neither list is old and has ended.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use callscope_common::api::CallView;
use callscope_common::transcript::clock;
use callscope_common::{CallId, CallStatus, Seq, text};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::{Client, Raw};
use crate::clock;
use crate::exit::{Exit, Result};
use crate::net::Backoff;
use crate::render::{Format, Output, Safe, Tint, outcome};
use crate::settings::Settings;

/// How many calls one request of a poll asks for.
const PAGE_LEN: u32 = 500;
/// Above this number of remembered calls, those that the last poll did not return are forgotten.
const MAX_REMEMBERED_CALLS: usize = 100_000;
/// A terminal with at least this many columns has room for every column of a line.
const FULL_LINE_WIDTH: usize = 80;

pub(crate) struct Watch {
    /// Only calls of this agent.
    pub(crate) agent: Option<String>,
    /// Only calls that begin or end, not every turn.
    pub(crate) ends: bool,
    /// Time between two polls.
    pub(crate) interval: Duration,
}

/// Watches until the output is closed or the server refuses the client.
pub(crate) async fn run(settings: &Settings, client: &Client, watch: Watch) -> Result {
    let mut output = settings.output(Format::Table);
    let mut seen: Option<HashMap<CallId, Seen>> = None;
    let mut backoff = Backoff::default();
    let mut is_lost = false;
    loop {
        match poll(client, &watch).await {
            Ok(calls) => {
                if is_lost {
                    settings
                        .console
                        .say("connected again; calls that began and ended meanwhile are shown as they are now");
                    is_lost = false;
                    backoff = Backoff::default();
                }
                show(&mut output, &watch, &mut seen, calls)?;
                tokio::time::sleep(watch.interval).await;
            }
            // Only a server that has answered before is retried, and only if it is unreachable.
            Err(failure) if failure.exit != Exit::Unreachable || seen.is_none() => return Err(failure),
            Err(failure) => {
                if !is_lost {
                    settings.console.warn(format!("{}; trying again", failure.message));
                    is_lost = true;
                }
                tokio::time::sleep(backoff.next(None).max(watch.interval)).await;
            }
        }
    }
}

/// The state of a call at the last poll.
struct Seen {
    seq: Seq,
    turns: i64,
    status: CallStatus,
}

/// Fetches the newest calls and the live ones, least recently updated first.
async fn poll(client: &Client, watch: &Watch) -> Result<Vec<Raw<CallView>>> {
    let mut calls: HashMap<CallId, Raw<CallView>> = HashMap::new();
    for status in [None, Some(CallStatus::InProgress), Some(CallStatus::Initiated)] {
        let mut query = vec![("limit", PAGE_LEN.to_string())];
        query.extend(status.map(|status| ("status", status.to_string())));
        query.extend(watch.agent.clone().map(|agent| ("agent_id", agent)));
        // A call that is in several answers is taken from the latest.
        calls.extend(client.calls(&query).await?.items.into_iter().map(|call| (call.value.call_id, call)));
    }
    let mut calls: Vec<_> = calls.into_values().collect();
    calls.sort_by_key(|call| (call.value.updated_at, call.value.call_id));
    Ok(calls)
}

/// Prints what changed since the last poll. The first poll prints the live calls.
fn show(
    output: &mut Output,
    watch: &Watch,
    seen: &mut Option<HashMap<CallId, Seen>>,
    calls: Vec<Raw<CallView>>,
) -> Result<()> {
    let is_first = seen.is_none();
    if is_first && output.format == Format::Table {
        let header = ["TIME", "WHAT", "CALL", "TURNS", ""].map(str::to_owned);
        output.line(&line(&header, output.width()), Tint::Header)?;
    }
    let seen = seen.get_or_insert_default();
    if seen.len() > MAX_REMEMBERED_CALLS {
        let listed: HashSet<CallId> = calls.iter().map(|call| call.value.call_id).collect();
        seen.retain(|id, _| listed.contains(id));
    }
    for Raw { json, value: call } in calls {
        let now = Seen { seq: call.seq, turns: call.turns, status: call.status };
        let what = what(seen.get(&call.call_id), &now);
        let is_shown = match what {
            None => false,
            Some(_) if is_first => !call.status.is_ended(),
            Some(What::Turns) => !watch.ends,
            Some(_) => true,
        };
        if let Some(what) = what.filter(|_| is_shown) {
            write(output, if is_first { What::Live } else { what }, &json, &call)?;
        }
        seen.insert(call.call_id, now);
    }
    Ok(())
}

/// What happened to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum What {
    /// It was live already.
    Live,
    /// It is new.
    Began,
    /// More was said.
    Turns,
    Ended,
    /// Its result changed after its end.
    Changed,
}

fn what(before: Option<&Seen>, now: &Seen) -> Option<What> {
    let Some(before) = before else { return Some(if now.status.is_ended() { What::Ended } else { What::Began }) };
    if now.status.is_ended() && !before.status.is_ended() {
        return Some(What::Ended);
    }
    if now.turns != before.turns {
        return Some(What::Turns);
    }
    (now.seq != before.seq || now.status != before.status).then_some(What::Changed)
}

fn write(output: &mut Output, what: What, raw: &RawValue, call: &CallView) -> Result<()> {
    if output.is_json() {
        // `-o json` writes NDJSON too, because an endless list cannot be closed.
        let word = serde_json::to_string(&what).unwrap_or_default();
        return output.write(&Safe::json_line(&format!("{{\"what\":{word},\"call\":{}}}", raw.get())));
    }
    let row = row(what, call);
    if output.format == Format::Text {
        return output.write(&Safe::tabbed(&row));
    }
    output.line(&line(&row, output.width()), tint(what, call))
}

fn tint(what: What, call: &CallView) -> Tint {
    match what {
        What::Live | What::Began => Tint::Good,
        What::Ended if call.status == CallStatus::Failed => Tint::Bad,
        _ => Tint::Plain,
    }
}

fn row(what: What, call: &CallView) -> [String; 5] {
    let word = match what {
        What::Live => "live",
        What::Began => "began",
        What::Turns => "turns",
        What::Ended => "ended",
        What::Changed => "changed",
    };
    let result = match (&call.call_data, what) {
        (Some(data), What::Ended | What::Changed) => outcome(data).0,
        _ => {
            let lasted = clock::now().secs_since(call.created_at);
            format!("{} {}", call.status, clock(lasted))
        }
    };
    let at = call.updated_at.to_string();
    [
        at.get(11..19).unwrap_or_default().to_owned(),
        word.to_owned(),
        call.call_sid.clone(),
        call.turns.to_string(),
        result,
    ]
}

/// Formats a line with fixed column widths, because later lines are not known yet. A narrow terminal shows no result
/// and only the end of the call's name, which tells calls apart.
fn line(row: &[String; 5], width: Option<usize>) -> String {
    let [time, what, call, turns, rest] = row.each_ref().map(|cell| text::one_line(cell));
    if let Some(width) = width.filter(|width| *width < FULL_LINE_WIDTH) {
        let room = width.saturating_sub(26);
        let skip = call.chars().count().saturating_sub(room);
        let call: String =
            if skip == 0 { call.into() } else { format!("…{}", call.chars().skip(skip + 1).collect::<String>()) };
        return format!("{time:<8}  {what:<7}  {turns:>5}  {call}\n");
    }
    format!("{}\n", format!("{time:<8}  {what:<7}  {call:<36}  {turns:>5}  {rest}").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_line_keeps_the_end_of_the_calls_name() {
        let row = ["04:45:22", "ended", "CAaf9d418f1327486d80838861c851a9f4", "10", "completed"].map(str::to_owned);
        assert_eq!(line(&row, Some(40)), "04:45:22  ended       10  …38861c851a9f4\n");
        assert!(
            line(&row, Some(80)).contains("CAaf9d418f1327486d80838861c851a9f4")
                && line(&row, None).contains("completed")
        );
    }

    fn seen(seq: Seq, turns: i64, status: CallStatus) -> Seen {
        Seen { seq, turns, status }
    }

    #[test]
    fn what_happened_is_told_from_two_looks() {
        use CallStatus::{Completed, Failed, InProgress, Initiated};
        let cases = [
            (None, seen(0, 0, Initiated), Some(What::Began)),
            // It began and ended between two looks.
            (None, seen(9, 7, Completed), Some(What::Ended)),
            (Some(seen(1, 1, InProgress)), seen(1, 1, InProgress), None),
            (Some(seen(1, 1, InProgress)), seen(3, 3, InProgress), Some(What::Turns)),
            (Some(seen(1, 1, InProgress)), seen(5, 3, Failed), Some(What::Ended)),
            (Some(seen(5, 3, Completed)), seen(6, 3, Completed), Some(What::Changed)),
            (Some(seen(5, 3, Completed)), seen(6, 4, Completed), Some(What::Turns)),
        ];
        for (place, (before, now, expected)) in cases.into_iter().enumerate() {
            assert_eq!(what(before.as_ref(), &now), expected, "case {place}");
        }
    }
}
