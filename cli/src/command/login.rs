//! `login`, `logout` and `whoami`.

use clap::Args as ClapArgs;
use serde_json::json;

use super::context::checked_name;
use crate::api::{Client, TOKEN_HINT};
use crate::clock;
use crate::config::{self, Config};
use crate::exit::{Exit, Failure, Result};
use crate::net::display_url;
use crate::render::Format;
use crate::secret::Secret;
use crate::settings::Settings;
use crate::term::prompt;
use crate::token::{calls_in_words, left_in_words, read_claims};

/// `login`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "To make a token, on the server's machine: callscope-server token --sub NAME --ttl 8h > token.txt\n\
    To keep it here: callscope login --with-token < token.txt"
)]
pub(crate) struct Login {
    /// Keep a token that is read from stdin, or asked for on a terminal
    #[arg(long, required = true)]
    pub(crate) with_token: bool,
    /// Keep it under this name [default: the context in force, else the server's host]
    #[arg(long, value_name = "NAME")]
    pub(crate) save_as: Option<String>,
}

/// `logout`.
#[derive(Debug, ClapArgs)]
pub(crate) struct Logout {
    /// The context to log out of [default: the one in force]
    #[arg(add = super::complete::contexts())]
    pub(crate) name: Option<String>,
}

/// Runs `login`.
pub(crate) async fn login(settings: &Settings, args: Login) -> Result {
    let name = match &args.save_as {
        Some(name) => checked_name(name)?.to_owned(),
        None => default_name(settings),
    };
    let token = Secret::new(prompt::secret("token").await?.trim());
    let claims = read_claims(&token)?;
    // A token that the server refuses is not kept.
    Client::check_token(&Settings { token: Some(token.clone()), ..settings.clone() }).await?;
    let mut config = Config::load()?;
    let context = config.contexts.entry(name.clone()).or_insert_with(|| config::Context::new(String::new()));
    context.server = display_url(&settings.server).to_owned();
    context.store(&token);
    config.current.get_or_insert_with(|| name.clone());
    let is_used = config.current.as_ref() == Some(&name);
    let file = config.save()?;
    let now = clock::now();
    settings.console.say(format!(
        "logged in at {} as {} ({}), {}",
        display_url(&settings.server),
        claims.sub,
        claims.role,
        left_in_words(&claims, now)
    ));
    settings.console.say(format!("the token is kept in {} as the context {name}", file.display()));
    if !is_used {
        settings.console.say(format!("use it: callscope context use {name}"));
    }
    Ok(Exit::Ok)
}

/// Runs `logout`.
pub(crate) fn logout(settings: &Settings, args: Logout) -> Result {
    let mut config = Config::load()?;
    let name = args.name.or_else(|| settings.context.clone()).ok_or_else(|| {
        Failure::usage("which context? none is in use").hint("see which there are: callscope context ls")
    })?;
    let context = config.contexts.get_mut(&name).ok_or_else(|| config::unknown_context(&name))?;
    let token = context.token.is_some().then(|| context.token()).transpose()?.flatten();
    let file = context.token_file.take();
    context.token = None;
    config.save()?;
    let Some(token) = token else {
        let words = match file {
            Some(file) => format!("{name} no longer reads its token from {}, which is still there", file.display()),
            None => format!("{name} was not logged in"),
        };
        settings.console.say(words);
        return Ok(Exit::Ok);
    };
    settings.console.say(format!("forgot the token of {name}"));
    let now = clock::now();
    if let Ok(claims) = read_claims(&token)
        && claims.secs_left(now).is_none_or(|left| left > 0.0)
    {
        settings.console.say(format!("a copy of it still works {}", left_in_words(&claims, now)));
    }
    Ok(Exit::Ok)
}

/// Runs `whoami`.
pub(crate) async fn whoami(settings: &Settings) -> Result {
    let token = settings.token.as_ref().ok_or_else(|| {
        Failure::new(Exit::NotAllowed, format!("not logged in at {}: there is no token", display_url(&settings.server)))
            .hint(TOKEN_HINT)
    })?;
    let claims = read_claims(token)?;
    Client::check_token(settings).await?;
    let now = clock::now();
    let item = json!({
        "server": display_url(&settings.server), "context": settings.context, "sub": claims.sub, "role": claims.role,
        "uid": claims.uid, "calls": claims.calls, "jti": claims.jti, "expires_at": claims.expires(),
        "token_from": settings.origin.token,
    });
    settings.output(Format::Table).record(
        &item,
        &[
            ("user", claims.sub.clone()),
            ("user id", claims.uid.clone().unwrap_or_default()),
            ("role", claims.role.to_string()),
            ("calls", calls_in_words(&claims)),
            ("valid", left_in_words(&claims, now)),
            ("token from", settings.origin.token.clone()),
            ("server", display_url(&settings.server).to_owned()),
            ("server from", settings.origin.server.clone()),
        ],
    )?;
    Ok(Exit::Ok)
}

/// Returns the name of the context in use, or else a name made of the server's host and port.
fn default_name(settings: &Settings) -> String {
    settings.context.clone().unwrap_or_else(|| {
        let port = settings.server.port().map_or(String::new(), |port| format!("-{port}"));
        let host = format!("{}{port}", settings.server.host_str().unwrap_or_default());
        let name: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let name: String = name.trim_matches('-').chars().take(64).collect();
        if name.is_empty() { "server".into() } else { name }
    })
}
