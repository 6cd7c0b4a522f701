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
use crate::cluster::Cluster;
use crate::faults::Fault;
use crate::flags::Flags;
use crate::follower::Follower;
use crate::follower_kind::FollowerKind;
use crate::outcome::Outcome;
use crate::schedule::Schedule;
use crate::subscription::Subscription;
use crate::violations::Violation;
use crate::{check, provider, restore, reused_names};

/// At the end, a follower without progress for this time counts as stuck.
const PATIENCE: Duration = Duration::from_secs(30);

/// Number of names that are reused at the same time.
const LIVES: usize = 3;

/// Number of logs that are fetched at the same time.
const AT_ONCE: usize = 8;

/// Runs once on a cluster that has been started.
pub async fn run(flags: &Flags, seed: u64, faults: Vec<Fault>, cluster: &Arc<Cluster>) -> Outcome {
    let began = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let until = flags.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let schedule = Arc::new(Schedule::new(flags.kills(), until, faults));
    let mut background = JoinSet::new();
    for at in 0..cluster.nodes.len() {
        let cluster = Arc::clone(cluster);
        background.spawn(async move { cluster.nodes[at].supervise(&cluster.ledger.violations).await });
    }
    if !flags.quiet {
        background.spawn(progress(Arc::clone(cluster), Arc::clone(&schedule)));
    }
    let mut posters = JoinSet::new();
    for _ in 0..flags.calls {
        posters.spawn(provider::post_calls(Arc::clone(cluster), rng.u64(..)));
    }
    let mut followers = JoinSet::new();
    for number in 0..flags.followers {
        let kind = FollowerKind::MIX[number % FollowerKind::MIX.len()];
        followers.spawn(Follower::new(Arc::clone(cluster), kind, number, rng.fork()).follow());
    }
    let mut lives = JoinSet::new();
    for number in 0..LIVES {
        lives.spawn(reused_names::reuse_names(Arc::clone(cluster), number, rng.fork()));
    }
    schedule.run(cluster, seed).await;
    let broken = began.elapsed().as_secs();
    cluster.closing.store(true, Ordering::SeqCst);
    while posters.join_next().await.is_some_and(|ended| noted(cluster, ended).is_some()) {}
    while lives.join_next().await.is_some_and(|ended| noted(cluster, ended).is_some()) {}
    let logs = check_logs(cluster).await;
    catch_up(cluster, followers, &mut rng).await;
    let subscriptions = std::mem::take(&mut *cluster.archive.lock().unwrap());
    for subscription in &subscriptions {
        if let Some(log) = logs.get(&subscription.call.plan.index) {
            check::check_subscription(subscription, log, &cluster.ledger.violations);
        }
    }
    restore::check(cluster, &subscriptions).await;
    cluster.archive(subscriptions);
    let events = logs.values().map(|log| log.frames.len()).sum();
    background.shutdown().await;
    Outcome::new(flags, seed, (broken, began.elapsed().as_secs()), &schedule, cluster, events)
}

/// A task that panicked proves nothing, but the run must not count as good.
fn noted<T>(cluster: &Cluster, ended: Result<T, tokio::task::JoinError>) -> Option<T> {
    ended.map_err(|error| cluster.report(Violation::Stuck, || format!("a task of the run failed: {error}"))).ok()
}

/// Checks every call's log and publishes the final heads.
async fn check_logs(cluster: &Arc<Cluster>) -> HashMap<usize, Log> {
    let calls = cluster.ledger.begun();
    let checked =
        stream::iter(&calls).map(async |call| Some((call.plan.index, check::check_call(cluster, call).await?)));
    let logs: HashMap<usize, Log> = checked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await;
    let heads = logs.iter().map(|(index, log)| (*index, i64::try_from(log.frames.len()).unwrap_or(i64::MAX))).collect();
    let _ = cluster.heads.set(heads);
    logs
}

/// Waits until every subscriber has what the logs hold, as long as any of them makes progress.
async fn catch_up(cluster: &Arc<Cluster>, followers: JoinSet<Vec<Subscription>>, rng: &mut Rng) {
    let subscriptions = patiently(cluster, followers).await;
    cluster.archive(subscriptions);
    let heads = cluster.heads().cloned().unwrap_or_default();
    let is_behind = |subscription: &Subscription| {
        heads.get(&subscription.call.plan.index).is_some_and(|head| subscription.last < *head)
    };
    let archive = std::mem::take(&mut *cluster.archive.lock().unwrap());
    let (behind, done): (Vec<_>, Vec<_>) = archive.into_iter().partition(is_behind);
    cluster.archive(done);
    // A connection follows a call only once, so each connection takes one subscription of a call.
    let mut shares: Vec<Vec<Subscription>> = Vec::new();
    for subscription in behind {
        let fits = |share: &&mut Vec<Subscription>| {
            share.len() < 100 && share.iter().all(|other| other.call.plan.index != subscription.call.plan.index)
        };
        match shares.iter_mut().find(fits) {
            Some(share) => share.push(subscription),
            None => shares.push(vec![subscription]),
        }
    }
    let mut followers = JoinSet::new();
    for (number, share) in shares.into_iter().enumerate() {
        followers.spawn(Follower::catching_up(Arc::clone(cluster), number, rng.fork(), share).follow());
    }
    let subscriptions = patiently(cluster, followers).await;
    cluster.archive(subscriptions);
}

async fn patiently(cluster: &Arc<Cluster>, mut followers: JoinSet<Vec<Subscription>>) -> Vec<Subscription> {
    let mut subscriptions = Vec::new();
    let progress = || cluster.ledger.counts.received.load(Ordering::Relaxed);
    let (mut last, mut since) = (progress(), Instant::now());
    while !followers.is_empty() {
        tokio::select! {
            ended = followers.join_next() => {
                subscriptions.extend(ended.and_then(|ended| noted(cluster, ended)).into_iter().flatten());
                since = Instant::now();
            }
            () = sleep(Duration::from_millis(200)) => {}
        }
        if progress() != last {
            (last, since) = (progress(), Instant::now());
        }
        if since.elapsed() > PATIENCE {
            cluster.given_up.store(true, Ordering::SeqCst);
        }
    }
    subscriptions
}

async fn progress(cluster: Arc<Cluster>, schedule: Arc<Schedule>) {
    let began = Instant::now();
    loop {
        sleep(Duration::from_secs(5)).await;
        let counts = &cluster.ledger.counts;
        let phase = if cluster.is_closing() { "closing" } else { "breaking" };
        eprintln!(
            "[{:4}s] {phase}: {} kills, {} calls, {} acknowledged, {} received, {}",
            began.elapsed().as_secs(),
            schedule.killed(),
            cluster.ledger.begun().len(),
            counts.acknowledged.load(Ordering::Relaxed),
            counts.received.load(Ordering::Relaxed),
            if cluster.ledger.violations.is_clean() { "all well" } else { "SOMETHING IS WRONG" },
        );
    }
}
