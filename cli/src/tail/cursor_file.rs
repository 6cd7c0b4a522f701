//! The file that remembers how far each call was read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use callscope_common::{CallId, Identifier, Seq};
use serde::{Deserialize, Serialize};

use crate::exit::Result;
use crate::live::Place;
use crate::state_file;

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
        let places = state_file::read(path, "cursor file")?;
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
        state_file::replace(&self.path, &self.places)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

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
