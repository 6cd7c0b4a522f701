//! The file that remembers how far each call was read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use callscope_common::Identifier;

use crate::exit::Result;
use crate::state_file;
use crate::stream::Place;

/// Places by identifier, in one JSON file that is always replaced as a whole.
#[derive(Debug)]
pub(crate) struct CursorFile {
    path: PathBuf,
    places: BTreeMap<String, Place>,
    changed: bool,
}

impl CursorFile {
    /// Reads the file. A file that does not exist counts as empty.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let places = state_file::read(path, "cursor file")?;
        Ok(Self { path: path.to_owned(), places, changed: false })
    }

    /// Returns how far the call was read.
    pub(crate) fn place(&self, identifier: &Identifier) -> Option<Place> {
        let place = *self.places.get(identifier.as_str())?;
        Some(Place { seq: place.seq.max(0), ..place })
    }

    /// Records how far the call was read. A place without a call id is not recorded.
    pub(crate) fn record(&mut self, identifier: &Identifier, place: Place) {
        if place.call_id.is_some() && self.places.get(identifier.as_str()) != Some(&place) {
            self.places.insert(identifier.to_string(), place);
            self.changed = true;
        }
    }

    /// Writes the file if a place changed.
    pub(crate) fn write(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        state_file::replace(&self.path, &self.places)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use callscope_common::CallId;

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
        // Files of versions without cursors are still read.
        fs::write(&path, r#"{"EL_a_1":{"seq":3,"call_id":null}}"#).unwrap();
        let place = CursorFile::open(&path).unwrap().place(&Identifier::parse("EL_a_1").unwrap());
        assert_eq!(place, Some(Place::after(3)));
    }
}
