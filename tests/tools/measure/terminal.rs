//! The cost of a call on a screen, by its length: CPU time for a frame and while idle, memory, and the lines a second
//! through a pipe. `callscope play` shows a saved call in a terminal.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use callscope_tests::Pty;
use callscope_tests::process::{program, resident_kib};
use callscope_tests::pty::key;
use callscope_tests::saved::turn_line;
use callscope_tests::usage::cpu_time;

#[derive(Debug, Args)]
pub struct Flags {
    /// Numbers of turns of the measured calls
    #[arg(long, value_delimiter = ',', default_value = "20,2000,200000")]
    turns: Vec<usize>,
    /// Number of frames that are drawn for each call
    #[arg(long, default_value_t = 300)]
    frames: usize,
}

/// Measures a call of each length and prints a Markdown table.
pub fn run(flags: &Flags) {
    println!(
        "| turns | frame, ms of processor | memory, MiB | idle, ms of processor a second | plain, lines a second |"
    );
    println!("|---:|---:|---:|---:|---:|");
    for turns in &flags.turns {
        let folder = tempfile::tempdir().unwrap();
        write_call(&folder.path().join("call.ndjson"), *turns);
        let (frame_ms, memory_mib, idle_ms) = measure_screen(folder.path(), *turns, flags.frames);
        let lines = plain_lines_per_sec(folder.path(), *turns);
        println!("| {turns} | {frame_ms:.2} | {memory_mib} | {idle_ms:.1} | {lines:.0} |");
    }
}

fn write_call(path: &Path, turns: usize) {
    let mut text = String::new();
    for turn in 1..=turns {
        let speaker = ["agent", "user", "tool"][turn % 3];
        let text_of_turn = format!("A green hatchback. No smoke. It coughed twice, and that was turn {turn};");
        text.push_str(&turn_line("EL_long_1", turn, speaker, &text_of_turn, turn));
    }
    std::fs::write(path, text).unwrap();
}

/// Returns the CPU time of a frame in ms, the memory in MiB, and the CPU time in ms of a second without events.
fn measure_screen(folder: &Path, turns: usize, frames: usize) -> (f64, u64, f64) {
    let play = ["play", "call.ndjson", "--speed", "max"];
    let mut terminal = Pty::start((80, 24), &program("callscope"), &play, &[], folder);
    terminal.until_text(&format!("seq {turns}"));
    terminal.until_text("ENDED");
    let cpu_before = cpu_ms(terminal.pid());
    for frame in 0..frames {
        let written = terminal.bytes_written();
        // Each frame should show other turns. A long call has pages enough; a short one jumps between its ends.
        terminal.press(match (turns > 20 * frames, frame % 2) {
            (true, _) => key::PAGE_UP,
            (false, 0) => "g",
            (false, _) => "G",
        });
        terminal.wait_past(written);
    }
    let frame_ms = (cpu_ms(terminal.pid()) - cpu_before) / frames as f64;
    let memory_mib = resident_kib(terminal.pid()) / 1024;
    let cpu_before = cpu_ms(terminal.pid());
    let began = Instant::now();
    std::thread::sleep(Duration::from_secs(3));
    let idle_ms = (cpu_ms(terminal.pid()) - cpu_before) / began.elapsed().as_secs_f64();
    (frame_ms, memory_mib, idle_ms)
}

/// Returns the lines a second that `play --plain` writes into a pipe.
fn plain_lines_per_sec(folder: &Path, turns: usize) -> f64 {
    let began = Instant::now();
    let output = Command::new(program("callscope"))
        .args(["play", "call.ndjson", "--plain"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), turns);
    turns as f64 / began.elapsed().as_secs_f64()
}

/// Returns the CPU time of a process in ms.
fn cpu_ms(pid: u32) -> f64 {
    cpu_time(&[pid]).as_secs_f64() * 1e3
}
