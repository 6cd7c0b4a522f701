//! The file that remembers how far each call was read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use callscope_common::{CallId, Identifier, Seq};
use serde::{Deserialize, Serialize};

use crate::exit::Result;
use crate::state_file;
use crate::stream::{CursorText, Place};

/// Places by identifier, in one JSON file that is replaced whole.
#[derive(Debug)]
pub struct CursorFile {
    path: PathBuf,
    places: BTreeMap<String, SavedPlace>,
    changed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedPlace {
    seq: Seq,
    /// Written by versions without cursors too, and for servers without them.
    #[serde(default)]
    call_id: Option<CallId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cursor: Option<CursorText>,
}

impl CursorFile {
    /// Reads the file; one that is not there yet is empty.
    pub fn open(path: &Path) -> Result<Self> {
        let places = state_file::read(path, "cursor file")?;
        Ok(Self { path: path.to_owned(), places, changed: false })
    }

    /// How far the call was read.
    pub fn place(&self, identifier: &Identifier) -> Option<Place> {
        let SavedPlace { seq, call_id, cursor } = *self.places.get(identifier.as_str())?;
        Some(Place { seq: seq.max(0), call_id, cursor })
    }

    /// Notes how far it was read now.
    pub fn record(&mut self, identifier: &Identifier, place: Place) {
        let Place { seq, call_id, cursor } = place;
        let kept = SavedPlace { seq, call_id, cursor };
        if call_id.is_some() && self.places.get(identifier.as_str()) != Some(&kept) {
            self.places.insert(identifier.to_string(), kept);
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
        let place =
            Place { seq: 12, call_id: Some(CallId::from_u128(7)), cursor: "12.AAAAAAAHxxxxxxxxxxx".parse().ok() };
        let mut file = CursorFile::open(&path).unwrap();
        file.record(&a, place);
        file.write().unwrap();
        let file = CursorFile::open(&path).unwrap();
        assert_eq!((file.place(&a), file.place(&b)), (Some(place), None));
    }

    #[test]
    fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        let of_listen = r#"{"deliveries_after":null,"sending":null}"#;
        let bad_cursor = r#"{"EL_a_1":{"seq":3,"cursor":"a b"}}"#;
        for other in ["dear diary", "", of_listen, bad_cursor] {
            fs::write(&path, other).unwrap();
            assert!(CursorFile::open(&path).is_err(), "{other:?}");
        }
        // What versions without cursors wrote is read.
        fs::write(&path, r#"{"EL_a_1":{"seq":3,"call_id":null}}"#).unwrap();
        let place = CursorFile::open(&path).unwrap().place(&Identifier::parse("EL_a_1").unwrap());
        assert_eq!(place, Some(Place::after(3)));
    }
}
