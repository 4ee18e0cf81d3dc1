//! Tables: which columns fit, the order of the rows, the chosen row, and drawing the rows that are visible.
//!
//! Rows are numbers until they are drawn: of 50,000 sockets a screen formats some thirty.

use std::cmp::Reverse;

use ratatui::{buffer::Buffer, layout::Rect};

use super::theme::{Emphasis, Theme};

/// Space for the mark of the chosen row.
const GUTTER: u16 = 2;

/// A column.
pub(super) struct Column {
    pub title: &'static str,
    /// The key that sorts by it, in capitals.
    pub key: char,
    /// Narrowest and widest that is of use.
    pub width: (u16, u16),
    /// Whether its cells are numbers, which end below each other.
    pub is_number: bool,
    /// Columns of higher rank are left out first if there is no room.
    pub rank: u8,
    /// Whether the first press of its key puts the highest first.
    pub descends: bool,
}

/// Rows by number.
pub(super) trait Rows {
    const COLUMNS: &'static [Column];

    fn len(&self) -> usize;

    /// What stays the same of a row while others come and go.
    fn id(&self, row: usize) -> u64;

    /// What it is sorted by; what is not known comes last.
    fn key(&self, row: usize, column: usize) -> Option<u128>;

    fn cell(&self, row: usize, column: usize, to: &mut String) -> Emphasis;
}

/// What the user has chosen of a table.
#[derive(Clone, Debug)]
pub(super) struct TableState {
    pub column: usize,
    pub descends: bool,
    /// Rows in order, as of the last [`TableState::arrange`].
    order: Vec<u32>,
    /// Index of the chosen row in `order`.
    chosen: usize,
    /// Identifies the chosen row once the user has moved; before, it is the first one.
    follows: Option<u64>,
    /// Index of the first visible row.
    top: usize,
    /// Number of visible rows.
    page: usize,
    keys: Vec<(bool, u128, u32)>,
}

impl TableState {
    pub(super) const fn new(column: usize, descends: bool) -> Self {
        Self { column, descends, order: Vec::new(), chosen: 0, follows: None, top: 0, page: 1, keys: Vec::new() }
    }

    /// The rows stay in the order in which they come.
    pub(super) const fn unsorted() -> Self {
        Self::new(usize::MAX, false)
    }

    /// Sorts the rows, and finds the chosen one again. `height` includes the heading.
    pub(super) fn arrange<R: Rows>(&mut self, rows: &R, height: u16) {
        self.page = usize::from(height.saturating_sub(1)).max(1);
        self.keys.clear();
        self.keys.extend((0..rows.len() as u32).map(|row| {
            let key = rows.key(row as usize, self.column);
            (key.is_none(), key.unwrap_or(0), row)
        }));
        if self.descends {
            self.keys.sort_unstable_by_key(|(is_unknown, key, row)| (*is_unknown, Reverse(*key), *row));
        } else {
            self.keys.sort_unstable();
        }
        self.order.clear();
        self.order.extend(self.keys.iter().map(|(.., row)| *row));
        if let Some(id) = self.follows
            && let Some(index) = self.order.iter().position(|row| rows.id(*row as usize) == id)
        {
            self.chosen = index;
        }
        self.chosen = self.chosen.min(self.order.len().saturating_sub(1));
        self.show_chosen();
    }

    fn show_chosen(&mut self) {
        let last_top = self.order.len().saturating_sub(self.page);
        self.top = self.top.clamp((self.chosen + 1).saturating_sub(self.page), self.chosen).min(last_top);
    }

    /// Moves the choice by so many rows.
    pub(super) fn step<R: Rows>(&mut self, rows: &R, by: isize) {
        let last = self.order.len().saturating_sub(1);
        self.chosen = self.chosen.saturating_add_signed(by).min(last);
        self.follows = self.chosen().filter(|_| self.chosen > 0).map(|row| rows.id(row));
        self.show_chosen();
    }

    pub(super) const fn page(&self) -> usize {
        self.page
    }

    /// The chosen row.
    pub(super) fn chosen(&self) -> Option<usize> {
        self.order.get(self.chosen).map(|row| *row as usize)
    }

    /// Place of the chosen row among all, counted from 1, and their number.
    pub(super) fn place(&self) -> (usize, usize) {
        (if self.order.is_empty() { 0 } else { self.chosen + 1 }, self.order.len())
    }

    /// Sorts by the column with this key, or the other way round if it is already sorted by it.
    pub(super) fn sort_by_key<R: Rows>(&mut self, key: char) -> bool {
        let Some(column) = R::COLUMNS.iter().position(|column| column.key == key) else { return false };
        self.sort_by::<R>(column);
        true
    }

    fn sort_by<R: Rows>(&mut self, column: usize) {
        self.descends = if column == self.column { !self.descends } else { R::COLUMNS[column].descends };
        self.column = column;
    }

    /// Sorts by the next column.
    pub(super) fn sort_by_next<R: Rows>(&mut self) {
        self.sort_by::<R>((self.column + 1) % R::COLUMNS.len());
    }

