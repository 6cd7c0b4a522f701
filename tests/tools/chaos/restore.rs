//! At the end of a run on SQLite: the database as another program copied it in the middle of the run takes the place of the present one,
//! and every cursor that was seen is tried on it. What the copy does not hold must be refused, also once other events have come under
//! the same numbers.

use std::path::Path;
use std::time::Duration;

use callscope_common::signature;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::check;
use crate::evidence::Wrong;
use crate::link::{Told, connect, send};
use crate::stage::wait_for;
use crate::track::Track;
use crate::world::World;
use callscope_tests::server::{SECRET, now};

/// Most subscriptions that are tried.
const TRIED: usize = 150;
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Restores the copy, if one was made, and tries the cursors of these subscriptions.
pub async fn check(world: &World, tracks: &[Track]) {
    let (Some(file), Some(copy)) = (&world.file, world.copy.lock().unwrap().clone()) else { return };
    let node = &world.nodes[0];
    node.forgive(true);
    node.end().await;
    for companion in ["-wal", "-shm"] {
        let mut name = file.clone().into_os_string();
        name.push(companion);
        let _ = std::fs::remove_file(Path::new(&name));
    }
    if let Err(error) = std::fs::rename(&copy, file) {
        return world.book.evidence.add(Wrong::Stuck, || format!("the copy cannot be put back: {error}"));
    }
    node.start().await;
    wait_for(node).await;
    let tried: Vec<&Track> = tracks.iter().filter(|track| track.place.is_some()).take(TRIED).collect();
    for track in &tried {
        check_place(world, track).await;
    }
    // Other events come under the same numbers.
    for track in &tried {
        let text = format!("c{} after the restore", track.call.plan.index);
        let body = json!({"call_sid": track.name, "speaker": "user", "message": text, "turn_id": text}).to_string();
        let sent = world
            .http
            .post(format!("http://{}/webhooks/elevenlabs/transcription", node.address))
            .header(signature::HEADER, signature::sign(SECRET.as_bytes(), now(), body.as_bytes()))
            .body(body)
            .send();
        let _ = sent.await;
    }
    for track in &tried {
        check_place(world, track).await;
    }
}

async fn check_place(world: &World, track: &Track) {
    let Some(place) = &track.place else { return };
    let log = check::fetch(world, &track.name).await;
    let is_there = log.as_ref().map(|log| {
        place.starts_with("0.") && track.life == Some(log.call_id)
            || log.frames.iter().any(|frame| frame.ends_with(&format!("\"{place}\"}}")))
    });
    let expected = match is_there {
        None => "CALL_NOT_FOUND",
        Some(true) => "subscription_confirmed",
        Some(false) => "CURSOR_INVALID",
    };
    let answered = ask(world, track, place).await;
    if answered.as_deref() != Some(expected) {
        world
            .book
            .evidence
            .add(Wrong::Lost, || format!("{track}: {place} after a restore was answered {answered:?}, not {expected}"));
    }
}

/// What a subscription from that place is answered.
async fn ask(world: &World, track: &Track, place: &str) -> Option<String> {
    for _ in 0..20 {
        let Some(mut socket) = connect(world.nodes[0].address, &world.token, false).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        send(&mut socket, &json!({"subscribe": track.name, "after": place})).await;
        if let Ok(Ok(text)) = timeout(PATIENCE, socket.next()).await {
            let told: Told = serde_json::from_str(&text).ok()?;
            return Some(told.code.unwrap_or(told.r#type));
        }
    }
    None
}
