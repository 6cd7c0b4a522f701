//! The Callscope server.
//!
//! A webhook comes in through [`http`] and is believed and read by [`ingest`]. [`log`] has the rules of what it does to its call, and
//! [`store`] makes that durable. [`cluster`] announces it to the [`live::hub`] of this process and of others, and the [`live::feed`] or
//! the [`live::session`] of each follower writes it. Below the routes, [`transport`] bounds connections and bodies.

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
pub mod transport;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rocket::config::{LogLevel, Shutdown};
use rocket::error::ErrorKind;
use rocket::fairing::AdHoc;
use rocket::shield::Shield;
use rocket::{Build, Config, Orbit, Rocket};
use tokio::runtime::Handle;
use tokio::spawn;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use auth::Tokens;
use cluster::{Announcer, Bus, Cluster, Counted};
use http::AppState;
use http::cors::{AllowedOrigins, Cors};
use ingest::Ingest;
use ingest::naming::{CallLinks, Naming};
use ingest::signature::SignatureVerifier;
use live::Hub;
use policy::DrainPolicy;
use readiness::Readiness;
use settings::Settings;
use store::{LogWriter, Store};
use transport::connections::{ConnectionLimits, ConnectionRegistry};

/// For each of the last writes of a server that ends.
const STEP_TIMEOUT: Duration = Duration::from_secs(2);

/// For requests that are still under way when Rocket has ended: as long as it gives them itself.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(3);

/// A server that is wired and not yet listening.
pub struct Server {
    /// Ready to be launched.
    pub rocket: Rocket<Build>,
    /// Who follows what.
    pub hub: Hub,
    store: Store,
    log_writer: LogWriter,
    cluster: Cluster,
    /// The task that writes; ends when everything that could submit is gone and the queue is empty.
    writer: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
    /// The link to the other servers: it ends last, since the last commits are announced too.
    link: Option<(Bus, JoinHandle<()>)>,
    address: SocketAddr,
    drain: DrainPolicy,
    /// Closes idle connections once the server listens; ended with the server.
    reaper: Arc<parking_lot::Mutex<Option<transport::reaper::Reaper>>>,
}

/// Resolves to the address once the server listens.
pub type Listening = oneshot::Receiver<SocketAddr>;

