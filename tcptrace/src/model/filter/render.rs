//! Writes expressions as text that [`Expr::parse`] reads again.

use std::fmt::{self, Display};

use tcptrace_common::record::AF_INET;

use super::{
    expr::{Expr, NetnsId, Pattern, Test},
    fields::{End, Number, Which},
};
use crate::model::socket_filter::Prefix;

impl Display for Expr {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let join = |to: &mut fmt::Formatter<'_>, parts: &[Self], sign: &str| {
            parts.iter().enumerate().try_for_each(|(index, part)| {
                to.write_str(if index > 0 { sign } else { "" })?;
                match part {
                    Self::Test(_) | Self::Not(_) => part.fmt(to),
                    _ => write!(to, "({part})"),
                }
            })
        };
        match self {
            Self::All(parts) if parts.is_empty() => to.write_str("everything"),
            Self::Any(parts) if parts.is_empty() => to.write_str("nothing"),
            Self::All(parts) => join(to, parts, " && "),
            Self::Any(parts) => join(to, parts, " || "),
            Self::Not(inner) => write!(to, "!({inner})"),
            Self::Test(test) => test.fmt(to),
        }
    }
}

impl Display for Test {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(which, states) => {
                let name = match which {
                    Which::Either => "state",
                    Which::Old => "old",
                    Which::New => "new",
                };
                list(to, name, states.iter())
            }
            Self::Port(end, ranges) => match ranges.as_slice() {
                [] => write!(to, "{} < 1", port(*end)),
                [(1, last)] if *last > 1 && *last < u16::MAX => write!(to, "{} <= {last}", port(*end)),
                [(first, u16::MAX)] if *first < u16::MAX => write!(to, "{} >= {first}", port(*end)),
                _ => list(to, port(*end), ranges.iter().map(|range| Range(*range))),
            },
            Self::Address(end, prefixes) => list(to, address(*end), prefixes.iter()),
            Self::Endpoint(end, places) => {
                list(to, address(*end), places.iter().map(|(prefix, range)| Endpoint(*prefix, Range(*range))))
            }
            Self::Family(family) => write!(to, "family == {}", if *family == AF_INET { "ipv4" } else { "ipv6" }),
            Self::Netns(wanted) => list(to, "netns", wanted.iter()),
            Self::Number(number, ranges) => numbers(to, *number, ranges),
            Self::Text(text, pattern) => match pattern {
                Pattern::Is(values) => list(to, text.name(), values.iter().map(|value| Quoted(value))),
                Pattern::Matches(regex) => write!(to, "{} =~ {}", text.name(), Quoted(regex.as_str())),
                Pattern::Below(paths) => {
                    write!(to, "{} in ", text.name())?;
                    braces(to, paths.iter().map(|path| Quoted(path)))
                }
            },
            Self::Event(events) => list(to, "event", events.iter().map(|event| event.name())),
            Self::Finding(ids) => list(to, "finding", ids.iter()),
            Self::Severity(levels) => match levels.as_slice() {
                [] => to.write_str("severity < info"),
                _ => list(to, "severity", levels.iter().map(|level| level.name())),
            },
        }
    }
}

const fn port(end: End) -> &'static str {
    match end {
        End::Either => "port",
        End::Local => "lport",
        End::Remote => "rport",
    }
}

const fn address(end: End) -> &'static str {
    match end {
        End::Either => "addr",
        End::Local => "laddr",
        End::Remote => "raddr",
    }
}

fn list<T: Display>(to: &mut fmt::Formatter<'_>, name: &str, values: impl Iterator<Item = T>) -> fmt::Result {
    let mut values = values.peekable();
    let Some(first) = values.next() else { return write!(to, "{name} in {{}}") };
    if values.peek().is_none() {
        return write!(to, "{name} == {first}");
    }
    write!(to, "{name} in ")?;
    braces(to, std::iter::once(first).chain(values))
}

fn braces<T: Display>(to: &mut fmt::Formatter<'_>, values: impl Iterator<Item = T>) -> fmt::Result {
    to.write_str("{")?;
    for (index, value) in values.enumerate() {
        write!(to, "{}{value}", if index > 0 { ", " } else { "" })?;
    }
    to.write_str("}")
}

fn numbers(to: &mut fmt::Formatter<'_>, number: Number, ranges: &[(u64, u64)]) -> fmt::Result {
    const MS: u64 = 1_000_000;
    let name = number.name();
    let value = |value: u64| Amount(value, number);
    let is_time = number.is_time();
    match ranges {
        [] => write!(to, "{name} < {}", value(0)),
        [(first, u64::MAX)] if is_time && first % MS == 1 => write!(to, "{name} > {}", value(first - 1)),
        [(first, u64::MAX)] => write!(to, "{name} >= {}", value(*first)),
        [(0, last)] if is_time && last % MS == MS - 1 => write!(to, "{name} < {}", value(last + 1)),
        [(0, last)] if *last > 0 => write!(to, "{name} <= {}", value(*last)),
        _ => list(
            to,
            name,
            ranges.iter().map(|(first, last)| {
                if first == last { value(*first).to_string() } else { format!("{}-{}", value(*first), value(*last)) }
            }),
        ),
    }
}

/// A number with its unit.
struct Amount(u64, Number);

impl Display for Amount {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 6] = [
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
            (1, "ns"),
        ];
        let Self(value, number) = *self;
        match UNITS.iter().find(|(unit, _)| value % unit == 0) {
            Some((unit, name)) if number.is_time() && value > 0 => write!(to, "{}{name}", value / unit),
            _ => value.fmt(to),
        }
    }
}

struct Range((u16, u16));

impl Display for Range {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = self.0;
        if first == last { first.fmt(to) } else { write!(to, "{first}-{last}") }
    }
}

struct Endpoint(Prefix, Range);

impl Display for Endpoint {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(prefix, port) = self;
        let text = prefix.to_string();
        if text.contains(':') { write!(to, "[{text}]:{port}") } else { write!(to, "{text}:{port}") }
    }
}

/// A text in quotes.
struct Quoted<'a>(&'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "\"{}\"", self.0.replace('"', "\\\""))
    }
}

impl Display for NetnsId {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inode(inode) => inode.fmt(to),
            Self::Name(name) => Quoted(name).fmt(to),
        }
    }
}
