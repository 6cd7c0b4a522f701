//! Shell completion: the script that `completions` prints runs this program at every Tab.
//!
//! Ids are fetched from the server within a time limit. Only ids without characters special to a shell are offered,
//! because the shell puts them on the command line unquoted.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;
use std::{env, io};

use callscope_common::api::{CallView, ConnectionView};
use callscope_common::text;
use clap::CommandFactory as _;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;

use super::Args;
use crate::api::{Client, Page};
use crate::config::Config;
use crate::exit::{Failure, Result};
use crate::render::{ColorChoice, Console, console, format_utc};
use crate::samples;
use crate::settings::{Global, Settings, without_logins};

/// The environment variable that the scripts set to the name of the shell.
const VARIABLE: &str = "CALLSCOPE_COMPLETE";
/// How long a completion waits for the server.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1500);
/// How many calls are fetched to be offered.
const MAX_OFFERED: u32 = 100;

/// Prints completions if a shell's script runs this program, and returns whether it does.
pub(crate) fn answer() -> Result<bool> {
    let command = || Args::command().mut_arg("context", |arg| arg.add(contexts()));
    clap_complete::CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .try_complete(env::args_os(), env::current_dir().ok().as_deref())
        .map_err(|error| Failure::error(format!("cannot complete: {error}")))
}

/// Returns the completion script for a shell.
pub(super) fn script(name: &str) -> io::Result<Vec<u8>> {
    let mut script = Vec::new();
    if let Some(shell) = Shells::builtins().completer(name) {
        shell.write_registration(VARIABLE, "callscope", "callscope", &program(), &mut script)?;
    }
    Ok(script)
}

/// Returns the command that the script runs: this program's name if it was found by `PATH`, else its path.
fn program() -> String {
    let called = env::args_os().next().unwrap_or_else(|| "callscope".into());
    if Path::new(&called).components().count() > 1 {
        return env::current_exe().map_or_else(|_| "callscope".into(), |path| path.to_string_lossy().into_owned());
    }
    called.to_string_lossy().into_owned()
}

/// Completes call ids.
pub(crate) fn calls() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let page = ask(async |client| client.calls(&[("limit", MAX_OFFERED.to_string())]).await);
        let calls = page.map(Page::into_values).unwrap_or_default();
        fitting(current, calls.iter().flat_map(names))
    })
}

/// Returns candidates for the names of a call. Only the sid is main, so that a call is not offered several times
/// before anything was typed.
fn names(call: &CallView) -> impl Iterator<Item = Candidate> {
    let what = format!(
        "{}  {}  {}",
        format_utc(call.created_at),
        call.status,
        call.subject.as_deref().or(call.conversation_id.as_deref()).unwrap_or_default()
    );
    let others = call.identifiers.iter().filter(|name| **name != call.call_sid).cloned();
    let candidate = |is_main: bool| move |name: String| (name, is_main);
    std::iter::once(call.call_sid.clone())
        .map(candidate(true))
        .chain(others.chain([call.call_id.to_string()]).map(candidate(false)))
        .map(move |(value, is_main)| Candidate { value, is_main, what: what.clone() })
}

/// Completes connection ids.
pub(crate) fn connections() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let page = ask(async |client| client.connections().await);
        let what = |view: &ConnectionView| format!("{}  {}", view.username, view.remote_addr);
        let candidate = |view: &ConnectionView| Candidate::new(view.connection_id.to_string(), what(view));
        let views = page.map(Page::into_values).unwrap_or_default();
        fitting(current, views.iter().map(candidate))
    })
}

/// Completes names of contexts.
pub(crate) fn contexts() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let contexts = Config::load().map(|config| config.contexts).unwrap_or_default();
        fitting(
            current,
            contexts
                .into_iter()
                .map(|(name, context)| Candidate::new(name, without_logins(&context.server).into_owned())),
        )
    })
}

/// Completes names of samples.
pub(crate) fn samples() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        fitting(current, samples::all().into_iter().map(|sample| Candidate::new(sample.name.to_owned(), sample.title)))
    })
}

pub(super) struct Candidate {
    value: String,
    /// The description that is shown beside the value.
    what: String,
    /// Other candidates are offered only if no main one fits.
    is_main: bool,
}

