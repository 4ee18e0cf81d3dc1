//! The columns of the table of events.

use std::{fmt::Write as _, str::FromStr};

use bytes::{BufMut, BytesMut};

use super::{
    style::{RESET, Style, address, styled},
    wrap::{LEAST, width, wrapped},
};
use crate::{
    model::{
        event::{Event, Owner},
        nearest::nearest,
        printable::{Printable, is_plain},
        time::WallFormat,
    },
    render::{
        context::Context,
        csv::cell,
        fields::{self, Field, FieldValue},
        text::{
            clock::Clock,
            words::{headline, names_note, note, time_in_old},
        },
    },
};

/// A column of the table of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table below says it")]
pub enum EventColumn {
    Time,
    Pid,
    Command,
    By,
    Uid,
    Local,
    Remote,
    OldState,
    NewState,
    InOld,
    Note,
    /// A field as in CSV.
    Field(Field),
}

use EventColumn::{By, Command, InOld, Local, NewState, Note, OldState, Pid, Remote, Time, Uid};

/// What a column is called and how it looks.
struct Shape {
    column: EventColumn,
    /// Its name in `--columns`.
    name: &'static str,
    heading: &'static str,
    /// Fixed, so that lines stand below each other whatever comes. A wider cell moves the rest of its line, up to where the
    /// next columns have room again.
    width: usize,
    /// True if cells end with the column.
    is_right: bool,
    /// On a narrow terminal columns are left out, the highest first; 0 stays.
    rank: u8,
}

const fn shape(
    column: EventColumn,
    name: &'static str,
    heading: &'static str,
    width: usize,
    is_right: bool,
    rank: u8,
) -> Shape {
    Shape { column, name, heading, width, is_right, rank }
}

/// All columns, in the order of the table. `255.255.255.255:65535` has 21 characters, the kernel's longest command 15.
const SHAPES: [Shape; 11] = [
    shape(Time, "time", "TIME", 15, false, 2),
    shape(Pid, "pid", "PID", 7, true, 5),
    shape(Command, "command", "COMMAND", 15, false, 1),
    shape(By, "by", "BY", 8, false, 8),
    shape(Uid, "uid", "UID", 6, true, 7),
    shape(Local, "local", "LOCAL", 21, false, 3),
    shape(Remote, "remote", "REMOTE", 21, false, 0),
    shape(OldState, "old-state", "OLD STATE", 11, false, 6),
    shape(NewState, "new-state", "   NEW STATE", 16, false, 0),
    shape(InOld, "in-old", "IN OLD", 9, true, 4),
    shape(Note, "note", "NOTE", 0, false, 0),
];

/// Columns of a terminal that are kept for the note, which wraps.
const NOTE_WIDTH: usize = 24;
/// Width of a field as in CSV, if its name is not longer.
const FIELD_WIDTH: usize = 12;
/// Decimals of a time.
const DECIMALS: usize = 6;

impl EventColumn {
    /// The names of all columns that are not fields.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHAPES.iter().map(|shape| shape.name)
    }

    /// The column with this name: one of the table, or any field of JSON and CSV.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let of_table = SHAPES.iter().find(|shape| shape.name == name).map(|shape| shape.column);
        let same = |field: &&Field| field.name().bytes().eq(name.bytes().map(|c| if c == b'-' { b'_' } else { c }));
        of_table.or_else(|| Field::ALL.iter().find(same).map(|field| Self::Field(*field)))
    }

    fn is_of_owner(self) -> bool {
        matches!(self, By | Uid)
    }

    fn shape(self) -> Shape {
        match (self, SHAPES.iter().find(|shape| shape.column == self)) {
            (_, Some(known)) => Shape { ..*known },
            (Self::Field(field), None) => shape(self, field.name(), field.name(), FIELD_WIDTH, false, 0),
            (_, None) => shape(self, "", "", 0, false, 0), // all of them are in the table
        }
    }
}

impl FromStr for EventColumn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = || Field::ALL.iter().map(|field| field.name());
        let known = || Self::names().collect::<Vec<_>>().join(", ");
        Self::named(text).ok_or_else(|| {
            let nearest = nearest(text, Self::names().chain(fields()));
            let nearest = if nearest.is_empty() { "." } else { &nearest };
            format!(
                "unknown column `{text}`{nearest} Known are {}, and each field of CSV (tcptrace explain transition)",
                known()
            )
        })
    }
}

/// A column at its place.
struct Placed {
    column: EventColumn,
    heading: &'static str,
    start: usize,
    end: usize,
    is_right: bool,
}

