//! Unusual input of users: wrong identifiers, typos, times, hints to paste, signals that were ignored from the start.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use callscope_tests::Pty;
use rustix::process::{Pid, Signal, kill_process};

use crate::server::{Server, TOW};

#[test]
fn a_malformed_identifier_is_a_usage_error() {
    let server = Server::start();
    server.replay("tow-truck");
    for id in ["", ".", ".."] {
        for words in [
            &["calls", "show"][..],
            &["calls", "export"],
            &["deliveries", "show"],
            &["deliveries", "replay"],
            &["connections", "show"],
            &["connections", "kick", "--yes"],
            &["subscriptions", "show"],
        ] {
            let ran = server.run(&[words, &["--", id]].concat());
            assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{words:?} {id:?}: {ran:?}");
            assert!(ran.stderr.contains("identifier"), "{words:?} {id:?}: {ran:?}");
        }
    }
    // A name may contain a slash.
    for id in ["a/b", "../calls", "%2e%2e", "a?b#c"] {
        assert_eq!(server.run(&["calls", "show", "--", id]).code, 3, "{id}");
    }
    let named = r#"{"call_sid":"EL/../x?y#z","speaker":"user","message":"Hello","turn_id":"1"}"#;
    let script = format!(
        "printf %s '{named}' > turn.json; printf %s \"$CALLSCOPE_WEBHOOK_SECRET\" > secret.txt
        curl -sf -H \"ElevenLabs-Signature: $(callscope webhook sign turn.json --secret-file secret.txt -q)\" \
            --data-binary @turn.json $CALLSCOPE_SERVER/webhooks/elevenlabs/transcription"
    );
    assert_eq!(server.bash(&script).code, 0);
    let ran = server.run(&["calls", "show", "EL/../x?y#z", "-o", "json"]);
    assert!(ran.code == 0 && ran.stdout.contains("EL/../x?y#z"), "{ran:?}");
}

#[test]
fn an_id_in_a_hint_is_never_read_as_an_option() {
    let server = Server::start();
    let turn = r#"{"call_sid":"--save=x","speaker":"user","message":"Hello","turn_id":"1"}"#;
    std::fs::write(format!("{}/turn.json", server.home()), turn).unwrap();
    assert_eq!(server.run(&["replay", "turn.json", "-q"]).code, 0);
    let ran = server.run(&["calls", "export", "--", "--save=x"]);
    assert!(ran.code == 0 && ran.stderr.contains("callscope tail -- --save=x"), "{ran:?}");
    let followed = server.run(&["tail", "--no-follow", "--", "--save=x"]);
    assert!(followed.code == 0 && followed.stdout.contains("Hello"), "{followed:?}");
    assert!(!std::path::Path::new(&format!("{}/x", server.home())).exists());
    let sent = server.run(&["trigger", "turn", "--set", "call_sid=--save=x", "--remove", "conversation_id"]);
    assert!(sent.stderr.contains(" -- --save=x"), "{sent:?}");
}

#[test]
fn a_typo_is_answered_with_the_name_that_was_meant() {
    let server = Server::start();
    for (args, meant, code) in [
        (&["trigger", "transcripton"][..], "did you mean transcription?", 2),
        (&["trigger", "post_call_failure"], "--force", 2),
        (&["trigger", "nonsense"], "--force", 2),
        (&["samples", "show", "tow-truk"], "did you mean tow-truck?", 3),
        (&["samples", "new", "faliure"], "did you mean failure?", 3),
        (&["samples", "validate", "storm-nigt"], "did you mean storm-night?", 3),
        (&["replay", "tow-truk"], "did you mean tow-truck?", 3),
    ] {
        let ran = server.run(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.stderr.contains(meant), "{args:?}: {ran:?}");
    }
    assert_eq!(server.run(&["deliveries", "ls", "-o", "text"]).stdout, "", "nothing was sent");
    assert_eq!(server.run(&["trigger", "nonsense", "--force"]).code, 0);
}

