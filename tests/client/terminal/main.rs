//! The client in a real terminal: what a person sees, types and finds afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod character_widths;
mod demo;
mod exit;
mod hostile;
mod pipes;
mod play;
mod saved_state;
mod tail;
mod watch;

use std::path::Path;

use callscope_tests::process::program;
use callscope_tests::saved::turn_line;
use callscope_tests::server::{admin_token, http, post_webhook, unix_secs};
use callscope_tests::{Database, Engine, Process, Pty};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server, a call spoken on it, and terminals that show it.
struct Scene {
    database: Database,
    process: Option<Process>,
    port: u16,
    url: String,
    token: String,
    folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let database = Database::new(Engine::Sqlite).await;
        let process = Process::start(&database, 0).await;
        let (port, url) = (process.port(), process.url.clone());
        let folder = tempfile::tempdir().unwrap();
        Self { database, process: Some(process), port, url, token: admin_token("measure"), folder }
    }

    /// Kills the server with SIGKILL.
    async fn kill(&mut self) {
        self.process.take().unwrap().kill().await;
    }

    /// Starts it again on the same port and log.
    async fn start(&mut self) {
        self.process = Some(Process::start(&self.database, self.port).await);
    }

    async fn post(&self, route: &str, body: &Value) -> Value {
        let reply = post_webhook(&http(), &self.url, route, body.to_string()).await.unwrap();
        assert!(matches!(reply.status, 200 | 201), "{reply:?}");
        reply.json
    }

    async fn turn(&self, sid: &str, speaker: &str, message: &str) {
        let id = format!("{}", fastrand::u64(..));
        self.post("transcription", &json!({"call_sid": sid, "speaker": speaker, "message": message, "turn_id": id}))
            .await;
    }

    /// Ends a call that is known by its conversation id.
    async fn end(&self, conversation: &str) {
        let data = json!({"conversation_id": conversation, "status": "done", "agent_id": "agent_road",
            "metadata": {"call_duration_secs": 41, "cost": 74},
            "analysis": {"call_successful": "success", "transcript_summary": "A truck was sent.",
                "evaluation_criteria_results": {"safety_first": {"result": "success", "rationale": "Asked at once."}},
                "data_collection_results": {"place": {"value": "A10"}}}});
        self.post(
            "post-call",
            &json!({"type": "post_call_transcription", "event_timestamp": unix_secs(), "data": data}),
        )
        .await;
    }

    /// Returns a terminal that runs `callscope`.
    fn terminal(&self, size: (u16, u16), arguments: &[&str], more: &[(&str, &str)]) -> Pty {
        let mut environment = vec![("CALLSCOPE_SERVER", self.url.as_str()), ("CALLSCOPE_TOKEN", self.token.as_str())];
        environment.extend(more);
        Pty::start(size, &program("callscope"), arguments, &environment, self.folder.path())
    }

    /// Returns `callscope` without a terminal.
    fn command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = std::process::Command::new(program("callscope"));
        command.env_clear().env("CALLSCOPE_SERVER", &self.url).env("CALLSCOPE_TOKEN", &self.token);
        command.args(arguments).current_dir(self.folder.path());
        command
    }
}

/// Posts a conversation's turn, for calls that are ended by their conversation id.
async fn say(scene: &Scene, conversation: &str, speaker: &str, message: &str) {
    let id = format!("{}", fastrand::u64(..));
    let body = json!({"conversation_id": conversation, "speaker": speaker, "message": message, "turn_id": id});
    scene.post("transcription", &body).await;
}
