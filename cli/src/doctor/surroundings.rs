//! Checks the settings and the terminal.

use std::env;
use std::io::{self, IsTerminal as _};

use super::Check;
use crate::config;
use crate::net::display_url;
use crate::settings::Settings;

/// Names the server, and warns if other users can read the file of contexts.
pub(crate) fn check_settings(settings: &Settings) -> Check {
    let detail = format!("{} from {}", display_url(&settings.server), settings.origin.server);
    match config::path_if_open_to_others() {
        Some(path) => Check::warning(
            "settings",
            format!("{detail}; others may read {}", path.display()),
            format!("chmod 600 {}", path.display()),
        ),
        None => Check::ok("settings", detail),
    }
}

/// Checks what the full-screen views need: a terminal type, a size and UTF-8.
pub(crate) fn check_terminal(settings: &Settings) -> Check {
    let variable = |name| env::var(name).unwrap_or_default();
    if !io::stdout().is_terminal() && !io::stderr().is_terminal() {
        return Check::skipped("terminal", "stdout and stderr are not terminals");
    }
    let term = variable("TERM");
    // A terminal on a serial line does not know its size, which is then 0x0.
    let (width, height) = crossterm::terminal::size().unwrap_or((0, 0));
    // The first variable that is set decides, as in the C library.
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].map(variable).into_iter().find(|value| !value.is_empty());
    let locale = locale.unwrap_or_default();
    let colors = if settings.color { "colours" } else { "no colours" };
    let detail =
        format!("{term}, {width}x{height}, {colors}, locale {}", if locale.is_empty() { "not set" } else { &locale });
    if term.is_empty() || term == "dumb" {
        return Check::warning(
            "terminal",
            detail,
            "set TERM to the type of your terminal, such as xterm-256color; until then callscope prints plain lines",
        );
    }
    if (width, height) != (0, 0) && (width < 40 || height < 12) {
        return Check::warning("terminal", detail, "make it 40x12 or larger; until then use callscope tail --plain");
    }
    let is_utf8 = locale.to_ascii_lowercase().replace('-', "").contains("utf8");
    if !is_utf8 {
        let remedy = "set LANG to a UTF-8 locale, such as C.UTF-8, if letters look wrong";
        return Check::warning("terminal", detail, remedy);
    }
    Check::ok("terminal", detail)
}
