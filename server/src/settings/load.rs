//! Reads the settings of a process.

use std::path::Path;

use callscope_common::text::one_line;

use super::keys::{PREFIX, is_unknown, nearest, variable};
use super::sources::RawSettings;
use super::{Flags, Origin, Settings, SettingsError};
use crate::log::UnknownCalls;
use crate::policy::{BODY_MEMORY, DeliveryRetention, DrainPolicy, IdleTimeouts, Timing, WebhookAuth};

/// The settings file in the working directory.
const SETTINGS_FILE: &str = "callscope.toml";
/// Maximum number of characters of a variable's name in a warning.
const MAX_SHOWN_NAME: usize = 64;

impl Settings {
    /// Reads the settings from the flags, this process's environment and the settings file.
    ///
    /// # Errors
    /// Returns an error for the first setting that is wrong.
    pub fn load(flags: &Flags) -> Result<Self, SettingsError> {
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            match value.into_string() {
                Ok(value) => environment.push((name.to_owned(), value)),
                Err(_) => {
                    let key = name.trim_start_matches(PREFIX).to_lowercase();
                    return Err(SettingsError::new(&key, Origin::Environment(name.to_owned()), "is not UTF-8"));
                }
            }
        }
        Self::load_from(flags, &environment)
    }

    /// Reads the settings from the given flags and environment, and from the settings file. Of several values of one
    /// variable, the first counts.
    ///
    /// # Errors
    /// Returns an error for the first setting that is wrong.
    pub fn load_from(flags: &Flags, environment: &[(String, String)]) -> Result<Self, SettingsError> {
        Self::read(flags, environment, Some(Path::new(SETTINGS_FILE)))
    }

    /// Reads the settings from the given flags alone. The environment and the working directory are meant for other
    /// servers.
    ///
    /// # Errors
    /// Returns an error for the first setting that is wrong.
    pub fn isolated(flags: &Flags) -> Result<Self, SettingsError> {
        Self::read(flags, &[], None)
    }

    fn read(flags: &Flags, environment: &[(String, String)], file: Option<&Path>) -> Result<Self, SettingsError> {
        let raw = RawSettings::gather(flags, environment, file)?;
        let database_url = raw.database_url()?;
        let secrets = raw.secrets(&database_url)?;
        Ok(Self {
            timing: timing(&raw)?,
            drain: DrainPolicy { rate: raw.rate("drain_rate")?, deadline: raw.seconds("drain_deadline")? },
            address: raw.address()?,
            port: raw.parse("port", "a port, 0 to 65535")?,
            public_url: raw.public_url()?,
            redis_url: raw.redis_url()?,
            webhook_auth: raw
                .one_of("webhook_auth", &[("required", WebhookAuth::Required), ("off", WebhookAuth::Off)])?,
            webhook_tolerance: raw.parse::<u32>("webhook_tolerance", "whole seconds")?.into(),
            max_post_call_mib: raw.number("max_post_call_mib", 1, 4_096)?,
            body_memory: BODY_MEMORY,
            trusted_variable: raw.optional("trusted_variable")?.map(|name| name.trim().to_owned()),
            max_connections: raw
                .optional("max_connections")?
                .map(|_| raw.connection_limit("max_connections"))
                .transpose()?,
            max_connections_per_token: raw.connection_limit("max_connections_per_token")?,
            max_connections_per_address: raw.connection_limit("max_connections_per_address")?,
            unknown_calls: raw
                .one_of("unknown_calls", &[("create", UnknownCalls::Create), ("reject", UnknownCalls::Reject)])?,
            allowed_origins: raw.origins()?,
            retention_days: raw.parse("retention_days", "whole days")?,
            delivery_retention: DeliveryRetention {
                days: raw.parse("delivery_retention_days", "whole days")?,
                megabytes: raw.parse("delivery_max_mb", "whole megabytes")?,
            },
            log: raw.text("log")?,
            log_format: raw.one_of("log_format", &[("text", "text"), ("json", "json")])?.to_owned(),
            idle_timeouts: IdleTimeouts { head: raw.seconds("head_deadline")?, idle: raw.seconds("idle_timeout")? },
            effective: raw.effective(&secrets.generated)?,
            unknown_variables: unknown_variables(environment, secrets.file.is_some()),
            secrets_file: secrets.file,
            webhook_secrets: secrets.webhook_secrets,
            jwt_secrets: secrets.jwt_secrets,
            database_url,
            config_file: raw.file,
        })
    }
}

fn timing(raw: &RawSettings) -> Result<Timing, SettingsError> {
    Ok(Timing {
        ping_interval: raw.seconds("ping_interval")?,
        pong_timeout: raw.seconds("pong_timeout")?,
        write_deadline: raw.seconds("write_deadline")?,
        storage_deadline: raw.seconds("storage_deadline")?,
    })
}

/// Returns a warning for each variable that looks like a setting of the server but is not one.
fn unknown_variables(environment: &[(String, String)], has_generated_secrets: bool) -> Vec<String> {
    // The client signs with this variable, so it is known. But if the server has generated its secrets, it was probably
    // meant for the server.
    let is_misplaced = |name: &str| has_generated_secrets && name == "CALLSCOPE_WEBHOOK_SECRET";
    let names = environment.iter().map(|(name, _)| name.as_str());
    names
        .filter(|name| is_unknown(name) || is_misplaced(name))
        .map(|name| {
            let shown: String = one_line(name).chars().take(MAX_SHOWN_NAME).collect();
            let (near, _) = nearest(name.trim_start_matches(PREFIX));
            format!("{shown} is not a setting and has no effect; the nearest one is {}", variable(near))
        })
        .collect()
}
