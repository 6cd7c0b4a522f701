//! One run: everything starts, is broken for a while, catches up and is checked.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use futures_util::{StreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::check::Log;
use crate::evidence::Wrong;
use crate::faults::Fault;
use crate::flags::Flags;
use crate::follower::Follower;
use crate::kind::Kind;
use crate::schedule::Schedule;
use crate::table::Outcome;
use crate::track::Track;
use crate::world::World;
use crate::{check, lives, poster, restore};

/// At the end, whatever makes no progress for so long has come to a stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Names that lead to one call after the other, at one time.
const LIVES: usize = 3;

/// Logs fetched at one time.
const AT_ONCE: usize = 8;

/// One run, in a world that is set up.
pub async fn run(flags: &Flags, seed: u64, faults: Vec<Fault>, world: &Arc<World>) -> Outcome {
    let began = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let until = flags.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let schedule = Arc::new(Schedule::new(flags.kills(), until, faults));
    let mut background = JoinSet::new();
    for at in 0..world.nodes.len() {
        let world = Arc::clone(world);
        background.spawn(async move { world.nodes[at].look_after(&world.book.evidence).await });
    }
    if !flags.quiet {
        background.spawn(progress(Arc::clone(world), Arc::clone(&schedule)));
    }
    let mut posters = JoinSet::new();
    for _ in 0..flags.calls {
        posters.spawn(poster::post_calls(Arc::clone(world), rng.u64(..)));
    }
    let mut followers = JoinSet::new();
    for number in 0..flags.followers {
        let kind = Kind::MIX[number % Kind::MIX.len()];
        followers.spawn(Follower::new(Arc::clone(world), kind, number, rng.fork()).follow());
    }
    let mut lives = JoinSet::new();
    for number in 0..LIVES {
        lives.spawn(lives::live_again(Arc::clone(world), number, rng.fork()));
    }
    schedule.run(world, seed).await;
    let broken = began.elapsed().as_secs();
    world.closing.store(true, Ordering::SeqCst);
    while posters.join_next().await.is_some_and(|ended| noted(world, ended).is_some()) {}
    while lives.join_next().await.is_some_and(|ended| noted(world, ended).is_some()) {}
    let logs = check_logs(world).await;
    catch_up(world, followers, &mut rng).await;
    let tracks = std::mem::take(&mut *world.archive.lock().unwrap());
    for track in &tracks {
        if let Some(log) = logs.get(&track.call.plan.index) {
            check::check_track(track, log, &world.book.evidence);
        }
    }
    restore::check(world, &tracks).await;
    world.archive(tracks);
    let events = logs.values().map(|log| log.frames.len()).sum();
    background.shutdown().await;
    Outcome::new(flags, seed, (broken, began.elapsed().as_secs()), &schedule, world, events)
}

/// A task of ours that panicked proves nothing, but must not pass for a good run.
fn noted<T>(world: &World, ended: Result<T, tokio::task::JoinError>) -> Option<T> {
    ended.map_err(|error| world.book.evidence.add(Wrong::Stuck, || format!("a task of the machine: {error}"))).ok()
}

/// Checks every call's log and makes the final heads known.
async fn check_logs(world: &Arc<World>) -> HashMap<usize, Log> {
    let calls = world.book.begun();
    let checked = stream::iter(&calls).map(async |call| Some((call.plan.index, check::check_call(world, call).await?)));
    let logs: HashMap<usize, Log> = checked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
    let heads = logs.iter().map(|(index, log)| (*index, i64::try_from(log.frames.len()).unwrap_or(i64::MAX))).collect();
    let _ = world.heads.set(heads);
    logs
}

/// Waits until every subscriber has what the logs hold, as long as any of them gets on.
async fn catch_up(world: &Arc<World>, followers: JoinSet<Vec<Track>>, rng: &mut Rng) {
    let tracks = patiently(world, followers).await;
    world.archive(tracks);
    let heads = world.heads().cloned().unwrap_or_default();
    let is_behind = |track: &Track| heads.get(&track.call.plan.index).is_some_and(|head| track.last < *head);
    let archive = std::mem::take(&mut *world.archive.lock().unwrap());
    let (behind, done): (Vec<_>, Vec<_>) = archive.into_iter().partition(is_behind);
    world.archive(done);
    // A connection follows a call but once, so each takes one subscription of a call.
    let mut shares: Vec<Vec<Track>> = Vec::new();
    for track in behind {
        let fits = |share: &&mut Vec<Track>| {
            share.len() < 100 && share.iter().all(|other| other.call.plan.index != track.call.plan.index)
        };
        match shares.iter_mut().find(fits) {
            Some(share) => share.push(track),
            None => shares.push(vec![track]),
        }
    }
    let mut followers = JoinSet::new();
    for (number, share) in shares.into_iter().enumerate() {
        followers.spawn(Follower::catching_up(Arc::clone(world), number, rng.fork(), share).follow());
    }
    let tracks = patiently(world, followers).await;
    world.archive(tracks);
}

async fn patiently(world: &Arc<World>, mut followers: JoinSet<Vec<Track>>) -> Vec<Track> {
    let mut tracks = Vec::new();
    let progress = || world.book.counts.received.load(Ordering::Relaxed);
    let (mut last, mut since) = (progress(), Instant::now());
    while !followers.is_empty() {
        tokio::select! {
            ended = followers.join_next() => {
                tracks.extend(ended.and_then(|ended| noted(world, ended)).into_iter().flatten());
                since = Instant::now();
            }
            () = sleep(Duration::from_millis(200)) => {}
        }
        if progress() != last {
            (last, since) = (progress(), Instant::now());
        }
        if since.elapsed() > PATIENCE {
            world.given_up.store(true, Ordering::SeqCst);
        }
    }
    tracks
}

async fn progress(world: Arc<World>, schedule: Arc<Schedule>) {
    let began = Instant::now();
    loop {
        sleep(Duration::from_secs(5)).await;
        let counts = &world.book.counts;
        let phase = if world.is_closing() { "closing" } else { "breaking" };
        eprintln!(
            "[{:4}s] {phase}: {} kills, {} calls, {} acknowledged, {} received, {}",
            began.elapsed().as_secs(),
            schedule.killed(),
            world.book.begun().len(),
            counts.acknowledged.load(Ordering::Relaxed),
            counts.received.load(Ordering::Relaxed),
            if world.book.evidence.is_clean() { "all well" } else { "SOMETHING IS WRONG" },
        );
    }
}
