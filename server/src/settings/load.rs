//! Reading settings through figment, with a clear word on each that is wrong.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::providers::{Format, Serialized, Toml};
use figment::value::Value;
use figment::{Figment, Source};

use super::secrets::{MadeUp, make_up};
use super::{Secret, Settings, WebhookAuth};
use crate::live::session::Timing;
use crate::retention::Kept;
use crate::shutdown::Drain;
use crate::store::ledger::UnknownCalls;

/// The environment's prefix.
const PREFIX: &str = "CALLSCOPE_";
/// The settings file in the working directory.
const FILE: &str = "callscope.toml";

/// A setting, its default, and whether it is a secret.
const KEYS: [(&str, &str, bool); 21] = [
    ("address", "127.0.0.1", false),
    ("port", "8000", false),
    ("database_url", "sqlite://callscope.db", true),
    ("redis_url", "", true),
    ("webhook_secrets", "", true),
    ("webhook_auth", "required", false),
    ("webhook_tolerance", "1800", false),
    ("jwt_secret", "", true),
    ("unknown_calls", "create", false),
    ("allowed_origins", "", false),
    ("retention_days", "0", false),
    ("delivery_retention_days", "0", false),
    ("delivery_max_mb", "0", false),
    ("log", "info", false),
    ("log_format", "text", false),
    ("ping_interval", "25", false),
    ("pong_timeout", "60", false),
    ("write_deadline", "10", false),
    ("storage_deadline", "60", false),
    ("drain_deadline", "8", false),
    ("drain_rate", "500", false),
];

/// Settings given on the command line, by key.
pub type Flags = Vec<(&'static str, String)>;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag(&'static str),
    /// An environment variable.
    Environment(String),
    /// A file.
    File(PathBuf),
    /// Made up by the server and kept in this file.
    MadeUp(PathBuf),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "flag --{}", key.replace('_', "-")),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::MadeUp(path) => write!(f, "made up, kept in {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting as `config show` prints it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its key.
    pub key: &'static str,
    /// Its value; secrets hidden.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// A setting that is wrong: one line that names it and where it came from, without its value.
#[derive(Debug, thiserror::Error)]
#[error("setting `{key}` ({origin}): {problem}")]
pub struct SettingsError {
    key: String,
    origin: Origin,
    problem: String,
}

impl SettingsError {
    pub(super) fn new(key: &str, origin: Origin, problem: impl Into<String>) -> Self {
        Self { key: key.to_owned(), origin, problem: problem.into() }
    }
}

impl Settings {
    /// Reads the settings of this process.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn load(flags: &Flags) -> Result<Self, SettingsError> {
        let environment: Vec<(String, String)> = std::env::vars().collect();
        Self::from(flags, &environment)
    }

    /// Reads the settings from the given flags and environment, and from the file those name.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn from(flags: &Flags, environment: &[(String, String)]) -> Result<Self, SettingsError> {
        let raw = Raw::gather(flags, environment)?;
        let database_url = Secret::new(raw.text("database_url")?);
        if !["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| database_url.expose().starts_with(scheme)) {
            return Err(raw.wrong("database_url", "sqlite://… or postgres://…"));
        }
        let secrets = raw.secrets(&database_url)?;
        let timing = Timing {
            ping_interval: raw.seconds("ping_interval")?,
            pong_timeout: raw.seconds("pong_timeout")?,
            write_deadline: raw.seconds("write_deadline")?,
            storage_deadline: raw.seconds("storage_deadline")?,
        };
        let drain = Drain { rate: raw.rate("drain_rate")?, deadline: raw.seconds("drain_deadline")? };
        let mut settings = Self {
            address: raw.address()?,
            port: raw.parse("port", "a port, 0 to 65535")?,
            redis_url: raw.redis_url()?,
            webhook_auth: raw
                .one_of("webhook_auth", &[("required", WebhookAuth::Required), ("off", WebhookAuth::Off)])?,
            webhook_tolerance: raw.parse::<u32>("webhook_tolerance", "whole seconds")?.into(),
            unknown_calls: raw
                .one_of("unknown_calls", &[("create", UnknownCalls::Create), ("reject", UnknownCalls::Reject)])?,
            allowed_origins: raw.origins()?,
            retention_days: raw.parse("retention_days", "whole days")?,
            deliveries_kept: Kept {
                days: raw.parse("delivery_retention_days", "whole days")?,
                megabytes: raw.parse("delivery_max_mb", "whole megabytes")?,
            },
            log: raw.text("log")?,
            log_format: raw.one_of("log_format", &[("text", "text"), ("json", "json")])?.to_owned(),
            timing,
            drain,
            made_up: secrets.made_up.then_some(secrets.path.clone()),
            webhook_secrets: secrets.webhook_secrets,
            jwt_secret: secrets.jwt_secret,
            database_url,
            shown: Vec::new(),
        };
        settings.shown = raw.shown(&secrets.origins)?;
        Ok(settings)
    }
}

