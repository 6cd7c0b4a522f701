//! Secrets that are not set: generated once and kept in a file beside the database.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::Origin;
use crate::secret::Secret;
use crate::store::sqlite_path;

const FILE: &str = "callscope.secrets.toml";

/// The secrets in force.
pub(super) struct Secrets {
    pub webhook_secrets: Vec<Secret>,
    pub jwt_secrets: Vec<Secret>,
    /// The settings whose value was generated, with their origin.
    pub generated: Vec<(&'static str, Origin)>,
    /// The file that keeps generated secrets; `None` if both were set.
    pub file: Option<PathBuf>,
}

/// Why the file of generated secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SecretsFileError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("cannot be made: {0}")]
    Create(io::Error),
    #[error("{0}")]
    Encode(#[from] toml::ser::Error),
    /// The parser's words would quote the file, so they are left out.
    #[error("is not a file of secrets: expected webhook_secrets and jwt_secret")]
    Malformed,
    #[error("holds a jwt_secret of less than 32 bytes, or no webhook secret")]
    TooShort,
    #[error("no randomness: {0}")]
    Randomness(getrandom::Error),
}

#[derive(Serialize, Deserialize)]
struct SecretsFile {
    webhook_secrets: Vec<String>,
    jwt_secret: String,
}

/// Fills in missing secrets from the file beside the database, and makes that file if it does not exist.
///
/// # Errors
/// Returns the path of the file and what is wrong with it.
pub(super) fn fill_in(
    mut webhook_secrets: Vec<Secret>,
    mut jwt_secrets: Vec<Secret>,
    database_url: &Secret,
) -> Result<Secrets, (PathBuf, SecretsFileError)> {
    let mut generated = Vec::new();
    if !webhook_secrets.is_empty() && !jwt_secrets.is_empty() {
        return Ok(Secrets { webhook_secrets, jwt_secrets, generated, file: None });
    }
    let file = folder(database_url.expose()).join(FILE);
    let kept = read_or_generate(&file).map_err(|error| (file.clone(), error))?;
    if webhook_secrets.is_empty() {
        webhook_secrets = kept.webhook_secrets.into_iter().map(Secret::new).collect();
        generated.push(("webhook_secrets", Origin::Generated(file.clone())));
    }
    if jwt_secrets.is_empty() {
        jwt_secrets = vec![Secret::new(kept.jwt_secret)];
        generated.push(("jwt_secret", Origin::Generated(file.clone())));
    }
    Ok(Secrets { webhook_secrets, jwt_secrets, generated, file: Some(file) })
}

/// The folder of the SQLite file; the working directory for any other database.
fn folder(database_url: &str) -> PathBuf {
    // The path is decoded and links are followed as the driver does it, so that both files lie in the same folder.
    let file = database_url.starts_with("sqlite:").then(|| sqlite_path::path(database_url).ok()).flatten();
    let file = file.map(|file| sqlite_path::resolve(&file).unwrap_or(file));
    match file.as_deref().and_then(Path::parent) {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn read_or_generate(path: &Path) -> Result<SecretsFile, SecretsFileError> {
    let made = SecretsFile { webhook_secrets: vec![format!("wsec_{}", random()?)], jwt_secret: random()? };
    let text = toml::to_string(&made)?;
    let note = "# Made by callscope-server, since no secrets were set. Keep it: tokens and signatures depend on it.\n";
    // create_new: of two servers that start at once, one makes the file and the other reads it.
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            file.write_all(format!("{note}{text}").as_bytes()).and_then(|()| file.sync_all())?;
            Ok(made)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(path)?;
            let kept: SecretsFile = toml::from_str(&text).map_err(|_| SecretsFileError::Malformed)?;
            match kept.jwt_secret.len() >= 32 && !kept.webhook_secrets.is_empty() {
                true => Ok(kept),
                false => Err(SecretsFileError::TooShort),
            }
        }
        Err(error) => Err(SecretsFileError::Create(error)),
    }
}

/// Returns 256 random bits as text.
fn random() -> Result<String, SecretsFileError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(SecretsFileError::Randomness)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}
