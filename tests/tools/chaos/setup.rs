//! Starts the cluster of a run: database, Redis, proxies and servers.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::disk::{Disk, FailingFsync};
use crate::disturbances::Disturbances;
use crate::faults::Fault;
use crate::flags::{Database, Flags};
use crate::ledger::Ledger;
use crate::node::{LaunchSpec, Node};
use crate::proxy::Proxy;
use callscope_tests::server::{JWT_SECRET, SECRET, admin_token};
use callscope_tests::{Postgres, Redis};

/// Limit of a request by the run's HTTP client. A stopped server accepts connections and does not answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Starts the database, Redis if there are several servers, and the servers, with all their files in `dir`.
///
/// # Panics
///
/// Panics if a program that the run needs is missing or does not start.
pub async fn start_cluster(flags: &Flags, seed: u64, faults: &[Fault], dir: &Path) -> Cluster {
    let engine = flags.engine().expect("the flags were checked");
    let disk = if faults.contains(&Fault::Disk) { Disk::mount(dir.join("disk")) } else { None };
    let failing_fsync = if faults.contains(&Fault::Fsync) { FailingFsync::compile(dir).await } else { None };
    let storage = disk.as_ref().map_or_else(|| dir.join("data"), |disk| disk.dir.join("data"));
    let preload = failing_fsync.as_ref().map(FailingFsync::environment).unwrap_or_default();
    let count = usize::from(flags.nodes);
    let mut cluster = Cluster {
        ledger: Ledger::new(seed),
        disturbances: Disturbances::default(),
        nodes: Vec::new(),
        client_proxies: Vec::new(),
        postgres_proxies: Vec::new(),
        redis_proxies: Vec::new(),
        postgres: None,
        redis: None,
        sqlite_file: None,
        sqlite_backup: Mutex::default(),
        disk,
        failing_fsync,
        http: http(),
        token: admin_token("chaos"),
        closing: AtomicBool::new(false),
        given_up: AtomicBool::new(false),
        heads: OnceLock::new(),
        archived: Mutex::default(),
    };
    if engine == Database::Postgres {
        cluster.postgres = Some(Postgres::start(storage.clone(), dir.join("postgres.log"), preload.clone()).await);
    } else {
        std::fs::create_dir_all(&storage).unwrap();
        cluster.sqlite_file = Some(storage.join("callscope.db"));
    }
    if count > 1 {
        cluster.redis = Some(Redis::start_in(dir.to_owned()).await);
    }
    for index in 0..count {
        let mut environment = environment();
        match &cluster.postgres {
            Some(postgres) => {
                let proxy = Proxy::start(postgres.address).await;
                environment.push(("CALLSCOPE_DATABASE_URL".into(), postgres.url(proxy.address)));
                cluster.postgres_proxies.push(proxy);
            }
            None => {
                let file = storage.join("callscope.db");
                environment.push(("CALLSCOPE_DATABASE_URL".into(), format!("sqlite://{}", file.display())));
                environment.extend(preload.clone());
            }
        }
        if let Some(redis) = &cluster.redis {
            let proxy = Proxy::start(redis.address).await;
            environment.push(("CALLSCOPE_REDIS_URL".into(), format!("redis://{}", proxy.address)));
            cluster.redis_proxies.push(proxy);
        }
        let node = Node::new(index, LaunchSpec { program: program(flags), environment, dir: dir.to_owned() });
        cluster.client_proxies.push(Proxy::start(node.address).await);
        node.start().await;
        cluster.nodes.push(node);
        // The servers start one after the other, so that only the first one creates the tables.
        wait_until_up(&cluster.nodes[index]).await;
    }
    cluster
}

/// Waits until a server accepts connections, for at least 30 seconds.
pub async fn wait_until_up(node: &Node) {
    for _ in 0..600 {
        if tokio::net::TcpStream::connect(node.address).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("server {} does not accept connections", node.index);
}

/// Returns the settings that all servers share. Deadlines are shorter than the defaults, so that they pass in a short
/// run.
fn environment() -> Vec<(String, String)> {
    [
        ("CALLSCOPE_WEBHOOK_SECRETS", SECRET),
        ("CALLSCOPE_JWT_SECRET", JWT_SECRET),
        ("CALLSCOPE_PING_INTERVAL", "1"),
        ("CALLSCOPE_PONG_TIMEOUT", "4"),
        ("CALLSCOPE_WRITE_DEADLINE", "2"),
        ("CALLSCOPE_STORAGE_DEADLINE", "3"),
        ("CALLSCOPE_DRAIN_DEADLINE", "1"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .to_vec()
}

fn program(flags: &Flags) -> PathBuf {
    if let Some(program) = &flags.server {
        return std::path::absolute(program).unwrap();
    }
    let built = std::env::current_exe().unwrap().with_file_name("callscope-server");
    assert!(built.is_file(), "{} is missing; tests/chaos builds it", built.display());
    built
}

fn http() -> reqwest::Client {
    // The error means that a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(REQUEST_TIMEOUT).build().unwrap()
}
