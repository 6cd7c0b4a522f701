//! A program in a pseudo-terminal: what a person would see and type. Tests wait for what is on its screen.

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

use crate::PATIENCE;

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
    seen: Arc<Seen>,
}

struct Seen {
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

/// Control sequences of the program that change more than the screen.
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

/// The state that a program has to restore before it leaves a terminal.
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
    /// Starts `program` in a terminal of `columns` and `rows`, with the home `folder` and `environment`.
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
        // Without a handle of ours, the terminal is closed when the program and all its children have ended.
        drop(pair.slave);
        let emulator = vt100::Parser::new_with_callbacks(
            at_least_one(rows),
            at_least_one(columns),
            0,
            ControlSequences::default(),
        );
        let state = State { emulator, bytes: Vec::new(), closed: false };
        let seen = Arc::new(Seen { state: Mutex::new(state), changed: Condvar::new() });
        let reader = pair.master.try_clone_reader().unwrap();
        let reading = Arc::clone(&seen);
        thread::spawn(move || read(reader, &reading));
        let keyboard = pair.master.take_writer().unwrap();
        Self { child, master: pair.master, keyboard, seen }
    }

    /// Starts a command with its environment and folder in a terminal of this size.
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

    /// Types this text.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    pub fn resize(&mut self, columns: u16, rows: u16) {
        self.seen.lock().emulator.set_size(at_least_one(rows), at_least_one(columns));
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
        self.seen.lock().emulator.screen().contents()
    }

    /// Returns the screen with its styles.
    pub fn picture(&self) -> vt100::Screen {
        self.seen.lock().emulator.screen().clone()
    }

    /// Returns everything that the program wrote so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.seen.lock().bytes.clone()
    }

    /// Returns how many bytes the program wrote so far.
    pub fn bytes_written(&self) -> usize {
        self.seen.lock().bytes.len()
    }

    /// Returns the last text that was put into the clipboard, in base64 as it was sent.
    pub fn clipboard(&self) -> Option<Vec<u8>> {
        self.seen.lock().emulator.callbacks().clipboard.clone()
    }

    /// Returns descriptions of the sequences that our programs must not send.
    pub fn oddities(&self) -> Vec<String> {
        self.seen.lock().emulator.callbacks().forbidden.clone()
    }

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

    /// Waits until the screen satisfies `is_so`.
    pub fn until(&self, what: &str, mut is_so: impl FnMut(&vt100::Screen) -> bool) {
        self.wait(what, |state| is_so(state.emulator.screen()));
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

    /// Waits until the program has written more than `before` bytes.
    pub fn wait_past(&self, before: usize) {
        self.wait("more output", |state| state.bytes.len() > before);
    }

    /// Waits until the program has ended and everything that it wrote was read.
    pub fn ended(mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the program does not end:\n{}", self.screen());
            thread::sleep(std::time::Duration::from_millis(5));
        };
        // The line discipline is read while the terminal is open, and the other modes after the end of the output.
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
        // The program may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a program left behind.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub modes: Modes,
    /// The text on the screen.
    pub screen: String,
    /// Everything that it wrote.
    pub bytes: Vec<u8>,
}

impl Ended {
    pub fn code(&self) -> u32 {
        self.status.exit_code()
    }

    /// Returns whether the terminal shows its main screen and its cursor, and treats pastes and the mouse as before.
    pub fn is_restored(&self) -> bool {
        let modes = &self.modes;
        !modes.alternate && !modes.hidden_cursor && !modes.bracketed_paste && !modes.mouse
    }
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads until the program's side of the terminal is closed, which Linux reports as an error.
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
