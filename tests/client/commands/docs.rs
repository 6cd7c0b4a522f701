//! The examples of docs/cli.md, run with bash against a real server, print what the page says. `DOCS=overwrite cargo
//! test -p callscope-tests --test commands docs` writes their outputs again.
//!
//! Times, ports, durations and other values that differ between runs are replaced by placeholders, of the same length
//! where columns would move.

use std::path::PathBuf;
use std::process::Command;

use crate::server::Server;
use callscope_tests::Pty;
use regex::Regex;

#[test]
fn the_examples_of_the_documentation_are_true() {
    let server = Server::start();
    for sample in ["tow-truck", "line-busy"] {
        server.replay(sample);
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let run = run_all(&written, &server);
    if std::env::var_os("DOCS").is_some_and(|value| value == "overwrite") {
        std::fs::write(&path, run).unwrap();
        return;
    }
    if run != written {
        let difference = written.lines().zip(run.lines()).find(|(before, now)| before != now);
        let (before, now) = difference.unwrap_or(("(its end)", "(more)"));
        panic!(
            "docs/cli.md says\n  {before}\nand the program\n  {now}\nif that is right: DOCS=overwrite cargo test -p callscope-tests --test commands docs"
        );
    }
}

/// Returns the text with the current output of every `console` block.
fn run_all(text: &str, server: &Server) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        if let Some(command) = line.strip_prefix("```text $ ") {
            while lines.next_if(|line| *line != "```").is_some() {}
            out.push_str(&screen(command, server));
        }
        if line != "```console" {
            continue;
        }
        while let Some(line) = lines.next_if(|line| *line != "```") {
            if let Some(command) = line.strip_prefix("$ ") {
                out.push_str(&format!("$ {command}\n"));
                out.push_str(&run(command, server));
            }
        }
    }
    out
}

fn run(command: &str, server: &Server) -> String {
    let mut bash = Command::new("bash");
    bash.args(["-c", &format!("exec 2>&1\n{command}")]);
    let output = server.environment(&mut bash).output().unwrap();
    steady(&String::from_utf8(output.stdout).unwrap(), server)
}

/// Returns what a full-screen view shows once it has received the calls of the server.
fn screen(command: &str, server: &Server) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let mut terminal = Pty::run(&server.callscope(&words[1..]), (80, 16));
    terminal.until_text("LIVE");
    let shown = terminal.until_text("completed");
    terminal.press("q");
    terminal.wait_for_exit();
    let ages = Regex::new(r"(?m)^\d+s( +)").unwrap().replace_all(&shown, "12s      ").into_owned();
    let text = Regex::new(r"up \d+s").unwrap().replace(&ages, "up 3s").into_owned();
    let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
    steady(&format!("{}\n", lines.join("\n")), server)
}

/// Replaces values that differ between runs.
fn steady(text: &str, server: &Server) -> String {
    let port = server.url.rsplit(':').next().unwrap();
    let text = text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:18000").replace(&server.home(), "/home/ada");
    let rules = [
        (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "2026-10-01 14:00:12"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", "2026-10-01T14:00:12.000000Z"),
        (r"another (23h 59m|1d|7h 59m|8h)", "another 23h 59m"),
        (r"in \d+ ms", "in 1 ms"),
        (r"(exp.:)\d+", "${1}1790942412"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "01a20eb1-7c1e-7d31-9f0e-5b8f4c1d2a60"),
        (r"\b0\d:\d\d:\d\d\.\d{3}\b", "00:00:00.000"),
        (r"\(\d+ bytes\)", "(1234 bytes)"),
    ];
    rules
        .iter()
        .fold(text, |text, (pattern, instead)| Regex::new(pattern).unwrap().replace_all(&text, *instead).into_owned())
}
