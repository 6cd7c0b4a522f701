//! Posts webhooks to one server, and reads the answers.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Response};
use url::Url;

use crate::api::{self, BodyError};
use crate::exit::Result;
use crate::net::{self, Diagnosis, ServerConnector};

#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    connector: ServerConnector,
    http: Client,
    timeout: Duration,
}

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The wait that `Retry-After` asks for.
    pub(crate) retry_after: Option<Duration>,
    /// The `Location` of a redirect, which is not followed.
    pub(crate) redirect: Option<String>,
    response: Response,
}

/// The error of a request without an answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) diagnosis: Diagnosis,
    /// Whether the request may have arrived: the connection was established.
    pub(crate) may_have_arrived: bool,
}

impl HttpClient {
    /// Makes a client for the server of `url`. `timeout` is for the whole answer.
    pub(crate) fn to(url: &Url, timeout: Duration) -> Result<Self> {
        let connector = ServerConnector::to(url)?;
        Ok(Self { http: connector.http_client()?, connector, timeout })
    }

    /// Posts `body` once, without retries.
    pub(crate) async fn post(
        &self,
        url: Url,
        headers: HeaderMap,
        body: Vec<u8>,
    ) -> std::result::Result<Answer, Unanswered> {
        match self.http.post(url).headers(headers).timeout(self.timeout).body(body).send().await {
            Ok(response) => Ok(Answer {
                status: response.status().as_u16(),
                retry_after: net::retry_after(response.headers()),
                redirect: net::redirect_location(response.status(), response.headers()),
                response,
            }),
            Err(error) => {
                let may_have_arrived = !error.is_connect();
                Err(Unanswered { diagnosis: self.connector.diagnose(&error).await, may_have_arrived })
            }
        }
    }
}

impl Answer {
    /// Reads the body. A longer one than `max_bytes` is an error.
    pub(crate) async fn body(self, max_bytes: usize) -> std::result::Result<Vec<u8>, BodyError> {
        api::read_body(self.response, max_bytes).await
    }

    /// Returns the first `max_bytes` of the body, or fewer if the connection breaks.
    pub(crate) async fn beginning(mut self, max_bytes: usize) -> String {
        let mut body = Vec::new();
        while body.len() <= max_bytes
            && let Ok(Some(chunk)) = self.response.chunk().await
        {
            body.extend(chunk);
        }
        body.truncate(max_bytes);
        String::from_utf8_lossy(&body).into_owned()
    }
}