#[test]
fn times_are_read_as_people_type_them() {
    let server = Server::start();
    server.replay("tow-truck");
    for since in ["2020-01-01", "2020-01-01T00:00", "2020-01-01T00:00:00Z", "1577836800", "1h30m", "7d"] {
        let ran = server.run(&["calls", "ls", "--since", since, "-o", "text"]);
        assert!(ran.code == 0 && ran.stdout.lines().count() == 1, "{since}: {ran:?}");
        assert_eq!(server.run(&["deliveries", "ls", "--since", since]).code, 0, "{since}");
    }
    let ran = server.run(&["calls", "ls", "--since", "2999-01-01", "-o", "text"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
}

#[test]
fn composed_and_decomposed_letters_are_the_same_letters() {
    let server = Server::start();
    // These are 한국어 and é in decomposed form.
    let turn = "{\"call_sid\":\"EL_nfd\",\"speaker\":\"user\",\"message\":\"\u{1112}\u{1161}\u{11ab}\u{1100}\u{116e}\u{11a8}\u{110b}\u{1165} cafe\u{301}\",\"turn_id\":\"1\"}";
    std::fs::write(format!("{}/turn.json", server.home()), turn).unwrap();
    assert_eq!(server.run(&["replay", "turn.json", "-q"]).code, 0);
    for pattern in ["한국어", "caf\u{e9}", "cafe\u{301}", "^\u{1112}\u{1161}\u{11ab}"] {
        let ran = server.run(&["tail", "EL_nfd", "--no-follow", "-i", pattern]);
        assert!(ran.code == 0 && ran.stdout.contains("user"), "{pattern}: {ran:?}");
    }
    assert_eq!(server.run(&["tail", "EL_nfd", "--no-follow", "-e", "caf\u{e9}"]).stdout, "");
}

#[test]
fn a_sighup_that_was_ignored_at_the_start_stays_ignored() {
    let server = Server::start();
    server.replay("tow-truck");
    for (args, nohup) in
        [("calls watch", true), ("listen --history", true), ("calls watch", false), ("listen --history", false)]
    {
        let trap = if nohup { "trap '' HUP; " } else { "" };
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", &format!("{trap}exec callscope {args} 2>&1")]);
        let mut child = server.environment(&mut bash).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The program runs, and has set up its signals.
        lines.next().unwrap().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::HUP).unwrap();
        if nohup {
            // SIGHUP takes effect before the output of a later delivery.
            server.replay("line-busy");
            let after = lines.by_ref().map(Result::unwrap).find(|line| !line.contains(TOW) && line.contains("fail"));
            assert!(after.is_some(), "{args}");
            kill_process(pid, Signal::TERM).unwrap();
        }
        let mut rest = String::new();
        lines.by_ref().for_each(|line| rest += &line.unwrap());
        assert_eq!(child.wait().unwrap().code(), Some(130), "{args} {nohup}: {rest}");
    }
}

#[test]
fn a_replay_in_the_background_draws_no_progress() {
    let server = Server::start();
    for (ampersand, draws) in [("&", false), ("", true)] {
        // With job control, a command behind `&` has a process group of its own, which does not own the terminal.
        let script = format!("set -m; callscope replay tow-truck --fresh --speed max {ampersand} wait; echo all-done");
        let script = script.replace("  wait", "; wait");
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", &script]);
        let ended = Pty::run(server.environment(&mut bash), (80, 24)).wait_for_exit();
        let text = String::from_utf8_lossy(&ended.bytes).into_owned();
        assert!(text.contains("all-done") && text.contains("11 deliveries"), "{text}");
        assert_eq!(text.contains("\x1b[K"), draws, "{script}: {text:?}");
    }
}

#[test]
fn a_terminal_without_a_width_still_shows_a_table() {
    let server = Server::start();
    server.replay("tow-truck");
    let ended = Pty::run(&server.callscope(&["calls", "ls"]), (0, 0)).wait_for_exit();
    let text = String::from_utf8_lossy(&ended.bytes).into_owned();
    assert!(text.contains("completed") && text.contains(TOW), "{text:?}");
}

#[test]
fn bodies_of_deliveries_are_unchanged_except_on_a_terminal() {
    let server = Server::start();
    let turn = "{\"call_sid\":\"EL_raw\",\"speaker\":\"user\",\"message\":\"a\u{202e}b\",\"turn_id\":\"1\"}";
    std::fs::write(format!("{}/turn.json", server.home()), turn).unwrap();
    let script = format!(
        "printf %s \"$CALLSCOPE_WEBHOOK_SECRET\" > secret.txt
        curl -sf -H \"ElevenLabs-Signature: $(callscope webhook sign turn.json --secret-file secret.txt -q 2>/dev/null)\" --data-binary @turn.json {}/webhooks/elevenlabs/transcription >&2
        id=$(callscope deliveries ls -o text | cut -f1); callscope deliveries show $id --body | cmp - turn.json && echo same",
        server.url
    );
    let ran = server.bash(&script);
    assert_eq!(ran.stdout, "same\n", "{ran:?}");
    let ids = server.run(&["deliveries", "ls", "-o", "text"]).stdout;
    let id = ids.split('\t').next().unwrap();
    let all = server.run(&["deliveries", "export", id]).stdout;
    assert!(all.contains(r"a\u202eb") && !all.contains('\u{202e}'), "{all}");
}

#[test]
fn a_replay_that_changed_nothing_says_so() {
    let server = Server::start();
    let first = server.run(&["replay", "tow-truck", "--speed", "max"]);
    assert!(first.code == 0 && !first.stderr.contains("repeat"), "{first:?}");
    let again = server.run(&["replay", "tow-truck", "--speed", "max"]);
    assert!(
        again.code == 0 && again.stderr.contains("all 11 were repeats") && again.stderr.contains("--fresh"),
        "{again:?}"
    );
    let fresh = server.run(&["replay", "tow-truck", "--speed", "max", "--fresh"]);
    assert!(fresh.code == 0 && !fresh.stderr.contains("repeat"), "{fresh:?}");
}

#[test]
fn the_demo_ignores_the_users_settings() {
    let server = Server::start();
    std::fs::write(format!("{}/callscope.toml", server.home()), "unknown_calls = \"reject\"\nport = 1\nnonsense = 7\n")
        .unwrap();
    let ran = server.run(&["demo", "--speed", "max"]);
    assert!(ran.code == 0 && ran.stdout.contains("this is Nova"), "{ran:?}");
}
