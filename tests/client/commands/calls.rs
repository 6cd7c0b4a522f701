//! `calls export` and `calls watch` with calls of a real server.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use crate::server::{Server, TOW};

#[test]
fn a_call_is_exported_in_every_format_as_the_server_makes_it() {
    let server = Server::start();
    server.replay("tow-truck");
    for format in ["txt", "md", "srt", "vtt"] {
        let ran = server.run(&["calls", "export", TOW, "--format", format]);
        assert_eq!(ran.code, 0, "{format}: {}", ran.stderr);
        let url = format!("{}/api/v1/calls/{TOW}/transcript?format={format}", server.url);
        let script = format!("curl -sf -H \"Authorization: Bearer $CALLSCOPE_TOKEN\" '{url}'");
        assert_eq!(ran.stdout, server.bash(&script).stdout, "{format}");
        assert!(ran.stdout.contains("this is Nova"), "{format}: {}", ran.stdout);
    }
    let ran = server.run(&["calls", "export", TOW, "--format", "ndjson"]);
    let seqs: Vec<i64> =
        ran.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (1..=12).collect::<Vec<_>>(), "every event, none missing, none twice");
    let json: Value = serde_json::from_str(&server.run(&["calls", "export", TOW, "-o", "json"]).stdout).unwrap();
    assert_eq!(json["turns"].as_array().unwrap().len(), 10);
    assert_eq!(server.run(&["calls", "export", "no_such_call"]).code, 3);
}

#[test]
fn an_export_is_complete_and_replaces_no_other_file() {
    let server = Server::start();
    server.replay("tow-truck");
    let ran = server.run(&["calls", "export", TOW, "--to", "call.md"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    let text = std::fs::read_to_string(format!("{}/call.md", server.home())).unwrap();
    assert!(text.starts_with("# Call "), "the file's ending says what it is: {text}");
    assert_eq!(server.run(&["calls", "export", TOW, "--to", "call.md"]).code, 1);
    assert_eq!(server.run(&["calls", "export", TOW, "--to", "call.md", "--force"]).code, 0);
    assert_eq!(server.run(&["calls", "export", TOW, "--to", "call.docx"]).code, 2);
}

#[test]
fn watch_shows_a_call_from_its_beginning_to_its_end() {
    let server = Server::start();
    let mut watch = server.callscope(&["calls", "watch", "-o", "ndjson"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    server.replay("tow-truck");
    let mut seen = Vec::new();
    for line in lines.by_ref() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        seen.push((line["what"].as_str().unwrap().to_owned(), line["call"]["turns"].as_i64().unwrap()));
        if seen.last().unwrap().0 == "ended" {
            break;
        }
    }
    assert_eq!(seen.last().unwrap(), &("ended".to_owned(), 10), "{seen:?}");
    watch.kill().unwrap();
    watch.wait().unwrap();
}
