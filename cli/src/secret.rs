//! Secrets: tokens and webhook secrets, read from files and the environment, never from the command line.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use crate::exit::{Failure, Result};
use crate::render::{console, shell_word};

/// The file in which a server without configured secrets keeps those that it generated.
const SECRETS_FILE: &str = "callscope.secrets.toml";

/// A secret. `Debug` does not print it.
#[derive(Clone)]
pub(crate) struct Secret(String);

impl Secret {
    /// Removes the line end that editors leave at the end of a file.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Reads a file that holds only the secret.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        warn_if_open(path);
        let secret = Self::new(&text);
        if secret.0.is_empty() {
            return Err(Failure::error(format!("{} is empty; it should hold the secret", path.display())));
        }
        Ok(secret)
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// Returns whether the mode of a file gives its group or other users any access.
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Warns once for each file if `path`, which holds a secret, is readable for other users.
pub(crate) fn warn_if_open(path: &Path) {
    if path.is_file() && is_open_to_others(path) {
        let path = path.to_string_lossy();
        let close = shell_word(&path);
        console::warn_once(&format!(
            "other users of this machine can read {path}, and it holds a secret; close it: chmod 600 {close}"
        ));
    }
}

/// Returns the webhook secret to sign with: that of `--secret-file`, else of the environment, else of
/// [`SECRETS_FILE`] in the working directory.
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
pub(crate) struct FoundSecret {
    /// The path or the variable that it was found in.
    pub(crate) origin: String,
    pub(crate) secret: Secret,
    /// Whether signatures are verified with it. Other secrets only explain why a signature does not fit.
    pub(crate) in_use: bool,
}

/// Finds all webhook secrets, each once. Those of the first non-empty origin are in use: the first of `files`, else
/// the environment, else [`SECRETS_FILE`].
pub(crate) fn find_webhook_secrets(files: &[PathBuf]) -> Result<Vec<FoundSecret>> {
    let mut origins: Vec<Vec<(String, Secret)>> = Vec::new();
    for path in files {
        origins.push(vec![(path.display().to_string(), Secret::read(path)?)]);
    }
    for variable in ["CALLSCOPE_WEBHOOK_SECRET", "CALLSCOPE_WEBHOOK_SECRETS"] {
        let list = env::var(variable).unwrap_or_default();
        origins.push(split_list(&list).map(|secret| (variable.to_owned(), secret)).collect());
    }
    if let Ok(text) = fs::read_to_string(SECRETS_FILE) {
        warn_if_open(Path::new(SECRETS_FILE));
        let all = all_of_toml(&text).map_err(|why| Failure::error(format!("{SECRETS_FILE}: {why}")))?;
        origins.push(all.into_iter().map(|secret| (SECRETS_FILE.to_owned(), secret)).collect());
    }
    let in_use = origins.iter().position(|found| !found.is_empty());
    let mut secrets: Vec<FoundSecret> = Vec::new();
    for (number, found) in origins.into_iter().enumerate() {
        for (origin, secret) in found {
            if secrets.iter().all(|known| known.secret.0 != secret.0) {
                secrets.push(FoundSecret { origin, secret, in_use: Some(number) == in_use });
            }
        }
    }
    Ok(secrets)
}

fn split_list(list: &str) -> impl Iterator<Item = Secret> {
    list.split(',').map(str::trim).filter(|secret| !secret.is_empty()).map(Secret::new)
}

/// Returns the first secret of a comma-separated list. Senders sign with it; the others are being rotated out.
fn first(list: &str) -> Option<Secret> {
    split_list(list).next()
}

fn from_toml(text: &str) -> std::result::Result<Option<Secret>, String> {
    all_of_toml(text).map(|all| all.into_iter().next())
}

fn all_of_toml(text: &str) -> std::result::Result<Vec<Secret>, String> {
    // The error of the parser is dropped, because it quotes the line, which may hold a secret.
    let table: toml::Table = text.parse().map_err(|_| "not TOML".to_owned())?;
    match table.get("webhook_secrets") {
        None => Ok(Vec::new()),
        Some(toml::Value::String(list)) => Ok(split_list(list).collect()),
        Some(toml::Value::Array(list)) => {
            Ok(list.iter().filter_map(toml::Value::as_str).flat_map(split_list).collect())
        }
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
