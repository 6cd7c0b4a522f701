//! Characters whose width terminals dispute, in a terminal that was not made for these tests: tmux.

use std::process::{Command, Output};

use super::*;

const TEXTS: [&str; 11] = [
    "नमस्ते, आपकी गाड़ी कहाँ है? कृपया बताइए, हम ट्रक भेज रहे हैं।",
    "বাংলা ভাষায় কথা বলুন, আমার গাড়ি নষ্ট হয়েছে।",
    "தமிழ் மொழியில் பேசுங்கள், என் வண்டி நின்றுவிட்டது.",
    "తెలుగులో మాట్లాడండి, నా కారు ఆగిపోయింది.",
    "සිංහල භාෂාවෙන් කතා කරන්න.",
    "น้ำท่วมทำไม รถของฉันเสีย ช่วยด้วย",
    "ខ្មែរ ភាសា សូមជួយខ្ញុំ រថយន្តខូច",
    "မြန်မာဘာသာ ကျေးဇူးပြု၍ ကူညီပါ",
    "ｶﾞｷﾞﾊﾟ ﾃﾞﾝｼﾔ ｱﾞ",
    "👩\u{200d}🚒 👍🏽 ❤\u{fe0f} 🇩🇪 1\u{fe0f}\u{20e3} 👨\u{200d}👩\u{200d}👧",
    "مرحبا، أين سيارتك الآن؟",
];

/// A tmux server for one test.
struct Tmux<'s> {
    socket: String,
    folder: &'s Path,
}

impl Tmux<'_> {
    fn ask(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("tmux");
        command.args(["-f", "/dev/null", "-S", &self.socket]).args(arguments).current_dir(self.folder);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").env("HOME", self.folder);
        command.output().unwrap()
    }

    fn screen(&self) -> String {
        String::from_utf8(self.ask(&["capture-pane", "-p"]).stdout).unwrap()
    }

    fn press(&self, key: &str) {
        assert!(self.ask(&["send-keys", key]).status.success());
    }

    /// Waits until `condition` holds for the screen.
    fn wait(&self, what: &str, condition: impl Fn(&str) -> bool) {
        let deadline = std::time::Instant::now() + callscope_tests::WAIT_TIMEOUT;
        loop {
            let screen = self.screen();
            if condition(&screen) {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "timed out waiting for {what}:\n{screen}");
        }
    }

    /// Waits until `text` is on the screen, or until it is not.
    fn until(&self, text: &str, is_there: bool) {
        self.wait(&format!("{text} ({is_there})"), |screen| screen.contains(text) == is_there);
    }

    /// Returns the screen once it no longer changes, because tmux may answer in the middle of a frame.
    fn settled(&self) -> String {
        let (mut screen, mut same) = (self.screen(), 0);
        while same < 10 {
            let next = self.screen();
            same = if next == screen { same + 1 } else { 0 };
            screen = next;
        }
        screen
    }

    /// Asserts that the screen is the same after every cell was drawn again.
    fn assert_same_when_redrawn(&self, what: &str) {
        let before = self.settled();
        // The foreign text disappears only when the screen is drawn again.
        let tty = String::from_utf8(self.ask(&["display-message", "-p", "#{pane_tty}"]).stdout).unwrap();
        std::fs::write(tty.trim(), "\x1b[1;1HFOREIGN").unwrap();
        self.until("FOREIGN", true);
        self.press("C-l");
        self.wait(&format!("{what} as it was:\n{before}"), |screen| screen == before);
    }
}

impl Drop for Tmux<'_> {
    fn drop(&mut self) {
        self.ask(&["kill-server"]);
    }
}

#[test]
fn no_script_leaves_cells_behind() {
    let folder = tempfile::tempdir().unwrap();
    for (number, text) in TEXTS.iter().enumerate() {
        let line =
            |turn: usize| turn_line("EL_s_1", turn + 1, ["agent", "user"][turn % 2], &format!("{turn}; {text}"), turn);
        std::fs::write(folder.path().join("call.ndjson"), (0..60).map(line).collect::<String>()).unwrap();
        for (columns, rows) in [("40", "12"), ("80", "24")] {
            let socket = folder.path().join(format!("tmux{number}x{columns}")).to_string_lossy().into_owned();
            let tmux = Tmux { socket, folder: folder.path() };
            let binary = program("callscope");
            let play = [binary.to_str().unwrap(), "play", "call.ndjson", "--speed", "max"];
            let started = tmux.ask(&[&["new-session", "-d", "-x", columns, "-y", rows], &play[..]].concat());
            assert!(started.status.success(), "{started:?}");
            tmux.until("59; ", true);
            tmux.until("ENDED", true);
            for _ in 0..7 {
                tmux.press("k");
            }
            // Seven up from the last selects the sixth turn, and then the end is out of sight at 40 by 12.
            tmux.until("PAUSED", true);
            tmux.until("52; ", true);
            tmux.assert_same_when_redrawn(text);
            tmux.press("?");
            tmux.until("turn by turn", true);
            tmux.assert_same_when_redrawn(text);
            tmux.press("q");
            tmux.until("turn by turn", false);
            tmux.assert_same_when_redrawn(text);
        }
    }
}

/// A terminal without a known size, for example a serial line, reports 0 by 0.
#[test]
fn a_terminal_without_a_size_counts_as_80_by_24() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("call.ndjson"), turn_line("EL_s_1", 1, "agent", "hello", 0)).unwrap();
    let mut terminal = Pty::start((0, 0), &program("callscope"), &["play", "call.ndjson"], &[], folder.path());
    terminal.wait_past(0);
    let deadline = std::time::Instant::now() + callscope_tests::WAIT_TIMEOUT;
    // The emulator has the size that it was given, so the test reads what was written.
    while !String::from_utf8_lossy(&terminal.bytes()).contains("hello") {
        assert!(std::time::Instant::now() < deadline, "{}", String::from_utf8_lossy(&terminal.bytes()));
        terminal.wait_past(0);
    }
    let written = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    assert!(!written.contains("too small") && written.contains(&"─".repeat(80)), "{written:?}");
    terminal.press("q");
    assert!(terminal.wait_for_exit().status.success());
}
