//! The faults: what can be broken, and how.

use std::time::Duration;

use fastrand::Rng;
use rustix::process::Signal;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::disturbances::Disturbance;
use crate::outsider;
use crate::proxy::{Flow, Proxy};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// SIGKILL to a server.
    Kill,
    /// SIGSTOP to a server, and SIGCONT after a while.
    Stop,
    /// SIGTERM to a server, which drains.
    Drain,
    /// Clients' connections are reset.
    Cut,
    /// Clients' connections stand still for a while.
    Stall,
    /// Clients' connections carry a few kilobytes a second.
    Throttle,
    /// Other programs use the SQLite file: it is read, backed up and checkpointed; a second server and `migrate` are
    /// started on it.
    Outsider,
    /// The disk of the database has no free block.
    Disk,
    /// fsync returns EIO to the process that writes the database.
    Fsync,
    /// PostgreSQL is restarted with SIGINT, which ends its sessions.
    PostgresFast,
    /// PostgreSQL is restarted with SIGQUIT, as after a crash.
    PostgresImmediate,
    /// PostgreSQL is stopped for a while.
    PostgresStop,
    /// A server's connections to PostgreSQL are reset.
    PostgresCut,
    /// A server's connections to PostgreSQL stand still for a while.
    PostgresStall,
    /// Redis is killed and started again.
    RedisKill,
    /// Redis is stopped for a while.
    RedisStop,
    /// Redis receives `FLUSHALL`.
    RedisFlush,
    /// Redis drops its subscribers.
    RedisDrop,
    /// A server's connections to Redis are reset.
    RedisCut,
    /// A server's connections to Redis stand still for a while.
    RedisStall,
}

impl Fault {
    /// All faults, in the order of the table.
    pub const ALL: [Self; 20] = [
        Self::Kill,
        Self::Stop,
        Self::Drain,
        Self::Cut,
        Self::Stall,
        Self::Throttle,
        Self::Outsider,
        Self::Disk,
        Self::Fsync,
        Self::PostgresFast,
        Self::PostgresImmediate,
        Self::PostgresStop,
        Self::PostgresCut,
        Self::PostgresStall,
        Self::RedisKill,
        Self::RedisStop,
        Self::RedisFlush,
        Self::RedisDrop,
        Self::RedisCut,
        Self::RedisStall,
    ];

