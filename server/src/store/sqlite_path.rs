//! The path of an SQLite database: takes it from the URL and checks it, without opening the file.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::sqlite::SqliteConnectOptions;

/// The most symbolic links in a row that are followed.
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

/// The path in an SQLite URL, decoded as the driver decodes it.
///
/// # Errors
/// Returns an error if the URL or the path is invalid.
pub fn path(url: &str) -> Result<PathBuf, PathError> {
    let options = SqliteConnectOptions::from_str(url).map_err(|_| {
        PathError::new(
            "cannot be read: a `?` begins parameters, of which only `mode=rwc` is of use; in a path write it as %3F, and % as %25",
        )
    })?;
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(PathError::new("names a database in memory, which would be lost at a restart; name a file"));
    }
    if ["mode=ro", "immutable=", "vfs="].iter().any(|part| url.contains(part)) {
        return Err(PathError::new("takes no `mode=ro`, `immutable` or `vfs`: the server writes to the file"));
    }
    let file = options.get_filename();
    if file.as_os_str().is_empty() {
        return Err(PathError::new("names no file"));
    }
    if file.as_os_str().as_encoded_bytes().contains(&0) {
        return Err(PathError::new("contains a NUL"));
    }
    Ok(file.to_owned())
}

/// Checks that `path` can be a database, without opening it. Returns the path without symbolic links.
///
/// # Errors
/// Returns an error if the path cannot be a database.
pub fn resolve(path: &Path) -> Result<PathBuf, PathError> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let Ok(target) = fs::read_link(&path) else { break };
        // The target of a link need not exist yet: it names the file that will be created.
        path = path.parent().unwrap_or(Path::new("")).join(target);
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let (Some(name), Ok(folder)) = (path.file_name(), fs::canonicalize(folder).map_err(|error| (folder, error))) else {
        let problem = match fs::metadata(folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => format!("the folder {} is missing", folder.display()),
            Err(error) => format!("the folder {} cannot be examined: {error}", folder.display()),
            Ok(_) => format!("{} is a folder; name a file", path.display()),
        };
        return Err(PathError::new(problem));
    };
    if !folder.is_dir() {
        return Err(PathError::new(format!("{} is not a folder", folder.display())));
    }
    let path = folder.join(name);
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => Err(PathError::new(format!("{} is a folder; name a file", path.display()))),
        Ok(found) if !found.is_file() => Err(PathError::new(format!("{} is not a regular file", path.display()))),
        // SQLite names the write-ahead log after the path, so a process that opens the file by another name would not
        // see the newest commits.
        Ok(found) if found.nlink() > 1 => Err(PathError::new(format!(
            "{} has {} names (hard links); an SQLite database may have only one, so remove the others",
            path.display(),
            found.nlink()
        ))),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(PathError::new(format!("{} cannot be examined: {error}", path.display())))
        }
        _ => Ok(path),
    }
}

/// The database file, the files that SQLite keeps beside it, and the lock file.
#[must_use]
pub fn companions(path: &Path) -> Vec<PathBuf> {
    [""].iter().chain(&COMPANIONS).chain(&[".lock"]).map(|suffix| beside(path, suffix)).collect()
}

pub(in crate::store) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
