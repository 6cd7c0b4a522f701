//! `login`, `logout` and `whoami`.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::time::SystemTime;

use callscope_common::Timestamp;
use clap::Args as ClapArgs;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::context::checked;
use crate::api::{Client, TOKEN_HINT};
use crate::config::{self, Config};
use crate::exit::{Exit, Failure, Result};
use crate::net::{self, shown};
use crate::render::{Format, behind};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::token::Claims;

/// `login`.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The password is asked for on a terminal, else read from stdin; never give it as an argument.\nA token that \
    somebody gave you: callscope login --with-token < token.txt"
)]
pub struct Login {
    /// Your name at the server; asked for where it is missing
    #[arg(long, value_name = "NAME", conflicts_with = "with_token")]
    pub username: Option<String>,
    /// Keep a token that is read from stdin, instead of asking the server for one
    #[arg(long)]
    pub with_token: bool,
    /// Keep it under this name [default: the context in force, else the server's host]
    #[arg(long, value_name = "NAME")]
    pub save_as: Option<String>,
}

/// `logout`.
#[derive(Debug, ClapArgs)]
pub struct Logout {
    /// The context to log out of [default: the one in force]
    #[arg(add = crate::complete::contexts())]
    pub name: Option<String>,
}

/// Longest password or token taken from stdin, in bytes.
const LONGEST: u64 = 64 << 10;

/// Runs `login`.
pub async fn login(settings: &Settings, args: Login) -> Result {
    let name = match &args.save_as {
        Some(name) => checked(name)?.to_owned(),
        None => default_name(settings),
    };
    let token = if args.with_token {
        let token = if io::stdin().is_terminal() { prompt("token: ").await? } else { piped("a token").await? };
        Secret::new(token.trim())
    } else {
        ask_server(settings, args.username).await?
    };
    let claims = Claims::of(&token)?;
    // What the server refuses is not worth keeping.
    accepted(&Settings { token: Some(token.clone()), ..settings.clone() }).await?;
    let mut config = Config::load()?;
    let context = config.contexts.entry(name.clone()).or_insert_with(|| config::Context::new(String::new()));
    context.server = shown(&settings.server).to_owned();
    context.store(&token);
    config.current.get_or_insert_with(|| name.clone());
    let is_used = config.current.as_ref() == Some(&name);
    let file = config.save()?;
    let now = Timestamp::from_system_time(SystemTime::now());
    settings.console.say(format!(
        "logged in at {} as {} ({}), {}",
        shown(&settings.server),
        claims.sub,
        claims.role,
        claims.left_in_words(now)
    ));
    settings.console.say(format!("the token is kept in {} as the context {name}", file.display()));
    if !is_used {
        settings.console.say(format!("use it: callscope context use {name}"));
    }
    Ok(Exit::Ok)
}

/// Runs `logout`.
pub fn logout(settings: &Settings, args: Logout) -> Result {
    let mut config = Config::load()?;
    let name = args.name.or_else(|| settings.context.clone()).ok_or_else(|| {
        Failure::usage("which context? none is in use").hint("see which there are: callscope context ls")
    })?;
    let context = config.contexts.get_mut(&name).ok_or_else(|| config::unknown(&name))?;
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
    let now = Timestamp::from_system_time(SystemTime::now());
    if let Ok(claims) = Claims::of(&token)
        && !claims.is_expired(now)
        && let Some(jti) = &claims.jti
    {
        let left = claims.left_in_words(now);
        settings.console.say(format!(
            "whoever copied it can use it {left}; an admin ends it: callscope token revoke {}",
            behind(jti)
        ));
    }
    Ok(Exit::Ok)
}

/// Runs `whoami`.
pub async fn whoami(settings: &Settings) -> Result {
    let token = settings.token.as_ref().ok_or_else(|| {
        Failure::new(Exit::NotAllowed, format!("not logged in at {}: there is no token", shown(&settings.server)))
            .hint(TOKEN_HINT)
    })?;
    let claims = Claims::of(token)?;
    accepted(settings).await?;
    let now = Timestamp::from_system_time(SystemTime::now());
    let item = json!({
        "server": shown(&settings.server), "context": settings.context, "sub": claims.sub, "role": claims.role,
        "uid": claims.uid, "calls": claims.calls, "jti": claims.jti, "expires_at": claims.expires(),
        "token_from": settings.origin.token,
    });
    let raw = RawValue::from_string(item.to_string()).map_err(|error| Failure::error(error.to_string()))?;
    settings.output(Format::Table).record(
        &raw,
        &[
            ("user", claims.sub.clone()),
            ("user id", claims.uid.clone().unwrap_or_default()),
            ("role", claims.role.clone()),
            ("calls", claims.calls_in_words()),
            ("valid", claims.left_in_words(now)),
            ("token from", settings.origin.token.clone()),
            ("server", shown(&settings.server).to_owned()),
            ("server from", settings.origin.server.clone()),
        ],
    )?;
    Ok(Exit::Ok)
}

