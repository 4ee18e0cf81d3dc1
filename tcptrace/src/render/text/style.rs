//! Emphasis on a terminal, and how ends of connections are written.

use std::{fmt::Write as _, net::SocketAddr};

use bytes::{BufMut, BytesMut};

use crate::{model::event_kind::Tone, render::fields};

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
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "\x1b[1m",
            Self::Attention => "\x1b[33m",
            Self::Trouble => "\x1b[31m",
        }
    }
}

pub(super) const RESET: &str = "\x1b[0m";

/// One end of a connection; `*` stands for no port, as in ss.
pub(crate) struct Address(pub(crate) SocketAddr);

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::new();
        address(&mut text, self.0);
        f.pad(&String::from_utf8_lossy(&text))
    }
}

pub(super) fn address(to: &mut impl BufMut, end: SocketAddr) {
    let (open, close): (&[u8], &[u8]) = if end.is_ipv6() { (b"[", b"]:") } else { (b"", b":") };
    to.put_slice(open);
    fields::ip(to, end.ip());
    to.put_slice(close);
    match end.port() {
        0 => to.put_u8(b'*'),
        port => to.put_slice(itoa::Buffer::new().format(port).as_bytes()),
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

/// Removes spaces at the end of the line that begins at byte `from`.
pub(crate) fn trim_end(to: &mut BytesMut, from: usize) {
    let end = to[from..].iter().rposition(|byte| *byte != b' ').map_or(from, |last| from + last + 1);
    to.truncate(end);
}
