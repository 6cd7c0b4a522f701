//! A program in a pseudo-terminal, with what a person would see and type. Tests wait until its screen shows a text.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use crate::WAIT_TIMEOUT;

/// The bytes of keys that are not letters.
pub mod key {
    pub const ENTER: &str = "\r";
    pub const ESC: &str = "\x1b";
    pub const TAB: &str = "\t";
    pub const UP: &str = "\x1b[A";
    pub const DOWN: &str = "\x1b[B";
    pub const PAGE_UP: &str = "\x1b[5~";
    pub const PAGE_DOWN: &str = "\x1b[6~";
    pub const CTRL_C: &str = "\x03";
    pub const CTRL_Z: &str = "\x1a";
}

/// A pseudo-terminal with a program in it, and an emulator that reads what the program writes.
pub struct Pty {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    keyboard: Box<dyn Write + Send>,
    shared: Arc<Shared>,
}

/// The state that the reading thread changes and the test waits for.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    emulator: vt100::Parser<ControlSequences>,
    /// Everything that the program wrote.
    bytes: Vec<u8>,
    /// Whether the program and all its children have closed the terminal.
    closed: bool,
}

/// Control sequences from the program that affect more than the screen.
#[derive(Default)]
struct ControlSequences {
    /// The last text that was copied to the clipboard.
    clipboard: Option<Vec<u8>>,
    /// Sequences that our programs must not send: titles, resizes, requests for the clipboard.
    forbidden: Vec<String>,
}

impl vt100::Callbacks for ControlSequences {
    fn copy_to_clipboard(&mut self, _: &mut vt100::Screen, _: &[u8], data: &[u8]) {
        self.clipboard = Some(data.to_vec());
    }
    fn set_window_title(&mut self, _: &mut vt100::Screen, title: &[u8]) {
        self.forbidden.push(format!("title {}", String::from_utf8_lossy(title)));
    }
    fn set_window_icon_name(&mut self, _: &mut vt100::Screen, name: &[u8]) {
        self.forbidden.push(format!("icon {}", String::from_utf8_lossy(name)));
    }
    fn resize(&mut self, _: &mut vt100::Screen, to: (u16, u16)) {
        self.forbidden.push(format!("resize {to:?}"));
    }
    fn paste_from_clipboard(&mut self, _: &mut vt100::Screen, _: &[u8]) {
        self.forbidden.push("asks for the clipboard".into());
    }
    fn audible_bell(&mut self, _: &mut vt100::Screen) {
        self.forbidden.push("bell".into());
    }
}

/// The modes of a terminal that a program has to restore before it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modes {
    pub alternate: bool,
    pub hidden_cursor: bool,
    pub bracketed_paste: bool,
    pub mouse: bool,
    /// The settings of the line discipline, as `tcgetattr` returns them.
    pub line: String,
}

impl Pty {
    /// Starts `program` in a terminal of `columns` and `rows`. `folder` is its working directory and its home.
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
        let defaults = [("HOME", folder.to_str().unwrap()), ("LANG", "C.UTF-8"), ("TERM", "xterm-256color")];
        for (name, value) in defaults.iter().chain(environment) {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        // With this handle closed, the terminal closes when the program and all its children have ended.
        drop(pair.slave);
        let emulator = vt100::Parser::new_with_callbacks(
            at_least_one(rows),
            at_least_one(columns),
            0,
            ControlSequences::default(),
        );
        let state = State { emulator, bytes: Vec::new(), closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let reader = pair.master.try_clone_reader().unwrap();
        let for_reader = Arc::clone(&shared);
        thread::spawn(move || read(reader, &for_reader));
        let keyboard = pair.master.take_writer().unwrap();
        Self { child, master: pair.master, keyboard, shared }
    }

    /// Starts a command with its environment and working directory, which must be set, in a terminal of this size.
    pub fn run(command: &Command, size: (u16, u16)) -> Self {
        let text = |text: &OsStr| text.to_str().unwrap().to_owned();
        let arguments: Vec<String> = command.get_args().map(text).collect();
        let environment: Vec<(String, String)> =
            command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (&**name, &**value)).collect();
        let program = command.get_program().as_ref();
        Self::start(size, program, &arguments, &environment, command.get_current_dir().unwrap())
    }

