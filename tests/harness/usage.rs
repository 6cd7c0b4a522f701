//! CPU time and memory of a server's processes, by the kernel's accounting.

use std::fs;
use std::time::Duration;

/// Clock ticks a second in `/proc/PID/stat`: 100 on every current Linux (`sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SEC: u64 = 100;

/// Returns the ids of a process and all its descendants.
#[must_use]
pub fn process_tree(pid: u32) -> Vec<u32> {
    let mut pids = vec![pid];
    let mut next = 0;
    while let Some(pid) = pids.get(next).copied() {
        next += 1;
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    pids
}

/// Returns the user and system time of these processes, ended threads included, with a resolution of 10 ms.
#[must_use]
pub fn cpu_time(pids: &[u32]) -> Duration {
    let ticks = pids.iter().filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field, the name in brackets, may contain blanks and brackets. Fields are counted after it.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
        Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
    });
    Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS_PER_SEC)
}

/// Returns the proportional set size of these processes, in bytes.
#[must_use]
pub fn pss_bytes(pids: &[u32]) -> u64 {
    let sizes = pids.iter().filter_map(|pid| {
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    sizes.sum::<u64>() * 1024
}