    /// Returns the name in the flag and in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Drain => "drain",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Throttle => "throttle",
            Self::Outsider => "outsider",
            Self::Disk => "disk",
            Self::Fsync => "fsync",
            Self::PostgresFast => "postgres-fast",
            Self::PostgresImmediate => "postgres-immediate",
            Self::PostgresStop => "postgres-stop",
            Self::PostgresCut => "postgres-cut",
            Self::PostgresStall => "postgres-stall",
            Self::RedisKill => "redis-kill",
            Self::RedisStop => "redis-stop",
            Self::RedisFlush => "redis-flush",
            Self::RedisDrop => "redis-drop",
            Self::RedisCut => "redis-cut",
            Self::RedisStall => "redis-stall",
        }
    }

    /// Returns the faults with these names.
    ///
    /// # Errors
    ///
    /// Returns an error that lists all names if one is unknown.
    pub fn parse(names: &[String]) -> Result<Vec<Self>, String> {
        if names == ["all"] {
            return Ok(Self::ALL.to_vec());
        }
        let named = |name: &String| {
            let found = Self::ALL.into_iter().find(|fault| fault.as_str() == name);
            let known = Self::ALL.map(Self::as_str).join(", ");
            found.ok_or_else(|| format!("no fault is called '{name}'; use some of {known}, or all"))
        };
        names.iter().map(named).collect()
    }

    /// Returns whether this run has what the fault breaks.
    #[must_use]
    pub fn is_applicable(self, cluster: &Cluster) -> bool {
        match self {
            Self::Kill | Self::Stop | Self::Drain | Self::Cut | Self::Stall | Self::Throttle => true,
            Self::Outsider => cluster.file.is_some(),
            Self::Disk => cluster.disk.is_some(),
            Self::Fsync => cluster.fsync.is_some(),
            Self::PostgresFast
            | Self::PostgresImmediate
            | Self::PostgresStop
            | Self::PostgresCut
            | Self::PostgresStall => cluster.postgres.is_some(),
            Self::RedisKill
            | Self::RedisStop
            | Self::RedisFlush
            | Self::RedisDrop
            | Self::RedisCut
            | Self::RedisStall => cluster.redis.is_some(),
        }
    }

    /// Injects the fault and removes it again.
    pub async fn inject(self, cluster: &Cluster, rng: &mut Rng) {
        let node = rng.usize(..cluster.nodes.len());
        let millis = Duration::from_millis(rng.u64(200..2_500));
        match self {
            Self::Kill => cluster.nodes[node].kill().await,
            Self::Stop => {
                let _guard = cluster.disturbances.begin(Disturbance::Rough);
                cluster.nodes[node].signal(Signal::STOP).await;
                sleep(millis).await;
                cluster.nodes[node].signal(Signal::CONT).await;
            }
            Self::Drain => cluster.nodes[node].drain(&cluster.ledger.violations).await,
            Self::Cut => cluster.client_proxies[node].cut(rng.u64(0..4)),
            Self::Stall => flow(cluster, &cluster.client_proxies[node], Flow::Still, millis).await,
            Self::Throttle => flow(cluster, &cluster.client_proxies[node], Flow::Slow, millis * 2).await,
            Self::Outsider => outsider::visit(cluster, rng).await,
            Self::Disk | Self::Fsync => self.storage(cluster, millis, rng).await,
            Self::PostgresFast | Self::PostgresImmediate | Self::PostgresStop => self.postgres(cluster, millis).await,
            Self::PostgresCut => cluster.postgres_proxies[node].cut(rng.u64(0..4)),
            Self::PostgresStall => flow(cluster, &cluster.postgres_proxies[node], Flow::Still, millis).await,
            _ => self.redis(cluster, node, millis, rng).await,
        }
    }

    async fn storage(self, cluster: &Cluster, millis: Duration, rng: &mut Rng) {
        let _guard = cluster.disturbances.begin(Disturbance::Rough);
        excuse(cluster, true);
        if let (Self::Disk, Some(disk)) = (self, &cluster.disk) {
            disk.fill();
            sleep(millis).await;
            disk.free();
        }
        if let (Self::Fsync, Some(fsync)) = (self, &cluster.fsync) {
            // This lasts for one commit or for long.
            fsync.fail(true);
            sleep(if rng.bool() { Duration::from_millis(rng.u64(1..40)) } else { millis }).await;
            fsync.fail(false);
        }
        if let Some(postgres) = &cluster.postgres {
            // PostgreSQL gives up on EIO, and may not recover by itself from EIO or from a full disk.
            sleep(Duration::from_millis(200)).await;
            postgres.is_up().await;
        }
        excuse(cluster, false);
    }

    async fn postgres(self, cluster: &Cluster, millis: Duration) {
        let Some(postgres) = &cluster.postgres else { return };
        let _guard = cluster.disturbances.begin(Disturbance::Rough);
        excuse(cluster, true);
        match self {
            Self::PostgresFast => postgres.restart(Signal::INT).await,
            Self::PostgresImmediate => postgres.restart(Signal::QUIT).await,
            _ => {
                postgres.signal(Signal::STOP).await;
                sleep(millis * 2).await;
                postgres.signal(Signal::CONT).await;
            }
        }
        postgres.is_up().await;
        excuse(cluster, false);
    }

    async fn redis(self, cluster: &Cluster, node: usize, millis: Duration, rng: &mut Rng) {
        let Some(redis) = &cluster.redis else { return };
        let _guard = cluster.disturbances.begin(Disturbance::NoRedis);
        match self {
            Self::RedisKill => {
                redis.end().await;
                if rng.bool() {
                    sleep(millis).await;
                }
                redis.launch().await;
            }
            Self::RedisStop => {
                redis.signal(Signal::STOP).await;
                sleep(millis * 2).await;
                redis.signal(Signal::CONT).await;
            }
            Self::RedisFlush => drop(redis.say("FLUSHALL").await),
            Self::RedisDrop => drop(redis.say("CLIENT KILL TYPE pubsub").await),
            Self::RedisCut => cluster.redis_proxies[node].cut(0),
            _ => {
                cluster.redis_proxies[node].set(Flow::Still);
                sleep(millis).await;
                cluster.redis_proxies[node].set(Flow::Free);
            }
        }
    }
}

async fn flow(cluster: &Cluster, proxy: &Proxy, flow: Flow, time: Duration) {
    let _guard = cluster.disturbances.begin(Disturbance::Rough);
    proxy.set(flow);
    sleep(time).await;
    proxy.set(Flow::Free);
}

fn excuse(cluster: &Cluster, excused: bool) {
    for node in &cluster.nodes {
        node.excuse(excused);
    }
}
