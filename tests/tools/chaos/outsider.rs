//! Other programs that use an SQLite file while a server owns it. None of them may become its owner.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fastrand::Rng;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::violations::Violation;

/// Limit of one SQLite command.
const SQLITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Exit code of a server whose database belongs to another server.
const DATABASE_IN_USE: i32 = 2;

/// Runs a random one of the programs, and checks that the server still owns the file.
pub async fn run_one(cluster: &Cluster, rng: &mut Rng) {
    let Some(file) = &cluster.sqlite_file else { return };
    match rng.u8(..6) {
        0 => drop(run_sqlite(file, "SELECT COUNT(*) FROM events").await),
        1 => drop(run_sqlite(file, "PRAGMA wal_checkpoint(TRUNCATE)").await),
        2 => drop(run_sqlite(file, "PRAGMA wal_checkpoint(PASSIVE)").await),
        3 => back_up(cluster, file, rng).await,
        4 => check_second_process(cluster, &[]).await,
        _ => check_second_process(cluster, &["migrate"]).await,
    }
    check_file_lock(cluster, file).await;
}

/// Runs a command in SQLite's shell and returns whether it succeeded. It fails if the database is busy.
async fn run_sqlite(file: &Path, command: &str) -> bool {
    let mut shell = Command::new("sqlite3");
    shell.args(["-cmd", ".timeout 5000"]).arg(file).arg(command);
    let started = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
    let mut child = started.expect("sqlite3 is installed; tests/run does it");
    matches!(timeout(SQLITE_TIMEOUT, child.wait()).await, Ok(Ok(status)) if status.success())
}

/// Copies the database as operators do, and deletes the copy before.
async fn back_up(cluster: &Cluster, file: &Path, rng: &mut Rng) {
    let copy = file.with_extension(format!("copy{}", rng.u32(..)));
    if run_sqlite(file, &format!(".backup '{}'", copy.display())).await {
        let previous = cluster.sqlite_backup.lock().unwrap().replace(copy);
        previous.map(std::fs::remove_file);
    }
}

/// Checks that a second process of the server's program refuses the database.
async fn check_second_process(cluster: &Cluster, arguments: &[&str]) {
    let Some(ended) = cluster.nodes[0].run_second_process(arguments).await else { return };
    if ended.as_ref().ok().and_then(std::process::ExitStatus::code) != Some(DATABASE_IN_USE) {
        cluster.report(Violation::Unguarded, || format!("a second server {arguments:?} was not refused: {ended:?}"));
    }
}

/// Checks that the serving process holds a lock on the file. Otherwise another program that closes the file would
/// delete the write-ahead log that the server uses.
async fn check_file_lock(cluster: &Cluster, file: &Path) {
    use std::os::unix::fs::MetadataExt;
    let Some(pid) = cluster.nodes[0].serving_pid().await else { return };
    let Ok(inode) = std::fs::metadata(file).map(|file| file.ino()) else { return };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let is_held = locks.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.contains(&pid.to_string().as_str()) && fields.iter().any(|field| field.ends_with(&format!(":{inode}")))
    });
    // A process that was restarted while the locks were read proves nothing.
    if !is_held && cluster.nodes[0].serving_pid().await == Some(pid) {
        cluster.report(Violation::Unguarded, || format!("process {pid} holds no lock on {}", file.display()));
    }
}
