//! Which browser origins may use the server: the WebSocket's check and CORS.

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::{Header, Method, Status};
use rocket::{Request, Response};

/// The origins allowed beside the server's own.
#[derive(Debug, Clone)]
pub struct Origins(pub Option<Vec<String>>);

impl Origins {
    /// Whether a request with this `Origin` may pass. One without any comes from no browser and passes.
    #[must_use]
    pub fn allows(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        let origin = origin.trim().to_lowercase();
        match &self.0 {
            Some(allowed) => allowed.iter().any(|one| one == "*" || *one == origin) || is_own(&origin, host),
            None => is_own(&origin, host),
        }
    }
}

fn is_own(origin: &str, host: Option<&str>) -> bool {
    match (origin.split_once("://"), host) {
        (Some((_, authority)), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// Adds CORS headers for allowed origins, and answers preflights.
pub struct Cors(pub Origins);

#[rocket::async_trait]
impl Fairing for Cors {
    fn info(&self) -> Info {
        Info { name: "CORS", kind: Kind::Response }
    }

    async fn on_response<'r>(&self, request: &'r Request<'_>, response: &mut Response<'r>) {
        response.set_header(Header::new("X-Content-Type-Options", "nosniff"));
        let Some(origin) = request.headers().get_one("Origin") else { return };
        response.adjoin_header(Header::new("Vary", "Origin"));
        if !self.0.allows(Some(origin), request.headers().get_one("Host")) {
            return;
        }
        response.set_header(Header::new("Access-Control-Allow-Origin", origin.to_owned()));
        response.set_header(Header::new("Access-Control-Expose-Headers", "X-Request-Id, Retry-After"));
        if request.method() == Method::Options && request.headers().contains("Access-Control-Request-Method") {
            response.set_status(Status::NoContent);
            response.set_header(Header::new("Access-Control-Allow-Methods", "GET, POST, PATCH, DELETE"));
            response
                .set_header(Header::new("Access-Control-Allow-Headers", "Authorization, Content-Type, Last-Event-ID"));
            response.set_header(Header::new("Access-Control-Max-Age", "600"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_and_the_listed_origins_pass() {
        let own = Origins(None);
        assert!(own.allows(None, Some("h:1")));
        assert!(own.allows(Some("http://H:1"), Some("h:1")));
        assert!(!own.allows(Some("http://evil"), Some("h:1")));
        assert!(!own.allows(Some("null"), Some("h:1")));
        let listed = Origins(Some(vec!["https://desk.example".into()]));
        assert!(listed.allows(Some("https://desk.example"), Some("h:1")));
        assert!(listed.allows(Some("http://h:1"), Some("h:1")));
        assert!(!listed.allows(Some("https://desk.example.evil"), Some("h:1")));
    }
}
