//! `calls export`: a call as a file.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use callscope_common::api::CallView;
use callscope_common::{Seq, export};

use crate::api::{Client, MAX_LIST_BYTES, too_long};
use crate::command::calls::Kind;
use crate::exit::{Exit, Failure, Result};
use crate::render::{Format, Safe, last_argument};
use crate::settings::Settings;
use crate::stream::{Incoming, Place};

/// How many events one request asks for.
const PAGE_LEN: usize = 1000;

pub(crate) struct Export {
    /// Any identifier of the call.
    pub(crate) id: String,
    pub(crate) format: Option<Kind>,
    pub(crate) source: String,
    /// The file to write.
    pub(crate) to: Option<PathBuf>,
    /// Whether an existing file may be replaced.
    pub(crate) force: bool,
}

pub(crate) async fn run(settings: &Settings, client: &Client, export: Export) -> Result {
    let kind = kind(settings, &export)?;
    if kind == Kind::Ndjson && export.source == "final" {
        return Err(Failure::usage("ndjson is the live stream's events; the provider's transcript has none")
            .hint("the provider's turns: --format json --source final"));
    }
    // Checked before anything is fetched, so that the error comes at once.
    if let Some(path) = export.to.as_deref().filter(|path| path.exists() && !export.force) {
        return Err(Failure::error(format!("{} is there already", path.display())).hint("write over it: --force"));
    }
    let id = &export.id;
    let call = client.call(id).await.map_err(super::with_hint)?.value;
    let text = text(client, &call, kind, &export.source).await?;
    match &export.to {
        Some(path) => {
            write(path, text.as_str(), export.force).map_err(|error| Failure::file("write", path, &error))?;
            settings.console.say(format!("wrote {} ({} bytes)", path.display(), text.as_str().len()));
        }
        None => settings.output(Format::Text).write(&text)?,
    }
    if !call.status.is_ended() {
        let sid = last_argument(&call.call_sid);
        settings
            .console
            .warn(format!("the call goes on; this is what was said so far; the rest: callscope tail {sid}"));
    }
    Ok(Exit::Ok)
}

/// Returns the format: that of `--format`, else of the extension of `--to`, else of `-o`, else text.
fn kind(settings: &Settings, export: &Export) -> Result<Kind> {
    if let Some(kind) = export.format {
        return Ok(kind);
    }
    if let Some(ending) = export.to.as_deref().and_then(Path::extension).and_then(OsStr::to_str) {
        let known = <Kind as clap::ValueEnum>::from_str(ending, true);
        return known.map_err(|_| {
            Failure::usage(format!("what to make of the call? no format is called {ending}"))
                .hint("say it: --format txt|md|json|ndjson|srt|vtt")
        });
    }
    Ok(match settings.format {
        Some(Format::Json) => Kind::Json,
        Some(Format::Ndjson) => Kind::Ndjson,
        _ => Kind::Txt,
    })
}

async fn text(client: &Client, call: &CallView, kind: Kind, source: &str) -> Result<Safe> {
    if kind == Kind::Ndjson {
        return events(client, call).await;
    }
    // The turns are fetched as JSON and formatted here, because an older server may not know all formats.
    let id = call.call_id.to_string();
    let transcript = client.transcript(&id, source).await.map_err(|failure| match failure.exit {
        Exit::NotFound => failure.hint("the turns that came live: --source live"),
        _ => failure,
    })?;
    if kind == Kind::Json {
        return Ok(Safe::json(transcript.json.get()).with_newline());
    }
    let view = transcript.value;
    Ok(Safe::exported(&match kind {
        Kind::Md => export::md(&view, call),
        Kind::Srt => export::srt(&view),
        Kind::Vtt => export::vtt(&view),
        Kind::Txt | Kind::Json | Kind::Ndjson => export::txt(&view),
    }))
}

/// Fetches every event up to the head of the log, as the stream sends them. A gap is an error.
async fn events(client: &Client, call: &CallView) -> Result<Safe> {
    let (mut text, mut place, mut head): (Vec<Safe>, Place, Seq) = (Vec::new(), Place::default(), call.seq);
    let mut length = 0;
    let id = call.call_id.to_string();
    while place.seq < head {
        let before = place.seq;
        // A cursor ensures that all pages are of the same log. Older servers send no cursors and take a seq.
        let after = place.cursor.map_or_else(|| before.to_string(), |cursor| cursor.to_string());
        let page = client.events(&id, after, PAGE_LEN).await?;
        head = head.max(page.head);
        for event in page.events {
            let incoming = Incoming::read(event.get().to_owned());
            let (found, cursor) = incoming.map_or((None, None), |incoming| (incoming.seq, incoming.cursor));
            let due = place.seq + 1;
            if found != Some(due) {
                let found = found.map_or("something else".into(), |seq| format!("event {seq}"));
                return Err(Failure::error(format!("the server sent {found} where event {due} was due")));
            }
            place = Place { cursor, ..Place::after(due) };
            length += event.get().len();
            text.push(Safe::json_line(event.get()));
        }
        if length > MAX_LIST_BYTES {
            return Err(too_long("the call's log", MAX_LIST_BYTES));
        }
        if place.seq < head && place.seq == before {
            return Err(Failure::error(format!("the server keeps {head} events and sent none behind {before}")));
        }
    }
    Ok(text.into_iter().collect())
}

/// Writes a file atomically. Without `force`, an existing file is an error. With it, a replaced file keeps its mode,
/// and if `path` is a symbolic link, its target is replaced.
fn write(path: &Path, text: &str, force: bool) -> io::Result<()> {
    let found = if force { path.canonicalize().ok() } else { None };
    let path = found.as_deref().unwrap_or(path);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A device or a pipe is written to, not replaced.
    if path.exists() && !path.is_file() {
        let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
        return file.write_all(text.as_bytes()).and_then(|()| file.flush());
    }
    let mut file = tempfile::Builder::new().permissions(permissions()).tempfile_in(folder)?;
    if let Ok(replaced) = std::fs::metadata(path) {
        file.as_file().set_permissions(replaced.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    let done = if force { file.persist(path) } else { file.persist_noclobber(path) };
    done.map(drop).map_err(|error| error.error)
}

/// Returns the usual mode of a new file, which the umask then restricts.
fn permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o666)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_whole_and_never_over_another_unasked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("call.md");
        write(&path, "one", false).unwrap();
        assert_eq!(write(&path, "two", false).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        write(&path, "two", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
