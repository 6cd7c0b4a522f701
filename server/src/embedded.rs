//! A server inside another program, for `callscope demo` and for tests.

use std::path::Path;

use callscope_common::claims::Role;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use crate::StartError;
use crate::auth::Tokens;
use crate::http::launch::LaunchError;
use crate::live::Hub;
use crate::settings::{Flags, Settings, SettingsError};
use crate::store::{OpenError, Store};

/// Lifetime of [`Embedded::token`], in seconds.
const TOKEN_SECS: i64 = 24 * 3600;

/// A running server on a free loopback port.
#[derive(Debug)]
pub struct Embedded {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// The secret that webhooks to it are signed with.
    pub webhook_secret: String,
    /// An admin's token.
    pub token: String,
    /// Every followed call and every connection of the server.
    pub hub: Hub,
    stop: oneshot::Sender<()>,
    serve_task: JoinHandle<Result<(), LaunchError>>,
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
    #[error("the server ended before it listened")]
    EndedEarly,
}

impl Embedded {
    /// Starts a server whose SQLite database and secrets are in `dir`.
    ///
    /// # Errors
    /// Returns why it did not start.
    pub async fn start(dir: &Path) -> Result<Self, EmbeddedError> {
        let database = sqlite_url(&dir.join("callscope.db"));
        let flags: Flags = vec![("port", "0".into()), ("address", "127.0.0.1".into()), ("database_url", database)];
        Self::start_with(&Settings::isolated(&flags)?).await
    }

    /// Starts a server with these settings.
    ///
    /// # Errors
    /// Returns why it did not start.
    pub async fn start_with(settings: &Settings) -> Result<Self, EmbeddedError> {
        let store = Store::open(settings.database_url.expose()).await?;
        let token = Tokens::of(&settings.jwt_secrets).mint_for("embedded", Role::Admin, TOKEN_SECS, None)?;
        let (server, listening) = crate::build(settings, store).await?;
        let hub = server.hub.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve_task = tokio::spawn(server.serve(async move {
            // The server also stops when its `Embedded` is dropped.
            let _ = stopped.await;
        }));
        let Ok(address) = listening.await else {
            serve_task.await??;
            return Err(EmbeddedError::EndedEarly);
        };
        let webhook_secret =
            settings.webhook_secrets.first().map(|secret| secret.expose().to_owned()).unwrap_or_default();
        Ok(Self { url: format!("http://{address}"), webhook_secret, token, hub, stop, serve_task })
    }

    /// Drains the server and waits until it has ended.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        let _ = self.serve_task.await;
    }
}

/// Returns the database URL of a file, in which the characters are escaped that have a meaning in a URL.
fn sqlite_url(path: &Path) -> String {
    let path = path.display().to_string();
    format!("sqlite://{}", path.replace('%', "%25").replace('?', "%3F").replace('#', "%23"))
}
