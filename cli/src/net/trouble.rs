//! What went wrong on the way to a server, in words, and what to do about it.

use std::error::Error;

use rustls::CertificateError;
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode, header};
use url::Url;

use super::{Route, shown};
use crate::exit::{Exit, Failure};
use crate::render::shell_word;

/// What went wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) what: String,
    /// What to do, where more than waiting helps.
    pub(crate) remedy: Option<String>,
    /// Whether it lasts until a setting or a certificate is changed.
    pub(crate) is_lasting: bool,
}

impl Trouble {
    /// As a failure to reach the server of `route`.
    pub(crate) fn failure(&self, route: &Route) -> Failure {
        match &self.remedy {
            Some(remedy) => {
                Failure::new(Exit::Unreachable, format!("no answer from {}: {}", shown(route.server()), self.what))
                    .hint(remedy.clone())
            }
            None => super::unreachable(route.server(), &self.what),
        }
    }
}

impl Route {
    /// What an error on this way means.
    pub(crate) async fn trouble(&self, error: &(dyn Error + Send + Sync + 'static)) -> Trouble {
        if let Some(tls) = tls_error(error) {
            return self.of_tls(tls, cause(error));
        }
        if self.server().scheme() == "http" && is_no_http(error) && self.speaks_tls().await {
            return self.is_tls();
        }
        let what = cause(error);
        match self.proxy() {
            Some(proxy) => Trouble {
                what: format!("{what} (through the proxy {proxy})"),
                remedy: Some(format!(
                    "is {proxy} the right proxy? HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name it, NO_PROXY excepts servers"
                )),
                is_lasting: false,
            },
            None => Trouble { what, remedy: None, is_lasting: false },
        }
    }

    /// What an answer that is none of Callscope's may mean: a server for TLS that was spoken to without.
    pub(crate) async fn odd_answer(&self, status: StatusCode) -> Option<Trouble> {
        let is_suspect = self.server().scheme() == "http" && status == StatusCode::BAD_REQUEST;
        (is_suspect && self.speaks_tls().await).then(|| self.is_tls())
    }

    fn is_tls(&self) -> Trouble {
        Trouble {
            what: "TLS is spoken there, not plain http".into(),
            remedy: Some(format!("use https: --server {}", self.other("https"))),
            is_lasting: true,
        }
    }

    fn of_tls(&self, error: &rustls::Error, what: String) -> Trouble {
        let host = self.server().host_str().unwrap_or_default();
        let remedy = match error {
            rustls::Error::InvalidCertificate(wrong) => match wrong {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "renew the server's certificate, or set this machine's clock".into()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "this machine's clock may be slow, or the certificate begins to hold later".into()
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("the certificate is for another name than {host}; use the name it is for")
                }
                _ if is_unknown(wrong) => "add the issuer to this machine's certificates (update-ca-certificates), or name a file of them: SSL_CERT_FILE".into(),
                _ => "give the server a certificate that is in order".into(),
            },
            rustls::Error::InvalidMessage(_) => {
                return Trouble {
                    what: "no TLS is spoken there".into(),
                    remedy: Some(format!("if it speaks plain http: --server {}", self.other("http"))),
                    is_lasting: true,
                };
            }
            rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
                "server and client have no TLS version or method in common; it takes TLS 1.2 or 1.3".into()
            }
            _ => "the encryption could not be set up; is something in between that changes it?".into(),
        };
        let is_lasting = matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::PeerIncompatible(_));
        Trouble { what, remedy: Some(remedy), is_lasting }
    }

    /// The server's URL with another scheme, and the same port.
    fn other(&self, scheme: &str) -> String {
        let mut other = self.server().clone();
        let port = other.port_or_known_default();
        let _ = other.set_scheme(scheme);
        let _ = other.set_port(port);
        shell_word(shown(&other))
    }
}

/// Whether the certificate's issuer is not trusted. The verifier of an operating system reports that in words of
/// its own.
fn is_unknown(error: &CertificateError) -> bool {
    matches!(error, CertificateError::UnknownIssuer | CertificateError::Other(_))
}

