//! A server inside another program, as `callscope demo` and the tests use it.

use std::path::Path;

use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::StartError;
use crate::auth::{Role, Tokens};
use crate::http::launch::LaunchError;
use crate::live::Hub;
use crate::settings::{Flags, Settings, SettingsError};
use crate::store::{OpenError, Store};

/// For how long an embedded server's token holds, in seconds.
const TOKEN_SECS: i64 = 24 * 3600;

/// A running server on a free loopback port.
#[derive(Debug)]
pub struct Embedded {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// Signs its webhooks.
    pub webhook_secret: String,
    /// An admin's token.
    pub token: String,
    /// Who follows what in it.
    pub hub: Hub,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), LaunchError>>,
}

/// Why an embedded server did not start, in one line.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// A setting is wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database cannot be opened.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// The token cannot be signed.
    #[error(transparent)]
    Token(#[from] jsonwebtoken::errors::Error),
    /// The server could not be built.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The address could not be bound.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// The server's task panicked.
    #[error(transparent)]
    Task(#[from] JoinError),
    /// The server ended before it listened.
    #[error("it did not start")]
    EndedEarly,
}

impl Embedded {
    /// Starts one whose SQLite database and secrets lie in `dir`.
    ///
    /// # Errors
    /// What kept it from starting, in one line.
    pub async fn start(dir: &Path) -> Result<Self, EmbeddedError> {
        let database = sqlite_url(&dir.join("callscope.db"));
        let flags: Flags = vec![("port", "0".into()), ("address", "127.0.0.1".into()), ("database_url", database)];
        // Nothing of the surrounding environment and working directory: those are set for other servers.
        Self::with(&Settings::isolated(&flags)?).await
    }

    /// Starts one with these settings.
    ///
    /// # Errors
    /// What kept it from starting, in one line.
    pub async fn with(settings: &Settings) -> Result<Self, EmbeddedError> {
        let store = Store::open(settings.database_url.expose()).await?;
        let token = Tokens::of(&settings.jwt_secrets).mint_for("embedded", Role::Admin, TOKEN_SECS, None)?;
        let (server, listening) = crate::build(settings, store).await?;
        let hub = server.hub.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(server.serve(async move {
            // A dropped handle stops it too.
            let _ = stopped.await;
        }));
        let Ok(address) = listening.await else {
            served.await??;
            return Err(EmbeddedError::EndedEarly);
        };
        let webhook_secret =
            settings.webhook_secrets.first().map(|secret| secret.expose().to_owned()).unwrap_or_default();
        Ok(Self { url: format!("http://{address}"), webhook_secret, token, hub, stop, served })
    }

    /// Drains it and waits until it is gone.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.served.await;
    }
}

/// The URL of a file whose path may hold what means something in a URL.
fn sqlite_url(path: &Path) -> String {
    let path = path.display().to_string();
    format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"))
}
