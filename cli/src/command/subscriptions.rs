//! `subscriptions`: which calls are followed, and by whom.

use callscope_common::api::SubscriptionView;
use clap::Subcommand;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::connections::say_what_is_missing;
use crate::api::{Client, checked, items};
use crate::exit::{Exit, Failure, Result};
use crate::render::Format;
use crate::settings::Settings;

/// `subscriptions`.
#[derive(Debug, Subcommand)]
pub enum Subscriptions {
    /// Every followed call
    Ls,
    /// Who follows one call
    Show {
        /// The call's sid, conversation id or call id
        #[arg(add = crate::complete::calls())]
        id: String,
    },
}

/// Runs it.
pub async fn run(settings: &Settings, args: Subscriptions) -> Result {
    #[derive(Deserialize)]
    struct List {
        #[serde(deserialize_with = "items")]
        subscriptions: Vec<Box<RawValue>>,
        #[serde(default)]
        silent_nodes: Vec<String>,
    }
    if let Subscriptions::Show { id } = &args {
        checked(id)?;
    }
    let client = Client::new(settings)?;
    let list: List = client.get(&["api", "v1", "admin", "subscriptions"], &[]).await?;
    say_what_is_missing(settings, "subscriptions", &list.silent_nodes);
    let raw = list.subscriptions;
    let views = raw.iter().map(|raw| read(raw)).collect::<Result<Vec<_>>>()?;
    let mut output = settings.output(Format::Table);
    match args {
        Subscriptions::Ls => {
            let rows: Vec<_> = views.iter().map(row).collect();
            let header = ["CALL", "STATUS", "CONNECTIONS", "CONVERSATION"];
            output.list_without("subscriptions", &raw, &header, &rows, &[3])?;
            if rows.is_empty() {
                settings.console.say("nobody follows any call");
            }
        }
        Subscriptions::Show { id } => {
            let place = views.iter().position(|view| is(view, &id)).ok_or_else(|| {
                Failure::not_found(format!("nobody follows {id}"))
                    .hint("see what is followed: callscope subscriptions ls")
            })?;
            output.record(&raw[place], &fields(&views[place]))?;
        }
    }
    Ok(Exit::Ok)
}

fn read(raw: &RawValue) -> Result<SubscriptionView> {
    serde_json::from_str(raw.get())
        .map_err(|error| Failure::error(format!("the server's answer is no subscription: {error}")))
}

fn is(view: &SubscriptionView, id: &str) -> bool {
    view.call_sid == id || view.conversation_id.as_deref() == Some(id) || view.call_id.to_string() == id
}

fn row(view: &SubscriptionView) -> Vec<String> {
    vec![
        view.call_sid.clone(),
        view.status.to_string(),
        view.connection_ids.len().to_string(),
        view.conversation_id.clone().unwrap_or_default(),
    ]
}

fn fields(view: &SubscriptionView) -> Vec<(&'static str, String)> {
    let connections: Vec<_> = view.connection_ids.iter().map(ToString::to_string).collect();
    vec![
        ("call", view.call_sid.clone()),
        ("conversation", view.conversation_id.clone().unwrap_or_default()),
        ("call id", view.call_id.to_string()),
        ("status", view.status.to_string()),
        ("connections", connections.join(" ")),
    ]
}
