//! The file that remembers how far was forwarded, and what was being forwarded.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::exit;
use crate::state_file;

/// A place, in a JSON file that is replaced whole.
#[derive(Debug)]
pub(crate) struct PlaceFile {
    path: PathBuf,
    kept: Kept,
}

// A file of something else, also one of `tail`, must not be taken for one without a place.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Behind the last delivery that was forwarded. Always written, as null before the first one.
    #[serde(deserialize_with = "required")]
    deliveries_after: Option<String>,
    /// The delivery that was on its way: the target may have seen it.
    #[serde(default)]
    sending: Option<Uuid>,
}

/// An `Option` alone may be left out.
fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

impl PlaceFile {
    /// Reads the file; one that is not there yet is empty.
    pub(crate) fn open(path: &Path) -> exit::Result<Self> {
        let kept = state_file::read(path, "cursor file of listen")?;
        let file = Self { path: path.to_owned(), kept };
        // Now rather than after the first delivery was forwarded.
        file.write()?;
        Ok(file)
    }

    /// Behind the last delivery that was forwarded.
    pub(crate) fn cursor(&self) -> Option<String> {
        self.kept.deliveries_after.clone()
    }

    /// The delivery that was on its way.
    pub(crate) fn sending(&self) -> Option<Uuid> {
        self.kept.sending
    }

    /// That delivery is about to be sent.
    pub(crate) fn sends(&mut self, delivery_id: Uuid) -> exit::Result<()> {
        self.kept.sending = Some(delivery_id);
        self.write()
    }

    /// All up to `cursor` is forwarded.
    pub(crate) fn reached(&mut self, cursor: &str) -> exit::Result<()> {
        self.kept = Kept { deliveries_after: Some(cursor.to_owned()), sending: None };
        self.write()
    }

    fn write(&self) -> exit::Result<()> {
        state_file::replace(&self.path, &self.kept)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_on_its_way_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("place");
        let mut file = PlaceFile::open(&path).unwrap();
        assert_eq!((file.cursor(), file.sending()), (None, None));
        file.reached("c1").unwrap();
        file.sends(Uuid::from_u128(7)).unwrap();
        let mut file = PlaceFile::open(&path).unwrap();
        assert_eq!((file.cursor().as_deref(), file.sending()), (Some("c1"), Some(Uuid::from_u128(7))));
        file.reached("c2").unwrap();
        let file = PlaceFile::open(&path).unwrap();
        assert_eq!((file.cursor().as_deref(), file.sending()), (Some("c2"), None));
    }

    #[test]
    fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        let of_tail = r#"{"EL_a_1":{"seq":3,"call_id":null}}"#;
        for other in ["dear diary", "", "{}", of_tail, r#"{"sending":null}"#] {
            fs::write(&path, other).unwrap();
            assert!(PlaceFile::open(&path).is_err(), "{other:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
        assert!(PlaceFile::open(&folder.path().join("nowhere/place")).is_err());
    }
}
