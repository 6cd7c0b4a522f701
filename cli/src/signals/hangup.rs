//! SIGHUP as the parent left it: `nohup` starts a program with SIGHUP ignored, and so it must stay.

use std::sync::OnceLock;

static IGNORED: OnceLock<bool> = OnceLock::new();

/// Notes how SIGHUP came in. This has to happen before anything else takes signals over.
pub(crate) fn note() {
    is_ignored();
}

/// Whether SIGHUP was ignored when the program began.
pub(crate) fn is_ignored() -> bool {
    *IGNORED.get_or_init(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        ignores_hangup(&status)
    })
}

/// Reads the mask of ignored signals in `/proc/PID/status`; SIGHUP is signal 1. Other systems than Linux have no
/// such file.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_tells_whether_hangups_are_ignored() {
        assert!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("Name:\tx\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
