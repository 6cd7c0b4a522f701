//! What is around the program: its settings and its terminal.

use std::env;
use std::io::{self, IsTerminal as _};

use super::Check;
use crate::config;
use crate::net::shown;
use crate::settings::Settings;

/// Which server is meant, and whether others may read the file of contexts.
pub(crate) fn context(settings: &Settings) -> Check {
    let detail = format!("{} from {}", shown(&settings.server), settings.origin.server);
    match config::path_if_open_to_others() {
        Some(path) => Check::warning(
            "settings",
            format!("{detail}; others may read {}", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        None => Check::ok("settings", detail),
    }
}

/// Whether the full-screen views have what they need.
pub(crate) fn terminal(settings: &Settings) -> Check {
    let variable = |name| env::var(name).unwrap_or_default();
    if !io::stdout().is_terminal() && !io::stderr().is_terminal() {
        return Check::skipped("terminal", "this is none");
    }
    let term = variable("TERM");
    let (width, height) = crossterm::terminal::size().unwrap_or((0, 0));
    // The first of these that is set decides, as in the C library.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable).into_iter().find(|value| !value.is_empty());
    let locale = locale.unwrap_or_default();
    let colors = if settings.color { "colours" } else { "no colours" };
    let detail =
        format!("{term}, {width}x{height}, {colors}, locale {}", if locale.is_empty() { "not set" } else { &locale });
    if term.is_empty() || term == "dumb" {
        return Check::warning(
            "terminal",
            detail,
            "set TERM to what your terminal is, such as xterm-256color; until then: plain lines",
        );
    }
    if (width, height) != (0, 0) && (width < 40 || height < 12) {
        return Check::warning("terminal", detail, "make it 40x12 or larger; until then: callscope tail --plain");
    }
    let is_utf8 = locale.to_ascii_lowercase().replace('-', "").contains("utf8");
    if !is_utf8 {
        let remedy = "set LANG to a UTF-8 locale, such as C.UTF-8, if letters look wrong";
        return Check::warning("terminal", detail, remedy);
    }
    Check::ok("terminal", detail)
}
