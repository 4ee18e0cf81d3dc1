//! The line in which the filter is edited.

use ratatui::{
    buffer::Buffer,
    crossterm::event::{KeyCode, KeyEvent, KeyModifiers},
    layout::Rect,
    style::{Modifier, Style},
};

use super::{
    page::wrap_into,
    theme::{Emphasis, Theme},
};
use crate::{model::printable::is_printable, render::text::wrap::width};

/// A filter that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// What is wrong.
    pub message: String,
    /// Byte offsets of the words that are wrong, if they are known.
    pub span: Option<(usize, usize)>,
}

/// A line that is edited.
#[derive(Clone, Debug, Default)]
pub(super) struct Prompt {
    pub text: String,
    /// Byte offset of the cursor.
    pub(super) cursor: usize,
    pub error: Option<FilterError>,
}

/// What a key did to the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edited {
    Changed,
    Done,
    Cancelled,
}

/// Most lines of a message.
const MESSAGE_LINES: usize = 4;
/// Longest line.
const MAX: usize = 4096;

impl Prompt {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), cursor: text.len(), error: None }
    }

    pub(super) fn on_key(&mut self, key: KeyEvent) -> Edited {
        let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => return Edited::Done,
            KeyCode::Esc => return Edited::Cancelled,
            KeyCode::Char('a') if with_control => self.cursor = 0,
            KeyCode::Char('e') if with_control => self.cursor = self.text.len(),
            KeyCode::Char('u') if with_control => {
                self.text.drain(..self.cursor);
                self.cursor = 0;
            }
            KeyCode::Char('k') if with_control => self.text.truncate(self.cursor),
            KeyCode::Char('w') if with_control => {
                let before = self.text[..self.cursor].trim_end();
                let start = before.rfind(' ').map_or(0, |space| space + 1);
                self.text.drain(start..self.cursor);
                self.cursor = start;
            }
            KeyCode::Char(_) if with_control => {}
            KeyCode::Char(c) => self.insert(c.encode_utf8(&mut [0; 4])),
            KeyCode::Backspace => {
                if let Some(c) = self.text[..self.cursor].chars().next_back() {
                    self.cursor -= c.len_utf8();
                    self.text.remove(self.cursor);
                }
            }
            KeyCode::Delete if self.cursor < self.text.len() => _ = self.text.remove(self.cursor),
            KeyCode::Left => {
                self.cursor -= self.text[..self.cursor].chars().next_back().map_or(0, char::len_utf8);
            }
            KeyCode::Right => self.cursor += self.text[self.cursor..].chars().next().map_or(0, char::len_utf8),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            _ => return Edited::Changed,
        }
        self.error = None;
        Edited::Changed
    }

    /// Inserts text at the cursor, without what steers a terminal.
    pub(super) fn insert(&mut self, text: &str) {
        for c in text.chars().filter(|c| is_printable(*c)) {
            if self.text.len() < MAX {
                self.text.insert(self.cursor, c);
                self.cursor += c.len_utf8();
            }
        }
        self.error = None;
    }

    /// Draws the line, its cursor, and above it where the text is wrong.
    pub(super) fn draw(&self, theme: Theme, area: Rect, to: &mut Buffer) {
        let room = usize::from(area.width).saturating_sub(2);
        // Where the text is longer, its part around the cursor is shown.
        let start = self.text.char_indices().map(|(at, _)| at).find(|at| width(&self.text[*at..self.cursor]) < room);
        let start = start.unwrap_or(self.cursor).min(self.cursor);
        let column = |at: usize| width(self.text.get(start..at.max(start)).unwrap_or_default()).min(room) as u16;
        if let Some(error) = &self.error {
            let style = theme.of(Emphasis::Trouble);
            let mut lines = Vec::new();
            wrap_into(&mut lines, &error.message, area.width, 0, style);
            lines.truncate(MESSAGE_LINES);
            let top = area.y.saturating_sub(1 + lines.len() as u16);
            for y in top..area.y {
                to.set_stringn(area.x, y, " ".repeat(area.width.into()), area.width.into(), Style::reset());
            }
            for (y, (line, style)) in (top..area.y).zip(&lines) {
                to.set_stringn(area.x, y, line, area.width.into(), *style);
            }
            if let Some((from, until)) = error.span {
                let carets = usize::from(column(until).saturating_sub(column(from)).max(1));
                let x = area.x + 1 + column(from);
                to.set_stringn(x, area.y - 1, "v".repeat(carets), (area.right() - x).into(), style);
            }
        }
        to.set_stringn(area.x, area.y, " ".repeat(area.width.into()), area.width.into(), Style::reset());
        to.set_stringn(area.x, area.y, "/", 1, theme.title());
        to.set_stringn(area.x + 1, area.y, &self.text[start..], room + 1, Style::new());
        let cursor = Rect { x: area.x + 1 + column(self.cursor), width: 1, height: 1, ..area };
        to.set_style(cursor, Style::new().add_modifier(Modifier::REVERSED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(prompt: &mut Prompt, keys: &str) {
        for c in keys.chars() {
            prompt.on_key(KeyEvent::from(KeyCode::Char(c)));
        }
    }

    #[test]
    fn text_is_edited_anywhere() {
        let mut prompt = Prompt::new("state == LISTEN");
        let control = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
        prompt.on_key(control('w'));
        press(&mut prompt, "CLOSE_WAIT");
        assert_eq!(prompt.text, "state == CLOSE_WAIT");
        prompt.on_key(control('a'));
        press(&mut prompt, "é!");
        prompt.on_key(KeyEvent::from(KeyCode::Backspace));
        prompt.on_key(KeyEvent::from(KeyCode::Left));
        prompt.on_key(KeyEvent::from(KeyCode::Delete));
        assert_eq!(prompt.text, "state == CLOSE_WAIT");
        prompt.on_key(control('k'));
        assert_eq!(prompt.text, "");
        for code in [KeyCode::Backspace, KeyCode::Delete, KeyCode::Left, KeyCode::Right] {
            assert_eq!(prompt.on_key(KeyEvent::from(code)), Edited::Changed, "nothing is there");
        }
        press(&mut prompt, "a b");
        prompt.on_key(control('u'));
        assert_eq!(prompt.text, "");
        assert_eq!(prompt.on_key(KeyEvent::from(KeyCode::Esc)), Edited::Cancelled);
    }
}
