//! Connects to a server. HTTP and WebSockets use the same trusted certificates, the same proxies and the same error
//! messages.
//!
//! - The operating system's verifier checks certificates against the operating system's root certificates. On Linux,
//!   `SSL_CERT_FILE` and `SSL_CERT_DIR` name other roots.
//! - `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or lower case, choose a proxy. A server on this
//!   machine is always reached without a proxy. The proxy resolves the server's name. TLS and WebSockets are tunnelled
//!   through the proxy with `CONNECT` or SOCKS.
//! - Redirects are not followed, since a token belongs to the server that the user named. [`redirect_failure`] reports
//!   where a redirect leads.

mod backoff;
mod diagnosis;
mod retry_after;

use std::borrow::Cow;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5, Tunnel};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::http::Uri;
use tower_service::Service;
use url::{Host, Url};

use crate::exit::{Exit, Failure, Result};
use crate::render::Console;

pub(crate) use backoff::Backoff;
pub(crate) use diagnosis::{Diagnosis, redirect_failure, redirect_location, root_cause};
pub(crate) use retry_after::retry_after;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of the handshake that finds out whether a server speaks TLS.
const TLS_PROBE_TIMEOUT: Duration = Duration::from_secs(3);

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

pub(crate) trait AsyncIo: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> AsyncIo for S {}
/// A connection to a server, encrypted if the server's URL is https.
pub(crate) type BoxedIo = Box<dyn AsyncIo>;

/// Connects to one server, through its proxy if it has one.
#[derive(Debug, Clone)]
pub(crate) struct ServerConnector {
    server: Url,
    proxy: Option<Proxy>,
    /// For the server and for an https proxy.
    tls: Arc<ClientConfig>,
}

#[derive(Debug, Clone)]
struct Proxy {
    /// The proxy's address. A SOCKS scheme is the version in which the proxy resolves names.
    uri: Uri,
    protocol: ProxyProtocol,
    /// The match in the environment, which holds the proxy's user and password.
    credentials: Intercept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProxyProtocol {
    Http,
    Socks4,
    Socks5,
}

impl ServerConnector {
    /// Takes the proxy and the trusted certificates from the environment.
    pub(crate) fn to(server: &Url) -> Result<Self> {
        let proxy = if is_loopback(server) { None } else { Proxy::from_environment(server)? };
        let needs_tls =
            server.scheme() == "https" || proxy.as_ref().is_some_and(|proxy| proxy.uri.scheme_str() == Some("https"));
        // The root certificates are loaded only for TLS, so a machine that has none can still use plain http.
        let tls = if needs_tls { trusting_system_roots()? } else { Arc::clone(trusting_nothing()) };
        Ok(Self { server: server.clone(), proxy, tls })
    }

