//! Explains why a server cannot be reached, and what to do about it.

use std::error::Error;

use rustls::CertificateError;
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode, header};
use url::Url;

use super::{ServerConnector, display_url};
use crate::exit::{Exit, Failure};
use crate::render::shell_word;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Diagnosis {
    pub(crate) problem: String,
    /// What to do; `None` if there is nothing to do but to retry.
    pub(crate) remedy: Option<String>,
    /// Whether a retry cannot succeed before a setting or a certificate is changed.
    pub(crate) is_permanent: bool,
}

impl Diagnosis {
    pub(crate) fn to_failure(&self, connector: &ServerConnector) -> Failure {
        match &self.remedy {
            Some(remedy) => Failure::new(
                Exit::Unreachable,
                format!("no answer from {}: {}", display_url(connector.server()), self.problem),
            )
            .hint(remedy.clone()),
            None => super::unreachable(connector.server(), &self.problem),
        }
    }
}

impl ServerConnector {
    /// Explains an error of a connection or a request.
    pub(crate) async fn diagnose(&self, error: &(dyn Error + Send + Sync + 'static)) -> Diagnosis {
        if let Some(tls) = tls_error(error) {
            return self.diagnose_tls(tls, root_cause(error));
        }
        if self.server().scheme() == "http" && is_not_http(error) && self.speaks_tls().await {
            return self.needs_https();
        }
        let problem = root_cause(error);
        match self.proxy_url() {
            Some(proxy) => Diagnosis {
                problem: format!("{problem} (through the proxy {proxy})"),
                remedy: Some(format!(
                    "is {proxy} the right proxy? HTTP_PROXY, HTTPS_PROXY and ALL_PROXY name it, NO_PROXY lists servers that are reached without it"
                )),
                is_permanent: false,
            },
            None => Diagnosis { problem, remedy: None, is_permanent: false },
        }
    }

    /// Explains an answer whose body is not Callscope's. Many TLS servers answer 400 to plain http; `None` for any
    /// other answer.
    pub(crate) async fn diagnose_answer(&self, status: StatusCode) -> Option<Diagnosis> {
        let may_need_https = self.server().scheme() == "http" && status == StatusCode::BAD_REQUEST;
        (may_need_https && self.speaks_tls().await).then(|| self.needs_https())
    }

    fn needs_https(&self) -> Diagnosis {
        Diagnosis {
            problem: "the server speaks TLS, not plain http".into(),
            remedy: Some(format!("use https: --server {}", self.url_with_scheme("https"))),
            is_permanent: true,
        }
    }

    fn diagnose_tls(&self, error: &rustls::Error, problem: String) -> Diagnosis {
        let host = self.server().host_str().unwrap_or_default();
        let remedy = match error {
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "renew the server's certificate, or set this machine's clock".into()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "this machine's clock may be slow, or the certificate is not valid yet".into()
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    format!("the certificate is for another name than {host}; use the name it is for")
                }
                _ if is_unknown_issuer(error) => "add the issuer to this machine's certificates (update-ca-certificates), or name a file of them: SSL_CERT_FILE".into(),
                _ => "give the server a valid certificate".into(),
            },
            rustls::Error::InvalidMessage(_) => {
                return Diagnosis {
                    problem: "the server does not speak TLS".into(),
                    remedy: Some(format!("if it speaks plain http, use --server {}", self.url_with_scheme("http"))),
                    is_permanent: true,
                };
            }
            rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
                "server and client have no TLS version or cipher suite in common; callscope speaks TLS 1.2 and 1.3".into()
            }
            _ => "the TLS handshake failed; does a firewall or a proxy change it?".into(),
        };
        let is_permanent = matches!(error, rustls::Error::InvalidCertificate(_) | rustls::Error::PeerIncompatible(_));
        Diagnosis { problem, remedy: Some(remedy), is_permanent }
    }

    /// Returns the server's URL with another scheme and the same port, quoted for a shell.
    fn url_with_scheme(&self, scheme: &str) -> String {
        let mut url = self.server().clone();
        let port = url.port_or_known_default();
        // Neither fails: http and https can replace each other, and a URL of theirs has a host.
        let _ = url.set_scheme(scheme);
        let _ = url.set_port(port);
        shell_word(display_url(&url))
    }
}

/// Returns whether the certificate's issuer is not trusted. The verifiers of some operating systems report it as
/// `Other`.
fn is_unknown_issuer(error: &CertificateError) -> bool {
    matches!(error, CertificateError::UnknownIssuer | CertificateError::Other(_))
}

