//! The server itself: is it one, of which version, ready, and what does it make of our token?

use std::time::{Duration, Instant};

use callscope_common::Timestamp;
use callscope_common::protocol::ServerMessage;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::network::{self, Reached, ms};
use super::{Check, Report, State};
use crate::api::{Client, TOKEN_HINT};
use crate::exit::{Exit, Result};
use crate::net::{Route, cause, shown};
use crate::settings::Settings;
use crate::stream::{Endpoint, probe};
use crate::token::Claims;
use crate::{clock, duration};

/// A clock that is off by more makes tokens and signatures look wrong, in seconds.
const WRONG_CLOCK: f64 = 30.0;
/// Off by more is worth a word.
const ODD_CLOCK: f64 = 3.0;
/// A token that ends sooner is worth a word, in seconds.
const SOON: f64 = 600.0;

/// Checks everything that needs a server's answer.
pub(crate) async fn check(
    settings: &Settings,
    patience: Duration,
    reached: Option<Reached>,
    report: &mut Report,
) -> Result<()> {
    let now = clock::now();
    let Some(reached) = reached else {
        for name in ["server", "clock", "ready"] {
            report.add(Check::skipped(name, "needs the server"))?;
        }
        // A token can be read without the server.
        report.add(token(settings, now))?;
        return report.add(Check::skipped("websocket", "needs the server"));
    };
    let server = server(settings, &reached);
    let is_ours = server.state != State::Failed;
    report.add(server)?;
    report.add(clock(&reached, now))?;
    if !is_ours {
        report.add(Check::skipped("ready", "needs a Callscope server"))?;
        report.add(token(settings, now))?;
        return report.add(Check::skipped("websocket", "needs a Callscope server"));
    }
    let route = Route::to(&settings.server)?;
    report.add(ready(&route, patience).await)?;
    let mut token = token(settings, now);
    if token.state == State::Ok || token.state == State::Warning {
        token = believed(settings, token).await;
    }
    let has_token = token.state != State::Failed;
    report.add(token)?;
    report.add(if has_token {
        websocket(settings, patience).await
    } else {
        Check::skipped("websocket", "needs a token")
    })
}

fn server(settings: &Settings, reached: &Reached) -> Check {
    #[derive(Deserialize)]
    struct Health {
        version: String,
    }
    let at = shown(&settings.server);
    if let Some(redirect) = &reached.redirect {
        return Check::failed("server", redirect.message.clone(), redirect.hint.clone().unwrap_or_default());
    }
    let Ok(health) = serde_json::from_str::<Health>(&reached.body) else {
        let remedy = "is that a Callscope server? name another: --server URL; behind a proxy, is its path right?";
        return Check::failed(
            "server",
            format!("{at}/healthz answered {} and names no version", reached.status),
            remedy,
        );
    };
    let detail = format!("Callscope {} answers in {}", health.version, ms(reached.took));
    let own = env!("CARGO_PKG_VERSION");
    let family = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
    if family(&health.version) == family(own) {
        return Check::ok("server", detail);
    }
    Check::warning("server", format!("{detail}; this is callscope {own}"), "use a client of the server's version")
}

/// How far the clocks are apart, give or take the second that a `Date` is rounded to.
fn clock(reached: &Reached, now: Timestamp) -> Check {
    let date = reached.date.as_deref().and_then(http_date);
    let Some(date) = date else { return Check::skipped("clock", "the server does not tell the time") };
    // It was told half the answer's way ago, and cut to its second.
    let off = date.secs_since(now) + reached.took.as_secs_f64() / 2.0 + 0.5;
    let words = if off > 0.0 { "ahead of" } else { "behind" };
    let detail = format!("the server is {} {words} this machine", duration::in_words(off.abs()));
    if off.abs() > WRONG_CLOCK {
        return Check::failed(
            "clock",
            detail,
            "set both clocks, by NTP: timedatectl set-ntp true; tokens and signatures go by them",
        );
    }
    if off.abs() > ODD_CLOCK {
        return Check::warning("clock", detail, "set both clocks, by NTP: timedatectl set-ntp true");
    }
    Check::ok("clock", "the same here and there, within 3 s")
}

/// Reads `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(text: &str) -> Option<Timestamp> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = parts.as_slice() else { return None };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|known| known == month)? + 1;
    Timestamp::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z"))
}

