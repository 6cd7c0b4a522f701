//! The cursor file of `listen`: how far deliveries were forwarded, and which one was being sent.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::exit;
use crate::state_file;

#[derive(Debug)]
pub(crate) struct CursorFile {
    path: PathBuf,
    state: State,
}

// Unknown fields are an error, so that another file, such as a cursor file of `tail`, is not taken for one of `listen`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// The cursor after the last delivery that was forwarded. It must be present, and is null before the first one.
    #[serde(deserialize_with = "required")]
    deliveries_after: Option<String>,
    /// The delivery that was being sent, which the target may have received.
    #[serde(default)]
    sending: Option<Uuid>,
}

/// Makes serde require the field. Without `deserialize_with`, an `Option` may be missing.
fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(deserializer)
}

impl CursorFile {
    /// Reads the file, and creates it if there is none.
    pub(crate) fn open(path: &Path) -> exit::Result<Self> {
        let state = state_file::read(path, "cursor file of listen")?;
        let file = Self { path: path.to_owned(), state };
        // A file that cannot be written is an error before anything is forwarded.
        file.write()?;
        Ok(file)
    }

    /// Returns the cursor after the last delivery that was forwarded.
    pub(crate) fn cursor(&self) -> Option<String> {
        self.state.deliveries_after.clone()
    }

    /// Returns the delivery that the previous run was sending.
    pub(crate) fn sending(&self) -> Option<Uuid> {
        self.state.sending
    }

    /// Records that a delivery is about to be sent.
    pub(crate) fn set_sending(&mut self, delivery_id: Uuid) -> exit::Result<()> {
        self.state.sending = Some(delivery_id);
        self.write()
    }

    /// Records that all deliveries up to `cursor` are forwarded.
    pub(crate) fn set_cursor(&mut self, cursor: &str) -> exit::Result<()> {
        self.state = State { deliveries_after: Some(cursor.to_owned()), sending: None };
        self.write()
    }

    fn write(&self) -> exit::Result<()> {
        state_file::replace(&self.path, &self.state)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_delivery_that_was_being_sent_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("place");
        let mut file = CursorFile::open(&path).unwrap();
        assert_eq!((file.cursor(), file.sending()), (None, None));
        file.set_cursor("c1").unwrap();
        file.set_sending(Uuid::from_u128(7)).unwrap();
        let mut file = CursorFile::open(&path).unwrap();
        assert_eq!((file.cursor().as_deref(), file.sending()), (Some("c1"), Some(Uuid::from_u128(7))));
        file.set_cursor("c2").unwrap();
        let file = CursorFile::open(&path).unwrap();
        assert_eq!((file.cursor().as_deref(), file.sending()), (Some("c2"), None));
    }

    #[test]
    fn another_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notes.txt");
        let of_tail = r#"{"EL_a_1":{"seq":3,"call_id":null}}"#;
        for other in ["dear diary", "", "{}", of_tail, r#"{"sending":null}"#] {
            fs::write(&path, other).unwrap();
            assert!(CursorFile::open(&path).is_err(), "{other:?}");
            assert_eq!(fs::read_to_string(&path).unwrap(), other);
        }
        assert!(CursorFile::open(&folder.path().join("nowhere/place")).is_err());
    }
}
