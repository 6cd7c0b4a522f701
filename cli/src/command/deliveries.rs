//! `deliveries`: what came in.

mod export;
mod show;

use std::path::PathBuf;

use callscope_common::api::{Attempt, DeliveryView, Verdict};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args as ClapArgs, Subcommand};
use serde_json::value::to_raw_value;
use unicode_normalization::UnicodeNormalization as _;

use super::calls::{check_list_size, parse_time};
use crate::api::{Client, Raw};
use crate::exit::{Exit, Failure, Result};
use crate::render::{Format, format_utc, last_argument};
use crate::settings::Settings;

/// `deliveries`.
#[derive(Debug, Subcommand)]
pub(crate) enum Deliveries {
    /// What came in, newest first
    Ls {
        #[command(flatten)]
        which: Which,
        /// Number of deliveries to list
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// One delivery: its headers, its bytes, its answer, and what it changed
    Show {
        /// Id of the delivery
        id: String,
        /// Print nothing but the body, byte for byte
        #[arg(long)]
        body: bool,
    },
    /// Have deliveries taken up once more: as the same ones, so that what took effect already is answered as a repeat
    Replay {
        /// Ids of the deliveries
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// As new ones: they take effect again
        #[arg(long)]
        as_new: bool,
    },
    /// Write deliveries as fixtures: one JSON line each (bytes and headers), or a folder of payloads
    Export(Export),
}

#[derive(Debug, Clone, Default, ClapArgs)]
pub(crate) struct Which {
    /// Only of this verdict; `unverified` lists the attempts whose signature did not fit
    #[arg(long, value_name = "VERDICT", value_parser = verdicts())]
    pub(crate) verdict: Option<Verdict>,
    /// Only of this type, such as post_call_transcription, turn, partial
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// Only of this call: any identifier of it
    #[arg(long, value_name = "ID")]
    pub(crate) call: Option<String>,
    /// Only those in whose body, reason or address this occurs
    #[arg(long, value_name = "TEXT")]
    pub(crate) search: Option<String>,
    /// Only since this time: 2026-10-01, 2026-10-01T14:00:00Z, Unix seconds, or 30m, 1h30m, 7d ago
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only until this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

pub(crate) fn verdicts() -> impl TypedValueParser<Value = Verdict> {
    let values = [
        (Verdict::Accepted, "It took effect"),
        (Verdict::Duplicate, "It had been received before"),
        (Verdict::Ignored, "It was kept and nothing was done"),
        (Verdict::Rejected, "It was refused"),
        (Verdict::Unverified, "Its signature did not fit"),
    ];
    PossibleValuesParser::new(values.map(|(verdict, help)| PossibleValue::new(verdict.as_str()).help(help)))
        .try_map(|text| text.parse::<Verdict>())
}

/// `deliveries export`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Export {
    /// Ids of deliveries; none: those that the filters choose
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Most deliveries to export
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Write each body to a file of its own in this folder instead
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
    /// Replace phone numbers, e-mail addresses and names, drop recordings, addresses and all headers but the type
    #[arg(long)]
    pub(crate) redact: bool,
    /// Replace the value at this path too, such as `data.metadata.note` or `data.transcript[*].message`
    #[arg(long, value_name = "PATH")]
    pub(crate) redact_field: Vec<crate::redact::Path>,
}

/// How many deliveries one request asks for.
const PAGE_LEN: u32 = 500;

pub(crate) async fn run(settings: &Settings, args: Deliveries) -> Result {
    let client = Client::new(settings)?;
    match args {
        Deliveries::Ls { which, limit } if which.verdict == Some(Verdict::Unverified) => {
            attempts(settings, &client, &which, limit).await
        }
        Deliveries::Ls { which, limit } => list(settings, &client, &which, limit).await,
        Deliveries::Show { id, body } => show::run(settings, &client, &id, body).await,
        Deliveries::Replay { ids, as_new } => replay(settings, &client, &ids, as_new).await,
        Deliveries::Export(args) => export::run(settings, &client, args).await,
    }
}

/// Returns the filters as query parameters.
fn query(which: &Which) -> Result<Vec<(&'static str, String)>> {
    let time = |text: &Option<String>| text.as_deref().map(parse_time).transpose();
    let wanted = [
        ("verdict", which.verdict.map(|verdict| verdict.to_string())),
        ("type", which.kind.clone()),
        ("call", which.call.clone()),
        ("q", which.search.as_ref().map(|text| text.nfc().collect())),
        ("since", time(&which.since)?.map(|at| at.to_string())),
        ("until", time(&which.until)?.map(|at| at.to_string())),
    ];
    Ok(wanted.into_iter().filter_map(|(key, value)| Some((key, value?))).collect())
}

/// Fetches at most `limit` deliveries that match the filters, newest first. The second value says whether there are
/// more.
async fn fetch_matching(client: &Client, which: &Which, limit: u32) -> Result<(Vec<Raw<DeliveryView>>, bool)> {
    let filters = query(which)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut deliveries, mut cursor) = (Vec::new(), None);
    while deliveries.len() < limit {
        let mut query = filters.clone();
        let left = u32::try_from(limit - deliveries.len()).unwrap_or(PAGE_LEN);
        query.push(("limit", left.min(PAGE_LEN).to_string()));
        query.extend(cursor.map(|cursor| ("cursor", cursor)));
        let page = client.deliveries(&query).await.map_err(|failure| match failure.exit {
            Exit::NotFound => failure.hint("see which there are: callscope calls ls"),
            _ => failure,
        })?;
        let is_empty = page.items.is_empty();
        deliveries.extend(page.items);
        check_list_size(&deliveries)?;
        cursor = page.next_cursor;
        // An empty page ends the list even if it has a cursor, so that a faulty server causes no endless loop.
        if cursor.is_none() || is_empty {
            break;
        }
    }
    deliveries.truncate(limit);
    Ok((deliveries, cursor.is_some()))
}

