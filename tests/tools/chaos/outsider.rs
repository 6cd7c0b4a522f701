//! Other programs that use an SQLite file while a server holds it. None of them may become its owner.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fastrand::Rng;
use tokio::process::Command;
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::violations::Violation;

/// Time for another program to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Exit code of a server that refuses a database that another one holds.
const REFUSED: i32 = 2;

/// Runs one of the programs.
pub async fn visit(cluster: &Cluster, rng: &mut Rng) {
    let Some(file) = &cluster.file else { return };
    match rng.u8(..6) {
        0 => drop(shell(file, "SELECT COUNT(*) FROM events").await),
        1 => drop(shell(file, "PRAGMA wal_checkpoint(TRUNCATE)").await),
        2 => drop(shell(file, "PRAGMA wal_checkpoint(PASSIVE)").await),
        3 => back_up(cluster, file, rng).await,
        4 => second(cluster, &[]).await,
        _ => second(cluster, &["migrate"]).await,
    }
    guarded(cluster, file).await;
}

/// Runs SQLite's shell and returns whether it succeeded. It fails if the database is busy.
pub(super) async fn shell(file: &Path, command: &str) -> bool {
    let mut shell = Command::new("sqlite3");
    shell.args(["-cmd", ".timeout 5000"]).arg(file).arg(command);
    let started = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
    let mut child = started.expect("sqlite3 is installed; tests/run does it");
    matches!(timeout(PATIENCE, child.wait()).await, Ok(Ok(status)) if status.success())
}

/// Makes a copy as operators do, and keeps the newest.
async fn back_up(cluster: &Cluster, file: &Path, rng: &mut Rng) {
    let copy = file.with_extension(format!("copy{}", rng.u32(..)));
    if shell(file, &format!(".backup '{}'", copy.display())).await {
        let before = cluster.copy.lock().unwrap().replace(copy);
        before.map(std::fs::remove_file);
    }
}

async fn second(cluster: &Cluster, arguments: &[&str]) {
    let Some(ended) = cluster.nodes[0].beside(arguments).await else { return };
    if ended.as_ref().ok().and_then(std::process::ExitStatus::code) != Some(REFUSED) {
        cluster.report(Violation::Unguarded, || format!("a second server {arguments:?} was not refused: {ended:?}"));
    }
}

/// Checks that the serving process holds SQLite's own locks on the file. Without them, any other program that closes
/// the file deletes its log under the server.
async fn guarded(cluster: &Cluster, file: &Path) {
    use std::os::unix::fs::MetadataExt;
    let Some(pid) = cluster.nodes[0].pid().await else { return };
    let Ok(inode) = std::fs::metadata(file).map(|file| file.ino()) else { return };
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let is_held = locks.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.contains(&pid.to_string().as_str()) && fields.iter().any(|field| field.ends_with(&format!(":{inode}")))
    });
    // This holds only if it was the same process all the time.
    if !is_held && cluster.nodes[0].pid().await == Some(pid) {
        cluster.report(Violation::Unguarded, || format!("process {pid} holds no lock on {}", file.display()));
    }
}
