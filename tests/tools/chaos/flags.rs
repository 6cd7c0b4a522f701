//! What the breaking machine is asked to do.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Breaks running Callscope servers on purpose and checks that no event is lost, doubled or reordered.
///
/// Ends with 0 if the promise held, with 1 and the first violations of each kind if not, with 2 on wrong flags.
#[derive(Debug, Clone, Parser)]
#[command(name = "tests/chaos")]
pub struct Flags {
    /// SIGKILLs of servers before it ends [default: 100, unless --seconds is given].
    #[arg(long)]
    pub kills: Option<u64>,
    /// Ends the breaking after so many seconds.
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Server processes; more than one share a PostgreSQL and a Redis.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    pub nodes: u16,
    /// The database [default: sqlite for one node].
    #[arg(long)]
    pub database: Option<Database>,
    /// Decides what is broken, when, and what is said; made up and printed where it is not given.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Calls going on at one time.
    #[arg(long, default_value_t = 16)]
    pub calls: usize,
    /// Connections that follow calls.
    #[arg(long, default_value_t = 40)]
    pub followers: usize,
    /// What to break: a comma-separated list of the names in the table, or `all`.
    #[arg(long, default_value = "all", value_delimiter = ',')]
    pub faults: Vec<String>,
    /// The server to break [default: the one built beside this program].
    #[arg(long)]
    pub server: Option<PathBuf>,
    /// No progress on stderr.
    #[arg(long)]
    pub quiet: bool,
    /// Keeps the scratch folder with the servers' logs and the database, and says where it is.
    #[arg(long)]
    pub keep: bool,
    /// Prints the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A database engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Database {
    /// A file.
    Sqlite,
    /// A PostgreSQL of the machine's own.
    Postgres,
}

impl Database {
    /// As the flag periods it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }
}

impl Flags {
    /// The engine, chosen or by the number of nodes.
    ///
    /// # Errors
    /// Several servers cannot share an SQLite file.
    pub fn engine(&self) -> Result<Database, String> {
        match (self.database, self.nodes) {
            (Some(Database::Sqlite), 2..) => Err("several servers need --database postgres".into()),
            (Some(engine), _) => Ok(engine),
            (None, 1) => Ok(Database::Sqlite),
            (None, _) => Ok(Database::Postgres),
        }
    }

    /// The kills it ends after; `None`: only time ends it.
    #[must_use]
    pub fn kills(&self) -> Option<u64> {
        self.kills.or(if self.seconds.is_some() { None } else { Some(100) })
    }

    /// The command that repeats the run.
    #[must_use]
    pub fn repeat(&self, seed: u64) -> String {
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
        if self.calls != 16 {
            add("calls", self.calls.to_string());
        }
        if self.followers != 40 {
            add("followers", self.followers.to_string());
        }
        if self.faults != ["all"] {
            add("faults", self.faults.join(","));
        }
        add("seed", seed.to_string());
        command
    }
}