    pub(crate) fn http_client(&self) -> Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("callscope/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(ClientConfig::clone(&self.tls))
            .no_proxy();
        let setup_failure =
            |error: reqwest::Error| Failure::error(format!("cannot set up HTTP: {}", root_cause(&error)));
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.to_reqwest().map_err(setup_failure)?);
        }
        builder.build().map_err(setup_failure)
    }

    /// Opens a connection for a WebSocket.
    pub(crate) async fn connect(&self) -> std::result::Result<BoxedIo, BoxError> {
        self.connect_with(&self.tls).await
    }

    /// Opens a connection. `server_tls` is for the server; the certificate of an https proxy is verified as always.
    async fn connect_with(&self, server_tls: &Arc<ClientConfig>) -> std::result::Result<BoxedIo, BoxError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let destination = destination(&self.server)?;
        let Some(proxy) = &self.proxy else { return connect_through(tcp, server_tls, destination).await };
        match proxy.protocol {
            ProxyProtocol::Http => {
                let mut tunnel = Tunnel::new(proxy.uri.clone(), HttpsConnector::from((tcp, Arc::clone(&self.tls))));
                if let Some(login) = proxy.credentials.basic_auth() {
                    tunnel = tunnel.with_auth(login.clone());
                }
                connect_through(tunnel, server_tls, destination).await
            }
            ProxyProtocol::Socks4 => {
                let socks = SocksV4::new(proxy.uri.clone(), tcp).local_dns(false);
                connect_through(socks, server_tls, destination).await
            }
            ProxyProtocol::Socks5 => {
                let mut socks = SocksV5::new(proxy.uri.clone(), tcp).local_dns(false);
                if let Some((user, password)) = proxy.credentials.raw_auth() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                connect_through(socks, server_tls, destination).await
            }
        }
    }

    /// The proxy's URL to print: without user and password.
    pub(crate) fn proxy_url(&self) -> Option<String> {
        self.proxy.as_ref().map(|proxy| proxy.uri.to_string().trim_end_matches('/').to_owned())
    }

    /// The URL of the machine that the TCP connection goes to: the proxy, else the server.
    pub(crate) fn first_hop(&self) -> Url {
        let proxy = self.proxy.as_ref().and_then(|proxy| Url::parse(&proxy.uri.to_string()).ok());
        proxy.unwrap_or_else(|| self.server.clone())
    }

    pub(crate) fn server(&self) -> &Url {
        &self.server
    }

    /// Returns whether a server whose URL is `http://` speaks TLS on that port.
    async fn speaks_tls(&self) -> bool {
        let mut server = self.server.clone();
        let port = server.port_or_known_default();
        if server.set_scheme("https").is_err() || server.set_port(port).is_err() {
            return false;
        }
        let https = Self { server, proxy: self.proxy.clone(), tls: Arc::clone(&self.tls) };
        match tokio::time::timeout(TLS_PROBE_TIMEOUT, https.connect_with(trusting_nothing())).await {
            Ok(Ok(_)) => true,
            // No certificate is trusted here. A server that gets as far as showing one speaks TLS.
            Ok(Err(error)) => {
                matches!(diagnosis::tls_error(error.as_ref()), Some(rustls::Error::InvalidCertificate(_)))
            }
            Err(_) => false,
        }
    }
}

impl Proxy {
    fn from_environment(server: &Url) -> Result<Option<Self>> {
        let destination = destination(server).map_err(|error| Failure::usage(error.to_string()))?;
        let Some(intercept) = Matcher::from_env().intercept(&destination) else { return Ok(None) };
        // The schemes with remote name resolution replace the others: only the proxy may know the server's name.
        let (protocol, scheme) = match intercept.uri().scheme_str() {
            Some("socks4" | "socks4a") => (ProxyProtocol::Socks4, "socks4a"),
            Some("socks5" | "socks5h") => (ProxyProtocol::Socks5, "socks5h"),
            Some("https") => (ProxyProtocol::Http, "https"),
            _ => (ProxyProtocol::Http, "http"),
        };
        let authority = intercept.uri().authority().map_or_else(String::new, ToString::to_string);
        let needs_port = protocol != ProxyProtocol::Http && intercept.uri().port().is_none();
        let default_port = if needs_port { ":1080" } else { "" };
        let uri = format!("{scheme}://{authority}{default_port}/").parse();
        let uri = uri.map_err(|_| Failure::usage("the proxy that the environment names has no usable address"))?;
        Ok(Some(Self { uri, protocol, credentials: intercept }))
    }

    fn to_reqwest(&self) -> std::result::Result<reqwest::Proxy, reqwest::Error> {
        let mut url = self.uri.to_string();
        if let Some((user, password)) = self.credentials.raw_auth()
            && let Ok(mut with_login) = Url::parse(&url)
        {
            let _ = with_login.set_username(user);
            let _ = with_login.set_password(Some(password));
            url = with_login.to_string();
        }
        let proxy = reqwest::Proxy::all(url)?;
        Ok(match self.credentials.basic_auth() {
            Some(login) => proxy.custom_http_auth(login.clone()),
            None => proxy,
        })
    }
}

