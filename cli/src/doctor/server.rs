//! Checks the server: its version, its clock, its readiness, the token and the WebSocket.

use std::time::{Duration, Instant};

use callscope_common::Timestamp;
use callscope_common::protocol::ServerMessage;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::network::{self, HttpAnswer, format_ms};
use super::{Check, Report, State};
use crate::api::{Client, TOKEN_HINT};
use crate::exit::{Exit, Result};
use crate::net::{ServerConnector, display_url, root_cause};
use crate::settings::Settings;
use crate::stream::{Endpoint, probe};
use crate::token::{left_in_words, read_claims};
use crate::{clock, duration};

/// With a larger clock skew, valid tokens and signatures may be refused.
const MAX_CLOCK_SKEW_SECS: f64 = 30.0;
/// A larger clock skew is a warning.
const WARN_CLOCK_SKEW_SECS: f64 = 3.0;
/// A token that expires sooner is a warning.
const WARN_TOKEN_LIFETIME_SECS: f64 = 600.0;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Checks what needs the server. `health` is the answer of `/healthz`; without it, all checks but the token's are
/// skipped.
pub(crate) async fn check(
    settings: &Settings,
    time_limit: Duration,
    health: Option<HttpAnswer>,
    report: &mut Report,
) -> Result<()> {
    let now = clock::now();
    let Some(health) = health else {
        for name in ["server", "clock", "ready"] {
            report.add(Check::skipped(name, "needs the server"))?;
        }
        // The claims of a token can be read without the server.
        report.add(token(settings, now))?;
        return report.add(Check::skipped("websocket", "needs the server"));
    };
    let server = server(settings, &health);
    let is_callscope = server.state != State::Failed;
    report.add(server)?;
    report.add(clock(&health))?;
    if !is_callscope {
        report.add(Check::skipped("ready", "needs a Callscope server"))?;
        report.add(token(settings, now))?;
        return report.add(Check::skipped("websocket", "needs a Callscope server"));
    }
    let connector = ServerConnector::to(&settings.server)?;
    report.add(ready(&connector, time_limit).await)?;
    let mut token = token(settings, now);
    if token.state == State::Ok || token.state == State::Warning {
        token = accepted_by_server(settings, token).await;
    }
    let is_token_usable = token.state != State::Failed;
    report.add(token)?;
    report.add(if is_token_usable {
        websocket(settings, time_limit).await
    } else {
        Check::skipped("websocket", "needs a token that the server accepts")
    })
}

fn server(settings: &Settings, answer: &HttpAnswer) -> Check {
    #[derive(Deserialize)]
    struct Health {
        version: String,
    }
    let url = display_url(&settings.server);
    if let Some(redirect) = &answer.redirect {
        return Check::failed_with_hint("server", redirect.message.clone(), redirect.hint.clone());
    }
    let Ok(health) = serde_json::from_str::<Health>(&answer.body) else {
        let remedy = "is that a Callscope server? name another with --server URL; if it is behind a reverse proxy, check the URL's path";
        return Check::failed("server", format!("{url}/healthz answered {} without a version", answer.status), remedy);
    };
    let detail = format!("Callscope {} answers in {}", health.version, format_ms(answer.took));
    let own_version = env!("CARGO_PKG_VERSION");
    let major_minor = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
    if major_minor(&health.version) == major_minor(own_version) {
        return Check::ok("server", detail);
    }
    Check::warning(
        "server",
        format!("{detail}; this is callscope {own_version}"),
        "use a client of the server's version",
    )
}

/// Compares the clocks, to about a second: a `Date` has whole seconds.
fn clock(answer: &HttpAnswer) -> Check {
    let Some(date) = answer.date.as_deref().and_then(parse_http_date) else {
        return Check::skipped("clock", "the answer has no Date");
    };
    // The server took its time about half a round trip before the answer arrived, and cut off the fraction of the
    // second, which is half a second on average.
    let skew = date.secs_since(answer.received_at) + answer.took.as_secs_f64() / 2.0 + 0.5;
    let direction = if skew > 0.0 { "ahead of" } else { "behind" };
    let detail = format!("the server is {} {direction} this machine", duration::in_words(skew.abs()));
    if skew.abs() > MAX_CLOCK_SKEW_SECS {
        return Check::failed(
            "clock",
            detail,
            "set both clocks by NTP (timedatectl set-ntp true); tokens and signatures depend on them",
        );
    }
    if skew.abs() > WARN_CLOCK_SKEW_SECS {
        return Check::warning("clock", detail, "set both clocks by NTP: timedatectl set-ntp true");
    }
    Check::ok("clock", "the server and this machine agree within 3 s")
}

/// Parses `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_http_date(text: &str) -> Option<Timestamp> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [_, day, month, year, time, "GMT"] = parts.as_slice() else { return None };
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|known| known == month)? + 1;
    Timestamp::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z"))
}

async fn ready(connector: &ServerConnector, time_limit: Duration) -> Check {
    match network::get(connector, "readyz", time_limit).await {
        Ok(answer) => readiness(&answer),
        Err(error) => not_ready(root_cause(error.as_ref())),
    }
}

