//! The end of a run on SQLite: a copy that another program made during the run replaces the database, and cursors of
//! the run are used on the copy. A cursor of an event that the copy lacks must be refused, even after another event has
//! the same seq.

use std::path::Path;
use std::time::Duration;

use callscope_common::signature;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::check;
use crate::cluster::Cluster;
use crate::setup::wait_until_up;
use crate::socket::{ServerMessage, connect, send};
use crate::subscription::Subscription;
use crate::violations::Violation;
use callscope_tests::server::{SECRET, unix_secs};

/// Number of subscriptions whose cursors are checked.
const MAX_CURSORS: usize = 150;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TRIES: usize = 20;

/// Restores the copy, if there is one, and checks the cursors of these subscriptions on it.
pub async fn check(cluster: &Cluster, subscriptions: &[Subscription]) {
    let (Some(file), Some(copy)) = (&cluster.sqlite_file, cluster.sqlite_backup.lock().unwrap().clone()) else {
        return;
    };
    let node = &cluster.nodes[0];
    node.set_may_exit(true);
    node.kill().await;
    for companion in ["-wal", "-shm"] {
        let mut name = file.clone().into_os_string();
        name.push(companion);
        let _ = std::fs::remove_file(Path::new(&name));
    }
    if let Err(error) = std::fs::rename(&copy, file) {
        return cluster.report(Violation::Stuck, || format!("the copy cannot be restored: {error}"));
    }
    node.start().await;
    wait_until_up(node).await;
    let checked: Vec<&Subscription> =
        subscriptions.iter().filter(|subscription| subscription.cursor.is_some()).take(MAX_CURSORS).collect();
    for subscription in &checked {
        check_cursor(cluster, subscription).await;
    }
    // New turns get the seqs of the events that the copy lacks.
    for subscription in &checked {
        let text = format!("c{} after the restore", subscription.call.plan.index);
        let body =
            json!({"call_sid": subscription.name, "speaker": "user", "message": text, "turn_id": text}).to_string();
        let sent = cluster
            .http
            .post(format!("http://{}/webhooks/elevenlabs/transcription", node.address))
            .header(signature::HEADER, signature::sign(SECRET.as_bytes(), unix_secs(), body.as_bytes()))
            .body(body)
            .send();
        let _ = sent.await;
    }
    for subscription in &checked {
        check_cursor(cluster, subscription).await;
    }
}

/// Checks that the cursor continues if the restored log has its event, and is refused otherwise.
async fn check_cursor(cluster: &Cluster, subscription: &Subscription) {
    let Some(cursor) = &subscription.cursor else { return };
    let log = check::fetch(cluster, &subscription.name).await;
    let has_event = log.as_ref().map(|log| {
        cursor.starts_with("0.") && subscription.record == Some(log.call_id)
            || log.frames.iter().any(|frame| frame.ends_with(&format!("\"{cursor}\"}}")))
    });
    let expected = match has_event {
        None => "CALL_NOT_FOUND",
        Some(true) => "subscription_confirmed",
        Some(false) => "CURSOR_INVALID",
    };
    let answered = answer_to(cluster, subscription, cursor).await;
    if answered.as_deref() != Some(expected) {
        cluster.report(Violation::Lost, || {
            format!("{subscription}: {cursor} after a restore was answered {answered:?}, not {expected}")
        });
    }
}

/// Returns the type or the error code of the answer to a subscription from this cursor.
async fn answer_to(cluster: &Cluster, subscription: &Subscription, cursor: &str) -> Option<String> {
    for _ in 0..MAX_TRIES {
        let Some(mut socket) = connect(cluster.nodes[0].address, &cluster.token, false).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        send(&mut socket, &json!({"subscribe": subscription.name, "after": cursor})).await;
        if let Ok(Ok(text)) = timeout(ANSWER_TIMEOUT, socket.next()).await {
            let message: ServerMessage = serde_json::from_str(&text).ok()?;
            return Some(message.code.unwrap_or(message.r#type));
        }
    }
    None
}
