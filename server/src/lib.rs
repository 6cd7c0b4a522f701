//! The Callscope server.
//!
//! A webhook comes in through [`routes`], is believed and read by [`ingest`], made durable by [`store`], announced through
//! [`live::broker`] to the [`live::hub`] and written to each follower by its [`live::feed`] or [`live::session`]. Arrows go one
//! way: routes → ingest → store; ingest's commits → broker → hub → session → store (reading).

pub mod auth;
pub mod embedded;
pub mod error;
pub mod ingest;
pub mod live;
pub mod origin;
mod retention;
pub mod routes;
pub mod settings;
pub mod shutdown;
pub mod store;
pub mod telemetry;

use std::net::SocketAddr;
use std::time::Instant;

use rocket::config::{LogLevel, Shutdown};
use rocket::fairing::AdHoc;
use rocket::tokio::sync::oneshot;
use rocket::tokio::task::JoinHandle;
use rocket::{Build, Config, Rocket};

use auth::Tokens;
use ingest::Ingest;
use ingest::signature::Checker;
use live::{Broker, Hub};
use origin::{Cors, Origins};
use routes::App;
use settings::Settings;
use store::{Appender, Store};

/// A server that is wired and not yet listening.
pub struct Server {
    /// Ready to be launched.
    pub rocket: Rocket<Build>,
    /// Who follows what.
    pub hub: Hub,
    /// The task that writes; ends when everything that could submit is gone and the queue is empty.
    pub writer: JoinHandle<()>,
    /// The address, once the server listens.
    pub listening: oneshot::Receiver<SocketAddr>,
    address: SocketAddr,
    background: Vec<JoinHandle<()>>,
}

/// Wires everything: settings and a database become a server.
#[must_use]
pub fn build(settings: &Settings, store: Store) -> Server {
    let hub = Hub::default();
    let broker = Broker::Local(hub.clone());
    let on_commit = Box::new(move |wakes| broker.announce(wakes));
    let (appender, writer) = Appender::start(store.clone(), settings.unknown_calls, on_commit);
    let mut background = vec![rocket::tokio::spawn(live::sweep::run(store.clone(), hub.clone()))];
    if settings.retention_days > 0 {
        let sweep = retention::run(store.clone(), appender.clone(), settings.retention_days);
        background.push(rocket::tokio::spawn(sweep));
    }
    let checker = Checker::new(settings.webhook_auth, settings.webhook_secrets.clone(), settings.webhook_tolerance);
    let origins = Origins(settings.allowed_origins.clone());
    let app = App {
        ingest: Ingest::new(checker, appender.clone()),
        tokens: Tokens::new(&settings.jwt_secret),
        origins: origins.clone(),
        timing: settings.timing,
        budget: routes::webhook::Budget::default(),
        node: uuid::Uuid::new_v4().simple().to_string()[..12].to_owned(),
        started: Instant::now(),
        hub: hub.clone(),
        store,
        appender,
    };
    let (bound, listening) = oneshot::channel();
    let bound = parking_lot::Mutex::new(Some(bound));
    let rocket = routes::mount(rocket::custom(config(settings)))
        .manage(app)
        .attach(Cors(origins))
        .attach(telemetry::RequestLog)
        .attach(AdHoc::on_liftoff("address", move |rocket| {
            let address = SocketAddr::new(rocket.config().address, rocket.config().port);
            if let Some(bound) = bound.lock().take() {
                // Nobody waiting is no error: the log says it too.
                let _ = bound.send(address);
            }
            Box::pin(async {})
        }));
    Server { rocket, hub, writer, listening, background, address: settings.listen() }
}

impl Server {
    /// Serves until `stop` resolves, then drains and ends.
    ///
    /// # Errors
    /// The address could not be bound.
    pub async fn serve(self, store: Store, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), String> {
        let Self { rocket, hub, writer, background, address, .. } = self;
        let rocket = rocket.ignite().await.map_err(|error| error_text(address, &error))?;
        let shutdown = rocket.shutdown();
        rocket::tokio::spawn(async move {
            stop.await;
            shutdown::drain(&hub).await;
            shutdown.notify();
        });
        let rocket = rocket.launch().await.map_err(|error| error_text(address, &error))?;
        for task in background {
            task.abort();
        }
        // The last handles of the write path go with it; then the queue runs empty.
        drop(rocket);
        let _ = rocket::tokio::time::timeout(std::time::Duration::from_secs(2), writer).await;
        store.close().await;
        Ok(())
    }
}

fn error_text(address: SocketAddr, error: &rocket::Error) -> String {
    use rocket::error::ErrorKind;
    let text = match error.kind() {
        ErrorKind::Bind(error) => format!("cannot listen on {address}: {error}"),
        ErrorKind::Io(error) => format!("cannot serve: {error}"),
        kind => format!("cannot start: {kind}"),
    };
    callscope_common::text::one_line(&text).into_owned()
}

/// Rocket's own configuration comes from our settings alone, never from its files or environment.
fn config(settings: &Settings) -> Config {
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
