//! The layers that settings come from, in `figment`: flags over environment over file over defaults.

use std::path::{Path, PathBuf};

use callscope_common::text::one_line;
use figment::providers::{Format, Serialized, Toml};
use figment::value::Value;
use figment::{Figment, Source};

use super::keys::{KEYS, PREFIX, SettingKey, nearest, variable};
use super::{EffectiveSetting, Flags, Origin, SettingsError};

/// The variable that names the settings file.
const FILE_VARIABLE: &str = "CALLSCOPE_CONFIG";

/// The merged layers: each setting as text, before it is parsed.
pub(super) struct RawSettings {
    figment: Figment,
    /// The settings file that was read, if any.
    pub file: Option<PathBuf>,
}

impl RawSettings {
    /// Merges the layers. `default_file` is read if it exists and the environment names no other file.
    pub fn gather(
        flags: &Flags,
        environment: &[(String, String)],
        default_file: Option<&Path>,
    ) -> Result<Self, SettingsError> {
        let variable_value =
            |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        let mut figment = Figment::new();
        for key in KEYS {
            figment = figment.merge(Serialized::default(key.name, key.default));
        }
        let named_file = variable_value(FILE_VARIABLE).map(PathBuf::from);
        if let Some(missing) = named_file.as_deref().filter(|file| !file.is_file()) {
            let origin = Origin::Environment(FILE_VARIABLE.into());
            return Err(SettingsError::new("config", origin, format!("no file at {}", missing.display())));
        }
        let file = named_file.or(default_file.map(Path::to_owned)).filter(|path| path.is_file());
        if let Some(path) = &file {
            check_file(path)?;
            figment = figment.merge(Toml::file_exact(path));
        }
        for key in KEYS {
            let name = variable(key.name);
            if let Some(value) = variable_value(&name) {
                figment = figment.merge(SingleValue { name, key: key.name, value });
            }
        }
        for (key, value) in flags {
            figment = figment.merge(SingleValue { name: format!("--{key}"), key, value: value.clone() });
        }
        Ok(Self { figment, file })
    }

    /// Returns where the value of a setting came from.
    pub fn origin(&self, key: &str) -> Origin {
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

    /// Makes an error that says what the setting takes.
    pub fn expected_error(&self, key: &str, expected: &str) -> SettingsError {
        SettingsError::new(key, self.origin(key), format!("takes {expected}"))
    }

    /// Returns the value as text. Lists in the file are joined by commas.
    pub fn text(&self, key: &str) -> Result<String, SettingsError> {
        let value = self.figment.find_value(key).map_err(|_| self.expected_error(key, "a value"))?;
        value_text(&value).ok_or_else(|| self.expected_error(key, "a text, a number or a list of texts"))
    }

    /// Lists every setting with its value and origin. `generated` are the secrets that come from no layer.
    pub fn effective(&self, generated: &[(&'static str, Origin)]) -> Result<Vec<EffectiveSetting>, SettingsError> {
        let effective = KEYS.iter().map(|&SettingKey { name: key, is_secret, .. }| {
            let origin = generated.iter().find(|(name, _)| *name == key).map(|(_, origin)| origin.clone());
            let value = self.text(key)?;
            let is_set = origin.is_some() || !value.is_empty();
            let value = match (is_secret, is_set) {
                (true, true) if key == "database_url" => hide_password(&value),
                (true, true) => "[secret]".to_owned(),
                _ => one_line(&value).into_owned(),
            };
            Ok(EffectiveSetting { key, value, origin: origin.unwrap_or_else(|| self.origin(key)) })
        });
        effective.collect()
    }
}

/// Refuses a file that is not TOML, or that has a key that is not a setting. A secret may stand in the wrong place of
/// the file, so an error names the line, and the key only if it is a misspelt setting.
fn check_file(path: &Path) -> Result<(), SettingsError> {
    let error = |key: &str, problem: String| SettingsError::new(key, Origin::File(path.to_owned()), problem);
    let text = std::fs::read_to_string(path).map_err(|cause| error("file", format!("cannot be read: {cause}")))?;
    let line = |at: usize| text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1;
    let table = toml::de::DeTable::parse(&text).map_err(|cause| {
        let place = cause.span().map_or_else(String::new, |span| format!("line {} ", line(span.start)));
        error("file", format!("{place}cannot be read as TOML"))
    })?;
    let is_setting = |key: &str| KEYS.iter().any(|known| known.name == key);
    let Some((unknown, _)) = table.get_ref().iter().find(|(key, _)| !is_setting(key.get_ref())) else {
        return Ok(());
    };
    let at = line(unknown.span().start);
    Err(match nearest(unknown.get_ref()) {
        (near, true) => {
            let shown: String = unknown.get_ref().escape_debug().take(40).collect();
            error(&shown, format!("line {at}: there is no such setting; the nearest one is `{near}`"))
        }
        _ => error("file", format!("line {at}: there is no such setting")),
    })
}

/// A value from the environment or the command line. It stays a text even if it looks like a number, because a secret
/// may consist of digits.
struct SingleValue {
    /// The variable or flag that the value comes from. [`RawSettings::origin`] reads it.
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

/// Returns a URL without its password and its query.
pub(super) fn hide_password(url: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, ""), |(base, _)| (base, "?[hidden]"));
    match base.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (user, host))) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:[secret]@{host}{query}")
        }
        None => format!("{base}{query}"),
    }
}
