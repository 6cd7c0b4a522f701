//! A small JSON file that keeps a cursor between two runs and is replaced atomically.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::exit::{Failure, Result};

/// Reads the file, or returns the default if there is none. `what` names the kind of file in errors.
///
/// # Errors
/// Returns an error if the file is empty or damaged: without the cursor that it held, this run could skip or repeat
/// something.
pub(crate) fn read<T: DeserializeOwned + Default>(path: &Path, what: &str) -> Result<T> {
    let damaged = |why: String| {
        Failure::usage(format!("{} is no {what}: {why}", path.display()))
            .hint("name another with --cursor-file, or remove this one to begin without a place")
    };
    match fs::read(path) {
        Ok(bytes) if bytes.is_empty() => Err(damaged("it is empty".into())),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(Failure::file("read", path, &error)),
    }
}

/// Replaces the file by one that only its owner can read. A temporary file is written, synced and renamed, so that
/// the file is complete at any time, even after a power failure.
pub(crate) fn replace(path: &Path, kept: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(kept)?;
    let write = || -> io::Result<()> {
        // If `path` is a symbolic link, its target is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = folder_of(&path);
        let mut file = tempfile::NamedTempFile::new_in(&folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        File::open(&folder)?.sync_all()
    };
    write().map_err(|error| Failure::file("write", path, &error))
}

/// Returns the folder of a file; `.` for a bare file name.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    type Kept = BTreeMap<String, i64>;

    #[test]
    fn what_was_kept_is_read_back_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("place"), folder.path().join("link"));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        for round in 0..3 {
            replace(&path, &Kept::from([("a".into(), round)])).unwrap();
            replace(&link, &Kept::from([("a".into(), round + 1)])).unwrap();
            assert_eq!(read::<Kept>(&path, "file of places").unwrap()["a"], round + 1);
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left beside it");
    }

    #[test]
    fn an_empty_or_damaged_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("place");
        assert!(read::<Kept>(&path, "file of places").unwrap().is_empty(), "one that is not there yet");
        // A file that was not synced may come back from a power cut empty, cut or full of NUL.
        for damaged in ["", "\0\0\0\0", "{\"a\":1", "{\"a\":", "dear diary", "[]", "null"] {
            fs::write(&path, damaged).unwrap();
            let failure = read::<Kept>(&path, "file of places").unwrap_err();
            assert_eq!(failure.exit, crate::exit::Exit::Usage);
            assert!(failure.message.starts_with(&format!("{} is no file of places: ", path.display())), "{damaged:?}");
        }
    }
}
