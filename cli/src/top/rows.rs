//! The columns and rows of each tab.

use callscope_common::api::{CallView, ConnectionView, DeliveryView, Stats, SubscriptionView, Verdict};
use callscope_common::transcript::clock;
use callscope_common::{CallStatus, Timestamp};

use super::message::{Errors, List};
use super::tab::Tab;
use crate::duration;
use crate::render::Tint;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// The smallest width.
    pub(crate) width: usize,
    /// Whether the column gets a share of spare width.
    pub(crate) grows: bool,
    /// On a narrow screen the column with the highest rank is hidden first.
    pub(crate) rank: u8,
}

const fn column(title: &'static str, width: usize, rank: u8) -> Column {
    Column { title, width, grows: false, rank }
}

const fn growing(title: &'static str, width: usize, rank: u8) -> Column {
    Column { title, width, grows: true, rank }
}

/// Returns the columns of a tab. Rows are sorted by the first of them until the user chooses another.
pub(crate) fn columns(tab: Tab) -> &'static [Column] {
    match tab {
        Tab::Calls => CALLS,
        Tab::Connections => CONNECTIONS,
        Tab::Subscriptions => SUBSCRIPTIONS,
        Tab::Deliveries => DELIVERIES,
        Tab::Errors => ERRORS,
    }
}

const CALLS: &[Column] = &[
    column("AGE", 7, 0),
    column("STATUS", 11, 0),
    column("TURNS", 5, 2),
    column("LENGTH", 7, 3),
    growing("CALL", 14, 0),
    growing("SUBJECT", 8, 4),
    growing("AGENT", 8, 5),
];
const CONNECTIONS: &[Column] = &[
    column("SINCE", 7, 0),
    growing("USER", 8, 0),
    column("ROLE", 6, 3),
    column("SENT", 7, 1),
    column("LAG", 5, 0),
    growing("FROM", 15, 2),
    column("NODE", 8, 5),
    growing("CALLS", 10, 4),
];
const SUBSCRIPTIONS: &[Column] =
    &[column("FOLLOWERS", 9, 0), column("STATUS", 11, 0), growing("CALL", 14, 0), growing("CONVERSATION", 14, 1)];
const DELIVERIES: &[Column] = &[
    column("AGE", 7, 0),
    column("VERDICT", 9, 0),
    column("ANSWER", 6, 2),
    growing("KIND", 12, 0),
    column("BYTES", 7, 3),
    growing("FROM", 15, 4),
    growing("REASON", 8, 1),
];
const ERRORS: &[Column] = &[column("AGE", 7, 0), column("WHAT", 10, 0), growing("FROM", 12, 2), growing("WHY", 14, 0)];

/// A value that rows are sorted by.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum SortKey {
    /// Larger numbers come first.
    Number(f64),
    /// Texts are sorted by the alphabet.
    Text(String),
}

#[derive(Debug, Clone)]
pub(crate) struct TableCell {
    /// The text from the server, not sanitised.
    pub(crate) text: String,
    pub(crate) value: SortKey,
    pub(crate) tint: Tint,
}

#[derive(Debug, Clone)]
pub(crate) struct TableRow {
    /// A key that stays the same from one poll to the next.
    pub(crate) key: String,
    /// A cell for each column of the tab.
    pub(crate) cells: Vec<TableCell>,
}

pub(crate) fn rows(list: &List, stats: Option<&Stats>, now: Timestamp) -> Vec<TableRow> {
    match list {
        List::Calls(calls) => calls.iter().map(|view| call(view, now)).collect(),
        List::Connections(views) => views.iter().map(|view| connection(view, now)).collect(),
        List::Subscriptions(views) => views.iter().map(subscription).collect(),
        List::Deliveries(views) => views.iter().map(|view| delivery(view, now)).collect(),
        List::Errors(errors) => self::errors(errors, stats, now),
    }
}

fn text(text: impl Into<String>) -> TableCell {
    let text = text.into();
    TableCell { value: SortKey::Text(text.to_lowercase()), text, tint: Tint::Plain }
}

fn number(number: i64) -> TableCell {
    TableCell { text: number.to_string(), value: SortKey::Number(number as f64), tint: Tint::Plain }
}

