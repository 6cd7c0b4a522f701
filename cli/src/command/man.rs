//! `man`, `help` and `completions`: manual pages, help pages and completion scripts.

mod topic;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Command, CommandFactory as _, ValueEnum};
use clap_complete::engine::ArgValueCompleter;

use super::Args;
use super::complete::{self, Candidate};
use crate::exit::{Exit, Failure, Result};
use crate::render::{Format, Safe};
use crate::settings::Settings;

/// `man`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "To read one: callscope man calls export | man -l -")]
pub(crate) struct Man {
    /// The command to print the page of [default: callscope itself]
    #[arg(value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub(crate) dir: Option<PathBuf>,
}

/// `help`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Topics: exit-codes, environment, output, keys.")]
pub(crate) struct Help {
    /// A topic, or a command
    #[arg(value_name = "TOPIC|COMMAND", add = topics_and_commands())]
    pub(crate) words: Vec<String>,
}

/// Completes the first argument of `help`.
fn topics_and_commands() -> ArgValueCompleter {
    ArgValueCompleter::new(|current: &OsStr| {
        let topics = Topic::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        let topics = topics.map(|topic| {
            let what = topic.get_help().map(ToString::to_string).unwrap_or_default();
            Candidate::new(topic.get_name().to_owned(), what)
        });
        let command = Args::command();
        let commands = command.get_subcommands().map(|command| {
            let what = command.get_about().map(ToString::to_string).unwrap_or_default();
            Candidate::new(command.get_name().to_owned(), what)
        });
        complete::fitting(current, topics.chain(commands))
    })
}

/// A topic of `help` that is not a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Topic {
    /// What the exit codes mean
    ExitCodes,
    /// Which variables and files are read
    Environment,
    /// How data is written, and where
    Output,
    /// The keys of the full-screen views
    Keys,
}

/// `completions`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "bash:  echo 'source <(callscope completions bash)' >> ~/.bashrc\n\
    zsh:   echo 'source <(callscope completions zsh)' >> ~/.zshrc\n\
    fish:  echo 'callscope completions fish | source' >> ~/.config/fish/config.fish\n\
    The script asks this program at every Tab, so it also completes the ids of the server's calls.")]
pub(crate) struct Completions {
    /// Name of the shell
    pub(crate) shell: Shell,
}

/// A shell that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// GNU bash
    Bash,
    /// Elvish
    Elvish,
    /// fish
    Fish,
    /// PowerShell
    Powershell,
    /// Z shell
    Zsh,
}

/// Runs `man`.
pub(crate) fn man(settings: &Settings, args: &Man) -> Result {
    if let Some(dir) = &args.dir {
        let pages = write_all(dir).map_err(|error| Failure::file("write to", dir, &error))?;
        settings.console.say(format!("{pages} pages in {}", dir.display()));
        return Ok(Exit::Ok);
    }
    let command = find(&args.command)?;
    settings.output(Format::Text).write(&Safe::page(&page(command)?))?;
    Ok(Exit::Ok)
}

/// Runs `help`.
pub(crate) fn help(settings: &Settings, args: &Help) -> Result {
    let text = match args.words.as_slice() {
        [word] if let Ok(topic) = Topic::from_str(word, false) => Safe::lines(&topic::text(topic)),
        words => {
            let mut command = find(words)?;
            Safe::help(&command.render_long_help(), settings.color)
        }
    };
    settings.output(Format::Text).write(&text)?;
    Ok(Exit::Ok)
}

/// Runs `completions`.
pub(crate) fn completions(settings: &Settings, args: &Completions) -> Result {
    let name = args.shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let script = complete::script(&name).map_err(|error| Failure::error(format!("cannot make the script: {error}")))?;
    settings.output(Format::Text).write(&Safe::page(&String::from_utf8_lossy(&script)))?;
    Ok(Exit::Ok)
}

/// Returns the command or subcommand that `words` name.
fn find(words: &[String]) -> Result<Command> {
    let mut root = Args::command();
    root.build();
    let mut command = &root;
    for word in words {
        command = command.find_subcommand(word).ok_or_else(|| {
            Failure::usage(format!("there is no command or topic {:?}", words.join(" ")))
                .hint("see which there are: callscope --help; topics: exit-codes, environment, output, keys")
        })?;
    }
    Ok(command.clone())
}

fn page(command: Command) -> Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .manual("Callscope")
        .render(&mut page)
        .map_err(|error| Failure::error(format!("cannot make the page: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Writes the pages of all commands, and returns how many pages the folder holds.
fn write_all(dir: &Path) -> std::io::Result<usize> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Args::command(), dir)?;
    Ok(fs::read_dir(dir)?
        .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().extension().is_some_and(|ext| ext == "1")))
        .count())
}
