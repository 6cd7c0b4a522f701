//! After a panic in any thread the terminal is as it was. The test program runs itself in a terminal, and shows a view
//! that panics.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::thread;

use callscope_common::Timestamp;
use callscope_tests::Pty;
use crossterm::event::KeyCode;
use ratatui::Frame;

use super::event_loop::{self, Effect, Input, Model, Source};
use super::screen::Screen;
use crate::exit::Result;

const SHOWN: &str = "on the alternate screen";

/// Panics in the thread that the key names.
struct PanickingView;

impl Model for PanickingView {
    type Message = ();
    type Request = ();

    fn update(&mut self, input: Input<()>, _: Timestamp) -> Vec<Effect<()>> {
        match input {
            Input::Key(key) if key.code == KeyCode::Char('l') => panic!("in the loop"),
            Input::Key(key) if key.code == KeyCode::Char('t') => drop(thread::spawn(|| panic!("in a thread"))),
            _ => {}
        }
        vec![Effect::Draw]
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        frame.render_widget(SHOWN, frame.area());
    }

    fn needs_ticks(&self) -> bool {
        false
    }
}

struct NoMessages;

impl Source for NoMessages {
    type Message = ();
    type Request = ();

    async fn next(&mut self) -> Result<()> {
        std::future::pending().await
    }

    fn handle(&mut self, (): ()) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
#[ignore = "the next test runs it, in a terminal of its own"]
async fn a_view_that_panics() {
    event_loop::run(Screen::enter().unwrap(), &mut PanickingView, &mut NoMessages).await.unwrap();
}

#[test]
fn the_terminal_is_as_it_was_after_a_panic_in_any_thread() {
    let folder = tempfile::tempdir().unwrap();
    let scene = ["--exact", "term::panic_tests::a_view_that_panics", "--ignored", "--nocapture"];
    for (key, message) in [("l", "in the loop"), ("t", "in a thread")] {
        let before = Pty::start((80, 24), Path::new("/bin/sleep"), &["60"], &[], folder.path()).modes();
        let mut terminal = Pty::start((80, 24), &std::env::current_exe().unwrap(), &scene, &[], folder.path());
        terminal.until_text(SHOWN);
        terminal.press(key);
        let ended = terminal.wait_for_exit();
        assert_eq!(ended.modes, before, "{message}");
        assert!(!ended.status.success(), "{message}");
        assert!(ended.screen.contains(message), "the message is there to be read: {}", ended.screen);
    }
}
