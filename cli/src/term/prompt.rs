//! Questions on the terminal and texts from stdin, read on a thread of their own so that a signal still ends the
//! program.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use crate::exit::{Exit, Failure, Result};

/// Longest text that [`stdin`] takes, in bytes: room for any token.
const LONGEST: u64 = 64 << 10;

/// Asks a question that `y` or `yes` agrees to.
pub(crate) async fn confirm(question: &str) -> Result<bool> {
    Ok(matches!(line(&format!("{question} [y/N] ")).await?.as_deref(), Some("y" | "Y" | "yes")))
}

/// Asks for a line; `None` where the input ends.
pub(crate) async fn line(question: &str) -> Result<Option<String>> {
    ask(question);
    let read = blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|read| (read > 0).then(|| line.trim().to_owned()))
    });
    // What cannot be read agrees to nothing.
    Ok(read.await?.unwrap_or_default())
}

/// Reads a secret: from a terminal, which does not show it, else all of stdin. `what` names it.
pub(crate) async fn secret(what: &'static str) -> Result<String> {
    if !io::stdin().is_terminal() {
        return stdin(what).await;
    }
    ask(&format!("{what}: "));
    match blocking(hidden_line).await? {
        Ok(text) if !text.is_empty() => Ok(text),
        Ok(_) => Err(Failure::usage("nothing was entered")),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(Failure::new(Exit::Interrupted, "")),
        Err(error) => Err(Failure::error(format!("cannot read the terminal: {error}"))),
    }
}

/// Reads all of stdin, which is expected to hold a `what`.
pub(crate) async fn stdin(what: &'static str) -> Result<String> {
    let read = blocking(|| {
        let mut text = String::new();
        io::stdin().lock().take(LONGEST).read_to_string(&mut text).map(|_| text)
    });
    let text = read.await?.map_err(|error| Failure::error(format!("cannot read stdin: {error}")))?;
    if text.trim().is_empty() {
        return Err(Failure::usage(format!("stdin is empty; it should hold a {what}")));
    }
    Ok(text)
}

fn ask(question: &str) {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
}

async fn blocking<T: Send + 'static>(read: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<io::Result<T>> {
    tokio::task::spawn_blocking(read).await.map_err(|error| Failure::error(error.to_string()))
}

/// Reads a line in raw mode, key by key, and restores the terminal however it ends.
fn hidden_line() -> io::Result<String> {
    use crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
    struct RawMode;
    impl Drop for RawMode {
        fn drop(&mut self) {
            let _ = crossterm::terminal::disable_raw_mode();
            let _ = writeln!(io::stderr());
        }
    }
    crossterm::terminal::enable_raw_mode()?;
    let _raw_mode = RawMode;
    let mut text = String::new();
    loop {
        let Event::Key(key) = read()? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Enter => return Ok(text),
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return Err(io::ErrorKind::Interrupted.into());
            }
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
            KeyCode::Char(c) => text.push(c),
            KeyCode::Backspace => {
                text.pop();
            }
            _ => {}
        }
    }
}
