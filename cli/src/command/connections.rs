//! `connections`: the server's live connections.

use std::io::{self, IsTerminal as _, Write as _};

use callscope_common::api::ConnectionView;
use clap::Subcommand;

use crate::api::{Client, Raw, checked_identifier};
use crate::exit::{Exit, Failure, Result};
use crate::render::{Format, format_utc};
use crate::settings::Settings;
use crate::term::prompt;

/// `connections`.
#[derive(Debug, Subcommand)]
pub(crate) enum Connections {
    /// Every live connection of every server process
    Ls,
    /// Show one connection
    Show {
        /// Its id, or the beginning of it
        #[arg(add = super::complete::connections())]
        id: String,
    },
    /// Close connections; their clients do not come back by themselves
    Kick {
        /// Their ids, or the beginnings of them
        #[arg(required = true, value_name = "ID", add = super::complete::connections())]
        ids: Vec<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

type Connection = Raw<ConnectionView>;

pub(crate) async fn run(settings: &Settings, args: Connections) -> Result {
    let ids: &[String] = match &args {
        Connections::Ls => &[],
        Connections::Show { id } => std::slice::from_ref(id),
        Connections::Kick { ids, .. } => ids,
    };
    ids.iter().try_for_each(|id| checked_identifier(id).map(drop))?;
    let client = Client::new(settings)?;
    let page = client.connections().await?;
    warn_silent_nodes(settings, "connections", &page.silent_nodes);
    let all = page.items;
    match args {
        Connections::Ls => {
            let rows: Vec<_> = all.iter().map(|connection| row(&connection.value)).collect();
            let header = ["CONNECTION", "USER", "ROLE", "SINCE", "FROM", "NODE", "SENT", "LAG", "CALLS"];
            settings.output(Format::Table).list_to_fit("connections", &all, &header, &rows, &[5, 2, 6, 3, 4, 8])?;
            if rows.is_empty() {
                settings.console.say("no connections");
            }
        }
        Connections::Show { id } => {
            let connection = find(&all, &id)?;
            settings.output(Format::Table).record(&connection.json, &fields(&connection.value))?;
        }
        Connections::Kick { ids, yes } => {
            let chosen =
                ids.iter().map(|id| find(&all, id).map(|connection| &connection.value)).collect::<Result<Vec<_>>>()?;
            if !yes && io::stdin().is_terminal() && !confirm_kick(&chosen).await? {
                return Err(Failure::error("no connection was kicked"));
            }
            for connection in chosen {
                client.kick(connection.connection_id).await?;
                settings.console.say(format!("kicked {} ({})", connection.connection_id, connection.username));
            }
        }
    }
    Ok(Exit::Ok)
}

/// Warns which nodes did not answer, because the list lacks their entries.
pub(super) fn warn_silent_nodes(settings: &Settings, what: &str, silent_nodes: &[String]) {
    if !silent_nodes.is_empty() {
        settings.console.warn(format!("no answer from {}: {what} of theirs are missing here", silent_nodes.join(", ")));
    }
}

/// Returns the only connection whose id begins with `prefix`.
fn find<'c>(all: &'c [Connection], prefix: &str) -> Result<&'c Connection> {
    let id = prefix.to_ascii_lowercase();
    let mut fitting = all.iter().filter(|connection| connection.value.connection_id.to_string().starts_with(&id));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(Failure::usage(format!("several connections begin with {id}; give more of it"))),
        (None, _) => {
            Err(Failure::not_found(format!("no connection {id}")).hint("see which there are: callscope connections ls"))
        }
    }
}

/// Lists the connections on the terminal and asks whether to kick them.
async fn confirm_kick(chosen: &[&ConnectionView]) -> Result<bool> {
    let mut stderr = io::stderr();
    for connection in chosen {
        let line = format!("{}  {}  {}", connection.connection_id, connection.username, connection.remote_addr);
        let _ = writeln!(stderr, "{}", callscope_common::text::one_line(&line));
    }
    prompt::confirm("kick?").await
}

fn row(connection: &ConnectionView) -> Vec<String> {
    vec![
        connection.connection_id.to_string(),
        connection.username.clone(),
        connection.role.to_string(),
        format_utc(connection.connected_at),
        connection.remote_addr.clone(),
        connection.node.clone(),
        connection.sent.to_string(),
        connection.lag.to_string(),
        connection.subscribed_calls.join(" "),
    ]
}

fn fields(connection: &ConnectionView) -> Vec<(&'static str, String)> {
    vec![
        ("connection", connection.connection_id.to_string()),
        ("user", connection.username.clone()),
        ("user id", connection.user_id.clone()),
        ("role", connection.role.to_string()),
        ("since", format_utc(connection.connected_at)),
        ("from", connection.remote_addr.clone()),
        ("node", connection.node.clone()),
        ("sent", connection.sent.to_string()),
        ("lag", connection.lag.to_string()),
        ("calls", connection.subscribed_calls.join(" ")),
    ]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn connection(id: &str) -> Connection {
        let text = format!(
            r#"{{"connection_id":"{id}","user_id":"u","username":"u","role":"viewer","connected_at":"2026-10-01T14:00:00Z",
            "remote_addr":"127.0.0.1:1","subscribed_calls":[],"sent":0,"lag":0,"node":"n"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_beginning_of_an_id_is_enough_where_it_is_the_only_one() {
        let all =
            [connection("aa000000-0000-4000-8000-000000000001"), connection("ab000000-0000-4000-8000-000000000002")];
        assert_eq!(find(&all, "AB").unwrap().value.connection_id, all[1].value.connection_id);
        assert_eq!(find(&all, "a").unwrap_err().exit, Exit::Usage);
        assert_eq!(find(&all, "c").unwrap_err().exit, Exit::NotFound);
    }
}
