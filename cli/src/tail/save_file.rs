//! Saves the stream as NDJSON. A tail that fails never damages an existing file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use callscope_common::protocol::ServerMessage;
use callscope_common::{Identifier, Timestamp};
use tempfile::NamedTempFile;

use super::{NdjsonWriter, Sink as _};
use crate::exit::{Failure, Result};
use crate::state_file::folder_of;
use crate::stream::Update;

/// Most updates that are kept until the server has confirmed the call. Later ones are dropped.
const MAX_EARLY: usize = 256;

/// A file that a stream is written to.
///
/// The file is created when the server confirms the call, so a tail that never reaches its call leaves no file. An
/// existing file is an error; with `--force`, the stream is written beside it and replaces it at the end.
pub(crate) struct SaveFile {
    path: PathBuf,
    force: bool,
    /// `None` until the server has confirmed the call.
    file: Option<NdjsonWriter<SaveTarget>>,
    identifiers: Vec<Identifier>,
    early: Vec<(usize, Update)>,
}

enum SaveTarget {
    /// A new file, a device or a pipe, which is written directly.
    InPlace(File),
    /// A temporary file that replaces another one at the end.
    Replacement(NamedTempFile),
}

impl io::Write for SaveTarget {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::InPlace(file) => file.write(bytes),
            Self::Replacement(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SaveFile {
    /// Prepares to write to `path`, which may be an existing file only with `force`.
    pub(crate) fn new(path: &Path, force: bool) -> Result<Self> {
        let is_there = path.symlink_metadata().is_ok();
        if is_there && !force && !is_special(path) {
            return Err(Failure::error(format!("{} is there already", path.display()))
                .hint("name another with --save, or let it be replaced: --force"));
        }
        // The file is created later, so a missing folder is reported now, not at the first message.
        let folder = folder_of(path);
        if !folder.is_dir() {
            return Err(Failure::error(format!("cannot write {}: {} is no folder", path.display(), folder.display())));
        }
        Ok(Self { path: path.to_owned(), force, file: None, identifiers: Vec::new(), early: Vec::new() })
    }

    pub(crate) fn opened(&mut self, identifier: &Identifier) -> Result<()> {
        match &mut self.file {
            Some(file) => file.opened(identifier).map_err(|error| failed(&self.path, &error)),
            None => {
                self.identifiers.push(identifier.clone());
                Ok(())
            }
        }
    }

    /// Writes an update of a call that began at `start`.
    pub(crate) fn update(&mut self, call: usize, update: &Update, start: Option<Timestamp>) -> Result<()> {
        if self.file.is_none() && !is_about_call(update) {
            if self.early.len() < MAX_EARLY {
                self.early.push((call, update.clone()));
            }
            return Ok(());
        }
        self.write(call, update, start).map_err(|error| {
            // An incomplete stream never replaces another file.
            self.file = None;
            failed(&self.path, &error)
        })
    }

    fn write(&mut self, call: usize, update: &Update, start: Option<Timestamp>) -> io::Result<()> {
        if self.file.is_none() {
            let target = self.open()?;
            let mut file = NdjsonWriter::new(target, std::mem::take(&mut self.identifiers));
            for (call, update) in self.early.drain(..) {
                file.update(call, &update, start)?;
            }
            self.file = Some(file);
        }
        self.file.as_mut().map_or(Ok(()), |file| file.update(call, update, start))
    }

    fn open(&self) -> io::Result<SaveTarget> {
        if is_special(&self.path) {
            return OpenOptions::new().write(true).open(&self.path).map(SaveTarget::InPlace);
        }
        if !self.force || self.path.symlink_metadata().is_err() {
            return OpenOptions::new().write(true).create_new(true).open(&self.path).map(SaveTarget::InPlace);
        }
        let prefix = format!(".{}.", self.path.file_name().unwrap_or_default().to_string_lossy());
        // The new file gets the permissions of the file that it replaces, which may be a dangling link.
        let permissions =
            std::fs::metadata(&self.path).map_or_else(|_| PermissionsExt::from_mode(0o666), |m| m.permissions());
        let mut beside = tempfile::Builder::new();
        beside.prefix(&prefix).suffix(".part").permissions(permissions);
        beside.tempfile_in(folder_of(&self.path)).map(SaveTarget::Replacement)
    }

    /// Replaces the existing file, if there is one. An incomplete stream never does.
    pub(crate) fn finish(self) -> Result<()> {
        let Some(SaveTarget::Replacement(file)) = self.file.map(NdjsonWriter::into_inner) else { return Ok(()) };
        let done = file.as_file().sync_all().and_then(|()| file.persist(&self.path).map_err(|error| error.error));
        done.map(drop).map_err(|error| failed(&self.path, &error))
    }
}

/// Returns whether the server has confirmed the call: by a confirmed subscription or an event.
fn is_about_call(update: &Update) -> bool {
    match update {
        Update::Ready(_) => true,
        Update::Message(incoming) => {
            incoming.seq.is_some()
                || matches!(
                    incoming.message,
                    ServerMessage::SubscriptionConfirmed(_) | ServerMessage::SubscriptionPending(_)
                )
        }
        _ => false,
    }
}

/// Returns whether a path is a device or a pipe, which is written to and never replaced.
fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::error(format!("cannot write --save {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::stream::{EndReason, Ending, Incoming, Place};

    fn lost() -> Update {
        let failure = Failure::error("no call is known");
        Update::Ended(Ending { reason: EndReason::Failed(failure), status: None, place: Place::default() })
    }

    fn message(text: &str) -> Update {
        Update::Message(Incoming::read(text.into()).unwrap())
    }

    fn pending() -> Update {
        message(r#"{"type":"subscription_pending","identifier":"a","message":""}"#)
    }

    fn save(path: &Path, force: bool) -> Result<SaveFile> {
        let mut save = SaveFile::new(path, force)?;
        save.opened(&Identifier::parse("a").unwrap())?;
        Ok(save)
    }

    #[test]
    fn a_tail_that_gets_nowhere_leaves_everything_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        fs::write(&old, "the last one").unwrap();
        assert!(save(&old, false).is_err_and(|failure| failure.message.contains("is there already")));
        for (path, force) in [(&new, false), (&new, true), (&old, true)] {
            let mut save = save(path, force).unwrap();
            save.update(0, &message(r#"{"type":"error","message":"no","code":"CALL_NOT_FOUND"}"#), None).unwrap();
            save.update(0, &lost(), None).unwrap();
            save.finish().unwrap();
        }
        assert_eq!(fs::read_to_string(&old).unwrap(), "the last one");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_came_before_is_written_with_the_first_word_and_a_replaced_file_stays_until_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (new, old) = (folder.path().join("new"), folder.path().join("old"));
        fs::write(&old, "the last one").unwrap();
        for (path, force) in [(&new, false), (&old, true)] {
            let mut save = save(path, force).unwrap();
            let delay = std::time::Duration::ZERO;
            save.update(0, &Update::Reconnecting { attempt: 1, delay, reason: "gone".into(), broke: false }, None)
                .unwrap();
            save.update(0, &pending(), None).unwrap();
            save.update(0, &lost(), None).unwrap();
            if force {
                assert_eq!(fs::read_to_string(&old).unwrap(), "the last one");
            }
            save.finish().unwrap();
            let text = fs::read_to_string(path).unwrap();
            let kinds: Vec<_> = text.lines().filter_map(|line| line.get(9..16)).collect();
            assert_eq!(kinds, ["reconne", "subscri", "end\",\"i"], "{text}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn devices_are_written_to_and_links_and_folders_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path().join("nowhere"), &link).unwrap();
        assert!(save(&link, false).is_err() && save(folder.path(), false).is_err());
        assert!(save(&folder.path().join("nowhere/file"), false).is_err());
        let mut null = save(Path::new("/dev/null"), false).unwrap();
        null.update(0, &pending(), None).unwrap();
        null.finish().unwrap();
    }
}
