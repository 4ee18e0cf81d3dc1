//! A problem as a rule detects it at one moment, with its evidence and examples.

use std::net::SocketAddr;

use crate::{
    findings::{
        cause::Cause,
        kind::{Kind, Severity},
    },
    model::{
        age::Age,
        event::{Owner, Peer, ProcessId},
        holders::Holder,
        keyed::KeyedMap,
        state::State,
    },
    table::{Connection, Facts, Table},
};

/// The service or destination of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A listener on this host and its connections.
    Local(SocketAddr),
    /// The destination of connections from this host.
    Remote(SocketAddr),
    /// Connections from a local address (port 0) to a destination.
    Path(SocketAddr, SocketAddr),
    /// More than eight services or destinations, reported together.
    Several,
}

impl Subject {
    /// The local and the remote end, if the subject has them.
    #[must_use]
    pub const fn ends(self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        match self {
            Self::Local(local) => (Some(local), None),
            Self::Remote(remote) => (None, Some(remote)),
            Self::Path(local, remote) => (Some(local), Some(remote)),
            Self::Several => (None, None),
        }
    }
}

/// The value of a piece of evidence. The end of its name is its unit, e.g. `idle_ns`.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not known.
    Unknown,
    /// A count, bytes, or a time in ns.
    Number(u64),
    /// A rate or share.
    Ratio(f64),
    /// A boolean.
    Flag(bool),
    /// A name out of a fixed list.
    Name(&'static str),
    /// Text that comes from the host, such as a command name; not safe to print as it is.
    Text(String),
}

impl<T: Into<u64>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, |value| Self::Number(value.into()))
    }
}

/// A socket that has the problem.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The kernel's socket cookie.
    pub cookie: Option<u64>,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// The state, or the last one before the socket ended.
    pub state: State,
    /// Time in the state; `None` if the socket has ended.
    pub age: Option<Age>,
    /// Facts from the last listing.
    pub facts: Option<Box<Facts>>,
    /// The processes that hold it; empty if there are none or they are not known.
    pub holders: Vec<Holder>,
    /// The process at the other end, if that is on this host and known.
    pub peer: Option<Peer>,
}

impl Example {
    /// Makes an example of a live socket.
    #[must_use]
    pub fn of(known: &Connection, table: &Table, now_ns: u64) -> Self {
        let holders = table.holders_of(known).unwrap_or_default();
        Self {
            cookie: known.cookie(),
            local: known.local(),
            remote: known.remote(),
            state: known.state,
            age: Some(Age { ns: now_ns.saturating_sub(known.since_ns), source: known.since }),
            facts: known.facts().copied().map(Box::new),
            holders: holders.iter().take(MAX_HOLDERS).copied().collect(),
            peer: table.peer_of(known),
        }
    }
}

/// Most examples of a detection, unless more live sockets are wanted (`Thresholds::examples`).
pub(super) const MAX_EXAMPLES: usize = 5;
/// Most holders of an example.
const MAX_HOLDERS: usize = 8;

/// A problem with one subject, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// The kind of problem.
    pub kind: Kind,
    /// How serious it is.
    pub severity: Severity,
    /// Network namespace by inode number; `None` if not known.
    pub netns: Option<u32>,
    /// The process responsible: of several, the one with the most sockets. `None` if not known.
    pub owner: Option<Owner>,
    /// All processes involved.
    pub processes: Processes,
    /// The service or destination.
    pub subject: Subject,
    /// Number of affected sockets or failed connections.
    pub count: u64,
    /// How long the oldest socket has been in its state.
    pub oldest: Option<Age>,
    /// The facts that prove it, by name.
    pub evidence: Vec<(&'static str, Value)>,
    /// A few of the affected sockets.
    pub examples: Vec<Example>,
    /// The cause, as far as the evidence proves it.
    pub cause: Cause,
    /// True if no more evidence is expected. Otherwise the tracker waits a moment before it reports the problem.
    pub is_settled: bool,
    /// True if the filter shows any of the sockets or failures.
    pub is_shown: bool,
}

impl Detection {
    /// A detection without evidence, examples and times.
    pub(super) fn new(kind: Kind, severity: Severity, cause: Cause, netns: Option<u32>, subject: Subject) -> Self {
        Self {
            kind,
            severity,
            netns,
            owner: None,
            processes: Processes::default(),
            subject,
            count: 0,
            oldest: None,
            evidence: Vec::new(),
            examples: Vec::new(),
            cause,
            is_settled: true,
            is_shown: true,
        }
    }

    pub(super) fn with(mut self, evidence: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        self.evidence.extend(evidence);
        self
    }
}

/// Processes, with the number of sockets or failures of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    counts: KeyedMap<ProcessId, (Owner, u64)>,
    /// True if there are more processes than are counted.
    pub is_more: bool,
}

/// Most processes of a detection that are counted.
const MAX_PROCESSES: usize = 256;

impl Processes {
    /// Adds `count` sockets or failures of a process.
    pub fn add(&mut self, owner: Option<Owner>, count: u64) {
        let Some(owner) = owner else { return };
        if self.counts.len() >= MAX_PROCESSES && !self.counts.contains_key(&owner.id()) {
            self.is_more = true;
            return;
        }
        self.counts.entry(owner.id()).or_insert((owner, 0)).1 += count;
    }

    /// Adds the processes of another detection.
    pub fn merge(&mut self, other: &Self) {
        self.is_more |= other.is_more;
        other.counts.values().for_each(|(owner, count)| self.add(Some(*owner), *count));
    }

    /// The number of processes; a lower bound if [`Processes::is_more`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// True if no process is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The processes with their counts, the highest first.
    #[must_use]
    pub fn most(&self) -> Vec<(Owner, u64)> {
        let mut all: Vec<_> = self.counts.values().copied().collect();
        all.sort_unstable_by_key(|(owner, count)| (std::cmp::Reverse(*count), owner.pid));
        all
    }
}
