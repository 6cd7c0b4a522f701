//! Posts one request, and reads its answer.

use std::time::Duration;

use reqwest::header::HeaderMap;
use reqwest::{Client, Response};
use url::Url;

use crate::api::{self, Unread};
use crate::exit::Result;
use crate::net::{self, Diagnosis, ServerConnector};

/// Posts to one server.
#[derive(Debug, Clone)]
pub(crate) struct HttpClient {
    connector: ServerConnector,
    http: Client,
    timeout: Duration,
}

/// An answer whose body was not read yet.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// How long the server asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// Where the answer redirects to; redirects are not followed.
    pub(crate) redirect: Option<String>,
    response: Response,
}

/// There was no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    /// What is in the way.
    pub(crate) diagnosis: Diagnosis,
    /// Whether the request may have arrived all the same.
    pub(crate) may_have_arrived: bool,
}

impl HttpClient {
    /// A client to the server of `url`, which has `timeout` to answer.
    pub(crate) fn to(url: &Url, timeout: Duration) -> Result<Self> {
        let connector = ServerConnector::to(url)?;
        Ok(Self { http: connector.http_client()?, connector, timeout })
    }

    /// Posts `body` once.
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
    /// The body, of at most `longest` bytes.
    pub(crate) async fn body(self, longest: usize) -> std::result::Result<Vec<u8>, Unread> {
        api::body(self.response, longest).await
    }

    /// The first `most` bytes of the body, as far as they come: for people.
    pub(crate) async fn beginning(mut self, most: usize) -> String {
        let mut body = Vec::new();
        while body.len() <= most
            && let Ok(Some(chunk)) = self.response.chunk().await
        {
            body.extend(chunk);
        }
        body.truncate(most);
        String::from_utf8_lossy(&body).into_owned()
    }
}
