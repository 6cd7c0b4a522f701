//! Settings: flag, else environment, else file, else default.

mod load;
mod secrets;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

pub use load::{Flags, Origin, SettingsError, Shown};

use crate::live::session::Timing;
use crate::retention::Kept;
use crate::shutdown::Drain;
use crate::store::ledger::UnknownCalls;

/// A text that no log, error or `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides `text`.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Whether webhooks must be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookAuth {
    /// They must.
    Required,
    /// Unsigned ones are taken; only on loopback.
    Off,
}

/// Everything that can be set.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Address to listen on.
    pub address: IpAddr,
    /// Port to listen on; 0 takes any free one.
    pub port: u16,
    /// `sqlite://…` or `postgres://…`; may hold a password.
    pub database_url: Secret,
    /// Joins server processes that share one PostgreSQL.
    pub redis_url: Option<Secret>,
    /// Any of them verifies a webhook.
    pub webhook_secrets: Vec<Secret>,
    /// Whether webhooks must be signed.
    pub webhook_auth: WebhookAuth,
    /// Seconds a signed time may lie in the past.
    pub webhook_tolerance: i64,
    /// HS256 key of the tokens, at least 32 bytes.
    pub jwt_secret: Secret,
    /// What to do with a webhook for a call nobody registered.
    pub unknown_calls: UnknownCalls,
    /// Browser origins allowed beside the server's own; `None`: only that.
    pub allowed_origins: Option<Vec<String>>,
    /// Days that ended calls are kept; 0 keeps them.
    pub retention_days: u32,
    /// How long, and how much of it, what came in is kept.
    pub deliveries_kept: Kept,
    /// What to log: `tracing`'s filter.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
    /// How long live things may take.
    pub timing: Timing,
    /// How clients are sent elsewhere before the server ends.
    pub drain: Drain,
    /// Where secrets that the server made up are kept; `None` where both were given.
    pub made_up: Option<PathBuf>,
    /// Each setting with its value, secrets hidden, and where it came from.
    pub shown: Vec<Shown>,
}

impl Settings {
    /// Where to listen.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Refuses to face the network with a secret nobody chose, or without checking signatures.
    ///
    /// # Errors
    /// What to set.
    pub fn check_exposure(&self) -> Result<(), SettingsError> {
        if self.address.is_loopback() {
            return Ok(());
        }
        let origin =
            |key: &str| self.shown.iter().find(|shown| shown.key == key).map_or(Origin::Default, |s| s.origin.clone());
        if self.webhook_auth == WebhookAuth::Off {
            return Err(SettingsError::new(
                "webhook_auth",
                origin("webhook_auth"),
                "`off` is only allowed on a loopback address",
            ));
        }
        if self.made_up.is_some() {
            return Err(SettingsError::new(
                "address",
                origin("address"),
                "the server listens only on loopback while a secret is one it made up: set CALLSCOPE_WEBHOOK_SECRETS and CALLSCOPE_JWT_SECRET",
            ));
        }
        Ok(())
    }
}
