//! A mistake in an expression, shown where it is.

use std::fmt;

use crate::model::printable::printable;

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    text: String,
    /// Byte offsets of the words that are wrong.
    start: usize,
    end: usize,
    message: String,
}

impl Error {
    pub(super) fn new(text: &str, span: (usize, usize), message: impl Into<String>) -> Self {
        Self { text: text.to_owned(), start: span.0, end: span.1, message: message.into() }
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Byte offsets of the words that are wrong.
    #[must_use]
    pub const fn span(&self) -> (usize, usize) {
        (self.start, self.end)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |range: std::ops::Range<usize>| printable(self.text.get(range).unwrap_or_default()).to_string();
        let before = part(0..self.start.min(self.text.len()));
        let wrong = part(self.start.min(self.text.len())..self.end.min(self.text.len()));
        let after = part(self.end.min(self.text.len())..self.text.len());
        let spaces = " ".repeat(before.chars().count());
        let carets = "^".repeat(wrong.chars().count().max(1));
        write!(to, "{}\n    {before}{wrong}{after}\n    {spaces}{carets}", self.message)
    }
}
