//! A table whose columns are as wide as what stands in them: the cells are written once, one after the other, and put in
//! their places at the end.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use crate::render::text::columns::{Style, styled};

/// A side of its column to which text is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Cells wider than this do not widen their column: what stands right of them moves.
const MAX_WIDTH: usize = 50;

/// The cells of some rows, row by row.
#[derive(Default)]
pub(super) struct Cells {
    /// The text of all.
    text: String,
    /// How many bytes and characters each has.
    sizes: Vec<(u32, u32)>,
}

impl Cells {
    /// Writes the next cell; rows follow each other without a word.
    pub(super) fn cell(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        let cell = &self.text[start..];
        let chars = if cell.is_ascii() { cell.len() } else { cell.chars().count() };
        self.sizes.push((cell.len() as u32, chars as u32));
    }

    /// Writes a cell with a number.
    pub(super) fn number(&mut self, number: u64) {
        self.text(itoa::Buffer::new().format(number));
    }

    /// Writes a cell with this text.
    pub(super) fn text(&mut self, text: &str) {
        self.cell(|to| to.push_str(text));
    }

    /// Writes a cell with a value.
    pub(super) fn value(&mut self, value: impl std::fmt::Display) {
        self.cell(|to| _ = write!(to, "{value}")); // to memory
    }
}

/// A table, ready to be written.
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    widths: Vec<usize>,
    color: bool,
}

impl Table {
    /// Makes room for these cells.
    pub(super) fn new(columns: Vec<(&'static str, Side)>, cells: &[Cells], color: bool) -> Self {
        let mut widths: Vec<_> = columns.iter().map(|(name, _)| name.len()).collect();
        for row in cells.iter().flat_map(|cells| cells.sizes.chunks_exact(columns.len())) {
            for (width, (_, chars)) in widths.iter_mut().zip(row) {
                *width = (*width).max((*chars as usize).min(MAX_WIDTH));
            }
        }
        Self { columns, widths, color }
    }

    /// Writes the names of the columns.
    pub(super) fn heading(&self, to: &mut BytesMut) {
        let mut line = BytesMut::new();
        self.row(&mut line, self.columns.iter().map(|(name, _)| (*name, name.len())), |_| Style::Plain);
        styled(to, String::from_utf8_lossy(&line).trim_end(), Style::Heading, self.color);
        to.put_u8(b'\n');
    }

    /// Writes rows; `style` is for the first cell of each, by its text.
    pub(super) fn rows(&self, to: &mut BytesMut, cells: &Cells, style: impl Fn(&str) -> Style) {
        to.reserve((self.widths.iter().sum::<usize>() + self.widths.len()) * cells.sizes.len() / self.widths.len());
        let mut rest = cells.text.as_str();
        for row in cells.sizes.chunks_exact(self.widths.len()) {
            let cells = row.iter().map(|&(bytes, chars)| {
                let (cell, after) = rest.split_at_checked(bytes as usize).unwrap_or((rest, ""));
                rest = after;
                (cell, chars as usize)
            });
            self.row(to, cells, &style);
        }
    }

    fn row<'a>(&self, to: &mut BytesMut, cells: impl Iterator<Item = (&'a str, usize)>, style: impl Fn(&str) -> Style) {
        let mut blanks = 0;
        let columns = self.columns.iter().zip(&self.widths);
        for (index, ((text, chars), ((_, side), width))) in cells.zip(columns).enumerate() {
            let rest = width.saturating_sub(chars);
            blanks += if *side == Side::Right { rest } else { 0 };
            if !text.is_empty() {
                to.put_bytes(b' ', std::mem::take(&mut blanks)); // none at the end of a line
                styled(to, text, if index == 0 { style(text) } else { Style::Plain }, self.color);
            }
            blanks += 1 + if *side == Side::Left { rest } else { 0 };
        }
        to.put_u8(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(columns: &[(&'static str, Side)], cells: Cells, color: bool) -> String {
        let (mut to, cells) = (BytesMut::new(), [cells]);
        let table = Table::new(columns.to_vec(), &cells, color);
        table.heading(&mut to);
        table.rows(&mut to, &cells[0], |text| if text == "bad" { Style::Attention } else { Style::Plain });
        String::from_utf8(to.to_vec()).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let mut cells = Cells::default();
        for (a, b, c) in [("long", 1, "≥1µs"), ("é", 1000, ""), ("", 0, "x")] {
            cells.value(a);
            cells.number(b);
            cells.value(c);
        }
        let columns = [("A", Side::Left), ("B", Side::Right), ("C", Side::Left)];
        assert_eq!(written(&columns, cells, false), "A       B C\nlong    1 ≥1µs\né    1000\n        0 x\n");
        let mut wide = Cells::default();
        for a in ["w".repeat(MAX_WIDTH + 9), "n".to_owned()] {
            wide.value(a);
            wide.value("b");
        }
        let text = written(&[("A", Side::Left), ("B", Side::Left)], wide, false);
        let places: Vec<_> = text.lines().map(|line| line.rfind(['B', 'b']).unwrap()).collect();
        assert_eq!(places, [MAX_WIDTH + 1, MAX_WIDTH + 10, MAX_WIDTH + 1]);
    }

    #[test]
    fn colour_is_for_the_first_cell() {
        let mut cells = Cells::default();
        cells.value("bad");
        cells.value("b");
        let columns = [("A", Side::Left), ("B", Side::Left)];
        assert_eq!(written(&columns, cells, true), "\x1b[1mA   B\x1b[0m\n\x1b[33mbad\x1b[0m b\n");
    }
}
