//! The rules for every request on any route.
//!
//! - A request has exactly one `Host` header (RFC 9112, section 3.2).
//! - Its method is the one that it was sent with. Rocket lets a form override the method by a field `_method`. Then a
//!   browser page could use other methods, and so could a request that a proxy lets pass as a POST.
//! - A browser page of another origin cannot post webhooks, signed or not.
//! - No cache stores data of calls.
//! - If a path exists for other methods, the answer is 405 with `Allow`, not 404.

use rocket::fairing::{Fairing, Info, Kind};
use rocket::http::uri::Origin;
use rocket::http::{Header, Method, Status};
use rocket::{Data, Request, Response, Route, route};

use crate::http::error::ApiError;
use crate::http::origins::AllowedOrigins;
use crate::transport::connections::ConnectionRegistry;

/// The path to which refused requests are redirected inside the server.
const REFUSED_PATH: &str = "/-/refused";
/// Bytes at the beginning of a form in which Rocket looks for `_method`.
const METHOD_FIELD_BYTES: usize = 14;

/// Applies the rules to each request.
pub struct RequestRules {
    /// The server's own origins, whose pages may post webhooks.
    pub origins: AllowedOrigins,
    /// Registers requests in progress.
    pub connections: ConnectionRegistry,
}

/// A request that was refused before it was routed, with its original path and method.
struct RefusedRequest {
    error: ApiError,
    path: String,
    method: Method,
}

#[rocket::async_trait]
impl Fairing for RequestRules {
    fn info(&self) -> Info {
        Info { name: "rules for every request", kind: Kind::Request }
    }

    async fn on_request(&self, request: &mut Request<'_>, data: &mut Data<'_>) {
        if let Some(peer) = request.remote() {
            // The registration is dropped with the request: when its response was sent, or when the peer is gone.
            request.local_cache(|| Some(self.connections.request_started(peer)));
        }
        let is_form = request.content_type().is_some_and(|kind| kind.is_form());
        if is_form && data.peek(METHOD_FIELD_BYTES).await.windows(7).any(|bytes| bytes == b"_method") {
            request.set_method(Method::Post);
        }
        if let Some(error) = self.refusal(request) {
            let (path, method) = (request.uri().path().to_string(), request.method());
            request.local_cache(|| Some(RefusedRequest { error, path, method }));
            request.set_method(Method::Get);
            request.set_uri(Origin::const_new(REFUSED_PATH, None));
        }
    }
}

/// Forbids caches to store data of calls, and browsers to guess content types or to show responses in frames.
pub(crate) fn set_security_headers(request: &Request<'_>, response: &mut Response<'_>) {
    let (_, path) = original_target(request);
    let is_webhook = is_below(path, "/webhooks");
    if is_webhook || ["/api", "/ws"].iter().any(|folder| is_below(path, folder)) {
        response.set_header(Header::new("Cache-Control", "no-store"));
    }
    response.set_header(Header::new("X-Content-Type-Options", "nosniff"));
    if !is_webhook {
        // Rocket's default `Shield` sets these on all responses. Providers never show a response in a frame.
        response.set_header(Header::new("X-Frame-Options", "SAMEORIGIN"));
        response.set_header(Header::new("Permissions-Policy", "interest-cohort=()"));
    }
}

impl RequestRules {
    fn refusal(&self, request: &Request<'_>) -> Option<ApiError> {
        let (mut host, mut host_count, mut is_from_page) = (None, 0, false);
        // Most requests have few headers, so one pass is cheaper than three lookups, each of which hashes a name.
        for header in request.headers().iter() {
            let is = |name: &str| header.name().as_str().eq_ignore_ascii_case(name);
            if is("Host") {
                (host, host_count) = (Some(header.value), host_count + 1);
            } else if is("Origin") || is("Sec-Fetch-Site") {
                is_from_page = true;
            }
        }
        if host_count != 1 {
            return Some(ApiError::bad_request("a request has exactly one Host header"));
        }
        if !is_from_page || !is_below(request.uri().path().as_str(), "/webhooks") {
            return None;
        }
        let headers = request.headers();
        let is_foreign = headers.get("Origin").any(|origin| !self.origins.is_own(origin, host.as_deref()));
        let is_cross_site = headers.get("Sec-Fetch-Site").any(|site| site.trim().eq_ignore_ascii_case("cross-site"));
        (is_foreign || is_cross_site).then(|| ApiError::forbidden("pages of other origins may not post webhooks"))
    }
}

/// Returns the method and path of the request as it was received. A refused request has others meanwhile.
pub(crate) fn original_target<'r>(request: &'r Request<'_>) -> (Method, &'r str) {
    match refused_request(request) {
        Some(refused) => (refused.method, &refused.path),
        None => (request.method(), request.uri().path().as_str()),
    }
}

fn refused_request<'r>(request: &'r Request<'_>) -> Option<&'r RefusedRequest> {
    if request.uri().path().as_str() != REFUSED_PATH {
        return None;
    }
    request.local_cache(|| None::<RefusedRequest>).as_ref()
}

/// Whether a path is `folder` or lies below it.
fn is_below(path: &str, folder: &str) -> bool {
    // Like Rocket's router, this treats several slashes as one and does not decode percent-encoding.
    let path = path.trim_start_matches('/');
    path.strip_prefix(folder.trim_start_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers refused requests. A client that requests this path itself gets a 404.
pub(crate) fn routes() -> Vec<Route> {
    vec![Route::new(Method::Get, REFUSED_PATH, RefusedRoute)]
}

#[derive(Clone)]
struct RefusedRoute;

#[rocket::async_trait]
impl route::Handler for RefusedRoute {
    async fn handle<'r>(&self, request: &'r Request<'_>, _: Data<'r>) -> route::Outcome<'r> {
        let error = refused_request(request)
            .map_or_else(|| ApiError::of_status(Status::NotFound), |refused| refused.error.clone());
        route::Outcome::from(request, error)
    }
}

/// Returns the methods of a path for `Allow`, if the path exists and the requested method is not among them.
pub(crate) fn methods_served(request: &Request<'_>) -> Option<String> {
    let segments: Vec<&str> = request.uri().path().as_str().split('/').filter(|segment| !segment.is_empty()).collect();
    let serves_path = |route: &&Route| route.method != Method::Options && matches(route.uri.path(), &segments);
    let mut methods: Vec<Method> = request.rocket().routes().filter(serves_path).map(|route| route.method).collect();
    if methods.contains(&Method::Get) {
        methods.push(Method::Head);
    }
    if methods.is_empty() || methods.contains(&request.method()) {
        return None;
    }
    methods.push(Method::Options);
    let mut names: Vec<&str> = methods.iter().map(|method| method.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    Some(names.join(", "))
}

/// Whether the path of a route, such as `/calls/<id>`, matches these segments.
fn matches(path: &str, segments: &[&str]) -> bool {
    let mut rest = segments.iter();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part.starts_with('<') && part.ends_with("..>") {
            return true;
        }
        match rest.next() {
            Some(segment) if part.starts_with('<') || part == *segment => {}
            _ => return false,
        }
    }
    rest.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_and_routes_are_told_apart() {
        assert!(is_below("/webhooks", "/webhooks") && is_below("//webhooks/x", "/webhooks"));
        assert!(!is_below("/webhooksx", "/webhooks") && !is_below("/a/webhooks", "/webhooks"));
        assert!(matches("/calls/<id>", &["calls", "x"]) && matches("/a/<rest..>", &["a", "b", "c"]));
        assert!(!matches("/calls/<id>", &["calls"]) && !matches("/calls", &["calls", "x"]));
    }
}
