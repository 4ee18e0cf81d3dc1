//! A table whose columns are as wide as their cells. All cells are written first, one after another, and put into lines
//! when all widths are known.

use std::{
    fmt::{Display, Write as _},
    thread,
};

use bytes::{BufMut, BytesMut};

use super::columns::{Style, styled, trim_end};
use crate::sys::threads::beside;

/// A side of its column to which text is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Cells wider than this do not widen their column: what stands right of them moves.
const MAX_WIDTH: usize = 50;

/// The table is handed over in pieces of about this size.
const PIECE_BYTES: usize = 1 << 16;

/// A table.
pub(crate) struct Table {
    columns: Vec<Column>,
    color: bool,
    /// How the first cell of a row stands out, by its text.
    style: fn(&str) -> Style,
    /// The cells of all rows, one behind the other, and where each ends.
    text: String,
    ends: Vec<usize>,
}

#[derive(Clone)]
struct Column {
    name: &'static str,
    side: Side,
    width: usize,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(columns: Vec<(&'static str, Side)>, color: bool, style: fn(&str) -> Style) -> Self {
        let columns = columns.into_iter().map(|(name, side)| Column { name, side, width: name.len() });
        Self { columns: columns.collect(), color, style, text: String::new(), ends: Vec::new() }
    }

    /// Adds a row for each of `rows`. Another thread writes the cells of the second half.
    pub(crate) fn rows<T: Sync>(&mut self, rows: &[T], write: impl Fn(&mut Cells<'_>, &T) + Sync) {
        let add = |table: &mut Self, rows: &[T]| rows.iter().for_each(|row| table.row(|cells| write(cells, row)));
        let (first, second) = rows.split_at(rows.len() / 2);
        let mut other = Self { columns: self.columns.clone(), text: String::new(), ends: Vec::new(), ..*self };
        thread::scope(|scope| {
            let is_started = beside(scope, || add(&mut other, second)).is_ok();
            add(self, first);
            if !is_started {
                add(self, second);
            }
        });
        for (column, other) in self.columns.iter_mut().zip(&other.columns) {
            column.width = column.width.max(other.width);
        }
        self.ends.extend(other.ends.iter().map(|end| self.text.len() + end));
        self.text += &other.text;
    }

    /// Adds a row, of which `write` writes all cells.
    fn row(&mut self, write: impl FnOnce(&mut Cells<'_>)) {
        let mut cells = Cells { table: self, column: 0 };
        write(&mut cells);
        let missing = cells.table.columns.len() - cells.column;
        self.ends.extend(std::iter::repeat_n(self.text.len(), missing));
    }

    /// Hands over the names of the columns and the rows.
    pub(crate) fn write<E>(&self, mut hand_over: impl FnMut(BytesMut) -> Result<(), E>) -> Result<(), E> {
        let (mut heading, mut to) = (BytesMut::new(), BytesMut::new());
        self.line(&mut heading, self.columns.iter().map(|column| column.name), |_| Style::Plain);
        styled(&mut to, String::from_utf8_lossy(&heading).trim_end(), Style::Heading, self.color);
        to.put_u8(b'\n');
        let mut start = 0;
        for row in self.ends.chunks(self.columns.len().max(1)) {
            let cells = row.iter().map(|end| {
                let text = self.text.get(start..*end).unwrap_or_default();
                start = *end;
                text
            });
            self.line(&mut to, cells, self.style);
            if to.len() >= PIECE_BYTES {
                hand_over(to.split())?; // and is written to again when that is dropped
            }
        }
        hand_over(to)
    }

    fn line<'t>(&self, to: &mut BytesMut, cells: impl Iterator<Item = &'t str>, style: fn(&str) -> Style) {
        for (index, (column, text)) in self.columns.iter().zip(cells).enumerate() {
            let spaces = column.width.saturating_sub(width(text));
            let (before, after) = if column.side == Side::Right { (spaces, 0) } else { (0, spaces) };
            to.put_bytes(b' ', before);
            let style = if index == 0 { style(text) } else { Style::Plain };
            styled(to, text, style, self.color);
            to.put_bytes(b' ', after + 1);
        }
        trim_end(to);
        to.put_u8(b'\n');
    }
}

fn width(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

/// The cells of a row that is being written.
pub(crate) struct Cells<'t> {
    table: &'t mut Table,
    /// Column of the next cell.
    column: usize,
}

impl Cells<'_> {
    /// Writes the next cell.
    pub(crate) fn cell(&mut self, write: impl FnOnce(&mut String)) {
        let Table { columns, text, ends, .. } = self.table;
        let start = text.len();
        write(text);
        let Some(column) = columns.get_mut(self.column) else {
            return text.truncate(start); // there is no such column
        };
        column.width = column.width.max(width(text.get(start..).unwrap_or_default()).min(MAX_WIDTH));
        ends.push(text.len());
        self.column += 1;
    }

    /// Writes a cell with a number.
    pub(crate) fn number(&mut self, number: u64) {
        self.text(itoa::Buffer::new().format(number));
    }

    /// Writes a cell with a value.
    pub(crate) fn value(&mut self, value: impl Display) {
        self.cell(|to| _ = write!(to, "{value}")); // to memory
    }

    /// Writes a cell with this text.
    pub(crate) fn text(&mut self, text: &str) {
        self.cell(|to| to.push_str(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written<T: Sync>(
        columns: &[(&'static str, Side)],
        rows: &[T],
        color: bool,
        write: impl Fn(&mut Cells<'_>, &T) + Sync,
    ) -> String {
        let mut to = BytesMut::new();
        let style = |text: &str| if text == "bad" { Style::Attention } else { Style::Plain };
        let take = |piece: BytesMut| {
            to.put(piece);
            Ok::<_, ()>(())
        };
        let mut table = Table::new(columns.to_vec(), color, style);
        table.rows(rows, write);
        table.write(take).unwrap();
        String::from_utf8(to.to_vec()).unwrap()
    }

    #[test]
    fn columns_are_as_wide_as_their_cells() {
        let columns = [("A", Side::Left), ("B", Side::Right), ("C", Side::Left)];
        let rows = [("long", 1, "≥1µs"), ("é", 1000, ""), ("", 0, "x")];
        let text = written(&columns, &rows, false, |cells, (a, b, c)| {
            cells.value(a);
            cells.number(*b);
            cells.text(c);
        });
        assert_eq!(text, "A       B C\nlong    1 ≥1µs\né    1000\n        0 x\n");
        let columns = [("A", Side::Left), ("B", Side::Left)];
        let text = written(&columns, &["w".repeat(MAX_WIDTH + 9), "n".to_owned()], false, |cells, a| {
            cells.text(a);
            cells.text("b");
        });
        let places: Vec<_> = text.lines().map(|line| line.rfind(['B', 'b']).unwrap()).collect();
        assert_eq!(places, [MAX_WIDTH + 1, MAX_WIDTH + 10, MAX_WIDTH + 1]);
    }

    #[test]
    fn a_wide_cell_that_comes_late_widens_all_rows() {
        let columns = [("N", Side::Right), ("A", Side::Left), ("B", Side::Left)];
        let mut rows = vec!["short"; PIECE_BYTES / 4];
        rows[PIECE_BYTES / 5] = "longer than that";
        let text = written(&columns, &rows, false, |cells, a| {
            cells.number(a.len() as u64);
            cells.text(a);
            cells.text("b");
        });
        assert_eq!(text.lines().count(), 1 + rows.len());
        let places: Vec<_> = text.lines().map(|line| line.rfind(['B', 'b'])).collect();
        assert!(places.iter().all(|place| *place == Some(3 + "longer than that".len() + 1)), "{places:?}");
    }

    #[test]
    fn rows_have_a_cell_in_each_column() {
        let text = written(&[("A", Side::Left), ("B", Side::Left)], &[1, 2, 3], false, |cells, count| {
            (0..*count).for_each(|cell| cells.value(cell));
        });
        assert_eq!(text, "A B\n0\n0 1\n0 1\n");
    }

    #[test]
    fn colour_is_for_the_first_cell() {
        let columns = [("A", Side::Left), ("B", Side::Left)];
        let text = written(&columns, &["bad"], true, |cells, a| {
            cells.text(a);
            cells.text("b");
        });
        assert_eq!(text, "\x1b[1mA   B\x1b[0m\n\x1b[33mbad\x1b[0m b\n");
    }
}
