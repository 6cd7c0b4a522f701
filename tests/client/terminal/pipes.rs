//! `tail` without a screen: pipes, full disks, no home, dumb terminals.

use std::process::Stdio;

use super::*;

async fn ended_call(turns: usize) -> Scene {
    let scene = Scene::new().await;
    for turn in 0..turns {
        say(&scene, "conv_pipe", "agent", &format!("turn {turn};")).await;
    }
    scene.end("conv_pipe").await;
    scene
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_and_no_panic() {
    let scene = ended_call(2).await;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let done = scene.command(&["tail", "conv_pipe"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stderr).contains("cannot write the output: No space left"), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_person_to_ask_it_says_what_to_type() {
    let scene = ended_call(1).await;
    let done = scene.command(&["tail"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(done.status.code(), Some(2));
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("callscope tail --active") && said.contains("callscope calls ls"), "{said}");
    let named = scene.command(&["tail", "conv_pipe"]).stdin(Stdio::null()).output().unwrap();
    assert!(named.status.success() && String::from_utf8_lossy(&named.stdout).contains("turn 0;"));
}

/// The client needs no home folder, no writable home folder and no locale.
#[tokio::test(flavor = "multi_thread")]
async fn a_bare_environment_is_enough() {
    let scene = ended_call(1).await;
    let home = scene.folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o500)).unwrap();
    let home = home.to_str().unwrap().to_owned();
    for environment in
        [vec![], vec![("HOME", home.as_str())], vec![("LC_ALL", "C")], vec![("TERM", "dumb"), ("HOME", "/nonexistent")]]
    {
        let mut command = scene.command(&["tail", "conv_pipe"]);
        command.envs(environment.iter().copied());
        let done = command.output().unwrap();
        assert!(done.status.success(), "{environment:?}: {done:?}");
        assert_eq!(
            String::from_utf8_lossy(&done.stdout).lines().next(),
            Some("00:00 agent  turn 0;"),
            "{environment:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dumb_terminals_and_screen_readers_get_lines() {
    let scene = ended_call(2).await;
    for (arguments, environment) in [
        (["tail", "conv_pipe"].as_slice(), [("TERM", "dumb")].as_slice()),
        (&["tail", "conv_pipe", "--accessible"], &[("NO_COLOR", "1")]),
    ] {
        let ended = scene.terminal((80, 24), arguments, environment).wait_for_exit();
        let text = String::from_utf8_lossy(&ended.bytes).into_owned();
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(!text.contains(|c| ('\u{2500}'..='\u{259f}').contains(&c)), "{text:?}");
        assert!(text.contains("00:00 agent  turn 0;\r\n"), "{text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_screen_reader_picks_by_number() {
    let scene = Scene::new().await;
    scene.turn("EL_one_1", "agent", "of the first").await;
    scene.turn("EL_two_2", "agent", "of the second").await;
    let mut terminal = scene.terminal((80, 24), &["tail", "--accessible", "--no-follow"], &[]);
    terminal.until_text("which call? 1 to 2: ");
    assert!(!String::from_utf8_lossy(&terminal.bytes()).contains('\x1b'));
    terminal.press("2\r");
    terminal.until_text("of the first");
    assert!(terminal.wait_for_exit().status.success());
}

/// Lines are complete, in order and flushed, however fast they come, and the cursor file resumes where it stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_file_gives_every_line_once_across_runs() {
    let scene = Scene::new().await;
    let mut read = Vec::new();
    for round in 0..3 {
        for turn in 0..40 {
            say(&scene, "conv_pipe", "user", &format!("line {};", round * 40 + turn)).await;
        }
        let done = scene.command(&["tail", "conv_pipe", "--cursor-file", "cursors", "--no-follow"]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        read.extend(String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect::<Vec<_>>());
    }
    let words: Vec<&str> = read.iter().filter_map(|line| line.split_once("  ")).map(|(_, text)| text.trim()).collect();
    assert_eq!(words, (0..120).map(|line| format!("line {line};")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_live_calls_are_followed_in_a_pipe() {
    use std::io::BufRead as _;
    let scene = Scene::new().await;
    scene.turn("EL_one_1", "agent", "of the first").await;
    let mut child = scene.command(&["tail", "--active", "-q"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().ends_with("of the first"));
    scene.turn("EL_two_2", "agent", "of the second").await;
    assert_eq!(lines.next().unwrap().unwrap(), "EL_two_2 | 00:00 agent  of the second");
    child.kill().unwrap();
    child.wait().unwrap();
}
