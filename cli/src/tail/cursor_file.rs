//! The file that remembers how far each call was read.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use callscope_common::{CallId, Identifier, Seq};
use serde::{Deserialize, Serialize};

use crate::exit::{Failure, Result};
use crate::live::Place;

/// Places by identifier, in one JSON file that is replaced whole.
#[derive(Debug)]
pub struct CursorFile {
    path: PathBuf,
    places: BTreeMap<String, Cursor>,
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    seq: Seq,
    #[serde(default)]
    call_id: Option<CallId>,
}

impl CursorFile {
    /// Reads the file; one that is not there yet is empty.
    pub fn open(path: &Path) -> Result<Self> {
        let places = match fs::read(path) {
            Ok(bytes) if bytes.is_empty() => BTreeMap::new(),
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                Failure::usage(format!("{} is no cursor file: {error}", path.display()))
                    .hint("name another with --cursor-file, or remove it to begin anew")
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(Failure::file("read", path, &error)),
        };
        Ok(Self { path: path.to_owned(), places, changed: false })
    }

    /// How far the call was read.
    pub fn place(&self, identifier: &Identifier) -> Option<Place> {
        let cursor = self.places.get(identifier.as_str())?;
        Some(Place { seq: cursor.seq.max(0), call_id: cursor.call_id })
    }

    /// Notes how far it was read now.
    pub fn reached(&mut self, identifier: &Identifier, place: Place) {
        let cursor = Cursor { seq: place.seq, call_id: place.call_id };
        if place.call_id.is_some() && self.places.get(identifier.as_str()) != Some(&cursor) {
            self.places.insert(identifier.to_string(), cursor);
            self.changed = true;
        }
    }

    /// Writes what changed.
    pub fn write(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        let text = serde_json::to_string(&self.places).map_err(|error| Failure::error(error.to_string()))?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Renamed into place, so that whoever reads it, also after a crash, finds a whole one.
        let replace = || -> std::io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            std::io::Write::write_all(&mut file, text.as_bytes())?;
            file.persist(&self.path)?;
            Ok(())
        };
        replace().map_err(|error| Failure::file("write", &self.path, &error))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cursors");
        let (a, b) = (Identifier::parse("EL_a_1").unwrap(), Identifier::parse("EL_b_1").unwrap());
        let place = Place { seq: 12, call_id: Some(CallId::from_u128(7)) };
        let mut file = CursorFile::open(&path).unwrap();
        file.reached(&a, place);
        file.write().unwrap();
        let file = CursorFile::open(&path).unwrap();
        assert_eq!((file.place(&a), file.place(&b)), (Some(place), None));
    }

    #[test]
    fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        fs::write(&path, "dear diary").unwrap();
        assert!(CursorFile::open(&path).is_err());
    }
}
