//! Secrets: tokens and webhook secrets, read from files and the environment, never from the command line.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use crate::exit::{Failure, Result};
use crate::render::{console, shell_word};

/// Where a server without settings of its own keeps the secrets it made up.
const SECRETS_FILE: &str = "callscope.secrets.toml";

/// A secret; is never shown.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// Takes `text`, without the line end that editors leave in a file.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Reads a file that holds nothing else.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        warn_if_open(path);
        let secret = Self::new(&text);
        if secret.0.is_empty() {
            return Err(Failure::error(format!("{} is empty; it should hold the secret", path.display())));
        }
        Ok(secret)
    }

    /// The secret itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Whether others than the user may read a file.
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Warns of a file with a secret that other users of this machine may read, once for each file.
pub(crate) fn warn_if_open(path: &Path) {
    if path.is_file() && is_open_to_others(path) {
        let path = path.to_string_lossy();
        let close = shell_word(&path);
        console::warn_once(&format!(
            "other users of this machine can read {path}, and it holds a secret; close it: chmod 600 {close}"
        ));
    }
}

/// The webhook secret to sign with: `--secret-file`, else the environment, else the server's own file in the
/// working directory.
pub(crate) fn webhook_secret(file: Option<&PathBuf>) -> Result<Option<Secret>> {
    if let Some(path) = file {
        return Secret::read(path).map(Some);
    }
    for variable in ["CALLSCOPE_WEBHOOK_SECRET", "CALLSCOPE_WEBHOOK_SECRETS"] {
        if let Some(secret) = env::var(variable).ok().as_deref().and_then(first) {
            return Ok(Some(secret));
        }
    }
    match fs::read_to_string(SECRETS_FILE) {
        Ok(text) => {
            warn_if_open(Path::new(SECRETS_FILE));
            from_toml(&text).map_err(|why| Failure::error(format!("{SECRETS_FILE}: {why}")))
        }
        Err(_) => Ok(None),
    }
}

/// A secret, and where it was found.
#[derive(Debug)]
pub(crate) struct Known {
    /// Names it: a file or a setting.
    pub(crate) label: String,
    pub(crate) secret: Secret,
    /// Whether it is one to verify with, or only known besides.
    pub(crate) in_use: bool,
}

/// Every webhook secret that can be found. Those of the first place that has any are in use: the first of `files`,
/// else the environment, else the server's own file. Each secret comes once.
pub(crate) fn known_secrets(files: &[PathBuf]) -> Result<Vec<Known>> {
    let mut places: Vec<Vec<(String, Secret)>> = Vec::new();
    for path in files {
        places.push(vec![(path.display().to_string(), Secret::read(path)?)]);
    }
    for variable in ["CALLSCOPE_WEBHOOK_SECRET", "CALLSCOPE_WEBHOOK_SECRETS"] {
        let list = env::var(variable).unwrap_or_default();
        places.push(each(&list).map(|secret| (variable.to_owned(), secret)).collect());
    }
    if let Ok(text) = fs::read_to_string(SECRETS_FILE) {
        warn_if_open(Path::new(SECRETS_FILE));
        let all = all_of_toml(&text).map_err(|why| Failure::error(format!("{SECRETS_FILE}: {why}")))?;
        places.push(all.into_iter().map(|secret| (SECRETS_FILE.to_owned(), secret)).collect());
    }
    let in_use = places.iter().position(|place| !place.is_empty());
    let mut known: Vec<Known> = Vec::new();
    for (number, place) in places.into_iter().enumerate() {
        for (label, secret) in place {
            if known.iter().all(|known| known.secret.0 != secret.0) {
                known.push(Known { label, secret, in_use: Some(number) == in_use });
            }
        }
    }
    Ok(known)
}

fn each(list: &str) -> impl Iterator<Item = Secret> {
    list.split(',').map(str::trim).filter(|secret| !secret.is_empty()).map(Secret::new)
}

/// The first of a comma-separated list: the one senders sign with while the others are rotated out.
fn first(list: &str) -> Option<Secret> {
    each(list).next()
}

fn from_toml(text: &str) -> std::result::Result<Option<Secret>, String> {
    all_of_toml(text).map(|all| all.into_iter().next())
}

fn all_of_toml(text: &str) -> std::result::Result<Vec<Secret>, String> {
    // The parser's own message would quote the line, and the line may hold a secret.
    let table: toml::Table = text.parse().map_err(|_| "not TOML".to_owned())?;
    match table.get("webhook_secrets") {
        None => Ok(Vec::new()),
        Some(toml::Value::String(list)) => Ok(each(list).collect()),
        Some(toml::Value::Array(list)) => Ok(list.iter().filter_map(toml::Value::as_str).flat_map(each).collect()),
        Some(_) => Err("webhook_secrets is neither a text nor a list of texts".into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn toml(text: &str) -> Option<String> {
        from_toml(text).unwrap().map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn the_first_secret_signs() {
        assert_eq!(toml("webhook_secrets = ['new', 'old']").as_deref(), Some("new"));
        assert_eq!(toml("webhook_secrets = 'new, old'").as_deref(), Some("new"));
        assert_eq!(toml("jwt_secret = 'x'"), None);
        assert!(from_toml("webhook_secrets = 7").is_err());
    }

    #[test]
    fn errors_and_debug_keep_the_secret() {
        let error = from_toml("webhook_secrets = 'hunter2").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "<secret>");
    }

    #[test]
    fn only_the_line_end_is_trimmed() {
        assert_eq!(Secret::new(" a b \r\n").expose(), " a b ");
    }
}
