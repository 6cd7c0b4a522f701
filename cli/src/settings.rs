//! Flags, environment and files, put together.

use std::env;

use url::Url;

use crate::args::{Format, Global};
use crate::console::Console;
use crate::exit::{Failure, Result};
use crate::output::{self, Output, shell_word};
use crate::secret::Secret;

const DEFAULT_SERVER: &str = "http://127.0.0.1:8000";

/// What every command needs to know.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the server is: `http` or `https`, without a trailing slash.
    pub server: Url,
    /// The access token.
    pub token: Option<Secret>,
    /// The format asked for; each command has its own default.
    pub format: Option<Format>,
    /// Whether data on stdout is coloured.
    pub color: bool,
    /// Plain lines only.
    pub accessible: bool,
    /// Where messages go.
    pub console: Console,
    /// The flags that name the server and the token, for commands shown to the user; begins with a blank, or empty. `None`
    /// where no command will reach that server.
    pub flags: Option<String>,
}

impl Settings {
    /// Reads what the flags leave to the environment and to files.
    pub fn load(global: &Global) -> Result<Self> {
        Ok(Self {
            server: server_url(global.server.as_deref().filter(|url| !url.is_empty()).unwrap_or(DEFAULT_SERVER))?,
            token: match &global.token_file {
                Some(path) => Some(Secret::read(path)?),
                None => env::var("CALLSCOPE_TOKEN").ok().map(|token| Secret::new(token.trim())),
            }
            .filter(|token| !token.expose().is_empty()),
            format: global.output,
            color: output::wants_color(global.color),
            accessible: global.accessible,
            flags: Some(flags(global)),
            console: Console::new(global.quiet, global.verbose, global.accessible),
        })
    }

    /// The writer of data, with `default` where no format was asked for.
    pub fn output(&self, default: Format) -> Output {
        Output::stdout(self.format.unwrap_or(default))
    }
}

/// What the user gave beyond the defaults, so that a command shown can be typed as it is. Of a token only its file: the
/// environment is still there when it is typed.
fn flags(global: &Global) -> String {
    let server = global.server.as_deref().filter(|server| !server.is_empty() && *server != DEFAULT_SERVER);
    let server = server.map(|server| format!(" --server {}", shell_word(server)));
    let token =
        global.token_file.as_deref().map(|path| format!(" --token-file {}", shell_word(&path.to_string_lossy())));
    [server, token].into_iter().flatten().collect()
}

/// Takes a server's URL; a bare `host:port` means http.
fn server_url(text: &str) -> Result<Url> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url = Url::parse(&full).map_err(|error| {
        Failure::usage(format!("{text:?} is no server address: {error}"))
            .hint("--server takes a URL such as http://127.0.0.1:8000")
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(Failure::usage(format!("{text:?} is no server address: it takes http:// or https:// and a host")));
    }
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_url_or_host() {
        assert_eq!(server_url("localhost:8000").unwrap().as_str(), "http://localhost:8000/");
        assert_eq!(server_url("https://calls.example/a?b#c").unwrap().as_str(), "https://calls.example/a");
        for wrong in ["ftp://x", "http://", "http://a:99999"] {
            assert_eq!(server_url(wrong).unwrap_err().exit, crate::exit::Exit::Usage, "{wrong}");
        }
    }
}
