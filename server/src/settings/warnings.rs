//! Warnings about settings that are valid but risky.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Settings;
use crate::store::sqlite_path;
use crate::store::transport_warning;

/// Bytes below which an attacker who has one signed delivery can find a secret by trying all.
const MIN_SECRET_LEN: usize = 16;

impl Settings {
    /// Returns the warnings for the operator. None of them contains a secret.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.unknown_variables.clone();
        warnings.extend(self.config_file.as_deref().and_then(|path| exposure(path, Ownership::OursOrRoot)));
        warnings.extend(self.secrets_file.as_deref().and_then(|path| exposure(path, Ownership::OursOrRoot)));
        if let Ok(path) = sqlite_path::path(self.database_url.expose()) {
            let path = sqlite_path::resolve(&path).unwrap_or(path);
            warnings
                .extend(sqlite_path::companions(&path).iter().filter_map(|path| exposure(path, Ownership::AnyUser)));
        }
        if self.database_url.expose().starts_with("postgres") {
            warnings.extend(transport_warning(self.database_url.expose()));
        }
        let is_short = self.webhook_secrets.iter().any(|secret| secret.expose().len() < MIN_SECRET_LEN);
        if is_short && !self.address.is_loopback() {
            warnings.push(format!(
                "setting `webhook_secrets`: a secret of fewer than {MIN_SECRET_LEN} bytes can be found by trying all"
            ));
        }
        warnings
    }
}

/// The users that may own a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ownership {
    /// The server trusts the contents, so the owner has to be the server's user or root.
    OursOrRoot,
    AnyUser,
}

/// Returns a warning if other users may read or change the file. A file that does not exist is not exposed.
fn exposure(path: &Path, allowed: Ownership) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let (mode, uid, path) = (metadata.mode() & 0o777, metadata.uid(), path.display());
    if mode & 0o077 != 0 {
        return Some(format!("{path} has mode {mode:04o}: other users may read or change it; run chmod 600 on it"));
    }
    let our_uid = rustix::process::geteuid().as_raw();
    (allowed == Ownership::OursOrRoot && ![our_uid, 0].contains(&uid))
        .then(|| format!("{path} belongs to another user (uid {uid}), who may change what the server trusts"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_may_read_causes_a_warning_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        fs::write(&path, "").unwrap();
        for (mode, is_exposed) in [(0o600, false), (0o400, false), (0o640, true), (0o644, true), (0o602, true)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let warning = exposure(&path, Ownership::OursOrRoot);
            assert_eq!(warning.is_some(), is_exposed, "{mode:o}");
            assert!(warning.is_none_or(|text| text.contains("x.db") && text.contains(&format!("{mode:04o}"))));
        }
        assert_eq!(exposure(&dir.path().join("missing"), Ownership::OursOrRoot), None);
    }
}
