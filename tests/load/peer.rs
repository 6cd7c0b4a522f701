//! The servers that are compared, each as a process of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use callscope_tests::process::{free_port, program};
use callscope_tests::server::{SECRET, admin_token, environment};
use callscope_tests::usage::process_tree;
use clap::ValueEnum;
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Peer {
    /// Callscope on SQLite
    Callscope,
    /// Callscope on PostgreSQL
    CallscopePostgres,
    /// The build of Callscope that `CALLSCOPE_LOAD_BEFORE` names, on SQLite. If its messages lack fields of
    /// the current build, its turns are padded by `CALLSCOPE_LOAD_BEFORE_LACKS` bytes, so that all messages are
    /// equally long
    Before,
    /// TCP writes of the same bytes, joined into large writes
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

    /// Returns whether the server is a build of Callscope.
    #[must_use]
    pub fn is_callscope(self) -> bool {
        matches!(self, Self::Callscope | Self::CallscopePostgres | Self::Before)
    }

    /// Returns the number of bytes by which its messages are shorter than those of the current build.
    #[must_use]
    pub fn missing_bytes(self) -> usize {
        static MISSING_BYTES: LazyLock<usize> = LazyLock::new(|| {
            let value = std::env::var("CALLSCOPE_LOAD_BEFORE_LACKS").ok();
            value.map_or(0, |value| value.parse().expect("the variable holds a number of bytes"))
        });
        if self == Self::Before { *MISSING_BYTES } else { 0 }
    }

    /// Returns whether the server accepts Callscope's signed webhooks.
    #[must_use]
    pub fn accepts_webhooks(self) -> bool {
        self.is_callscope() || matches!(self, Self::Route | Self::FastapiSqlite | Self::FastapiPostgres)
    }
}

/// A running server. Dropping the handle kills its processes.
#[derive(Debug)]
pub struct PeerServer {
    pub peer: Peer,
    pub subscribe_address: SocketAddr,
    pub publish_address: SocketAddr,
    /// A token for subscribers of Callscope.
    pub token: String,
    child: Child,
    /// The server's working directory, which is deleted with this handle.
    pub dir: TempDir,
}

impl PeerServer {
    /// Starts a server on loopback. `database` is the URL for servers on PostgreSQL.
    ///
    /// # Panics
    ///
    /// Panics if the server does not listen in time.
    #[must_use]
    pub fn start(peer: Peer, database: Option<&str>) -> Self {
        Self::with(peer, database, &[])
    }

    /// Starts a server with additional environment variables.
    ///
    /// # Panics
    ///
    /// Panics if the server does not listen in time.
    #[must_use]
    pub fn with(peer: Peer, database: Option<&str>, environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("the folder can be created");
        let (port, ws_port) = (free_port(), free_port());
        let mut command = command(peer, dir.path(), (port, ws_port), database);
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
        let subscribe_address = address(if peer == Peer::Nats { ws_port } else { port });
        let publish_address = address(port);
        let server = Self { peer, subscribe_address, publish_address, token: admin_token("measure"), child, dir };
        server.wait_until_listening();
        server
    }

    fn wait_until_listening(&self) {
        let began = Instant::now();
        for address in [self.publish_address, self.subscribe_address] {
            while TcpStream::connect(address).is_err() {
                let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                assert!(began.elapsed() < START_TIMEOUT, "{:?} does not listen: {}", self.peer, log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Returns the ids of the server's processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        process_tree(self.child.id())
    }
}

impl Drop for PeerServer {
    fn drop(&mut self) {
        // Workers survive when their parent is killed, so all processes are listed before the first kill.
        for pid in self.pids().into_iter().rev().filter_map(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn peers_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("load/peers")
}

/// Returns the virtual environment that `tests/load/run` made.
fn virtual_env() -> PathBuf {
    std::env::var_os("CALLSCOPE_LOAD_VENV").map(PathBuf::from).expect("CALLSCOPE_LOAD_VENV names a virtual environment")
}

/// Returns the command that starts a server. `ws_port` is the second port of nats-server.
fn command(peer: Peer, dir: &Path, (port, ws_port): (u16, u16), database: Option<&str>) -> Command {
    let script = |program: &Path, script: &str| {
        let mut command = Command::new(program);
        command.arg(peers_dir().join(script)).arg(port.to_string());
        command
    };
    let fill_template = |template: &str| {
        let text = std::fs::read_to_string(peers_dir().join(template)).expect("the template can be read");
        let text = text
            .replace("@PORT@", &port.to_string())
            .replace("@WS_PORT@", &ws_port.to_string())
            .replace("@WORKERS@", "1")
            .replace("@DIR@", &dir.display().to_string());
        let path = dir.join(template);
        std::fs::write(&path, text).expect("the configuration can be written");
        path
    };
    let serve = |arguments: &[&str]| {
        let mut command = Command::new(std::env::current_exe().expect("the program's path is known"));
        command.arg("serve").arg("--port").arg(port.to_string()).args(arguments);
        command
    };
    match peer {
        Peer::Callscope | Peer::CallscopePostgres | Peer::Before => {
            let earlier_build =
                || std::env::var_os("CALLSCOPE_LOAD_BEFORE").expect("CALLSCOPE_LOAD_BEFORE names a server");
            let mut command = match peer {
                Peer::Before => Command::new(earlier_build()),
                _ => Command::new(program("callscope-server")),
            };
            let file = format!("sqlite://{}/callscope.db", dir.display());
            let given = [("CALLSCOPE_PORT", &*port.to_string())];
            command.env_clear().envs(environment(database.unwrap_or(&file), &given));
            command
        }
        Peer::BareBatched => serve(&["bare-batched"]),
        Peer::BareSingle => serve(&["bare-single"]),
        Peer::Route => serve(&["route"]),
        Peer::Uws => script(Path::new("node"), "uws.mjs"),
        Peer::Ws => script(Path::new("node"), "ws.mjs"),
        Peer::Fanout => script(&virtual_env().join("bin/python"), "fanout.py"),
        Peer::FastapiSqlite | Peer::FastapiPostgres => {
            let mut command = script(&virtual_env().join("bin/python"), "ingest.py");
            let file = format!("sqlite+aiosqlite:///{}/ingest.db", dir.display());
            let url = database.map(|url| url.replace("postgres://", "postgresql+asyncpg://"));
            command.arg(url.unwrap_or(file)).env("WEBHOOK_SECRET", SECRET);
            command
        }
        Peer::Nats => {
            let mut command = Command::new(virtual_env().join("bin/nats-server"));
            command.arg("-c").arg(fill_template("nats.conf"));
            command
        }
        Peer::Nchan => {
            let mut command = Command::new("nginx");
            command.arg("-c").arg(fill_template("nchan.conf"));
            command
        }
    }
}
