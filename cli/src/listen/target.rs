//! Where deliveries are forwarded to.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// Stands for the route that a delivery came by.
const ROUTE: &str = "{route}";

/// A URL, or several that differ by the route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target(String);

impl Target {
    /// Where a delivery of that route goes.
    pub fn url(&self, route: &str) -> Result<Url, url::ParseError> {
        Url::parse(&self.0.replace(ROUTE, route))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let target = Self(full);
        let url = target.url("transcription").map_err(|error| error.to_string())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("it takes http:// or https:// and a host, such as http://127.0.0.1:3000/webhook".into());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a user or password in it would be seen by everybody on this machine".into());
        }
        Ok(target)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_one_url_or_one_for_each_route() {
        let url = |text: &str| text.parse::<Target>().unwrap().url("post-call").unwrap().to_string();
        assert_eq!(url("localhost:3000"), "http://localhost:3000/");
        assert_eq!(url("https://a.test/hook?x=1"), "https://a.test/hook?x=1");
        assert_eq!(url("http://a.test/elevenlabs/{route}"), "http://a.test/elevenlabs/post-call");
        for wrong in ["", "ftp://a", "http://", "http://u:p@a", "http://a:99999"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