async fn list(settings: &Settings, client: &Client, which: &Which, limit: u32) -> Result {
    let (deliveries, has_more) = fetch_matching(client, which, limit).await?;
    let rows: Vec<_> = deliveries.iter().map(|delivery| row(&delivery.value)).collect();
    let header = ["DELIVERY", "RECEIVED", "VERDICT", "TYPE", "CALL", "ANSWER", "BYTES", "FROM", "REASON"];
    settings.output(Format::Table).list("deliveries", &deliveries, &header, &rows)?;
    if deliveries.is_empty() {
        settings.console.say("no deliveries");
    } else if has_more {
        settings.console.say(format!("there are more: --limit {}", limit.saturating_mul(2)));
    }
    Ok(Exit::Ok)
}

/// Lists the attempts whose signature did not fit.
async fn attempts(settings: &Settings, client: &Client, which: &Which, limit: u32) -> Result {
    let mut query = query(&Which { verdict: None, ..which.clone() })?;
    query.push(("limit", limit.min(PAGE_LEN).to_string()));
    let list = client.attempts(&query).await?;
    super::connections::warn_silent_nodes(settings, "attempts", &list.silent_nodes);
    let row = |attempt: &Attempt| {
        let (from, why) = (attempt.remote_addr.clone(), attempt.diagnosis.clone());
        vec![
            format_utc(attempt.at),
            attempt.route.to_string(),
            from.unwrap_or_default(),
            attempt.reason.clone(),
            why.unwrap_or_else(|| "not looked for".into()),
            attempt.node.clone(),
        ]
    };
    let rows: Vec<_> = list.unverified.iter().map(row).collect();
    let items = list.unverified.iter().map(to_raw_value).collect::<serde_json::Result<Vec<_>>>()?;
    let header = ["RECEIVED", "ROUTE", "FROM", "ANSWER", "LIKELY CAUSE", "NODE"];
    settings.output(Format::Table).list("unverified", &items, &header, &rows)?;
    settings.console.say(format!(
        "{} attempts did not verify since the server started; nothing of them is kept but this",
        list.total
    ));
    Ok(Exit::Ok)
}

async fn replay(settings: &Settings, client: &Client, ids: &[String], as_new: bool) -> Result {
    let mut output = settings.output(Format::Text);
    for id in ids {
        let replayed = client.replay_delivery(id, as_new).await.map_err(with_hint)?;
        let view = &replayed.value.delivery;
        let fields = [
            ("replayed", id.clone()),
            ("delivery", view.delivery_id.to_string()),
            ("verdict", view.verdict.to_string()),
            ("reason", view.reason.clone().unwrap_or_default()),
            ("call", call(view)),
            ("answer", format!("{} {}", view.response_status, replayed.value.response)),
        ];
        output.record(&replayed.json, &fields)?;
        if view.verdict == Verdict::Duplicate {
            let flags = settings.flags.as_deref().unwrap_or_default();
            let again = format!("callscope deliveries replay --as-new{flags} {}", last_argument(id));
            settings
                .console
                .say(format!("it took effect before, so nothing changed; to have it take effect again: {again}"));
        }
    }
    Ok(Exit::Ok)
}

fn with_hint(failure: Failure) -> Failure {
    match failure.exit {
        Exit::NotFound => failure.hint("see which there are: callscope deliveries ls"),
        _ => failure,
    }
}

/// Returns the sid of the delivery's call, else its call id, else an empty text.
fn call(view: &DeliveryView) -> String {
    view.call_sid.clone().or_else(|| view.call_id.map(|id| id.to_string())).unwrap_or_default()
}

fn row(view: &DeliveryView) -> Vec<String> {
    vec![
        view.delivery_id.to_string(),
        format_utc(view.received_at),
        view.verdict.to_string(),
        view.kind.clone().unwrap_or_default(),
        call(view),
        view.response_status.to_string(),
        view.body_bytes.to_string(),
        view.remote_addr.clone().unwrap_or_default(),
        view.reason.clone().unwrap_or_default(),
    ]
}
