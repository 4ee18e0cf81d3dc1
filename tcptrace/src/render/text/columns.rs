//! The columns of the table of events.

use std::{fmt::Write as _, net::SocketAddr};

use bytes::{BufMut, BytesMut};

use crate::{
    model::{
        event::Owner,
        event_kind::Tone,
        printable::{Printable, is_plain},
        state::State,
    },
    render::fields,
};

/// Emphasis of text on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Heading,
    Attention,
    Trouble,
}

impl From<Tone> for Style {
    fn from(tone: Tone) -> Self {
        match tone {
            Tone::Plain => Self::Plain,
            Tone::Attention => Self::Attention,
            Tone::Trouble => Self::Trouble,
        }
    }
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "\x1b[1m",
            Self::Attention => "\x1b[33m",
            Self::Trouble => "\x1b[31m",
        }
    }
}

const RESET: &str = "\x1b[0m";

/// One end of a connection; `*` stands for no port, as in ss.
pub(crate) struct Address(pub(super) SocketAddr);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        address(&mut text, self.0);
        f.pad(&String::from_utf8_lossy(&text))
    }
}

fn address(to: &mut Vec<u8>, end: SocketAddr) {
    let (open, close): (&[u8], &[u8]) = if end.is_ipv6() { (b"[", b"]:") } else { (b"", b":") };
    to.put_slice(open);
    fields::ip(to, end.ip());
    to.put_slice(close);
    match end.port() {
        0 => to.put_u8(b'*'),
        port => to.put_slice(itoa::Buffer::new().format(port).as_bytes()),
    }
}

/// Width of `255.255.255.255:65535`.
const ADDRESS_WIDTH: usize = 21;

/// Width of most UIDs; containers and directory services use up to ten digits.
const UID_WIDTH: usize = 6;

/// The columns of a line of the event table, as wide as the widest addresses and UIDs so far.
pub(crate) struct Columns {
    color: bool,
    owner_columns: bool,
    /// Local and remote end of the line.
    ends: [Vec<u8>; 2],
    widths: [usize; 2],
    uid: usize,
    duration: String,
    heading_written: bool,
}

impl Columns {
    pub(crate) fn new(color: bool, owner_columns: bool) -> Self {
        let (ends, widths, uid) = (Default::default(), [ADDRESS_WIDTH; 2], UID_WIDTH);
        Self { color, owner_columns, ends, widths, uid, duration: String::new(), heading_written: false }
    }

    /// Widens the columns for this event, and writes the heading if it is missing or no longer fits.
    pub(crate) fn fit(&mut self, to: &mut BytesMut, ends: [SocketAddr; 2], owner: Option<&Owner>) {
        let uid = owner.filter(|_| self.owner_columns).map_or(0, |owner| owner.uid.checked_ilog10().unwrap_or(0) + 1);
        let mut fits = self.heading_written && uid as usize <= self.uid;
        self.uid = self.uid.max(uid as usize);
        for ((text, width), end) in self.ends.iter_mut().zip(&mut self.widths).zip(ends) {
            text.clear();
            address(text, end);
            fits &= text.len() <= *width;
            *width = text.len().max(*width);
        }
        if !fits {
            self.heading(to);
        }
    }

    /// Writes the heading.
    pub(super) fn heading(&mut self, to: &mut BytesMut) {
        self.heading_written = true;
        let owner =
            if self.owner_columns { format!(" {:<8} {:>u$}", "BY", "UID", u = self.uid) } else { String::new() };
        let heading = format!(
            "{:<15} {:>7} {:<15}{owner} {:<l$} {:<r$} {:<11}    {:<13} {:>9} NOTE",
            "TIME",
            "PID",
            "COMMAND",
            "LOCAL",
            "REMOTE",
            "OLD STATE",
            "NEW STATE",
            "IN OLD",
            l = self.widths[0],
            r = self.widths[1],
        );
        styled(to, &heading, Style::Heading, self.color);
        to.put_u8(b'\n');
    }

    // With many events, writing lines is most of the work. So nothing is allocated for a line, and formatting is avoided.

    pub(crate) fn time(&self, to: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        let from = to.len();
        write(to);
        fill(to, from, 16);
    }

    pub(crate) fn owner(&self, to: &mut BytesMut, owner: Option<&Owner>) {
        let (mut pid, mut uid) = (itoa::Buffer::new(), itoa::Buffer::new());
        right(to, owner.map_or("-", |owner| pid.format(owner.pid)), 7);
        to.put_u8(b' ');
        let from = to.len();
        match owner {
            Some(owner) => put_printable(to, &owner.command.to_text()),
            None => to.put_u8(b'-'),
        }
        fill(to, from, 15);
        to.put_u8(b' ');
        if self.owner_columns {
            left(to, owner.map_or("unknown", |owner| owner.source.name()).as_bytes(), 9);
            right(to, owner.map_or("-", |owner| uid.format(owner.uid)), self.uid);
            to.put_u8(b' ');
        }
    }

    pub(crate) fn addresses(&self, to: &mut BytesMut) {
        for (text, width) in self.ends.iter().zip(self.widths) {
            left(to, text, width + 1);
        }
    }

    pub(crate) fn states(&self, to: &mut BytesMut, state: State, what: [&str; 2], style: Style) {
        left(to, state.name().as_bytes(), 12);
        let code = if self.color { style.code() } else { "" };
        to.put_slice(code.as_bytes());
        let from = to.len();
        what.into_iter().for_each(|part| to.put_slice(part.as_bytes()));
        fill(to, from, 16);
        to.put_slice(if code.is_empty() { b"" } else { RESET.as_bytes() });
    }

    pub(crate) fn duration(&mut self, to: &mut BytesMut, write: impl FnOnce(&mut String)) {
        self.duration.clear();
        write(&mut self.duration);
        right(to, &self.duration, 10);
    }
}

/// Removes spaces at the end of a line without a note.
pub(crate) fn trim_end(to: &mut BytesMut) {
    let end = to.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    to.truncate(end);
}

/// Number of characters in UTF-8.
fn width(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
}

/// Pads the text that was written since `from` with spaces.
fn fill(to: &mut BytesMut, from: usize, to_width: usize) {
    let spaces = to_width.saturating_sub(width(&to[from..]));
    to.put_bytes(b' ', spaces);
}

fn left(to: &mut BytesMut, text: &[u8], width: usize) {
    let from = to.len();
    to.put_slice(text);
    fill(to, from, width);
}

fn right(to: &mut BytesMut, text: &str, to_width: usize) {
    to.put_bytes(b' ', to_width.saturating_sub(width(text.as_bytes())));
    to.put_slice(text.as_bytes());
}

/// Writes a name that a process chose, without control characters.
fn put_printable(to: &mut BytesMut, text: &str) {
    if is_plain(text) {
        to.put_slice(text.as_bytes());
    } else {
        let _ = write!(to, "{}", Printable(text)); // to memory
    }
}

/// Writes `text`, in colour if `color` is set.
pub(crate) fn styled(to: &mut BytesMut, text: &str, style: Style, color: bool) {
    if color && style != Style::Plain {
        let _ = write!(to, "{}{text}{RESET}", style.code());
    } else {
        to.put_slice(text.as_bytes());
    }
}
