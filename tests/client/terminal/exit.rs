//! However the program ends, and while it is stopped, the terminal is as it was before.

use callscope_tests::pty::{Modes, key};
use callscope_tests::usage::process_tree;
use rustix::process::Signal;

use super::*;

/// Starts `tail`, lets `leave` end it, and checks that the terminal is restored. Returns the exit code and the screen.
async fn exit_by(leave: impl FnOnce(&mut Pty)) -> (i64, String) {
    let scene = Scene::new().await;
    scene.turn("EL_leave_1", "agent", "on the alternate screen").await;
    // The modes of a terminal in which no full-screen program has run.
    let before = Pty::start((80, 24), Path::new("/bin/sleep"), &["60"], &[], scene.folder.path()).modes();
    let mut terminal = scene.terminal((80, 24), &["tail", "EL_leave_1"], &[]);
    terminal.until_text("on the alternate screen");
    let during = terminal.modes();
    assert!(during.alternate && during.hidden_cursor && during.line != before.line, "{during:?}");
    leave(&mut terminal);
    let ended = terminal.wait_for_exit();
    assert_eq!(ended.modes, before);
    assert!(!ended.screen.contains("on the alternate screen"), "{}", ended.screen);
    // The emulator does not know this sequence, with which lines wrap at the right margin again.
    let bytes = String::from_utf8_lossy(&ended.bytes);
    assert!(bytes.rfind("\x1b[?7h") > bytes.rfind("\x1b[?7l"), "{bytes:?}");
    (i64::from(ended.status.exit_code()), ended.screen)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_restored_after_q_and_ctrl_c() {
    assert_eq!(exit_by(|terminal| terminal.press("q")).await.0, 0);
    let (code, screen) = exit_by(|terminal| terminal.press(key::CTRL_C)).await;
    assert_eq!(code, 130);
    assert!(screen.contains("go on with: callscope tail --after 1") && screen.contains(" -- EL_leave_1"), "{screen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_restored_after_a_signal() {
    for signal in [Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT] {
        let (code, screen) = exit_by(|terminal| terminal.signal(signal)).await;
        assert_eq!(code, 130, "{signal:?}");
        assert!(screen.contains("go on with"), "{screen}");
    }
}

/// A shell with job control runs `tail`, which is stopped with Ctrl-Z and continued with `fg`.
#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_is_restored_while_the_program_is_stopped() {
    let scene = Scene::new().await;
    scene.turn("EL_stop_1", "agent", "on the alternate screen").await;
    let binary = program("callscope");
    let environment = [
        ("CALLSCOPE_SERVER", scene.url.as_str()),
        ("CALLSCOPE_TOKEN", scene.token.as_str()),
        ("PS1", "shell> "),
        ("PATH", "/usr/bin:/bin"),
    ];
    for way in ["key", "signal"] {
        let (bash, arguments) = (Path::new("/bin/bash"), ["--norc", "--noediting", "-i"]);
        let mut shell = Pty::start((80, 24), bash, &arguments, &environment, scene.folder.path());
        shell.until_text("shell> ");
        let before = shell.modes();
        shell.press(&format!("{} tail EL_stop_1\r", binary.display()));
        shell.until_text("on the alternate screen");
        if way == "key" {
            shell.press(key::CTRL_Z);
        } else {
            signal_child(&shell, Signal::TSTP);
        }
        shell.until_text("Stopped");
        shell.until("the shell's own screen", |screen| !screen.alternate_screen() && !screen.hide_cursor());
        assert_eq!(Modes { line: String::new(), ..shell.modes() }, Modes { line: String::new(), ..before.clone() });
        shell.press("echo it is $((40 + 2))\r");
        shell.until_text("it is 42");
        scene.turn("EL_stop_1", "user", &format!("said while it was stopped by a {way}")).await;
        shell.press("fg\r");
        shell.until("the view again", vt100::Screen::alternate_screen);
        shell.until_text(&format!("said while it was stopped by a {way}"));
        shell.until_text("LIVE");
        shell.press("q");
        shell.until("the shell's own screen", |screen| !screen.alternate_screen() && !screen.hide_cursor());
        shell.press("echo it was $((80 + 4))\r");
        shell.until_text("it was 84");
        assert_eq!(Modes { line: String::new(), ..shell.modes() }, Modes { line: String::new(), ..before });
    }
}

/// Signals the only child of a shell.
fn signal_child(shell: &Pty, signal: Signal) {
    let child = process_tree(shell.pid())[1].cast_signed();
    rustix::process::kill_process(rustix::process::Pid::from_raw(child).unwrap(), signal).unwrap();
}

/// Without a shell no `fg` is possible, so Ctrl-Z must not leave a terminal that reacts to nothing.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_shell_ctrl_z_does_not_stop_the_program() {
    let (code, _) = exit_by(|terminal| {
        terminal.press(key::CTRL_Z);
        terminal.press("?");
        terminal.until_text("turn by turn");
        terminal.press("qq");
    })
    .await;
    assert_eq!(code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_is_printed_after_the_screen_was_restored() {
    let scene = Scene::new().await;
    let terminal = scene.terminal((80, 24), &["tail", "no_such_call"], &[]);
    terminal.until_text("STOPPED");
    terminal.until_text("no call is known as no_such_call");
    let mut terminal = terminal;
    terminal.press("q");
    let ended = terminal.wait_for_exit();
    assert_eq!(ended.status.exit_code(), 3);
    assert!(!ended.modes.alternate && ended.screen.contains("error: no call is known"), "{}", ended.screen);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_cannot_be_shown_never_opens_the_screen() {
    let scene = Scene::new().await;
    let wrong = scene.terminal((80, 24), &["tail", "--server", "http://127.0.0.1:9"], &[]).wait_for_exit();
    assert_eq!(wrong.status.exit_code(), 5);
    let token = scene.terminal((80, 24), &["tail"], &[("CALLSCOPE_TOKEN", "x.y.z")]).wait_for_exit();
    assert_eq!(token.status.exit_code(), 4);
    for ended in [wrong, token] {
        assert!(!String::from_utf8_lossy(&ended.bytes).contains("\x1b[?1049h"));
        assert!(ended.screen.contains("error: "), "{}", ended.screen);
    }
}
