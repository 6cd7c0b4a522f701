//! The URL that `listen` forwards deliveries to.

use std::fmt;
use std::str::FromStr;

use callscope_common::api::WebhookRoute;
use url::Url;

use crate::net::with_default_scheme;
use crate::webhook::InvalidUrl;

/// Part of a target's URL that is replaced by the route of each delivery.
const ROUTE_PLACEHOLDER: &str = "{route}";

/// A URL that may contain [`ROUTE_PLACEHOLDER`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target(String);

impl Target {
    /// Returns the URL for a delivery of `route`; `None` if the URL has a placeholder and the route is unknown.
    pub(crate) fn url(&self, route: Option<WebhookRoute>) -> Option<Url> {
        if !self.0.contains(ROUTE_PLACEHOLDER) {
            return Url::parse(&self.0).ok();
        }
        // A server states the route of each delivery. A hostile server must not choose another path of the target, so
        // only a known route replaces the placeholder.
        Url::parse(&self.0.replace(ROUTE_PLACEHOLDER, route?.as_str())).ok()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Target {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let target = Self(with_default_scheme(text).into_owned());
        let url = Url::parse(&target.0.replace(ROUTE_PLACEHOLDER, WebhookRoute::Transcription.as_str()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(InvalidUrl::NotHttp);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidUrl::HasLogin);
        }
        // The placeholder must not choose the host.
        let other = Url::parse(&target.0.replace(ROUTE_PLACEHOLDER, WebhookRoute::PostCall.as_str())).ok();
        if url.host_str() != other.as_ref().and_then(Url::host_str) {
            return Err(InvalidUrl::RouteInHost);
        }
        Ok(target)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use callscope_common::OrUnknown;

    use super::*;

    #[test]
    fn a_target_is_one_url_or_one_for_each_route() {
        let url = |text: &str| text.parse::<Target>().unwrap().url(Some(WebhookRoute::PostCall)).unwrap().to_string();
        assert_eq!(url("localhost:3000"), "http://localhost:3000/");
        assert_eq!(url("localhost:3000/?u=http://x"), "http://localhost:3000/?u=http://x");
        assert_eq!(url("a.test/?r={route}"), "http://a.test/?r=post-call");
        assert_eq!(url("https://a.test/hook?x=1"), "https://a.test/hook?x=1");
        assert_eq!(url("http://a.test/elevenlabs/{route}"), "http://a.test/elevenlabs/post-call");
        for wrong in ["", "ftp://a", "http://", "http://u:p@a", "http://a:99999", "http://{route}.test/"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_cannot_choose_the_path() {
        let target: Target = "http://a.test/hooks/{route}".parse().unwrap();
        for route in
            ["../../admin/delete?all=1#", "", ".", "post-call/..", "post-call?x", "Post-Call", "%2e%2e", "admin"]
        {
            let route = OrUnknown::read(route.to_owned()).known();
            assert_eq!(target.url(route), None);
            let fixed: Target = "http://a.test/hook".parse().unwrap();
            assert_eq!(fixed.url(route).unwrap().as_str(), "http://a.test/hook");
        }
    }
}
