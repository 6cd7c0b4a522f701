//! Flags, environment and files, put together.

use std::borrow::Cow;
use std::env;
use std::path::{Path, PathBuf};

use clap::Args as ClapArgs;
use url::Url;

use crate::config::{self, Config};
use crate::exit::{Failure, Result};
use crate::net;
use crate::render::{self, ColorChoice, Console, Format, Output, shell_word};
use crate::secret::{self, Secret};

const DEFAULT_SERVER: &str = "http://127.0.0.1:8000";

/// Flags of every subcommand.
#[derive(Debug, Clone, ClapArgs)]
pub(crate) struct Global {
    /// The server to talk to [else the context's, CALLSCOPE_SERVER, http://127.0.0.1:8000]
    #[arg(long, global = true, value_name = "URL", help_heading = "Global options")]
    pub(crate) server: Option<String>,
    /// A file that holds the access token [else CALLSCOPE_TOKEN, or the context's]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) token_file: Option<PathBuf>,
    /// The server and login kept under this name (callscope context ls)
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "server", help_heading = "Global options")]
    pub(crate) context: Option<String>,
    /// How data is written
    #[arg(short, long, global = true, value_name = "FORMAT", help_heading = "Global options")]
    pub(crate) output: Option<Format>,
    /// When to use colours; NO_COLOR turns `auto` off, CLICOLOR_FORCE on
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", help_heading = "Global options")]
    pub(crate) color: ColorChoice,
    /// Say only what went wrong
    #[arg(short, long, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Say more about what happens
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub(crate) verbose: bool,
    /// For screen readers: plain lines only, nothing drawn over
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) accessible: bool,
}

/// What every command needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The URL of the server, `http` or `https`.
    pub(crate) server: Url,
    /// The context that named the server, if one did.
    pub(crate) context: Option<String>,
    pub(crate) token: Option<Secret>,
    /// Which flag, variable or context gave the server and the token.
    pub(crate) origin: Origin,
    /// The format of `--output`. Each command has its own default.
    pub(crate) format: Option<Format>,
    /// Whether data on stdout is coloured.
    pub(crate) color: bool,
    /// Plain lines only.
    pub(crate) accessible: bool,
    /// Where messages go.
    pub(crate) console: Console,
    /// The flags that name the server and the token, for commands in hints: empty, or with a leading blank. `None` if
    /// no later command can reach the server.
    pub(crate) flags: Option<String>,
}

/// Which flag, variable or context gave a setting.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) server: String,
    /// Empty if there is no token.
    pub(crate) token: String,
}

impl Settings {
    /// Completes the flags from the environment and the context file. A command that needs no server ignores a
    /// damaged context file.
    pub(crate) fn load(global: &Global, needs_server: bool) -> Result<Self> {
        let config = match Config::load() {
            Ok(config) => config,
            Err(_) if !needs_server && global.context.is_none() => Config::default(),
            Err(failure) => return Err(failure),
        };
        let chosen = ChosenServer::choose(global, &config)?;
        let server = server_url(&chosen.server)?;
        let (token, from) = token(global, &config, &chosen)?;
        Ok(Self {
            server,
            token,
            origin: Origin { server: chosen.origin.clone(), token: from },
            format: global.output,
            color: render::wants_color(global.color),
            accessible: global.accessible,
            flags: Some(flags(global, &chosen)),
            context: chosen.context,
            console: Console::new(global.quiet, global.verbose, global.accessible),
        })
    }

    /// Returns the writer of data, in the format `default` unless `--output` names another.
    pub(crate) fn output(&self, default: Format) -> Output {
        Output::stdout(self.format.unwrap_or(default), self.color)
    }
}

/// The server that this command talks to, and how it was chosen.
struct ChosenServer {
    server: String,
    context: Option<String>,
    origin: String,
    /// Whether a flag or the environment named it, rather than the context in use or the default.
    is_named: bool,
}

impl ChosenServer {
    /// `--server`, else `--context`, else the environment, else the context in use, else the default.
    fn choose(global: &Global, config: &Config) -> Result<Self> {
        let named = |server: &str, origin: &str| Self {
            server: server.to_owned(),
            context: None,
            origin: origin.to_owned(),
            is_named: true,
        };
        let of_context = |name: &str, origin: String, is_named: bool| {
            let server = config.get(name)?.server.clone();
            Ok(Self { server, context: Some(name.to_owned()), origin, is_named })
        };
        let from_environment = || env::var("CALLSCOPE_SERVER").ok().filter(|server| !server.is_empty());
        if let Some(server) = global.server.as_deref().filter(|server| !server.is_empty()) {
            return Ok(named(server, "--server"));
        }
        if let Some(name) = &global.context {
            return of_context(name, format!("--context {name}"), true);
        }
        if let Some(server) = from_environment() {
            return Ok(named(&server, "CALLSCOPE_SERVER"));
        }
        match config.current.as_deref() {
            Some(name) if config.contexts.contains_key(name) => {
                of_context(name, format!("the context {name} in use"), false)
            }
            _ => Ok(Self { is_named: false, ..named(DEFAULT_SERVER, "the default") }),
        }
    }
}

