//! What `tail` keeps: its cursor, the stream in a file, and its own process when the terminal hangs up.

use std::io::BufRead as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::*;

fn run(scene: &Scene, arguments: &[&str]) -> (Option<i32>, String, String) {
    let done = scene.command(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

async fn delete(scene: &Scene, id: &str) {
    let request = http().delete(format!("{}/api/v1/calls/{id}", scene.url)).bearer_auth(&scene.token);
    assert!(request.send().await.unwrap().status().is_success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_resumes_and_one_of_another_record_is_reported() {
    let scene = Scene::new().await;
    for turn in 0..3 {
        scene.turn("EL_place_1", "agent", &format!("first life {turn};")).await;
    }
    let (code, lines, _) = run(&scene, &["tail", "EL_place_1", "--no-follow", "-o", "ndjson"]);
    assert_eq!(code, Some(0));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let cursor = |seq: i64| {
        let event = lines.iter().find(|line| line["type"] == "transcription" && line["seq"] == seq).unwrap();
        event["cursor"].as_str().unwrap().to_owned()
    };
    let end = lines.last().unwrap();
    assert_eq!((&end["type"], &end["cursor"]), (&json!("end"), &json!(cursor(3))));
    let file = ["tail", "EL_place_1", "--no-follow", "--cursor-file", "place"];
    assert_eq!(run(&scene, &file).1.lines().count(), 3);
    let kept = std::fs::read_to_string(scene.folder.path().join("place")).unwrap();
    assert!(kept.contains(&cursor(3)), "{kept}");
    let (code, shown, _) = run(&scene, &["tail", "EL_place_1", "--no-follow", "--after", &cursor(2)]);
    assert_eq!((code, shown.as_str()), (Some(0), "00:00 agent  first life 2;\n"));
    let (_, shown, _) = run(&scene, &["tail", "EL_place_1", "--no-follow", "--after", "1"]);
    assert_eq!(shown.lines().count(), 2, "a seq is taken too");

    delete(&scene, "EL_place_1").await;
    for turn in 0..4 {
        scene.turn("EL_place_1", "agent", &format!("second life {turn};")).await;
    }
    for arguments in [file.as_slice(), &["tail", "EL_place_1", "--no-follow", "--after", &cursor(2)]] {
        let (code, shown, said) = run(&scene, arguments);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(shown.matches("second life").count(), 4, "from its start: {shown}");
        assert!(said.contains("no such place behind seq") && !said.contains("nothing missed"), "{said}");
    }
    assert_eq!(run(&scene, &file).1, "", "the new place was kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_cursor_file_is_refused_and_left_alone() {
    let scene = Scene::new().await;
    scene.turn("EL_place_1", "agent", "hello").await;
    let path = scene.folder.path().join("place");
    for damaged in ["", "{\"EL_place_1\":{\"se", "\0\0\0"] {
        std::fs::write(&path, damaged).unwrap();
        for arguments in [
            ["tail", "EL_place_1", "--no-follow", "--cursor-file", "place"].as_slice(),
            &["listen", "--forward-to", "http://127.0.0.1:9/", "--cursor-file", "place"],
        ] {
            let (code, shown, said) = run(&scene, arguments);
            assert_eq!((code, shown.as_str()), (Some(2), ""), "{said}");
            assert!(said.contains("error: place is no cursor file"), "{said}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        }
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(run(&scene, &["tail", "EL_place_1", "--no-follow", "--cursor-file", "place"]).0, Some(0));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn saving_never_destroys_a_file() {
    let mut scene = Scene::new().await;
    scene.turn("EL_save_1", "agent", "keep this").await;
    let path = scene.folder.path().join("call.ndjson");
    // These fail and create no file.
    let (code, ..) = run(&scene, &["tail", "gone", "--save", "call.ndjson"]);
    assert_eq!((code, path.exists()), (Some(3), false));
    let tail = ["tail", "EL_save_1", "--no-follow", "--save", "call.ndjson"];
    assert_eq!(run(&scene, &tail).0, Some(0));
    let saved = std::fs::read_to_string(&path).unwrap();
    assert!(saved.contains("keep this") && saved.contains("\"cursor\":"), "{saved}");
    let (code, _, said) = run(&scene, &tail);
    assert_eq!(code, Some(1));
    assert!(said.contains("call.ndjson is there already") && said.contains("--force"), "{said}");
    // A failure leaves the file as it was, even if it may be replaced.
    assert_eq!(run(&scene, &["tail", "gone", "--save", "call.ndjson", "--force"]).0, Some(3));
    scene.kill().await;
    assert_eq!(run(&scene, &["tail", "EL_save_1", "--save", "call.ndjson", "--force"]).0, Some(5));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), saved);
    scene.start().await;
    scene.turn("EL_save_1", "agent", "and this").await;
    assert_eq!(run(&scene, &[&tail[..], &["--force"]].concat()).0, Some(0));
    assert!(std::fs::read_to_string(&path).unwrap().contains("and this"));
    let left: Vec<_> = std::fs::read_dir(scene.folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["call.ndjson"]);
}

/// Starts a program with SIGHUP ignored, as `nohup` does.
fn immune(scene: &Scene, arguments: &[&str]) -> Child {
    let mut command = std::process::Command::new("/bin/sh");
    command.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(program("callscope")).args(arguments);
    command.env_clear().env("CALLSCOPE_SERVER", &scene.url).env("CALLSCOPE_TOKEN", &scene.token);
    command.current_dir(scene.folder.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn hang_up(child: &Child) {
    kill_process(Pid::from_raw(child.id().cast_signed()).unwrap(), Signal::HUP).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sighup_that_was_ignored_at_the_start_stays_ignored() {
    let scene = Scene::new().await;
    scene.turn("EL_nohup_1", "agent", "before").await;
    for (number, arguments) in [
        ["tail", "EL_nohup_1", "--plain"].as_slice(),
        &["tail", "EL_nohup_1", "-o", "ndjson"],
        &["calls", "watch", "-o", "ndjson", "--interval", "1"],
    ]
    .into_iter()
    .enumerate()
    {
        let mut child = immune(&scene, arguments);
        let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        hang_up(&child);
        hang_up(&child);
        let said = format!("EL_after_{number}");
        scene.turn("EL_nohup_1", "user", &said).await;
        scene.turn(&said, "user", "another call").await;
        assert!(lines.any(|line| line.unwrap().contains(&said)), "{arguments:?}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn listen_goes_on_if_sighup_was_ignored_at_the_start() {
    let scene = Scene::new().await;
    let mut child = immune(&scene, &["listen", "-o", "ndjson"]);
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
    said.next().unwrap().unwrap();
    hang_up(&child);
    scene.turn("EL_nohup_1", "user", "hello").await;
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("EL_nohup_1")));
    child.kill().unwrap();
    child.wait().unwrap();
}
