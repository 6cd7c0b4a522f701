//! Requests to the server, and what its refusals mean.

use std::time::Duration;

use callscope_common::api::ErrorBody;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use super::{Unread, body, too_long};
use crate::exit::{Exit, Failure, Result};
use crate::net::{self, ServerConnector};
use crate::secret::Secret;
use crate::settings::Settings;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest answer taken, in bytes.
pub(crate) const LONGEST: usize = 64 << 20;
/// Longest answer taken that says no, in bytes.
const LONGEST_REFUSAL: usize = 64 << 10;
/// What is put together from several answers is at most so long, in bytes.
pub(crate) const LONGEST_LIST: usize = 256 << 20;

/// What to do about a token that is missing or refused.
pub(crate) const TOKEN_HINT: &str = "mint one on the server's machine: callscope-server token --sub NAME --role viewer --ttl 8h > token.txt, \
     then add --token-file token.txt or set CALLSCOPE_TOKEN";

/// Talks to one server.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    connector: ServerConnector,
    http: reqwest::Client,
    token: Option<Secret>,
}

impl Client {
    /// For the server and token of `settings`.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        if settings.token.is_some() {
            net::warn_if_unencrypted(&settings.server, "the token", settings.console);
        }
        let connector = ServerConnector::to(&settings.server)?;
        Ok(Self { http: connector.http_client()?, connector, token: settings.token.clone() })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T> {
        parsed(&self.request(Method::GET, path, query).await?, path)
    }

    /// GETs JSON of at most `longest` bytes; `None` where the answer is longer.
    pub(super) async fn get_within<T: DeserializeOwned>(&self, path: &[&str], longest: usize) -> Result<Option<T>> {
        match self.answer(self.prepare(Method::GET, path)?, longest).await? {
            Answer::Body(body) => parsed(&body, path).map(Some),
            Answer::TooLong(_) => Ok(None),
            Answer::Refused(refused) => Err(self.refusal(&refused).await),
        }
    }

    /// POSTs without a body, for JSON.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T> {
        parsed(&self.request(Method::POST, path, query).await?, path)
    }

    pub(super) async fn delete(&self, path: &[&str]) -> Result<()> {
        self.request(Method::DELETE, path, &[]).await.map(drop)
    }

    fn prepare(&self, method: Method, path: &[&str]) -> Result<reqwest::RequestBuilder> {
        path.iter().try_for_each(|segment| checked(segment).map(drop))?;
        let request = self.http.request(method, endpoint(self.connector.server(), path)).timeout(TIMEOUT);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        })
    }

    async fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> Result<Vec<u8>> {
        match self.answer(self.prepare(method, path)?.query(query), LONGEST).await? {
            Answer::Body(body) => Ok(body),
            Answer::TooLong(path) => Err(too_long(&format!("the answer of {path}"), LONGEST)),
            Answer::Refused(refused) => Err(self.refusal(&refused).await),
        }
    }

    async fn answer(&self, request: reqwest::RequestBuilder, longest: usize) -> Result<Answer> {
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.connector.diagnose(&error).await.to_failure(&self.connector)),
        };
        let (status, path) = (response.status(), response.url().path().to_owned());
        if let Some(failure) = net::redirect_failure(self.connector.server(), &path, status, response.headers()) {
            return Err(failure);
        }
        if status.is_success() {
            return match body(response, longest).await {
                Ok(body) => Ok(Answer::Body(body)),
                Err(Unread::TooLong) => Ok(Answer::TooLong(path)),
                Err(Unread::Broken(error)) => Err(self.connector.diagnose(&error).await.to_failure(&self.connector)),
            };
        }
        match body(response, LONGEST_REFUSAL).await {
            Err(Unread::TooLong) => {
                Err(too_long(&format!("{path} answered {status}, and what it says"), LONGEST_REFUSAL))
            }
            // What it says is a help, and not needed to know that it said no.
            said => Ok(Answer::Refused(Refused { status, path, body: said.unwrap_or_default() })),
        }
    }

    /// What an answer that is no success means.
    async fn refusal(&self, refused: &Refused) -> Failure {
        if refused.words().is_none()
            && let Some(diagnosis) = self.connector.diagnose_answer(refused.status).await
        {
            return diagnosis.to_failure(&self.connector);
        }
        refused.failure()
    }
}

