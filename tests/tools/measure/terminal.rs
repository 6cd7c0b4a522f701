//! What a call of any length costs on a screen: processor time for a frame, memory, time while nothing happens, and the
//! lines a second through a pipe. The program itself plays a recording in a terminal.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use callscope_tests::Pty;
use callscope_tests::process::{memory, program};
use callscope_tests::pty::key;
use callscope_tests::saved::turn_line;

#[derive(Debug, Args)]
pub struct Flags {
    /// Turns of the calls
    #[arg(long, value_delimiter = ',', default_value = "20,2000,200000")]
    turns: Vec<usize>,
    /// Frames of each call
    #[arg(long, default_value_t = 300)]
    frames: usize,
}

/// Measures and prints a table.
pub fn run(flags: &Flags) {
    println!(
        "| turns | frame, ms of processor | memory, MiB | idle, ms of processor a second | plain, lines a second |"
    );
    println!("|---:|---:|---:|---:|---:|");
    for turns in &flags.turns {
        let folder = tempfile::tempdir().unwrap();
        write_call(&folder.path().join("call.ndjson"), *turns);
        let (frame, held, idle) = screen(folder.path(), *turns, flags.frames);
        println!("| {turns} | {frame:.2} | {held} | {idle:.1} | {:.0} |", plain(folder.path(), *turns));
    }
}

/// Writes a saved call.
fn write_call(path: &Path, turns: usize) {
    let mut text = String::new();
    for turn in 1..=turns {
        let speaker = ["agent", "user", "tool"][turn % 3];
        let said = format!("A green hatchback. No smoke. It coughed twice, and that was turn {turn};");
        text.push_str(&turn_line("EL_long_1", turn, speaker, &said, turn));
    }
    std::fs::write(path, text).unwrap();
}

/// Returns the processor time of a frame in ms, the memory in MiB, and the processor time in ms of a second without
/// events.
fn screen(folder: &Path, turns: usize, frames: usize) -> (f64, u64, f64) {
    let play = ["play", "call.ndjson", "--speed", "max"];
    let mut terminal = Pty::start((80, 24), &program("callscope"), &play, &[], folder);
    terminal.until_text(&format!("seq {turns}"));
    terminal.until_text("ENDED");
    let before = worked(terminal.pid());
    for frame in 0..frames {
        let written = terminal.bytes_written();
        // A long call is shown page by page, and no page was laid out earlier; a short one from end to end.
        terminal.press(match (turns > 20 * frames, frame % 2) {
            (true, _) => key::PAGE_UP,
            (false, 0) => "g",
            (false, _) => "G",
        });
        terminal.wait_past(written);
    }
    let frame = (worked(terminal.pid()) - before) / frames as f64;
    let held = memory(terminal.pid()) / 1024;
    let before = worked(terminal.pid());
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    let idle = (worked(terminal.pid()) - before) / began.elapsed().as_secs_f64();
    (frame, held, idle)
}

/// Returns the lines a second that go into a pipe.
fn plain(folder: &Path, turns: usize) -> f64 {
    let began = Instant::now();
    let done = Command::new(program("callscope"))
        .args(["play", "call.ndjson", "--plain"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(done.stdout.iter().filter(|byte| **byte == b'\n').count(), turns);
    turns as f64 / began.elapsed().as_secs_f64()
}

/// Returns the processor time of a process in ms. Its clock ticks a hundred times a second.
fn worked(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..=12].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 * 10.0
}