/// Wires everything: settings and a database become a server.
///
/// # Errors
/// The database does not say which cluster it belongs to, the Redis URL cannot be read, or there is no thread left.
pub async fn build(settings: &Settings, store: Store) -> Result<(Server, Listening), String> {
    let hub = Hub::start(&Handle::current()).map_err(|error| format!("cannot start threads: {error}"))?;
    let node = cluster::random_node_name();
    let (rpcs, incoming) = mpsc::channel(cluster::bus::RPC_QUEUE);
    let mut background = Vec::new();
    let mut link = None;
    let announcer = match join_cluster(settings, &store, &node, &hub, rpcs).await? {
        Some((bus, task)) => {
            link = Some((bus.clone(), task));
            Announcer::Joined(hub.clone(), bus)
        }
        None => Announcer::Local(hub.clone()),
    };
    let publisher = announcer.clone();
    let on_commit = Box::new(move |notifications| publisher.publish(notifications));
    let (log_writer, writer) =
        LogWriter::start(store.clone(), settings.unknown_calls, ingest::receipt::render, on_commit)
            .map_err(|error| format!("cannot start threads: {error}"))?;
    let cluster = Cluster::new(node, hub.clone(), store.clone(), announcer.clone());
    let verifier =
        SignatureVerifier::new(settings.webhook_auth, settings.webhook_secrets.clone(), settings.webhook_tolerance);
    let links = CallLinks::new(&settings.jwt_secrets);
    let naming = Naming { links: links.clone(), trusted_variable: settings.trusted_variable.clone() };
    let ingest = Arc::new(Ingest::new(verifier, naming, log_writer.clone()));
    let counted = Counted { hub: hub.clone(), log_writer: log_writer.clone(), ingest: Arc::clone(&ingest) };
    background.push(spawn(cluster::reconcile::run(store.clone(), hub.clone(), announcer.bus().cloned())));
    background.push(spawn(cluster.clone().serve_rpc(incoming, counted.clone())));
    if store.is_shared() {
        background.push(spawn(cluster::heartbeat_loop(cluster.clone(), log_writer.clone())));
    }
    if settings.retention_days > 0 {
        background.push(spawn(retention::delete_ended_calls(
            store.clone(),
            log_writer.clone(),
            settings.retention_days,
        )));
    }
    if settings.delivery_retention.is_bounded() {
        background.push(spawn(retention::strip_deliveries(
            store.clone(),
            log_writer.clone(),
            settings.delivery_retention,
        )));
    }
    let origins = AllowedOrigins::new(settings.allowed_origins.clone(), settings.public_url.as_ref());
    let connections = ConnectionRegistry::new(connection_limits(settings));
    let budget = transport::bodies::BodyBudget::new(settings.max_post_call_mib << 20);
    let app = AppState {
        connections: connections.clone(),
        ingest,
        links,
        tokens: Tokens::of(&settings.jwt_secrets),
        origins: origins.clone(),
        timing: Arc::new(settings.timing),
        response_memory: http::large_responses::ResponseMemory::default(),
        budget: budget.clone(),
        max_post_call: settings.max_post_call_mib << 20,
        readiness: Readiness::new(cluster.clone(), store.clone(), log_writer.clone(), hub.clone()),
        counted,
        cluster: cluster.clone(),
        hub: hub.clone(),
        store: store.clone(),
        log_writer: log_writer.clone(),
    };
    let (bound, listening) = oneshot::channel();
    let bound = parking_lot::Mutex::new(Some(bound));
    let here = cluster.clone();
    let reaper = Arc::new(parking_lot::Mutex::new(None));
    let (idle_timeouts, reaping) = (settings.idle_timeouts, Arc::clone(&reaper));
    let unread = settings.timing.write_deadline;
    let rocket = http::mount(rocket::custom(rocket_config(settings)))
        .manage(app)
        // Empty: `http::protect` sets what it would, where that means something.
        .attach(Shield::new())
        .attach(http::request_log::RequestLog)
        .attach(http::rules::RequestRules { origins: origins.clone(), connections: connections.clone() })
        .attach(Cors(origins))
        .attach(AdHoc::on_liftoff("address", move |rocket| {
            let address = SocketAddr::new(rocket.config().address, rocket.config().port);
            here.listens_on(address);
            if let Err(error) = transport::listener::set_listener_options(address, unread) {
                warn!(%error, "the listening socket keeps the system's limits and deadlines");
            }
            match transport::reaper::start(address, connections.clone(), budget.clone(), idle_timeouts) {
                Ok(reaper) => *reaping.lock() = Some(reaper),
                Err(error) => {
                    warn!(%error, "idle and half-open connections are not closed: put a proxy in front that does")
                }
            }
            if let Some(bound) = bound.lock().take() {
                // Nobody waiting is no error: the log says it too.
                let _ = bound.send(address);
            }
            Box::pin(async {})
        }));
    let (address, drain) = (settings.listen(), settings.drain);
    Ok((
        Server { rocket, hub, store, log_writer, cluster, writer, background, link, address, drain, reaper },
        listening,
    ))
}

/// How many live connections there may be. Where nothing is set, what the descriptors leave beside those in use now and the
/// reserve.
fn connection_limits(settings: &Settings) -> ConnectionLimits {
    let left = transport::descriptors::limit().map_or(u64::MAX, |limit| {
        limit
            .saturating_sub(transport::connections::descriptor_reserve(limit))
            .saturating_sub(transport::descriptors::open_count())
            .max(1)
    });
    ConnectionLimits {
        all: settings.max_connections.unwrap_or(left),
        per_token: settings.max_connections_per_token,
        per_address: settings.max_connections_per_address,
    }
}

