//! The way to the server: its name, its port, its certificate.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustls::CertificateError;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::{Host, Url};

use super::{Check, Report};
use crate::client::{cause, endpoint, http_client, shown};
use crate::exit::Result;
use crate::settings::Settings;

/// An answer to the first question over HTTP.
pub struct Reached {
    /// Its HTTP status.
    pub status: u16,
    /// Its `Date`.
    pub date: Option<String>,
    /// Its body.
    pub body: String,
    /// How long it took.
    pub took: Duration,
}

/// Checks name, port and certificate, and asks the first question. `None`: no answer.
pub async fn check(settings: &Settings, patience: Duration, report: &mut Report) -> Result<Option<Reached>> {
    let server = &settings.server;
    let addresses = match resolve(server, patience).await {
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
    let tcp = connect(server, &addresses, patience).await;
    let is_connected = tcp.state == super::State::Ok;
    report.add(tcp)?;
    if !is_connected {
        report.add(Check::skipped("tls", "needs the connection"))?;
        return Ok(None);
    }
    let asked = ask(settings, patience).await;
    report.add(tls(server, &asked))?;
    Ok(asked.ok())
}

async fn resolve(server: &Url, patience: Duration) -> std::result::Result<(Check, Vec<SocketAddr>), Check> {
    let port = server.port_or_known_default().unwrap_or(80);
    let name = match server.host() {
        Some(Host::Ipv4(address)) => {
            return Ok((Check::skipped("dns", "an address needs none"), vec![(address, port).into()]));
        }
        Some(Host::Ipv6(address)) => {
            return Ok((Check::skipped("dns", "an address needs none"), vec![(address, port).into()]));
        }
        Some(Host::Domain(name)) => name.to_owned(),
        None => String::new(),
    };
    let remedy = format!("is {name} spelled right? otherwise look at /etc/resolv.conf and the way to its name server");
    let failed = |why: String| Check::failed("dns", format!("{name}: {why}"), remedy.clone());
    let found = timeout(patience, lookup_host((name.as_str(), port))).await;
    let found = found.map_err(|_| failed(format!("no answer within {} s", patience.as_secs())))?;
    let addresses: Vec<SocketAddr> = found.map_err(|error| failed(cause(&error)))?.collect();
    let list: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    Ok((Check::ok("dns", format!("{name} is {}", list.join(", "))), addresses))
}

async fn connect(server: &Url, addresses: &[SocketAddr], patience: Duration) -> Check {
    let mut wrong = Vec::new();
    for address in addresses {
        let started = Instant::now();
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(_)) if wrong.is_empty() => {
                return Check::ok("tcp", format!("{address} in {}", ms(started.elapsed())));
            }
            Ok(Ok(_)) => {
                let detail = format!("{address} in {}, but {}", ms(started.elapsed()), wrong.join("; "));
                return Check::ok("tcp", detail);
            }
            Ok(Err(error)) => wrong.push(format!("{address}: {}", cause(&error))),
            Err(_) => wrong.push(format!("{address}: no answer within {} s", patience.as_secs())),
        }
    }
    let remedy = if wrong.iter().all(|why| why.contains("refused")) {
        format!(
            "is the server running, and on port {}? start it: callscope-server",
            server.port_or_known_default().unwrap_or(80)
        )
    } else {
        "is there a firewall, or a VPN that is not up? from the server's machine: curl URL/healthz".into()
    };
    Check::failed("tcp", wrong.join("; "), remedy)
}

async fn ask(
    settings: &Settings,
    patience: Duration,
) -> std::result::Result<Reached, Box<dyn std::error::Error + Send + Sync>> {
    let client = http_client(&settings.server).map_err(|failure| failure.message)?;
    let started = Instant::now();
    let response = client.get(endpoint(&settings.server, &["healthz"])).timeout(patience).send().await?;
    let took = started.elapsed();
    let date = response.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned);
    let status = response.status().as_u16();
    let body = response.text().await.unwrap_or_default();
    Ok(Reached { status, date, body, took })
}

/// What the answer, or its failure, says of the encryption.
fn tls(server: &Url, asked: &std::result::Result<Reached, Box<dyn std::error::Error + Send + Sync>>) -> Check {
    let is_loopback = match server.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if server.scheme() == "http" {
        return match asked {
            Err(error) => Check::failed(
                "tls",
                format!("not used, and no HTTP is spoken: {}", cause(error.as_ref())),
                http_remedy(server),
            ),
            Ok(_) if is_loopback => Check::skipped("tls", "not needed on this machine"),
            Ok(_) => Check::warning(
                "tls",
                "not used: whoever is on the way reads tokens and calls",
                "put the server behind https, and name it so: --server https://…",
            ),
        };
    }
    match asked {
        Ok(_) => Check::ok("tls", "certificate and name are right"),
        Err(error) => {
            let (detail, remedy) = trouble(error.as_ref(), server);
            Check::failed("tls", detail, remedy)
        }
    }
}

fn http_remedy(server: &Url) -> String {
    let mut other = server.clone();
    let _ = other.set_scheme("https");
    format!("if it speaks TLS: --server {}; otherwise something else listens there", shown(&other))
}

/// What is wrong with the encryption, and what to do.
fn trouble(error: &(dyn std::error::Error + 'static), server: &Url) -> (String, String) {
    let words = cause(error);
    let Some(tls) = rustls_error(error) else {
        return (words, "the connection broke off; is a proxy in between? see HTTPS_PROXY".into());
    };
    let host = server.host_str().unwrap_or_default();
    let remedy = match tls {
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the server's certificate, or set this machine's clock".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "this machine's clock may be slow, or the certificate is from tomorrow".into()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("the certificate is for another name than {host}; use the name it is for")
            }
            CertificateError::UnknownIssuer => {
                "add the issuer to this machine's certificates (update-ca-certificates), or give the server one that is known".into()
            }
            _ => "give the server a certificate that is in order".into(),
        },
        rustls::Error::InvalidMessage(_) => {
            let mut other = server.clone();
            let _ = other.set_scheme("http");
            format!("it does not speak TLS; if it is on this machine: --server {}", shown(&other))
        }
        _ => "server and client have no TLS version in common; it takes 1.2 or 1.3".into(),
    };
    (words, remedy)
}

/// The TLS library's own error among the causes of `error`.
fn rustls_error<'e>(error: &'e (dyn std::error::Error + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| rustls_error(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// A time for people.
pub fn ms(took: Duration) -> String {
    format!("{} ms", took.as_millis())
}
