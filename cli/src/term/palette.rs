//! Styles that use the sixteen colours and the background of the terminal, or no colours at all.
//!
//! A word or a position says everything that a colour says.

use callscope_common::Speaker;
use ratatui::style::{Color, Modifier, Style};

use crate::render::Tint;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Palette {
    on: bool,
}

impl Palette {
    pub(crate) fn new(on: bool) -> Self {
        Self { on }
    }

    pub(crate) fn fg(self, color: Color) -> Style {
        if self.on { Style::new().fg(color) } else { Style::new() }
    }

    pub(crate) fn speaker(self, speaker: Speaker) -> Style {
        let color = match speaker {
            Speaker::Agent => Color::Cyan,
            Speaker::User => Color::Green,
            Speaker::Tool => Color::Yellow,
        };
        self.fg(color).add_modifier(Modifier::BOLD)
    }

    /// Something is as it should be.
    pub(crate) fn good(self) -> Style {
        self.fg(Color::Green)
    }

    /// Something deserves attention.
    pub(crate) fn warn(self) -> Style {
        self.fg(Color::Yellow)
    }

    /// Something is wrong.
    pub(crate) fn bad(self) -> Style {
        self.fg(Color::Red)
    }

    /// Something is less important.
    pub(crate) fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// Something is more important.
    pub(crate) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(crate) fn tint(self, tint: Tint) -> Style {
        match tint {
            Tint::Plain => Style::new(),
            Tint::Header => self.strong(),
            Tint::Good => self.good(),
            Tint::Warning => self.warn(),
            Tint::Bad => self.bad(),
        }
    }

    /// The row that keys act upon.
    pub(crate) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A match of the search.
    pub(crate) fn found(self) -> Style {
        self.warn().add_modifier(Modifier::REVERSED)
    }
}
