//! Warnings at the start: settings that are valid but risky.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Settings;
use crate::store::sqlite_path;
use crate::store::transport_warning;

/// Length in bytes below which a secret can be guessed by trying, given one signed delivery.
const SHORTEST_SECRET: usize = 16;

impl Settings {
    /// Returns the warnings for the operator, none of which holds a secret.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.unknown_variables.clone();
        warnings.extend(self.config_file.as_deref().and_then(|path| exposed(path, Ownership::MustBeOurs)));
        warnings.extend(self.secrets_file.as_deref().and_then(|path| exposed(path, Ownership::MustBeOurs)));
        if let Ok(path) = sqlite_path::path(self.database_url.expose()) {
            let path = sqlite_path::resolve(&path).unwrap_or(path);
            warnings.extend(sqlite_path::companions(&path).iter().filter_map(|path| exposed(path, Ownership::AnyUser)));
        }
        if self.database_url.expose().starts_with("postgres") {
            warnings.extend(transport_warning(self.database_url.expose()));
        }
        let short = self.webhook_secrets.iter().any(|secret| secret.expose().len() < SHORTEST_SECRET);
        if short && !self.address.is_loopback() {
            warnings.push(format!(
                "setting `webhook_secrets`: a secret of fewer than {SHORTEST_SECRET} bytes can be found out by trying"
            ));
        }
        warnings
    }
}

/// Whether a file has to belong to the server's user, because the server believes what it says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ownership {
    MustBeOurs,
    AnyUser,
}

fn exposed(path: &Path, whose: Ownership) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let (mode, effective) = (found.mode() & 0o777, path.display());
    if mode & 0o077 != 0 {
        return Some(format!("{effective} has mode {mode:04o}: other users may get at it; chmod 600 keeps it private"));
    }
    let us = rustix::process::geteuid().as_raw();
    // A file of root is trusted on any machine.
    (whose == Ownership::MustBeOurs && ![us, 0].contains(&found.uid())).then(|| {
        format!("{effective} belongs to another user (uid {}), who may change what the server believes", found.uid())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_may_read_is_told_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        fs::write(&path, "").unwrap();
        for (mode, is_told) in [(0o600, false), (0o400, false), (0o640, true), (0o644, true), (0o602, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let warning = exposed(&path, Ownership::MustBeOurs);
            assert_eq!(warning.is_some(), is_told, "{mode:o}");
            assert!(warning.is_none_or(|text| text.contains("x.db") && text.contains(&format!("{mode:04o}"))));
        }
        assert_eq!(exposed(&dir.path().join("missing"), Ownership::MustBeOurs), None);
    }
}
