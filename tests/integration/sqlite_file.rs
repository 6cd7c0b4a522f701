//! The SQLite file among other programs: what was acknowledged stays, one process at a time uses it, and no other user
//! reads it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use callscope_tests::process::program;
use callscope_tests::server::{SECRET, admin_token, environment, http, post_webhook};
use callscope_tests::{Database, Engine, Process, until};
use serde_json::{Value, json};

fn database_file(database: &Database) -> PathBuf {
    database.dir.path().join("callscope.db")
}

async fn turn(url: &str, message: &str) -> u16 {
    let body = json!({"call_sid": "EL_file_1", "speaker": "user", "message": message}).to_string();
    post_webhook(&http(), url, "transcription", &body).await.expect("the server answers").status
}

async fn readiness(url: &str) -> (u16, Value) {
    let answer = http().get(format!("{url}/readyz")).send().await.expect("the server answers");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// Runs the server's program on the same database until it ends.
fn run(database: &Database, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("callscope-server"));
    command.env_clear().envs(environment(&database.url, &[])).args(arguments).current_dir(database.dir.path());
    command.output().expect("the server program")
}

fn sqlite3(file: &Path, command: &str) {
    let output = Command::new("sqlite3").arg(file).arg(command).output().expect("sqlite3 is installed");
    assert!(output.status.success(), "{command}: {output:?}");
}

/// Returns whether the kernel lists a lock of the process on the file.
fn is_locked(path: &Path, pid: u32) -> bool {
    let inode = fs::metadata(path).unwrap().ino();
    let locks = fs::read_to_string("/proc/locks").unwrap();
    locks.lines().any(|line| line.contains(&format!(":{inode} ")) && line.contains(&format!(" {pid} ")))
}

#[tokio::test(flavor = "multi_thread")]
async fn other_programs_read_the_file_and_what_was_acknowledged_stays() {
    let database = Database::new(Engine::Sqlite).await;
    let file = database_file(&database);
    let server = Process::start(&database, 0).await;
    let mut said = 0;
    let others: [&dyn Fn(); 5] = [
        &|| sqlite3(&file, "SELECT count(*) FROM calls"),
        &|| sqlite3(&file, &format!(".backup {}", database.dir.path().join("copy.db").display())),
        &|| sqlite3(&file, "PRAGMA wal_checkpoint(PASSIVE)"),
        &|| assert_refused(&run(&database, &["migrate"]), server.pid()),
        &|| assert_refused(&run(&database, &["serve"]), server.pid()),
    ];
    for other in others {
        for _ in 0..4 {
            said += 1;
            assert_eq!(turn(&server.url, &format!("turn {said}")).await, 201);
        }
        tokio::task::block_in_place(other);
        let shared_memory = database.dir.path().join("callscope.db-shm");
        assert!(is_locked(&shared_memory, server.pid()), "the server's locks are gone");
    }
    said += 1;
    assert_eq!(turn(&server.url, &format!("turn {said}")).await, 201);
    server.kill().await;
    let server = Process::start(&database, 0).await;
    let mut subscriber = callscope_tests::Subscriber::connect(&server.url, &admin_token("t")).await;
    subscriber.subscribe("EL_file_1").await;
    let events = subscriber.events(1, said).await;
    assert_eq!(events[said - 1]["message_text"], format!("turn {said}"));
}

