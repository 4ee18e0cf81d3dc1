//! A table whose columns are as wide as their cells. All cells are written first, one after another, and put into lines
//! when all widths are known. On a terminal it fits the width: columns that can be shortened are, and the least useful ones
//! are left out. [`Stream`] is a table whose rows come one by one.

use std::{
    fmt::{Display, Write as _},
    thread,
};

use bytes::{BufMut, BytesMut};

use super::{
    style::{Style, styled, trim_end},
    wrap::{cut, width},
};
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

/// A column of a table.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    name: &'static str,
    side: Side,
    /// Where there is no room, columns are left out, the highest rank first; 0 stays.
    rank: u8,
    /// Cells may be cut to this width; 0: they are never cut.
    least: usize,
    /// Width of the column, and of its widest cell.
    width: usize,
    widest: usize,
    is_shown: bool,
    /// True if its cells are cut to `width`.
    is_cut: bool,
    /// True if the style of a row is that of this cell.
    is_styled: bool,
}

impl Column {
    /// A column that is always shown whole.
    pub(crate) const fn new(name: &'static str, side: Side) -> Self {
        let width = name.len();
        Self { name, side, rank: 0, least: 0, width, widest: width, is_shown: true, is_cut: false, is_styled: false }
    }

    /// At least so wide.
    pub(crate) const fn wide(self, least: usize) -> Self {
        let width = if self.width > least { self.width } else { least };
        Self { width, widest: width, ..self }
    }

    /// Left out where there is no room; the highest rank goes first.
    pub(crate) const fn rank(self, rank: u8) -> Self {
        Self { rank, ..self }
    }

    /// Cut where there is no room, but not below this width.
    pub(crate) const fn least(self, least: usize) -> Self {
        Self { least, ..self }
    }

    /// Its cells are coloured by the table's style.
    pub(crate) const fn styled(self) -> Self {
        Self { is_styled: true, ..self }
    }

    fn needed(&self) -> usize {
        match self.least {
            0 => self.widest,
            least => self.widest.min(least.max(self.name.len())),
        }
    }
}

/// A table.
pub(crate) struct Table {
    columns: Vec<Column>,
    color: bool,
    /// How the styled cell of a row stands out, by its text.
    style: fn(&str) -> Style,
    /// The cells of all rows, one behind the other, and where each ends.
    text: String,
    ends: Vec<usize>,
}

impl Table {
    /// An empty one.
    pub(crate) fn new(columns: Vec<Column>, color: bool, style: fn(&str) -> Style) -> Self {
        Self { columns, color, style, text: String::new(), ends: Vec::new() }
    }