/// Writes lines of the event table.
pub(crate) struct Columns {
    color: bool,
    /// All columns that are wanted, and those that are shown.
    wanted: Vec<EventColumn>,
    placed: Vec<Placed>,
    /// True if columns are left out where the terminal is too narrow.
    drops: bool,
    /// Width of the terminal to which the columns were fitted last.
    fitted: Option<usize>,
    heading_written: bool,
    /// Width of the line so far.
    used: usize,
    text: String,
    clock: Clock,
}

impl Columns {
    /// The table with `columns`, or those that are usual.
    pub(crate) fn new(color: bool, columns: &[EventColumn], owner_columns: bool, clock: Clock) -> Self {
        let usual = SHAPES.iter().map(|shape| shape.column).filter(|column| owner_columns || !column.is_of_owner());
        let wanted = if columns.is_empty() { usual.collect() } else { columns.to_vec() };
        let mut table = Self {
            color,
            wanted,
            placed: Vec::new(),
            drops: columns.is_empty(),
            fitted: None,
            heading_written: false,
            used: 0,
            text: String::new(),
            clock,
        };
        table.place(&table.wanted.clone());
        table
    }

    fn width_of(&self, column: EventColumn) -> usize {
        let shape = column.shape();
        let least = if column == Time { self.clock.width(DECIMALS) } else { shape.width };
        least.max(if shape.width == 0 { 0 } else { shape.heading.len() })
    }

    fn place(&mut self, shown: &[EventColumn]) {
        let mut start = 0;
        self.placed.clear();
        for &column in shown {
            let end = start + self.width_of(column);
            let Shape { heading, is_right, .. } = column.shape();
            self.placed.push(Placed { column, heading, start, end, is_right });
            start = end + 1;
        }
    }

    /// Chooses the columns for a terminal of this width, if that has changed. The least useful ones make room.
    fn fit(&mut self, to: &mut BytesMut, columns: Option<usize>) {
        if columns == self.fitted {
            return;
        }
        self.fitted = columns;
        self.heading_written = false;
        let Some(columns) = columns.filter(|_| self.drops) else { return };
        let mut shown = self.wanted.clone();
        let mut dropped = Vec::new();
        let needed =
            |shown: &[EventColumn]| shown.iter().map(|column| self.width_of(*column) + 1).sum::<usize>() + NOTE_WIDTH;
        while needed(&shown) > columns
            && let Some((at, column)) = shown.iter().copied().enumerate().max_by_key(|(_, column)| column.shape().rank)
            && column.shape().rank > 0
        {
            shown.remove(at);
            dropped.push(column.shape().heading);
        }
        self.place(&shown);
        if !dropped.is_empty() {
            let _ = writeln!(to, "-- {columns} columns: without {} (see --columns)", dropped.join(", ")); // to memory
        }
    }

    /// Writes the heading: at the start, and when the terminal's width has changed.
    pub(super) fn heading(&mut self, to: &mut BytesMut, columns: Option<usize>) {
        self.fit(to, columns);
        if std::mem::replace(&mut self.heading_written, true) {
            return;
        }
        let mut text = String::new();
        for Placed { heading, start, end, is_right, .. } in &self.placed {
            let start = if *is_right { end.saturating_sub(heading.len()) } else { *start };
            text.extend(std::iter::repeat_n(' ', start.saturating_sub(text.len())));
            text += heading;
        }
        styled(to, &text, Style::Heading, self.color);
        to.put_u8(b'\n');
    }

    /// Writes an event as a line. With many events this is most of the work, so nothing is allocated for a line.
    pub(crate) fn line(&mut self, to: &mut BytesMut, event: &Event, context: &mut Context, columns: Option<usize>) {
        self.clock.new_day(to, event.time_ns, context.wall);
        self.heading(to, columns);
        self.used = 0;
        for index in 0..self.placed.len() {
            let Placed { column, start, end, is_right, .. } = self.placed[index];
            let (before, least) = (to.len(), if self.used == 0 { 0 } else { self.used + 1 });
            let start = if is_right { least } else { start.max(least) };
            to.put_bytes(b' ', start - self.used);
            let from = to.len();
            let unseen = self.write(to, column, event, context);
            let width = width_of(&to[from..]) - unseen;
            if width == 0 {
                to.truncate(before); // nor are there blanks at the end of a line
                continue;
            }
            let missing = if is_right { end.saturating_sub(start + width) } else { 0 };
            to.put_bytes(b' ', missing);
            to[from..].rotate_right(missing);
            self.used = start + missing + width;
            if let Some(columns) = columns.filter(|columns| column == Note && self.used > *columns) {
                wrap_note(to, from, start, columns);
            }
        }
        to.put_u8(b'\n');
    }