impl Candidate {
    pub(super) fn new(value: String, what: String) -> Self {
        Self { value, what, is_main: true }
    }
}

/// Returns the candidates that begin with `current` and are safe on a command line.
pub(super) fn fitting(current: &OsStr, candidates: impl Iterator<Item = Candidate>) -> Vec<CompletionCandidate> {
    let Some(current) = current.to_str() else { return Vec::new() };
    let (mut main, mut others) = (Vec::new(), Vec::new());
    for Candidate { value, what, is_main } in candidates {
        if value.starts_with(current) && is_plain(&value) {
            let help = Some(text::one_line(what.trim()).into_owned().into()).filter(|_| !what.trim().is_empty());
            let list = if is_main { &mut main } else { &mut others };
            list.push(CompletionCandidate::new(value).help(help));
        }
    }
    if main.is_empty() { others } else { main }
}

/// Returns whether `text` needs no quotes in any shell and is not read as an option.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:@%+,/".contains(&byte);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(plain)
}

/// Sends a request to the server. Returns `None` after an error or [`SERVER_TIMEOUT`].
fn ask<T>(question: impl AsyncFnOnce(Client) -> Result<T>) -> Option<T> {
    console::mute();
    let settings = Settings::load(&global(&typed(env::args_os())), true).ok()?;
    let settings = Settings { console: Console::silent(), ..settings };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let request = async {
        let client = Client::new(&settings).ok()?;
        tokio::time::timeout(SERVER_TIMEOUT, question(client)).await.ok()?.ok()
    };
    let answer = runtime.block_on(request);
    // A DNS lookup that is still running must not delay the exit.
    runtime.shutdown_background();
    answer
}

/// Returns the command line that is being completed, which the script passes after `--` and the program name.
fn typed(args: impl Iterator<Item = OsString>) -> Vec<String> {
    args.skip_while(|arg| arg != "--").skip(2).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Reads the flags in `words` that choose the server and the token.
fn global(words: &[String]) -> Global {
    let value = |flag: &str| {
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if word == flag {
                return words.next().cloned();
            }
            if let Some(value) = word.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
                return Some(value.to_owned());
            }
        }
        None
    };
    Global {
        server: value("--server"),
        token_file: value("--token-file").map(Into::into),
        context: value("--context"),
        output: None,
        color: ColorChoice::Never,
        quiet: true,
        verbose: false,
        accessible: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_offered_that_a_shell_would_run_or_spread() {
        let candidates = ["EL_a_1", "EL_$(reboot)", "EL_`x`", "EL_*", "EL_a;b", "EL_a'b", "EL_a b", "-rf", "EL_a!1"];
        let offered = fitting(
            OsStr::new(""),
            candidates.iter().map(|value| Candidate::new((*value).to_owned(), "a\x1b[31mb".into())),
        );
        let values: Vec<_> = offered.iter().map(CompletionCandidate::get_value).collect();
        assert_eq!(values, ["EL_a_1"]);
        assert_eq!(offered[0].get_help().map(ToString::to_string).as_deref(), Some("a\u{fffd}b"));
    }

    #[test]
    fn other_names_are_offered_once_they_were_begun() {
        let names = || {
            [("EL_a_1", true), ("conv_1", false)]
                .into_iter()
                .map(|(value, is_main)| Candidate { is_main, ..Candidate::new(value.to_owned(), String::new()) })
        };
        let values = |typed: &str| -> Vec<OsString> {
            fitting(OsStr::new(typed), names()).iter().map(|candidate| candidate.get_value().to_owned()).collect()
        };
        assert_eq!(values(""), ["EL_a_1"]);
        assert_eq!(values("conv"), ["conv_1"]);
        assert!(values("x").is_empty());
    }

    #[test]
    fn the_server_that_was_typed_is_asked() {
        let words = ["callscope", "--", "callscope", "tail", "--server=http://a", "--context", "b", ""];
        let global = global(&typed(words.into_iter().map(OsString::from)));
        assert_eq!((global.server.as_deref(), global.context.as_deref()), (Some("http://a"), Some("b")));
    }
}
