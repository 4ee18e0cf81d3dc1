//! Decides whether something matches an expression.

use std::net::{IpAddr, SocketAddr};

use tcptrace_common::record::{AF_INET, AF_INET6};

use super::{
    expr::{Expr, NetnsId, Pattern, Test},
    fields::{End, EventName, Level, Number, Text, Which},
};
use crate::model::{
    event::{Command, StartTicks},
    socket_filter::Prefix,
    state::{State, StateSet},
};

/// What is known about a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Its value.
    Exactly(u64),
    /// A lower bound.
    AtLeast(u64),
    /// Nothing.
    Unknown,
}

impl From<Option<u64>> for Known {
    fn from(value: Option<u64>) -> Self {
        value.map_or(Self::Unknown, Self::Exactly)
    }
}

/// A process that a socket belongs to, or may belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// PID in the initial PID namespace.
    pub pid: u32,
    /// Start time, if known.
    pub start: Option<StartTicks>,
    /// UID in the initial user namespace, if known.
    pub uid: Option<u32>,
    /// Id of its cgroup in the v2 hierarchy, if known.
    pub cgroup: Option<u64>,
    /// Command name, if known.
    pub command: Option<Command>,
}

/// What expressions are about: an event, a socket or a finding.
pub trait Subject {
    /// Which of these it is.
    fn event(&self) -> EventName;
    /// The states that it is about: of a transition both. `None` if unknown.
    fn states(&self) -> Option<StateSet>;
    /// The state left and the state entered, of a transition.
    fn change(&self) -> Option<(State, State)> {
        None
    }
    /// The local and the remote end; `None` for an end that it does not have. A local port of 0 is not known yet.
    fn ends(&self) -> [Option<SocketAddr>; 2];
    /// Inode number of the network namespace, if known.
    fn netns(&self) -> Option<u32>;
    /// A number other than those of processes.
    fn number(&self, number: Number) -> Known;
    /// Whether `test` is true of one of its processes; `None` if unknown. A test of the PID (`by_pid`) also gets the process
    /// whose listener accepted the connection.
    fn any_process(&self, by_pid: bool, test: &mut dyn FnMut(&Party) -> Option<bool>) -> Option<bool>;
    /// Kind and severity of a finding.
    fn finding(&self) -> Option<(&str, Level)> {
        None
    }
}

/// Finds the texts of a process and the names of namespaces.
pub trait Lookup {
    /// Whether `is_it` is true of one of the values that the process has for this field; `None` if these are unknown.
    fn any_text(&mut self, text: Text, process: &Party, is_it: &mut dyn FnMut(&str) -> bool) -> Option<bool>;
    /// The name of a network namespace, if it has one.
    fn netns_name(&self, inode: u32) -> Option<&str>;
}

/// Knows no texts but those in the subject itself.
#[derive(Clone, Copy, Debug)]
pub struct NoLookup;

impl Lookup for NoLookup {
    fn any_text(&mut self, _: Text, _: &Party, _: &mut dyn FnMut(&str) -> bool) -> Option<bool> {
        None
    }

    fn netns_name(&self, _: u32) -> Option<&str> {
        None
    }
}

impl Expr {
    /// Whether the subject matches; `None` if that is unknown (Kleene's logic).
    pub fn eval(&self, subject: &dyn Subject, lookup: &mut dyn Lookup) -> Option<bool> {
        match self {
            Self::Not(inner) => inner.eval(subject, lookup).map(|is_it| !is_it),
            Self::Test(test) => test.eval(subject, lookup),
            Self::All(parts) => fold(parts.iter().map(|part| part.eval(subject, lookup)), false),
            Self::Any(parts) => fold(parts.iter().map(|part| part.eval(subject, lookup)), true),
        }
    }

    /// True if the subject certainly matches.
    pub fn selects(&self, subject: &dyn Subject, lookup: &mut dyn Lookup) -> bool {
        self.eval(subject, lookup) == Some(true)
    }
}

/// `decisive` if any result is that; else unknown if any is; else the opposite.
fn fold(results: impl Iterator<Item = Option<bool>>, decisive: bool) -> Option<bool> {
    let mut all = Some(!decisive);
    for result in results {
        if result == Some(decisive) {
            return result;
        }
        all = all.and(result);
    }
    all
}