/// Connects to `destination` through `inner`, which is TCP or a tunnel, and encrypts if the scheme is https.
async fn connect_through<C>(
    inner: C,
    tls: &Arc<ClientConfig>,
    destination: Uri,
) -> std::result::Result<BoxedIo, BoxError>
where
    HttpsConnector<C>: Service<Uri, Response = MaybeHttpsStream<C::Response>, Error = BoxError>,
    C: Service<Uri>,
    TokioIo<MaybeHttpsStream<C::Response>>: AsyncIo + 'static,
{
    let mut connector = HttpsConnector::from((inner, Arc::clone(tls)));
    std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
    Ok(Box::new(TokioIo::new(connector.call(destination).await?)))
}

/// Returns the scheme, host and port of a server.
fn destination(server: &Url) -> std::result::Result<Uri, BoxError> {
    let (host, port) = (server.host_str().unwrap_or_default(), server.port_or_known_default().unwrap_or(80));
    Ok(format!("{}://{host}:{port}/", server.scheme()).parse()?)
}

/// Returns the TLS configuration that verifies certificates with the operating system's verifier.
fn trusting_system_roots() -> Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<std::result::Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = versions.and_then(rustls::ConfigBuilder::with_platform_verifier);
        config.map(|config| Arc::new(config.with_no_client_auth())).map_err(|error| error.to_string())
    });
    config.clone().map_err(|why| {
        Failure::error(format!("no trusted certificates are at hand: {why}"))
            .hint("install this machine's certificates (ca-certificates), or name a file of them: SSL_CERT_FILE")
    })
}

/// Returns the TLS configuration that accepts no certificate.
fn trusting_nothing() -> &'static Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let versions = ClientConfig::builder_with_provider(provider()).with_protocol_versions(rustls::DEFAULT_VERSIONS);
        #[allow(clippy::expect_used)]
        let versions = versions.expect("ring speaks the default versions");
        Arc::new(versions.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
    })
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    static PROVIDER: OnceLock<Arc<rustls::crypto::CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())))
}

/// Returns whether a server's host is a name or an address of this machine's loopback interface.
pub(crate) fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(Host::Domain(name)) => {
            let name = name.trim_end_matches('.');
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Warns, once per process, that `what` goes to another machine unencrypted.
pub(crate) fn warn_if_unencrypted(server: &Url, what: &str, console: Console) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if server.scheme() == "http" && !is_loopback(server) && !WARNED.swap(true, Ordering::Relaxed) {
        console.warn(format!(
            "{what} goes to {} unencrypted, and can be read on the way; put the server behind https",
            display_url(server)
        ));
    }
}

pub(crate) fn unreachable(server: &Url, why: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("no answer from {}: {why}", display_url(server)))
        .hint("is the server running? start it with callscope-server, or name another with --server URL")
}

/// Returns a server's URL as it is printed: without the slash at its end.
pub(crate) fn display_url(server: &Url) -> &str {
    server.as_str().trim_end_matches('/')
}

/// Puts `http://` before an address that has no scheme. A `://` in its query is not a scheme.
pub(crate) fn with_default_scheme(address: &str) -> Cow<'_, str> {
    let is_scheme = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    match address.split_once("://") {
        Some((scheme, _)) if is_scheme(scheme) => Cow::Borrowed(address),
        _ => Cow::Owned(format!("http://{address}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_by_any_of_its_names() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://a.localhost", true),
            ("http://127.9.9.9", true),
            ("http://[::1]", true),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn a_destination_names_its_port() {
        let at = |url: &str| destination(&Url::parse(url).unwrap()).unwrap().to_string();
        assert_eq!(at("http://calls.example/a/b"), "http://calls.example:80/");
        assert_eq!(at("https://[2001:db8::1]"), "https://[2001:db8::1]:443/");
    }
}
