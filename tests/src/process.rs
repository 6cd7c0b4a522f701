//! The real programs, as processes that a test may kill.

use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::server::environment;
use crate::{Database, PATIENCE};

/// A `callscope-server` process; ended with its handle.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
}

/// Where cargo puts the workspace's programs: beside the tests' own folder.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(std::path::Path::parent).unwrap().join(name);
    assert!(path.is_file(), "{} is missing; build it with `cargo build --workspace`", path.display());
    path
}

impl Process {
    /// Starts a server on `database`; `port` 0 takes any free one.
    pub async fn start(database: &Database, port: u16) -> Self {
        let port = port.to_string();
        let mut child = Command::new(program("callscope-server"))
            .env_clear()
            .envs(environment(database, &[]))
            .env("CALLSCOPE_PORT", &port)
            .current_dir(database.dir.path())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = timeout(PATIENCE, async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, rest)) = line.split_once("url=") {
                    return rest.split(' ').next().unwrap().to_owned();
                }
            }
            panic!("the server ended before it listened");
        })
        .await
        .expect("the server listens in time");
        // Read on, so that a full pipe never stops the server.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, url }
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// SIGKILL.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
