//! The command lines of `man`, `help` and `completions`.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueEnum};

/// `man`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "To read one: callscope man calls export | man -l -")]
pub struct Man {
    /// The command to print the page of [default: callscope itself]
    #[arg(value_name = "COMMAND")]
    pub command: Vec<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    pub dir: Option<PathBuf>,
}

/// `help`.
#[derive(Debug, ClapArgs)]
#[command(after_help = "Topics: exit-codes, environment, output, keys.")]
pub struct Help {
    /// A topic, or a command
    #[arg(value_name = "TOPIC|COMMAND", add = crate::complete::help())]
    pub words: Vec<String>,
}

/// What `help` explains beside the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Topic {
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
pub struct Completions {
    /// Which shell
    pub shell: Shell,
}

/// A shell that completions are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
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