async fn ready(route: &Route, patience: Duration) -> Check {
    let failed = |detail: String| {
        Check::failed("ready", detail, "see the server's log; it is ready again by itself once that works")
    };
    let reached = match network::ask(route, "readyz", patience).await {
        Ok(reached) => reached,
        Err(error) => return failed(cause(error.as_ref())),
    };
    let body: serde_json::Value = serde_json::from_str(&reached.body).unwrap_or_default();
    if (200..300).contains(&reached.status) {
        return Check::ok("ready", "it writes, and what it writes is delivered");
    }
    failed(format!("not ready: {}", body["checks"]))
}

/// What the token says of itself.
fn token(settings: &Settings, now: Timestamp) -> Check {
    let Some(token) = &settings.token else { return Check::failed("token", "there is none", TOKEN_HINT) };
    let from = &settings.origin.token;
    let claims = match Claims::of(token) {
        Ok(claims) => claims,
        Err(failure) => return Check::failed("token", format!("{}, from {from}", failure.message), TOKEN_HINT),
    };
    let calls = claims.calls.as_ref().map_or(String::new(), |calls| format!(", only for {} calls", calls.len()));
    let detail = format!("{} ({}{calls}), {}, from {from}", claims.sub, claims.role, claims.left_in_words(now));
    match claims.left(now) {
        Some(left) if left <= 0.0 => Check::failed("token", detail, TOKEN_HINT),
        Some(left) if left < SOON => Check::warning("token", detail, "it ends soon; make another before it does"),
        _ => Check::ok("token", detail),
    }
}

/// What the server says of the token.
async fn believed(settings: &Settings, said: Check) -> Check {
    match Client::check_token(settings).await {
        Ok(()) => said,
        Err(failure) if failure.exit == Exit::NotAllowed => Check::failed(
            "token",
            format!("{}; the server refuses it: {}", said.detail, failure.message),
            "it may be of another server, whose key is another: callscope-server token on this server's machine",
        ),
        Err(failure) => {
            Check::failed("token", format!("{}; {}", said.detail, failure.message), failure.hint.unwrap_or_default())
        }
    }
}

/// The upgrade, and a ping there and back.
async fn websocket(settings: &Settings, patience: Duration) -> Check {
    const REMEDY: &str = "a proxy on the way has to pass upgrades on: for nginx, proxy_http_version 1.1 and the headers Upgrade and Connection";
    let started = Instant::now();
    let mut socket = match timeout(patience, probe(&Endpoint::new(settings))).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(failure)) => {
            return Check::failed("websocket", failure.message, failure.hint.unwrap_or_else(|| REMEDY.into()));
        }
        Err(_) => return Check::failed("websocket", format!("no answer within {} s", patience.as_secs()), REMEDY),
    };
    let upgraded = started.elapsed();
    let started = Instant::now();
    let asked = async {
        socket.send(Message::text(r#"{"ping":"doctor"}"#)).await.map_err(|error| cause(&error))?;
        while let Some(message) = socket.next().await {
            let message = message.map_err(|error| cause(&error))?;
            let Message::Text(text) = message else { continue };
            if matches!(ServerMessage::parse(&text), Ok(ServerMessage::Pong(_))) {
                return Ok(());
            }
        }
        Err("it was closed before the answer".to_owned())
    };
    let answered = timeout(patience, asked).await;
    let check = match answered {
        Ok(Ok(())) => {
            Check::ok("websocket", format!("upgraded in {}, ping in {}", ms(upgraded), ms(started.elapsed())))
        }
        Ok(Err(why)) => Check::failed("websocket", format!("upgraded, but no answer to a ping: {why}"), REMEDY),
        Err(_) => Check::failed(
            "websocket",
            format!("upgraded, but no answer to a ping within {} s", patience.as_secs()),
            REMEDY,
        ),
    };
    let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
    check
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_read_from_an_answers_date() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap().to_string(), "1994-11-06T08:49:37.000000Z");
        assert_eq!(http_date("06 Nov 1994"), None);
        let at = |secs: i64| Reached {
            status: 200,
            date: Some("Sun, 06 Nov 1994 08:49:37 GMT".into()),
            redirect: None,
            body: String::new(),
            took: Duration::from_millis(secs.unsigned_abs().min(1)),
        };
        let date = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(clock(&at(0), date.plus_secs(1)).state, State::Ok);
        assert_eq!(clock(&at(0), date.plus_secs(-10)).state, State::Warning);
        let behind = clock(&at(0), date.plus_secs(120));
        assert_eq!((behind.state, behind.detail.as_str()), (State::Failed, "the server is 2m behind this machine"));
        assert!(behind.remedy.is_some());
    }
}