/// The settings as given, before they mean anything.
struct Raw {
    figment: Figment,
}

impl Raw {
    fn gather(flags: &Flags, environment: &[(String, String)]) -> Result<Self, SettingsError> {
        let variable = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let mut figment = Figment::new();
        for (key, value, _) in KEYS {
            figment = figment.merge(Serialized::default(key, value));
        }
        let named = variable("CALLSCOPE_CONFIG").map(PathBuf::from);
        let path = named.clone().unwrap_or_else(|| PathBuf::from(FILE));
        if named.is_some() && !path.is_file() {
            let origin = Origin::Environment("CALLSCOPE_CONFIG".into());
            return Err(SettingsError::new("config", origin, format!("no file at {}", path.display())));
        }
        if path.is_file() {
            figment = figment.merge(Toml::file_exact(&path));
            Self::check_file(&figment, &path)?;
        }
        for (key, ..) in KEYS {
            let name = format!("{PREFIX}{}", key.to_uppercase());
            if let Some(value) = variable(&name) {
                // As text, whatever it looks like: a secret of digits is no number.
                figment = figment.merge(Named { name, key, value });
            }
        }
        for (key, value) in flags {
            figment = figment.merge(Named { name: format!("--{key}"), key, value: value.clone() });
        }
        Ok(Self { figment })
    }

    fn check_file(figment: &Figment, path: &Path) -> Result<(), SettingsError> {
        let file = || Origin::File(path.to_owned());
        let all: figment::value::Dict =
            figment.extract().map_err(|error| SettingsError::new("file", file(), one_line(&error.to_string())))?;
        match all.keys().find(|key| !KEYS.iter().any(|(known, ..)| known == key)) {
            Some(unknown) => Err(SettingsError::new(unknown, file(), "there is no such setting")),
            None => Ok(()),
        }
    }

    fn origin(&self, key: &str) -> Origin {
        let Some(metadata) = self.figment.find_metadata(key) else { return Origin::Default };
        match &metadata.source {
            Some(Source::File(path)) => Origin::File(path.clone()),
            _ if metadata.name.starts_with("--") => {
                KEYS.iter().find(|(known, ..)| *known == key).map_or(Origin::Default, |(known, ..)| Origin::Flag(known))
            }
            _ if metadata.name.starts_with(PREFIX) => Origin::Environment(metadata.name.clone().into_owned()),
            _ => Origin::Default,
        }
    }

    fn wrong(&self, key: &str, expected: &str) -> SettingsError {
        SettingsError::new(key, self.origin(key), format!("takes {expected}"))
    }

    /// The value as text; lists of the file are joined by commas.
    fn text(&self, key: &str) -> Result<String, SettingsError> {
        let value = self.figment.find_value(key).map_err(|_| self.wrong(key, "a value"))?;
        spell(&value).ok_or_else(|| self.wrong(key, "a text, a number or a list of texts"))
    }

    fn optional(&self, key: &str) -> Result<Option<String>, SettingsError> {
        Ok(Some(self.text(key)?).filter(|text| !text.trim().is_empty()))
    }

