//! Where webhooks go: a Callscope server, or anybody's backend.

use url::Url;

use super::Route;
use crate::api;
use crate::exit::{Exit, Failure};

/// Where webhooks go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The server, or the host of the backend; named when nobody answers.
    pub server: Url,
    /// Where post-call webhooks go.
    pub post_call: Url,
    /// Where turns go; `None` where they are not taken.
    pub turns: Option<Url>,
}

impl Target {
    /// A Callscope server.
    pub fn callscope(server: &Url) -> Self {
        let url = |route: Route| api::webhook_url(server, route.name());
        Self { server: server.clone(), post_call: url(Route::PostCall), turns: Some(url(Route::Turn)) }
    }

    /// Nobody answers there.
    pub fn unreachable(&self, why: &str) -> Failure {
        if *self == Self::callscope(&self.server) {
            return crate::net::unreachable(&self.server, why);
        }
        Failure::new(Exit::Unreachable, format!("no answer from {}: {why}", crate::net::shown(&self.server)))
            .hint("is it running, and is that its whole URL?")
    }

    /// Anybody's backend: post-call webhooks to `to`, turns only where a place for them is named.
    pub fn backend(to: Url, turns: Option<Url>) -> Self {
        let mut server = to.clone();
        server.set_query(None);
        Self { server, post_call: to, turns }
    }
}

/// Takes the URL of a backend.
pub fn backend(text: &str) -> std::result::Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user or password in it would be seen by everybody on this machine".into());
    }
    match url.scheme() {
        "http" | "https" if url.host_str().is_some() => Ok(url),
        _ => Err("it takes the whole URL, such as http://localhost:3000/webhook".into()),
    }
}
