//! For tests: a database of their own, and operations without a webhook around them.

use std::sync::Arc;

use callscope_common::api::WebhookRoute;
use callscope_common::{CallId, Seq, Timestamp};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::OwnedMutexGuard;

use super::sqlite::inline_reads::InlineReads;
use super::sqlite::write::WriteConnection;
use super::{Engine, Store};
use crate::log::{Answer, Change, DedupKey, Delivery, Operation, Receipt, new_id};

/// A new SQLite database, gone with the value.
pub(crate) struct Scratch {
    pub store: Store,
    _folder: TempDir,
}

impl Scratch {
    /// In memory where the system has a file system there: thousands of commits would otherwise wait for the disk.
    pub async fn open() -> Self {
        let shm = std::path::Path::new("/dev/shm");
        let folder = if shm.is_dir() { TempDir::new_in(shm) } else { TempDir::new() }.expect("a folder");
        let url = format!("sqlite://{}/calls.db", folder.path().display());
        // As if reads took long: everything else may happen before and after each.
        let reads = InlineReads { concurrency: 1, yields: true };
        Self { store: Store::open_with(&url, reads).await.expect("a database"), _folder: folder }
    }
}

impl Store {
    /// The connection that writes.
    pub(super) async fn sqlite_writer(&self) -> OwnedMutexGuard<Option<WriteConnection>> {
        let Engine::Sqlite(sqlite) = &self.0 else { panic!("an SQLite file") };
        Arc::clone(&sqlite.writer).lock_owned().await
    }

    /// Makes the database refuse writes, as a disk does that turned read-only.
    pub(crate) async fn refuse_writes(&self, is_on: bool) {
        let writer = self.sqlite_writer().await;
        writer.as_ref().expect("a connection").pragma_update(None, "query_only", is_on).expect("a pragma");
    }

    /// Removes the events behind `head` from a call's log, as a database does that is restored to an older state.
    pub(crate) async fn truncate_log(&self, call_id: CallId, head: Seq) {
        let writer = self.sqlite_writer().await;
        let connection = writer.as_ref().expect("a connection");
        for sql in [
            "DELETE FROM events WHERE call_id = ?1 AND seq > ?2",
            "UPDATE calls SET head = ?2, turns = (SELECT COUNT(*) FROM events WHERE call_id = ?1 \
             AND kind = 'transcription' AND seq <= ?2) WHERE call_id = ?1",
        ] {
            connection.execute(sql, (call_id, head)).expect("a statement");
        }
    }

    /// Whether a connection of the pool reads.
    pub(crate) fn is_pool_reading(&self) -> bool {
        let Engine::Sqlite(sqlite) = &self.0 else { panic!("an SQLite file") };
        sqlite.readers.num_idle() < sqlite.readers.size() as usize
    }
}

/// A webhook that says `change`, received `at` then.
pub(crate) fn deliver(change: Change, dedup_key: DedupKey, at: Timestamp) -> Operation {
    let route = if matches!(change, Change::Turn(_)) { WebhookRoute::Transcription } else { WebhookRoute::PostCall };
    Operation::Deliver(Box::new(Delivery {
        delivery_id: new_id(at),
        route,
        kind: None,
        received_at: at,
        remote_addr: None,
        headers: "[]".into(),
        body: b"{}".to_vec(),
        body_hash: [0; 32],
        idempotency_key: None,
        dedup_key,
        change,
    }))
}

/// Renders receipts for tests that do not judge the answers' texts.
pub(crate) fn render(receipt: &Receipt<'_>) -> Answer {
    let (status, body) = match receipt {
        Receipt::TurnAppended { transcription_id, seq, call_sid, .. } => {
            (201, json!({"transcription_id": transcription_id, "seq": seq, "call_sid": call_sid}))
        }
        other => (200, json!({"receipt": format!("{other:?}")})),
    };
    Answer { status, body: body.to_string().into() }
}
