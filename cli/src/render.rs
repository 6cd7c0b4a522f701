//! What a person or another program reads: data on stdout as [`Output`] writes it, messages on stderr through
//! [`Console`], and text as [`Safe`], which no terminal acts on.

pub mod console;
mod format;
mod outcome;
mod output;
mod reader;
mod safe;

pub use console::Console;
pub use format::{ColorChoice, Format};
pub use outcome::{Part, outcome, parts};
pub use output::{Output, behind, moment, shell_word, wants_color};
pub use reader::Reader;
pub use safe::{Safe, Tint, cut, escaped as json_for_terminal};
