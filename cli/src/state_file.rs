//! A small JSON file that remembers a place between two runs, replaced whole.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{Failure, Result};

/// Reads the file; one that is not there yet, or is empty, holds nothing. `what` it should be, for the error that it is not.
pub fn read<T: DeserializeOwned + Default>(path: &Path, what: &str) -> Result<T> {
    match fs::read(path) {
        Ok(bytes) if bytes.is_empty() => Ok(T::default()),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::usage(format!("{} is no {what}: {error}", path.display()))
                .hint("name another with --cursor-file, or remove it to begin anew")
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(Failure::file("read", path, &error)),
    }
}

/// Writes it. Renamed into place, so that whoever reads it, also after a crash, finds a whole one.
pub fn replace(path: &Path, kept: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(kept).map_err(|error| Failure::error(error.to_string()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|error| Failure::file("write", path, &error))
}