    fn list(&self, key: &str) -> Result<Vec<String>, SettingsError> {
        let text = self.text(key)?;
        Ok(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
    }

    fn parse<T: std::str::FromStr>(&self, key: &str, expected: &str) -> Result<T, SettingsError> {
        self.text(key)?.trim().parse().map_err(|_| self.wrong(key, expected))
    }

    fn seconds(&self, key: &str) -> Result<Duration, SettingsError> {
        let secs: f64 = self.parse(key, "seconds")?;
        Duration::try_from_secs_f64(secs)
            .ok()
            .filter(|d| !d.is_zero() && d.as_secs() < 1_000_000)
            .ok_or_else(|| self.wrong(key, "seconds above 0"))
    }

    /// So many a second.
    fn rate(&self, key: &str) -> Result<f64, SettingsError> {
        let rate: f64 = self.parse(key, "a number a second")?;
        Some(rate).filter(|rate| (0.1..=1e6).contains(rate)).ok_or_else(|| self.wrong(key, "a number a second above 0"))
    }

    fn redis_url(&self) -> Result<Option<Secret>, SettingsError> {
        let Some(url) = self.optional("redis_url")? else { return Ok(None) };
        match crate::live::broker::address(url.trim()) {
            Ok(_) => Ok(Some(Secret::new(url.trim().to_owned()))),
            Err(expected) => Err(self.wrong("redis_url", expected)),
        }
    }

    fn one_of<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, SettingsError> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == text.trim().to_lowercase());
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
            self.wrong(key, &names.join(" or "))
        })
    }

    fn address(&self) -> Result<IpAddr, SettingsError> {
        match self.text("address")?.trim() {
            "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            text => text.parse().map_err(|_| self.wrong("address", "an IP address, such as 127.0.0.1 or ::")),
        }
    }

    fn origins(&self) -> Result<Option<Vec<String>>, SettingsError> {
        let origins = self.list("allowed_origins")?;
        let is_origin = |origin: &String| {
            origin == "*" || origin.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'))
        };
        match origins.iter().all(is_origin) {
            true => Ok((!origins.is_empty()).then(|| origins.iter().map(|origin| origin.to_lowercase()).collect())),
            false => {
                Err(self
                    .wrong("allowed_origins", "origins such as https://desk.example.com, separated by commas, or *"))
            }
        }
    }

    fn secrets(&self, database_url: &Secret) -> Result<MadeUp, SettingsError> {
        let webhook_secrets: Vec<Secret> = self.list("webhook_secrets")?.into_iter().map(Secret::new).collect();
        let jwt_secret = self.optional("jwt_secret")?.map(Secret::new);
        if jwt_secret.as_ref().is_some_and(|secret| secret.expose().len() < 32) {
            return Err(self.wrong("jwt_secret", "at least 32 bytes"));
        }
        make_up(webhook_secrets, jwt_secret, database_url)
            .map_err(|(path, problem)| SettingsError::new("secrets", Origin::File(path), problem))
    }

    fn shown(&self, made_up: &[(&'static str, Origin)]) -> Result<Vec<Shown>, SettingsError> {
        KEYS.iter()
            .map(|(key, _, is_secret)| {
                let origin = made_up.iter().find(|(name, _)| name == key).map(|(_, origin)| origin.clone());
                let value = self.text(key)?;
                let value = match (*is_secret, origin.is_some() || !value.is_empty()) {
                    (true, true) if *key == "database_url" => hide_password(&value),
                    (true, true) => "[secret]".to_owned(),
                    _ => value,
                };
                Ok(Shown { key, value, origin: origin.unwrap_or_else(|| self.origin(key)) })
            })
            .collect()
    }
}

/// A value from the environment or the command line.
struct Named {
    name: String,
    key: &'static str,
    value: String,
}

impl figment::Provider for Named {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<figment::value::Map<figment::Profile, figment::value::Dict>, figment::Error> {
        let dict = [(self.key.to_owned(), Value::from(self.value.clone()))].into_iter().collect();
        Ok([(figment::Profile::Default, dict)].into_iter().collect())
    }
}

fn spell(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Num(_, number) => number
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| number.to_u128().map(|n| n.to_string()))
            .or_else(|| number.to_f64().map(|n| n.to_string())),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Array(_, items) => {
            let parts: Option<Vec<String>> = items.iter().map(spell).collect();
            Some(parts?.join(","))
        }
        _ => None,
    }
}

