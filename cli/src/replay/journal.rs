//! What a replay has sent, kept in a file, so that one that was interrupted can go on.
//!
//! The first line says what was asked for; each further one that a call began, or that a delivery was answered.
//! Whatever was under way when the program died is sent again: as the same delivery, which the receiver answers as
//! a repeat.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::source::Source;
use crate::exit::{Failure, Result};
use crate::payload::hash;

/// So long a record is kept.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Names this replay; its new identifiers follow from it.
    pub(crate) id: String,
    /// When it began, in Unix seconds.
    pub(crate) began: i64,
    /// The command line, without the program's name.
    pub(crate) args: Vec<String>,
    /// The working directory.
    pub(crate) folder: PathBuf,
    /// The server, which the environment may have named.
    pub(crate) server: String,
    /// What came on stdin, which cannot be read twice.
    pub(crate) stdin: Option<String>,
    /// Tells whether the sources are still the same.
    pub(crate) sources: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    /// A call began, in Unix seconds.
    Began(usize, usize, i64),
    /// A delivery was answered.
    Done(usize, usize),
}

/// The record of one replay. Without a file it forgets everything when the program ends.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    file: Option<(PathBuf, File)>,
    began: HashMap<(usize, usize), i64>,
    done: HashSet<(usize, usize)>,
}

impl Journal {
    /// A new file for `asked`.
    pub(crate) fn create(asked: &Asked) -> Result<Self> {
        let folder = folder()?;
        fs::create_dir_all(&folder).map_err(|error| Failure::file("make", &folder, &error))?;
        forget_old(&folder);
        let path = folder.join(format!("{}.ndjson", asked.id));
        let wrong = |error: std::io::Error| Failure::file("write", &path, &error);
        let mut options = OpenOptions::new();
        options.create_new(true).append(true);
        // What came on stdin may tell of people.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(wrong)?;
        writeln!(file, "{}", serde_json::to_string(asked).unwrap_or_default()).map_err(wrong)?;
        Ok(Self { file: Some((path, file)), ..Self::default() })
    }

    /// The replay called `id`, or the latest where it is `last`.
    pub(crate) fn open(id: &str) -> Result<(Asked, Self)> {
        let path = find(id)?;
        let text = fs::read_to_string(&path).map_err(|error| Failure::file("read", &path, &error))?;
        let mut lines = text.split_inclusive('\n');
        let asked = lines
            .next()
            .and_then(|line| serde_json::from_str(line).ok())
            .ok_or_else(|| Failure::error(format!("{} is no record of a replay of this version", path.display())))?;
        let mut journal = Self::default();
        // The last line may have been cut off; it then says nothing, and what it would have said is done again.
        for entry in lines.filter(|line| line.ends_with('\n')).filter_map(|line| serde_json::from_str(line).ok()) {
            journal.take(&entry);
        }
        let mut file =
            OpenOptions::new().append(true).open(&path).map_err(|error| Failure::file("write", &path, &error))?;
        if !text.ends_with('\n') {
            writeln!(file).map_err(|error| Failure::file("write", &path, &error))?;
        }
        journal.file = Some((path, file));
        Ok((asked, journal))
    }

    /// When the calls of `group` began in `round`: now, where they had not.
    pub(crate) fn began(&mut self, round: usize, group: usize, now: i64) -> i64 {
        match self.began.get(&(round, group)) {
            Some(began) => *began,
            None => {
                self.write(&Entry::Began(round, group, now));
                now
            }
        }
    }

    /// Whether the delivery was answered before.
    pub(crate) fn is_done(&self, job: usize, step: usize) -> bool {
        self.done.contains(&(job, step))
    }

    /// How many deliveries were answered.
    pub(crate) fn done(&self) -> usize {
        self.done.len()
    }

    /// The delivery was answered.
    pub(crate) fn add(&mut self, job: usize, step: usize) {
        self.write(&Entry::Done(job, step));
    }

    /// Whether going on is possible after the program has ended.
    pub(crate) fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// Nothing is left to go on with.
    pub(crate) fn discard(&mut self) {
        if let Some((path, _)) = self.file.take() {
            let _ = fs::remove_file(path);
        }
    }

    fn take(&mut self, entry: &Entry) {
        match *entry {
            Entry::Began(round, group, at) => drop(self.began.insert((round, group), at)),
            Entry::Done(job, step) => drop(self.done.insert((job, step))),
        }
    }

    fn write(&mut self, entry: &Entry) {
        self.take(entry);
        let line = format!("{}\n", serde_json::to_string(entry).unwrap_or_default());
        // A line that cannot be written costs a repeat when going on, so the replay is not stopped for it.
        if let Some((_, file)) = &mut self.file {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// A number that tells other sources from these.
pub(crate) fn fingerprint(sources: &[Source]) -> u64 {
    let payloads = sources.iter().flat_map(|source| &source.payloads);
    payloads.fold(sources.len() as u64, |sum, payload| sum.rotate_left(7) ^ hash(&[&payload.body]))
}

/// `$XDG_STATE_HOME/callscope/replays`, or `~/.local/state/callscope/replays`.
fn folder() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    state
        .map(|state| state.join("callscope/replays"))
        .ok_or_else(|| Failure::error("neither XDG_STATE_HOME nor HOME is set"))
}

/// A replay that was interrupted a month ago is not continued.
fn forget_old(folder: &Path) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let age = fs::metadata(&path).and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > KEPT) && path.extension().is_some_and(|end| end == "ndjson") {
            let _ = fs::remove_file(path);
        }
    }
}

fn find(id: &str) -> Result<PathBuf> {
    let folder = folder()?;
    let all = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let found = if id == "last" {
        all.max_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok())
    } else {
        all.into_iter().find(|path| path.file_stem() == Some(Path::new(id).as_os_str()))
    };
    found.ok_or_else(|| {
        let which = if id == "last" { "no replay was".to_owned() } else { format!("no replay called {id} was") };
        Failure::not_found(format!("{which} interrupted here; those that were are kept in {}", folder.display()))
    })
}
