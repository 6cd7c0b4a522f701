//! The servers that are compared, each as a process of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use callscope_tests::process::{free_port, program};
use callscope_tests::server::admin_token;
use callscope_tests::server::{JWT_SECRET, SECRET};
use clap::ValueEnum;
use tempfile::TempDir;

use crate::usage;

/// Time for a server to listen.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Peer {
    /// Callscope on SQLite
    Callscope,
    /// Callscope on PostgreSQL
    CallscopePostgres,
    /// Another build of Callscope on SQLite: the server that `CALLSCOPE_LOAD_BEFORE` names. If its messages lack
    /// `CALLSCOPE_LOAD_BEFORE_LACKS` bytes that ours have, the texts of its turns are longer by these
    Before,
    /// TCP writes of the same bytes, joined
    BareBatched,
    /// TCP writes of the same bytes, one by one
    BareSingle,
    /// uWebSockets under Node
    Uws,
    /// Node's ws
    Ws,
    /// nats-server, over its WebSocket
    Nats,
    /// nginx with nchan
    Nchan,
    /// FastAPI under uvicorn, a dict of sets and send_json
    Fanout,
    /// A Rocket route that does only HMAC and JSON
    Route,
    /// FastAPI and SQLAlchemy on SQLite
    FastapiSqlite,
    /// FastAPI and SQLAlchemy on PostgreSQL
    FastapiPostgres,
}

impl Peer {
    /// Returns the name in the tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Callscope => "**Callscope**",
            Self::CallscopePostgres => "**Callscope**, PostgreSQL",
            Self::Before => "Callscope before",
            Self::BareBatched => "bare writes, batched",
            Self::BareSingle => "bare writes, one by one",
            Self::Uws => "uWebSockets",
            Self::Ws => "Node ws",
            Self::Nats => "nats-server",
            Self::Nchan => "nginx + nchan",
            Self::Fanout => "FastAPI, send_json",
            Self::Route => "Rocket, HMAC and JSON only",
            Self::FastapiSqlite => "FastAPI, SQLAlchemy, SQLite",
            Self::FastapiPostgres => "FastAPI, SQLAlchemy, PostgreSQL",
        }
    }

    /// Returns whether it is a build of Callscope.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(self, Self::Callscope | Self::CallscopePostgres | Self::Before)
    }

    /// Returns how many bytes its messages lack to be as long as ours.
    #[must_use]
    pub fn lacks(self) -> usize {
        static LACKS: LazyLock<usize> = LazyLock::new(|| {
            let given = std::env::var("CALLSCOPE_LOAD_BEFORE_LACKS").ok();
            given.map_or(0, |given| given.parse().expect("the variable holds a number of bytes"))
        });
        if self == Self::Before { *LACKS } else { 0 }
    }

    /// Returns whether it takes Callscope's signed webhooks.
    #[must_use]
    pub fn takes_webhooks(self) -> bool {
        self.is_ours() || matches!(self, Self::Route | Self::FastapiSqlite | Self::FastapiPostgres)
    }
}

/// A running server, which ends when it is dropped.
#[derive(Debug)]
pub struct Running {
    pub peer: Peer,
    pub subscribe: SocketAddr,
    pub publish: SocketAddr,
    pub token: String,
    child: Child,
    /// The server's folder, which is deleted with this handle.
    pub dir: TempDir,
}

impl Running {
    /// Starts a server on loopback. `database` is the URL for servers on PostgreSQL.
    ///
    /// # Panics
    ///
    /// Panics if the server does not come up.
    #[must_use]
    pub fn start(peer: Peer, database: Option<&str>) -> Self {
        Self::with(peer, database, &[])
    }

    /// Starts a server with further environment.
    ///
    /// # Panics
    ///
    /// Panics if the server does not come up.
    #[must_use]
    pub fn with(peer: Peer, database: Option<&str>, environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("the folder can be created");
        let (port, other) = (free_port(), free_port());
        let mut command = command(peer, dir.path(), (port, other), database);
        let log = File::create(dir.path().join("log")).expect("the log can be opened");
        let child = command
            .envs(environment.iter().copied())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log can be opened"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let subscribe = address(if peer == Peer::Nats { other } else { port });
        let running = Self { peer, subscribe, publish: address(port), token: admin_token("measure"), child, dir };
        running.comes_up();
        running
    }

