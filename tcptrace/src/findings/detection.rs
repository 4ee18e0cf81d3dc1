//! A trouble as it is now.

use std::net::SocketAddr;

use crate::{
    findings::{
        cause::Cause,
        kind::{Kind, Severity},
    },
    model::{
        age::Age,
        event::{Owner, ProcessId},
        holders::Holder,
        keyed::KeyedMap,
        state::State,
    },
    table::{Connection, Facts},
};

/// What a trouble is about, besides its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A listener of this host, or the connections that came through it.
    Local(SocketAddr),
    /// Where connections of this host go.
    Remote(SocketAddr),
    /// Connections from a local address (port 0) to a destination.
    Path(SocketAddr, SocketAddr),
    /// More than eight of them, told of together.
    Several,
}

impl Subject {
    /// Its local and its remote end, where it has them.
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

/// A piece of evidence. The name that it stands under tells the unit.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Not known.
    Unknown,
    /// A count, bytes, or a time in ns.
    Number(u64),
    /// A rate or share.
    Ratio(f64),
    /// Yes or no.
    Flag(bool),
    /// A name of a fixed list.
    Name(&'static str),
    /// Text of this host.
    Text(String),
}

impl<T: Into<u64>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, |value| Self::Number(value.into()))
    }
}

/// A socket that shows the trouble.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Its lasting name.
    pub cookie: Option<u64>,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// State, the last one where it has ended.
    pub state: State,
    /// How long it has been in the state; `None` where it has ended.
    pub age: Option<Age>,
    /// What a listing showed of it.
    pub facts: Option<Box<Facts>>,
    /// Who holds it; empty where nobody does, or nothing told.
    pub holders: Vec<Holder>,
}

impl Example {
    /// A socket of the table.
    #[must_use]
    pub fn of(known: &Connection, holders: &[Holder], now_ns: u64) -> Self {
        Self {
            cookie: known.cookie(),
            local: known.local(),
            remote: known.remote(),
            state: known.state,
            age: Some(Age { ns: now_ns.saturating_sub(known.since_ns), source: known.since }),
            facts: known.facts().copied().map(Box::new),
            holders: holders.iter().take(MAX_HOLDERS).copied().collect(),
        }
    }
}

/// Examples of a sighting at most.
pub(super) const MAX_EXAMPLES: usize = 5;
/// Holders of an example at most.
const MAX_HOLDERS: usize = 8;

/// A trouble at one place, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Sighting {
    /// Which trouble.
    pub kind: Kind,
    /// How much it matters.
    pub severity: Severity,
    /// Network namespace, `None` where it is not known.
    pub netns: Option<u32>,
    /// The process responsible, `None` where it is not known. Of several it is the one with the most sockets.
    pub owner: Option<Owner>,
    /// All processes concerned.
    pub processes: Processes,
    /// What it is about.
    pub subject: Subject,
    /// Sockets in trouble, or connections that failed.
    pub count: u64,
    /// How long the oldest has been in its state.
    pub oldest: Option<Age>,
    /// Facts that prove it, by name.
    pub evidence: Vec<(&'static str, Value)>,
    /// Sockets that show it.
    pub examples: Vec<Example>,
    /// Why it is there, as far as the evidence proves it.
    pub cause: Cause,
    /// Is all evidence at hand that will be? Else it is waited for, a moment.
    pub is_settled: bool,
    /// Does the filter show any of its sockets or failures?
    pub is_shown: bool,
}

impl Sighting {
    /// A sighting without evidence, examples and times.
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
    /// Were there more than are kept apart?
    pub is_more: bool,
}

/// Processes of a sighting that are kept apart at most.
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

    /// Adds those of another sighting.
    pub fn merge(&mut self, other: &Self) {
        self.is_more |= other.is_more;
        other.counts.values().for_each(|(owner, count)| self.add(Some(*owner), *count));
    }

    /// How many there are; with [`Processes::is_more`] at least so many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.len()
    }

    /// Is none known?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// The processes with their counts, those with the most first.
    #[must_use]
    pub fn most(&self) -> Vec<(Owner, u64)> {
        let mut all: Vec<_> = self.counts.values().copied().collect();
        all.sort_unstable_by_key(|(owner, count)| (std::cmp::Reverse(*count), owner.pid));
        all
    }
}
