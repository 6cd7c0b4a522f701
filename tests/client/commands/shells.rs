//! The client in shells: completions, pipes, manual pages, an incomplete environment.

use std::process::Command;

use crate::server::{Server, TOW};
use callscope_tests::Pty;

#[test]
fn call_ids_are_completed_live_in_bash() {
    let server = Server::start();
    server.replay("tow-truck");
    let complete = |words: &str, server: &Server| {
        let script = format!(
            "source <(callscope completions bash)\nCOMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _clap_complete_callscope callscope \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let ran = server.bash(&script);
        ran.stdout.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    assert_eq!(complete("callscope calls export conv_", &server), [TOW]);
    let calls = server.run(&["calls", "ls", "-o", "text"]).stdout;
    let sid = calls.split('\t').nth(4).unwrap();
    assert!(complete("callscope tail ''", &server).contains(&sid.to_owned()));
    assert!(complete("callscope he", &server).contains(&"help".to_owned()));
    assert!(complete("callscope samples show tow", &server).contains(&"tow-truck".to_owned()));
    assert_eq!(complete("callscope calls export --format sr", &server), ["srt"]);
    // Pressing Tab while no server answers gives nothing, and no error on the command line.
    assert!(complete("callscope calls show --server http://127.0.0.1:9 conv_", &server).is_empty());
}

/// Tab is pressed in the shells themselves, which `tests/run` installs.
#[test]
fn tab_completes_a_calls_id_in_bash_zsh_and_fish() {
    let server = Server::start();
    server.replay("tow-truck");
    for (shell, args, before) in [
        ("bash", &["--norc", "--noprofile", "-i"][..], "source <(callscope completions bash)"),
        ("zsh", &["-f", "-i"], "autoload -U compinit; compinit -u -D; source <(callscope completions zsh)"),
        ("fish", &["--no-config", "-i"], "callscope completions fish | source"),
    ] {
        let mut command = Command::new(shell);
        command.args(args);
        server.environment(&mut command);
        let mut terminal = Pty::run(&command, (120, 24));
        terminal.press(&format!("{before}; echo rea''dy\r"));
        terminal.until_text("ready");
        terminal.press("callscope calls show conv_\t");
        terminal.until_text(&format!("calls show {TOW}"));
        terminal.press("\r");
        terminal.until_text("call completed, successful");
        terminal.press("exit\r");
        terminal.wait_for_exit();
    }
}

#[test]
fn a_name_that_a_shell_would_run_is_not_completed() {
    let server = Server::start();
    for sid in ["EL_$(touch${IFS}owned)", "EL_plain_1"] {
        let body = serde_json::json!({ "call_sid": sid });
        let script = format!(
            "curl -sf -X POST -H \"Authorization: Bearer $CALLSCOPE_TOKEN\" -H 'Content-Type: application/json' \
             '{}/api/v1/calls' -d '{body}'",
            server.url
        );
        assert_eq!(server.bash(&script).code, 0);
    }
    let ran = server.bash("_CLAP_COMPLETE_INDEX=2 CALLSCOPE_COMPLETE=bash callscope -- callscope tail EL_");
    assert_eq!(ran.stdout.trim(), "EL_plain_1", "{ran:?}");
}

#[test]
fn manual_pages_are_written_and_man_reads_them() {
    let server = Server::start();
    assert_eq!(server.run(&["man", "--dir", "pages"]).code, 0);
    let pages: Vec<_> = std::fs::read_dir(format!("{}/pages", server.home())).unwrap().collect();
    assert!(pages.len() > 30, "{}", pages.len());
    let page = server.run(&["man", "calls", "export"]).stdout;
    assert!(page.contains("callscope\\-calls\\-export"), "{page}");
    let file = std::fs::read_to_string(format!("{}/pages/callscope-calls-export.1", server.home())).unwrap();
    assert!(file.contains(".TH") && file.contains("subtitles"), "{file}");
}

#[test]
fn pipes_that_close_are_quiet_and_full_disks_are_not() {
    let server = Server::start();
    server.replay("storm-night");
    for command in
        ["calls ls", "calls export $id --format ndjson", "samples ls", "man", "help keys", "doctor", "completions bash"]
    {
        let id = "id=$(callscope calls ls -o text | cut -f5)";
        let closed = server.bash(&format!(
            "{id}; set -o pipefail; callscope {command} | head -c 1 > /dev/null; echo ${{PIPESTATUS[0]}}"
        ));
        assert!(["0\n", "8\n"].contains(&closed.stdout.as_str()), "{command}: {closed:?}");
        assert!(
            !closed.stderr.contains("panicked") && !closed.stderr.contains("cannot write"),
            "{command}: {closed:?}"
        );
        let full = server.bash(&format!("{id}; callscope {command} > /dev/full"));
        assert_eq!(full.code, 1, "{command}: {full:?}");
        assert!(full.stderr.contains("cannot write the output: No space left on device"), "{command}: {full:?}");
    }
}

#[test]
fn without_a_home_or_a_terminal_everything_still_works() {
    let server = Server::start();
    server.replay("tow-truck");
    let mut commands = vec!["calls ls", "whoami", "doctor", "top", "help environment", "context ls"];
    commands.push("calls export conv_01callscope0tow0truck00000001");
    for command in commands {
        for before in ["unset HOME", "export LC_ALL=C", "export TERM=dumb", "export HOME=/proc/1/nothing"] {
            let ran = server.bash(&format!("{before}; callscope {command} < /dev/null"));
            assert_eq!(ran.code, 0, "{before}; {command}: {ran:?}");
            assert!(!ran.stdout.contains('\x1b'), "{before}; {command}: {ran:?}");
        }
    }
    let forced = server.bash("CLICOLOR_FORCE=1 callscope calls ls").stdout;
    assert!(forced.starts_with("\x1b[1mSTARTED"), "{forced:?}");
    assert!(!server.bash("CLICOLOR_FORCE=1 NO_COLOR=1 callscope calls ls").stdout.contains('\x1b'));
}
