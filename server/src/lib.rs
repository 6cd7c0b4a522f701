//! The Callscope server.
//!
//! [`http`] receives a webhook, and [`ingest`] verifies and parses it. [`log`] has the rules of what it changes in its
//! call, and [`store`] makes the change durable. [`cluster`] announces the events to the [`live::hub`] of this process
//! and of others. The [`live::feed`] or the [`live::session`] of each follower writes them to the socket. Below the
//! routes, [`transport`] limits connections and bodies.

pub mod auth;
pub mod clock;
pub mod cluster;
pub mod embedded;
pub mod http;
pub mod ingest;
pub mod live;
pub mod log;
pub mod policy;
pub mod readiness;
pub mod retention;
pub mod secret;
pub mod settings;
pub mod shutdown;
pub mod store;
pub mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod token_bucket;
pub mod transport;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::spawn;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::warn;

use cluster::{Bus, Cluster, InvalidRedisUrl};
use http::AppState;
use http::launch::{HttpServer, LaunchError, Listening};
use ingest::Ingest;
use ingest::naming::{CallLinks, Naming};
use ingest::signature::SignatureVerifier;
use live::Hub;
use live::feed::FeedLimits;
use policy::DrainPolicy;
use settings::Settings;
use store::{LogWriter, Store, StoreError};

/// Timeout of each step of the shutdown after the drain.
const SHUTDOWN_STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that is built and does not listen yet.
pub struct Server {
    /// Every followed call and every connection of this process.
    pub hub: Hub,
    http: HttpServer,
    store: Store,
    cluster: Cluster,
    /// The log writer's task. It ends when every [`LogWriter`] is dropped and the queue is empty.
    log_writer_task: JoinHandle<()>,
    background_tasks: Vec<JoinHandle<()>>,
    bus_link: Option<BusLink>,
    drain: DrainPolicy,
}

/// The link to the other servers, and its task. It ends last, because the last commits are announced, too.
type BusLink = (Bus, JoinHandle<()>);

/// Why a server could not be built.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The threads that write to sockets and to the log could not be started.
    #[error("cannot start threads: {0}")]
    Threads(#[source] io::Error),
    /// The cluster id could not be read from the database.
    #[error(transparent)]
    ClusterId(#[from] StoreError),
    /// The Redis URL cannot be parsed; the text says what is expected.
    #[error("redis_url takes {0}")]
    RedisUrl(InvalidRedisUrl),
}

/// Builds a server from its settings and its database, and starts its background tasks.
///
/// # Errors
/// Returns an error if the cluster id cannot be read from the database, the Redis URL cannot be parsed, or no thread
/// can be started.
pub async fn build(settings: &Settings, store: Store) -> Result<(Server, Listening), StartError> {
    let hub = Hub::start(&Handle::current(), FeedLimits::default()).map_err(StartError::Threads)?;
    let node = cluster::random_node_name();
    let (rpcs, incoming) = mpsc::channel(cluster::bus::RPC_QUEUE);
    let bus_link = join_cluster(settings, &store, &node, &hub, rpcs).await?;
    let bus = bus_link.as_ref().map(|(bus, _)| bus.clone());
    let on_commit = cluster::announcer(hub.clone(), bus.clone());
    let (log_writer, log_writer_task) =
        LogWriter::start(store.clone(), settings.unknown_calls, ingest::receipt::render, on_commit)
            .map_err(StartError::Threads)?;
    let ingest = Arc::new(build_ingest(settings, &log_writer));
    let cluster = Cluster::new(node, hub.clone(), store.clone(), bus.clone(), log_writer.clone(), Arc::clone(&ingest));
    let mut background_tasks = spawn_maintenance(settings, &store, &log_writer, &cluster);
    background_tasks.push(spawn(cluster::reconcile::run(store.clone(), hub.clone(), bus)));
    background_tasks.push(spawn(cluster.clone().serve_rpc(incoming)));
    let app = AppState::new(settings, store.clone(), log_writer, hub.clone(), cluster.clone(), ingest);
    let (http, listening) = HttpServer::new(settings, app);
    let drain = settings.drain;
    Ok((Server { hub, http, store, cluster, log_writer_task, background_tasks, bus_link, drain }, listening))
}

fn build_ingest(settings: &Settings, log_writer: &LogWriter) -> Ingest {
    let verifier =
        SignatureVerifier::new(settings.webhook_auth, settings.webhook_secrets.clone(), settings.webhook_tolerance);
    let links = CallLinks::new(&settings.jwt_secrets);
    let naming = Naming { links, trusted_variable: settings.trusted_variable.clone() };
    Ingest::new(verifier, naming, log_writer.clone())
}

/// Starts the tasks that maintain the database: this process's heartbeat, and retention if it is set.
fn spawn_maintenance(
    settings: &Settings,
    store: &Store,
    log_writer: &LogWriter,
    cluster: &Cluster,
) -> Vec<JoinHandle<()>> {
    let mut tasks = Vec::new();
    if store.is_shared() {
        tasks.push(spawn(cluster::heartbeat_loop(cluster.clone())));
    }
    if settings.retention_days > 0 {
        let days = settings.retention_days;
        tasks.push(spawn(retention::delete_ended_calls(store.clone(), log_writer.clone(), days)));
    }
    if settings.delivery_retention.is_bounded() {
        let kept = settings.delivery_retention;
        tasks.push(spawn(retention::strip_deliveries(store.clone(), log_writer.clone(), kept)));
    }
    tasks
}

/// Links this process to the other servers on the same database, if a Redis is set.
async fn join_cluster(
    settings: &Settings,
    store: &Store,
    node: &str,
    hub: &Hub,
    rpcs: mpsc::Sender<cluster::bus::Incoming>,
) -> Result<Option<BusLink>, StartError> {
    let Some(url) = &settings.redis_url else { return Ok(None) };
    if !store.is_shared() {
        warn!(
            "redis_url is not used: it links servers that share one PostgreSQL, and this one has an SQLite file to itself"
        );
        return Ok(None);
    }
    let cluster_id = store.cluster_id().await?.simple().to_string();
    let bus = Bus::start(url, &settings.jwt_secrets, &cluster_id, node, hub.clone(), rpcs);
    bus.map(Some).map_err(StartError::RedisUrl)
}

impl Server {
    /// Serves until `stop` resolves, then drains and ends.
    ///
    /// # Errors
    /// Returns an error if the address cannot be bound.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), LaunchError> {
        let Self { hub, http, store, cluster, log_writer_task, background_tasks, bus_link, drain } = self;
        let drained = async move {
            stop.await;
            shutdown::drain(&hub, drain).await;
        };
        http.serve(drained).await?;
        for task in &background_tasks {
            task.abort();
        }
        for task in background_tasks {
            // Once the task has ended, it has dropped its handle of the log writer. That it was aborted is no error.
            let _ = task.await;
        }
        if store.is_shared() {
            // If this fails, the other servers list this one until its heartbeat is too old.
            let _ = timeout(SHUTDOWN_STEP_TIMEOUT, cluster.deregister()).await;
        }
        // This drops the last handle, so the task ends once its queue is empty.
        drop(cluster);
        let _ = timeout(SHUTDOWN_STEP_TIMEOUT, log_writer_task).await;
        if let Some((bus, task)) = bus_link {
            let _ = timeout(SHUTDOWN_STEP_TIMEOUT, bus.flush()).await;
            task.abort();
        }
        store.close().await;
        Ok(())
    }
}
