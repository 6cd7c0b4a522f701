//! One run: calls and followers start, faults are injected, followers catch up, and everything is checked.

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

/// Time without any event for any follower, after which followers stop waiting for the heads.
const NO_PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
/// Number of names that are reused at the same time.
const REUSED_NAMES: usize = 3;
/// Number of logs that are fetched at the same time.
const CONCURRENT_FETCHES: usize = 8;
/// Subscriptions on one connection of the followers that catch up at the end.
const MAX_SUBSCRIPTIONS: usize = 100;

/// Runs once on a cluster that has been started.
pub async fn run(flags: &Flags, seed: u64, faults: Vec<Fault>, cluster: &Arc<Cluster>) -> Outcome {
    let began = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let ends_at = flags.seconds.map(|seconds| began + Duration::from_secs(seconds));
    let schedule = Arc::new(Schedule::new(flags.kills(), ends_at, faults));
    let mut background = JoinSet::new();
    for node in 0..cluster.nodes.len() {
        let cluster = Arc::clone(cluster);
        background.spawn(async move { cluster.nodes[node].supervise(&cluster.ledger.violations).await });
    }
    if !flags.quiet {
        background.spawn(print_progress(Arc::clone(cluster), Arc::clone(&schedule)));
    }
    let mut providers = JoinSet::new();
    for _ in 0..flags.calls {
        providers.spawn(provider::post_calls(Arc::clone(cluster), rng.u64(..)));
    }
    let mut followers = JoinSet::new();
    for number in 0..flags.followers {
        let kind = FollowerKind::MIX[number % FollowerKind::MIX.len()];
        followers.spawn(Follower::new(Arc::clone(cluster), kind, number, rng.fork()).follow());
    }
    let mut name_reusers = JoinSet::new();
    for number in 0..REUSED_NAMES {
        name_reusers.spawn(reused_names::reuse_names(Arc::clone(cluster), number, rng.fork()));
    }
    schedule.run(cluster, seed).await;
    let breaking_secs = began.elapsed().as_secs();
    cluster.closing.store(true, Ordering::SeqCst);
    while providers.join_next().await.is_some_and(|ended| ok_or_report(cluster, ended).is_some()) {}
    while name_reusers.join_next().await.is_some_and(|ended| ok_or_report(cluster, ended).is_some()) {}
    let logs = check_logs(cluster).await;
    catch_up(cluster, followers, &mut rng).await;
    let subscriptions = std::mem::take(&mut *cluster.archived.lock().unwrap());
    for subscription in &subscriptions {
        if let Some(log) = logs.get(&subscription.call.plan.index) {
            check::check_subscription(subscription, log, &cluster.ledger.violations);
        }
    }
    restore::check(cluster, &subscriptions).await;
    cluster.archive(subscriptions);
    let events = logs.values().map(|log| log.frames.len()).sum();
    background.shutdown().await;
    Outcome::new(flags, seed, (breaking_secs, began.elapsed().as_secs()), &schedule, cluster, events)
}

/// Returns the task's value. A panic is reported as a violation, because the task's checks are missing.
fn ok_or_report<T>(cluster: &Cluster, ended: Result<T, tokio::task::JoinError>) -> Option<T> {
    ended.map_err(|error| cluster.report(Violation::Stuck, || format!("a task of the run failed: {error}"))).ok()
}

/// Checks every call's log and publishes the final heads.
async fn check_logs(cluster: &Arc<Cluster>) -> HashMap<usize, Log> {
    let calls = cluster.ledger.started_calls();
    let checked =
        stream::iter(&calls).map(async |call| Some((call.plan.index, check::check_call(cluster, call).await?)));
    let logs: HashMap<usize, Log> =
        checked.buffer_unordered(CONCURRENT_FETCHES).filter_map(std::future::ready).collect().await;
    let heads = logs.iter().map(|(index, log)| (*index, i64::try_from(log.frames.len()).unwrap_or(i64::MAX))).collect();
    // The heads are set only here, so this cannot fail.
    let _ = cluster.heads.set(heads);
    logs
}

/// Waits until every subscription has reached the head of its log, as long as any of them makes progress. Subscriptions
/// that the server ended earlier are resumed by other followers.
async fn catch_up(cluster: &Arc<Cluster>, followers: JoinSet<Vec<Subscription>>, rng: &mut Rng) {
    let subscriptions = join_followers(cluster, followers).await;
    cluster.archive(subscriptions);
    let heads = cluster.heads().cloned().unwrap_or_default();
    let is_behind = |subscription: &Subscription| {
        heads.get(&subscription.call.plan.index).is_some_and(|head| subscription.last_seq < *head)
    };
    let archived = std::mem::take(&mut *cluster.archived.lock().unwrap());
    let (behind, done): (Vec<_>, Vec<_>) = archived.into_iter().partition(is_behind);
    cluster.archive(done);
    // A connection has at most one subscription to a call, so subscriptions to one call are in different batches.
    let mut batches: Vec<Vec<Subscription>> = Vec::new();
    for subscription in behind {
        let fits = |batch: &&mut Vec<Subscription>| {
            batch.len() < MAX_SUBSCRIPTIONS
                && batch.iter().all(|other| other.call.plan.index != subscription.call.plan.index)
        };
        match batches.iter_mut().find(fits) {
            Some(batch) => batch.push(subscription),
            None => batches.push(vec![subscription]),
        }
    }
    let mut followers = JoinSet::new();
    for (number, batch) in batches.into_iter().enumerate() {
        followers.spawn(Follower::catching_up(Arc::clone(cluster), number, rng.fork(), batch).follow());
    }
    let subscriptions = join_followers(cluster, followers).await;
    cluster.archive(subscriptions);
}

/// Waits for all followers and returns their subscriptions. They give up after [`NO_PROGRESS_TIMEOUT`].
async fn join_followers(cluster: &Arc<Cluster>, mut followers: JoinSet<Vec<Subscription>>) -> Vec<Subscription> {
    let mut subscriptions = Vec::new();
    let received = || cluster.ledger.counts.received.load(Ordering::Relaxed);
    let (mut last_received, mut last_progress_at) = (received(), Instant::now());
    while !followers.is_empty() {
        tokio::select! {
            ended = followers.join_next() => {
                subscriptions.extend(ended.and_then(|ended| ok_or_report(cluster, ended)).into_iter().flatten());
                last_progress_at = Instant::now();
            }
            () = sleep(Duration::from_millis(200)) => {}
        }
        if received() != last_received {
            (last_received, last_progress_at) = (received(), Instant::now());
        }
        if last_progress_at.elapsed() > NO_PROGRESS_TIMEOUT {
            cluster.given_up.store(true, Ordering::SeqCst);
        }
    }
    subscriptions
}

async fn print_progress(cluster: Arc<Cluster>, schedule: Arc<Schedule>) {
    let began = Instant::now();
    loop {
        sleep(Duration::from_secs(5)).await;
        let counts = &cluster.ledger.counts;
        let phase = if cluster.is_closing() { "closing" } else { "breaking" };
        eprintln!(
            "[{:4}s] {phase}: {} kills, {} calls, {} acknowledged, {} received, {}",
            began.elapsed().as_secs(),
            schedule.kill_count(),
            cluster.ledger.started_calls().len(),
            counts.acknowledged.load(Ordering::Relaxed),
            counts.received.load(Ordering::Relaxed),
            if cluster.ledger.violations.is_clean() { "no violations" } else { "VIOLATIONS" },
        );
    }
}