/// The link to the other servers on the same database, where one is set.
async fn join_cluster(
    settings: &Settings,
    store: &Store,
    node: &str,
    hub: &Hub,
    rpcs: mpsc::Sender<cluster::bus::Incoming>,
) -> Result<Option<(Bus, JoinHandle<()>)>, String> {
    let Some(url) = &settings.redis_url else { return Ok(None) };
    if !store.is_shared() {
        warn!(
            "redis_url joins servers that share one PostgreSQL; this one has an SQLite file to itself, so it is not used"
        );
        return Ok(None);
    }
    let name = store.cluster_id().await.map_err(|error| error.to_string())?.simple().to_string();
    let bus = Bus::start(url, &settings.jwt_secrets, &name, node, hub.clone(), rpcs);
    bus.map(Some).map_err(|problem| format!("redis_url takes {problem}"))
}

impl Server {
    /// Serves until `stop` resolves, then drains and ends.
    ///
    /// # Errors
    /// The address could not be bound.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), String> {
        let Self { rocket, hub, store, log_writer, cluster, writer, background, link, address, drain, reaper } = self;
        let rocket = rocket.ignite().await.map_err(|error| launch_error(address, &error))?;
        let shutdown = rocket.shutdown();
        spawn(async move {
            stop.await;
            shutdown::drain(&hub, drain).await;
            shutdown.notify();
        });
        if let Err(error) = rocket.launch().await {
            match error.kind() {
                ErrorKind::Shutdown(rocket, _) => wait_for_requests(rocket).await,
                _ => return Err(launch_error(address, &error)),
            }
        }
        drop(reaper.lock().take());
        for task in &background {
            task.abort();
        }
        for task in background {
            // Ended: it lets its handle of the write path go.
            let _ = task.await;
        }
        if store.is_shared() {
            // Else the others take a while to see that it is gone.
            let _ = timeout(STEP_TIMEOUT, cluster.deregister(&log_writer)).await;
        }
        // The last handles of the write path go with these; then the queue runs empty.
        drop(log_writer);
        let _ = timeout(STEP_TIMEOUT, writer).await;
        if let Some((bus, task)) = link {
            let _ = timeout(STEP_TIMEOUT, bus.flush()).await;
            task.abort();
        }
        store.close().await;
        Ok(())
    }
}

/// Waits for requests that still run after Rocket ended.
///
/// It waits for them itself, but not where its listener hears of the shutdown before its own loop does.
async fn wait_for_requests(rocket: &Arc<Rocket<Orbit>>) {
    let deadline = Instant::now() + REQUESTS_TIMEOUT;
    while Arc::strong_count(rocket) > 1 {
        if Instant::now() > deadline {
            warn!("requests were still under way and are cut");
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

fn launch_error(address: SocketAddr, error: &rocket::Error) -> String {
    let text = match error.kind() {
        ErrorKind::Bind(error) => format!("cannot listen on {address}: {error}"),
        ErrorKind::Io(error) => format!("cannot serve: {error}"),
        kind => format!("cannot start: {kind}"),
    };
    callscope_common::text::one_line(&text).into_owned()
}

/// Rocket's own configuration comes from our settings alone, never from its files or environment.
fn rocket_config(settings: &Settings) -> Config {
    Config {
        address: settings.address,
        port: settings.port,
        // Its log prints query strings, and tokens with them.
        log_level: LogLevel::Off,
        cli_colors: false,
        shutdown: Shutdown {
            ctrlc: false,
            signals: std::collections::HashSet::new(),
            grace: 1,
            mercy: 1,
            force: false,
            ..Shutdown::default()
        },
        ident: rocket::config::Ident::none(),
        ..Config::release_default()
    }
}
