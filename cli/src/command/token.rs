//! `token`: access tokens.

use std::io::{self, Read as _};
use std::path::Path;
use std::time::SystemTime;

use callscope_common::Timestamp;
use clap::Subcommand;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::calls::span_secs;
use crate::api::{Client, TOKEN_HINT, items};
use crate::exit::{Exit, Failure, Result};
use crate::net::shown;
use crate::render::{Format, Safe, behind, moment, shell_word};
use crate::secret::Secret;
use crate::settings::Settings;
use crate::token::Claims;

/// `token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Have the server make a token (admin); it is printed and kept nowhere
    Create {
        /// Whom it is for
        #[arg(long, value_name = "NAME")]
        sub: String,
        /// What it allows: viewer or admin
        #[arg(long, default_value = "viewer", value_parser = ["viewer", "admin"])]
        role: String,
        /// How long it holds: 30m, 8h, 7d
        #[arg(long, value_name = "TIME", default_value = "8h")]
        ttl: String,
        /// Only for this call, by any identifier; may be repeated
        #[arg(long = "call", value_name = "ID", add = crate::complete::calls())]
        calls: Vec<String>,
    },
    /// The tokens the server made and not yet forgot (admin)
    Ls,
    /// What a token says: whose, for what, until when; needs no server
    Inspect {
        /// A file that holds it, or `-` for stdin [default: the token in force]
        #[arg(value_name = "FILE")]
        file: Option<String>,
    },
    /// End a token before its time; its live connections too (admin)
    Revoke {
        /// The token's id (`jti`), as create and inspect show it
        #[arg(value_name = "JTI")]
        jti: String,
    },
}

const PATH: [&str; 4] = ["api", "v1", "auth", "tokens"];

/// Runs it.
pub async fn run(settings: &Settings, args: Token) -> Result {
    match args {
        Token::Create { sub, role, ttl, calls } => create(settings, &sub, &role, &ttl, &calls).await,
        Token::Ls => list(settings).await,
        Token::Inspect { file } => inspect(settings, file.as_deref()),
        Token::Revoke { jti } => {
            let path = [PATH[0], PATH[1], PATH[2], PATH[3], &jti];
            let client = Client::new(settings)?;
            let revoked: Option<serde::de::IgnoredAny> = client.ask(Method::DELETE, &path, None).await?;
            revoked.ok_or_else(|| {
                absent(settings, "revoke tokens")
                    .hint("until it can, a token ends by itself, or with the server's jwt_secret")
            })?;
            settings.console.say(format!("revoked {jti}"));
            Ok(Exit::Ok)
        }
    }
}

async fn create(settings: &Settings, sub: &str, role: &str, ttl: &str, calls: &[String]) -> Result {
    #[derive(Deserialize)]
    struct Minted {
        access_token: String,
        expires_in: Option<i64>,
        jti: Option<String>,
    }
    let secs = span_secs(ttl)
        .filter(|secs| *secs > 0)
        .ok_or_else(|| Failure::usage(format!("{ttl:?} is no length of time; --ttl takes 30m, 8h, 7d")))?;
    let mut body = json!({"sub": sub, "role": role, "ttl_seconds": secs});
    if !calls.is_empty() {
        body["calls"] = json!(calls);
    }
    let client = Client::new(settings)?;
    let raw: Option<Box<RawValue>> = client.ask(Method::POST, &PATH, Some(&body)).await?;
    let raw = raw.ok_or_else(|| {
        let limits: String = calls
            .iter()
            .map(|call| format!(" --call{}{}", if call.starts_with('-') { "=" } else { " " }, shell_word(call)))
            .collect();
        absent(settings, "make tokens").hint(format!(
            "make it on the server's machine: callscope-server token --sub {} --role {role} --ttl {}{limits}",
            shell_word(sub),
            shell_word(ttl)
        ))
    })?;
    let minted: Minted = serde_json::from_str(raw.get())
        .map_err(|error| Failure::error(format!("the server's answer is no token: {error}")))?;
    // The token alone, so that `> token.txt` makes a file of it.
    match settings.format {
        Some(Format::Json | Format::Ndjson) => settings.output(Format::Json).record(&raw, &[])?,
        _ => settings.output(Format::Text).write(&Safe::line(&minted.access_token).end())?,
    }
    #[allow(clippy::cast_precision_loss)]
    let left = minted.expires_in.map_or(String::new(), |secs| format!(" for {}", crate::token::span(secs as f64)));
    let jti =
        minted.jti.map_or(String::new(), |jti| format!("; ended before by: callscope token revoke {}", behind(&jti)));
    settings.console.say(format!("a token of {sub} ({role}){left}{jti}"));
    Ok(Exit::Ok)
}