    fn comes_up(&self) {
        let began = Instant::now();
        for address in [self.publish, self.subscribe] {
            while TcpStream::connect(address).is_err() {
                let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                assert!(began.elapsed() < PATIENCE, "{:?} does not listen: {}", self.peer, log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Returns its processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        usage::family(self.child.id())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A worker outlives a master that is killed, so the family is listed first.
        for pid in self.pids().into_iter().rev().filter_map(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("load/peers")
}

/// Returns a program of the virtual environment that `tests/load/run` made.
fn python() -> PathBuf {
    std::env::var_os("CALLSCOPE_LOAD_VENV").map(PathBuf::from).expect("CALLSCOPE_LOAD_VENV names a virtual environment")
}

fn command(peer: Peer, dir: &Path, (port, other): (u16, u16), database: Option<&str>) -> Command {
    let script = |program: &Path, script: &str| {
        let mut command = Command::new(program);
        command.arg(peers().join(script)).arg(port.to_string());
        command
    };
    let filled = |template: &str| {
        let text = std::fs::read_to_string(peers().join(template)).expect("the template can be read");
        let text = text
            .replace("@PORT@", &port.to_string())
            .replace("@WS_PORT@", &other.to_string())
            .replace("@WORKERS@", "1")
            .replace("@DIR@", &dir.display().to_string());
        let path = dir.join(template);
        std::fs::write(&path, text).expect("the configuration can be written");
        path
    };
    let own = |arguments: &[&str]| {
        let mut command = Command::new(std::env::current_exe().expect("the program's path is known"));
        command.arg("serve").arg("--port").arg(port.to_string()).args(arguments);
        command
    };
    match peer {
        Peer::Callscope | Peer::CallscopePostgres | Peer::Before => {
            let before = || std::env::var_os("CALLSCOPE_LOAD_BEFORE").expect("CALLSCOPE_LOAD_BEFORE names a server");
            let mut command = match peer {
                Peer::Before => Command::new(before()),
                _ => Command::new(program("callscope-server")),
            };
            let file = format!("sqlite://{}/callscope.db", dir.display());
            command.env_clear().envs([
                ("CALLSCOPE_DATABASE_URL", database.unwrap_or(&file)),
                ("CALLSCOPE_PORT", &port.to_string()),
                ("CALLSCOPE_WEBHOOK_SECRETS", SECRET),
                ("CALLSCOPE_JWT_SECRET", JWT_SECRET),
                ("CALLSCOPE_MAX_CONNECTIONS_PER_TOKEN", "1000000"),
                ("CALLSCOPE_MAX_CONNECTIONS_PER_ADDRESS", "1000000"),
            ]);
            command
        }
        Peer::BareBatched => own(&["bare-batched"]),
        Peer::BareSingle => own(&["bare-single"]),
        Peer::Route => own(&["route"]),
        Peer::Uws => script(Path::new("node"), "uws.mjs"),
        Peer::Ws => script(Path::new("node"), "ws.mjs"),
        Peer::Fanout => script(&python().join("bin/python"), "fanout.py"),
        Peer::FastapiSqlite | Peer::FastapiPostgres => {
            let mut command = script(&python().join("bin/python"), "ingest.py");
            let file = format!("sqlite+aiosqlite:///{}/ingest.db", dir.display());
            let url = database.map(|url| url.replace("postgres://", "postgresql+asyncpg://"));
            command.arg(url.unwrap_or(file)).env("WEBHOOK_SECRET", SECRET);
            command
        }
        Peer::Nats => {
            let mut command = Command::new(python().join("bin/nats-server"));
            command.arg("-c").arg(filled("nats.conf"));
            command
        }
        Peer::Nchan => {
            let mut command = Command::new("nginx");
            command.arg("-c").arg(filled("nchan.conf"));
            command
        }
    }
}
