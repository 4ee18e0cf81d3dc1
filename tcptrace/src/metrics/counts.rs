//! Counters by owner, of which there are a bounded number.

use std::hash::Hash;

use rustc_hash::FxHashMap;
use tcptrace_common::state::came_in;

use super::{Settings, snapshot::Labels};
use crate::{
    event::{Command, Event, Owner, OwnerSource, What},
    render::Names,
    state::State,
    table::{Connection, Table},
};

/// A series that did not change for so long, in ns, makes room for others, when there is none.
const IDLE_NS: u64 = 3_600_000_000_000;

/// Whose a count is, as far as that is wanted and known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whose {
    /// Of this owner and service.
    Of(Option<Command>, Option<u64>, Option<u16>),
    /// Of all for which there is no room.
    Other,
}

impl Whose {
    pub(super) fn new(settings: &Settings, owner: Option<&Owner>, port: Option<u16>) -> Self {
        Self::Of(
            // To Prometheus an empty label is none.
            owner.map(|owner| owner.command).filter(|name| settings.by_process && !name.as_bytes().is_empty()),
            owner.map(|owner| owner.cgroup).filter(|id| settings.by_cgroup && *id != 0),
            port.filter(|_| settings.by_local_port),
        )
    }

    /// Its labels behind those in `labels`. A cgroup whose path is not known has its id.
    pub(super) fn labels(self, mut labels: Labels, settings: &Settings, names: &mut Names) -> Labels {
        let mut cgroup = |id: u64| names.cgroup(id).map_or_else(|| format!("id:{id}"), str::to_owned);
        let values = match self {
            Self::Of(command, id, port) => [
                command.map(|command| command.to_text().into_owned()),
                id.map(&mut cgroup),
                port.map(|port| port.to_string()),
            ],
            Self::Other => [settings.by_process, settings.by_cgroup, settings.by_local_port]
                .map(|is_wanted| is_wanted.then(|| "other".to_owned())),
        };
        let named = super::families::OWNER_LABELS.into_iter().zip(values);
        labels.extend(named.filter_map(|(name, value)| Some((name, value?.into()))));
        labels
    }
}

#[derive(Clone, Copy, Debug)]
struct Count {
    count: u64,
    start_unix_ns: u64,
    changed_ns: u64,
}

/// Counters by owner and `K`, which has few values.
#[derive(Debug)]
pub(super) struct Counts<K> {
    counts: FxHashMap<(Whose, K), Count>,
    max: usize,
    overflow: u64,
    /// From when on a new series counts.
    start_unix_ns: u64,
}

impl<K: Copy + Eq + Hash> Counts<K> {
    pub(super) fn new(max: usize, start_unix_ns: u64) -> Self {
        Self { counts: FxHashMap::default(), max, overflow: 0, start_unix_ns }
    }

    /// Counts one more.
    pub(super) fn add(&mut self, whose: Whose, what: K, now_ns: u64) {
        let mut key = (whose, what);
        if self.counts.len() >= self.max && !self.counts.contains_key(&key) {
            self.overflow += 1;
            key.0 = Whose::Other;
        }
        let new = Count { count: 0, start_unix_ns: self.start_unix_ns, changed_ns: now_ns };
        let count = self.counts.entry(key).or_insert(new);
        count.count += 1;
        count.changed_ns = now_ns;
    }

    /// Makes room, if there is none, by leaving out what was idle for long.
    pub(super) fn make_room(&mut self, now_ns: u64, now_unix_ns: u64) {
        if self.counts.len() < self.max {
            return;
        }
        self.counts.retain(|_, count| now_ns.saturating_sub(count.changed_ns) < IDLE_NS);
        self.start_unix_ns = now_unix_ns;
    }

    /// All of them with when they began.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Whose, K, u64, u64)> {
        self.counts.iter().map(|(&(whose, what), count)| (whose, what, count.start_unix_ns, count.count))
    }

    /// How often there was no room.
    pub(super) const fn overflow(&self) -> u64 {
        self.overflow
    }
}

/// The ports at which services listen, or did. Which end of a connection is the service is not in each event; but a port
/// that nobody ever listened at is an ephemeral one.
#[derive(Debug)]
pub(super) struct Services(Box<[u64; 1024]>);

impl Default for Services {
    fn default() -> Self {
        Self(Box::new([0; 1024]))
    }
}

impl Services {
    fn learn(&mut self, port: u16) {
        self.0[usize::from(port / 64)] |= 1 << (port % 64);
    }

    fn has(&self, port: u16) -> bool {
        port != 0 && self.0[usize::from(port / 64)] & 1 << (port % 64) != 0
    }

    /// Learns the listeners of a table.
    pub(super) fn learn_all(&mut self, table: &Table) {
        let listeners = table.all().filter(|known| known.state == State::Listen);
        listeners.for_each(|known| self.learn(known.local().port()));
    }

    /// The local port of an event, if it is a service's.
    pub(super) fn port_of(&mut self, event: &Event) -> Option<u16> {
        let (port, source) = (event.socket.local.port(), event.owner.map(|owner| owner.source));
        let (is_service, is_client) = match event.what {
            What::Transition(change) => (
                change.old == State::Listen
                    || change.new == State::Listen
                    || came_in(change.old as u8, event.socket.flags),
                change.old == State::SynSent || change.new == State::SynSent,
            ),
            What::SynAckRetransmit { .. } => (true, false),
            _ => (false, false),
        };
        if is_service || matches!(source, Some(OwnerSource::Listen | OwnerSource::Listener | OwnerSource::Accept)) {
            self.learn(port);
        }
        let is_client = is_client || source == Some(OwnerSource::Connect);
        (!is_client && self.has(port)).then_some(port)
    }

    /// The same of a socket of the table.
    pub(super) fn port(&self, known: &Connection) -> Option<u16> {
        let is_client = known.creator().is_some_and(|creator| creator.source == OwnerSource::Connect);
        let port = known.local().port();
        (!is_client && self.has(port)).then_some(port)
    }
}
