//! What a server's processes use, by the operating system's own accounting.

use std::fs;
use std::time::Duration;

/// Clock ticks a second in `/proc/PID/stat`: 100 on every current Linux (`sysconf(_SC_CLK_TCK)`).
const TICKS: u64 = 100;

/// Returns a process and everything that it started.
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}

/// Returns the user and system time of these processes' threads, living and ended. It is exact to ten milliseconds: the
/// kernel scales the ticks by the scheduler's own sums.
#[must_use]
pub fn cpu(pids: &[u32]) -> Duration {
    let ticks = pids.iter().filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may hold blanks and brackets, so fields are counted after it.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    });
    Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS)
}

/// Returns their proportional set size, in bytes.
#[must_use]
pub fn memory(pids: &[u32]) -> u64 {
    let sizes = pids.iter().filter_map(|pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    sizes.sum::<u64>() * 1024
}
