//! Secrets nobody set: made once, kept beside the database.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Origin;
use crate::secret::Secret;
use crate::store::sqlite::file;

const FILE: &str = "callscope.secrets.toml";

/// The secrets in force.
pub(super) struct GeneratedSecrets {
    pub webhook_secrets: Vec<Secret>,
    pub jwt_secrets: Vec<Secret>,
    /// Whether at least one is made up.
    pub is_generated: bool,
    pub path: PathBuf,
    pub origins: Vec<(&'static str, Origin)>,
}

#[derive(Serialize, Deserialize)]
struct SecretsFile {
    webhook_secrets: Vec<String>,
    jwt_secret: String,
}

/// Fills in what is missing from the file beside the database, making it where there is none.
///
/// # Errors
/// The file's path, and what is wrong with it.
pub(super) fn fill_in(
    webhook_secrets: Vec<Secret>,
    jwt_secrets: Vec<Secret>,
    database_url: &Secret,
) -> Result<GeneratedSecrets, (PathBuf, String)> {
    let path = folder(database_url.expose()).join(FILE);
    let is_generated = webhook_secrets.is_empty() || jwt_secrets.is_empty();
    let mut origins = Vec::new();
    if !is_generated {
        return Ok(GeneratedSecrets { webhook_secrets, jwt_secrets, is_generated, path, origins });
    }
    let kept = read_or_generate(&path).map_err(|problem| (path.clone(), problem))?;
    if webhook_secrets.is_empty() {
        origins.push(("webhook_secrets", Origin::Generated(path.clone())));
    }
    if jwt_secrets.is_empty() {
        origins.push(("jwt_secret", Origin::Generated(path.clone())));
    }
    let webhook_secrets = match webhook_secrets.is_empty() {
        true => kept.webhook_secrets.into_iter().map(Secret::new).collect(),
        false => webhook_secrets,
    };
    let jwt_secrets = match jwt_secrets.is_empty() {
        true => vec![Secret::new(kept.jwt_secret)],
        false => jwt_secrets,
    };
    Ok(GeneratedSecrets { webhook_secrets, jwt_secrets, is_generated, path, origins })
}

/// The SQLite file's folder; the working directory for anything else.
fn folder(database_url: &str) -> PathBuf {
    // As the driver reads it, so that both lie in the same folder; where a link leads is where the database lies.
    let file = database_url.starts_with("sqlite:").then(|| file::path(database_url).ok()).flatten();
    let file = file.map(|path| file::resolve(&path).unwrap_or(path));
    match file.as_deref().and_then(Path::parent) {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn read_or_generate(path: &Path) -> Result<SecretsFile, String> {
    let made = SecretsFile { webhook_secrets: vec![format!("wsec_{}", random()?)], jwt_secret: random()? };
    let text = toml::to_string(&made).map_err(|error| error.to_string())?;
    let note = "# Made by callscope-server, since no secrets were set. Keep it: tokens and signatures depend on it.\n";
    // create_new: of two servers that start at once, one makes the file and the other reads it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(format!("{note}{text}").as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(|e| e.to_string())?;
            Ok(made)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
            // The parser's words would quote the file.
            let kept: SecretsFile = toml::from_str(&text)
                .map_err(|_| "is not a file of secrets: expected webhook_secrets and jwt_secret")?;
            match kept.jwt_secret.len() >= 32 && !kept.webhook_secrets.is_empty() {
                true => Ok(kept),
                false => Err("holds a jwt_secret of less than 32 bytes, or no webhook secret".into()),
            }
        }
        Err(error) => Err(format!("cannot be made: {error}")),
    }
}

/// 256 random bits, as text.
fn random() -> Result<String, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("no randomness: {error}"))?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}
