//! A Redis that stores nothing on disk.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::process::{free_port, signal};
use crate::until;

/// Timeout of one command.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(2);

/// A `redis-server` process, which is killed when this handle is dropped.
#[derive(Debug)]
pub struct Redis {
    pub address: SocketAddr,
    dir: PathBuf,
    /// The port of the Redis cluster bus, if the process is a Redis Cluster.
    cluster_port: Option<u16>,
    child: Mutex<Option<Child>>,
    /// Deletes `dir` with this handle, if `dir` is temporary.
    temp_dir: Option<TempDir>,
}

impl Redis {
    /// Starts a Redis in a temporary folder.
    pub async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { temp_dir: Some(dir), ..Self::new(PathBuf::new(), None) }.start_and_wait().await
    }

    /// Starts a Redis Cluster of one server, which holds every slot.
    pub async fn start_cluster() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { temp_dir: Some(dir), ..Self::new(PathBuf::new(), Some(free_port())) }.start_and_wait().await
    }

    /// Starts a Redis in `dir`.
    pub async fn start_in(dir: PathBuf) -> Self {
        Self::new(dir, None).start_and_wait().await
    }

    fn new(dir: PathBuf, cluster_port: Option<u16>) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self { address, dir, cluster_port, child: Mutex::default(), temp_dir: None }
    }

    async fn start_and_wait(mut self) -> Self {
        if let Some(temp_dir) = &self.temp_dir {
            self.dir = temp_dir.path().to_owned();
        }
        self.launch().await;
        until("Redis answers", async || self.command("PING").await.as_deref() == Some("+PONG")).await;
        if self.cluster_port.is_some() {
            self.command("CLUSTER ADDSLOTSRANGE 0 16383").await;
            let state = "cluster_state:ok";
            until("the cluster is ready", async || self.command("CLUSTER INFO").await.as_deref() == Some(state)).await;
        }
        self
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Starts the process, for the first time or after [`Self::kill`]. Redis is empty then, and may not answer at once.
    pub async fn launch(&self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--port", &self.address.port().to_string()]);
        if let Some(port) = self.cluster_port {
            // A Redis Cluster stores its slots in a file in its working directory.
            command.args(["--cluster-enabled", "yes", "--cluster-port", &port.to_string()]);
        }
        command.current_dir(&self.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.kill_on_drop(true).spawn().expect("redis-server is installed");
        *self.child.lock().await = Some(child);
    }

    /// Kills the process with SIGKILL; [`Self::launch`] starts it again.
    pub async fn kill(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            let _ = child.kill().await;
        }
    }

    /// Sends SIGSTOP or SIGCONT.
    pub async fn signal(&self, signal_number: Signal) {
        if let Some(child) = &*self.child.lock().await {
            signal(child, signal_number);
        }
    }

    /// Sends a command and returns the first line of the answer, without the length line of a bulk string.
    pub async fn command(&self, command: &str) -> Option<String> {
        let answer = async {
            let mut stream = TcpStream::connect(self.address).await.ok()?;
            stream.write_all(format!("{command}\r\n").as_bytes()).await.ok()?;
            let mut buffer = [0; 256];
            let read = stream.read(&mut buffer).await.ok()?;
            let text = String::from_utf8_lossy(&buffer[..read]);
            let mut lines = text.lines();
            lines.next().filter(|line| !line.starts_with('$')).or_else(|| lines.next()).map(str::to_owned)
        };
        timeout(COMMAND_TIMEOUT, answer).await.ok()?
    }
}
