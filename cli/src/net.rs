//! The one way to a server, for HTTP and for WebSockets: the same trusted certificates, the same proxies, the same
//! words about what went wrong.
//!
//! - Certificates are verified as the operating system does it, so by its roots; on Linux `SSL_CERT_FILE` and
//!   `SSL_CERT_DIR` name others.
//! - `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case, choose a proxy; never to this
//!   machine. The proxy resolves the server's name. TLS and WebSockets go through it by `CONNECT`, or by SOCKS.
//! - Redirects are not followed, since a token belongs to the server that was named; [`redirect`] says where they lead.

mod backoff;
mod retry_after;
mod trouble;

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
pub(crate) use retry_after::retry_after;
pub(crate) use trouble::{Trouble, cause, redirect, redirected};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Any error on the way.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A connection to a server, encrypted where its URL says so.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}
/// Any [`Stream`].
pub(crate) type Wire = Box<dyn Stream>;

/// The way to one server.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    server: Url,
    proxy: Option<Proxy>,
    tls: Arc<ClientConfig>,
}

/// The proxy on the way.
#[derive(Debug, Clone)]
struct Proxy {
    /// Where it is; of SOCKS, the version that lets the proxy resolve names.
    uri: Uri,
    kind: Kind,
    intercept: Intercept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    Socks4,
    Socks5,
}

impl Route {
    /// The way to `server`, as the environment says.
    pub(crate) fn to(server: &Url) -> Result<Self> {
        let proxy = if is_loopback(server) { None } else { Proxy::of_environment(server)? };
        let needs_tls =
            server.scheme() == "https" || proxy.as_ref().is_some_and(|proxy| proxy.uri.scheme_str() == Some("https"));
        // Without need, a machine that has no certificates is none the worse for it.
        let tls = if needs_tls { trusted()? } else { Arc::clone(without_trust()) };
        Ok(Self { server: server.clone(), proxy, tls })
    }

    /// A client for HTTP that goes this way.
    pub(crate) fn client(&self) -> Result<reqwest::Client> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("callscope/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(ClientConfig::clone(&self.tls))
            .no_proxy();
        let wrong = |error: reqwest::Error| Failure::error(format!("cannot set up HTTP: {}", cause(&error)));
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.for_http().map_err(wrong)?);
        }
        builder.build().map_err(wrong)
    }

    /// Connects, for anything but HTTP requests.
    pub(crate) async fn open(&self) -> std::result::Result<Wire, BoxError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT));
        let destination = destination(&self.server)?;
        let Some(proxy) = &self.proxy else { return self.encrypted(tcp, destination).await };
        match proxy.kind {
            Kind::Http => {
                let mut tunnel = Tunnel::new(proxy.uri.clone(), HttpsConnector::from((tcp, Arc::clone(&self.tls))));
                if let Some(login) = proxy.intercept.basic_auth() {
                    tunnel = tunnel.with_auth(login.clone());
                }
                self.encrypted(tunnel, destination).await
            }
            Kind::Socks4 => self.encrypted(SocksV4::new(proxy.uri.clone(), tcp).local_dns(false), destination).await,
            Kind::Socks5 => {
                let mut socks = SocksV5::new(proxy.uri.clone(), tcp).local_dns(false);
                if let Some((user, password)) = proxy.intercept.raw_auth() {
                    socks = socks.with_auth(user.to_owned(), password.to_owned());
                }
                self.encrypted(socks, destination).await
            }
        }
    }

    /// Connects through `inner`, and speaks TLS where the server's URL says so.
    async fn encrypted<C>(&self, inner: C, destination: Uri) -> std::result::Result<Wire, BoxError>
    where
        HttpsConnector<C>: Service<Uri, Response = MaybeHttpsStream<C::Response>, Error = BoxError>,
        C: Service<Uri>,
        TokioIo<MaybeHttpsStream<C::Response>>: Stream + 'static,
    {
        let mut connector = HttpsConnector::from((inner, Arc::clone(&self.tls)));
        std::future::poll_fn(|cx| connector.poll_ready(cx)).await?;
        Ok(Box::new(TokioIo::new(connector.call(destination).await?)))
    }

    /// The proxy on the way, for people: without its login.
    pub(crate) fn proxy(&self) -> Option<String> {
        self.proxy.as_ref().map(|proxy| proxy.uri.to_string().trim_end_matches('/').to_owned())
    }

    /// What names the first machine on the way: the proxy, else the server.
    pub(crate) fn first_hop(&self) -> Url {
        let proxy = self.proxy.as_ref().and_then(|proxy| Url::parse(&proxy.uri.to_string()).ok());
        proxy.unwrap_or_else(|| self.server.clone())
    }

    /// The server at the end of the way.
    pub(crate) fn server(&self) -> &Url {
        &self.server
    }

    /// Whether TLS is spoken at the end of the way, whichever certificate is shown.
    async fn speaks_tls(&self) -> bool {
        let mut server = self.server.clone();
        let port = server.port_or_known_default();
        if server.set_scheme("https").is_err() || server.set_port(port).is_err() {
            return false;
        }
        let other = Self { server, proxy: self.proxy.clone(), tls: Arc::clone(without_trust()) };
        match tokio::time::timeout(Duration::from_secs(3), other.open()).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => matches!(trouble::tls_error(error.as_ref()), Some(rustls::Error::InvalidCertificate(_))),
            Err(_) => false,
        }
    }
}

