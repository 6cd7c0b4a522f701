//! The terminal while it is full-screen, and the promise to give it back: after leaving, an error, a panic in any thread,
//! a signal, and while the process is stopped.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError, TryLockError};
use std::time::Duration;
use std::{panic, thread};

use crossterm::cursor::Show;
use crossterm::event::{DisableBracketedPaste, EnableBracketedPaste};
use crossterm::style::ResetColor;
use crossterm::terminal::{
    self, BeginSynchronizedUpdate, DisableLineWrap, EnableLineWrap, EndSynchronizedUpdate, EnterAlternateScreen,
    LeaveAlternateScreen,
};
use crossterm::{execute, queue};
use ratatui::layout::Rect;
use ratatui::{Frame, Terminal};
use tokio::sync::Notify;

use super::backend::RowBackend;
use crate::exit::{Failure, Result};

/// How long giving the terminal back waits for a write to it that hangs.
const RESTORE_TIMEOUT: Duration = Duration::from_millis(200);

/// Whether the terminal is ours now.
static ENTERED: AtomicBool = AtomicBool::new(false);
/// Held by whoever writes to the terminal, so that a frame never lands on a screen that was just given back.
static WRITE_LOCK: Mutex<()> = Mutex::new(());
static PANICKED: Notify = Notify::const_new();

/// The terminal in raw mode and on its alternate screen. Given back when dropped.
pub struct Screen {
    terminal: Terminal<RowBackend<FrameWriter>>,
}

impl Screen {
    /// Takes the terminal.
    pub fn enter() -> Result<Self> {
        restore_on_panic();
        enter()
            .and_then(|()| Terminal::new(RowBackend::new(FrameWriter::default(), size)))
            .map(|terminal| Self { terminal })
            .map_err(|error| {
                restore();
                Failure::error(format!("cannot use the terminal: {error}"))
                    .hint("plain lines need none: callscope tail --plain ID")
            })
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        size()
    }

    /// Draws what changed, in one write.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.terminal.draw(draw).map(drop).map_err(|error| Failure::output(&error))
    }

    /// The next drawing draws every cell: whatever something else wrote over it is gone then.
    pub fn invalidate(&mut self) -> Result<()> {
        let (width, height) = self.size();
        // Not `clear`, which asks the terminal where its cursor is and waits for the answer among the keys.
        self.terminal.resize(Rect::new(0, 0, width, height)).map_err(|error| Failure::output(&error))
    }

    /// Gives the terminal back.
    pub fn leave(&mut self) {
        restore();
    }

    /// Takes the terminal again, after [`Screen::leave`] or after something else had it.
    pub fn enter_again(&mut self) -> Result<()> {
        // What another program did to it meanwhile is undone as well.
        restore();
        enter().map_err(|error| Failure::output(&error))?;
        self.invalidate()
    }

    /// Puts `text` into the terminal's clipboard (OSC 52), where it has one; there is no answer to tell.
    pub fn copy(&mut self, text: &str) -> Result<()> {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(text);
        let sequence = format!("\x1b]52;c;{encoded}\x1b\\");
        write_if_entered(sequence.as_bytes()).map_err(|error| Failure::output(&error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Collects a frame, and writes it at once when it is flushed. Nothing is drawn on a terminal that was given back.
#[derive(Default)]
pub struct FrameWriter {
    bytes: Vec<u8>,
}

impl Write for FrameWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.is_empty() {
            queue!(self.bytes, BeginSynchronizedUpdate)?;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        queue!(self.bytes, EndSynchronizedUpdate)?;
        let written = write_if_entered(&self.bytes);
        self.bytes.clear();
        written
    }
}

/// Columns and rows of the terminal. One that says it has none does not know, as on a serial line.
pub fn size() -> (u16, u16) {
    or_default_size(terminal::size().unwrap_or_default())
}

/// A size that a terminal told; 80 by 24 for what it does not know.
pub fn or_default_size((width, height): (u16, u16)) -> (u16, u16) {
    (if width == 0 { 80 } else { width }, if height == 0 { 24 } else { height })
}

/// Resolves once a thread panicked. The terminal has been given back by then.
pub async fn panicked() {
    PANICKED.notified().await;
}

fn write_if_entered(bytes: &[u8]) -> io::Result<()> {
    let _writing = WRITE_LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    if !ENTERED.load(Ordering::Acquire) {
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush())
}

fn enter() -> io::Result<()> {
    ENTERED.store(true, Ordering::Release);
    terminal::enable_raw_mode()?;
    // A character that is wider than counted must not run over into the next row.
    execute!(io::stdout(), EnterAlternateScreen, EnableBracketedPaste, DisableLineWrap)
}

/// Gives the terminal back, where it is ours. Nothing more can be done where that fails: the terminal is gone.
fn restore() {
    if !ENTERED.swap(false, Ordering::AcqRel) {
        return;
    }
    let writing = lock_for_restore();
    let _ = terminal::disable_raw_mode();
    // A write that hangs would hang this one as well.
    if writing.is_some() {
        let _ = execute!(
            io::stdout(),
            EndSynchronizedUpdate,
            DisableBracketedPaste,
            EnableLineWrap,
            ResetColor,
            LeaveAlternateScreen,
            Show
        );
    }
}

/// The right to write, unless whoever has it does not let go of it in time.
fn lock_for_restore() -> Option<MutexGuard<'static, ()>> {
    const STEP: Duration = Duration::from_millis(5);
    for _ in 0..RESTORE_TIMEOUT.as_millis() / STEP.as_millis() {
        match WRITE_LOCK.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => thread::sleep(STEP),
        }
    }
    None
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            restore();
            previous(info);
            PANICKED.notify_one();
        }));
    });
}
