//! Decides which browser origins may use the server, for the WebSocket, for CORS and for webhooks.

use std::net::IpAddr;

use url::Url;

/// The browser origins that may use the server.
///
/// The server's own origins are that of the public URL, and the one that the `Host` header names. The latter counts
/// only if it is a loopback address or the host of the public URL. Otherwise a foreign page whose name resolves to this
/// machine (DNS rebinding) would count as the server's own.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins {
    /// Origins that are allowed besides the server's own; `*` allows any.
    allowed: Vec<String>,
    /// The origin of the public URL.
    public: Option<ParsedOrigin>,
}

/// The parts of an origin.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ParsedOrigin {
    scheme: String,
    host: String,
    port: u16,
}

impl ParsedOrigin {
    /// Parses an origin with the scheme `http` or `https`.
    fn parse(origin: &str) -> Option<Self> {
        let (scheme, authority) = origin.trim().split_once("://")?;
        let scheme = scheme.to_ascii_lowercase();
        let (host, port) = parse_authority(authority, &scheme)?;
        Some(Self { scheme, host, port })
    }
}

/// Splits an authority into host and port. The default is the port of the scheme.
fn parse_authority(authority: &str, scheme: &str) -> Option<(String, u16)> {
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let authority = authority.trim();
    let (host, port) = match authority.rsplit_once(':') {
        // The colons of an IPv6 address without a port are followed by a bracket.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, default_port),
    };
    let is_host_char = |c: char| c.is_ascii_alphanumeric() || "-._[]:".contains(c);
    (!host.is_empty() && host.chars().all(is_host_char)).then(|| (host.to_ascii_lowercase(), port))
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

impl AllowedOrigins {
    /// Allows these origins and the server's own.
    #[must_use]
    pub fn new(allowed: Option<Vec<String>>, public_url: Option<&Url>) -> Self {
        let public = public_url.and_then(|url| ParsedOrigin::parse(&url.origin().ascii_serialization()));
        Self { allowed: allowed.unwrap_or_default(), public }
    }

    /// Whether a request with this `Origin` may pass. A request without one does not come from a page and passes.
    #[must_use]
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let is_listed = |listed: &String| listed == "*" || listed.eq_ignore_ascii_case(origin.trim());
        self.allowed.iter().any(is_listed) || self.is_own(origin, host)
    }

    /// Whether this `Origin` is the server's own for a request to `host`.
    #[must_use]
    pub fn is_own(&self, origin: &str, host: Option<&str>) -> bool {
        let Some(origin) = ParsedOrigin::parse(origin) else { return false };
        if self.public.as_ref() == Some(&origin) {
            return true;
        }
        let Some((host, port)) = host.and_then(|host| parse_authority(host, &origin.scheme)) else { return false };
        let is_public =
            self.public.as_ref().is_some_and(|public| public.host == host && public.scheme == origin.scheme);
        (is_loopback(&host) || is_public) && (origin.host, origin.port) == (host, port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_and_listed_origins_are_allowed() {
        let own = AllowedOrigins::default();
        assert!(own.allows(None, Some("h:1")));
        for host in ["localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert!(own.allows(Some(&format!("http://{host}")), Some(host)), "{host}");
            assert!(own.allows(Some(&format!("HTTP://{}", host.to_uppercase())), Some(host)), "{host}");
        }
        assert!(own.allows(Some("http://localhost"), Some("localhost:80")));
        assert!(own.allows(Some("https://localhost"), Some("localhost")));
        for (origin, host) in [
            ("http://evil", "localhost:1"),
            ("null", "localhost:1"),
            ("http://localhost:2", "localhost:1"),
            ("http://localhost", "localhost:443"),
            // DNS rebinding: the foreign page's name resolves to this machine.
            ("http://evil.test:1", "evil.test:1"),
            ("http://127.0.0.1.evil.test:1", "127.0.0.1.evil.test:1"),
            ("http://localhost.evil.test:1", "localhost.evil.test:1"),
            // A browser sends no such origin for a page.
            ("javascript://localhost:1", "localhost:1"),
            ("://localhost:1", "localhost:1"),
            ("file://localhost:1", "localhost:1"),
            ("http://x@localhost:1", "localhost:1"),
        ] {
            assert!(!own.allows(Some(origin), Some(host)), "{origin} at {host}");
        }
        let listed = AllowedOrigins::new(Some(vec!["https://desk.example".into()]), None);
        assert!(listed.allows(Some("https://desk.example"), Some("h:1")));
        assert!(listed.allows(Some("http://localhost:1"), Some("localhost:1")));
        assert!(!listed.allows(Some("https://desk.example.evil"), Some("h:1")));
        assert!(!listed.allows(Some("http://desk.example"), Some("h:1")));
        assert!(!listed.is_own("https://desk.example", Some("h:1")));
        assert!(!AllowedOrigins::new(Some(vec!["*".into()]), None).is_own("https://desk.example", Some("localhost")));
    }

    #[test]
    fn the_public_url_is_an_own_origin_with_its_scheme() {
        let url = Url::parse("https://calls.example:8443/base").unwrap();
        let public = AllowedOrigins::new(None, Some(&url));
        // A proxy may send any `Host`.
        for host in ["calls.example:8443", "calls.example", "10.0.0.1:8000"] {
            assert!(public.allows(Some("https://calls.example:8443"), Some(host)), "{host}");
            assert!(!public.allows(Some("http://calls.example:8443"), Some(host)), "{host}");
            assert!(!public.allows(Some("https://10.0.0.1:8000"), Some(host)), "{host}");
        }
        assert!(public.allows(Some("https://calls.example"), Some("calls.example")));
        assert!(!public.allows(Some("http://calls.example"), Some("calls.example")));
    }
}
