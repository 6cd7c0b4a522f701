//! The details of a row, as names and texts.

use callscope_common::api::{CallView, ConnectionView, SubscriptionView, WholeDelivery};
use serde_json::Value;

use super::message::List;
use super::rows::{TableRow, columns};
use super::state::TopApp;
use super::tab::Tab;
use crate::render::{format_utc, outcome};

pub(crate) type Details = Vec<(String, String)>;

/// Returns the details that the list itself contains, or `None` if they have to be fetched from the server.
pub(crate) fn from_list(top: &TopApp, row: &TableRow) -> Option<Details> {
    match (&top.tab_state().list, top.tab) {
        (Some(List::Calls(_) | List::Deliveries(_)), _) => None,
        (Some(List::Errors(errors)), Tab::Errors) => {
            // A rejected webhook is kept as a delivery, whose details are fetched. Other errors have only their cells.
            let is_delivery = errors.rejected.iter().any(|view| view.delivery_id.to_string() == row.key);
            (!is_delivery).then(|| cells(top.tab, row))
        }
        (Some(List::Connections(views)), _) => {
            views.iter().find(|view| view.connection_id.to_string() == row.key).map(connection)
        }
        (Some(List::Subscriptions(views)), _) => {
            views.iter().find(|view| view.call_id.to_string() == row.key).map(subscription)
        }
        _ => Some(cells(top.tab, row)),
    }
}

fn cells(tab: Tab, row: &TableRow) -> Details {
    let names = columns(tab).iter().map(|column| column.title.to_lowercase());
    names.zip(row.cells.iter().map(|cell| cell.text.clone())).collect()
}

fn non_empty<const N: usize>(details: [(&str, String); N]) -> Details {
    details.into_iter().filter(|(_, text)| !text.is_empty()).map(|(name, text)| (name.to_owned(), text)).collect()
}

fn connection(view: &ConnectionView) -> Details {
    non_empty([
        ("connection", view.connection_id.to_string()),
        ("user", view.username.clone()),
        ("user id", view.user_id.clone()),
        ("role", view.role.to_string()),
        ("since", format_utc(view.connected_at)),
        ("from", view.remote_addr.clone()),
        ("node", view.node.clone()),
        ("sent", view.sent.to_string()),
        ("lag", view.lag.to_string()),
        ("calls", view.subscribed_calls.join("\n")),
    ])
}

fn subscription(view: &SubscriptionView) -> Details {
    let connections: Vec<_> = view.connection_ids.iter().map(ToString::to_string).collect();
    non_empty([
        ("call", view.call_sid.clone()),
        ("conversation", view.conversation_id.clone().unwrap_or_default()),
        ("call id", view.call_id.to_string()),
        ("status", view.status.to_string()),
        ("followers", connections.join("\n")),
        ("follow it", format!("callscope tail {}", crate::render::last_argument(&view.call_sid))),
    ])
}

/// Returns the details of a call. `last_turns` is the text of its last turns.
pub(crate) fn call(view: &CallView, last_turns: &str) -> Details {
    let (result, summary) = view.call_data.as_ref().map(outcome).unwrap_or_default();
    non_empty([
        ("call", view.call_sid.clone()),
        ("conversation", view.conversation_id.clone().unwrap_or_default()),
        ("identifiers", view.identifiers.join("\n")),
        ("call id", view.call_id.to_string()),
        ("status", view.status.to_string()),
        ("subject", view.subject.clone().unwrap_or_default()),
        ("agent", view.agent_id.clone().unwrap_or_default()),
        ("began", format_utc(view.created_at)),
        ("ended", view.call_end_time.map(format_utc).unwrap_or_default()),
        ("turns", view.turns.to_string()),
        ("seq", view.seq.to_string()),
        ("result", result),
        ("summary", summary.unwrap_or_default()),
        ("follow it", format!("callscope tail {}", crate::render::last_argument(&view.call_sid))),
        ("said last", last_turns.to_owned()),
    ])
}

pub(crate) fn delivery(whole: &WholeDelivery) -> Details {
    let view = &whole.delivery;
    let headers = whole.headers().unwrap_or_default();
    let headers: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    non_empty([
        ("delivery", view.delivery_id.to_string()),
        ("kind", view.kind.clone().unwrap_or_default()),
        ("route", view.route.to_string()),
        ("verdict", view.verdict.to_string()),
        ("reason", view.reason.clone().unwrap_or_default()),
        ("received", view.received_at.to_string()),
        ("from", view.remote_addr.clone().unwrap_or_default()),
        ("call id", view.call_id.map(|id| id.to_string()).unwrap_or_default()),
        ("answered", format!("{} {}", view.response_status, whole.response)),
        ("headers", headers.join("\n")),
        ("bytes", view.body_bytes.to_string()),
        ("body", whole.body.as_deref().map_or_else(|| "not UTF-8".to_owned(), pretty)),
    ])
}

/// Indents JSON, and returns any other text as it is.
fn pretty(body: &str) -> String {
    let json: Option<Value> = serde_json::from_str(body).ok();
    json.and_then(|json| serde_json::to_string_pretty(&json).ok()).unwrap_or_else(|| body.to_owned())
}
