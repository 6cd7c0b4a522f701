//! Reading settings through figment, with a clear word on each that is wrong.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::providers::{Format, Serialized, Toml};
use figment::value::Value;
use figment::{Figment, Source};
use url::Url;

use super::Settings;
use super::keys::{KEYS, PREFIX, SettingKey, is_unknown, nearest, variable};
use super::secrets::{GeneratedSecrets, fill_in};
use crate::log::UnknownCalls;
use crate::policy::{BODY_MEMORY, DeliveryRetention, DrainPolicy, IdleTimeouts, Timing, WebhookAuth};
use crate::secret::Secret;
use crate::store::sqlite::file;

/// The settings file in the working directory.
const FILE: &str = "callscope.toml";

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
    Generated(PathBuf),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(key) => write!(f, "flag --{}", key.replace('_', "-")),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Generated(path) => write!(f, "made up, kept in {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting as `config show` prints it.
#[derive(Debug, Clone)]
pub struct EffectiveSetting {
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
        Self::from(flags, &environment)
    }

    /// Reads the settings from the given flags and environment, and from the file those name.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn from(flags: &Flags, environment: &[(String, String)]) -> Result<Self, SettingsError> {
        Self::read(flags, environment, Some(Path::new(FILE)))
    }

    /// Reads the settings from the given flags alone: whatever lies in the working directory is meant for other servers.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn isolated(flags: &Flags) -> Result<Self, SettingsError> {
        Self::read(flags, &[], None)
    }

    fn read(flags: &Flags, environment: &[(String, String)], file: Option<&Path>) -> Result<Self, SettingsError> {
        let (raw, config_file) = RawSettings::gather(flags, environment, file)?;
        let database_url = raw.database_url()?;
        let secrets = raw.secrets(&database_url)?;
        let timing = Timing {
            ping_interval: raw.seconds("ping_interval")?,
            pong_timeout: raw.seconds("pong_timeout")?,
            write_deadline: raw.seconds("write_deadline")?,
            storage_deadline: raw.seconds("storage_deadline")?,
        };
        let drain = DrainPolicy { rate: raw.rate("drain_rate")?, deadline: raw.seconds("drain_deadline")? };
        let mut settings = Self {
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
                .map(|_| raw.number("max_connections", 1, MAX_CONNECTIONS))
                .transpose()?,
            max_connections_per_token: raw.number("max_connections_per_token", 1, MAX_CONNECTIONS)?,
            max_connections_per_address: raw.number("max_connections_per_address", 1, MAX_CONNECTIONS)?,
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
            timing,
            idle_timeouts: IdleTimeouts { head: raw.seconds("head_deadline")?, idle: raw.seconds("idle_timeout")? },
            drain,
            generated_secrets: secrets.is_generated.then_some(secrets.path.clone()),
            webhook_secrets: secrets.webhook_secrets,
            jwt_secrets: secrets.jwt_secrets,
            database_url,
            config_file,
            unknown_variables: unknown_variables(environment, secrets.is_generated),
            effective: Vec::new(),
        };
        settings.effective = raw.effective(&secrets.origins)?;
        Ok(settings)
    }
}

/// Most connections that can be asked for.
const MAX_CONNECTIONS: u64 = 10_000_000;

/// A sentence on each variable that looks like a setting and is none.
fn unknown_variables(environment: &[(String, String)], is_generated: bool) -> Vec<String> {
    // What signs the client's webhooks verifies nothing here: worth a word where the server made up secrets of its own.
    let is_clients = |name: &str| is_generated && name == "CALLSCOPE_WEBHOOK_SECRET";
    let told = environment.iter().map(|(name, _)| name.as_str()).filter(|name| is_unknown(name) || is_clients(name));
    told.map(|name| {
        let shown: String = one_line(name).chars().take(64).collect();
        let (near, _) = nearest(name.trim_start_matches(PREFIX));
        format!("{shown} is no setting and changes nothing; the nearest one is {}", variable(near))
    })
    .collect()
}

/// The settings as given, before they mean anything.
struct RawSettings {
    figment: Figment,
}

