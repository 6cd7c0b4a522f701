//! The path of an SQLite database: read from its URL and checked, without opening anything.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::sqlite::SqliteConnectOptions;

/// The most symbolic links that are followed to the file.
const MAX_LINKS: usize = 40;
/// The suffixes of the files that SQLite keeps beside an open database.
pub(in crate::store) const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Why a path cannot be a database. The text names the path.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PathError(String);

impl PathError {
    pub(in crate::store) fn new(problem: impl Into<String>) -> Self {
        Self(callscope_common::text::one_line(&problem.into()).into_owned())
    }
}

/// The file that an SQLite URL names, decoded as the driver decodes it.
///
/// # Errors
/// Returns what is wrong with the URL or the path.
pub fn path(url: &str) -> Result<PathBuf, PathError> {
    let options = SqliteConnectOptions::from_str(url).map_err(|_| {
        PathError::new(
            "cannot be read: a `?` begins parameters, of which only `mode=rwc` is of use; in a path write it as %3F, and % as %25",
        )
    })?;
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(PathError::new("names memory, which keeps nothing; name a file"));
    }
    if ["mode=ro", "immutable=", "vfs="].iter().any(|part| url.contains(part)) {
        return Err(PathError::new("takes no `mode=ro`, `immutable` or `vfs`: the server writes to the file"));
    }
    let file = options.get_filename();
    if file.as_os_str().is_empty() {
        return Err(PathError::new("names no file"));
    }
    if file.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(PathError::new("holds a NUL"));
    }
    Ok(file.to_owned())
}

/// Checks that `path` can be a database, without opening it; returns it without symbolic links.
///
/// # Errors
/// Returns what is wrong with the path.
pub fn resolve(path: &Path) -> Result<PathBuf, PathError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        // A link that leads nowhere yet names the file to be made.
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let (Some(name), Ok(folder)) = (path.file_name(), fs::canonicalize(folder).map_err(|error| (folder, error))) else {
        let problem = match fs::metadata(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => format!("the folder {} is missing", folder.display()),
            Err(error) => format!("the folder {} cannot be looked at: {error}", folder.display()),
            Ok(_) => format!("{} is a folder; name a file", path.display()),
        };
        return Err(PathError::new(problem));
    };
    if !folder.is_dir() {
        return Err(PathError::new(format!("{} is no folder", folder.display())));
    }
    let path = folder.join(name);
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => Err(PathError::new(format!("{} is a folder; name a file", path.display()))),
        Ok(found) if !found.is_file() => Err(PathError::new(format!("{} is no regular file", path.display()))),
        // SQLite keeps what it has not moved into the file beside one name: a process that opens the other would not
        // see it.
        Ok(found) if found.nlink() > 1 => Err(PathError::new(format!(
            "{} has {} names (hard links); an SQLite database may have only one, so remove the others",
            path.display(),
            found.nlink()
        ))),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(PathError::new(format!("{} cannot be looked at: {error}", path.display())))
        }
        _ => Ok(path),
    }
}

/// The database with what SQLite keeps beside it, and the lock file.
#[must_use]
pub fn companions(path: &Path) -> Vec<PathBuf> {
    [""].iter().chain(&COMPANIONS).chain(&[".lock"]).map(|suffix| beside(path, suffix)).collect()
}

pub(in crate::store) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