/// An answer, read.
enum Answer {
    Body(Vec<u8>),
    /// Longer than was allowed, with the path that was asked.
    TooLong(String),
    Refused(Refused),
}

/// An answer that is no success.
struct Refused {
    status: StatusCode,
    path: String,
    body: Vec<u8>,
}

impl Refused {
    /// What a Callscope server said.
    fn words(&self) -> Option<ErrorBody> {
        serde_json::from_slice(&self.body).ok()
    }

    fn failure(&self) -> Failure {
        let said = match self.words() {
            Some(ErrorBody { message, details: Some(details), .. }) => format!("{message} ({details})"),
            Some(ErrorBody { message, .. }) => message,
            None => format!("{} answered {}", self.path, self.status),
        };
        match self.status {
            StatusCode::UNAUTHORIZED => {
                Failure::new(Exit::NotAllowed, format!("not logged in: {said}")).hint(TOKEN_HINT)
            }
            StatusCode::FORBIDDEN => Failure::new(Exit::NotAllowed, format!("not allowed: {said}"))
                .hint("it may need an admin's token: callscope-server token --sub NAME --role admin --ttl 8h"),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Failure::new(Exit::NotAllowed, format!("the proxy refused: {said}"))
                    .hint("give its user and password where the proxy is named: HTTP_PROXY, HTTPS_PROXY or ALL_PROXY")
            }
            StatusCode::NOT_FOUND => Failure::not_found(said),
            StatusCode::BAD_REQUEST => Failure::usage(said),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                Failure::new(Exit::Unreachable, format!("the server cannot answer now: {said}"))
                    .hint("try again in a moment")
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Failure::error(format!("the server refused: {said}")).passing()
            }
            status if status.is_server_error() => Failure::error(format!("the server failed: {said}")).passing(),
            _ => Failure::error(format!("the server refused: {said}")),
        }
    }
}

/// `id` where it can stand in a path: what is empty, `.` or `..` would lead somewhere else.
pub(crate) fn checked(id: &str) -> Result<&str> {
    match id {
        "" => Err(Failure::usage("the identifier is empty").hint("was a variable of the shell not set?")),
        "." | ".." => Err(Failure::usage(format!("{id:?} is no identifier"))),
        id => Ok(id),
    }
}

/// `server` with the segments of `path` behind its own, each escaped.
pub(super) fn endpoint(server: &Url, path: &[&str]) -> Url {
    let mut url = server.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

fn parsed<T: DeserializeOwned>(body: &[u8], path: &[&str]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::error(format!("{} answered with something else than expected: {error}", spelled(path)))
            .hint("is that a Callscope server of the same version? callscope --version")
    })
}

fn spelled(path: &[&str]) -> String {
    format!("/{}", path.join("/"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_escaped_behind_the_servers_own() {
        let server = Url::parse("https://example.org/calls/").unwrap();
        assert_eq!(endpoint(&server, &["api", "a/b?c"]).as_str(), "https://example.org/calls/api/a%2Fb%3Fc");
        assert_eq!(endpoint(&server, &["a%2f..", "#;\\"]).as_str(), "https://example.org/calls/a%252f../%23;%5C");
        let server = Url::parse("http://127.0.0.1:8000").unwrap();
        assert_eq!(endpoint(&server, &["healthz"]).as_str(), "http://127.0.0.1:8000/healthz");
    }

    #[test]
    fn what_would_change_the_path_is_no_identifier() {
        for wrong in ["", ".", ".."] {
            assert_eq!(checked(wrong).unwrap_err().exit, Exit::Usage, "{wrong:?}");
        }
        // Names of calls may hold these, and they are escaped.
        for right in ["a/b", "...", "-x", "%2e%2e"] {
            assert_eq!(checked(right).unwrap(), right);
        }
    }
}
