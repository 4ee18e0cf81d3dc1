//! Styles. Without colour, what they mean is still readable: marks, names and brackets say the same.

use ratatui::style::{Color, Modifier, Style};

use crate::{findings::Severity, model::state::State};

/// Whether there is colour (see `NO_COLOR`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Theme {
    pub has_color: bool,
}

/// How much a cell stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emphasis {
    Plain,
    /// Of little interest, such as a zero.
    Dim,
    /// May be a sign of trouble.
    Attention,
    Trouble,
    Good,
}

impl Theme {
    fn color(self, color: Color) -> Style {
        if self.has_color { Style::new().fg(color) } else { Style::new() }
    }

    pub(super) fn of(self, emphasis: Emphasis) -> Style {
        match emphasis {
            Emphasis::Plain => Style::new(),
            Emphasis::Dim => Style::new().add_modifier(Modifier::DIM),
            Emphasis::Attention => self.color(Color::Yellow),
            Emphasis::Trouble => self.color(Color::Red).add_modifier(Modifier::BOLD),
            Emphasis::Good => self.color(Color::Green),
        }
    }

    pub(super) fn title(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn heading(self) -> Style {
        self.color(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) fn frame(self) -> Style {
        self.color(Color::DarkGray)
    }

    pub(super) fn severity(self, severity: Severity) -> Style {
        self.of(match severity {
            Severity::Info => Emphasis::Plain,
            Severity::Warning => Emphasis::Attention,
            Severity::Critical => Emphasis::Trouble,
        })
    }
}

/// How much a state stands out: it should be passed through quickly, or it is left by a process alone.
pub(super) const fn of_state(state: State) -> Emphasis {
    match state {
        State::Established | State::Listen => Emphasis::Good,
        State::CloseWait => Emphasis::Trouble,
        State::SynSent | State::SynRecv | State::FinWait1 | State::FinWait2 | State::Closing | State::LastAck => {
            Emphasis::Attention
        }
        State::TimeWait | State::Close => Emphasis::Dim,
    }
}
