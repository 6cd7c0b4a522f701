//! Remembers whether the parent process ignored SIGHUP. `nohup` does, and then SIGHUP must stay ignored.

use std::sync::OnceLock;

static IGNORED: OnceLock<bool> = OnceLock::new();

/// Reads whether SIGHUP is ignored. Call this before anything replaces signal actions.
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

/// Reads the mask of ignored signals in `/proc/PID/status`, whose lowest bit is SIGHUP. On systems without this file
/// SIGHUP counts as not ignored.
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
