//! The end of a run on SQLite: a copy that another program made during the run replaces the database, and every cursor
//! of the run is tried on it. A cursor of an event that the copy lacks must be refused, even after other events have
//! got the same numbers.

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
use callscope_tests::server::{SECRET, now};

/// Number of subscriptions that are tried.
const TRIED: usize = 150;
/// Time for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Restores the copy, if there is one, and tries the cursors of these subscriptions.
pub async fn check(cluster: &Cluster, subscriptions: &[Subscription]) {
    let (Some(file), Some(copy)) = (&cluster.file, cluster.copy.lock().unwrap().clone()) else { return };
    let node = &cluster.nodes[0];
    node.excuse(true);
    node.end().await;
    for companion in ["-wal", "-shm"] {
        let mut name = file.clone().into_os_string();
        name.push(companion);
        let _ = std::fs::remove_file(Path::new(&name));
    }
    if let Err(error) = std::fs::rename(&copy, file) {
        return cluster.report(Violation::Stuck, || format!("the copy cannot be put back: {error}"));
    }
    node.start().await;
    wait_until_up(node).await;
    let tried: Vec<&Subscription> =
        subscriptions.iter().filter(|subscription| subscription.cursor.is_some()).take(TRIED).collect();
    for subscription in &tried {
        check_cursor(cluster, subscription).await;
    }
    // Other events get the same numbers.
    for subscription in &tried {
        let text = format!("c{} after the restore", subscription.call.plan.index);
        let body =
            json!({"call_sid": subscription.name, "speaker": "user", "message": text, "turn_id": text}).to_string();
        let sent = cluster
            .http
            .post(format!("http://{}/webhooks/elevenlabs/transcription", node.address))
            .header(signature::HEADER, signature::sign(SECRET.as_bytes(), now(), body.as_bytes()))
            .body(body)
            .send();
        let _ = sent.await;
    }
    for subscription in &tried {
        check_cursor(cluster, subscription).await;
    }
}

async fn check_cursor(cluster: &Cluster, subscription: &Subscription) {
    let Some(cursor) = &subscription.cursor else { return };
    let log = check::fetch(cluster, &subscription.name).await;
    let is_there = log.as_ref().map(|log| {
        cursor.starts_with("0.") && subscription.record == Some(log.call_id)
            || log.frames.iter().any(|frame| frame.ends_with(&format!("\"{cursor}\"}}")))
    });
    let expected = match is_there {
        None => "CALL_NOT_FOUND",
        Some(true) => "subscription_confirmed",
        Some(false) => "CURSOR_INVALID",
    };
    let answered = ask(cluster, subscription, cursor).await;
    if answered.as_deref() != Some(expected) {
        cluster.report(Violation::Lost, || {
            format!("{subscription}: {cursor} after a restore was answered {answered:?}, not {expected}")
        });
    }
}

/// Returns the type or the error code of the answer to a subscription from this cursor.
async fn ask(cluster: &Cluster, subscription: &Subscription, cursor: &str) -> Option<String> {
    for _ in 0..20 {
        let Some(mut socket) = connect(cluster.nodes[0].address, &cluster.token, false).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        send(&mut socket, &json!({"subscribe": subscription.name, "after": cursor})).await;
        if let Ok(Ok(text)) = timeout(PATIENCE, socket.next()).await {
            let message: ServerMessage = serde_json::from_str(&text).ok()?;
            return Some(message.code.unwrap_or(message.r#type));
        }
    }
    None
}
