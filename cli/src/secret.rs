//! Secrets: tokens and webhook secrets, read from files and the environment, never from the command line.

use std::path::{Path, PathBuf};
use std::{env, fmt, fs};

use crate::exit::{Failure, Result};

/// Where a server without settings of its own keeps the secrets it made up.
const SECRETS_FILE: &str = "callscope.secrets.toml";

/// A secret; shows itself to nobody.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes `text`, without the line end that editors leave in a file.
    pub fn new(text: &str) -> Self {
        Self(text.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Reads a file that holds nothing else.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
        let secret = Self::new(&text);
        if secret.0.is_empty() {
            return Err(Failure::error(format!("{} is empty; it should hold the secret", path.display())));
        }
        Ok(secret)
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// The webhook secret to sign with: `--secret-file`, else the environment, else the server's own file in the working directory.
pub fn webhook_secret(file: Option<&PathBuf>) -> Result<Option<Secret>> {
    if let Some(path) = file {
        return Secret::read(path).map(Some);
    }
    for variable in ["CALLSCOPE_WEBHOOK_SECRET", "CALLSCOPE_WEBHOOK_SECRETS"] {
        if let Some(secret) = env::var(variable).ok().as_deref().and_then(first) {
            return Ok(Some(secret));
        }
    }
    match fs::read_to_string(SECRETS_FILE) {
        Ok(text) => from_toml(&text).map_err(|why| Failure::error(format!("{SECRETS_FILE}: {why}"))),
        Err(_) => Ok(None),
    }
}

/// The first of a comma-separated list: the one senders sign with while the others are rotated out.
fn first(list: &str) -> Option<Secret> {
    list.split(',').map(str::trim).find(|secret| !secret.is_empty()).map(Secret::new)
}

fn from_toml(text: &str) -> std::result::Result<Option<Secret>, String> {
    // The parser's own message would quote the line, and the line may hold a secret.
    let table: toml::Table = text.parse().map_err(|_| "not TOML".to_owned())?;
    match table.get("webhook_secrets") {
        None => Ok(None),
        Some(toml::Value::String(list)) => Ok(first(list)),
        Some(toml::Value::Array(list)) => Ok(list.iter().filter_map(toml::Value::as_str).find_map(first)),
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