impl RawSettings {
    /// Also says which file was read.
    fn gather(
        flags: &Flags,
        environment: &[(String, String)],
        file: Option<&Path>,
    ) -> Result<(Self, Option<PathBuf>), SettingsError> {
        let given = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let mut figment = Figment::new();
        for key in KEYS {
            figment = figment.merge(Serialized::default(key.name, key.default));
        }
        let named = given("CALLSCOPE_CONFIG").map(PathBuf::from);
        let path = named.clone().or(file.map(Path::to_owned));
        if let Some(named) = named.filter(|named| !named.is_file()) {
            let origin = Origin::Environment("CALLSCOPE_CONFIG".into());
            return Err(SettingsError::new("config", origin, format!("no file at {}", named.display())));
        }
        let path = path.filter(|path| path.is_file());
        if let Some(path) = &path {
            Self::check_file(path)?;
            figment = figment.merge(Toml::file_exact(path));
        }
        for key in KEYS {
            let name = variable(key.name);
            if let Some(value) = given(&name) {
                // As text, whatever it looks like: a secret of digits is no number.
                figment = figment.merge(SingleValue { name, key: key.name, value });
            }
        }
        for (key, value) in flags {
            figment = figment.merge(SingleValue { name: format!("--{key}"), key, value: value.clone() });
        }
        Ok((Self { figment }, path))
    }

    /// Refuses a file that is no TOML or holds a key that is no setting. What the file holds may be a secret in the wrong place,
    /// so that the error tells the line's number, and a key only where it is nearly that of a setting.
    fn check_file(path: &Path) -> Result<(), SettingsError> {
        let wrong = |key: &str, problem: String| SettingsError::new(key, Origin::File(path.to_owned()), problem);
        let text = std::fs::read_to_string(path).map_err(|error| wrong("file", format!("cannot be read: {error}")))?;
        let line = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
        let table = toml::de::DeTable::parse(&text).map_err(|error| {
            let place = error.span().map_or_else(String::new, |span| format!("line {} ", line(span.start)));
            wrong("file", format!("{place}cannot be read as TOML"))
        })?;
        let is_setting = |key: &str| KEYS.iter().any(|known| known.name == key);
        let Some((unknown, _)) = table.get_ref().iter().find(|(key, _)| !is_setting(key.get_ref())) else {
            return Ok(());
        };
        let at = line(unknown.span().start);
        Err(match nearest(unknown.get_ref()) {
            (near, true) => {
                let shown: String = unknown.get_ref().escape_debug().take(40).collect();
                wrong(&shown, format!("line {at}: there is no such setting; the nearest one is `{near}`"))
            }
            _ => wrong("file", format!("line {at}: there is no such setting")),
        })
    }

