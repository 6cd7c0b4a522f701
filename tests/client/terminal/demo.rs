//! `demo` in a terminal.

use super::*;

#[test]
fn the_demo_speaks_and_shows_a_call_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut terminal = Pty::start((80, 24), &program("callscope"), &["demo", "--speed", "20x"], &[], folder.path());
    terminal.until_text("Road assistance, this is Nova.");
    terminal.until_text("ENDED success");
    terminal.until_text("passengers = 1");
    terminal.press("q");
    let ended = terminal.wait_for_exit();
    assert!(ended.status.success());
    assert!(!ended.modes.alternate && !ended.modes.hidden_cursor);
    assert!(!ended.screen.contains("go on with") && !ended.screen.contains("keep it"), "its server is gone");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