/// Returns the token of `--token-file`, else of `--context`, else of the environment, else of the context in use; and
/// where it came from. A context's token is sent only to the server of that context.
fn token(global: &Global, config: &Config, chosen: &ChosenServer) -> Result<(Option<Secret>, String)> {
    if let Some(path) = &global.token_file {
        return Ok((Some(trimmed(&Secret::read(path)?)), format!("--token-file {}", path.display())));
    }
    let from_environment = || env::var("CALLSCOPE_TOKEN").ok().map(|token| Secret::new(token.trim()));
    if !(chosen.is_named && chosen.context.is_some())
        && let Some(token) = from_environment().filter(|token| !token.expose().is_empty())
    {
        return Ok((Some(token), "CALLSCOPE_TOKEN".into()));
    }
    let Some(name) = &chosen.context else { return Ok((None, String::new())) };
    let context = config.get(name)?;
    match context.token()? {
        Some(token) => {
            if let Some(path) = config::path().filter(|_| context.token.is_some()) {
                secret::warn_if_open(&path);
            }
            let file = context.token_file.as_deref().filter(|_| context.token.is_none());
            let file = file.map_or_else(config::path, |path| Some(Path::to_owned(path)));
            let file = file.map_or_else(String::new, |path| format!(" ({})", path.display()));
            Ok((Some(trimmed(&token)), format!("the context {name}{file}")))
        }
        None => Ok((None, String::new())),
    }
}

fn trimmed(token: &Secret) -> Secret {
    Secret::new(token.expose().trim())
}

/// Returns the flags that a command in a hint needs to reach the same server. A token from the environment or from the
/// context in use needs no flag.
fn flags(global: &Global, chosen: &ChosenServer) -> String {
    let server = match &chosen.context {
        Some(name) => chosen.is_named.then(|| format!(" --context {}", shell_word(name))),
        None => (chosen.server != DEFAULT_SERVER).then(|| format!(" --server {}", shell_word(&chosen.server))),
    };
    let token =
        global.token_file.as_deref().map(|path| format!(" --token-file {}", shell_word(&path.to_string_lossy())));
    [server, token].into_iter().flatten().collect()
}

/// Parses a server's URL. `host:port` without a scheme means http.
pub(crate) fn server_url(text: &str) -> Result<Url> {
    let shown = without_logins(text);
    // Checked before the URL is parsed, because an invalid URL may hold a password too.
    if shown != text {
        return Err(Failure::usage(format!(
            "{shown:?} holds a user name or a password, which would be seen in histories and lists of processes"
        ))
        .hint("leave it out, and log in with a token: --token-file FILE, or CALLSCOPE_TOKEN"));
    }
    let mut url = Url::parse(&net::with_default_scheme(text)).map_err(|error| {
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

/// Replaces user names and passwords of URLs by `[hidden]`: in each word, all between the scheme and the
/// last `@`.
pub(crate) fn without_logins(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let is_end = |c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '<' | '>' | '`');
    let mut shown = String::with_capacity(text.len());
    for word in text.split_inclusive(is_end) {
        let Some((login, rest)) = word.rsplit_once('@') else {
            shown.push_str(word);
            continue;
        };
        let scheme = login.find("://").map_or("", |end| &login[..end + 3]);
        shown.push_str(&format!("{scheme}[hidden]@{rest}"));
    }
    Cow::Owned(shown)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_url_is_refused_and_not_echoed() {
        for url in [
            "http://ada:hunter2@127.0.0.1:8000",
            "ada:hunter2@host",
            "https://hunter2@host",
            "http://ada:hunter2@host:99999",
            "http://ada:hunter2/w@host",
            "ftp://ada:hunter2@host",
            "http://a@hunter2@host",
        ] {
            let failure = server_url(url).unwrap_err();
            assert_eq!(failure.exit, crate::exit::Exit::Usage, "{url}");
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
            assert!(failure.message.contains("[hidden]@"), "{failure:?}");
        }
        let error = "error: invalid value 'http://u:p@h' for '--to <URL>': it takes 'x'";
        assert_eq!(without_logins(error), "error: invalid value 'http://[hidden]@h' for '--to <URL>': it takes 'x'");
    }

    #[test]
    fn a_server_is_named_by_url_or_host() {
        assert_eq!(server_url("localhost:8000").unwrap().as_str(), "http://localhost:8000/");
        assert_eq!(server_url("localhost:8000/?u=http://x").unwrap().as_str(), "http://localhost:8000/");
        assert_eq!(server_url("https://calls.example/a?b#c").unwrap().as_str(), "https://calls.example/a");
        for wrong in ["ftp://x", "http://", "http://a:99999"] {
            assert_eq!(server_url(wrong).unwrap_err().exit, crate::exit::Exit::Usage, "{wrong}");
        }
    }
}
