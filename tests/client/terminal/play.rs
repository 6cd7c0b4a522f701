//! `play`, as far as the tests in `tail.rs` do not cover it.

use super::*;

/// Writes a saved call with turns at these seconds.
fn recording(folder: &Path, name: &str, turns: &[usize]) {
    let line = |(number, secs): (usize, &usize)| {
        turn_line("EL_saved_1", number + 1, "agent", &format!("turn {number};"), *secs)
    };
    std::fs::write(folder.join(name), turns.iter().enumerate().map(line).collect::<String>()).unwrap();
}

#[test]
fn a_recording_can_be_paused_and_continued() {
    let folder = tempfile::tempdir().unwrap();
    recording(folder.path(), "saved.ndjson", &[0, 50]);
    let play = ["play", "saved.ndjson", "--speed", "25x"];
    let mut terminal = Pty::start((80, 24), &program("callscope"), &play, &[], folder.path());
    terminal.until_text("turn 0;");
    terminal.until_text("PLAYING 25x");
    terminal.press(" ");
    terminal.until_text("PAUSED");
    terminal.press(" ");
    terminal.until_text("turn 1;");
    terminal.until_text("ENDED");
    terminal.press("q");
    assert!(terminal.wait_for_exit().status.success());
}

#[test]
fn play_prints_lines_into_a_pipe_and_names_wrong_files() {
    let folder = tempfile::tempdir().unwrap();
    recording(folder.path(), "saved.ndjson", &[0, 50]);
    std::fs::write(folder.path().join("notes.txt"), "dear diary\n").unwrap();
    let run = |arguments: &[&str]| {
        std::process::Command::new(program("callscope"))
            .args(arguments)
            .env_clear()
            .current_dir(folder.path())
            .output()
            .unwrap()
    };
    let done = run(&["play", "saved.ndjson"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout), "00:00 agent  turn 0;\n00:50 agent  turn 1;\n");
    assert!(done.status.success());
    for (file, code, words) in [("notes.txt", 1, "notes.txt:1: "), ("none.ndjson", 3, "none.ndjson")] {
        let done = run(&["play", file]);
        assert_eq!(done.status.code(), Some(code), "{done:?}");
        assert!(done.stdout.is_empty() && String::from_utf8_lossy(&done.stderr).contains(words), "{done:?}");
    }
}