/// Where an answer redirects to, as a failure that names the server to use instead; `None` where it does not.
/// `asked` is the path that was asked for.
pub(crate) fn redirect(server: &Url, asked: &str, status: StatusCode, headers: &HeaderMap) -> Option<Failure> {
    let to = redirected(status, headers)?;
    let failure = Failure::error(format!("{} redirects to {to}, which is not followed", shown(server)));
    let Ok(to) = server.join(&to) else { return Some(failure) };
    Some(match base(&to, asked) {
        Some(base) if base != shown(server) => failure.hint(format!("use that URL: --server {}", shell_word(&base))),
        _ => failure.hint("is that a Callscope server? use the URL of one: --server URL"),
    })
}

/// Where an answer redirects to, as it says it.
pub(crate) fn redirected(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !status.is_redirection() {
        return None;
    }
    let to = headers.get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Some(to.filter(|to| !to.is_empty()).unwrap_or_else(|| "nowhere (it names no Location)".into()))
}

/// The server's URL among `to`, which leads to the path that was `asked` for on it.
fn base(to: &Url, asked: &str) -> Option<String> {
    let scheme = match to.scheme() {
        "http" | "ws" => "http",
        "https" | "wss" => "https",
        _ => return None,
    };
    let authority = to.host_str().map(|host| match to.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })?;
    let path = to.path().trim_end_matches('/');
    let prefix = path.strip_suffix(asked.trim_end_matches('/'))?;
    Some(format!("{scheme}://{authority}{prefix}"))
}

/// The TLS library's own error among the causes of `error`.
pub(super) fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    find(error, &|error| error.downcast_ref::<rustls::Error>().is_some())?.downcast_ref()
}

/// Whether bytes came that are no HTTP.
fn is_no_http(error: &(dyn Error + 'static)) -> bool {
    use tokio_tungstenite::tungstenite;
    find(error, &|error| {
        let is_odd = |error: &tungstenite::Error| {
            matches!(
                error,
                tungstenite::Error::Protocol(_) | tungstenite::Error::HttpFormat(_) | tungstenite::Error::Io(_)
            )
        };
        // The names of hyper's errors are private, and their words are all there is.
        let words = error.to_string();
        error.downcast_ref().is_some_and(is_odd)
            || ["invalid HTTP", "parse", "incomplete", "closed before", "reset"].iter().any(|odd| words.contains(odd))
    })
    .is_some()
}

/// The first among `error` and its causes that `is` it. An error within an I/O error counts as a cause.
fn find<'e>(
    error: &'e (dyn Error + 'static),
    is: &dyn Fn(&(dyn Error + 'static)) -> bool,
) -> Option<&'e (dyn Error + 'static)> {
    let mut next = Some(error);
    while let Some(error) = next {
        if is(error) {
            return Some(error);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| find(inner, is)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The innermost reason of an error, which is the one that helps.
pub(crate) fn cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    // The number behind the words tells people nothing.
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hint(server: &str, asked: &str, location: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, location.parse().unwrap());
        let server = Url::parse(server).unwrap();
        redirect(&server, asked, StatusCode::MOVED_PERMANENTLY, &headers).unwrap().hint
    }

    #[test]
    fn a_redirect_names_the_server_to_use() {
        let api = "/api/v1/calls";
        for (server, asked, location, expected) in [
            ("http://calls.example", api, "https://calls.example/api/v1/calls?limit=50", "https://calls.example"),
            ("http://a.example:8080", api, "https://b.example:444/calls/api/v1/calls", "https://b.example:444/calls"),
            ("http://a.example", "/ws/x", "wss://a.example/ws/x/", "https://a.example"),
            ("http://a.example", api, "/moved/api/v1/calls", "http://a.example/moved"),
        ] {
            assert_eq!(hint(server, asked, location), Some(format!("use that URL: --server {expected}")), "{location}");
        }
        for odd in ["https://login.example/sign-in", "javascript:alert(1)", "/api/v1/calls"] {
            let hint = hint("http://calls.example", api, odd).unwrap();
            assert!(hint.contains("is that a Callscope server?"), "{odd}: {hint}");
        }
    }

    #[test]
    fn only_redirects_redirect() {
        let (server, none) = (Url::parse("http://a").unwrap(), HeaderMap::new());
        assert_eq!(redirect(&server, "/", StatusCode::OK, &none), None);
        assert!(redirect(&server, "/", StatusCode::FOUND, &none).unwrap().message.contains("no Location"));
    }
}