fn readiness(answer: &HttpAnswer) -> Check {
    if (200..300).contains(&answer.status) {
        return Check::ok("ready", "the server writes a probe and delivers it");
    }
    let report: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
    match &report["checks"] {
        serde_json::Value::Null => not_ready(format!("/readyz answered {} without a report", answer.status)),
        checks => not_ready(format!("not ready: {checks}")),
    }
}

fn not_ready(detail: String) -> Check {
    Check::failed("ready", detail, "see the server's log; the server recovers by itself once the cause is gone")
}

/// Checks the claims of the token, without the server.
fn token(settings: &Settings, now: Timestamp) -> Check {
    let Some(token) = &settings.token else { return Check::failed("token", "there is no token", TOKEN_HINT) };
    let origin = &settings.origin.token;
    let claims = match read_claims(token) {
        Ok(claims) => claims,
        Err(failure) => return Check::failed("token", format!("{}, from {origin}", failure.message), TOKEN_HINT),
    };
    let calls = claims.calls.as_ref().map_or(String::new(), |calls| format!(", only for {} calls", calls.len()));
    let detail = format!("{} ({}{calls}), {}, from {origin}", claims.sub, claims.role, left_in_words(&claims, now));
    match claims.secs_left(now) {
        Some(left) if left <= 0.0 => Check::failed("token", detail, TOKEN_HINT),
        Some(left) if left < WARN_TOKEN_LIFETIME_SECS => {
            Check::warning("token", detail, "make another token before this one expires")
        }
        _ => Check::ok("token", detail),
    }
}

/// Asks the server whether it accepts the token. `check` is the result so far, which stands if the server does.
async fn accepted_by_server(settings: &Settings, check: Check) -> Check {
    match Client::check_token(settings).await {
        Ok(()) => check,
        Err(failure) if failure.exit == Exit::NotAllowed => Check::failed(
            "token",
            format!("{}; the server refuses it: {}", check.detail, failure.message),
            "another server may have issued it; make one on this server's machine: callscope-server token",
        ),
        Err(failure) => {
            Check::failed_with_hint("token", format!("{}; {}", check.detail, failure.message), failure.hint)
        }
    }
}

/// Upgrades a connection to a WebSocket and waits for the answer to a ping.
async fn websocket(settings: &Settings, time_limit: Duration) -> Check {
    const REMEDY: &str = "a reverse proxy must forward upgrades; for nginx: proxy_http_version 1.1 and the headers Upgrade and Connection";
    let started = Instant::now();
    let mut socket = match timeout(time_limit, probe(&Endpoint::new(settings))).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(failure)) => {
            return Check::failed("websocket", failure.message, failure.hint.unwrap_or_else(|| REMEDY.into()));
        }
        Err(_) => return Check::failed("websocket", format!("no answer within {} s", time_limit.as_secs()), REMEDY),
    };
    let upgrade_took = started.elapsed();
    let ping_sent = Instant::now();
    let ping = async {
        socket.send(Message::text(r#"{"ping":"doctor"}"#)).await.map_err(|error| root_cause(&error))?;
        while let Some(message) = socket.next().await {
            let message = message.map_err(|error| root_cause(&error))?;
            let Message::Text(text) = message else { continue };
            if matches!(ServerMessage::parse(&text), Ok(ServerMessage::Pong(_))) {
                return Ok(());
            }
        }
        Err("the connection was closed before the answer".to_owned())
    };
    let check = match timeout(time_limit, ping).await {
        Ok(Ok(())) => Check::ok(
            "websocket",
            format!("upgraded in {}, ping in {}", format_ms(upgrade_took), format_ms(ping_sent.elapsed())),
        ),
        Ok(Err(why)) => Check::failed("websocket", format!("upgraded, but no answer to a ping: {why}"), REMEDY),
        Err(_) => Check::failed(
            "websocket",
            format!("upgraded, but no answer to a ping within {} s", time_limit.as_secs()),
            REMEDY,
        ),
    };
    // The result is known, so a close that fails does not matter.
    let _ = timeout(CLOSE_TIMEOUT, socket.close(None)).await;
    check
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str, received_at: Timestamp) -> HttpAnswer {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT".into());
        HttpAnswer { status, date, body: body.into(), redirect: None, received_at, took: Duration::ZERO }
    }

    #[test]
    fn the_clock_is_read_from_an_answers_date() {
        assert_eq!(
            parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap().to_string(),
            "1994-11-06T08:49:37.000000Z"
        );
        assert_eq!(parse_http_date("06 Nov 1994"), None);
        let date = parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(clock(&answer(200, "", date.plus_secs(1))).state, State::Ok);
        assert_eq!(clock(&answer(200, "", date.plus_secs(-10))).state, State::Warning);
        let behind = clock(&answer(200, "", date.plus_secs(120)));
        assert_eq!((behind.state, behind.detail.as_str()), (State::Failed, "the server is 2m behind this machine"));
        assert!(behind.remedy.is_some());
    }

    #[test]
    fn a_server_that_is_not_ready_says_why_if_it_can() {
        let detail = |status, body| readiness(&answer(status, body, clock::now())).detail;
        assert_eq!(detail(503, r#"{"checks":{"database":"down"}}"#), r#"not ready: {"database":"down"}"#);
        assert_eq!(detail(502, "<h1>Bad Gateway</h1>"), "/readyz answered 502 without a report");
        assert_eq!(readiness(&answer(200, "", clock::now())).state, State::Ok);
    }
}
