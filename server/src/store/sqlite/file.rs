//! The SQLite file in the file system: locks it, and checks that its path still leads to it.
//!
//! SQLite's locks are POSIX locks: close(2) of any descriptor of a file drops all locks of the process on it. So this
//! module never opens the database, its log or its index while connections to them exist, and only calls stat(2).

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

use crate::store::StoreError;
use crate::store::sqlite_path::{COMPANIONS, PathError, beside};

/// The first bytes of an SQLite database that is not empty.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Only the owner may read and write the files.
const FILE_MODE: u32 = 0o600;

/// How long the result of a check of the files is reused.
const CHECK_VALIDITY: Duration = Duration::from_millis(50);

/// The lock by which one process alone uses an SQLite file. It ends with the process, or when it is released.
#[derive(Debug)]
pub(in crate::store) struct FileLock(Mutex<Option<File>>);

impl FileLock {
    /// Takes the lock for `path`, a result of [`resolve`](crate::store::sqlite_path::resolve), and creates the database
    /// if it is missing.
    ///
    /// # Errors
    /// Returns an error if another process holds the lock, or the file is not an SQLite database.
    pub(in crate::store) fn take(path: &Path) -> Result<Self, PathError> {
        let lock = beside(path, ".lock");
        let problem = |error: std::io::Error| PathError::new(format!("{} cannot be locked: {error}", path.display()));
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&lock)
            .map_err(problem)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = file.take(20).read_to_string(&mut holder);
                let holder =
                    holder.trim().parse().map_or_else(|_| String::new(), |pid: u32| format!(" (process {pid})"));
                return Err(PathError::new(format!(
                    "another callscope-server{holder} uses {}; an SQLite file serves one process at a time",
                    path.display()
                )));
            }
            Err(error) => return Err(problem(error.into())),
        }
        // The process id is only for the error message of a second process, so a failure to write it is ignored.
        let _ = file.rewind().and_then(|()| file.set_len(0)).and_then(|()| writeln!(file, "{}", std::process::id()));
        // No connection exists yet, so this may open and close the database without dropping SQLite's locks.
        create(path)?;
        Ok(Self(Mutex::new(Some(file))))
    }

    /// Releases the lock, so that the next process may use the file.
    pub(in crate::store) fn release(&self) {
        drop(self.0.lock().take());
    }
}

/// Creates an empty database that only its owner may read, or checks that the file is a database.
fn create(path: &Path) -> Result<(), PathError> {
    let problem = |error: std::io::Error| PathError::new(format!("{} cannot be opened: {error}", path.display()));
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let file = OpenOptions::new().read(true).write(true).open(path).map_err(problem)?;
            let mut head = Vec::new();
            file.take(MAGIC.len() as u64).read_to_end(&mut head).map_err(problem)?;
            match head.is_empty() || head == MAGIC {
                true => Ok(()),
                false => Err(PathError::new(format!("{} is a file, but not an SQLite database", path.display()))),
            }
        }
        Err(error) => Err(problem(error)),
    }
}

/// Holds the lock of the file, and checks that the paths still lead to the files that the connections have open. Each
/// session has a clone, so it is as small as a pointer.
#[derive(Debug, Clone)]
pub struct FileGuard(Arc<Guarded>);

#[derive(Debug)]
struct Guarded {
    lock: FileLock,
    files: Vec<(PathBuf, Identity)>,
    /// When the files were last checked; `None` if that check failed.
    checked_at: Mutex<Option<Instant>>,
}

/// A file's device and inode.
type Identity = (u64, u64);

impl FileGuard {
    /// Records the identities of the files of the database at `path`, which must be open and locked.
    ///
    /// # Errors
    /// Returns an error if one of the files is missing.
    pub(in crate::store) fn of(path: &Path, lock: FileLock) -> Result<Self, PathError> {
        let identify = |suffix: &&str| {
            let path = beside(path, suffix);
            let found = identity(&path).ok_or_else(|| PathError::new(format!("{} is missing", path.display())))?;
            Ok((path, found))
        };
        let files = [""].iter().chain(&COMPANIONS).map(identify).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Guarded { lock, files, checked_at: Mutex::new(None) })))
    }

    /// Checks that the paths lead to the files that the connections write to. This costs three calls of stat(2).
    ///
    /// # Errors
    /// Returns [`StoreError::Replaced`] if they do not, because a commit would be lost at the next start.
    pub(in crate::store) fn check(&self) -> Result<(), StoreError> {
        let replaced = self.0.files.iter().find(|(path, recorded)| identity(path) != Some(*recorded));
        *self.0.checked_at.lock() = replaced.is_none().then(Instant::now);
        replaced.map_or(Ok(()), |(path, _)| Err(StoreError::Replaced(path.clone())))
    }

    /// Checks the files before a transaction, unless the last check is recent. Under load, the check at the end of each
    /// transaction serves the next one.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub(in crate::store) fn check_if_stale(&self) -> Result<(), StoreError> {
        let checked_at = *self.0.checked_at.lock();
        if checked_at.is_some_and(|at| at.elapsed() < CHECK_VALIDITY) { Ok(()) } else { self.check() }
    }

    /// Releases the lock, so that the next process may use the file.
    pub(in crate::store) fn release(&self) {
        self.0.lock.release();
    }
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::store::sqlite_path::{path, resolve};

    #[test]
    fn a_second_holder_is_refused_through_a_symbolic_link_too() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("x.db"), dir.path().join("link.db"));
        symlink("x.db", &link).unwrap();
        let lock = FileLock::take(&resolve(&link).unwrap()).unwrap();
        assert!(file.is_file());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let problem = FileLock::take(&resolve(&file).unwrap()).unwrap_err().to_string();
        assert!(problem.contains("x.db") && problem.contains(&std::process::id().to_string()), "{problem}");
        lock.release();
        FileLock::take(&resolve(&file).unwrap()).unwrap();
    }

    #[test]
    fn an_error_names_the_path_that_cannot_be_a_database() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| format!("sqlite://{}{path}", dir.path().display());
        fs::write(dir.path().join("text"), "no database at all, just words").unwrap();
        fs::create_dir(dir.path().join("a dir")).unwrap();
        let open = |url: &str| path(url).and_then(|path| resolve(&path)).and_then(|path| FileLock::take(&path));
        for (url, expected) in [
            (at("/nodir/x.db"), "nodir is missing"),
            (at(""), "is a folder"),
            (at("/text"), "not an SQLite database"),
            (at("/text/x.db"), "text"),
            (at("/q?x/y.db"), "%3F"),
            (at("/q%00.db"), "NUL"),
            (at("/x.db?mode=ro"), "mode=ro"),
            ("sqlite://".into(), "names no file"),
            ("sqlite::memory:".into(), "memory"),
            ("sqlite:///dev/null".into(), "not a regular file"),
        ] {
            let problem = open(&url).map(|_| ()).unwrap_err().to_string();
            assert!(problem.contains(expected), "{url}: {problem}");
            assert!(!problem.contains('\n'), "{url}: {problem}");
        }
        open(&at("/a%20dir/100%25.db")).unwrap();
        assert!(dir.path().join("a dir/100%.db").is_file());
    }
}
