//! Where webhooks go: a Callscope server, or another backend.

use url::Url;

use super::Route;
use crate::api;
use crate::exit::{Exit, Failure};

/// Where webhooks go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The server, or the host of the backend; named when there is no answer.
    pub(crate) server: Url,
    /// Where post-call webhooks go.
    pub(crate) post_call: Url,
    /// Where turns go; `None` where they are not taken.
    pub(crate) turns: Option<Url>,
}

impl Target {
    /// A Callscope server.
    pub(crate) fn callscope(server: &Url) -> Self {
        let url = |route: Route| api::webhook_url(server, route.name());
        Self { server: server.clone(), post_call: url(Route::PostCall), turns: Some(url(Route::Turn)) }
    }

    /// The failure where the target does not answer.
    pub(crate) fn unreachable(&self, why: &str) -> Failure {
        if *self == Self::callscope(&self.server) {
            return crate::net::unreachable(&self.server, why);
        }
        Failure::new(Exit::Unreachable, format!("no answer from {}: {why}", crate::net::display_url(&self.server)))
            .hint("is it running, and is that its whole URL?")
    }

    /// Another backend: post-call webhooks to `to`, turns only where a place for them is named.
    pub(crate) fn backend(to: Url, turns: Option<Url>) -> Self {
        let mut server = to.clone();
        server.set_query(None);
        Self { server, post_call: to, turns }
    }
}

/// A URL that no webhook is sent to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidUrl {
    #[error(transparent)]
    Unreadable(#[from] url::ParseError),
    #[error("a user or password in it would be seen by everybody on this machine")]
    HasLogin,
    #[error("it takes the whole URL, such as http://localhost:3000/webhook")]
    NotWhole,
    #[error("it takes http:// or https:// and a host, such as http://127.0.0.1:3000/webhook")]
    NotHttp,
    #[error("{{route}} can stand in its path only")]
    RouteOutsidePath,
}

/// Takes the URL of a backend.
pub(crate) fn backend(text: &str) -> std::result::Result<Url, InvalidUrl> {
    let url = Url::parse(text)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUrl::HasLogin);
    }
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        _ => Err(InvalidUrl::NotWhole),
    }
}
