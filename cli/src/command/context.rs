//! `context`: the servers a person works with, by name.

use std::path::PathBuf;

use callscope_common::Timestamp;
use clap::Subcommand;
use serde_json::json;
use serde_json::value::to_raw_value;

use super::complete;
use crate::clock;
use crate::config::{self, Config};
use crate::exit::{Exit, Failure, Result};
use crate::net::display_url;
use crate::render::Format;
use crate::settings::{Settings, server_url, without_logins};
use crate::token::{left_in_words, read_claims};

/// `context`.
#[derive(Debug, Subcommand)]
pub(crate) enum Context {
    /// The contexts, and which is in use
    Ls,
    /// Use this context where none is named
    Use {
        /// Name of the context
        #[arg(add = complete::contexts())]
        name: String,
    },
    /// Add a context; the first one is in use at once. With --token-file, its token is read from there
    Add {
        /// What to call it: letters, digits, `.`, `_`, `-`
        name: String,
        /// The server's URL
        #[arg(value_name = "URL")]
        url: String,
        /// Take its place where there is one of that name
        #[arg(long)]
        force: bool,
    },
    /// Remove a context, and its token
    Rm {
        /// Name of the context
        #[arg(add = complete::contexts())]
        name: String,
    },
}

/// `token_file` is the value of the global flag `--token-file`.
pub(crate) fn run(settings: &Settings, args: Context, token_file: Option<&PathBuf>) -> Result {
    let mut config = Config::load()?;
    match args {
        Context::Ls => list(settings, &config),
        Context::Use { name } => {
            let server = without_logins(&config.get(&name)?.server).into_owned();
            config.current = Some(name.clone());
            config.save()?;
            settings.console.say(format!("using {name}: {server}"));
            Ok(Exit::Ok)
        }
        Context::Add { name, url, force } => {
            let name = checked_name(&name)?;
            if config.contexts.contains_key(name) && !force {
                return Err(Failure::error(format!("a context is called {name} already"))
                    .hint(format!("take its place: callscope context add --force {name} URL")));
            }
            let mut context = config::Context::new(display_url(&server_url(&url)?).to_owned());
            context.token_file = token_file
                .map(std::path::absolute)
                .transpose()
                .map_err(|error| Failure::error(format!("the token file has no path: {error}")))?;
            let has_token = context.token_file.is_some();
            config.contexts.insert(name.to_owned(), context);
            let is_first = config.current.is_none();
            if is_first {
                config.current = Some(name.to_owned());
            }
            let file = config.save()?;
            let used = if is_first { ", and in use" } else { "" };
            settings.console.say(format!("{name} is kept in {}{used}", file.display()));
            if !has_token {
                settings.console.say(format!("log in at it: callscope login --context {name}"));
            }
            Ok(Exit::Ok)
        }
        Context::Rm { name } => {
            config.contexts.remove(&name).ok_or_else(|| config::unknown_context(&name))?;
            let was_used = config.current.take_if(|current| *current == name).is_some();
            config.save()?;
            settings.console.say(format!("removed {name}"));
            if was_used {
                settings.console.say("no context is in use now: callscope context use NAME");
            }
            Ok(Exit::Ok)
        }
    }
}

/// Returns `name` if it is valid for a context: 1 to 64 characters that need no quotes in a shell.
pub(crate) fn checked_name(name: &str) -> Result<&str> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=64).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with('-') {
        return Ok(name);
    }
    Err(Failure::usage(format!("{name:?} is no name for a context"))
        .hint("it takes 1 to 64 of letters, digits, `.`, `_` and `-`"))
}

fn list(settings: &Settings, config: &Config) -> Result {
    let now = clock::now();
    let (mut items, mut rows) = (Vec::new(), Vec::new());
    for (name, context) in &config.contexts {
        let is_current = config.current.as_deref() == Some(name);
        let login = login(context, now);
        // No format prints the token.
        let server = without_logins(&context.server);
        let item = json!({"name": name, "server": server, "current": is_current, "login": login});
        items.push(to_raw_value(&item)?);
        let mark = if is_current { "*" } else { "" };
        rows.push(vec![mark.to_owned(), name.clone(), server.into_owned(), login]);
    }
    settings.output(Format::Table).list("contexts", &items, &["", "NAME", "SERVER", "LOGIN"], &rows)?;
    if rows.is_empty() {
        settings.console.say("no contexts; add one: callscope context add NAME URL");
    }
    if let Some(path) = config::path_if_open_to_others() {
        let path = path.display();
        settings.console.warn(format!("others may read {path}, and it may hold tokens; close it: chmod 600 {path}"));
    }
    Ok(Exit::Ok)
}

/// Returns in words whose token a context has and how long it is valid.
fn login(context: &config::Context, now: Timestamp) -> String {
    let token = match context.token() {
        Ok(Some(token)) => token,
        Ok(None) => return "none".into(),
        Err(failure) => return failure.message,
    };
    read_claims(&token).map_or_else(
        |failure| failure.message,
        |claims| format!("{} ({}), {}", claims.sub, claims.role, left_in_words(&claims, now)),
    )
}