    /// One without styles.
    pub(crate) fn plain(columns: &[Column], color: bool) -> Self {
        Self::new(columns.to_vec(), color, |_| Style::Plain)
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
            column.widest = column.widest.max(other.widest);
        }
        self.ends.extend(other.ends.iter().map(|end| self.text.len() + end));
        self.text += &other.text;
    }

    /// Adds a row, of which `write` writes all cells.
    pub(crate) fn row(&mut self, write: impl FnOnce(&mut Cells<'_>)) {
        let mut cells = Cells { table: self, column: 0 };
        write(&mut cells);
        let missing = cells.table.columns.len() - cells.column;
        self.ends.extend(std::iter::repeat_n(self.text.len(), missing));
    }

    /// Fits the table to a terminal of this width, once all rows are known. Returns what is missing, in words.
    pub(crate) fn fit(&mut self, columns: usize) -> Option<String> {
        let shown = |table: &Self| table.columns.iter().filter(|column| column.is_shown).copied().collect::<Vec<_>>();
        let needed =
            |table: &Self| shown(table).iter().map(|column| column.needed() + 1).sum::<usize>().saturating_sub(1);
        let mut missing = Vec::new();
        while needed(self) > columns
            && let Some(least_useful) = self
                .columns
                .iter_mut()
                .filter(|column| column.is_shown && column.rank > 0)
                .max_by_key(|column| column.rank)
        {
            least_useful.is_shown = false;
            missing.push(least_useful.name);
        }
        let mut room = columns.saturating_sub(needed(self));
        let mut by_use: Vec<_> = self.columns.iter_mut().filter(|column| column.is_shown && column.least > 0).collect();
        by_use.sort_by_key(|column| column.rank);
        let mut are_cut = Vec::new();
        for column in by_use {
            let needed = column.needed();
            column.width = column.widest.min(needed + room);
            room -= column.width - needed;
            column.is_cut = column.width < column.widest;
            are_cut.extend(column.is_cut.then_some(column.name));
        }
        let parts = [("without ", missing), ("shortened: ", are_cut)];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let words: Vec<_> = parts.map(|(how, names)| how.to_owned() + &names.join(", ")).collect();
        (!words.is_empty()).then(|| format!("{columns} columns: {}", words.join("; ")))
    }

    /// Hands over the names of the columns and the rows.
    pub(crate) fn write<E>(&self, mut hand_over: impl FnMut(BytesMut) -> Result<(), E>) -> Result<(), E> {
        let mut to = BytesMut::new();
        self.heading(&mut to);
        self.lines(&mut to, |to| if to.len() >= PIECE_BYTES { hand_over(to.split()) } else { Ok(()) })?;
        hand_over(to)
    }

    /// Writes the names of the columns and the rows.
    pub(crate) fn write_to(&self, to: &mut BytesMut) {
        self.heading(to);
        let Ok(()) = self.lines(to, |_| Ok::<_, std::convert::Infallible>(()));
    }

    fn heading(&self, to: &mut BytesMut) {
        let mut heading = BytesMut::new();
        self.line(&mut heading, self.columns.iter().map(|column| column.name), |_| Style::Plain);
        styled(to, String::from_utf8_lossy(&heading).trim_end(), Style::Heading, self.color);
        to.put_u8(b'\n');
    }

    /// Writes the rows; `after` gets what was written, after each of them.
    fn lines<E>(&self, to: &mut BytesMut, mut after: impl FnMut(&mut BytesMut) -> Result<(), E>) -> Result<(), E> {
        let mut start = 0;
        for row in self.ends.chunks(self.columns.len().max(1)) {
            let cells = row.iter().map(|end| {
                let text = self.text.get(start..*end).unwrap_or_default();
                start = *end;
                text
            });
            self.line(to, cells, self.style);
            after(to)?;
        }
        Ok(())
    }

    fn line<'t>(&self, to: &mut BytesMut, cells: impl Iterator<Item = &'t str>, style: fn(&str) -> Style) {
        let from = to.len();
        for (column, text) in self.columns.iter().zip(cells).filter(|(column, _)| column.is_shown) {
            let text = if column.is_cut { &*cut(text, column.width) } else { text };
            let spaces = column.width.saturating_sub(width(text));
            let (before, after) = if column.side == Side::Right { (spaces, 0) } else { (0, spaces) };
            to.put_bytes(b' ', before);
            let style = if column.is_styled { style(text) } else { Style::Plain };
            styled(to, text, style, self.color);
            to.put_bytes(b' ', after + 1);
        }
        trim_end(to, from);
        to.put_u8(b'\n');
    }
}

/// A table whose rows come one by one, with columns of fixed widths: a wider cell moves the rest of its row.
pub(crate) struct Stream {
    table: Table,
    columns: Vec<Column>,
    fitted: Option<usize>,
    /// Rows since the heading.
    rows: u64,
}

impl Stream {
    /// A table with these columns, before its first row.
    pub(crate) fn new(columns: Vec<Column>, color: bool) -> Self {
        Self { table: Table::plain(&columns, color), columns, fitted: None, rows: 0 }
    }

    /// Writes a row, after the heading if it is the first one, the terminal's width has changed, or `heading_every` rows were
    /// written since.
    pub(crate) fn row(
        &mut self,
        to: &mut BytesMut,
        screen_columns: Option<usize>,
        heading_every: Option<u64>,
        write: impl FnOnce(&mut Cells<'_>),
    ) {
        if screen_columns != self.fitted {
            self.fitted = screen_columns;
            self.table.columns.clone_from(&self.columns);
            let missing = screen_columns.and_then(|columns| self.table.fit(columns));
            self.columns.clone_from(&self.table.columns);
            if let Some(missing) = missing {
                let _ = writeln!(to, "-- {missing}"); // to memory
            }
            self.rows = 0;
        }
        if self.rows == 0 || heading_every.is_some_and(|every| self.rows.is_multiple_of(every)) {
            self.table.heading(to);
        }
        self.rows += 1;
        self.table.row(write);
        let Ok(()) = self.table.lines(to, |_| Ok::<_, std::convert::Infallible>(()));
        self.table.columns.clone_from(&self.columns);
        self.table.text.clear();
        self.table.ends.clear();
    }
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
        let width = width(text.get(start..).unwrap_or_default());
        column.width = column.width.max(width.min(MAX_WIDTH));
        column.widest = column.widest.max(width);
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
        columns: &[Column],
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
        let columns = [Column::new("A", Side::Left), Column::new("B", Side::Right), Column::new("C", Side::Left)];
        let rows = [("long", 1, "≥1µs"), ("é", 1000, ""), ("", 0, "x")];
        let text = written(&columns, &rows, false, |cells, (a, b, c)| {
            cells.value(a);
            cells.number(*b);
            cells.text(c);
        });
        assert_eq!(text, "A       B C\nlong    1 ≥1µs\né    1000\n        0 x\n");
        let columns = [Column::new("A", Side::Left), Column::new("B", Side::Left)];
        let text = written(&columns, &["w".repeat(MAX_WIDTH + 9), "n".to_owned()], false, |cells, a| {
            cells.text(a);
            cells.text("b");
        });
        let places: Vec<_> = text.lines().map(|line| line.rfind(['B', 'b']).unwrap()).collect();
        assert_eq!(places, [MAX_WIDTH + 1, MAX_WIDTH + 10, MAX_WIDTH + 1]);
    }

