//! The way to the server: its name, its port, its certificate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::{Host, Url};

use super::{Check, Report, State};
use crate::api::{Unread, body, health_url};
use crate::exit::{Failure, Result};
use crate::net::{self, BoxError, Route, cause};
use crate::settings::Settings;

/// Longest answer read, in bytes.
const LONGEST: usize = 64 << 10;

/// An answer to the first question over HTTP.
pub(crate) struct Reached {
    /// Its HTTP status.
    pub(crate) status: u16,
    /// Its `Date`.
    pub(crate) date: Option<String>,
    pub(crate) body: String,
    /// Where it redirects to, and what to do about it.
    pub(crate) redirect: Option<Failure>,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Checks name, port and certificate, and asks the first question. `None`: no answer. Where there is a proxy on the
/// way, name and port are the proxy's: it is the proxy that looks for the server.
pub(crate) async fn check(settings: &Settings, patience: Duration, report: &mut Report) -> Result<Option<Reached>> {
    let route = match Route::to(&settings.server) {
        Ok(route) => route,
        Err(failure) => {
            report.add(Check::failed("tls", failure.message, failure.hint.unwrap_or_default()))?;
            return Ok(None);
        }
    };
    let hop = route.first_hop();
    let addresses = match resolve(&route, &hop, patience).await {
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
    let tcp = connect(&route, &hop, &addresses, patience).await;
    let is_connected = tcp.state == State::Ok;
    report.add(tcp)?;
    if !is_connected {
        report.add(Check::skipped("tls", "needs the connection"))?;
        return Ok(None);
    }
    let asked = ask(&route, "healthz", patience).await;
    report.add(tls(&route, &asked).await)?;
    Ok(asked.ok())
}

async fn resolve(route: &Route, hop: &Url, patience: Duration) -> std::result::Result<(Check, Vec<SocketAddr>), Check> {
    let port = hop.port_or_known_default().unwrap_or(80);
    let no_name = if route.proxy().is_some() { "the proxy looks it up" } else { "an address needs none" };
    let name = match hop.host() {
        Some(Host::Ipv4(address)) => {
            return Ok((Check::skipped("dns", no_name), vec![(address, port).into()]));
        }
        Some(Host::Ipv6(address)) => {
            return Ok((Check::skipped("dns", no_name), vec![(address, port).into()]));
        }
        Some(Host::Domain(name)) => name.to_owned(),
        // Proxies of other schemes than http have their names in another form.
        None => hop.host_str().unwrap_or_default().to_owned(),
    };
    let remedy = match route.proxy() {
        Some(proxy) => format!(
            "is {proxy} the right proxy? HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name it, NO_PROXY excepts servers"
        ),
        None => format!("is {name} spelled right? otherwise look at /etc/resolv.conf and the way to its name server"),
    };
    let failed = |why: String| Check::failed("dns", format!("{name}: {why}"), remedy.clone());
    let found = timeout(patience, lookup_host((name.as_str(), port))).await;
    let found = found.map_err(|_| failed(format!("no answer within {} s", patience.as_secs())))?;
    let addresses: Vec<SocketAddr> = found.map_err(|error| failed(cause(&error)))?.collect();
    let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    let what = if route.proxy().is_some() { "the proxy " } else { "" };
    Ok((Check::ok("dns", format!("{what}{name} is {}", list.join(", "))), addresses))
}

async fn connect(route: &Route, hop: &Url, addresses: &[SocketAddr], patience: Duration) -> Check {
    let proxy = route.proxy().map_or(String::new(), |proxy| format!("the proxy {proxy}: "));
    let mut wrong = Vec::new();
    for address in addresses {
        let started = Instant::now();
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(_)) if wrong.is_empty() => {
                return Check::ok("tcp", format!("{proxy}{address} in {}", ms(started.elapsed())));
            }
            Ok(Ok(_)) => {
                let detail = format!("{proxy}{address} in {}, but {}", ms(started.elapsed()), wrong.join("; "));
                return Check::ok("tcp", detail);
            }
            Ok(Err(error)) => wrong.push(format!("{address}: {}", cause(&error))),
            Err(_) => wrong.push(format!("{address}: no answer within {} s", patience.as_secs())),
        }
    }
    let port = hop.port_or_known_default().unwrap_or(80);
    let remedy = if !proxy.is_empty() {
        format!(
            "is the proxy running, and on port {port}? HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name it, NO_PROXY excepts servers"
        )
    } else if wrong.iter().all(|why| why.contains("refused")) {
        format!("is the server running, and on port {port}? start it: callscope-server")
    } else {
        "is there a firewall, or a VPN that is not up? from the server's machine: curl URL/healthz".into()
    };
    Check::failed("tcp", format!("{proxy}{}", wrong.join("; ")), remedy)
}

/// Asks for `/{path}`, which needs no token.
pub(crate) async fn ask(route: &Route, path: &str, patience: Duration) -> std::result::Result<Reached, BoxError> {
    let client = route.client().map_err(|failure| failure.message)?;
    let started = Instant::now();
    let response = client.get(health_url(route.server(), path)).timeout(patience).send().await?;
    let took = started.elapsed();
    let date = response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
    let status = response.status();
    let redirect = net::redirect(route.server(), response.url().path(), status, response.headers());
    let body = match body(response, LONGEST).await {
        Ok(body) => String::from_utf8_lossy(&body).into_owned(),
        Err(Unread::TooLong) => String::new(),
        Err(Unread::Broken(error)) => return Err(error.into()),
    };
    Ok(Reached { status: status.as_u16(), date, body, redirect, took })
}

/// What the answer, or its failure, says of the encryption.
async fn tls(route: &Route, asked: &std::result::Result<Reached, BoxError>) -> Check {
    let is_plain = route.server().scheme() == "http";
    match asked {
        Err(error) => {
            let trouble = route.trouble(error.as_ref()).await;
            let detail =
                if is_plain { format!("not used, and there is no answer: {}", trouble.what) } else { trouble.what };
            let remedy = "the connection broke off: does something else listen there, or is something in between?";
            Check::failed("tls", detail, trouble.remedy.unwrap_or_else(|| remedy.into()))
        }
        Ok(reached) if is_plain => {
            let status = reqwest::StatusCode::from_u16(reached.status).unwrap_or_default();
            match route.odd_answer(status).await {
                Some(trouble) => Check::failed("tls", trouble.what, trouble.remedy.unwrap_or_default()),
                None if net::is_loopback(route.server()) => Check::skipped("tls", "not needed on this machine"),
                None => Check::warning(
                    "tls",
                    "not used: others on the network can read tokens and calls",
                    "put the server behind https, and name it so: --server https://…",
                ),
            }
        }
        Ok(_) => Check::ok("tls", "certificate and name are right"),
    }
}

/// A time for people.
pub(crate) fn ms(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}
