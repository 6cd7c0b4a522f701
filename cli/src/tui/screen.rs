//! The terminal while it is full-screen, and the promise to give it back.

use std::io::{self, Stdout};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{panic, process};

use crossterm::cursor::Show;
use crossterm::execute;
use crossterm::terminal::{self, EnterAlternateScreen, LeaveAlternateScreen};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

use crate::exit::{Failure, Result};

static ENTERED: AtomicBool = AtomicBool::new(false);
static PANICKED: AtomicBool = AtomicBool::new(false);

/// The terminal in raw mode and on its alternate screen. Given back when dropped, and on a panic in any thread.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal.
    pub fn enter() -> Result<Self> {
        restore_on_panic();
        take()
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())))
            .map(|terminal| Self { terminal })
            .map_err(|error| {
                give_back();
                Failure::error(format!("cannot use the terminal: {error}")).hint("plain lines: callscope tail --plain")
            })
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        terminal::size().unwrap_or((80, 24))
    }

    /// Draws what changed.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> Result<()> {
        self.terminal.draw(draw).map(drop).map_err(|error| Failure::output(&error))
    }

    /// Gives the terminal back.
    pub fn leave(&mut self) {
        give_back();
    }

    /// Gives the terminal back, stops the process as Ctrl-Z does elsewhere, and takes the terminal again after `fg`.
    pub fn suspend(&mut self) -> Result<()> {
        give_back();
        // Raw mode turned the key into a mere key, so the signal has to be sent; without unsafe code that takes a program.
        let _ = process::Command::new("kill").args(["-TSTP", &process::id().to_string()]).status();
        take().and_then(|()| self.terminal.clear()).map_err(|error| Failure::output(&error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Whether some thread panicked since the terminal was taken: it has been given back then.
pub fn panicked() -> bool {
    PANICKED.load(Ordering::Acquire)
}

fn take() -> io::Result<()> {
    ENTERED.store(true, Ordering::Release);
    terminal::enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen)
}

fn give_back() {
    if ENTERED.swap(false, Ordering::AcqRel) {
        // Nothing more can be done where this fails: the terminal is gone.
        let _ = terminal::disable_raw_mode();
        let _ = execute!(io::stdout(), LeaveAlternateScreen, Show);
    }
}

fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICKED.store(true, Ordering::Release);
            give_back();
            previous(info);
        }));
    });
}
