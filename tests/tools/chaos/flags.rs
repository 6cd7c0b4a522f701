//! The command line of `tests/chaos`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

const DEFAULT_CALLS: usize = 16;
const DEFAULT_FOLLOWERS: usize = 40;

/// Breaks running Callscope servers on purpose and checks that no event is lost, duplicated or reordered.
///
/// Exits with 0 if the promise held, with 1 and the first violations of each kind if it did not, and with 2 on wrong
/// flags.
#[derive(Debug, Clone, Parser)]
#[command(name = "tests/chaos")]
pub struct Flags {
    /// Number of SIGKILLs to servers after which the faults end [default: 100, unless --seconds is given].
    #[arg(long)]
    pub kills: Option<u64>,
    /// Seconds after which the faults end.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Number of server processes; several of them share a PostgreSQL and a Redis.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// Database engine [default: sqlite for one node].
    #[arg(long)]
    pub database: Option<Database>,
    /// Seed of all decisions: the faults, their times, and the calls [default: random, and printed].
    #[arg(long)]
    pub seed: Option<u64>,
    /// Number of calls at the same time.
    #[arg(long, default_value_t = DEFAULT_CALLS)]
    pub calls: usize,
    /// Number of connections that follow calls.
    #[arg(long, default_value_t = DEFAULT_FOLLOWERS)]
    pub followers: usize,
    /// What to break: a comma-separated list of the names in the table, or `all`.
    #[arg(long, default_value = "all", value_delimiter = ',')]
    pub faults: Vec<String>,
    /// The server to break [default: the one built beside this program].
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// Suppress the progress on stderr.
    #[arg(long)]
    pub quiet: bool,
    /// Keep the scratch folder with the servers' logs and the database, and print its path.
    #[arg(long)]
    pub keep: bool,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Database {
    Sqlite,
    /// A PostgreSQL that the run starts for itself.
    Postgres,
}

impl Database {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

impl Flags {
    /// Returns the chosen engine, or the one that fits the number of nodes.
    ///
    /// # Errors
    ///
    /// Returns an error if several servers were told to share an SQLite file.
    pub fn engine(&self) -> Result<Database, String> {
        match (self.database, self.nodes) {
            (Some(Database::Sqlite), 2..) => Err("several servers need --database postgres".into()),
            (Some(engine), _) => Ok(engine),
            (None, 1) => Ok(Database::Sqlite),
            (None, _) => Ok(Database::Postgres),
        }
    }

    /// Returns the number of kills after which the faults end; `None` if only `--seconds` ends them.
    #[must_use]
    pub fn kills(&self) -> Option<u64> {
        self.kills.or(if self.seconds.is_some() { None } else { Some(100) })
    }

    /// Returns the command that repeats the run.
    #[must_use]
    pub fn repeat_command(&self, seed: u64) -> String {
        let mut command = "tests/chaos".to_owned();
        let mut add = |flag: &str, value: String| command.push_str(&format!(" --{flag} {value}"));
        if self.nodes > 1 {
            add("nodes", self.nodes.to_string());
        }
        if let Some(engine) = self.database {
            add("database", engine.as_str().to_owned());
        }
        if let Some(kills) = self.kills() {
            add("kills", kills.to_string());
        }
        if let Some(seconds) = self.seconds {
            add("seconds", seconds.to_string());
        }
        if self.calls != DEFAULT_CALLS {
            add("calls", self.calls.to_string());
        }
        if self.followers != DEFAULT_FOLLOWERS {
            add("followers", self.followers.to_string());
        }
        if self.faults != ["all"] {
            add("faults", self.faults.join(","));
        }
        add("seed", seed.to_string());
        command
    }
}
