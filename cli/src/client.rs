//! The server's HTTP API.

use std::sync::Once;
use std::time::Duration;

use callscope_common::api::ErrorBody;
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use url::Url;

use crate::exit::{Exit, Failure, Result};
use crate::secret::Secret;
use crate::settings::Settings;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What to do about a token that is missing or refused.
pub const TOKEN_HINT: &str = "mint one on the server's machine: callscope-server token --sub NAME --role viewer --ttl 8h > token.txt, \
     then add --token-file token.txt or set CALLSCOPE_TOKEN";

/// Talks to one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    server: Url,
    token: Option<Secret>,
}

impl Client {
    /// For the server and token of `settings`.
    pub fn new(settings: &Settings) -> Result<Self> {
        Ok(Self {
            http: http_client(&settings.server)?,
            server: settings.server.clone(),
            token: settings.token.clone(),
        })
    }

    /// GETs JSON.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T> {
        let response = self.request(Method::GET, path, query).await?;
        let url = response.url().clone();
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::error(format!("{} answered with something else than expected: {error}", url.path()))
                .hint("is that a Callscope server of the same version? callscope --version")
        })
    }

    /// GETs JSON as it came.
    pub async fn get_raw(&self, path: &[&str], query: &[(&str, String)]) -> Result<Box<RawValue>> {
        self.get(path, query).await
    }

    /// POSTs without a body, for JSON as it came.
    pub async fn post_raw(&self, path: &[&str], query: &[(&str, String)]) -> Result<Box<RawValue>> {
        let response = self.request(Method::POST, path, query).await?;
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        RawValue::from_string(text)
            .map_err(|error| Failure::error(format!("the server answered with no JSON: {error}")))
    }

    /// DELETEs.
    pub async fn delete(&self, path: &[&str]) -> Result<()> {
        self.request(Method::DELETE, path, &[]).await.map(drop)
    }

    /// Asks a route that not every server has: `None` where this one has it not.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&serde_json::Value>,
    ) -> Result<Option<T>> {
        let mut request = self.prepare(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            return if is_missing(status, &text) { Ok(None) } else { Err(refusal(status, path.join("/"), &text)) };
        }
        let text = response.text().await.map_err(|error| self.unreachable(&error))?;
        let text = if text.trim().is_empty() { "null" } else { &text };
        serde_json::from_str(text).map(Some).map_err(|error| {
            Failure::error(format!("/{} answered with something else than expected: {error}", path.join("/")))
        })
    }

    fn prepare(&self, method: Method, path: &[&str]) -> reqwest::RequestBuilder {
        let request = self.http.request(method, endpoint(&self.server, path)).timeout(TIMEOUT);
        match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        }
    }

    async fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> Result<Response> {
        let request = self.prepare(method, path).query(query);
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let (status, path) = (response.status(), response.url().path().to_owned());
        Err(refusal(status, path, &response.text().await.unwrap_or_default()))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        unreachable(&self.server, &cause(error))
    }
}

/// A client that goes through the environment's proxies, except to this machine.
pub fn http_client(server: &Url) -> Result<reqwest::Client> {
    install_tls();
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("callscope/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none());
    if is_loopback(server) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| Failure::error(format!("cannot set up HTTP: {}", cause(&error))))
}

/// Picks the one TLS implementation that both HTTP and WebSocket use.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Fails only where one is installed already, which then serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// `server` with the segments of `path` behind its own, each escaped.
pub fn endpoint(server: &Url, path: &[&str]) -> Url {
    let mut url = server.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

/// Nobody answers at `server`.
pub fn unreachable(server: &Url, why: &str) -> Failure {
    Failure::new(Exit::Unreachable, format!("no answer from {}: {why}", shown(server)))
        .hint("is the server running? start it with callscope-server, or name another with --server URL")
}

/// A server's URL for people.
pub fn shown(server: &Url) -> &str {
    server.as_str().trim_end_matches('/')
}

/// The innermost reason of an error, which is the one that helps.
pub fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    // The number behind the words tells people nothing.
    text.split_once(" (os error").map_or(text.as_str(), |(words, _)| words).to_owned()
}

/// What an answer that is no success means.
fn refusal(status: StatusCode, path: String, body: &str) -> Failure {
    let said = match serde_json::from_str::<ErrorBody>(body) {
        Ok(ErrorBody { message, details: Some(details), .. }) => format!("{message} ({details})"),
        Ok(ErrorBody { message, .. }) => message,
        Err(_) => format!("/{} answered {status}", path.trim_start_matches('/')),
    };
    match status {
        StatusCode::UNAUTHORIZED => Failure::new(Exit::NotAllowed, format!("not logged in: {said}")).hint(TOKEN_HINT),
        StatusCode::FORBIDDEN => Failure::new(Exit::NotAllowed, format!("not allowed: {said}"))
            .hint("it may need an admin's token: callscope-server token --sub NAME --role admin --ttl 8h"),
        StatusCode::NOT_FOUND => Failure::not_found(said),
        StatusCode::BAD_REQUEST => Failure::usage(said),
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Failure::new(Exit::Unreachable, format!("the server cannot answer now: {said}"))
                .hint("try again in a moment")
        }
        _ => Failure::error(format!("the server refused: {said}")),
    }
}

/// Whether an answer means that there is no such route, rather than no such thing behind it.
fn is_missing(status: StatusCode, body: &str) -> bool {
    let code = serde_json::from_str::<ErrorBody>(body).map(|body| body.code).unwrap_or_default();
    match status {
        StatusCode::NOT_IMPLEMENTED | StatusCode::METHOD_NOT_ALLOWED => true,
        StatusCode::NOT_FOUND => matches!(code.as_str(), "" | "NOT_FOUND"),
        _ => false,
    }
}

fn is_loopback(server: &Url) -> bool {
    match server.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_behind_the_servers_own() {
        let server = Url::parse("https://example.org/calls/").unwrap();
        assert_eq!(endpoint(&server, &["api", "a/b?c"]).as_str(), "https://example.org/calls/api/a%2Fb%3Fc");
        let server = Url::parse("http://127.0.0.1:8000").unwrap();
        assert_eq!(endpoint(&server, &["healthz"]).as_str(), "http://127.0.0.1:8000/healthz");
    }
}
