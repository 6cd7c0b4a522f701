//! The journal of a replay: a file that records what was sent, so that an interrupted replay can be resumed.
//!
//! The first line is the header. Each further line says that a call began or that a delivery was answered. A delivery
//! that was not yet answered when the program ended is sent again with the same dedup key, so the receiver treats it
//! as a duplicate.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::exit::{Failure, Result};
use crate::payload::hash;

/// Maximum age of a journal. Older ones are deleted.
const MAX_AGE: Duration = Duration::from_secs(30 * 86_400);

/// The first line of a journal: what is needed to start the same replay again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalHeader {
    /// The id of this replay. The new identifiers of its calls are derived from it.
    pub(crate) id: String,
    /// When the replay began, in Unix seconds.
    pub(crate) began: i64,
    /// The command line, without the program's name.
    pub(crate) args: Vec<String>,
    /// The working directory.
    pub(crate) folder: PathBuf,
    /// The URL of the server. It may come from the environment, so `args` does not always have it.
    pub(crate) server: String,
    /// The text of stdin, because stdin cannot be read again.
    pub(crate) stdin: Option<String>,
    /// The [`fingerprint`] of the sources. A replay is not resumed after they have changed.
    pub(crate) sources: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// Round, group, and the time at which the calls of the group began, in Unix seconds.
    Began(usize, usize, i64),
    /// Job number and step of a delivery that was answered.
    Done(usize, usize),
}

/// The record of what one replay has sent. Without a file it is lost when the program ends.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    file: Option<(PathBuf, File)>,
    began: HashMap<(usize, usize), i64>,
    done: HashSet<(usize, usize)>,
}

impl Journal {
    /// Creates a file that begins with `header`.
    pub(crate) fn create(header: &JournalHeader) -> Result<Self> {
        let folder = journal_folder()?;
        fs::create_dir_all(&folder).map_err(|error| Failure::file("make", &folder, &error))?;
        delete_old(&folder);
        let path = folder.join(format!("{}.ndjson", header.id));
        let cannot_write = |error: std::io::Error| Failure::file("write", &path, &error);
        let mut options = OpenOptions::new();
        options.create_new(true).append(true);
        // The header contains the text of stdin, which may contain personal data.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(cannot_write)?;
        writeln!(file, "{}", serde_json::to_string(header).unwrap_or_default()).map_err(cannot_write)?;
        Ok(Self { file: Some((path, file)), ..Self::default() })
    }

    /// Opens the journal of the replay `id`; `last` stands for the latest one.
    pub(crate) fn open(id: &str) -> Result<(JournalHeader, Self)> {
        let path = find_journal(id)?;
        let text = fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
        let mut lines = text.split_inclusive('\n');
        let header = lines.next().and_then(|line| serde_json::from_str(line).ok()).ok_or_else(|| {
            Failure::error(format!(
                "{} is not the journal of a replay, or is of another version of callscope",
                path.display()
            ))
        })?;
        let mut journal = Self::default();
        // The last line may be incomplete. It is ignored, so what it recorded is sent again.
        for entry in lines.filter(|line| line.ends_with('\n')).filter_map(|line| serde_json::from_str(line).ok()) {
            journal.record(&entry);
        }
        let mut file =
            OpenOptions::new().append(true).open(&path).map_err(|error| Failure::file("write", &path, &error))?;
        if !text.ends_with('\n') {
            writeln!(file).map_err(|error| Failure::file("write", &path, &error))?;
        }
        journal.file = Some((path, file));
        Ok((header, journal))
    }

    /// Returns when the calls of `group` began in `round`. If they have not begun, records that they begin at `now`.
    pub(crate) fn begin_group(&mut self, round: usize, group: usize, now: i64) -> i64 {
        match self.began.get(&(round, group)) {
            Some(began) => *began,
            None => {
                self.write(&Entry::Began(round, group, now));
                now
            }
        }
    }

    /// Whether the delivery was already answered.
    pub(crate) fn is_done(&self, job: usize, step: usize) -> bool {
        self.done.contains(&(job, step))
    }

    /// Returns the number of answered deliveries.
    pub(crate) fn done_count(&self) -> usize {
        self.done.len()
    }

    /// Records that the delivery was answered.
    pub(crate) fn mark_done(&mut self, job: usize, step: usize) {
        self.write(&Entry::Done(job, step));
    }

    /// Whether the replay can be resumed after the program has ended.
    pub(crate) fn is_resumable(&self) -> bool {
        self.file.is_some()
    }

    /// Deletes the file, because nothing is left to resume.
    pub(crate) fn discard(&mut self) {
        if let Some((path, _)) = self.file.take() {
            let _ = fs::remove_file(path);
        }
    }

    fn record(&mut self, entry: &Entry) {
        match *entry {
            Entry::Began(round, group, at) => drop(self.began.insert((round, group), at)),
            Entry::Done(job, step) => drop(self.done.insert((job, step))),
        }
    }

    fn write(&mut self, entry: &Entry) {
        self.record(entry);
        let line = format!("{}\n", serde_json::to_string(entry).unwrap_or_default());
        // If a line cannot be written, a resumed replay repeats a delivery. That is no reason to stop this replay.
        if let Some((_, file)) = &mut self.file {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// Returns a hash of all payloads.
pub(crate) fn fingerprint(sources: &[Source]) -> u64 {
    let payloads = sources.iter().flat_map(|source| &source.payloads);
    payloads.fold(sources.len() as u64, |sum, payload| sum.rotate_left(7) ^ hash(&[&payload.body]))
}

/// Returns `$XDG_STATE_HOME/callscope/replays`, or `~/.local/state/callscope/replays`.
fn journal_folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    state
        .map(|state| state.join("callscope/replays"))
        .ok_or_else(|| Failure::error("neither XDG_STATE_HOME nor HOME is set"))
}

/// Deletes journals that are older than [`MAX_AGE`]. Errors are ignored; the next replay tries again.
fn delete_old(folder: &Path) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let age = fs::metadata(&path).and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > MAX_AGE) && path.extension().is_some_and(|end| end == "ndjson") {
            let _ = fs::remove_file(path);
        }
    }
}

fn find_journal(id: &str) -> Result<PathBuf> {
    let folder = journal_folder()?;
    let all = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = if id == "last" {
        all.max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok())
    } else {
        all.into_iter().find(|path| path.file_stem() == Some(Path::new(id).as_os_str()))
    };
    found.ok_or_else(|| {
        let which = if id == "last" { "no replay was".to_owned() } else { format!("no replay called {id} was") };
        Failure::not_found(format!("{which} interrupted here; interrupted replays are kept in {}", folder.display()))
    })
}
