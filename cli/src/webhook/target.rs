//! The URLs that webhooks are sent to: a Callscope server's, or another backend's.

use callscope_common::api::WebhookRoute;
use url::Url;

use crate::api;
use crate::exit::{Exit, Failure};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The URL in error messages: the server's, or the backend's without its query.
    pub(crate) server: Url,
    pub(crate) post_call: Url,
    /// `None` for a backend that does not accept turns.
    pub(crate) turns: Option<Url>,
}

impl Target {
    pub(crate) fn callscope(server: &Url) -> Self {
        let url = |route: WebhookRoute| api::webhook_url(server, route);
        Self {
            server: server.clone(),
            post_call: url(WebhookRoute::PostCall),
            turns: Some(url(WebhookRoute::Transcription)),
        }
    }

    pub(crate) fn unreachable(&self, why: &str) -> Failure {
        if *self == Self::callscope(&self.server) {
            return crate::net::unreachable(&self.server, why);
        }
        Failure::new(Exit::Unreachable, format!("no answer from {}: {why}", crate::net::display_url(&self.server)))
            .hint("is it running, and is the URL complete?")
    }

    pub(crate) fn backend(post_call: Url, turns: Option<Url>) -> Self {
        let mut server = post_call.clone();
        server.set_query(None);
        Self { server, post_call, turns }
    }
}

/// The reason why a URL is refused as a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error(transparent)]
    Unreadable(#[from] url::ParseError),
    #[error("a user or password in it would be seen by everybody on this machine")]
    HasLogin,
    #[error("it needs a complete URL, such as http://localhost:3000/webhook")]
    Incomplete,
    #[error("it needs http:// or https:// and a host, such as http://127.0.0.1:3000/webhook")]
    NotHttp,
    #[error("{{route}} can be part of the path or the query only")]
    RouteInHost,
}

/// Parses the URL of a backend.
pub(crate) fn parse_backend_url(text: &str) -> std::result::Result<Url, InvalidUrl> {
    let url = Url::parse(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUrl::HasLogin);
    }
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        _ => Err(InvalidUrl::Incomplete),
    }
}
