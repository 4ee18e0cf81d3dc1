//! Counters by owner, with a bounded number of series.

use std::hash::Hash;

use tcptrace_common::state::is_passive_open;

use super::snapshot::Labels;
use crate::{
    analysis::metrics::settings::Settings,
    model::{
        event::{Command, Event, EventKind, Owner, OwnerSource},
        keyed::KeyedMap,
        names::Names,
        place::Place,
        state::State,
    },
    table::{Connection, Table},
};

/// When the bound is reached, one in this many series is dropped.
const MAKES_ROOM: usize = 16;

/// The owner labels of a count, as far as wanted and known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OwnerLabels {
    /// An owner's command name and cgroup, and its service.
    Of(Option<Command>, Option<u64>, Option<u16>),
    /// All owners for which there is no room.
    Other,
}

impl OwnerLabels {
    pub(super) fn new(settings: &Settings, owner: Option<&Owner>, port: Option<u16>) -> Self {
        Self::Of(
            // Prometheus treats an empty label as a missing one.
            owner.map(|owner| owner.command).filter(|name| settings.by_process && !name.as_bytes().is_empty()),
            owner.map(|owner| owner.cgroup).filter(|id| settings.by_place() && *id != 0),
            port.filter(|_| settings.by_local_port),
        )
    }

    /// Appends these labels to `labels`. A cgroup with an unknown path is named by its id, and a container or pod without a
    /// name by its own.
    pub(super) fn labels(self, mut labels: Labels, settings: &Settings, names: &mut Names) -> Labels {
        let is_wanted = [
            settings.by_process,
            settings.by_cgroup,
            settings.by_unit,
            settings.by_container,
            settings.by_pod,
            settings.by_pod,
            settings.by_local_port,
        ];
        let values = match self {
            Self::Of(command, id, port) => {
                let place = id.and_then(|id| names.place_of_cgroup(id));
                let of_place = |name: fn(&Place) -> Option<&str>| place.and_then(name).map(str::to_owned);
                [
                    command.map(|command| command.to_text().into_owned()),
                    id.map(|id| place.map_or_else(|| format!("id:{id}"), |place| place.cgroup.to_string())),
                    of_place(Place::unit_name),
                    of_place(|place| place.container_name().or(place.short_container_id())),
                    of_place(Place::pod_namespace),
                    of_place(|place| place.pod_name().or(place.pod_uid())),
                    port.map(|port| port.to_string()),
                ]
            }
            Self::Other => [const { "other" }; 7].map(|other| Some(other.to_owned())),
        };
        let values = values.into_iter().zip(is_wanted).map(|(value, is_wanted)| value.filter(|_| is_wanted));
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

/// Counters by owner and `K`, which has few values. When there is no room, the owners that were idle longest are dropped, and
/// their counts move to [`OwnerLabels::Other`], so that sums do not fall.
#[derive(Debug)]
pub(super) struct Counts<K> {
    counts: KeyedMap<(OwnerLabels, K), Count>,
    /// Most series of owners.
    max: usize,
    /// Number of series with [`OwnerLabels::Other`].
    others: usize,
    overflow: u64,
    /// Start time of new series.
    start_unix_ns: u64,
    has_made_room: bool,
}

impl<K: Copy + Eq + Hash> Counts<K> {
    pub(super) fn new(max: usize, start_unix_ns: u64) -> Self {
        Self { counts: KeyedMap::default(), max, others: 0, overflow: 0, start_unix_ns, has_made_room: false }
    }

    /// Adds one.
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

    /// Drops the owners that were idle longest, with all their series, but not this one.
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

    /// Call this at each snapshot. A series that was dropped and comes back then starts after this snapshot.
    pub(super) const fn is_shown(&mut self, now_unix_ns: u64) {
        if self.has_made_room {
            self.start_unix_ns = now_unix_ns;
        }
    }

    /// All series with their start times.
    pub(super) fn iter(&self) -> impl Iterator<Item = (OwnerLabels, K, u64, u64)> {
        self.counts.iter().map(|(&(whose, what), count)| (whose, what, count.start_unix_ns, count.count))
    }

    /// Number of series.
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    /// The sum of all counts of dropped owners.
    pub(super) const fn overflow(&self) -> u64 {
        self.overflow
    }
}

/// Ports on which services listen or have listened. Events do not say which end of a connection is the service, but a port on
/// which nobody ever listened is an ephemeral one.
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

    /// Adds the listeners of a table.
    pub(super) fn learn_all(&mut self, table: &Table) {
        let listeners = table.all().filter(|known| known.state == State::Listen);
        listeners.for_each(|known| self.learn(known.local().port()));
    }

    /// The local port of an event, if it belongs to a service.
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

    /// The local port of a socket in the table, if it belongs to a service.
    pub(super) fn port(&self, known: &Connection) -> Option<u16> {
        let is_client = known.creator().is_some_and(|creator| creator.source == OwnerSource::Connect);
        let port = known.local().port();
        (!is_client && self.has(port)).then_some(port)
    }
}
