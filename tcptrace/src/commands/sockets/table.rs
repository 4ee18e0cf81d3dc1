//! A table whose columns are as wide as their widest cell. All cells are written to a buffer first, and become lines when the
//! widths are known.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};

use crate::{
    commands::sockets::listing::PIECE_ROWS,
    render::text::columns::{Style, styled},
    sys::{heap::with_foresight, threads::in_two},
};

/// Alignment of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Cells wider than this do not widen their column; they push the rest of the line to the right.
const MAX_WIDTH: usize = 50;

pub(super) struct Table {
    columns: Vec<Column>,
    color: bool,
    /// Style of a row's first cell, by its text.
    style: fn(&str) -> Style,
}

struct Column {
    name: &'static str,
    side: Side,
    width: usize,
}

impl Table {
    pub(super) fn new(columns: Vec<(&'static str, Side)>, color: bool, style: fn(&str) -> Style) -> Self {
        let columns = columns.into_iter().map(|(name, side)| Column { name, side, width: name.len() });
        Self { columns: columns.collect(), color, style }
    }

    /// Passes the heading and the rows to `hand_over`. `write` writes the cells of a row, and `lies` prefetches its data. Two
    /// threads write cells.
    pub(super) fn write<T: Sync, E>(
        mut self,
        rows: &[T],
        lies: fn(&T),
        write: impl Fn(&mut Cells, &T) + Sync,
        mut hand_over: impl FnMut(BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let halves = in_two(rows, |rows| {
            let mut cells = Cells::new(self.columns.len(), rows.len());
            for row in with_foresight(rows, lies) {
                write(&mut cells, row);
                cells.end_of_row();
            }
            cells
        });
        for cells in &halves {
            for (column, width) in self.columns.iter_mut().zip(&cells.widths) {
                column.width = column.width.max(*width);
            }
        }
        hand_over(self.heading())?;
        let mut to = BytesMut::new();
        halves.iter().try_for_each(|cells| self.lines(cells, &mut to, &mut hand_over))
    }

    fn heading(&self) -> BytesMut {
        let mut to = BytesMut::new();
        let names = self.columns.iter().map(|column| (column.name, column.name.len()));
        self.line(&mut to, names, |_| Style::Plain);
        let mut heading = BytesMut::new();
        styled(&mut heading, String::from_utf8_lossy(&to).trim_end(), Style::Heading, self.color);
        heading.put_u8(b'\n');
        heading
    }

    /// Passes on the rows in pieces, in the same buffer.
    fn lines<E>(
        &self,
        cells: &Cells,
        to: &mut BytesMut,
        hand_over: &mut impl FnMut(BytesMut) -> Result<(), E>,
    ) -> Result<(), E> {
        let (width, columns) = (self.width(), self.columns.len().max(1));
        let mut rest = cells.text.as_str();
        for rows in cells.sizes.chunks(PIECE_ROWS * columns) {
            to.reserve(PIECE_ROWS * width);
            for row in rows.chunks(columns) {
                let texts = row.iter().map(|size| {
                    let (text, others) = rest.split_at_checked(size.bytes as usize).unwrap_or((rest, ""));
                    rest = others;
                    (text, size.chars as usize)
                });
                self.line(to, texts, self.style);
            }
            hand_over(to.split())?; // the buffer is reused when the piece is dropped
        }
        Ok(())
    }

    /// Writes a line of cells, given with their widths: first a line of spaces, into which the cells are copied.
    fn line<'t>(&self, to: &mut BytesMut, cells: impl Iterator<Item = (&'t str, usize)>, style: fn(&str) -> Style) {
        let (mut at, mut end) = (to.len(), to.len());
        to.resize(at + self.width(), b' ');
        for (index, (Column { side, width, .. }, (text, chars))) in self.columns.iter().zip(cells).enumerate() {
            let rest = width.saturating_sub(chars);
            let (before, after) = if *side == Side::Right { (rest, 0) } else { (0, rest) };
            let mut marked = BytesMut::new();
            let text = match if index == 0 && self.color { style(text) } else { Style::Plain } {
                Style::Plain => text.as_bytes(),
                style => {
                    styled(&mut marked, text, style, true);
                    &marked
                }
            };
            let (from, past) = (at + before, at + before + text.len());
            if to.len() < past {
                to.resize(past, b' '); // a wide cell, or one with more bytes than characters
            }
            to[from..past].copy_from_slice(text);
            end = if text.is_empty() { end } else { past };
            at = past + after + 1;
        }
        to.truncate(end); // no spaces at the end
        to.put_u8(b'\n');
    }

    /// Width of a line without overlong cells, with the space after each column.
    fn width(&self) -> usize {
        self.columns.iter().map(|column| column.width + 1).sum()
    }
}

/// The cells of many rows in one buffer.
pub(super) struct Cells {
    text: String,
    sizes: Vec<Size>,
    /// Width of the widest cell in each column.
    widths: Vec<usize>,
    /// Column of the next cell.
    column: usize,
}

/// The size of a cell.
#[derive(Clone, Copy, Default)]
struct Size {
    bytes: u32,
    chars: u32,
}

impl Cells {
    fn new(columns: usize, rows: usize) -> Self {
        /// Most rows are shorter.
        const BYTES_OF_A_ROW: usize = 96;
        let (text, sizes) = (String::with_capacity(rows * BYTES_OF_A_ROW), Vec::with_capacity(rows * columns));
        Self { text, sizes, widths: vec![0; columns], column: 0 }
    }

    /// Writes the next cell.
    pub(super) fn cell(&mut self, write: impl FnOnce(&mut String)) {
        let start = self.text.len();
        write(&mut self.text);
        let text = self.text.get(start..).unwrap_or_default();
        let chars = if text.is_ascii() { text.len() } else { text.chars().count() };
        match self.widths.get_mut(self.column) {
            Some(width) => *width = (*width).max(chars.min(MAX_WIDTH)),
            None => return self.text.truncate(start), // no such column
        }
        self.sizes.push(Size { bytes: text.len() as u32, chars: chars as u32 });
        self.column += 1;
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
        self.cell(|to| to.push_str(text));
    }

    fn end_of_row(&mut self) {
        let missing = self.widths.len() - self.column;
        self.sizes.extend(std::iter::repeat_n(Size::default(), missing));
        self.column = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written<T: Sync>(
        columns: &[(&'static str, Side)],
        rows: &[T],
        color: bool,
        write: impl Fn(&mut Cells, &T) + Sync,
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
    fn a_wide_cell_that_comes_late_widens_all_rows() {
        let columns = [("N", Side::Right), ("A", Side::Left), ("B", Side::Left)];
        let mut rows = vec!["short"; 3 * PIECE_ROWS];
        rows[2 * PIECE_ROWS + 1] = "longer than that";
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
