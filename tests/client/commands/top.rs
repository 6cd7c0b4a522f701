//! `top` with a real server in a real terminal.

use std::process::{Child, Stdio};

use rustix::process::Signal;

use crate::server::Server;
use callscope_tests::Pty;

/// Starts `callscope tail`, which waits for a call and follows it.
fn follower(server: &Server, call: &str) -> Child {
    server
        .callscope(&["tail", call, "--wait", "-o", "ndjson"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn calls_are_listed_opened_and_filtered() {
    let server = Server::start();
    for sample in ["tow-truck", "line-busy"] {
        server.replay(sample);
    }
    let mut top = Pty::run(&server.callscope(&["top", "--interval", "1"]), (80, 24));
    top.until_text("LIVE");
    let screen = top.until_text("0 live of 2 calls");
    assert!(screen.contains("completed") && screen.contains("failed"), "{screen}");
    top.press("/failed\r");
    let screen = top.until_no_text("completed");
    assert!(screen.contains("filter: failed"), "{screen}");
    top.press("\x1b");
    top.until_text("completed");
    top.press("/completed\r\r");
    let screen = top.until_text("said last");
    assert!(screen.contains("Road assistance, this is Nova") || screen.contains("summary"), "{screen}");
    top.press("q");
    top.until_no_text("said last");
    top.press("q");
    let ended = top.wait_for_exit();
    assert_eq!((ended.code(), ended.is_restored()), (0, true), "{ended:?}");
}

#[test]
fn a_connection_is_kicked_only_after_a_yes() {
    let server = Server::start();
    let mut child = follower(&server, "EL_kick_1");
    let mut top = Pty::run(&server.callscope(&["top", "--tab", "connections", "--interval", "1"]), (80, 24));
    top.until_text("embedded");
    top.press("K");
    top.until_text("Kick embedded (127.0.0.1:");
    top.press("\r");
    top.press("n");
    top.until_no_text("Kick embedded");
    assert!(child.try_wait().unwrap().is_none(), "a question that was answered with no does nothing");
    top.press("K");
    top.until_text("Kick embedded");
    top.press("y");
    top.until_text("kicked embedded");
    top.until_text("no one is connected");
    assert_eq!(child.wait().unwrap().code(), Some(6), "4012 ends a stream for good");
    top.press("q");
    assert!(top.wait_for_exit().is_restored());
}

#[test]
fn read_only_mode_kicks_no_connection() {
    let server = Server::start();
    let mut child = follower(&server, "EL_look_1");
    let mut top =
        Pty::run(&server.callscope(&["top", "--tab", "connections", "--interval", "1", "--read-only"]), (80, 24));
    let screen = top.until_text("embedded");
    assert!(screen.contains("read-only") && !screen.contains("K kick"), "{screen}");
    top.press("Ky");
    // The result of a later key is shown, so the client has read the keys before it.
    top.press("?");
    let help = top.until_text("another tab");
    assert!(!help.contains("kick"), "{help}");
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    child.wait().unwrap();
    top.press("qq");
    assert_eq!(top.wait_for_exit().code(), 0);
}

#[test]
fn a_lost_server_is_shown_and_the_last_answer_stays() {
    let mut server = Server::start();
    server.replay("tow-truck");
    let mut top = Pty::run(&server.callscope(&["top", "--interval", "1"]), (40, 12));
    top.until_text("completed");
    server.stop();
    let screen = top.until_text("NO ANSWER");
    assert!(screen.contains("completed"), "{screen}");
    top.press("q");
    let ended = top.wait_for_exit();
    assert_eq!((ended.code(), ended.is_restored()), (0, true));
}

#[test]
fn the_terminal_is_restored_after_a_signal_and_an_interrupt() {
    let server = Server::start();
    for how in [Some(Signal::TERM), Some(Signal::HUP), None] {
        let mut top = Pty::run(&server.callscope(&["top"]), (80, 24));
        top.until_text("no calls yet");
        match how {
            Some(signal) => top.signal(signal),
            None => top.press("\x03"),
        }
        let ended = top.wait_for_exit();
        assert_eq!((ended.code(), ended.is_restored()), (130, true), "{how:?}: {ended:?}");
    }
}

#[test]
fn a_viewers_token_is_an_error_and_opens_no_screen() {
    let server = Server::start();
    let mut command = server.callscope(&["top"]);
    command.env("CALLSCOPE_TOKEN", "a.b.c");
    let ended = Pty::run(&command, (80, 24)).wait_for_exit();
    assert_eq!(ended.code(), 4);
    assert!(
        ended.screen.contains("not logged in") && ended.screen.contains("callscope-server token"),
        "{}",
        ended.screen
    );
    assert!(!ended.bytes.windows(8).any(|bytes| bytes == b"\x1b[?1049h"), "it never took the screen");
}

#[test]
fn without_a_terminal_top_prints_one_snapshot_as_data() {
    let server = Server::start();
    server.replay("tow-truck");
    let ran = server.run(&["top"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("calls           1 completed\n"), "{}", ran.stdout);
    let json = server.run(&["top", "-o", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["calls"]["completed"], 1);
}
