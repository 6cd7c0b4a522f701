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

/// Timeout of a start and of a stop. It is long, because machines are slow and shared.
const START_STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A PostgreSQL cluster in a folder of the test, whose settings make an acknowledged commit durable.
#[derive(Debug)]
pub struct Postgres {
    pub address: SocketAddr,
    program: PathBuf,
    data: PathBuf,
    log: PathBuf,
    /// The user id and group id of its processes if the test runs as root, as which PostgreSQL refuses to run.
    user: Option<(u32, u32)>,
    environment: Vec<(String, String)>,
    child: Mutex<Option<Child>>,
}

impl Postgres {
    /// Creates a cluster in the folder `data`, and starts it with `environment`. The file `log` receives its messages.
    pub async fn start(data: PathBuf, log: PathBuf, environment: Vec<(String, String)>) -> Self {
        let bin = find_programs().await;
        std::fs::create_dir_all(&data).unwrap();
        let user = if rustix::process::geteuid().is_root() { Some(user_and_group_ids("postgres").await) } else { None };
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(&data, Some(uid), Some(gid)).unwrap();
        }
        let mut initdb = Command::new(bin.join("initdb"));
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--pgdata"]);
        let output = run_as(initdb.arg(&data), user).current_dir(&data).output().await.unwrap();
        assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let program = bin.join("postgres");
        let postgres = Self { address, program, data, log, user, environment, child: Mutex::default() };
        postgres.launch().await;
        assert!(postgres.wait_until_up().await, "PostgreSQL does not answer in time");
        postgres
    }

    /// Returns the URL of a database for connections to `address`, which may be that of a proxy.
    #[must_use]
    pub fn url(&self, address: SocketAddr) -> String {
        format!("postgres://postgres@{address}/callscope")
    }

    /// Returns the id of the main process if it runs. The other processes are its children.
    pub async fn pid(&self) -> Option<u32> {
        self.child.lock().await.as_ref()?.id()
    }

    /// Starts the processes, for the first time or after [`Self::stop`].
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
        let child = run_as(&mut command, self.user)
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

    /// Waits until PostgreSQL answers, and returns whether it did in time. Restarts PostgreSQL if it ends meanwhile.
    pub async fn wait_until_up(&self) -> bool {
        let url = format!("postgres://postgres@{}/postgres", self.address);
        let first_answer = async {
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
        timeout(START_STOP_TIMEOUT, first_answer).await.is_ok()
    }

    /// Stops PostgreSQL with a signal (SIGINT: fast, SIGQUIT: immediate, SIGKILL: crash) and starts it again.
    pub async fn restart(&self, stop_signal: Signal) {
        self.stop(stop_signal).await;
        self.launch().await;
    }

    async fn restart_if_ended(&self) {
        let has_ended = match &mut *self.child.lock().await {
            Some(child) => matches!(child.try_wait(), Ok(Some(_))),
            None => false,
        };
        if has_ended {
            self.launch().await;
        }
    }

    /// Stops PostgreSQL with a signal. [`Self::launch`] starts it again.
    pub async fn stop(&self, stop_signal: Signal) {
        let child = self.child.lock().await.take();
        if let Some(mut child) = child {
            signal(&child, stop_signal);
            if timeout(START_STOP_TIMEOUT, child.wait()).await.is_err() {
                let _ = child.kill().await;
            }
        }
    }

    /// Sends SIGSTOP or SIGCONT to all processes.
    pub async fn signal(&self, signal: Signal) {
        if let Some(child) = &*self.child.lock().await {
            let all = child.id().map(process_tree).unwrap_or_default();
            for pid in all.into_iter().filter_map(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
                let _ = rustix::process::kill_process(pid, signal);
            }
        }
    }

    /// Ends all processes, paused or not.
    pub async fn end(&self) {
        self.signal(Signal::CONT).await;
        self.stop(Signal::QUIT).await;
    }
}

/// Returns the folder of the newest installed PostgreSQL's programs.
async fn find_programs() -> PathBuf {
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

async fn user_and_group_ids(user: &str) -> (u32, u32) {
    let mut ids = [0; 2];
    for (id, flag) in ids.iter_mut().zip(["-u", "-g"]) {
        let output = Command::new("id").args([flag, user]).output().await.unwrap();
        *id = String::from_utf8_lossy(&output.stdout).trim().parse().expect("the user postgres exists");
    }
    (ids[0], ids[1])
}

fn run_as(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}
