//! What a person or another program reads: data on stdout as [`Output`] writes it, messages on stderr through
//! [`Console`], and text as [`Safe`], which no terminal acts on.

pub(crate) mod console;
mod format;
mod outcome;
mod output;
mod reader;
mod safe;

pub(crate) use console::Console;
pub(crate) use format::{ColorChoice, Format};
pub(crate) use outcome::{Part, outcome, parts};
pub(crate) use output::{Output, behind, moment, shell_word, wants_color};
pub(crate) use reader::Reader;
pub(crate) use safe::{Safe, Tint, cut, escaped as json_for_terminal};