fn assert_refused(output: &Output, holder: u32) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("setting `database_url` (environment CALLSCOPE_DATABASE_URL): "), "{stderr}");
    assert!(stderr.contains("callscope.db") && stderr.contains(&format!("process {holder}")), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_or_replaced_file_gets_no_more_writes() {
    for suffix in ["", "-wal", "-shm"] {
        for is_replaced in [false, true] {
            let database = Database::new(Engine::Sqlite).await;
            let server = Process::start(&database, 0).await;
            assert_eq!(turn(&server.url, "before").await, 201);
            let path = database.dir.path().join(format!("callscope.db{suffix}"));
            // The result of a check of the files is reused for a shorter time than this.
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            if is_replaced {
                let copy = database.dir.path().join("copy");
                fs::copy(&path, &copy).unwrap();
                fs::rename(&copy, &path).unwrap();
            } else {
                fs::remove_file(&path).unwrap();
            }
            for _ in 0..3 {
                assert_eq!(turn(&server.url, "after").await, 503, "{suffix:?}, replaced: {is_replaced}");
            }
            // What was not acknowledged was not written either, so no follower receives it.
            let events =
                http().get(format!("{}/api/v1/calls/EL_file_1/events", server.url)).bearer_auth(admin_token("t"));
            let events = events.send().await.unwrap().text().await.unwrap();
            assert!(!events.contains("after"), "{suffix:?}, replaced: {is_replaced}: {events}");
            let (status, body) = readiness(&server.url).await;
            assert_eq!(status, 503, "{body}");
            assert_eq!(body["checks"]["append"], "the database file was deleted or replaced", "{body}");
            assert!(server.stop().await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_owner_reads_the_files_and_wider_modes_are_reported() {
    let database = Database::new(Engine::Sqlite).await;
    // Without configured secrets, the server generates them and stores them in a file.
    let variables = [("CALLSCOPE_WEBHOOK_SECRETS", "")];
    let server = Process::start_with(&database, 0, &variables).await;
    let names = ["callscope.db", "callscope.db-wal", "callscope.db-shm", "callscope.db.lock", "callscope.secrets.toml"];
    for name in names {
        let mode = fs::metadata(database.dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name} has mode {mode:o}");
    }
    assert!(!server.log().iter().any(|line| line.contains("has mode")), "{:?}", server.log());
    assert!(server.stop().await);
    for name in ["callscope.db", "callscope.secrets.toml"] {
        let path = database.dir.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let config = database.dir.path().join("callscope.toml");
    fs::write(&config, "retention_days = 0\n").unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o604)).unwrap();
    let server = Process::start_with(&database, 0, &variables).await;
    for (name, mode) in [("callscope.db", "0644"), ("callscope.secrets.toml", "0644"), ("callscope.toml", "0604")] {
        let is_warning = |line: &String| line.contains(&format!("{name} has mode {mode}"));
        until("a warning names the file and its mode", async || {
            server.log().iter().filter(|line| is_warning(line)).count() == 1
        })
        .await;
    }
}

#[tokio::test]
async fn a_wrong_path_is_reported_with_key_and_path() {
    let database = Database::new(Engine::Sqlite).await;
    let dir = database.dir.path().display().to_string();
    fs::write(database.dir.path().join("words"), "only words, and enough of them").unwrap();
    sqlite3(&database.dir.path().join("foreign.db"), "CREATE TABLE bookmarks (url TEXT)");
    for (path, expected) in [
        ("/nodir/x.db", "nodir"),
        ("", dir.as_str()),
        ("/words", "words"),
        ("/words/x.db", "words"),
        ("/q?x/y.db", "%3F"),
        ("/foreign.db", "foreign.db"),
        ("/x%00.db", "NUL"),
    ] {
        for command in ["serve", "migrate"] {
            let wrong = Database { url: format!("sqlite://{dir}{path}"), dir: tempfile::tempdir().unwrap() };
            let output = run(&wrong, &[command]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command} {path}: {stderr}");
            let problem = stderr.lines().last().unwrap_or_default();
            assert!(
                problem.starts_with("callscope-server: setting `database_url` (environment CALLSCOPE_DATABASE_URL): "),
                "{command} {path}: {stderr}"
            );
            assert!(problem.contains(expected) && !problem.contains(SECRET), "{command} {path}: {stderr}");
        }
    }
}

/// The driver decodes the path of the URL, so the lock and the secrets must use the decoded path too.
#[tokio::test(flavor = "multi_thread")]
async fn blanks_and_percent_signs_in_the_path_are_read_alike_everywhere() {
    let mut database = Database::new(Engine::Sqlite).await;
    let folder = database.dir.path().join("a dir");
    fs::create_dir(&folder).unwrap();
    database.url = format!("sqlite://{}/a%20dir/100%25.db", database.dir.path().display());
    let server = Process::start_with(&database, 0, &[("CALLSCOPE_WEBHOOK_SECRETS", "")]).await;
    for name in ["100%.db", "100%.db.lock", "callscope.secrets.toml"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    assert!(server.stop().await);
}

/// The lock and the write-ahead log are named after the path. Under a second path, the same file would be a second
/// database.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_two_names_is_refused_under_both() {
    let mut database = Database::new(Engine::Sqlite).await;
    let server = Process::start(&database, 0).await;
    let other = database.dir.path().join("other.db");
    fs::hard_link(database_file(&database), &other).unwrap();
    assert_eq!(turn(&server.url, "the first goes on").await, 201);
    for url in [format!("sqlite://{}", other.display()), database.url.clone()] {
        database.url = url;
        for command in ["serve", "migrate"] {
            let output = run(&database, &[command]);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{command}: {stderr}");
            assert!(stderr.contains("hard links"), "{command}: {stderr}");
        }
    }
    fs::remove_file(&other).unwrap();
    assert!(server.stop().await);
    let server = Process::start(&database, 0).await;
    assert_eq!(turn(&server.url, "and again").await, 201);
}
