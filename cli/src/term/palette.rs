//! Colours: of the terminal's own sixteen, on its own background, and none at all where they are not wanted.
//!
//! Nothing is told by colour alone: what a colour says, a word or a place says too.

use callscope_common::Speaker;
use ratatui::style::{Color, Modifier, Style};

/// Styles, with colours or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Palette {
    on: bool,
}

impl Palette {
    /// With colours, where `on`.
    pub fn new(on: bool) -> Self {
        Self { on }
    }

    /// A foreground colour.
    pub fn fg(self, color: Color) -> Style {
        if self.on { Style::new().fg(color) } else { Style::new() }
    }

    /// The name of who speaks.
    pub fn speaker(self, speaker: Speaker) -> Style {
        let color = match speaker {
            Speaker::Agent => Color::Cyan,
            Speaker::User => Color::Green,
            Speaker::Tool => Color::Yellow,
        };
        self.fg(color).add_modifier(Modifier::BOLD)
    }

    /// As it should be.
    pub fn good(self) -> Style {
        self.fg(Color::Green)
    }

    /// To be noticed.
    pub fn warn(self) -> Style {
        self.fg(Color::Yellow)
    }

    /// Wrong.
    pub fn bad(self) -> Style {
        self.fg(Color::Red)
    }

    /// Less important.
    pub fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    /// More important.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What keys act upon.
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// What was searched for.
    pub fn found(self) -> Style {
        self.warn().add_modifier(Modifier::REVERSED)
    }
}