impl Test {
    fn eval(&self, subject: &dyn Subject, lookup: &mut dyn Lookup) -> Option<bool> {
        let at = |end: End, has: &dyn Fn(SocketAddr, bool) -> Option<bool>| {
            let [local, remote] = subject.ends();
            // An end that does not exist has neither address nor port.
            let one = |end: Option<SocketAddr>, is_local| end.map_or(Some(false), |end| has(end, is_local));
            match end {
                End::Local => one(local, true),
                End::Remote => one(remote, false),
                End::Either => fold([one(local, true), one(remote, false)].into_iter(), true),
            }
        };
        match self {
            Self::State(which, states) => match which {
                Which::Either => subject.states().map(|about| states.iter().any(|state| about.contains(state))),
                Which::Old => subject.change().map(|(old, _)| states.contains(old)),
                Which::New => subject.change().map(|(_, new)| states.contains(new)),
            },
            Self::Port(end, ranges) => at(*end, &|end, is_local| has_port(ranges, end.port(), is_local)),
            Self::Address(end, prefixes) => at(*end, &|end, _| Some(has_address(prefixes, end.ip()))),
            Self::Endpoint(end, places) => at(*end, &|end, is_local| {
                let results = places.iter().map(|(prefix, range)| {
                    fold(
                        [Some(prefix.contains(end.ip())), has_port(&[*range], end.port(), is_local)].into_iter(),
                        false,
                    )
                });
                fold(results, true)
            }),
            Self::Family(family) => shown_family(subject.ends()).map(|shown| shown == *family),
            Self::Netns(wanted) => subject.netns().map(|inode| {
                wanted.iter().any(|wanted| match wanted {
                    NetnsId::Inode(wanted) => *wanted == inode,
                    NetnsId::Name(wanted) => lookup.netns_name(inode) == Some(wanted),
                })
            }),
            Self::Number(number, ranges) if number.is_of_process() => {
                let is_pid = *number == Number::Pid;
                subject.any_process(is_pid, &mut |party| {
                    let value = if is_pid { Some(party.pid) } else { party.uid };
                    in_ranges(ranges, value.map(u64::from).into())
                })
            }
            Self::Number(number, ranges) => in_ranges(ranges, subject.number(*number)),
            Self::Text(text, pattern) => subject.any_process(false, &mut |party| match (text, party.command) {
                (Text::Comm, command) => command.map(|command| pattern.matches(&command.to_text())),
                _ => lookup.any_text(*text, party, &mut |text| pattern.matches(text)),
            }),
            Self::Event(events) => Some(events.contains(&subject.event())),
            Self::Finding(ids) => Some(subject.finding().is_some_and(|(id, _)| ids.iter().any(|wanted| wanted == id))),
            Self::Severity(levels) => Some(subject.finding().is_some_and(|(_, level)| levels.contains(&level))),
        }
    }
}

/// Whether a port is in one of the ranges. A local port of 0 is not known yet; a remote port of 0 is that of a listener, which
/// has no other end.
fn has_port(ranges: &[(u16, u16)], port: u16, is_local: bool) -> Option<bool> {
    let has = ranges.iter().any(|(first, last)| (*first..=*last).contains(&port));
    if is_local && port == 0 { None } else { Some(has) }
}

fn has_address(prefixes: &[Prefix], address: IpAddr) -> bool {
    prefixes.iter().any(|prefix| prefix.contains(address))
}

/// Counterpart of `Tuple::shown_family` in the BPF programs: IPv4 on an IPv6 socket is IPv4.
fn shown_family(ends: [Option<SocketAddr>; 2]) -> Option<u16> {
    let mut ends = ends.into_iter().flatten().peekable();
    ends.peek()?;
    Some(if ends.any(|end| end.is_ipv4()) { AF_INET } else { AF_INET6 })
}

/// Whether a number is in one of the ranges; unknown if that depends on how far it is above its lower bound.
fn in_ranges(ranges: &[(u64, u64)], value: Known) -> Option<bool> {
    match value {
        Known::Exactly(value) => Some(ranges.iter().any(|(first, last)| (*first..=*last).contains(&value))),
        Known::AtLeast(bound) if ranges.iter().any(|(first, last)| *first <= bound && *last == u64::MAX) => Some(true),
        Known::AtLeast(bound) if ranges.iter().all(|(_, last)| *last < bound) => Some(false),
        _ => None,
    }
}

impl Pattern {
    /// Whether a text is as wanted.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Is(values) => values.iter().any(|value| value == text),
            Self::Below(paths) => paths.iter().any(|path| {
                let below = text.strip_prefix(path.trim_end_matches('/'));
                below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            }),
            Self::Matches(regex) => regex.matches(text),
        }
    }
}
