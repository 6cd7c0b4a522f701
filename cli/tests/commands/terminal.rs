//! A terminal that a program really runs in: what it writes is read as a terminal reads it.

use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

/// For anything that is waited for. Long, since machines are slow and shared; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program in a terminal of its own.
pub struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    _master: Box<dyn MasterPty + Send>,
    shared: Arc<Shared>,
}

struct Shared {
    seen: Mutex<Seen>,
    changed: Condvar,
}

struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
    is_over: bool,
}

impl Terminal {
    /// Runs `command` in a terminal of so many columns and rows.
    pub fn run(command: &Command, columns: u16, rows: u16) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut builder = CommandBuilder::new(command.get_program());
        builder.args(command.get_args());
        builder.env_clear();
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                builder.env(name, value);
            }
        }
        if let Some(folder) = command.get_current_dir() {
            builder.cwd(folder);
        }
        let child = pair.slave.spawn_command(builder).unwrap();
        drop(pair.slave);
        let (rows, columns) = (NonZeroU16::new(rows).unwrap(), NonZeroU16::new(columns).unwrap());
        let seen = Seen { parser: vt100::Parser::new(rows, columns, 0), bytes: Vec::new(), is_over: false };
        let shared = Arc::new(Shared { seen: Mutex::new(seen), changed: Condvar::new() });
        let mut output = pair.master.try_clone_reader().unwrap();
        let reading = shared.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                let mut seen = reading.seen.lock().unwrap();
                seen.parser.process(&buffer[..read]);
                seen.bytes.extend_from_slice(&buffer[..read]);
                reading.changed.notify_all();
            }
            reading.seen.lock().unwrap().is_over = true;
            reading.changed.notify_all();
        });
        Self { child, keys: pair.master.take_writer().unwrap(), _master: pair.master, shared }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Waits until the screen shows `text`, and gives the screen.
    pub fn shows(&self, text: &str) -> String {
        self.until(&format!("the screen shows {text:?}"), |seen| seen.parser.screen().contents().contains(text))
    }

    /// Waits until the screen does not show `text` any more.
    pub fn hides(&self, text: &str) -> String {
        self.until(&format!("the screen hides {text:?}"), |seen| !seen.parser.screen().contents().contains(text))
    }

    fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.shared.seen.lock().unwrap();
        while !is_so(&seen) {
            let screen = seen.parser.screen().contents();
            let left = deadline.checked_duration_since(Instant::now());
            let Some(left) = left.filter(|_| !seen.is_over) else {
                panic!("waited in vain until {what}; it shows\n{screen}")
            };
            seen = self.shared.changed.wait_timeout(seen, left).unwrap().0;
        }
        seen.parser.screen().contents()
    }

    /// Sends a signal to the program.
    pub fn signal(&self, name: &str) {
        let pid = self.child.process_id().unwrap().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits for the program's end: its exit code, and whether the terminal is as it was: the main screen, the cursor shown, and
    /// keys as lines again.
    pub fn ended(mut self) -> Ended {
        self.until("the program ends", |seen| seen.is_over);
        let code = self.child.wait().unwrap().exit_code();
        let seen = self.shared.seen.lock().unwrap();
        let screen = seen.parser.screen();
        Ended {
            code,
            is_restored: !screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste(),
            screen: screen.contents(),
            bytes: seen.bytes.clone(),
        }
    }
}

/// How a program in a terminal ended.
#[derive(Debug)]
pub struct Ended {
    pub code: u32,
    pub is_restored: bool,
    pub screen: String,
    pub bytes: Vec<u8>,
}