fn count(count: u64) -> TableCell {
    number(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Returns a cell with an age. Its value sorts the newest row first.
fn age(at: Timestamp, now: Timestamp) -> TableCell {
    let secs = now.secs_since(at);
    // An age below a minute is shown in whole seconds.
    let short = duration::in_words(secs).split(' ').next().unwrap_or_default().to_owned();
    let shown = if secs < 60.0 { short } else { duration::in_words(secs) };
    TableCell { text: shown, value: SortKey::Number(at.secs_since(now)), tint: Tint::Plain }
}

fn tinted(cell: TableCell, tint: Tint) -> TableCell {
    TableCell { tint, ..cell }
}

fn status(status: CallStatus) -> TableCell {
    let tint = match status {
        CallStatus::InProgress => Tint::Good,
        CallStatus::Failed => Tint::Bad,
        CallStatus::Initiated => Tint::Warning,
        CallStatus::Completed => Tint::Plain,
    };
    tinted(text(status.as_str()), tint)
}

fn call(view: &CallView, now: Timestamp) -> TableRow {
    let reported_secs = view.call_data.as_ref().and_then(|data| data.duration_seconds).map(|secs| secs as f64);
    let secs = if view.status.is_ended() { reported_secs } else { Some(now.secs_since(view.created_at).max(0.0)) };
    let length = TableCell {
        text: secs.map_or(String::new(), clock),
        // Calls of unknown length sort below all others.
        value: SortKey::Number(secs.unwrap_or(-1.0)),
        tint: Tint::Plain,
    };
    TableRow {
        key: view.call_id.to_string(),
        cells: vec![
            age(view.created_at, now),
            status(view.status),
            number(view.turns),
            length,
            text(view.call_sid.clone()),
            text(view.subject.clone().unwrap_or_default()),
            text(view.agent_id.clone().unwrap_or_default()),
        ],
    }
}

fn connection(view: &ConnectionView, now: Timestamp) -> TableRow {
    let lag = match view.lag {
        0 => Tint::Plain,
        1..=99 => Tint::Warning,
        _ => Tint::Bad,
    };
    TableRow {
        key: view.connection_id.to_string(),
        cells: vec![
            age(view.connected_at, now),
            text(view.username.clone()),
            text(view.role.to_string()),
            count(view.sent),
            tinted(count(view.lag), lag),
            text(view.remote_addr.clone()),
            text(view.node.clone()),
            text(view.subscribed_calls.join(" ")),
        ],
    }
}

fn subscription(view: &SubscriptionView) -> TableRow {
    TableRow {
        key: view.call_id.to_string(),
        cells: vec![
            count(u64::try_from(view.connection_ids.len()).unwrap_or(u64::MAX)),
            status(view.status),
            text(view.call_sid.clone()),
            text(view.conversation_id.clone().unwrap_or_default()),
        ],
    }
}

fn delivery(view: &DeliveryView, now: Timestamp) -> TableRow {
    let verdict = match view.verdict.known() {
        Some(Verdict::Accepted) => Tint::Good,
        Some(Verdict::Rejected) => Tint::Bad,
        Some(Verdict::Ignored) => Tint::Warning,
        _ => Tint::Plain,
    };
    let answer = if view.response_status >= 400 { Tint::Bad } else { Tint::Plain };
    TableRow {
        key: view.delivery_id.to_string(),
        cells: vec![
            age(view.received_at, now),
            tinted(text(view.verdict.to_string()), verdict),
            tinted(number(view.response_status), answer),
            text(view.kind.clone().unwrap_or_else(|| view.route.to_string())),
            number(view.body_bytes),
            text(view.remote_addr.clone().unwrap_or_default()),
            text(view.reason.clone().unwrap_or_default()),
        ],
    }
}

fn errors(errors: &Errors, stats: Option<&Stats>, now: Timestamp) -> Vec<TableRow> {
    let bad = |what: &str| tinted(text(what), Tint::Bad);
    let silent = stats.into_iter().flat_map(|stats| &stats.silent_nodes).map(|node| TableRow {
        key: format!("node:{node}"),
        cells: vec![age(now, now), bad("silent"), text(node.clone()), text("this server process does not answer")],
    });
    let unlinked = stats.into_iter().flat_map(|stats| &stats.cluster).filter_map(|node| {
        let is_unlinked = node.stats.as_ref().is_some_and(|stats| stats.linked == Some(false));
        is_unlinked.then(|| TableRow {
            key: format!("link:{}", node.node),
            cells: vec![
                age(now, now),
                bad("unlinked"),
                text(node.node.clone()),
                text("no link to the other processes"),
            ],
        })
    });
    let rejected = errors.rejected.iter().map(|view| TableRow {
        key: view.delivery_id.to_string(),
        cells: vec![
            age(view.received_at, now),
            bad(Verdict::Rejected.as_str()),
            text(view.remote_addr.clone().unwrap_or_default()),
            text(view.reason.clone().unwrap_or_else(|| view.kind.clone().unwrap_or_default())),
        ],
    });
    let unverified = errors.unverified.iter().map(|attempt| TableRow {
        key: format!("unverified:{}:{}", attempt.at.as_micros(), attempt.remote_addr.as_deref().unwrap_or_default()),
        cells: vec![
            age(attempt.at, now),
            tinted(text(Verdict::Unverified.as_str()), Tint::Warning),
            text(attempt.remote_addr.clone().unwrap_or_default()),
            text(format!("{}: {}", attempt.route, attempt.reason)),
        ],
    });
    silent.chain(unlinked).chain(rejected).chain(unverified).collect()
}
