//! The queue of lines for stderr, and the thread that writes them.
//!
//! No request ever waits for the reader of the log. If the reader stalls or is gone, or its disk is full, lines are
//! dropped and counted. Once lines can be written again, one of them says how many were dropped.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::{line, refusals};
use crate::clock;

/// Maximum number of lines that wait to be written, each at most 2 KiB long. Further lines are dropped and counted.
const QUEUE_LINES: usize = 2_048;
/// Interval at which an idle thread checks for counted refusals to log.
const REFUSALS_INTERVAL: Duration = Duration::from_secs(1);
/// Time for writing the last lines of a process that ends.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(250);

struct LogQueue {
    /// `None` if the thread could not be started; then all lines are dropped.
    queue: Option<SyncSender<Vec<u8>>>,
    is_json: AtomicBool,
    /// Lines that were passed to [`write()`].
    submitted: AtomicU64,
    /// Lines that were written or dropped.
    done: AtomicU64,
    dropped: AtomicU64,
}

static LOG: OnceLock<LogQueue> = OnceLock::new();

fn log() -> &'static LogQueue {
    LOG.get_or_init(|| {
        let (queue, lines) = sync_channel(QUEUE_LINES);
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || run(&lines));
        LogQueue {
            queue: thread.is_ok().then_some(queue),
            is_json: AtomicBool::new(false),
            submitted: AtomicU64::new(0),
            done: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    })
}

/// Queues a line, which ends with a line feed. Never waits and never fails.
pub(super) fn write(line: Vec<u8>) {
    let log = log();
    log.submitted.fetch_add(1, Ordering::Relaxed);
    if log.queue.as_ref().is_none_or(|queue| queue.try_send(line).is_err()) {
        count_dropped(log);
    }
}

fn count_dropped(log: &LogQueue) {
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

/// Returns how many lines were dropped since the process started.
#[must_use]
pub fn dropped_lines() -> u64 {
    LOG.get().map_or(0, |log| log.dropped.load(Ordering::Relaxed))
}

/// Waits until the queued lines are written, for at most `FLUSH_TIMEOUT`, so that a stalled reader does not keep the
/// process from ending.
pub fn flush() {
    let Some(log) = LOG.get() else { return };
    refusals::log_now();
    let (began, last) = (Instant::now(), log.submitted.load(Ordering::Relaxed));
    while log.done.load(Ordering::Relaxed) < last && began.elapsed() < FLUSH_TIMEOUT {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn run(lines: &Receiver<Vec<u8>>) {
    let mut reported_dropped = 0;
    // Whether the last line was written only in part, so that a line feed has to end it.
    let mut is_cut_off = false;
    loop {
        let line = match lines.recv_timeout(REFUSALS_INTERVAL) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                refusals::log_if_over();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let log = log();
        let result = if is_cut_off { write_all(b"\n") } else { Ok(()) }.and_then(|()| write_all(&line));
        match result {
            Ok(()) => {
                is_cut_off = false;
                log.done.fetch_add(1, Ordering::Relaxed);
                let dropped = log.dropped.load(Ordering::Relaxed);
                let unreported = dropped - reported_dropped;
                if unreported > 0 && write_all(dropped_notice(unreported, is_json()).as_bytes()).is_ok() {
                    reported_dropped = dropped;
                }
            }
            Err(written_bytes) => {
                is_cut_off |= written_bytes > 0;
                count_dropped(log);
            }
        }
        refusals::log_if_over();
    }
}

fn dropped_notice(lines: u64, is_json: bool) -> String {
    let at = clock::now();
    let text = "log lines were dropped, because they could not be written";
    let target = module_path!();
    match is_json {
        true => format!(
            "{}\n",
            serde_json::json!({"timestamp": at, "level": "WARN", "message": text, "lines": lines, "target": target})
        ),
        false => format!("{at}  WARN {target}: {text} lines={lines}\n"),
    }
}

/// Writes to the descriptor of stderr. The standard library's handle has a lock, which a stalled write would hold.
///
/// # Errors
/// Returns how many bytes were written before the error.
fn write_all(mut bytes: &[u8]) -> Result<(), usize> {
    let stderr = rustix::stdio::stderr();
    let len = bytes.len();
    while !bytes.is_empty() {
        match rustix::io::write(stderr, bytes) {
            Ok(0) => return Err(len - bytes.len()),
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            // Another program has made the terminal or pipe non-blocking, so this waits until it is writable.
            Err(Errno::AGAIN) => {
                let _ = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None);
            }
            Err(_) => return Err(len - bytes.len()),
        }
    }
    Ok(())
}

/// The writer that `tracing` formats lines into.
#[derive(Debug, Clone, Copy)]
pub(super) struct LineWriter;

impl std::io::Write for LineWriter {
    /// Queues one whole line: the formatter writes each line with one call.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        write(line::bounded(bytes, is_json()));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