impl Proxy {
    fn of_environment(server: &Url) -> Result<Option<Self>> {
        let asked: Uri = destination(server).map_err(|error| Failure::usage(error.to_string()))?;
        let Some(intercept) = Matcher::from_env().intercept(&asked) else { return Ok(None) };
        // Names are always resolved by the proxy, which may be the only one that knows them.
        let (kind, scheme) = match intercept.uri().scheme_str() {
            Some("socks4" | "socks4a") => (Kind::Socks4, "socks4a"),
            Some("socks5" | "socks5h") => (Kind::Socks5, "socks5h"),
            Some("https") => (Kind::Http, "https"),
            _ => (Kind::Http, "http"),
        };
        let authority = intercept.uri().authority().map_or_else(String::new, ToString::to_string);
        let default = if kind == Kind::Http { "" } else { ":1080" };
        let default = if intercept.uri().port().is_some() { "" } else { default };
        let uri = format!("{scheme}://{authority}{default}/").parse();
        let uri = uri.map_err(|_| Failure::usage("the proxy that the environment names has no usable address"))?;
        Ok(Some(Self { uri, kind, intercept }))
    }

    fn for_http(&self) -> std::result::Result<reqwest::Proxy, reqwest::Error> {
        let mut url = self.uri.to_string();
        if let Some((user, password)) = self.intercept.raw_auth()
            && let Ok(mut with_login) = Url::parse(&url)
        {
            let _ = with_login.set_username(user);
            let _ = with_login.set_password(Some(password));
            url = with_login.to_string();
        }
        let proxy = reqwest::Proxy::all(url)?;
        Ok(match self.intercept.basic_auth() {
            Some(login) => proxy.custom_http_auth(login.clone()),
            None => proxy,
        })
    }
}

/// Scheme, host and port of a server.
fn destination(server: &Url) -> std::result::Result<Uri, BoxError> {
    let (host, port) = (server.host_str().unwrap_or_default(), server.port_or_known_default().unwrap_or(80));
    Ok(format!("{}://{host}:{port}/", server.scheme()).parse()?)
}

/// TLS with certificates verified as the operating system does it.
fn trusted() -> Result<Arc<ClientConfig>> {
    static TRUSTED: OnceLock<std::result::Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let made = TRUSTED.get_or_init(|| {
        let versions = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = versions.and_then(rustls::ConfigBuilder::with_platform_verifier);
        config.map(|config| Arc::new(config.with_no_client_auth())).map_err(|error| error.to_string())
    });
    made.clone().map_err(|why| {
        Failure::error(format!("no trusted certificates are at hand: {why}"))
            .hint("install this machine's certificates (ca-certificates), or name a file of them: SSL_CERT_FILE")
    })
}

/// TLS that takes no certificate.
fn without_trust() -> &'static Arc<ClientConfig> {
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

/// Whether a server is on this machine.
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

/// Warns, once in the life of the process, that `what` goes to another machine unencrypted.
pub(crate) fn warn_if_plain(server: &Url, what: &str, console: Console) {
    static WARNED: AtomicBool = AtomicBool::new(false);
    if server.scheme() == "http" && !is_loopback(server) && !WARNED.swap(true, Ordering::Relaxed) {
        console.warn(format!(
            "{what} goes to {} unencrypted, and can be read on the way; put the server behind https",
            shown(server)
        ));
    }
}

/// The failure where `server` does not answer.
pub(crate) fn unreachable(server: &Url, why: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("no answer from {}: {why}", shown(server)))
        .hint("is the server running? start it with callscope-server, or name another with --server URL")
}

/// A server's URL for people.
pub(crate) fn shown(server: &Url) -> &str {
    server.as_str().trim_end_matches('/')
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
