//! A terminal with a program in it: what a person would see and type. Tests wait for what is on its screen.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;

/// Keys that are more than their letter.
pub mod key {
    /// Enter.
    pub const ENTER: &str = "\r";
    /// Esc.
    pub const ESC: &str = "\x1b";
    /// Tab.
    pub const TAB: &str = "\t";
    /// ↑.
    pub const UP: &str = "\x1b[A";
    /// ↓.
    pub const DOWN: &str = "\x1b[B";
    /// PgUp.
    pub const PAGE_UP: &str = "\x1b[5~";
    /// PgDn.
    pub const PAGE_DOWN: &str = "\x1b[6~";
    /// F12.
    pub const F12: &str = "\x1b[24~";
    /// Ctrl-C.
    pub const CTRL_C: &str = "\x03";
    /// Ctrl-Z.
    pub const CTRL_Z: &str = "\x1a";
}

/// A pseudo-terminal, a program in it and an emulator that reads what the program writes.
pub struct Pty {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    seen: Arc<Seen>,
}

struct Seen {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    emulator: vt100::Parser<Heard>,
    bytes: Vec<u8>,
    closed: bool,
}

/// What a program told the terminal beside its text.
#[derive(Default)]
struct Heard {
    clipboard: Option<Vec<u8>>,
    /// Sequences that a program of ours has no business sending: titles, resizes, requests for the clipboard.
    odd: Vec<String>,
}

impl vt100::Callbacks for Heard {
    fn copy_to_clipboard(&mut self, _: &mut vt100::Screen, _: &[u8], data: &[u8]) {
        self.clipboard = Some(data.to_vec());
    }
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        self.odd.push(format!("title {}", String::from_utf8_lossy(title)));
    }
    fn set_window_icon_name(&mut self, _: &mut vt100::Screen, name: &[u8]) {
        self.odd.push(format!("icon {}", String::from_utf8_lossy(name)));
    }
    fn resize(&mut self, _: &mut vt100::Screen, to: (u16, u16)) {
        self.odd.push(format!("resize {to:?}"));
    }
    fn paste_from_clipboard(&mut self, _: &mut vt100::Screen, _: &[u8]) {
        self.odd.push("asks for the clipboard".into());
    }
    fn audible_bell(&mut self, _: &mut vt100::Screen) {
        self.odd.push("bell".into());
    }
}

/// The state that a program has to leave a terminal in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes {
    /// Whether the alternate screen is shown.
    pub alternate: bool,
    /// Whether the cursor is hidden.
    pub hidden_cursor: bool,
    /// Whether pastes are bracketed.
    pub bracketed_paste: bool,
    /// Whether the mouse is reported.
    pub mouse: bool,
    /// The line discipline, in words.
    pub line: String,
}

impl Pty {
    /// Starts `program` with `arguments` in a terminal of `columns` and `rows`, with nothing in its environment but what is
    /// given, a home and a language.
    pub fn start(
        (columns, rows): (u16, u16),
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        folder: &Path,
    ) -> Self {
        let pair = native_pty_system().openpty(size(columns, rows)).unwrap();
        let mut command = CommandBuilder::new(program);
        command.env_clear();
        command.cwd(folder);
        command.args(arguments);
        let own = [("HOME", folder.to_str().unwrap()), ("LANG", "C.UTF-8"), ("TERM", "xterm-256color")];
        for (name, value) in own.iter().chain(environment) {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        // The terminal is closed when the program and whatever it started are gone.
        drop(pair.slave);
        let emulator =
            vt100::Parser::new_with_callbacks(at_least_one(rows), at_least_one(columns), 0, Heard::default());
        let state = State { emulator, bytes: Vec::new(), closed: false };
        let seen = Arc::new(Seen { state: Mutex::new(state), changed: Condvar::new() });
        let reader = pair.master.try_clone_reader().unwrap();
        let reading = Arc::clone(&seen);
        thread::spawn(move || read(reader, &reading));
        let keyboard = pair.master.take_writer().unwrap();
        Self { child, master: pair.master, keyboard, seen }
    }

    /// Types.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Gives the terminal another size.
    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.seen.lock().emulator.set_size(at_least_one(rows), at_least_one(columns));
        self.master.resize(size(columns, rows)).unwrap();
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.seen.lock().emulator.screen().contents()
    }

    /// What is on the screen, with its styles.
    pub fn picture(&self) -> vt100::Screen {
        self.seen.lock().emulator.screen().clone()
    }

    /// Everything the program wrote so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen.lock().bytes.clone()
    }

    /// How many bytes the program wrote so far.
    pub fn bytes_written(&self) -> usize {
        self.seen.lock().bytes.len()
    }

    /// What was put into the clipboard last, as it was sent: base64.
    pub fn clipboard(&self) -> Option<Vec<u8>> {
        self.seen.lock().emulator.callbacks().clipboard.clone()
    }

    /// Titles, bells and the like, which no program of ours sends.
    pub fn oddities(&self) -> Vec<String> {
        self.seen.lock().emulator.callbacks().odd.clone()
    }

    /// The state that the terminal is in.
    pub fn modes(&self) -> Modes {
        let state = self.seen.lock();
        let screen = state.emulator.screen();
        Modes {
            alternate: screen.alternate_screen(),
            hidden_cursor: screen.hide_cursor(),
            bracketed_paste: screen.bracketed_paste(),
            mouse: screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None,
            line: format!("{:?}", self.master.get_termios()),
        }
    }

    /// Waits until the screen is as `is_so` wants it.
    pub fn until(&self, what: &str, mut is_so: impl FnMut(&vt100::Screen) -> bool) {
        self.wait(what, |state| is_so(state.emulator.screen()));
    }

    /// Waits until `text` is on the screen.
    pub fn until_text(&self, text: &str) {
        self.until(text, |screen| screen.contents().contains(text));
    }

    /// Waits until `text` is not on the screen any more.
    pub fn until_no_text(&self, text: &str) {
        self.until(&format!("no {text}"), |screen| !screen.contents().contains(text));
    }

    /// Waits until the program wrote more than `before` bytes.
    pub fn wait_past(&self, before: usize) {
        self.wait("more output", |state| state.bytes.len() > before);
    }

    /// Waits until the program has ended and all it wrote was read.
    pub fn ended(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the program does not end:\n{}", self.screen());
            thread::sleep(std::time::Duration::from_millis(5));
        };
        // The line discipline is gone with the last who has it open, and the screen is looked at when nothing more can come.
        let line = self.modes().line;
        self.wait("the end of the output", |state| state.closed);
        let modes = Modes { line, ..self.modes() };
        Ended { status, modes, screen: self.screen(), bytes: self.bytes() }
    }

    fn wait(&self, what: &str, mut is_so: impl FnMut(&State) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.seen.lock();
        while !is_so(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited in vain for {what}:\n{}", state.emulator.screen().contents());
            state = self.seen.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program left behind.
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// The terminal's state.
    pub modes: Modes,
    /// What is on the screen.
    pub screen: String,
    /// Everything it wrote.
    pub bytes: Vec<u8>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until the other end is closed, which on Linux is an error.
fn read(mut from: Box<dyn Read + Send>, seen: &Seen) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut state = seen.lock();
        state.emulator.process(&buffer[..count]);
        state.bytes.extend_from_slice(&buffer[..count]);
        drop(state);
        seen.changed.notify_all();
    }
    seen.lock().closed = true;
    seen.changed.notify_all();
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { cols: columns, rows, pixel_width: 0, pixel_height: 0 }
}

fn at_least_one(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN)
}