/// Returns a redirect as a failure that names the server to use instead; `None` for an answer that is not a redirect.
/// `path` is the path of the request.
pub(crate) fn redirect_failure(server: &Url, path: &str, status: StatusCode, headers: &HeaderMap) -> Option<Failure> {
    let location = redirect_location(status, headers)?;
    let failure = Failure::error(format!("{} redirects to {location}, which is not followed", display_url(server)));
    let Ok(location) = server.join(&location) else { return Some(failure) };
    Some(match base_url(&location, path) {
        Some(base) if base != display_url(server) => {
            failure.hint(format!("use that URL: --server {}", shell_word(&base)))
        }
        _ => failure.hint("is that a Callscope server? name one with --server URL"),
    })
}

/// Returns the `Location` of a redirect as it was received; `None` for an answer that is not a redirect.
pub(crate) fn redirect_location(status: StatusCode, headers: &HeaderMap) -> Option<String> {
    if !status.is_redirection() {
        return None;
    }
    let location = headers.get(header::LOCATION).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Some(location.filter(|location| !location.is_empty()).unwrap_or_else(|| "nowhere (it names no Location)".into()))
}

/// Returns the URL of the server that `location` is on, if `location` is `path` on that server.
fn base_url(location: &Url, path: &str) -> Option<String> {
    let scheme = match location.scheme() {
        "http" | "ws" => "http",
        "https" | "wss" => "https",
        _ => return None,
    };
    let authority = location.host_str().map(|host| match location.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    })?;
    let prefix = location.path().trim_end_matches('/').strip_suffix(path.trim_end_matches('/'))?;
    Some(format!("{scheme}://{authority}{prefix}"))
}

/// Returns the error of rustls among `error` and its causes.
pub(super) fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    find(error, &|error| error.downcast_ref::<rustls::Error>().is_some())?.downcast_ref()
}

/// Returns whether `error` may mean that the peer does not speak HTTP. The guess is generous, because a TLS probe
/// follows.
fn is_not_http(error: &(dyn Error + 'static)) -> bool {
    use tokio_tungstenite::tungstenite;
    find(error, &|error| {
        let is_protocol_error = |error: &tungstenite::Error| {
            matches!(
                error,
                tungstenite::Error::Protocol(_) | tungstenite::Error::HttpFormat(_) | tungstenite::Error::Io(_)
            )
        };
        // The kinds of hyper's errors are private, so only the text tells them apart.
        let text = error.to_string();
        error.downcast_ref().is_some_and(is_protocol_error)
            || ["invalid HTTP", "parse", "incomplete", "closed before", "reset"].iter().any(|part| text.contains(part))
    })
    .is_some()
}

/// Returns the first among `error` and its causes that satisfies `predicate`. An error within an I/O error counts as
/// a cause.
fn find<'e>(
    error: &'e (dyn Error + 'static),
    predicate: &dyn Fn(&(dyn Error + 'static)) -> bool,
) -> Option<&'e (dyn Error + 'static)> {
    let mut next = Some(error);
    while let Some(error) = next {
        if predicate(error) {
            return Some(error);
        }
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| find(inner, predicate)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Returns the text of the innermost cause, which says most about the reason, without the number of an OS error.
pub(crate) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(message, _)| message).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn hint(server: &str, path: &str, location: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, location.parse().unwrap());
        let server = Url::parse(server).unwrap();
        redirect_failure(&server, path, StatusCode::MOVED_PERMANENTLY, &headers).unwrap().hint
    }

    #[test]
    fn a_redirect_names_the_server_to_use() {
        let api = "/api/v1/calls";
        for (server, path, location, expected) in [
            ("http://calls.example", api, "https://calls.example/api/v1/calls?limit=50", "https://calls.example"),
            ("http://a.example:8080", api, "https://b.example:444/calls/api/v1/calls", "https://b.example:444/calls"),
            ("http://a.example", "/ws/x", "wss://a.example/ws/x/", "https://a.example"),
            ("http://a.example", api, "/moved/api/v1/calls", "http://a.example/moved"),
        ] {
            assert_eq!(hint(server, path, location), Some(format!("use that URL: --server {expected}")), "{location}");
        }
        for location in ["https://login.example/sign-in", "javascript:alert(1)", "/api/v1/calls"] {
            let hint = hint("http://calls.example", api, location).unwrap();
            assert!(hint.contains("is that a Callscope server?"), "{location}: {hint}");
        }
    }

    #[test]
    fn only_redirects_redirect() {
        let (server, none) = (Url::parse("http://a").unwrap(), HeaderMap::new());
        assert_eq!(redirect_failure(&server, "/", StatusCode::OK, &none), None);
        assert!(redirect_failure(&server, "/", StatusCode::FOUND, &none).unwrap().message.contains("no Location"));
    }
}
