//! A real server for tests of the client, and the client's environment.

use std::path::PathBuf;
use std::process::{Command, Output};

use callscope_server::embedded::Embedded;
use callscope_tests::process::program;
use tokio::runtime::Runtime;

/// The conversation of the sample `tow-truck`.
pub const TOW: &str = "conv_01callscope0tow0truck00000001";

/// Returns the path of the built client.
pub fn callscope() -> PathBuf {
    program("callscope")
}

/// A server on a free loopback port, with a database and a home folder of its own.
pub struct Server {
    pub url: String,
    pub token: String,
    secret: String,
    embedded: Option<Embedded>,
    runtime: Runtime,
    folder: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("home")).unwrap();
        let runtime = Runtime::new().unwrap();
        let embedded = runtime.block_on(Embedded::start(folder.path())).unwrap();
        let (url, token, secret) = (embedded.url.clone(), embedded.token.clone(), embedded.webhook_secret.clone());
        Self { url, token, secret, embedded: Some(embedded), runtime, folder }
    }

    pub fn stop(&mut self) {
        if let Some(embedded) = self.embedded.take() {
            self.runtime.block_on(embedded.stop());
        }
    }

    /// Returns the home folder in which the client runs.
    pub fn home(&self) -> String {
        self.folder.path().join("home").to_str().unwrap().to_owned()
    }

    /// Returns the client with `args`, for this server and with no other environment.
    pub fn callscope(&self, args: &[&str]) -> Command {
        let mut command = Command::new(callscope());
        command.args(args);
        self.environment(&mut command);
        command
    }

    /// Runs the client to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.callscope(args).output().unwrap().into()
    }

    /// Runs bash with the client in its path.
    pub fn bash(&self, script: &str) -> Ran {
        let mut bash = Command::new("bash");
        bash.args(["-c", script]);
        self.environment(&mut bash).output().unwrap().into()
    }

    /// Gives a command this server's environment and no other.
    pub fn environment<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let programs = callscope().parent().unwrap().display().to_string();
        command
            .env_clear()
            .env("PATH", format!("{programs}:{}", std::env::var("PATH").unwrap()))
            .env("HOME", self.home())
            .env("TERM", "xterm-256color")
            .env("LANG", "C.UTF-8")
            .env("CALLSCOPE_SERVER", &self.url)
            .env("CALLSCOPE_TOKEN", &self.token)
            .env("CALLSCOPE_WEBHOOK_SECRET", &self.secret)
            .current_dir(self.home())
            .stdin(std::process::Stdio::null())
    }

    /// Replays a sample with the identifiers that are in it.
    pub fn replay(&self, sample: &str) {
        let ran = self.run(&["replay", sample, "--speed", "max", "-q"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How a program ended, and what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