/// A URL without its password and its query.
fn hide_password(url: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, ""), |(base, _)| (base, "?[hidden]"));
    match base.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (user, host))) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:[secret]@{host}{query}")
        }
        None => format!("{base}{query}"),
    }
}

fn one_line(text: &str) -> String {
    callscope_common::text::one_line(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(environment: &[(&str, &str)]) -> Result<Settings, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", dir.path().join("x.db").display());
        let mut variables = vec![("CALLSCOPE_DATABASE_URL".to_owned(), url)];
        variables.splice(0..0, environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        Settings::from(&Flags::new(), &variables).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_counts_and_is_named() {
        let settings = load(&[("CALLSCOPE_PORT", "0"), ("CALLSCOPE_WEBHOOK_SECRETS", "123, 456")]).expect("settings");
        assert_eq!(settings.port, 0);
        assert_eq!(settings.webhook_secrets, [Secret::new("123".into()), Secret::new("456".into())]);
        let port = settings.shown.iter().find(|shown| shown.key == "port").expect("shown");
        assert_eq!(port.origin.to_string(), "environment CALLSCOPE_PORT");
    }

    #[test]
    fn a_flag_beats_the_environment() {
        let environment = [("CALLSCOPE_PORT".to_owned(), "1".to_owned())];
        let raw = Raw::gather(&vec![("port", "2".to_owned())], &environment).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(raw.text("port").ok().as_deref(), Some("2"));
        assert_eq!(raw.origin("port").to_string(), "flag --port");
    }

    #[test]
    fn wrong_settings_name_the_key_and_the_origin_and_never_the_value() {
        for (variable, value) in [
            ("CALLSCOPE_PORT", "70000"),
            ("CALLSCOPE_ADDRESS", "nowhere"),
            ("CALLSCOPE_WEBHOOK_AUTH", "maybe"),
            ("CALLSCOPE_WEBHOOK_TOLERANCE", "-1"),
            ("CALLSCOPE_JWT_SECRET", "hunter2"),
            ("CALLSCOPE_ALLOWED_ORIGINS", "nowhere.test"),
            ("CALLSCOPE_PING_INTERVAL", "-3"),
            ("CALLSCOPE_DATABASE_URL", "mysql://u:pw@h/d"),
        ] {
            let error = load(&[(variable, value)]).expect_err(variable);
            let key = variable.trim_start_matches(PREFIX).to_lowercase();
            assert!(error.contains(&format!("`{key}` (environment {variable})")), "{error}");
            assert!(!error.contains(value) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn secrets_are_made_once_and_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", dir.path().join("x.db").display());
        let environment = [("CALLSCOPE_DATABASE_URL".to_owned(), url)];
        let first = Settings::from(&Flags::new(), &environment).unwrap_or_else(|error| panic!("{error}"));
        let second = Settings::from(&Flags::new(), &environment).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(first.jwt_secret, second.jwt_secret);
        assert_eq!(first.webhook_secrets, second.webhook_secrets);
        assert!(first.made_up.is_some() && first.check_exposure().is_ok());
        let exposed = Settings { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), ..first };
        assert!(exposed.check_exposure().is_err());
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path().join("callscope.secrets.toml")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn nothing_shows_a_secret() {
        let settings = load(&[("CALLSCOPE_JWT_SECRET", &"s3cr3t".repeat(8)), ("CALLSCOPE_WEBHOOK_SECRETS", "s3cr3t")])
            .expect("settings");
        assert!(!format!("{settings:?}").contains("s3cr3t"));
        assert_eq!(hide_password("postgres://u:s3cr3t@h/d?password=s3cr3t"), "postgres://u:[secret]@h/d?[hidden]");
    }
}
