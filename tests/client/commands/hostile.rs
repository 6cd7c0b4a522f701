//! Every command of the program against a hostile server: no control character reaches a terminal, memory stays
//! bounded, nothing panics, and the exit code is a documented one.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::{Child, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use regex::Regex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::hostile_server::{Hostile, Mode};
use crate::server::{Server, TOW};
use callscope_tests::Pty;

/// Limit of the program's address space, in KiB. Several 64 MiB answers fit, and an answer without end does not.
const ADDRESS_SPACE: u64 = 1_500_000;
/// Longer than any command takes that ends by itself.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

/// How a command is run.
struct Case {
    args: Vec<String>,
    stdin: &'static str,
    /// It runs until it is ended, which happens once it has printed something.
    goes_on: bool,
}

/// Ids that a real server knows.
struct Known {
    delivery: String,
    connection: String,
}

/// Returns the cases of a command by its words; `None` for a command that has no place here.
fn cases(command: &str, known: &Known) -> Option<Vec<Case>> {
    let case = |line: &str| Case {
        args: line
            .split(' ')
            .map(|word| {
                word.replace("TOW", TOW).replace("DELIVERY", &known.delivery).replace("CONNECTION", &known.connection)
            })
            .collect(),
        stdin: "",
        goes_on: false,
    };
    let with_stdin = |line: &str, stdin| Case { stdin, ..case(line) };
    let goes_on = |line: &str| Case { goes_on: true, ..case(line) };
    Some(match command {
        "demo" | "help" | "man" | "completions" | "play" => return Some(Vec::new()),
        "calls ls" => {
            vec![case("calls ls"), case("calls ls -o json"), case("calls ls -o ndjson"), case("calls ls -o text")]
        }
        "calls show" => vec![case("calls show TOW"), case("calls show TOW -o json")],
        "calls watch" => vec![goes_on("calls watch"), goes_on("calls watch -o ndjson")],
        "calls export" => ["txt", "md", "json", "ndjson", "srt", "vtt"]
            .map(|format| case(&format!("calls export TOW --format {format}")))
            .into(),
        "connections ls" => vec![case("connections ls"), case("connections ls -o json")],
        "connections show" => vec![case("connections show CONNECTION"), case("connections show CONNECTION -o json")],
        "connections kick" => vec![case("connections kick 00000000 --yes")],
        "subscriptions ls" => vec![case("subscriptions ls"), case("subscriptions ls -o ndjson")],
        "subscriptions show" => vec![case("subscriptions show TOW"), case("subscriptions show TOW -o json")],
        "deliveries ls" => {
            vec![case("deliveries ls"), case("deliveries ls -o json"), case("deliveries ls --verdict unverified")]
        }
        "deliveries show" => vec![case("deliveries show DELIVERY"), case("deliveries show DELIVERY -o json")],
        "deliveries replay" => vec![case("deliveries replay DELIVERY"), case("deliveries replay DELIVERY -o ndjson")],
        "deliveries export" => vec![
            case("deliveries export DELIVERY"),
            case("deliveries export DELIVERY -o json"),
            case("deliveries export --redact"),
        ],
        "listen" => vec![goes_on("listen --history"), goes_on("listen --history -o ndjson")],
        "replay" => {
            vec![case("replay line-busy"), case("replay line-busy --expect 418"), case("replay line-busy -o ndjson")]
        }
        "trigger" => vec![case("trigger failure"), case("trigger turn -o json"), case("trigger failure --expect 418")],
        "tail" => vec![
            // A stream of meaningless messages has no end either.
            goes_on("tail TOW --no-follow --no-reconnect"),
            goes_on("tail TOW --no-follow --no-reconnect -o ndjson"),
            goes_on("tail --active --plain"),
        ],
        "top" => vec![case("top"), case("top -o json")],
        "samples ls" => vec![case("samples ls"), case("samples ls -o json")],
        "samples show" | "samples new" | "samples validate" => {
            vec![case(&format!("{command} line-busy")), case(&format!("{command} storm-night"))]
        }
        "webhook sign" => vec![with_stdin("webhook sign -", "\u{1b}]0;x\u{7}")],
        "webhook verify" => vec![with_stdin("webhook verify - --header \u{1b}]0;x\u{7} --explain", "\u{1b}]0;x\u{7}")],
        "context add" => vec![case("context add desk http://127.0.0.1:1")],
        "context ls" | "context use" | "context rm" => {
            vec![case("context ls"), case("context use desk"), case("context rm nowhere")]
        }
        "login" => vec![with_stdin("login --with-token", "hunter2\n")],
        "logout" => vec![case("logout desk")],
        "whoami" => vec![case("whoami"), case("whoami -o json")],
        "token inspect" => vec![case("token inspect")],
        "doctor" => vec![case("doctor"), case("doctor -o json"), case("doctor -o text")],
        _ => return None,
    })
}

