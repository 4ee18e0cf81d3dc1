//! A page of text over the screen: help, an explanation, a story, a command line.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::theme::Theme;
use crate::{
    analysis::overview::SocketId,
    render::text::wrap::{cut, width, wrapped},
};

/// A page.
#[derive(Clone, Debug)]
pub struct Page {
    /// What it is about.
    pub title: String,
    /// Its lines.
    lines: Vec<String>,
    /// The connection whose story it is; its lines change while it is open.
    pub story: Option<SocketId>,
    /// What it explains.
    pub(super) topic: Option<String>,
    /// Line and column at the top left.
    at: (usize, usize),
}

impl Page {
    /// A page with this text.
    #[must_use]
    pub fn new(title: impl Into<String>, text: &str) -> Self {
        Self { title: title.into(), lines: lines(text), story: None, topic: None, at: (0, 0) }
    }

    /// The story of a connection.
    #[must_use]
    pub fn story(id: SocketId, text: &str) -> Self {
        Self { story: Some(id), ..Self::new("Story", text) }
    }

    /// The explanation of a topic.
    #[must_use]
    pub fn explanation(topic: &str, text: &str) -> Self {
        Self { topic: Some(topic.to_owned()), ..Self::new(format!("tcptrace explain {topic}"), text) }
    }

    /// A command line: its lines end with a backslash, so that a shell takes it as it stands.
    #[must_use]
    pub(super) fn command(command: &str, columns: u16) -> Self {
        let text = wrapped(command, 4, Some(usize::from(columns).saturating_sub(2)));
        Self::new("The same from the command line", &text.replace('\n', " \\\n"))
    }

    /// Replaces its text.
    pub fn set_text(&mut self, text: &str) {
        self.lines = lines(text);
    }

    pub(super) fn scroll(&mut self, down: isize, right: isize, height: u16) {
        let last = self.lines.len().saturating_sub(usize::from(height).max(1));
        let widest = self.lines.iter().map(|line| width(line)).max().unwrap_or(0);
        self.at.0 = self.at.0.saturating_add_signed(down).min(last);
        self.at.1 = self.at.1.saturating_add_signed(right).min(widest.saturating_sub(20));
    }

    pub(super) fn draw(&self, theme: Theme, area: Rect, to: &mut Buffer) {
        for y in area.y..area.bottom() {
            to.set_stringn(area.x, y, " ".repeat(area.width.into()), area.width.into(), Style::reset());
        }
        let below = self.lines.len().saturating_sub(self.at.0 + usize::from(area.height) - 1);
        let more = if below > 0 { format!(" ({below} more lines below)") } else { String::new() };
        let title = format!("── {}{more} ", self.title);
        let rest = usize::from(area.width).saturating_sub(width(&title));
        to.set_stringn(area.x, area.y, format!("{title}{}", "─".repeat(rest)), area.width.into(), theme.heading());
        let visible = self.lines.iter().skip(self.at.0).take(usize::from(area.height) - 1);
        for (line, text) in visible.enumerate() {
            let from = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            let start = from.into_iter().find(|at| width(&text[..*at]) >= self.at.1).unwrap_or(text.len());
            let text = cut(&text[start..], area.width.into());
            to.set_stringn(area.x, area.y + 1 + line as u16, text, area.width.into(), Style::new());
        }
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

/// Adds text in lines that fit; those after the first are indented.
pub(super) fn wrap_into(lines: &mut Vec<(String, Style)>, text: &str, columns: u16, indent: usize, style: Style) {
    let text = wrapped(text, indent, Some(columns.into()));
    lines.extend(text.lines().map(|line| (line.to_owned(), style)));
}
