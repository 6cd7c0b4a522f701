//! The queue of lines for stderr, and the thread that writes them.
//!
//! No request ever waits for the reader of the log. If the reader stalls or is gone, or its disk is full, lines are
//! dropped and counted. Once a line can be written again, one line says how many are missing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::{line, refusals};
use crate::clock;

/// Maximum number of lines that wait to be written, each at most 2 KiB long. Further ones are dropped and counted.
const QUEUE: usize = 2_048;
/// Interval at which counted refusals are logged.
const TICK: Duration = Duration::from_secs(1);
/// Time for writing the last lines of a process that ends.
const FLUSH: Duration = Duration::from_millis(250);

struct LogQueue {
    queue: Option<SyncSender<Vec<u8>>>,
    is_json: AtomicBool,
    accepted: AtomicU64,
    /// Lines that were written or dropped.
    done: AtomicU64,
    dropped: AtomicU64,
}

static LOG: OnceLock<LogQueue> = OnceLock::new();

fn log() -> &'static LogQueue {
    LOG.get_or_init(|| {
        let (queue, lines) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || run(&lines));
        LogQueue {
            queue: thread.is_ok().then_some(queue),
            is_json: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            done: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    })
}

/// Queues a line, which ends with a line feed. Never waits and never fails.
pub(super) fn write(line: Vec<u8>) {
    let log = log();
    log.accepted.fetch_add(1, Ordering::Relaxed);
    if log.queue.as_ref().is_none_or(|queue| queue.try_send(line).is_err()) {
        drop_line(log);
    }
}

fn drop_line(log: &LogQueue) {
    log.dropped.fetch_add(1, Ordering::Relaxed);
    log.done.fetch_add(1, Ordering::Relaxed);
}

/// Sets whether lines are JSON.
pub(super) fn use_json(is_json: bool) {
    log().is_json.store(is_json, Ordering::Relaxed);
}

pub(super) fn is_json() -> bool {
    log().is_json.load(Ordering::Relaxed)
}

/// Returns how many lines were dropped since the process began.
#[must_use]
pub fn dropped_lines() -> u64 {
    LOG.get().map_or(0, |log| log.dropped.load(Ordering::Relaxed))
}

/// Waits until the queued lines are written, but only for a moment, so that a stalled reader does not delay the end.
pub fn flush() {
    let Some(log) = LOG.get() else { return };
    refusals::finish();
    let (began, last) = (Instant::now(), log.accepted.load(Ordering::Relaxed));
    while log.done.load(Ordering::Relaxed) < last && began.elapsed() < FLUSH {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn run(lines: &Receiver<Vec<u8>>) {
    let mut told = 0;
    let mut is_broken = false;
    loop {
        let line = match lines.recv_timeout(TICK) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                refusals::tick();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let log = log();
        // A line that was written only in part is ended first.
        let written = if is_broken { write_all(b"\n") } else { Ok(()) }.and_then(|()| write_all(&line));
        match written {
            Ok(()) => {
                is_broken = false;
                log.done.fetch_add(1, Ordering::Relaxed);
                let dropped = log.dropped.load(Ordering::Relaxed);
                if dropped > told && write_all(notice(dropped - told, is_json()).as_bytes()).is_ok() {
                    told = dropped;
                }
            }
            Err(written) => {
                is_broken |= written > 0;
                drop_line(log);
            }
        }
        refusals::tick();
    }
}

fn notice(lines: u64, is_json: bool) -> String {
    let at = clock::now();
    let text = "log lines were dropped, because their reader did not take them";
    let target = module_path!();
    match is_json {
        true => format!(
            "{}\n",
            serde_json::json!({"timestamp": at, "level": "WARN", "message": text, "lines": lines, "target": target})
        ),
        false => format!("{at}  WARN {target}: {text} lines={lines}\n"),
    }
}

/// Writes to stderr by its descriptor. The standard library's handle has a lock, which a stalled write would hold.
///
/// # Errors
/// Returns how many bytes were written before the error.
fn write_all(mut bytes: &[u8]) -> Result<(), usize> {
    let stderr = rustix::stdio::stderr();
    let whole = bytes.len();
    while !bytes.is_empty() {
        match rustix::io::write(stderr, bytes) {
            Ok(0) => return Err(whole - bytes.len()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Another program made the terminal or pipe non-blocking.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
            }
            Err(_) => return Err(whole - bytes.len()),
        }
    }
    Ok(())
}

/// The writer of `tracing`.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineWriter;

impl std::io::Write for LineWriter {
    /// Takes one whole line, because the formatter writes each line with one call.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write(line::bounded(bytes, is_json()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
