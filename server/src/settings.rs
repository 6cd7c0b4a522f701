//! Settings: flag, else environment, else file, else default.

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
    /// HS256 keys of the tokens, at least 32 bytes each: the first signs, any verifies.
    pub jwt_secrets: Vec<Secret>,
    /// The base URL by which providers and browsers reach the server.
    pub public_url: Option<Url>,
    /// Largest post-call webhook, in MiB.
    pub max_post_call_mib: u64,
    /// Bytes that arriving bodies may take in memory together: [`BODY_MEMORY`](crate::policy::BODY_MEMORY), which no setting changes.
    pub body_memory: u64,
    /// A dynamic variable that only the operator's own backend sets: its value may name a call.
    pub trusted_variable: Option<String>,
    /// Most live connections in all; `None`: what the limit of descriptors leaves.
    pub max_connections: Option<u64>,
    /// Most live connections of one token.
    pub max_connections_per_token: u64,
    /// Most live connections from one IP address.
    pub max_connections_per_address: u64,
    /// What to do with a webhook for a call nobody registered.
    pub unknown_calls: UnknownCalls,
    /// Browser origins allowed beside the server's own; `None`: only that.
    pub allowed_origins: Option<Vec<String>>,
    /// Days that ended calls are kept; 0 keeps them.
    pub retention_days: u32,
    /// How long, and how much of it, what came in is kept.
    pub delivery_retention: DeliveryRetention,
    /// What to log: `tracing`'s filter.
    pub log: String,
    /// `text` or `json`.
    pub log_format: String,
    /// How long live things may take.
    pub timing: Timing,
    /// How long a connection may stay without a request.
    pub idle_timeouts: IdleTimeouts,
    /// How clients are sent elsewhere before the server ends.
    pub drain: DrainPolicy,
    /// Where secrets that the server made up are kept; `None` where both were given.
    pub secrets_file: Option<PathBuf>,
    /// The settings file that was read.
    pub config_file: Option<PathBuf>,
    /// A sentence on each environment variable that looks like a setting and is none.
    pub unknown_variables: Vec<String>,
    /// Each setting with its value, secrets hidden, and where it came from.
    pub effective: Vec<EffectiveSetting>,
}

impl Settings {
    /// Where to listen.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Where a setting came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.effective
            .iter()
            .find(|setting| setting.key == key)
            .map_or(Origin::Default, |setting| setting.origin.clone())
    }

    /// Tells that a setting is wrong in a way that only using it could show.
    #[must_use]
    pub fn refuse(&self, key: &str, problem: impl Into<String>) -> SettingsError {
        SettingsError::new(key, self.origin(key), problem)
    }

    /// Refuses to face the network with a secret nobody chose, or without checking signatures.
    ///
    /// # Errors
    /// What to set.
    pub fn check_exposure(&self) -> Result<(), SettingsError> {
        if self.address.is_loopback() {
            return Ok(());
        }
        if self.webhook_auth == WebhookAuth::Off {
            return Err(SettingsError::new(
                "webhook_auth",
                self.origin("webhook_auth"),
                "`off` is only allowed on a loopback address",
            ));
        }
        if self.secrets_file.is_some() {
            return Err(SettingsError::new(
                "address",
                self.origin("address"),
                "the server listens only on loopback while a secret is one it made up: set CALLSCOPE_WEBHOOK_SECRETS and CALLSCOPE_JWT_SECRET",
            ));
        }
        Ok(())
    }
}
