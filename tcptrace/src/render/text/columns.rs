//! The columns of the table of events.

use std::{fmt::Write as _, net::SocketAddr};

use bytes::{BufMut, BytesMut};

use crate::{event::Owner, state::State};

/// How a line stands out on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::render) enum Style {
    Plain,
    Heading,
    Attention,
    Trouble,
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

/// An end of a connection; a port that is not chosen yet is `-`.
pub(super) struct Address(pub(super) SocketAddr);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0, self.0.port()) {
            (SocketAddr::V4(address), 0) => f.pad(&format!("{}:-", address.ip())),
            (SocketAddr::V6(address), 0) => f.pad(&format!("[{}]:-", address.ip())),
            (address, _) => f.pad(&address.to_string()),
        }
    }
}

/// Width of `255.255.255.255:65535`.
const ADDRESS_WIDTH: usize = 21;

/// Width of most UIDs; those of containers and directories have up to ten digits.
const UID_WIDTH: usize = 6;

/// The columns, as wide as the widest addresses and UIDs so far ask for.
pub(super) struct Columns {
    color: bool,
    owner_columns: bool,
    local: usize,
    remote: usize,
    uid: usize,
    heading_written: bool,
}

impl Columns {
    pub(super) fn new(color: bool, owner_columns: bool) -> Self {
        let (local, remote, uid) = (ADDRESS_WIDTH, ADDRESS_WIDTH, UID_WIDTH);
        Self { color, owner_columns, local, remote, uid, heading_written: false }
    }

    /// Makes room for the addresses and the owner, and writes the heading where it is missing or does not fit any more.
    pub(super) fn fit(&mut self, to: &mut BytesMut, local: &Address, remote: &Address, owner: Option<&Owner>) {
        let (local, remote) = (local.to_string().len(), remote.to_string().len());
        let uid = owner.filter(|_| self.owner_columns).map_or(0, |owner| owner.uid.to_string().len());
        if self.heading_written && local <= self.local && remote <= self.remote && uid <= self.uid {
            return;
        }
        self.heading_written = true;
        self.local = self.local.max(local);
        self.remote = self.remote.max(remote);
        self.uid = self.uid.max(uid);
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
            l = self.local,
            r = self.remote,
        );
        self.styled(to, &heading, Style::Heading);
        to.put_u8(b'\n');
    }

    fn styled(&self, to: &mut BytesMut, text: &str, style: Style) {
        styled(to, text, style, self.color);
    }

    // Writing to memory cannot fail, so what `write!` returns is dropped below.

    pub(super) fn time(&self, to: &mut BytesMut, time: &str) {
        let _ = write!(to, "{time:<15} ");
    }

    pub(super) fn owner(&self, to: &mut BytesMut, owner: Option<&Owner>) {
        let Some(owner) = owner else {
            let _ = write!(to, "{:>7} {:<15} ", "-", "-");
            if self.owner_columns {
                let _ = write!(to, "{:<8} {:>u$} ", "unknown", "-", u = self.uid);
            }
            return;
        };
        let _ = write!(to, "{:>7} {:<15} ", owner.pid, printable(&owner.command.to_text()));
        if self.owner_columns {
            let _ = write!(to, "{:<8} {:>u$} ", owner.source.name(), owner.uid, u = self.uid);
        }
    }

    pub(super) fn addresses(&self, to: &mut BytesMut, local: &Address, remote: &Address) {
        let _ = write!(to, "{local:<l$} {remote:<r$} ", l = self.local, r = self.remote);
    }

    pub(super) fn states(&self, to: &mut BytesMut, state: State, what: &str, style: Style) {
        let _ = write!(to, "{state:<11} ");
        self.styled(to, &format!("{what:<16}"), style);
    }

    pub(super) fn duration(&self, to: &mut BytesMut, duration: &str) {
        let _ = write!(to, " {duration:>9}");
    }

    pub(super) fn note(&self, to: &mut BytesMut, note: &str) {
        if note.is_empty() {
            let end = to.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
            to.truncate(end);
        } else {
            let _ = write!(to, " {note}");
        }
        to.put_u8(b'\n');
    }
}

/// Writes `text`, in colour where it is wanted.
pub(in crate::render) fn styled(to: &mut BytesMut, text: &str, style: Style, color: bool) {
    if color && style != Style::Plain {
        let _ = write!(to, "{}{text}{RESET}", style.code());
    } else {
        to.put_slice(text.as_bytes());
    }
}

/// A process names itself: what could steer a terminal is not printed.
pub(super) fn printable(text: &str) -> String {
    Printable(text).to_string()
}

/// The same, to be written in place.
pub(in crate::render) struct Printable<'a>(pub(in crate::render) &'a str);

impl std::fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return f.write_str(self.0);
        }
        let mut parts = self.0.split(char::is_control);
        f.write_str(parts.next().unwrap_or_default())?;
        parts.try_for_each(|part| write!(f, "?{part}"))
    }
}
