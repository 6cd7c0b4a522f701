//! For tests: a database of their own, and operations without a webhook around them.

use callscope_common::Timestamp;
use serde_json::json;
use tempfile::TempDir;

use super::Store;
use crate::log::{Answer, Change, DedupKey, Delivery, Operation, Receipt, Route, new_id};

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
        Self { store: Store::open(&url).await.expect("a database"), _folder: folder }
    }
}

/// A webhook that says `change`, received `at` then.
pub(crate) fn deliver(change: Change, dedup_key: DedupKey, at: Timestamp) -> Operation {
    let route = if matches!(change, Change::Turn(_)) { Route::Transcription } else { Route::PostCall };
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
