//! `subscriptions`: which calls are followed, and by whom.

use callscope_common::api::SubscriptionView;
use clap::Subcommand;

use super::connections::warn_silent_nodes;
use crate::api::{Client, checked_identifier};
use crate::exit::{Exit, Failure, Result};
use crate::render::Format;
use crate::settings::Settings;

/// `subscriptions`.
#[derive(Debug, Subcommand)]
pub(crate) enum Subscriptions {
    /// Every followed call
    Ls,
    /// Who follows one call
    Show {
        /// The call's sid, conversation id or call id
        #[arg(add = super::complete::calls())]
        id: String,
    },
}

pub(crate) async fn run(settings: &Settings, args: Subscriptions) -> Result {
    if let Subscriptions::Show { id } = &args {
        checked_identifier(id)?;
    }
    let client = Client::new(settings)?;
    let page = client.subscriptions().await?;
    warn_silent_nodes(settings, "subscriptions", &page.silent_nodes);
    let all = page.items;
    let mut output = settings.output(Format::Table);
    match args {
        Subscriptions::Ls => {
            let rows: Vec<_> = all.iter().map(|subscription| row(&subscription.value)).collect();
            let header = ["CALL", "STATUS", "CONNECTIONS", "CONVERSATION"];
            output.list_to_fit("subscriptions", &all, &header, &rows, &[3])?;
            if rows.is_empty() {
                settings.console.say("no call is followed");
            }
        }
        Subscriptions::Show { id } => {
            let subscription = all.iter().find(|subscription| has_id(&subscription.value, &id)).ok_or_else(|| {
                Failure::not_found(format!("no connection follows {id}"))
                    .hint("see what is followed: callscope subscriptions ls")
            })?;
            output.record(&subscription.json, &fields(&subscription.value))?;
        }
    }
    Ok(Exit::Ok)
}

fn has_id(view: &SubscriptionView, id: &str) -> bool {
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