async fn list(settings: &Settings) -> Result {
    #[derive(Deserialize)]
    struct List {
        #[serde(deserialize_with = "items")]
        tokens: Vec<Box<RawValue>>,
    }
    #[derive(Deserialize)]
    struct Shown {
        jti: String,
        #[serde(default)]
        sub: String,
        #[serde(default)]
        role: String,
        expires_at: Option<Timestamp>,
    }
    let list: Option<List> = Client::new(settings)?.ask(Method::GET, &PATH, None).await?;
    let list = list.ok_or_else(|| {
        absent(settings, "list tokens").hint("what one token says: callscope token inspect token.txt")
    })?;
    let row = |raw: &RawValue| {
        let token: Shown = serde_json::from_str(raw.get())
            .map_err(|error| Failure::error(format!("the server's answer is no token: {error}")))?;
        Ok(vec![token.jti, token.sub, token.role, token.expires_at.map(moment).unwrap_or_default()])
    };
    let rows = list.tokens.iter().map(|raw| row(raw)).collect::<Result<Vec<_>>>()?;
    settings.output(Format::Table).list("tokens", &list.tokens, &["ID", "USER", "ROLE", "UNTIL"], &rows)?;
    if rows.is_empty() {
        settings.console.say("no tokens");
    }
    Ok(Exit::Ok)
}

fn inspect(settings: &Settings, file: Option<&str>) -> Result {
    let (token, from) = match file {
        Some("-") => {
            let mut text = String::new();
            io::stdin()
                .lock()
                .take(64 << 10)
                .read_to_string(&mut text)
                .map_err(|error| Failure::error(format!("cannot read stdin: {error}")))?;
            (Secret::new(text.trim()), "stdin".to_owned())
        }
        Some(path) => (Secret::read(Path::new(path))?, path.to_owned()),
        None => {
            let token = settings.token.clone();
            let token = token.ok_or_else(|| Failure::new(Exit::NotAllowed, "there is no token").hint(TOKEN_HINT))?;
            (token, settings.origin.token.clone())
        }
    };
    let claims = Claims::of(&token)?;
    let now = Timestamp::from_system_time(SystemTime::now());
    let raw = serde_json::to_string(&claims).and_then(RawValue::from_string);
    let raw = raw.map_err(|error| Failure::error(error.to_string()))?;
    settings.output(Format::Table).record(
        &raw,
        &[
            ("user", claims.sub.clone()),
            ("user id", claims.uid.clone().unwrap_or_default()),
            ("role", claims.role.clone()),
            ("calls", claims.calls_in_words()),
            ("until", claims.expires().map(moment).unwrap_or_default()),
            ("valid", claims.left_in_words(now)),
            ("id", claims.jti.clone().unwrap_or_default()),
            ("token from", from),
        ],
    )?;
    settings.console.say("only the server can tell whether it is genuine: callscope whoami");
    Ok(Exit::Ok)
}

/// The server has no such route.
fn absent(settings: &Settings, what: &str) -> Failure {
    Failure::error(format!("{} cannot {what}: it has no such route", shown(&settings.server)))
}