    /// Draws the heading and the visible rows.
    pub(super) fn draw<R: Rows>(&self, rows: &R, theme: Theme, area: Rect, to: &mut Buffer) {
        let columns = fit(R::COLUMNS, area.width.saturating_sub(GUTTER));
        let mut x = area.x + GUTTER;
        for &(index, width) in &columns {
            let column = &R::COLUMNS[index];
            let mark = match (index == self.column, self.descends) {
                (false, _) => "",
                (true, true) => "▼",
                (true, false) => "▲",
            };
            put(to, (x, area.y), &format!("{}{mark}", column.title), width, column.is_number, theme.heading());
            x += width + 1;
        }
        let mut text = String::new();
        for (line, &row) in self.order.iter().skip(self.top).take(usize::from(area.height) - 1).enumerate() {
            let y = area.y + 1 + line as u16;
            let is_chosen = self.top + line == self.chosen;
            let mut x = area.x + GUTTER;
            for &(index, width) in &columns {
                text.clear();
                let emphasis = rows.cell(row as usize, index, &mut text);
                put(to, (x, y), &text, width, R::COLUMNS[index].is_number, theme.of(emphasis));
                x += width + 1;
            }
            if is_chosen {
                to.set_stringn(area.x, y, ">", 1, theme.title());
                to.set_style(Rect { y, height: 1, ..area }, theme.chosen());
            }
        }
    }
}

/// Writes a cell, with `…` where it is cut.
fn put(to: &mut Buffer, (x, y): (u16, u16), text: &str, width: u16, is_right: bool, style: ratatui::style::Style) {
    let text = crate::render::text::wrap::cut(text, width.into());
    let used = crate::render::text::wrap::width(&text) as u16;
    let x = if is_right { x + width.saturating_sub(used) } else { x };
    to.set_stringn(x, y, &text, width.into(), style);
}

/// The columns that fit into `width`, with their widths: those of the lowest rank, then as wide as there is room.
fn fit(columns: &[Column], width: u16) -> Vec<(usize, u16)> {
    let mut kept: Vec<_> = (0..columns.len()).collect();
    let needed = |kept: &[usize]| kept.iter().map(|index| columns[*index].width.0 + 1).sum::<u16>().saturating_sub(1);
    while needed(&kept) > width && kept.len() > 1 {
        let Some(worst) = kept.iter().enumerate().max_by_key(|(at, index)| (columns[**index].rank, *at)) else { break };
        kept.remove(worst.0);
    }
    let mut left = width.saturating_sub(needed(&kept));
    let mut widths: Vec<_> = kept.iter().map(|index| (*index, columns[*index].width.0.min(width))).collect();
    while left > 0 {
        let before = left;
        for (index, width) in &mut widths {
            if *width < columns[*index].width.1 && left > 0 {
                *width += 1;
                left -= 1;
            }
        }
        if left == before {
            break;
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(Vec<Option<u128>>);

    impl Rows for Numbers {
        const COLUMNS: &'static [Column] = &[
            Column { title: "a", key: 'A', width: (3, 9), is_number: true, rank: 0, descends: true },
            Column { title: "b", key: 'B', width: (5, 5), is_number: false, rank: 2, descends: false },
            Column { title: "c", key: 'C', width: (5, 7), is_number: false, rank: 1, descends: false },
        ];

        fn len(&self) -> usize {
            self.0.len()
        }

        fn id(&self, row: usize) -> u64 {
            self.0[row].map_or(99, |number| number as u64)
        }

        fn key(&self, row: usize, _: usize) -> Option<u128> {
            self.0[row]
        }

        fn cell(&self, row: usize, _: usize, to: &mut String) -> Emphasis {
            *to += &format!("{:?}", self.0[row]);
            Emphasis::Plain
        }
    }

    #[test]
    fn what_is_not_known_comes_last_in_both_directions() {
        let rows = Numbers(vec![Some(2), None, Some(3), Some(1)]);
        let mut state = TableState::new(0, true);
        state.arrange(&rows, 9);
        assert_eq!(state.order, [2, 0, 3, 1]);
        assert!(state.sort_by_key::<Numbers>('A'), "pressed again it turns round");
        state.arrange(&rows, 9);
        assert_eq!(state.order, [3, 0, 2, 1]);
        assert!(state.sort_by_key::<Numbers>('B') && !state.descends);
        assert!(!state.sort_by_key::<Numbers>('X'));
    }

    #[test]
    fn the_chosen_row_is_followed_and_stays_visible() {
        let mut rows = Numbers((1..=100).map(Some).collect());
        let mut state = TableState::new(0, false);
        state.arrange(&rows, 11);
        state.step(&rows, 50);
        assert_eq!((state.chosen(), state.top), (Some(50), 41));
        rows.0.insert(0, Some(0));
        state.arrange(&rows, 11);
        assert_eq!(state.chosen().map(|row| rows.id(row)), Some(51), "the same one, although it has moved");
        state.step(&rows, isize::MAX);
        assert_eq!((state.place(), state.top), ((101, 101), 91));
        state.step(&rows, isize::MIN);
        rows.0.insert(0, Some(0));
        state.arrange(&rows, 11);
        assert_eq!((state.place(), state.top), ((1, 102), 0), "at the top it stays there");
        state.arrange(&Numbers(Vec::new()), 11);
        assert_eq!((state.place(), state.chosen()), ((0, 0), None));
    }

    #[test]
    fn columns_of_high_rank_give_way_and_others_grow() {
        let widths = |width| fit(Numbers::COLUMNS, width);
        assert_eq!(widths(40), [(0, 9), (1, 5), (2, 7)]);
        assert_eq!(widths(15), [(0, 3), (1, 5), (2, 5)]);
        assert_eq!(widths(14), [(0, 6), (2, 7)]);
        assert_eq!(widths(2), [(0, 2)]);
    }
}
