//! Launches Rocket with its configuration and fairings, and waits for its last requests.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use callscope_common::text::one_line;
use parking_lot::Mutex;
use rocket::config::{Ident, LogLevel, Shutdown};
use rocket::error::ErrorKind;
use rocket::fairing::AdHoc;
use rocket::shield::Shield;
use rocket::{Build, Config, Orbit, Rocket};
use tokio::spawn;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::cors::Cors;
use super::request_log::RequestLog;
use super::rules::RequestRules;
use super::{AppState, mount};
use crate::cluster::Cluster;
use crate::policy::IdleTimeouts;
use crate::settings::Settings;
use crate::transport::bodies::BodyBudget;
use crate::transport::connections::ConnectionRegistry;
use crate::transport::listener::set_listener_options;
use crate::transport::reaper::{self, Reaper};

/// Time for requests that are still in progress when Rocket has ended. Rocket itself gives them as much.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(3);

/// Resolves to the address once the server listens.
pub type Listening = oneshot::Receiver<SocketAddr>;

/// The HTTP server before it listens.
pub struct HttpServer {
    rocket: Rocket<Build>,
    /// The address to bind, as the settings name it.
    address: SocketAddr,
    reaper: Arc<Mutex<Option<Reaper>>>,
}

/// Why the HTTP server could not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The address could not be bound.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, String),
    /// Accepting connections failed.
    #[error("cannot serve: {0}")]
    Serve(String),
    /// Rocket refused its own configuration.
    #[error("cannot start: {0}")]
    Ignite(String),
}

impl LaunchError {
    fn new(address: SocketAddr, error: &rocket::Error) -> Self {
        let text = |error: &dyn std::fmt::Display| one_line(&error.to_string()).into_owned();
        match error.kind() {
            ErrorKind::Bind(error) => Self::Bind(address, text(error)),
            ErrorKind::Io(error) => Self::Serve(text(error)),
            kind => Self::Ignite(text(kind)),
        }
    }
}

/// Runs a future to its end on the runtime that the server needs.
pub fn block_on<T>(future: impl Future<Output = T> + Send) -> T {
    rocket::async_main(future)
}

impl HttpServer {
    /// Mounts every route and attaches the fairings. The second value resolves once the server listens.
    #[must_use]
    pub fn new(settings: &Settings, app: AppState) -> (Self, Listening) {
        let (address_sender, listening) = oneshot::channel();
        let liftoff = Liftoff {
            cluster: app.cluster.clone(),
            connections: app.connections.clone(),
            bodies: app.body_budget.clone(),
            idle_timeouts: settings.idle_timeouts,
            write_deadline: settings.timing.write_deadline,
            reaper: Arc::default(),
            address_sender: Mutex::new(Some(address_sender)),
        };
        let reaper = Arc::clone(&liftoff.reaper);
        let (origins, connections) = (app.origins.clone(), app.connections.clone());
        let rocket = mount(rocket::custom(rocket_config(settings)))
            .manage(app)
            // A `Shield` without policies replaces Rocket's default one; `rules::set_security_headers` sets the
            // headers.
            .attach(Shield::new())
            .attach(RequestLog)
            .attach(RequestRules { origins: origins.clone(), connections })
            .attach(Cors(origins))
            .attach(AdHoc::on_liftoff("address", move |rocket| {
                liftoff.run(SocketAddr::new(rocket.config().address, rocket.config().port));
                Box::pin(async {})
            }));
        (Self { rocket, address: settings.listen(), reaper }, listening)
    }

    /// Serves until `stop` resolves, then waits for requests in progress.
    ///
    /// # Errors
    /// Returns an error if the address cannot be bound.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), LaunchError> {
        let Self { rocket, address, reaper } = self;
        let rocket = rocket.ignite().await.map_err(|error| LaunchError::new(address, &error))?;
        let shutdown = rocket.shutdown();
        spawn(async move {
            stop.await;
            shutdown.notify();
        });
        if let Err(error) = rocket.launch().await {
            match error.kind() {
                ErrorKind::Shutdown(rocket, _) => wait_for_requests(rocket).await,
                _ => return Err(LaunchError::new(address, &error)),
            }
        }
        drop(reaper.lock().take());
        Ok(())
    }
}

/// The steps that follow once the server listens.
struct Liftoff {
    cluster: Cluster,
    connections: ConnectionRegistry,
    bodies: BodyBudget,
    idle_timeouts: IdleTimeouts,
    write_deadline: Duration,
    reaper: Arc<Mutex<Option<Reaper>>>,
    address_sender: Mutex<Option<oneshot::Sender<SocketAddr>>>,
}

impl Liftoff {
    fn run(&self, address: SocketAddr) {
        self.cluster.listens_on(address);
        if let Err(error) = set_listener_options(address, self.write_deadline) {
            warn!(%error, "the listening socket keeps the system's backlog and deadlines");
        }
        match reaper::start(address, self.connections.clone(), self.bodies.clone(), self.idle_timeouts) {
            Ok(reaper) => *self.reaper.lock() = Some(reaper),
            Err(error) => {
                warn!(%error, "idle and half-open connections are not closed; put a proxy that closes them in front of the server")
            }
        }
        if let Some(address_sender) = self.address_sender.lock().take() {
            // A caller that does not want the address has dropped the receiver.
            let _ = address_sender.send(address);
        }
    }
}

/// Waits for requests that are still in progress after Rocket has ended, each of which holds a reference to it.
///
/// Rocket waits for them itself, except if its listener notices the shutdown before its main loop does.
async fn wait_for_requests(rocket: &Arc<Rocket<Orbit>>) {
    let deadline = Instant::now() + REQUESTS_TIMEOUT;
    while Arc::strong_count(rocket) > 1 {
        if Instant::now() > deadline {
            warn!("requests are still in progress and are aborted");
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Makes Rocket's configuration from the server's settings alone, without Rocket's own files and environment.
fn rocket_config(settings: &Settings) -> Config {
    Config {
        address: settings.address,
        port: settings.port,
        // Rocket would log query strings, which may contain tokens.
        log_level: LogLevel::Off,
        cli_colors: false,
        shutdown: Shutdown {
            ctrlc: false,
            signals: HashSet::new(),
            grace: 1,
            mercy: 1,
            force: false,
            ..Shutdown::default()
        },
        ident: Ident::none(),
        ..Config::release_default()
    }
}
