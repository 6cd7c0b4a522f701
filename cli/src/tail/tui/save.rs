//! Saves a transcript: as NDJSON, or as text where the file is called so.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use callscope_common::protocol::ServerMessage;
use callscope_common::{Seq, text};

use super::call_tab::CallTab;
use super::entry::{Entry, Layout};
use super::event_entries;
use super::event_pages::EventPages;
use crate::api::Client;
use crate::exit::{Failure, Result};
use crate::render::Safe;
use crate::state_file::folder_of;

/// A file to write a transcript to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SaveRequest {
    pub(crate) path: String,
    /// The call record that evicted events are read from.
    pub(crate) id: String,
    pub(crate) parts: Vec<SavePart>,
    /// How the text is laid out; `None` for NDJSON.
    pub(crate) layout: Option<Layout>,
}

/// A part of a transcript that is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SavePart {
    /// Lines as they are written.
    Text(String),
    /// Evicted events: behind the first seq, up to the second.
    Events(Seq, Seq),
}

impl SaveRequest {
    /// Collects the transcript of a call for the file at `path`. Evicted events are read from the server when the file
    /// is written.
    pub(crate) fn new(tab: &CallTab, path: &str) -> Self {
        let layout = path.ends_with(".txt").then_some(*tab.transcript.layout());
        let id = tab.progress.place.call_id.map(|id| id.to_string()).unwrap_or_default();
        let mut parts = Vec::new();
        for entry in tab.transcript.entries() {
            if entry.is_evicted() {
                match parts.last_mut() {
                    Some(SavePart::Events(_, to)) => *to = entry.seq,
                    _ => parts.push(SavePart::Events(entry.seq - 1, entry.seq)),
                }
                continue;
            }
            if !matches!(parts.last(), Some(SavePart::Text(_))) {
                parts.push(SavePart::Text(String::new()));
            }
            if let Some(SavePart::Text(lines)) = parts.last_mut() {
                write_entry(lines, entry, layout.as_ref());
            }
        }
        Self { path: path.to_owned(), id, parts, layout }
    }

    /// Writes the file and returns the outcome in words. Without a `client`, nothing may have been evicted.
    pub(crate) async fn save(self, client: Option<Client>) -> std::result::Result<String, String> {
        let path = self.path.clone();
        match self.write(client).await {
            Ok(()) => Ok(format!("saved as {path}")),
            Err(failure) => Err(format!("not saved: {}", failure.message)),
        }
    }

    /// Writes a new file, whole or not at all. An existing file is an error.
    async fn write(self, client: Option<Client>) -> Result<()> {
        let failed = |error: std::io::Error| Failure::error(error.to_string());
        let path = Path::new(&self.path);
        if path.symlink_metadata().is_ok() {
            return Err(Failure::error("File exists"));
        }
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
        let file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder_of(path)).map_err(failed)?;
        let mut file = std::io::BufWriter::new(file);
        for part in self.parts {
            match (part, &client) {
                (SavePart::Text(lines), _) => file.write_all(lines.as_bytes()).map_err(failed)?,
                (SavePart::Events(after, to), Some(client)) => {
                    let mut pages = EventPages::new(client, &self.id, (after, to));
                    while let Some(page) = pages.next().await? {
                        let mut lines = String::new();
                        for (_, entries) in page.iter().filter_map(|raw| event_entries::read(raw)) {
                            entries.iter().for_each(|entry| write_entry(&mut lines, entry, self.layout.as_ref()));
                        }
                        file.write_all(lines.as_bytes()).map_err(failed)?;
                    }
                }
                (SavePart::Events(..), None) => {}
            }
        }
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist_noclobber(path).map(drop).map_err(|error| failed(error.error))
    }
}

/// Proposes a file name for the transcript of a call.
pub(crate) fn default_file_name(identifier: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    format!("callscope-{}.ndjson", identifier.chars().map(safe).collect::<String>())
}

/// Returns what was said as it came, which is untrusted text.
pub(crate) fn original_text(entry: &Entry) -> String {
    match entry.raw.as_deref().map(ServerMessage::parse) {
        Some(Ok(ServerMessage::Transcription(turn))) => turn.message_text,
        Some(Ok(ServerMessage::TranscriptionPartial(turn))) => turn.message_text,
        _ => entry.text.to_string(),
    }
}

/// Writes an entry: as text where there is a `layout`, else as the message that it came with.
fn write_entry(to: &mut String, entry: &Entry, layout: Option<&Layout>) {
    let _ = match (layout, entry.kind.speaker(), &entry.raw) {
        (Some(layout), Some(speaker), _) => {
            let said = original_text(entry);
            writeln!(to, "{} {:5}  {}", layout.time(entry), speaker.as_str(), text::one_line(&said))
        }
        (Some(_), None, _) => writeln!(to, "-- {}", entry.text),
        (None, _, Some(raw)) => write!(to, "{}", Safe::json_line(raw).as_str()),
        (None, _, None) => Ok(()),
    };
}