/// Returns the words of every command without subcommands, from the program's own manual.
fn commands(server: &Server) -> Vec<String> {
    let ran = server.run(&["man", "--dir", "pages"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let names: BTreeSet<String> = std::fs::read_dir(format!("{}/pages", server.home()))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| Some(name.strip_suffix(".1")?.strip_prefix("callscope-")?.replace('-', " ")))
        .collect();
    let has_below = |name: &String| names.iter().any(|other| other.starts_with(&format!("{name} ")));
    names.iter().filter(|name| !has_below(name)).cloned().collect()
}

#[test]
fn no_command_prints_a_hostile_servers_control_characters() {
    let server = Server::start();
    for sample in ["tow-truck", "line-busy"] {
        server.replay(sample);
    }
    let mut listener = server.callscope(&["listen", "-q"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let known = Known {
        delivery: first(&server, "deliveries", "delivery_id"),
        connection: first(&server, "connections", "connection_id"),
    };
    let commands = commands(&server);
    assert!(commands.len() > 30, "{commands:?}");
    let cases: Vec<Case> = commands
        .iter()
        .flat_map(|command| {
            let cases = cases(command, &known);
            cases.unwrap_or_else(|| panic!("{command} is new: say here how it meets a hostile server"))
        })
        .collect();
    let modes = [
        Mode::Fields,
        Mode::Enums,
        Mode::Refusal(400),
        Mode::Refusal(401),
        Mode::Refusal(403),
        Mode::Refusal(404),
        Mode::Refusal(500),
        Mode::Page(400),
        Mode::Page(500),
        Mode::BadJson,
        Mode::Endless(200),
        Mode::Endless(500),
        Mode::Redirect,
        Mode::Close,
        Mode::Noise,
    ];
    std::thread::scope(|scope| {
        for mode in modes {
            let (server, cases) = (&server, &cases);
            scope.spawn(move || {
                let hostile = Hostile::start(&server.url, mode);
                for case in cases {
                    check(&run(server, &hostile, case), &format!("{} ({mode:?})", case.args.join(" ")));
                }
            });
        }
    });
    listener.kill().unwrap();
    listener.wait().unwrap();
}

/// On a terminal there are colours, cut lines and lines that are drawn over, and still no control character of the
/// server.
#[test]
fn no_command_lets_a_hostile_server_control_a_terminal() {
    let server = Server::start();
    for sample in ["tow-truck", "line-busy"] {
        server.replay(sample);
    }
    let known = Known { delivery: first(&server, "deliveries", "delivery_id"), connection: "0".into() };
    let own = Regex::new("\r?\x1b\\[(0|1|4|3[0-7])?[mK]|\r").unwrap();
    let full_screen = ["tail", "top", "login", "webhook sign", "webhook verify"];
    for mode in [Mode::Fields, Mode::Refusal(400), Mode::Redirect] {
        let hostile = Hostile::start(&server.url, mode);
        for command in commands(&server).iter().filter(|command| !full_screen.contains(&command.as_str())) {
            for case in cases(command, &known).unwrap().iter().filter(|case| !case.goes_on) {
                let args: Vec<&str> = case.args.iter().map(String::as_str).collect();
                let mut program = server.callscope(&args);
                program.env("CALLSCOPE_SERVER", &hostile.url);
                let bytes = Pty::run(&program, (80, 24)).wait_for_exit().bytes;
                let text = String::from_utf8(bytes).unwrap();
                let rest = own.replace_all(&text, "");
                let raw = rest.chars().find(|c| is_raw(*c));
                assert_eq!(raw, None, "{} ({mode:?}):\n{}", case.args.join(" "), text.escape_debug());
            }
        }
    }
}

/// Returns the first id in a list, once the list has one.
fn first(server: &Server, list: &str, id: &str) -> String {
    loop {
        let ran = server.run(&[list, "ls", "-o", "json"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let json: Value = serde_json::from_str(&ran.stdout).unwrap();
        if let Some(id) = json[list][0][id].as_str() {
            return id.to_owned();
        }
    }
}

#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// The test ended the program.
    ended: bool,
}

/// Runs a case to its end with limited memory.
fn run(server: &Server, hostile: &Hostile, case: &Case) -> Ran {
    let mut bash = std::process::Command::new("bash");
    bash.args(["-c", &format!("ulimit -v {ADDRESS_SPACE}; exec callscope \"$@\""), "bash"]).args(&case.args);
    server.environment(&mut bash).env("CALLSCOPE_SERVER", &hostile.url);
    bash.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = bash.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), case.stdin.as_bytes()).unwrap();
    let (spoke, heard) = sync_channel(64);
    let mut stdout = child.stdout.take().unwrap();
    let said = spoke.clone();
    let out = std::thread::spawn(move || {
        let (mut all, mut piece) = (Vec::new(), [0; 65_536]);
        while let Ok(length @ 1..) = stdout.read(&mut piece) {
            all.extend_from_slice(&piece[..length]);
            let _ = said.try_send(());
        }
        all
    });
    let mut stderr = child.stderr.take().unwrap();
    let err = std::thread::spawn(move || {
        let mut all = Vec::new();
        stderr.read_to_end(&mut all).unwrap();
        all
    });
    drop(spoke);
    let ended = if case.goes_on { end_once_it_spoke(&heard, &child) } else { false };
    while heard.recv_timeout(WAIT_TIMEOUT).is_ok() {}
    if child.try_wait().unwrap().is_none() {
        // The program's stdout is closed, or silent for a long time: it ends now, or it hangs.
        end(&child, if case.goes_on { Signal::TERM } else { Signal::KILL });
    }
    let status = child.wait().unwrap();
    Ran { code: status.code(), stdout: out.join().unwrap(), stderr: err.join().unwrap(), ended }
}

fn end_once_it_spoke(heard: &std::sync::mpsc::Receiver<()>, child: &Child) -> bool {
    match heard.recv_timeout(Duration::from_secs(8)) {
        Ok(()) | Err(RecvTimeoutError::Timeout) => end(child, Signal::TERM),
        Err(RecvTimeoutError::Disconnected) => return false,
    }
    true
}

fn end(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    let _ = kill_process(pid, signal);
}

/// Checks that the output is safe and that the exit code is documented.
fn check(ran: &Ran, what: &str) {
    let (stdout, stderr) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(!stderr.contains("panicked") && !stderr.contains("memory allocation"), "{what}: {stderr}");
    assert!(matches!(ran.code, Some(0..=8 | 130)), "{what}: {:?}\n{stdout}\n{stderr}", ran.code);
    assert!(!ran.ended || matches!(ran.code, Some(0..=8 | 130)), "{what}");
    for (name, text) in [("stdout", &stdout), ("stderr", &stderr)] {
        assert_eq!(text.chars().find(|c| is_raw(*c)), None, "{what}: {name}:\n{}", text.escape_debug());
    }
    assert!(stderr.len() < 100_000, "{what}: {} bytes on stderr", stderr.len());
}

/// Returns whether a terminal would act on it, or show other letters.
fn is_raw(c: char) -> bool {
    let is_unseen = matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}');
    (c.is_control() && !matches!(c, '\n' | '\t')) || is_unseen
}
