//! The settings of a server: flag over environment over file over default.

mod keys;
mod load;
#[cfg(test)]
mod load_tests;
mod origin;
mod secrets;
mod sources;
mod values;
mod warnings;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use url::Url;

pub use origin::{EffectiveSetting, Origin, SettingsError};

use crate::log::UnknownCalls;
use crate::policy::{DeliveryRetention, DrainPolicy, IdleTimeouts, Timing, WebhookAuth};
use crate::secret::Secret;

/// Settings given on the command line, by key.
pub type Flags = Vec<(&'static str, String)>;

/// Every setting of the server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to listen on.
    pub address: IpAddr,
    /// The port to listen on; 0 takes any free one.
    pub port: u16,
    /// `sqlite://…` or `postgres://…`. It may hold a password.
    pub database_url: Secret,
    /// The Redis that links server processes which share one PostgreSQL.
    pub redis_url: Option<Secret>,
    /// The secrets of webhooks. Any of them verifies.
    pub webhook_secrets: Vec<Secret>,
    /// Whether webhooks must be signed.
    pub webhook_auth: WebhookAuth,
    /// Maximum age of a signed time, in seconds.
    pub webhook_tolerance: i64,
    /// The HS256 keys of tokens, of at least 32 bytes each. The first one signs, and any of them verifies.
    pub jwt_secrets: Vec<Secret>,
    /// The base URL by which providers and browsers reach the server.
    pub public_url: Option<Url>,
    /// Maximum length of a post-call webhook, in MiB.
    pub max_post_call_mib: u64,
    /// Bytes of memory that arriving bodies may take together. This is [`BODY_MEMORY`](crate::policy::BODY_MEMORY),
    /// which no setting changes.
    pub body_memory: u64,
    /// The dynamic variable that may name a call, because only the operator's own backend sets it.
    pub trusted_variable: Option<String>,
    /// Maximum number of live connections; `None` allows as many as there are descriptors for them.
    pub max_connections: Option<u64>,
    /// Maximum number of live connections of one token.
    pub max_connections_per_token: u64,
    /// Maximum number of live connections from one IP address.
    pub max_connections_per_address: u64,
    /// What to do with a webhook for a call that is not registered.
    pub unknown_calls: UnknownCalls,
    /// Browser origins that are allowed besides the server's own. `None` allows only that.
    pub allowed_origins: Option<Vec<String>>,
    /// Days for which ended calls are kept; 0 keeps them for ever.
    pub retention_days: u32,
    /// How many headers and bodies of deliveries are kept, and for how long.
    pub delivery_retention: DeliveryRetention,
    /// The filter of the log, in `tracing`'s syntax.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
    /// The deadlines of live connections.
    pub timing: Timing,
    /// How long an HTTP connection may stay open without a request in progress.
    pub idle_timeouts: IdleTimeouts,
    /// How fast clients are told to leave before the server ends, and for how long.
    pub drain: DrainPolicy,
    /// The file of secrets that the server generated; `None` if the webhook secrets and the JWT secret are set.
    pub secrets_file: Option<PathBuf>,
    /// The settings file that was read, if any.
    pub config_file: Option<PathBuf>,
    /// A warning for each environment variable that looks like a setting of the server but is not one.
    pub unknown_variables: Vec<String>,
    /// Each setting with its value and its origin. Secrets are hidden.
    pub effective: Vec<EffectiveSetting>,
}

impl Settings {
    /// Returns the address and port to listen on.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Returns where a setting came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.effective
            .iter()
            .find(|setting| setting.key == key)
            .map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// Makes an error for a setting that turned out to be wrong when it was used.
    #[must_use]
    pub fn error(&self, key: &str, problem: impl Into<String>) -> SettingsError {
        SettingsError::new(key, self.origin(key), problem)
    }

    /// Refuses to listen beyond loopback without verifying signatures, or with a secret that the server generated.
    ///
    /// # Errors
    /// Returns an error that says which setting to change.
    pub fn check_exposure(&self) -> Result<(), SettingsError> {
        if self.address.is_loopback() {
            return Ok(());
        }
        if self.webhook_auth == WebhookAuth::Off {
            return Err(self.error("webhook_auth", "`off` is only allowed on a loopback address"));
        }
        if self.secrets_file.is_some() {
            return Err(self.error(
                "address",
                "with a generated secret the server listens only on loopback: set CALLSCOPE_WEBHOOK_SECRETS and CALLSCOPE_JWT_SECRET",
            ));
        }
        Ok(())
    }
}
