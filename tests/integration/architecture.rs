//! The arrows between the server's modules go one way.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Lines below `folder` (a module and its submodules) that name one of `forbidden`.
fn offenders(krate: &str, module: &str, forbidden: &[&str]) -> Vec<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(krate).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    let mut offenders = Vec::new();
    let mut seen = 0;
    for file in files {
        let relative = file.strip_prefix(&src).unwrap().with_extension("");
        if !module.is_empty() && !relative.starts_with(module) {
            continue;
        }
        seen += 1;
        for line in fs::read_to_string(&file).unwrap().lines() {
            let code = line.split("//").next().unwrap();
            if forbidden.iter().any(|name| code.contains(name)) {
                offenders.push(format!("{}: {}", relative.display(), line.trim()));
            }
        }
    }
    assert!(seen > 0, "{krate}/{module} holds no source");
    offenders
}

#[test]
fn the_store_knows_nobody_above_it() {
    assert_eq!(offenders("server", "store", &["crate::live", "crate::ingest", "crate::http", "tungstenite"]), [""; 0]);
}

#[test]
fn hub_feed_and_wire_read_no_database() {
    for module in ["live/hub", "live/feed", "live/connection", "cluster/announcer", "cluster/bus"] {
        let known = ["crate::ingest", "crate::http", "store::Store", "sqlx"];
        assert_eq!(offenders("server", module, &known), [""; 0]);
    }
}

#[test]
fn ingest_knows_neither_routes_nor_followers() {
    assert_eq!(offenders("server", "ingest", &["crate::http", "crate::live", "sqlx"]), [""; 0]);
}

#[test]
fn rows_stay_in_the_store_and_the_websocket_library_in_the_session() {
    for (module, forbidden) in [
        ("live", "sqlx"),
        ("http", "sqlx"),
        ("ingest", "sqlx"),
        ("http", "tungstenite::"),
        ("live/hub", "tungstenite"),
        ("live/feed", "tungstenite"),
        ("live/connection", "tungstenite"),
    ] {
        assert_eq!(offenders("server", module, &[forbidden]), [""; 0], "{module}");
    }
}

#[test]
fn the_shared_types_do_no_input_and_output() {
    let io = ["std::fs", "std::net", "tokio", "rocket", "sqlx", "SystemTime::now"];
    assert_eq!(offenders("common", "", &io), [""; 0]);
}

/// What settings decide is plain values in `policy`, so that they name no room that acts on them.
#[test]
fn settings_and_policies_know_no_room_that_uses_them() {
    let users =
        ["crate::live", "crate::ingest", "crate::http", "crate::transport", "crate::retention", "crate::shutdown"];
    assert_eq!(offenders("server", "settings", &users), [""; 0]);
    assert_eq!(offenders("server", "policy", &["crate::"]), [""; 0]);
    assert_eq!(offenders("server", "transport", &["crate::http", "crate::live", "crate::store"]), [""; 0]);
}

/// The web framework may change; the log, its followers and what is believed do not depend on it. `live/socket.rs` takes an accepted
/// socket over from it.
#[test]
fn the_web_framework_stays_in_the_routes() {
    for module in
        ["store", "log", "ingest", "cluster", "settings", "transport", "readiness", "telemetry", "auth", "lib"]
    {
        assert_eq!(offenders("server", module, &["rocket"]), [""; 0], "{module}");
    }
    let live = offenders("server", "live", &["rocket"]);
    let others: Vec<&String> = live.iter().filter(|line| !line.starts_with("live/socket:")).collect();
    assert_eq!(others, [""; 0]);
}
