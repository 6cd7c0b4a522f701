//! Checks the way to the server: name resolution, TCP, TLS and a first request.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use callscope_common::Timestamp;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::{Host, Url};

use super::{Check, Report, State};
use crate::api::{BodyError, health_url, read_body};
use crate::clock;
use crate::exit::{Failure, Result};
use crate::net::{self, BoxError, ServerConnector, root_cause};
use crate::settings::Settings;

const MAX_ANSWER_BYTES: usize = 64 << 10;

/// An answer of the server to a `GET`.
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    /// The header `Date`.
    pub(crate) date: Option<String>,
    /// Empty if it was longer than [`MAX_ANSWER_BYTES`].
    pub(crate) body: String,
    /// If the server redirects, the failure that says where to.
    pub(crate) redirect: Option<Failure>,
    /// When the headers arrived.
    pub(crate) received_at: Timestamp,
    /// Time from the request to the headers.
    pub(crate) took: Duration,
}

/// Checks name resolution, TCP and TLS, and returns the answer of `/healthz` if there is one. With a proxy, the name
/// and the port are the proxy's, since the proxy resolves and connects to the server.
pub(crate) async fn check(
    settings: &Settings,
    time_limit: Duration,
    report: &mut Report,
) -> Result<Option<HttpAnswer>> {
    let connector = match ServerConnector::to(&settings.server) {
        Ok(connector) => connector,
        Err(failure) => {
            report.add(Check::failed_with_hint("tls", failure.message, failure.hint))?;
            return Ok(None);
        }
    };
    let first_hop = connector.first_hop();
    let addresses = match resolve(&connector, &first_hop, time_limit).await {
        Ok((check, addresses)) => {
            report.add(check)?;
            addresses
        }
        Err(check) => {
            report.add(check)?;
            for name in ["tcp", "tls"] {
                report.add(Check::skipped(name, "needs the address"))?;
            }
            return Ok(None);
        }
    };
    let tcp = connect(&connector, &first_hop, &addresses, time_limit).await;
    let is_connected = tcp.state == State::Ok;
    report.add(tcp)?;
    if !is_connected {
        report.add(Check::skipped("tls", "needs the connection"))?;
        return Ok(None);
    }
    let answer = get(&connector, "healthz", time_limit).await;
    report.add(tls(&connector, &answer).await)?;
    Ok(answer.ok())
}

async fn resolve(
    connector: &ServerConnector,
    first_hop: &Url,
    time_limit: Duration,
) -> std::result::Result<(Check, Vec<SocketAddr>), Check> {
    let port = first_hop.port_or_known_default().unwrap_or(80);
    let skip_reason =
        if connector.proxy_url().is_some() { "the proxy resolves the name" } else { "the URL has an IP address" };
    let name = match first_hop.host() {
        Some(Host::Ipv4(address)) => {
            return Ok((Check::skipped("dns", skip_reason), vec![(address, port).into()]));
        }
        Some(Host::Ipv6(address)) => {
            return Ok((Check::skipped("dns", skip_reason), vec![(address, port).into()]));
        }
        Some(Host::Domain(name)) => name.to_owned(),
        // The URL parser finds no host type for schemes such as `socks5h`.
        None => first_hop.host_str().unwrap_or_default().to_owned(),
    };
    let remedy = match connector.proxy_url() {
        Some(proxy) => format!(
            "is {proxy} the right proxy? HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name it, NO_PROXY lists servers that are reached without it"
        ),
        None => {
            format!("is {name} spelled right? otherwise check /etc/resolv.conf and the connection to its name server")
        }
    };
    let failed = |why: String| Check::failed("dns", format!("{name}: {why}"), remedy.clone());
    let resolved = timeout(time_limit, lookup_host((name.as_str(), port))).await;
    let resolved = resolved.map_err(|_| failed(format!("no answer within {} s", time_limit.as_secs())))?;
    let addresses: Vec<SocketAddr> = resolved.map_err(|error| failed(root_cause(&error)))?.collect();
    let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let prefix = if connector.proxy_url().is_some() { "the proxy " } else { "" };
    Ok((Check::ok("dns", format!("{prefix}{name} is {}", list.join(", "))), addresses))
}

