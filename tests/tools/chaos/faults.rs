//! The faults, and how each of them is injected and removed.

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
    /// SIGKILL to a server, which is started again.
    Kill,
    /// SIGSTOP to a server, and SIGCONT after a while.
    Stop,
    /// SIGTERM to a server, which drains and is started again.
    Drain,
    /// Connections of clients are reset.
    Cut,
    /// Connections of clients forward nothing for a while.
    Stall,
    /// Connections of clients forward a few kilobytes a second.
    Throttle,
    /// Another program reads, backs up or checkpoints the SQLite file, or a second server or `migrate` is started on
    /// it.
    Outsider,
    /// The disk of the database has no free block for a while.
    Disk,
    /// fsync returns EIO to the process that writes the database, for one commit or for a while.
    Fsync,
    /// PostgreSQL is restarted with SIGINT, which ends its sessions.
    PostgresFast,
    /// PostgreSQL is restarted with SIGQUIT, as after a crash.
    PostgresImmediate,
    /// SIGSTOP to PostgreSQL, and SIGCONT after a while.
    PostgresStop,
    /// A server's connections to PostgreSQL are reset.
    PostgresCut,
    /// A server's connections to PostgreSQL forward nothing for a while.
    PostgresStall,
    /// SIGKILL to Redis, which is started again.
    RedisKill,
    /// SIGSTOP to Redis, and SIGCONT after a while.
    RedisStop,
    /// Redis receives `FLUSHALL`.
    RedisFlush,
    /// Redis closes the connections of its subscribers.
    RedisDrop,
    /// A server's connections to Redis are reset.
    RedisCut,
    /// A server's connections to Redis forward nothing for a while.
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

    /// Returns the name in `--faults` and in the outcome's table.
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
    /// Returns an error that lists the known names if one of `names` is unknown.
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

    /// Returns whether this run has the service, the file or the disk that the fault breaks.
    #[must_use]
    pub fn is_applicable(self, cluster: &Cluster) -> bool {
        match self {
            Self::Kill | Self::Stop | Self::Drain | Self::Cut | Self::Stall | Self::Throttle => true,
            Self::Outsider => cluster.sqlite_file.is_some(),
            Self::Disk => cluster.disk.is_some(),
            Self::Fsync => cluster.failing_fsync.is_some(),
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
        let duration = Duration::from_millis(rng.u64(200..2_500));
        match self {
            Self::Kill => cluster.nodes[node].kill_and_restart().await,
            Self::Stop => {
                let _guard = cluster.disturbances.begin(Disturbance::SlowPath);
                cluster.nodes[node].signal(Signal::STOP).await;
                sleep(duration).await;
                cluster.nodes[node].signal(Signal::CONT).await;
            }
            Self::Drain => cluster.nodes[node].drain_and_restart(&cluster.ledger.violations).await,
            Self::Cut => cluster.client_proxies[node].cut(rng.u64(0..4)),
            Self::Stall => set_flow_for(cluster, &cluster.client_proxies[node], Flow::Stalled, duration).await,
            Self::Throttle => set_flow_for(cluster, &cluster.client_proxies[node], Flow::Throttled, duration * 2).await,
            Self::Outsider => outsider::run_one(cluster, rng).await,
            Self::Disk | Self::Fsync => self.storage(cluster, duration, rng).await,
            Self::PostgresFast | Self::PostgresImmediate | Self::PostgresStop => self.postgres(cluster, duration).await,
            Self::PostgresCut => cluster.postgres_proxies[node].cut(rng.u64(0..4)),
            Self::PostgresStall => {
                set_flow_for(cluster, &cluster.postgres_proxies[node], Flow::Stalled, duration).await
            }
            _ => self.redis(cluster, node, duration, rng).await,
        }
    }

    async fn storage(self, cluster: &Cluster, duration: Duration, rng: &mut Rng) {
        let _guard = cluster.disturbances.begin(Disturbance::SlowPath);
        set_may_exit(cluster, true);
        if let (Self::Disk, Some(disk)) = (self, &cluster.disk) {
            disk.fill();
            sleep(duration).await;
            disk.free();
        }
        if let (Self::Fsync, Some(fsync)) = (self, &cluster.failing_fsync) {
            // Half of these faults are short enough to hit a single commit.
            fsync.set_failing(true);
            sleep(if rng.bool() { Duration::from_millis(rng.u64(1..40)) } else { duration }).await;
            fsync.set_failing(false);
        }
        if let Some(postgres) = &cluster.postgres {
            // PostgreSQL ends by itself on EIO or a full disk, a moment later. `wait_until_up` starts it again.
            sleep(Duration::from_millis(200)).await;
            postgres.wait_until_up().await;
        }
        set_may_exit(cluster, false);
    }

    async fn postgres(self, cluster: &Cluster, duration: Duration) {
        let Some(postgres) = &cluster.postgres else { return };
        let _guard = cluster.disturbances.begin(Disturbance::SlowPath);
        set_may_exit(cluster, true);
        match self {
            Self::PostgresFast => postgres.restart(Signal::INT).await,
            Self::PostgresImmediate => postgres.restart(Signal::QUIT).await,
            _ => {
                postgres.signal(Signal::STOP).await;
                sleep(duration * 2).await;
                postgres.signal(Signal::CONT).await;
            }
        }
        postgres.wait_until_up().await;
        set_may_exit(cluster, false);
    }

    async fn redis(self, cluster: &Cluster, node: usize, duration: Duration, rng: &mut Rng) {
        let Some(redis) = &cluster.redis else { return };
        let _guard = cluster.disturbances.begin(Disturbance::NoRedis);
        match self {
            Self::RedisKill => {
                redis.kill().await;
                if rng.bool() {
                    sleep(duration).await;
                }
                redis.launch().await;
            }
            Self::RedisStop => {
                redis.signal(Signal::STOP).await;
                sleep(duration * 2).await;
                redis.signal(Signal::CONT).await;
            }
            Self::RedisFlush => drop(redis.command("FLUSHALL").await),
            Self::RedisDrop => drop(redis.command("CLIENT KILL TYPE pubsub").await),
            Self::RedisCut => cluster.redis_proxies[node].cut(0),
            _ => {
                cluster.redis_proxies[node].set_flow(Flow::Stalled);
                sleep(duration).await;
                cluster.redis_proxies[node].set_flow(Flow::Unlimited);
            }
        }
    }
}

async fn set_flow_for(cluster: &Cluster, proxy: &Proxy, flow: Flow, duration: Duration) {
    let _guard = cluster.disturbances.begin(Disturbance::SlowPath);
    proxy.set_flow(flow);
    sleep(duration).await;
    proxy.set_flow(Flow::Unlimited);
}

fn set_may_exit(cluster: &Cluster, may_exit: bool) {
    for node in &cluster.nodes {
        node.set_may_exit(may_exit);
    }
}
