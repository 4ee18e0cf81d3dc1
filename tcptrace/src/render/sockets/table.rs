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

/// A table.
pub(super) struct Table {
    columns: Vec<(&'static str, Side)>,
    /// All cells' text, row by row.
    text: String,
    /// How many bytes and characters each cell has.
    cells: Vec<(u32, u32)>,
}

impl Table {
    pub(super) fn new(columns: Vec<(&'static str, Side)>) -> Self {
        Self { columns, text: String::new(), cells: Vec::new() }
    }

    /// Writes the next cell; rows follow each other without a word.
    pub(super) fn cell(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        let cell = &self.text[start..];
        let chars = if cell.is_ascii() { cell.len() } else { cell.chars().count() };
        self.cells.push((cell.len() as u32, chars as u32));
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

    /// Writes the heading and all rows; `style` is for the first cell of a row, by its text.
    pub(super) fn write(&self, to: &mut BytesMut, color: bool, style: impl Fn(&str) -> Style) {
        let mut widths: Vec<_> = self.columns.iter().map(|(name, _)| name.len()).collect();
        for row in self.cells.chunks_exact(widths.len()) {
            for (width, (_, cell)) in widths.iter_mut().zip(row) {
                *width = (*width).max((*cell as usize).min(MAX_WIDTH));
            }
        }
        to.reserve((widths.iter().sum::<usize>() + widths.len()) * self.cells.len() / widths.len());
        let mut line = BytesMut::new();
        self.row(&mut line, &widths, self.columns.iter().map(|(name, _)| (*name, name.len())), |_| Style::Plain, false);
        styled(to, String::from_utf8_lossy(&line).trim_end(), Style::Heading, color);
        to.put_u8(b'\n');
        let mut rest = self.text.as_str();
        for row in self.cells.chunks_exact(widths.len()) {
            let cells = row.iter().map(|&(bytes, chars)| {
                let (cell, after) = rest.split_at_checked(bytes as usize).unwrap_or((rest, ""));
                rest = after;
                (cell, chars as usize)
            });
            self.row(to, &widths, cells, &style, color);
        }
    }

    fn row<'a>(
        &self,
        to: &mut BytesMut,
        widths: &[usize],
        cells: impl Iterator<Item = (&'a str, usize)>,
        style: impl Fn(&str) -> Style,
        color: bool,
    ) {
        let mut blanks = 0;
        for (index, ((text, chars), ((_, side), width))) in cells.zip(self.columns.iter().zip(widths)).enumerate() {
            let rest = width.saturating_sub(chars);
            blanks += if *side == Side::Right { rest } else { 0 };
            if !text.is_empty() {
                to.put_bytes(b' ', std::mem::take(&mut blanks)); // none at the end of a line
                styled(to, text, if index == 0 { style(text) } else { Style::Plain }, color);
            }
            blanks += 1 + if *side == Side::Left { rest } else { 0 };
        }
        to.put_u8(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(table: &Table) -> String {
        let mut to = BytesMut::new();
        table.write(&mut to, false, |_| Style::Plain);
        String::from_utf8(to.to_vec()).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let mut table = Table::new(vec![("A", Side::Left), ("B", Side::Right), ("C", Side::Left)]);
        for (a, b, c) in [("long", 1, "≥1µs"), ("é", 1000, ""), ("", 0, "x")] {
            table.value(a);
            table.number(b);
            table.value(c);
        }
        assert_eq!(written(&table), "A       B C\nlong    1 ≥1µs\né    1000\n        0 x\n");
        let mut wide = Table::new(vec![("A", Side::Left), ("B", Side::Left)]);
        for a in ["w".repeat(MAX_WIDTH + 9), "n".to_owned()] {
            wide.value(a);
            wide.value("b");
        }
        let lines: Vec<_> = written(&wide).lines().map(|line| line.rfind(['B', 'b']).unwrap()).collect();
        assert_eq!(lines, [MAX_WIDTH + 1, MAX_WIDTH + 10, MAX_WIDTH + 1]);
    }

    #[test]
    fn colour_is_for_the_first_cell() {
        let mut table = Table::new(vec![("A", Side::Left), ("B", Side::Left)]);
        table.value("bad");
        table.value("b");
        let mut to = BytesMut::new();
        table.write(&mut to, true, |text| if text == "bad" { Style::Attention } else { Style::Plain });
        assert_eq!(to, "\x1b[1mA   B\x1b[0m\n\x1b[33mbad\x1b[0m b\n");
    }
}
