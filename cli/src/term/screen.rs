//! Takes the terminal for a full-screen view and guarantees to restore it: after leaving, an error, a panic in any
//! thread or a signal, and while the process is stopped.

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

/// How long restoring the terminal waits for a write that hangs.
const RESTORE_TIMEOUT: Duration = Duration::from_millis(200);

/// Whether the terminal is in full-screen mode.
static ENTERED: AtomicBool = AtomicBool::new(false);
/// Held while the terminal is written to, so that no frame is drawn on a terminal that was just restored.
static WRITE_LOCK: Mutex<()> = Mutex::new(());
static PANICKED: Notify = Notify::const_new();

/// The terminal in raw mode and on its alternate screen. Dropping it restores the terminal.
pub(crate) struct Screen {
    terminal: Terminal<RowBackend<FrameWriter>>,
}

impl Screen {
    pub(crate) fn enter() -> Result<Self> {
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

    /// Returns the columns and rows.
    pub(crate) fn size(&self) -> (u16, u16) {
        size()
    }

    /// Draws what changed in one write.
    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.terminal.draw(draw).map(drop).map_err(|error| Failure::output(&error))
    }

    /// Makes the next frame draw every cell, which removes whatever else was written to the screen.
    pub(crate) fn invalidate(&mut self) -> Result<()> {
        let (width, height) = self.size();
        // `clear` would ask the terminal for the position of its cursor and wait for the answer among the keys.
        self.terminal.resize(Rect::new(0, 0, width, height)).map_err(|error| Failure::output(&error))
    }

    /// Restores the terminal.
    pub(crate) fn leave(&mut self) {
        restore();
    }

    /// Takes the terminal again, after [`Screen::leave`] or after another program used it.
    pub(crate) fn enter_again(&mut self) -> Result<()> {
        // This undoes what another program did to the terminal.
        restore();
        enter().map_err(|error| Failure::output(&error))?;
        self.invalidate()
    }

    /// Puts `text` into the clipboard of the terminal (OSC 52). A terminal without one ignores it, and none answers.
    pub(crate) fn copy(&mut self, text: &str) -> Result<()> {
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

/// Collects a frame and writes it in one piece. Nothing is written to a terminal that was restored.
#[derive(Default)]
pub(crate) struct FrameWriter {
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

/// Returns the columns and rows of the terminal.
pub(crate) fn size() -> (u16, u16) {
    or_default_size(terminal::size().unwrap_or_default())
}

/// Replaces zeros by 80 columns and 24 rows: a terminal on a serial line does not know its size.
pub(crate) fn or_default_size((width, height): (u16, u16)) -> (u16, u16) {
    (if width == 0 { 80 } else { width }, if height == 0 { 24 } else { height })
}

/// Waits until a thread panics. The terminal is restored by then.
pub(crate) async fn panicked() {
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

/// Restores the terminal, if it was taken. An error is ignored: it means that the terminal is gone.
fn restore() {
    if !ENTERED.swap(false, Ordering::AcqRel) {
        return;
    }
    let writing = lock_for_restore();
    let _ = terminal::disable_raw_mode();
    // A write that hangs would block this one too.
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

/// Returns the lock for writing, or `None` when another thread does not release it in time.
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
