//! Sends requests to the server, and turns its error answers into failures.

use std::time::Duration;

use callscope_common::api::ErrorBody;
use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use super::{BodyError, read_body, too_long};
use crate::exit::{Exit, Failure, Result};
use crate::net::{self, ServerConnector};
use crate::secret::Secret;
use crate::settings::Settings;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
pub(crate) const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Longest body of an error answer.
const MAX_ERROR_BYTES: usize = 64 << 10;
/// Longest list that is put together from several answers.
pub(crate) const MAX_LIST_BYTES: usize = 256 << 20;

/// The hint for a token that is missing or refused.
pub(crate) const TOKEN_HINT: &str = "mint one on the server's machine: callscope-server token --sub NAME --role viewer --ttl 8h > token.txt, \
     then add --token-file token.txt or set CALLSCOPE_TOKEN";

/// A client of one server's HTTP API.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    connector: ServerConnector,
    http: reqwest::Client,
    token: Option<Secret>,
}

impl Client {
    /// Takes the server and the token from `settings`.
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        if settings.token.is_some() {
            net::warn_if_unencrypted(&settings.server, "the token", settings.console);
        }
        let connector = ServerConnector::to(&settings.server)?;
        Ok(Self { http: connector.http_client()?, connector, token: settings.token.clone() })
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T> {
        parse(&self.request(Method::GET, path, query).await?, path)
    }

    /// Gets JSON; `None` if the answer is longer than `max_bytes`.
    pub(super) async fn get_within<T: DeserializeOwned>(&self, path: &[&str], max_bytes: usize) -> Result<Option<T>> {
        match self.answer(self.prepare(Method::GET, path)?, max_bytes).await? {
            Answer::Body(body) => parse(&body, path).map(Some),
            Answer::TooLong(_) => Ok(None),
            Answer::Refused(refused) => Err(self.refusal(&refused).await),
        }
    }

    /// Posts without a body, and parses the answer.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &[&str], query: &[(&str, String)]) -> Result<T> {
        parse(&self.request(Method::POST, path, query).await?, path)
    }

    pub(super) async fn delete(&self, path: &[&str]) -> Result<()> {
        self.request(Method::DELETE, path, &[]).await.map(drop)
    }

    fn prepare(&self, method: Method, path: &[&str]) -> Result<reqwest::RequestBuilder> {
        path.iter().try_for_each(|segment| checked_identifier(segment).map(drop))?;
        let request = self.http.request(method, endpoint(self.connector.server(), path)).timeout(REQUEST_TIMEOUT);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        })
    }

    async fn request(&self, method: Method, path: &[&str], query: &[(&str, String)]) -> Result<Vec<u8>> {
        match self.answer(self.prepare(method, path)?.query(query), MAX_ANSWER_BYTES).await? {
            Answer::Body(body) => Ok(body),
            Answer::TooLong(path) => Err(too_long(&format!("the answer of {path}"), MAX_ANSWER_BYTES)),
            Answer::Refused(refused) => Err(self.refusal(&refused).await),
        }
    }

    async fn answer(&self, request: reqwest::RequestBuilder, max_bytes: usize) -> Result<Answer> {
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(self.connector.diagnose(&error).await.to_failure(&self.connector)),
        };
        let (status, path) = (response.status(), response.url().path().to_owned());
        if let Some(failure) = net::redirect_failure(self.connector.server(), &path, status, response.headers()) {
            return Err(failure);
        }
        if status.is_success() {
            return match read_body(response, max_bytes).await {
                Ok(body) => Ok(Answer::Body(body)),
                Err(BodyError::TooLong) => Ok(Answer::TooLong(path)),
                Err(BodyError::Broken(error)) => Err(self.connector.diagnose(&error).await.to_failure(&self.connector)),
            };
        }
        match read_body(response, MAX_ERROR_BYTES).await {
            Err(BodyError::TooLong) => Err(too_long(&format!("the error {status} of {path}"), MAX_ERROR_BYTES)),
            // The status says enough if the connection broke before the end of the body.
            body => Ok(Answer::Refused(Refused { status, path, body: body.unwrap_or_default() })),
        }
    }

    /// Returns the failure for an error answer, which may come from a TLS server that was reached without TLS.
    async fn refusal(&self, refused: &Refused) -> Failure {
        if refused.error_body().is_none()
            && let Some(diagnosis) = self.connector.diagnose_answer(refused.status).await
        {
            return diagnosis.to_failure(&self.connector);
        }
        refused.to_failure()
    }
}

enum Answer {
    Body(Vec<u8>),
    /// The path of the request.
    TooLong(String),
    Refused(Refused),
}

/// An answer whose status is not a success.
struct Refused {
    status: StatusCode,
    path: String,
    body: Vec<u8>,
}

impl Refused {
    /// Returns the error as Callscope writes it; `None` if another program answered.
    fn error_body(&self) -> Option<ErrorBody> {
        serde_json::from_slice(&self.body).ok()
    }

    fn to_failure(&self) -> Failure {
        let message = match self.error_body() {
            Some(ErrorBody { message, details: Some(details), .. }) => format!("{message} ({details})"),
            Some(ErrorBody { message, .. }) => message,
            None => format!("{} answered {}", self.path, self.status),
        };
        match self.status {
            StatusCode::UNAUTHORIZED => {
                Failure::new(Exit::NotAllowed, format!("not logged in: {message}")).hint(TOKEN_HINT)
            }
            StatusCode::FORBIDDEN => Failure::new(Exit::NotAllowed, format!("not allowed: {message}"))
                .hint("it may need an admin's token: callscope-server token --sub NAME --role admin --ttl 8h"),
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Failure::new(Exit::NotAllowed, format!("the proxy refused: {message}"))
                    .hint("put its user and password into HTTP_PROXY, HTTPS_PROXY or ALL_PROXY")
            }
            StatusCode::NOT_FOUND => Failure::not_found(message),
            StatusCode::BAD_REQUEST => Failure::usage(message),
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                Failure::new(Exit::Unreachable, format!("the server cannot answer now: {message}"))
                    .hint("try again in a moment")
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Failure::error(format!("the server refused: {message}")).transient()
            }
            status if status.is_server_error() => Failure::error(format!("the server failed: {message}")).transient(),
            _ => Failure::error(format!("the server refused: {message}")),
        }
    }
}

/// Returns `id` if it can be a segment of a path: an empty one, `.` and `..` would change the path.
pub(crate) fn checked_identifier(id: &str) -> Result<&str> {
    match id {
        "" => Err(Failure::usage("the identifier is empty").hint("was a variable of the shell not set?")),
        "." | ".." => Err(Failure::usage(format!("{id:?} is not an identifier"))),
        id => Ok(id),
    }
}

/// Returns `server` with the segments of `path`, each escaped, after its own path.
pub(super) fn endpoint(server: &Url, path: &[&str]) -> Url {
    let mut url = server.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

fn parse<T: DeserializeOwned>(body: &[u8], path: &[&str]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::error(format!("the answer of {} cannot be read: {error}", display_path(path)))
            .hint("is that a Callscope server of the same version? callscope --version")
    })
}

fn display_path(path: &[&str]) -> String {
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
            assert_eq!(checked_identifier(wrong).unwrap_err().exit, Exit::Usage, "{wrong:?}");
        }
        // Names of calls may hold these, and they are escaped.
        for right in ["a/b", "...", "-x", "%2e%2e"] {
            assert_eq!(checked_identifier(right).unwrap(), right);
        }
    }
}