    fn origin(&self, key: &str) -> Origin {
        let Some(metadata) = self.figment.find_metadata(key) else { return Origin::Default };
        match &metadata.source {
            Some(Source::File(path)) => Origin::File(path.clone()),
            _ if metadata.name.starts_with("--") => {
                KEYS.iter().find(|known| known.name == key).map_or(Origin::Default, |known| Origin::Flag(known.name))
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
        value_text(&value).ok_or_else(|| self.wrong(key, "a text, a number or a list of texts"))
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

    fn number(&self, key: &str, min: u64, max: u64) -> Result<u64, SettingsError> {
        let expected = format!("a whole number from {min} to {max}");
        let number = self.parse(key, &expected)?;
        Some(number).filter(|number| (min..=max).contains(number)).ok_or_else(|| self.wrong(key, &expected))
    }

    /// The database's URL; a path that can be no database is told before anything is made beside it.
    fn database_url(&self) -> Result<Secret, SettingsError> {
        let url = Secret::new(self.text("database_url")?);
        if url.expose().starts_with("sqlite:") {
            let path = file::path(url.expose()).and_then(|path| file::resolve(&path));
            path.map_err(|error| SettingsError::new("database_url", self.origin("database_url"), error.to_string()))?;
        } else if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
            return Err(self.wrong("database_url", "sqlite://… or postgres://…"));
        }
        Ok(url)
    }

    fn public_url(&self) -> Result<Option<Url>, SettingsError> {
        let Some(text) = self.optional("public_url")? else { return Ok(None) };
        let is_plain = |url: &Url| {
            ["http", "https"].contains(&url.scheme())
                && url.has_host()
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        };
        Url::parse(text.trim()).ok().filter(is_plain).map(Some).ok_or_else(|| {
            self.wrong("public_url", "an http:// or https:// URL without a query, such as https://calls.example.com")
        })
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
        match crate::cluster::address(url.trim()) {
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

    fn secrets(&self, database_url: &Secret) -> Result<GeneratedSecrets, SettingsError> {
        let webhook_secrets: Vec<Secret> = self.list("webhook_secrets")?.into_iter().map(Secret::new).collect();
        let jwt_secrets: Vec<Secret> = self.list("jwt_secret")?.into_iter().map(Secret::new).collect();
        if jwt_secrets.iter().any(|secret| secret.expose().len() < 32) {
            return Err(self.wrong("jwt_secret", "keys of at least 32 bytes each, separated by commas"));
        }
        fill_in(webhook_secrets, jwt_secrets, database_url)
            .map_err(|(path, problem)| SettingsError::new("secrets", Origin::File(path), problem))
    }

    fn effective(&self, generated: &[(&'static str, Origin)]) -> Result<Vec<EffectiveSetting>, SettingsError> {
        KEYS.iter()
            .map(|&SettingKey { name: key, is_secret, .. }| {
                let origin = generated.iter().find(|(name, _)| *name == key).map(|(_, origin)| origin.clone());
                let value = self.text(key)?;
                let value = match (is_secret, origin.is_some() || !value.is_empty()) {
                    (true, true) if key == "database_url" => hide_password(&value),
                    (true, true) => "[secret]".to_owned(),
                    _ => one_line(&value),
                };
                Ok(EffectiveSetting { key, value, origin: origin.unwrap_or_else(|| self.origin(key)) })
            })
            .collect()
    }
}

/// A value from the environment or the command line.
struct SingleValue {
    name: String,
    key: &'static str,
    value: String,
}

impl figment::Provider for SingleValue {
    fn metadata(&self) -> figment::Metadata {
        figment::Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<figment::value::Map<figment::Profile, figment::value::Dict>, figment::Error> {
        let dict = [(self.key.to_owned(), Value::from(self.value.clone()))].into_iter().collect();
        Ok([(figment::Profile::Default, dict)].into_iter().collect())
    }
}

fn value_text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Num(_, number) => number
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| number.to_u128().map(|n| n.to_string()))
            .or_else(|| number.to_f64().map(|n| n.to_string())),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Array(_, items) => {
            let parts: Option<Vec<String>> = items.iter().map(value_text).collect();
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
        let port = settings.effective.iter().find(|setting| setting.key == "port").expect("shown");
        assert_eq!(port.origin.to_string(), "environment CALLSCOPE_PORT");
    }

    #[test]
    fn a_flag_beats_the_environment() {
        let environment = [("CALLSCOPE_PORT".to_owned(), "1".to_owned())];
        let flags = vec![("port", "2".to_owned())];
        let (raw, _) = RawSettings::gather(&flags, &environment, None).unwrap_or_else(|error| panic!("{error}"));
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
            ("CALLSCOPE_JWT_SECRET", "0123456789abcdef0123456789abcdef,hunter2"),
            ("CALLSCOPE_MAX_POST_CALL_MIB", "-7"),
            ("CALLSCOPE_MAX_CONNECTIONS", "many"),
            ("CALLSCOPE_MAX_CONNECTIONS_PER_TOKEN", "-7"),
            ("CALLSCOPE_PUBLIC_URL", "javascript://calls.example"),
            ("CALLSCOPE_PUBLIC_URL", "https://calls.example/?key=1"),
            ("CALLSCOPE_PUBLIC_URL", "https://user:pw@calls.example/"),
        ] {
            let error = load(&[(variable, value)]).expect_err(variable);
            let key = variable.trim_start_matches(PREFIX).to_lowercase();
            assert!(error.contains(&format!("`{key}` (environment {variable})")), "{error}");
            assert!(!error.contains(value) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn a_wrong_file_is_told_without_what_it_holds() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("callscope.toml");
        let environment = [("CALLSCOPE_CONFIG".to_owned(), path.display().to_string())];
        for (text, line, named) in [
            ("port = 1\njwt_secret = 'hunter2-hunter2", "line 2", "file"),
            ("jwt_secret = hunter2-hunter2\n", "line 1", "file"),
            ("\n\nhunter2-hunter2\n", "line 3", "file"),
            ("port = 1\nhunter2-hunter2-hunter2 = 1\n", "line 2", "file"),
            ("port = 1\nport = 'hunter2'\n", "line 2", "file"),
            ("'hunter2\u{1b}[31m' = 1\n", "line 1", "file"),
            ("[hunter2]\nx = 1\n", "line 1", "file"),
            ("webhook_tolerence = 5\n", "line 1", "webhook_tolerence"),
            ("port = ['hunter2']\n", "takes a port", "port"),
            ("port = {hunter2 = 1}\n", "takes a text", "port"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = Settings::from(&Flags::new(), &environment).expect_err(text).to_string();
            assert!(error.contains(line) && error.contains(&format!("setting `{named}` (file ")), "{text}: {error}");
            assert!(!error.contains("hunter2") && !error.contains(['\n', '\u{1b}']), "{text}: {error}");
        }
    }

    #[test]
    fn a_variable_that_is_no_setting_is_told_with_the_nearest_one() {
        let both = [("CALLSCOPE_JWT_SECRET", "0123456789abcdef0123456789abcdef"), ("CALLSCOPE_WEBHOOK_SECRETS", "s")];
        let warned = |environment: &[(&str, &str)]| load(environment).expect("settings").unknown_variables;
        let typo = [both[0], both[1], ("CALLSCOPE_WEBHOOK_TOLERENCE", "5"), ("CALLSCOPE_TOKEN", "t")];
        let [warning] = &warned(&typo)[..] else { panic!("one warning") };
        assert!(warning.contains("WEBHOOK_TOLERENCE") && warning.ends_with("CALLSCOPE_WEBHOOK_TOLERANCE"), "{warning}");
        // The client's variable, where the server would have needed its own.
        let [warning] = &warned(&[("CALLSCOPE_WEBHOOK_SECRET", "abc")])[..] else { panic!("one warning") };
        assert!(warning.ends_with("CALLSCOPE_WEBHOOK_SECRETS") && !warning.contains("abc"), "{warning}");
        assert_eq!(warned(&[both[0], both[1], ("CALLSCOPE_WEBHOOK_SECRET", "abc")]), [""; 0]);
    }

    #[test]
    fn several_keys_a_public_url_and_limits_are_read() {
        let keys = "0123456789abcdef0123456789abcdef, fedcba9876543210fedcba9876543210";
        let settings = load(&[("CALLSCOPE_JWT_SECRET", keys), ("CALLSCOPE_PUBLIC_URL", "https://calls.example/base/")]);
        let settings = settings.expect("settings");
        assert_eq!(settings.jwt_secrets.len(), 2);
        assert_eq!(settings.public_url.as_ref().map(Url::as_str), Some("https://calls.example/base/"));
        assert_eq!((settings.max_post_call_mib, settings.max_connections), (128, None));
        assert_eq!((settings.max_connections_per_token, settings.max_connections_per_address), (1_000, 5_000));
    }

    #[test]
    fn secrets_lie_beside_the_database_whose_path_is_decoded() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("a dir")).expect("a folder");
        let url = format!("sqlite://{}/a%20dir/y.db", dir.path().display());
        load(&[("CALLSCOPE_DATABASE_URL", &url)]).expect("settings");
        assert!(dir.path().join("a dir/callscope.secrets.toml").is_file());
        for path in ["nodir/x.db", "q?x/y.db", "a%20dir"] {
            let url = format!("sqlite://{}/{path}", dir.path().display());
            let error = load(&[("CALLSCOPE_DATABASE_URL", &url)]).expect_err(path);
            assert!(error.starts_with("setting `database_url` (environment CALLSCOPE_DATABASE_URL): "), "{error}");
        }
    }

    #[test]
    fn secrets_are_made_once_and_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite://{}", dir.path().join("x.db").display());
        let environment = [("CALLSCOPE_DATABASE_URL".to_owned(), url)];
        let first = Settings::from(&Flags::new(), &environment).unwrap_or_else(|error| panic!("{error}"));
        let second = Settings::from(&Flags::new(), &environment).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(first.jwt_secrets, second.jwt_secrets);
        assert_eq!(first.webhook_secrets, second.webhook_secrets);
        assert!(first.generated_secrets.is_some() && first.check_exposure().is_ok());
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