    #[test]
    fn a_wide_cell_that_comes_late_widens_all_rows() {
        let columns = [Column::new("N", Side::Right), Column::new("A", Side::Left), Column::new("B", Side::Left)];
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
        let text = written(
            &[Column::new("A", Side::Left), Column::new("B", Side::Left)],
            &[1, 2, 3],
            false,
            |cells, count| {
                (0..*count).for_each(|cell| cells.value(cell));
            },
        );
        assert_eq!(text, "A B\n0\n0 1\n0 1\n");
    }

    #[test]
    fn colour_is_for_the_styled_cell() {
        let columns = [Column::new("A", Side::Left).styled(), Column::new("B", Side::Left)];
        let text = written(&columns, &["bad"], true, |cells, a| {
            cells.text(a);
            cells.text("b");
        });
        assert_eq!(text, "\x1b[1mA   B\x1b[0m\n\x1b[33mbad\x1b[0m b\n");
    }

    const FITTING: [Column; 4] = [
        Column::new("STATE", Side::Left),
        Column::new("AGE", Side::Right).rank(2),
        Column::new("HOLDERS", Side::Left).rank(1).least(10),
        Column::new("NOTE", Side::Left).rank(3).least(6),
    ];

    fn fitted(columns: usize) -> (Option<String>, String) {
        let mut table = Table::plain(&FITTING, false);
        for (holder, note) in [("nginx/800 fd 6, nginx/801 fd 6", "not accepted yet"), ("-", "")] {
            table.row(|cells| ["CLOSE_WAIT", "1m30s", holder, note].iter().for_each(|text| cells.text(text)));
        }
        let missing = table.fit(columns);
        let mut to = BytesMut::new();
        table.write_to(&mut to);
        (missing, String::from_utf8(to.to_vec()).unwrap())
    }

    #[test]
    fn a_table_fits_its_terminal_and_says_what_is_missing() {
        assert_eq!(fitted(64).0, None, "all of it has room");
        let (missing, text) = fitted(50);
        assert_eq!(missing.as_deref(), Some("50 columns: shortened: HOLDERS, NOTE"));
        assert_eq!(
            text,
            "STATE        AGE HOLDERS                    NOTE\n\
             CLOSE_WAIT 1m30s nginx/800 fd 6, nginx/801… not a…\nCLOSE_WAIT 1m30s -\n"
        );
        let (missing, text) = fitted(30);
        assert_eq!(missing.as_deref(), Some("30 columns: without NOTE; shortened: HOLDERS"));
        assert!(text.contains("CLOSE_WAIT 1m30s nginx/800 fd…\n"), "{text}");
        assert_eq!(fitted(22).0.as_deref(), Some("22 columns: without NOTE, AGE; shortened: HOLDERS"));
        for columns in 10..70 {
            let (_, text) = fitted(columns);
            assert!(text.lines().all(|line| width(line) <= columns), "{columns}: {text}");
        }
        assert!(fitted(1).1.contains("STATE\nCLOSE_WAIT\n"), "what is most useful stays");
    }

    #[test]
    fn a_stream_has_its_heading_once_and_its_widths_hold() {
        let mut stream = Stream::new(vec![Column::new("A", Side::Right).wide(4), Column::new("B", Side::Left)], false);
        let mut to = BytesMut::new();
        for text in ["1", "123456", "2"] {
            stream.row(&mut to, None, None, |cells| [text, "b"].iter().for_each(|text| cells.text(text)));
        }
        assert_eq!(to, "   A B\n   1 b\n123456 b\n   2 b\n");
    }
}