    /// Writes the bytes of these keys to the terminal.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.shared.lock().emulator.set_size(at_least_one(rows), at_least_one(columns));
        self.master.resize(size(columns, rows)).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.process_id().unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), signal).unwrap();
    }

    /// Returns the text on the screen.
    pub fn screen(&self) -> String {
        self.shared.lock().emulator.screen().contents()
    }

    /// Returns the screen with its styles.
    pub fn styled_screen(&self) -> vt100::Screen {
        self.shared.lock().emulator.screen().clone()
    }

    /// Returns everything that the program wrote so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.lock().bytes.clone()
    }

    /// Returns how many bytes the program wrote so far.
    pub fn bytes_written(&self) -> usize {
        self.shared.lock().bytes.len()
    }

    /// Returns the last text that was put into the clipboard, in base64 as it was sent.
    pub fn clipboard(&self) -> Option<Vec<u8>> {
        self.shared.lock().emulator.callbacks().clipboard.clone()
    }

    /// Returns a description of each sequence that the program sent and our programs must not send.
    pub fn forbidden_sequences(&self) -> Vec<String> {
        self.shared.lock().emulator.callbacks().forbidden.clone()
    }

    pub fn modes(&self) -> Modes {
        let state = self.shared.lock();
        let screen = state.emulator.screen();
        Modes {
            alternate: screen.alternate_screen(),
            hidden_cursor: screen.hide_cursor(),
            bracketed_paste: screen.bracketed_paste(),
            mouse: screen.mouse_protocol_mode() != vt100::MouseProtocolMode::None,
            line: format!("{:?}", self.master.get_termios()),
        }
    }

    /// Waits until `condition` holds for the screen.
    pub fn until(&self, description: &str, mut condition: impl FnMut(&vt100::Screen) -> bool) {
        self.wait(description, |state| condition(state.emulator.screen()));
    }

    /// Waits until `text` is on the screen, and returns the screen.
    pub fn until_text(&self, text: &str) -> String {
        self.until(text, |screen| screen.contents().contains(text));
        self.screen()
    }

    /// Waits until `text` is no longer on the screen, and returns the screen.
    pub fn until_no_text(&self, text: &str) -> String {
        self.until(&format!("no {text}"), |screen| !screen.contents().contains(text));
        self.screen()
    }

    /// Waits until the program has written more than `count` bytes.
    pub fn wait_past(&self, count: usize) {
        self.wait("more output", |state| state.bytes.len() > count);
    }

    /// Waits until the program has ended and all its output has been read.
    pub fn wait_for_exit(mut self) -> Exited {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the program has not ended in time:\n{}", self.screen());
            thread::sleep(std::time::Duration::from_millis(5));
        };
        // The line discipline can be read only while the terminal is open. The other modes may change until the output
        // ends.
        let line = self.modes().line;
        self.wait("the end of the output", |state| state.closed);
        let modes = Modes { line, ..self.modes() };
        Exited { status, modes, screen: self.screen(), bytes: self.bytes() }
    }

    fn wait(&self, description: &str, mut condition: impl FnMut(&State) -> bool) {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        let mut state = self.shared.lock();
        while !condition(&state) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "timed out waiting for {description}:\n{}", state.emulator.screen().contents());
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // Killing fails if the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The exit status of a program, and the terminal as the program left it.
#[derive(Debug)]
pub struct Exited {
    pub status: ExitStatus,
    pub modes: Modes,
    /// The text on the screen.
    pub screen: String,
    /// Everything that the program wrote.
    pub bytes: Vec<u8>,
}

impl Exited {
    pub fn code(&self) -> u32 {
        self.status.exit_code()
    }

    /// Returns whether the terminal shows its main screen and its cursor, without bracketed paste and mouse reports.
    pub fn is_restored(&self) -> bool {
        let modes = &self.modes;
        !modes.alternate && !modes.hidden_cursor && !modes.bracketed_paste && !modes.mouse
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until the program's side of the terminal is closed, which Linux reports as an error.
fn read(mut from: Box<dyn Read + Send>, shared: &Shared) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut state = shared.lock();
        state.emulator.process(&buffer[..count]);
        state.bytes.extend_from_slice(&buffer[..count]);
        drop(state);
        shared.changed.notify_all();
    }
    shared.lock().closed = true;
    shared.changed.notify_all();
}

fn size(columns: u16, rows: u16) -> PtySize {
    PtySize { cols: columns, rows, pixel_width: 0, pixel_height: 0 }
}

fn at_least_one(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN)
}
