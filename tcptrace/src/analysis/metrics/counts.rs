//! Counters by owner, of which there are a bounded number.

use std::hash::Hash;

use tcptrace_common::state::is_passive_open;

use super::snapshot::Labels;
use crate::{
    analysis::metrics::settings::Settings,
    model::{
        event::{Command, Event, EventKind, Owner, OwnerSource},
        keyed::KeyedMap,
        names::Names,
        state::State,
    },
    table::{Connection, Table},
};

/// Where there is no room, one in so many of the series makes some.
const MAKES_ROOM: usize = 16;

/// Whose a count is, as far as that is wanted and known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OwnerLabels {
    /// Of this owner and service.
    Of(Option<Command>, Option<u64>, Option<u16>),
    /// Of all for which there is no room.
    Other,
}

impl OwnerLabels {
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

/// Counters by owner and `K`, which has few values. The owners of whom nothing was counted for the longest time make room
/// for others: what was counted of them goes to [`OwnerLabels::Other`], so that no sum falls.
#[derive(Debug)]
pub(super) struct Counts<K> {
    counts: KeyedMap<(OwnerLabels, K), Count>,
    /// Those of owners at most.
    max: usize,
    /// How many of them are of [`OwnerLabels::Other`].
    others: usize,
    overflow: u64,
    /// From when on a new series counts.
    start_unix_ns: u64,
    has_made_room: bool,
}

impl<K: Copy + Eq + Hash> Counts<K> {
    pub(super) fn new(max: usize, start_unix_ns: u64) -> Self {
        Self { counts: KeyedMap::default(), max, others: 0, overflow: 0, start_unix_ns, has_made_room: false }
    }

    /// Counts one more.
    pub(super) fn add(&mut self, whose: OwnerLabels, what: K, now_ns: u64) {
        let key = (whose, what);
        if self.counts.len() - self.others >= self.max && !self.counts.contains_key(&key) {
            self.make_room(whose);
        }
        self.count(key, 1, now_ns);
    }

    fn count(&mut self, key: (OwnerLabels, K), more: u64, now_ns: u64) {
        let new = Count { count: 0, start_unix_ns: self.start_unix_ns, changed_ns: now_ns };
        let before = self.counts.len();
        let count = self.counts.entry(key).or_insert(new);
        count.count += more;
        count.changed_ns = count.changed_ns.max(now_ns);
        self.others += usize::from(key.0 == OwnerLabels::Other && self.counts.len() > before);
    }

    /// The owners that were idle for the longest time leave, with all that was counted of them, but not this one.
    fn make_room(&mut self, newest: OwnerLabels) {
        let mut used: KeyedMap<OwnerLabels, u64> = KeyedMap::default();
        for ((whose, _), count) in &self.counts {
            let used_ns = used.entry(*whose).or_default();
            *used_ns = count.changed_ns.max(*used_ns);
        }
        let mut idle: Vec<_> =
            used.into_iter().filter(|(whose, _)| ![OwnerLabels::Other, newest].contains(whose)).collect();
        idle.sort_unstable_by_key(|(_, used_ns)| *used_ns);
        let least = self.max - (self.max / MAKES_ROOM).max(1);
        for (whose, used_ns) in idle {
            if self.counts.len() - self.others <= least {
                break;
            }
            let left: Vec<_> = self.counts.extract_if(|(other, _), _| *other == whose).collect();
            for ((_, what), count) in left {
                self.overflow += count.count;
                self.count((OwnerLabels::Other, what), count.count, used_ns);
            }
        }
        self.has_made_room = true;
    }

    /// To be called at each snapshot: what comes back later had left since this one, or before.
    pub(super) const fn is_shown(&mut self, now_unix_ns: u64) {
        if self.has_made_room {
            self.start_unix_ns = now_unix_ns;
        }
    }

    /// All of them with when they began.
    pub(super) fn iter(&self) -> impl Iterator<Item = (OwnerLabels, K, u64, u64)> {
        self.counts.iter().map(|(&(whose, what), count)| (whose, what, count.start_unix_ns, count.count))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// How much is counted of those that made room.
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
            EventKind::Transition(change) => (
                change.old == State::Listen
                    || change.new == State::Listen
                    || is_passive_open(change.old as u8, event.socket.flags),
                change.old == State::SynSent || change.new == State::SynSent,
            ),
            EventKind::SynAckRetransmit { .. } => (true, false),
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