    /// Writes a cell, and returns how many of its bytes take no room on a terminal.
    fn write(&mut self, to: &mut BytesMut, column: EventColumn, event: &Event, context: &mut Context) -> usize {
        let owner = event.owner.as_ref();
        match column {
            Time => self.clock.write(to, event.time_ns, context.wall, DECIMALS),
            Pid => or_dash(to, owner, |to, owner| number(to, owner.pid)),
            Command => or_dash(to, owner, |to, owner| put_printable(to, &owner.command.to_text())),
            By => to.put_slice(owner.map_or("unknown", |owner| owner.source.name()).as_bytes()),
            Uid => or_dash(to, owner, |to, owner| number(to, owner.uid)),
            Local => address(to, event.socket.local),
            Remote => address(to, event.socket.remote),
            OldState => to.put_slice(event.socket.state.name().as_bytes()),
            NewState => {
                let (words, style) = headline(event);
                let code = if self.color { style.code() } else { "" };
                let reset = if code.is_empty() { "" } else { RESET };
                [code, words[0], words[1], reset].into_iter().for_each(|part| to.put_slice(part.as_bytes()));
                return code.len() + reset.len();
            }
            InOld => {
                self.text.clear();
                time_in_old(&mut self.text, event);
                to.put_slice(self.text.as_bytes());
            }
            Note => self.note(to, event, context),
            EventColumn::Field(wanted) => field(to, wanted, event, context),
        }
        0
    }

    fn note(&self, to: &mut BytesMut, event: &Event, context: &mut Context) {
        let mut separator = "";
        note(event, &context.names, |words| {
            to.put_slice(std::mem::replace(&mut separator, ", ").as_bytes());
            let _ = to.write_fmt(words); // to memory
        });
        if self.wanted.contains(&By) {
            names_note(event, &mut context.names, |words| {
                to.put_slice(std::mem::replace(&mut separator, ", ").as_bytes());
                let _ = to.write_fmt(words); // to memory
            });
        }
    }
}

fn or_dash(to: &mut BytesMut, owner: Option<&Owner>, write: impl FnOnce(&mut BytesMut, &Owner)) {
    match owner {
        Some(owner) => write(to, owner),
        None => to.put_u8(b'-'),
    }
}

fn number(to: &mut BytesMut, number: u32) {
    to.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes a field as CSV has it, `-` if it is not known.
fn field(to: &mut BytesMut, wanted: Field, event: &Event, context: &mut Context) {
    let (mut text, mut time) = (Vec::new(), WallFormat::rfc3339());
    fields::visit(event, context, &mut |field, value: FieldValue<'_>| {
        if field == wanted {
            cell(&mut text, value, &mut time);
        }
    });
    put_printable(to, if text.is_empty() { "-" } else { str::from_utf8(&text).unwrap_or("-") });
}

/// Breaks the note that begins at byte `from` and column `start`; its further lines stand below its first one.
fn wrap_note(to: &mut BytesMut, from: usize, start: usize, columns: usize) {
    let text = String::from_utf8_lossy(&to[from..]).into_owned();
    if columns < start + LEAST {
        return; // what is left is too narrow to read
    }
    to.truncate(from);
    let wrapped = wrapped(&text, 0, Some(columns - start));
    to.put_slice(wrapped.replace('\n', &format!("\n{:start$}", "")).as_bytes());
}

/// Width of text that was written before.
fn width_of(text: &[u8]) -> usize {
    if text.is_ascii() { text.len() } else { width(&String::from_utf8_lossy(text)) }
}

/// Writes a name that a process chose, without control characters.
fn put_printable(to: &mut BytesMut, text: &str) {
    if is_plain(text) {
        to.put_slice(text.as_bytes());
    } else {
        let _ = write!(to, "{}", Printable(text)); // to memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_by_the_names_of_the_table_and_of_csv() {
        for name in EventColumn::names() {
            assert!(EventColumn::named(name).is_some_and(|column| column.shape().name == name), "{name}");
        }
        for field in Field::ALL {
            assert!(EventColumn::named(field.name()).is_some(), "{}", field.name());
        }
        assert_eq!(EventColumn::named("local-port"), Some(EventColumn::Field(Field::LocalPort)));
        assert_eq!(EventColumn::named("no-such"), None);
    }
}
