//! Everything that the program prints: [`Output`] writes data to stdout and [`Console`] writes messages to stderr.
//! [`Safe`] is text that cannot control a terminal.

pub(crate) mod console;
mod format;
mod outcome;
mod output;
mod reader;
mod safe;

pub(crate) use console::Console;
pub(crate) use format::{ColorChoice, Format};
pub(crate) use outcome::{Part, outcome, parts};
pub(crate) use output::{Output, format_utc, last_argument, shell_word, wants_color};
pub(crate) use reader::StdoutReader;
pub(crate) use safe::{Safe, Tint, cut, escaped as json_for_terminal};
