//! A table whose columns are as wide as what stands in them. Rows are written in place; those that were written before a
//! column had its width are written again.

use std::{fmt::Write as _, mem::take};

use bytes::{BufMut, BytesMut};

use super::PIECE_ROWS;
use crate::{
    halves::in_two,
    heap::with_foresight,
    render::text::columns::{Style, styled},
};

/// A side of its column to which text is moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Cells wider than this do not widen their column: what stands right of them moves.
const MAX_WIDTH: usize = 50;
/// One row of so many is looked at before any is written: most of what is wide is among them, and little is written twice.
const SAMPLE: usize = 16;

/// A table.
#[derive(Clone)]
pub(super) struct Table {
    columns: Vec<Column>,
    color: bool,
    /// How the first cell of a row stands out, by its text.
    style: fn(&str) -> Style,
}

#[derive(Clone, Copy)]
struct Column {
    name: &'static str,
    side: Side,
    width: usize,
}

impl Table {
    /// An empty one.
    pub(super) fn new(columns: Vec<(&'static str, Side)>, color: bool, style: fn(&str) -> Style) -> Self {
        let columns = columns.into_iter().map(|(name, side)| Column { name, side, width: name.len() });
        Self { columns: columns.collect(), color, style }
    }

    /// Hands over the names of the columns, and the rows, of which `write` writes all cells, and `lies` tells where they lie;
    /// two threads do so.
    pub(super) fn write<T: Sync, E>(
        mut self,
        rows: &[T],
        lies: fn(&T),
        write: impl Fn(&mut Cells<'_>, &T) + Sync,
        mut hand_over: impl FnMut(BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let sample: Vec<_> = rows.iter().step_by(SAMPLE).collect();
        self.piece(&sample, |row| lies(row), |cells, row| write(cells, row));
        let halves = in_two(rows, |rows| {
            let mut own = self.clone();
            let pieces = own.pieces(rows, lies, &write);
            (own.widths(), pieces)
        });
        for (widths, _) in &halves {
            for (column, width) in self.columns.iter_mut().zip(widths) {
                column.width = column.width.max(*width);
            }
        }
        hand_over(self.heading())?;
        let widths = self.widths();
        halves.into_iter().flat_map(|(_, pieces)| pieces).try_for_each(|(rows, then, piece)| {
            hand_over(if then == widths { piece } else { self.piece(rows, lies, &write) })
        })
    }

    /// The rows in pieces, and the widths with which each was begun.
    fn pieces<'r, T>(
        &mut self,
        rows: &'r [T],
        lies: impl Fn(&T) + Copy,
        write: impl Fn(&mut Cells<'_>, &T),
    ) -> Vec<(&'r [T], Vec<usize>, BytesMut)> {
        rows.chunks(PIECE_ROWS).map(|rows| (rows, self.widths(), self.piece(rows, lies, &write))).collect()
    }

    fn widths(&self) -> Vec<usize> {
        self.columns.iter().map(|column| column.width).collect()
    }

    fn heading(&self) -> BytesMut {
        let mut plain = Self { color: false, ..self.clone() };
        let names = plain.piece(
            &[&self.columns],
            |_| {},
            |cells, columns| columns.iter().for_each(|column| cells.text(column.name)),
        );
        let mut to = BytesMut::new();
        styled(&mut to, String::from_utf8_lossy(&names).trim_end(), Style::Heading, self.color);
        to.put_u8(b'\n');
        to
    }

    fn piece<T>(&mut self, rows: &[T], lies: impl Fn(&T), write: impl Fn(&mut Cells<'_>, &T)) -> BytesMut {
        let width: usize = self.columns.iter().map(|column| column.width + 1).sum();
        let to = BytesMut::with_capacity(width * rows.len());
        let mut cells = Cells { table: self, to, column: 0, blanks: 0, text: String::new() };
        for row in with_foresight(rows, lies) {
            write(&mut cells, row);
            cells.to.put_u8(b'\n');
            (cells.column, cells.blanks) = (0, 0);
        }
        cells.to
    }
}

/// Where the cells of rows are written, one after the other.
pub(super) struct Cells<'a> {
    table: &'a mut Table,
    to: BytesMut,
    /// Column of the next cell.
    column: usize,
    /// Blanks before it.
    blanks: usize,
    /// Room for its text.
    text: String,
}

impl Cells<'_> {
    /// Writes the next cell.
    pub(super) fn cell(&mut self, write: impl FnOnce(&mut String)) {
        let mut text = take(&mut self.text);
        write(&mut text);
        self.text(&text);
        text.clear();
        self.text = text;
    }

    /// Writes a cell with a number.
    pub(super) fn number(&mut self, number: u64) {
        self.text(itoa::Buffer::new().format(number));
    }

    /// Writes a cell with a value.
    pub(super) fn value(&mut self, value: impl std::fmt::Display) {
        self.cell(|to| _ = write!(to, "{value}")); // to memory
    }

    /// Writes a cell with this text.
    pub(super) fn text(&mut self, text: &str) {
        let Some(Column { side, width, .. }) = self.table.columns.get_mut(self.column) else {
            return;
        };
        let chars = if text.is_ascii() { text.len() } else { text.chars().count() };
        *width = (*width).max(chars.min(MAX_WIDTH));
        let rest = width.saturating_sub(chars);
        self.blanks += if *side == Side::Right { rest } else { 0 };
        if !text.is_empty() {
            self.to.put_bytes(b' ', take(&mut self.blanks)); // none at the end of a line
            let style = if self.column == 0 { (self.table.style)(text) } else { Style::Plain };
            styled(&mut self.to, text, style, self.table.color);
        }
        self.blanks += 1 + if *side == Side::Left { rest } else { 0 };
        self.column += 1;
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
        Table::new(columns.to_vec(), color, style).write(rows, |_| {}, write, take).unwrap();
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
    fn what_was_written_too_narrow_is_written_again() {
        let columns = [("N", Side::Right), ("A", Side::Left), ("B", Side::Left)];
        let mut rows = vec!["short"; 3 * PIECE_ROWS];
        rows[2 * PIECE_ROWS + 1] = "longer than that"; // not in the sample
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
    fn colour_is_for_the_first_cell() {
        let columns = [("A", Side::Left), ("B", Side::Left)];
        let text = written(&columns, &["bad"], true, |cells, a| {
            cells.text(a);
            cells.text("b");
        });
        assert_eq!(text, "\x1b[1mA   B\x1b[0m\n\x1b[33mbad\x1b[0m b\n");
    }
}
