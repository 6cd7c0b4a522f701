//! Parses the command line. The flags of a subcommand are in its own file.

use std::borrow::Cow;
use std::io::{self, Write as _};

use clap::Parser;

use super::Command;
use crate::exit::{Exit, Failure};
use crate::settings::{Global, without_logins};

/// Follow voice calls in the terminal while they are being spoken.
#[derive(Debug, Parser)]
#[command(name = "callscope", version, arg_required_else_help = true, max_term_width = 100)]
#[command(
    disable_help_subcommand = true,
    after_help = "More: callscope help exit-codes | environment | output | keys, or callscope help COMMAND."
)]
pub(crate) struct Args {
    /// Flags of every subcommand.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Parses the command line, and prints help and errors. The error is the exit code after either.
pub(crate) fn parse() -> std::result::Result<Args, Exit> {
    Args::try_parse().map_err(|message| {
        let exit = if message.use_stderr() { Exit::Usage } else { Exit::Ok };
        // clap quotes the wrong argument, which may be a URL with a password.
        let words = message.to_string();
        if let (Exit::Usage, Cow::Owned(masked)) = (exit, without_logins(&words)) {
            let _ = write!(io::stderr(), "{}", callscope_common::text::lines(&masked));
            return exit;
        }
        match message.print() {
            Ok(()) => exit,
            Err(error) if exit == Exit::Ok => Failure::output(&error).report(),
            Err(_) => exit,
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use clap::{CommandFactory as _, Parser as _};

    use super::Args;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    /// The commands that a text tells to type: in lines of code and between backticks.
    fn commands(text: &str) -> Vec<Vec<String>> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("    ").or_else(|| line.strip_prefix("$ ")));
        let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
        let is_call = |words: &&[&str]| {
            words.first().is_some_and(|program| *program == "callscope" || program.ends_with("/callscope"))
        };
        let mut commands = Vec::new();
        for code in lines.chain(spans) {
            // As far as a shell would read one command.
            let words = words(code);
            let words: Vec<&str> = words
                .iter()
                .map(String::as_str)
                .take_while(|word| !word.starts_with(['#', '|', '<', '>', '&']))
                .collect();
            let ends = words.iter().position(|word| word.ends_with(';')).map_or(words.len(), |place| place + 1);
            if let Some(words) = Some(&words[..ends]).filter(is_call) {
                let word = |word: &&str| word.trim_end_matches([';', ')']).replace(['\'', '"', '…'], "");
                commands.push(words.iter().map(word).filter(|word| !word.is_empty()).collect());
            }
        }
        commands
    }

    /// Words as a shell takes them: those between quotes are one.
    fn words(code: &str) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for part in code.split_whitespace() {
            match words.last_mut().filter(|word| word.matches(['\'', '"']).count() % 2 == 1) {
                Some(open) => *open += &format!(" {part}"),
                None => words.push(part.to_owned()),
            }
        }
        words
    }

    #[test]
    fn what_the_documentation_tells_to_type_is_a_command() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let docs = std::fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
        let mut found = 0;
        for path in docs.filter(|path| path.extension().is_some_and(|ext| ext == "md")).chain([root.join("README.md")])
        {
            for words in commands(&std::fs::read_to_string(&path).unwrap()) {
                found += 1;
                // A command that is only named, or called with less than it takes, is no lie about what there is.
                let wrong = |kind| {
                    use clap::error::ErrorKind::{InvalidSubcommand, InvalidValue, UnknownArgument, ValueValidation};
                    matches!(kind, InvalidSubcommand | InvalidValue | UnknownArgument | ValueValidation)
                };
                if let Err(error) = Args::try_parse_from(&words)
                    && wrong(error.kind())
                {
                    panic!("{}: {}\n{error}", path.display(), words.join(" "));
                }
            }
        }
        assert!(found > 40, "{found}");
    }
}
