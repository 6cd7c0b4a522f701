//! Parses settings; an error says what the setting takes.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use url::Url;

use super::sources::RawSettings;
use super::{Origin, SettingsError};
use crate::secret::Secret;
use crate::settings::secrets::{Secrets, fill_in};
use crate::store::sqlite_path;

/// The largest value of a limit of connections.
const MAX_CONNECTION_LIMIT: u64 = 10_000_000;

impl RawSettings {
    /// Reads a text; a blank one counts as unset.
    pub fn optional(&self, key: &str) -> Result<Option<String>, SettingsError> {
        Ok(Some(self.text(key)?).filter(|text| !text.trim().is_empty()))
    }

    pub fn parse<T: std::str::FromStr>(&self, key: &str, expected: &str) -> Result<T, SettingsError> {
        self.text(key)?.trim().parse().map_err(|_| self.expected_error(key, expected))
    }

    pub fn number(&self, key: &str, min: u64, max: u64) -> Result<u64, SettingsError> {
        let expected = format!("a whole number from {min} to {max}");
        let number = self.parse(key, &expected)?;
        Some(number).filter(|number| (min..=max).contains(number)).ok_or_else(|| self.expected_error(key, &expected))
    }

    pub fn connection_limit(&self, key: &str) -> Result<u64, SettingsError> {
        self.number(key, 1, MAX_CONNECTION_LIMIT)
    }

    pub fn seconds(&self, key: &str) -> Result<Duration, SettingsError> {
        let secs: f64 = self.parse(key, "seconds")?;
        Duration::try_from_secs_f64(secs)
            .ok()
            .filter(|duration| !duration.is_zero() && duration.as_secs() < 1_000_000)
            .ok_or_else(|| self.expected_error(key, "seconds above 0 and below 1000000"))
    }

    /// Reads a number a second.
    pub fn rate(&self, key: &str) -> Result<f64, SettingsError> {
        let expected = "a number a second, from 0.1 to 1000000";
        let rate: f64 = self.parse(key, expected)?;
        Some(rate).filter(|rate| (0.1..=1e6).contains(rate)).ok_or_else(|| self.expected_error(key, expected))
    }

    /// Reads one of these words, in upper or lower case.
    pub fn one_of<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, SettingsError> {
        let text = self.text(key)?;
        let choice = choices.iter().find(|(name, _)| *name == text.trim().to_lowercase());
        choice.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.expected_error(key, &names.join(" or "))
        })
    }

    /// Reads a list with commas; empty items are left out.
    fn list(&self, key: &str) -> Result<Vec<String>, SettingsError> {
        let text = self.text(key)?;
        Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
    }

    /// Reads the URL of the database. It refuses a path that cannot be a database, before the file of secrets is
    /// created beside it.
    pub fn database_url(&self) -> Result<Secret, SettingsError> {
        let url = Secret::new(self.text("database_url")?);
        if url.expose().starts_with("sqlite:") {
            let checked = sqlite_path::path(url.expose()).and_then(|path| sqlite_path::resolve(&path));
            checked
                .map_err(|error| SettingsError::new("database_url", self.origin("database_url"), error.to_string()))?;
        } else if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
            return Err(self.expected_error("database_url", "sqlite://… or postgres://…"));
        }
        Ok(url)
    }

    pub fn redis_url(&self) -> Result<Option<Secret>, SettingsError> {
        let Some(url) = self.optional("redis_url")? else { return Ok(None) };
        match crate::cluster::address(url.trim()) {
            Ok(_) => Ok(Some(Secret::new(url.trim().to_owned()))),
            Err(error) => Err(self.expected_error("redis_url", &error.to_string())),
        }
    }

    pub fn public_url(&self) -> Result<Option<Url>, SettingsError> {
        let Some(text) = self.optional("public_url")? else { return Ok(None) };
        let is_base_url = |url: &Url| {
            ["http", "https"].contains(&url.scheme())
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        };
        Url::parse(text.trim()).ok().filter(is_base_url).map(Some).ok_or_else(|| {
            self.expected_error(
                "public_url",
                "an http:// or https:// URL without a query, such as https://calls.example.com",
            )
        })
    }

    pub fn address(&self) -> Result<IpAddr, SettingsError> {
        match self.text("address")?.trim() {
            "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            text => text.parse().map_err(|_| self.expected_error("address", "an IP address, such as 127.0.0.1 or ::")),
        }
    }

    pub fn origins(&self) -> Result<Option<Vec<String>>, SettingsError> {
        let origins = self.list("allowed_origins")?;
        let is_origin = |origin: &String| {
            origin == "*" || origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'))
        };
        if !origins.iter().all(is_origin) {
            let expected = "origins such as https://desk.example.com, separated by commas, or *";
            return Err(self.expected_error("allowed_origins", expected));
        }
        Ok((!origins.is_empty()).then(|| origins.iter().map(|origin| origin.to_lowercase()).collect()))
    }

    /// Reads the secrets, and generates those that are not set.
    pub fn secrets(&self, database_url: &Secret) -> Result<Secrets, SettingsError> {
        let webhook_secrets: Vec<Secret> = self.list("webhook_secrets")?.into_iter().map(Secret::new).collect();
        let jwt_secrets: Vec<Secret> = self.list("jwt_secret")?.into_iter().map(Secret::new).collect();
        if jwt_secrets.iter().any(|secret| secret.expose().len() < 32) {
            return Err(self.expected_error("jwt_secret", "keys of at least 32 bytes each, separated by commas"));
        }
        fill_in(webhook_secrets, jwt_secrets, database_url)
            .map_err(|(path, error)| SettingsError::new("secrets", Origin::File(path), error.to_string()))
    }
}
