//! A PostgreSQL for tests that break it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use sqlx::{Connection, Executor, PgConnection};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::process::{free_port, signal};
use crate::usage::process_tree;

/// Limit of a start and of a stop. It is long, because machines are slow and shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// A PostgreSQL whose settings make an acknowledged commit durable.
#[derive(Debug)]
pub struct Postgres {
    pub address: SocketAddr,
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    /// The user and group of its processes, since PostgreSQL refuses to run as root.
    user: Option<(u32, u32)>,
    environment: Vec<(String, String)>,
    child: Mutex<Option<Child>>,
}

impl Postgres {
    /// Creates a cluster in `data`, whose log is `log`, and starts it with `environment`.
    pub async fn start(data: PathBuf, log: PathBuf, environment: Vec<(String, String)>) -> Self {
        let bin = programs().await;
        std::fs::create_dir_all(&data).unwrap();
        let user = if rustix::process::geteuid().is_root() { Some(ids("postgres").await) } else { None };
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&data, Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"]);
        let made = as_user(initdb.arg(&data), user).current_dir(&data).output().await.unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let program = bin.join("postgres");
        let postgres = Self { address, program, data, log, user, environment, child: Mutex::default() };
        postgres.launch().await;
        assert!(postgres.wait_until_up().await, "PostgreSQL comes up");
        postgres
    }

    /// Returns its URL for connections through `address`.
    #[must_use]
    pub fn url(&self, address: SocketAddr) -> String {
        format!("postgres://postgres@{address}/callscope")
    }

    /// Returns the id of the main process if it runs. The other processes are its children.
    pub async fn pid(&self) -> Option<u32> {
        self.child.lock().await.as_ref()?.id()
    }

    /// Starts the processes, again after [`Self::stop`].
    pub async fn launch(&self) {
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = Command::new(&self.program);
        command.arg("-D").arg(&self.data);
        let port = format!("port={}", self.address.port());
        for setting in [
            "listen_addresses=127.0.0.1",
            &port,
            "unix_socket_directories=",
            "max_connections=200",
            "fsync=on",
            "synchronous_commit=on",
            "max_wal_size=64MB",
            "min_wal_size=32MB",
            "logging_collector=off",
        ] {
            command.args(["-c", setting]);
        }
        let environment = self.environment.iter().map(|(key, value)| (key, value));
        let child = as_user(&mut command, self.user)
            .envs(environment)
            .current_dir(&self.data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        *self.child.lock().await = Some(child);
    }

    /// Waits until PostgreSQL answers, and returns whether it does in time. Starts it again if it has ended by itself.
    pub async fn wait_until_up(&self) -> bool {
        let url = format!("postgres://postgres@{}/postgres", self.address);
        let answers = async {
            loop {
                if let Ok(Ok(mut connection)) = timeout(Duration::from_secs(2), PgConnection::connect(&url)).await
                    && connection.execute("SELECT 1").await.is_ok()
                {
                    return;
                }
                self.restart_if_ended().await;
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, answers).await.is_ok()
    }

    /// Stops it with a signal (SIGINT: fast, SIGQUIT: immediate, SIGKILL: crash) and starts it again.
    pub async fn restart(&self, stop_signal: Signal) {
        self.stop(stop_signal).await;
        self.launch().await;
    }

    async fn restart_if_ended(&self) {
        let is_gone = match &mut *self.child.lock().await {
            Some(child) => matches!(child.try_wait(), Ok(Some(_))),
            None => false,
        };
        if is_gone {
            self.launch().await;
        }
    }

    /// Stops it with a signal; [`Self::launch`] starts it again.
    pub async fn stop(&self, stop_signal: Signal) {
        let child = self.child.lock().await.take();
        if let Some(mut child) = child {
            signal(&child, stop_signal);
            if timeout(PATIENCE, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }

    /// Sends SIGSTOP or SIGCONT to all its processes.
    pub async fn signal(&self, which: Signal) {
        if let Some(child) = &*self.child.lock().await {
            let all = child.id().map(process_tree).unwrap_or_default();
            for pid in all.into_iter().filter_map(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
                let _ = rustix::process::kill_process(pid, which);
            }
        }
    }

    /// Ends all its processes for good.
    pub async fn end(&self) {
        self.signal(Signal::CONT).await;
        self.stop(Signal::QUIT).await;
    }
}

async fn programs() -> PathBuf {
    let newest = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = newest.map(|path| path.join("bin")).filter(|path| path.join("initdb").is_file()).max();
    match newest {
        Some(path) => path,
        None => {
            let found = Command::new("pg_config").arg("--bindir").output().await.expect("PostgreSQL is installed");
            Path::new(String::from_utf8_lossy(&found.stdout).trim()).to_owned()
        }
    }
}

async fn ids(user: &str) -> (u32, u32) {
    let mut ids = [0; 2];
    for (id, flag) in ids.iter_mut().zip(["-u", "-g"]) {
        let output = Command::new("id").args([flag, user]).output().await.unwrap();
        *id = String::from_utf8_lossy(&output.stdout).trim().parse().expect("the user postgres exists");
    }
    (ids[0], ids[1])
}

fn as_user(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}