/// Whether the server takes the token: any reader's question will do.
pub async fn accepted(settings: &Settings) -> Result<()> {
    Client::new(settings)?.get_raw(&["api", "v1", "calls"], &[("limit", "1".into())]).await.map(drop)
}

/// The context in force, else one named after the server's host and port.
fn default_name(settings: &Settings) -> String {
    settings.context.clone().unwrap_or_else(|| {
        let port = settings.server.port().map_or(String::new(), |port| format!("-{port}"));
        let host = format!("{}{port}", settings.server.host_str().unwrap_or_default());
        let name: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let name: String = name.trim_matches('-').chars().take(64).collect();
        if name.is_empty() { "server".into() } else { name }
    })
}

/// Gives name and password to the server, for a token.
async fn ask_server(settings: &Settings, username: Option<String>) -> Result<Secret> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
    }
    let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    let username = match username {
        Some(username) => username,
        None if terminal => line("user name: ").await?,
        None => {
            return Err(Failure::usage("as whom? there is nobody to ask here")
                .hint("callscope login --username NAME < password.txt, or: callscope login --with-token < token.txt"));
        }
    };
    let password = if terminal { prompt("password: ").await? } else { piped("a password").await? };
    net::warn_if_plain(&settings.server, "the password", settings.console);
    // A token of before is no part of this question.
    let client = Client::new(&Settings { token: None, ..settings.clone() })?;
    let body = json!({"username": username, "password": password.trim_end_matches(['\r', '\n'])});
    let answer: Option<Answer> =
        client.ask(Method::POST, &["api", "v1", "auth", "login"], Some(&body)).await.map_err(|failure| {
            if failure.exit == Exit::NotAllowed {
                Failure::new(Exit::NotAllowed, format!("{} did not take name and password", shown(&settings.server)))
                    .hint("try again; users are kept by: callscope-server user ls")
            } else {
                failure
            }
        })?;
    let answer = answer.ok_or_else(|| {
        Failure::error(format!("{} has no logins with a password", shown(&settings.server))).hint(
            "mint a token on the server's machine: callscope-server token --sub NAME --ttl 8h > token.txt, then: \
             callscope login --with-token < token.txt",
        )
    })?;
    Ok(Secret::new(&answer.access_token))
}

/// Reads what was piped in.
async fn piped(what: &'static str) -> Result<String> {
    let read = tokio::task::spawn_blocking(|| {
        let mut text = String::new();
        io::stdin().lock().take(LONGEST).read_to_string(&mut text).map(|_| text)
    });
    let text = read.await.map_err(|error| Failure::error(error.to_string()))?;
    let text = text.map_err(|error| Failure::error(format!("cannot read stdin: {error}")))?;
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("stdin is empty; it should hold {what}")));
    }
    Ok(text)
}

/// Asks for a line on the terminal.
async fn line(question: &'static str) -> Result<String> {
    let read = tokio::task::spawn_blocking(move || {
        let _ = write!(io::stderr(), "{question}").and_then(|()| io::stderr().flush());
        let mut line = String::new();
        io::stdin().read_line(&mut line).map(|_| line.trim().to_owned())
    });
    answered(read.await.map_err(|error| Failure::error(error.to_string()))?)
}

/// Asks for a secret on the terminal, which does not show it.
async fn prompt(question: &'static str) -> Result<String> {
    let read = tokio::task::spawn_blocking(move || {
        let _ = write!(io::stderr(), "{question}").and_then(|()| io::stderr().flush());
        hidden()
    });
    answered(read.await.map_err(|error| Failure::error(error.to_string()))?)
}

fn answered(read: io::Result<String>) -> Result<String> {
    match read {
        Ok(text) if !text.is_empty() => Ok(text),
        Ok(_) => Err(Failure::usage("nothing was entered")),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::new(Exit::Interrupted, "")),
        Err(error) => Err(Failure::error(format!("cannot read the terminal: {error}"))),
    }
}

/// Reads a line in raw mode, key by key, and gives the terminal back whatever happens.
fn hidden() -> io::Result<String> {
    use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
    struct Raw;
    impl Drop for Raw {
        fn drop(&mut self) {
            let _ = crossterm::terminal::disable_raw_mode();
            let _ = writeln!(io::stderr());
        }
    }
    crossterm::terminal::enable_raw_mode()?;
    let _raw = Raw;
    let mut text = String::new();
    loop {
        let Event::Key(key) = read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Enter => return Ok(text),
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Err(io::ErrorKind::Interrupted.into());
            }
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
            KeyCode::Char(c) => text.push(c),
            KeyCode::Backspace => {
                text.pop();
            }
            _ => {}
        }
    }
}