async fn connect(
    connector: &ServerConnector,
    first_hop: &Url,
    addresses: &[SocketAddr],
    time_limit: Duration,
) -> Check {
    let prefix = connector.proxy_url().map_or(String::new(), |proxy| format!("the proxy {proxy}: "));
    let mut errors = Vec::new();
    for address in addresses {
        let started = Instant::now();
        match timeout(time_limit, TcpStream::connect(address)).await {
            Ok(Ok(_)) if errors.is_empty() => {
                return Check::ok("tcp", format!("{prefix}{address} in {}", format_ms(started.elapsed())));
            }
            Ok(Ok(_)) => {
                let detail =
                    format!("{prefix}{address} in {}, but {}", format_ms(started.elapsed()), errors.join("; "));
                return Check::ok("tcp", detail);
            }
            Ok(Err(error)) => errors.push(format!("{address}: {}", root_cause(&error))),
            Err(_) => errors.push(format!("{address}: no answer within {} s", time_limit.as_secs())),
        }
    }
    let port = first_hop.port_or_known_default().unwrap_or(80);
    let remedy = if !prefix.is_empty() {
        format!(
            "is the proxy running, and on port {port}? HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name it, NO_PROXY lists servers that are reached without it"
        )
    } else if errors.iter().all(|error| error.contains("refused")) {
        format!("is the server running, and on port {port}? start it: callscope-server")
    } else {
        "is a firewall in between, or a VPN down? try on the server's machine: curl URL/healthz".into()
    };
    Check::failed("tcp", format!("{prefix}{}", errors.join("; ")), remedy)
}

/// Requests `/{path}` without a token.
pub(crate) async fn get(
    connector: &ServerConnector,
    path: &str,
    time_limit: Duration,
) -> std::result::Result<HttpAnswer, BoxError> {
    let client = connector.http_client().map_err(|failure| failure.message)?;
    let started = Instant::now();
    let response = client.get(health_url(connector.server(), path)).timeout(time_limit).send().await?;
    let (took, received_at) = (started.elapsed(), clock::now());
    let date = response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
    let status = response.status();
    let redirect = net::redirect_failure(connector.server(), response.url().path(), status, response.headers());
    let body = match read_body(response, MAX_ANSWER_BYTES).await {
        Ok(body) => String::from_utf8_lossy(&body).into_owned(),
        // No answer of Callscope is that long, so it is reported as another program's.
        Err(BodyError::TooLong) => String::new(),
        Err(BodyError::Broken(error)) => return Err(error.into()),
    };
    Ok(HttpAnswer { status: status.as_u16(), date, body, redirect, received_at, took })
}

/// Judges the encryption by the answer of `/healthz`.
async fn tls(connector: &ServerConnector, answer: &std::result::Result<HttpAnswer, BoxError>) -> Check {
    let is_plain = connector.server().scheme() == "http";
    match answer {
        Err(error) => {
            let diagnosis = connector.diagnose(error.as_ref()).await;
            let detail = if is_plain {
                format!("not used, and there is no answer: {}", diagnosis.problem)
            } else {
                diagnosis.problem
            };
            let remedy = "the connection broke off; does another program listen on that port, or does a firewall cut connections?";
            Check::failed("tls", detail, diagnosis.remedy.unwrap_or_else(|| remedy.into()))
        }
        Ok(answer) if is_plain => {
            let status = reqwest::StatusCode::from_u16(answer.status).unwrap_or_default();
            match connector.diagnose_answer(status).await {
                Some(diagnosis) => Check::failed_with_hint("tls", diagnosis.problem, diagnosis.remedy),
                None if net::is_loopback(connector.server()) => Check::skipped("tls", "not needed on this machine"),
                None => Check::warning(
                    "tls",
                    "not used: others on the network can read tokens and calls",
                    "put the server behind https, and use --server https://…",
                ),
            }
        }
        Ok(_) => Check::ok("tls", "the certificate is valid and names the server"),
    }
}

pub(crate) fn format_ms(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}
