//! The sockets that are alive now, kept up to date by events and listings.
//!
//! [`Table::ingest`] applies an event, and completes it with what the table knows: an owner that the kernel side has
//! forgotten, or how long the socket was in its state. [`Table::reconcile`] applies a listing of all sockets: it adds
//! those that events missed, and removes those that are gone. For example, a connection that was opened before tcptrace
//! started enters the table by the first listing, with a lower bound on its age; its next transition is then reported
//! with that bound.
//!
//! The table does no I/O: the same events and listings always produce the same table.

pub(crate) mod compact;
mod connection;
mod listener_holders;
pub(crate) mod reconcile;
mod retransmits;
mod roles;
pub(crate) mod slab;
mod timewait;
mod wanted;

use std::{
    hash::BuildHasher as _,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use rustc_hash::FxHashSet;
use tcptrace_common::record::socket_flag;

use crate::{
    model::{
        age::{AgeSource, TIME_WAIT_NS},
        event::{
            Event, EventKind, Owner, OwnerSource, Peer, PeerSource, Process, Socket, StateSource, TimeInState,
            TimeSource, Transition,
        },
        holders::{Holder, Holders},
        keyed::{Keyed, KeyedMap, KeyedSet},
        socket::{listener_addresses, loopback_netns},
        state::{State, StateSet},
    },
    table::{
        compact::{Ends, PackedAddr},
        connection::begins_life,
        slab::{Place, Slab},
    },
};
use listener_holders::{ListenerHolders, is_through_listener, processes};
use roles::AllRoles;

pub use connection::{Connection, Facts};
pub use retransmits::Retransmits;

/// Half-open connections to one local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Local address of the connections, where the listener accepts them.
    pub local: SocketAddr,
    /// Number of half-open connections.
    pub count: u64,
    /// How many of them had their SYN-ACK retransmitted.
    pub retransmitted: u64,
    /// The owner of the listener, if known.
    pub owner: Option<Owner>,
}

/// Maximum number of remembered addresses of this host.
const MAX_ADDRESSES: usize = 65_536;
/// Maximum number of half-open connections that are tracked individually.
const MAX_REQUESTED: usize = 65_536;

/// The live sockets. Full sockets are keyed by the address of their `struct sock`, which identifies them from their
/// first event to their end; or by their cookie until an event reports that address (kernel addresses have the highest
/// bit set, cookies count from 1). Timewait sockets, which have no events, are keyed by their address pair. The table
/// is bounded: when it is full, the oldest socket is evicted, and counted.
pub struct Table {
    full: Slab,
    timewait: Slab,
    roles: AllRoles,
    listener_holders: ListenerHolders,
    /// True if a socket is keyed by its cookie because the listing had no address.
    has_cookies_for_keys: bool,
    half_open: Vec<HalfOpen>,
    /// Keys of full sockets that wait for a process.
    stuck: FxHashSet<u64>,
    half_open_matching: Vec<HalfOpen>,
    /// Address pairs of half-open connections as of the last poll.
    requested: KeyedSet<(Option<u32>, SocketAddr, SocketAddr)>,
    /// Addresses that sockets of this host have had.
    addresses: KeyedSet<IpAddr>,
    /// CLOCK_MONOTONIC in ns of the start of the last poll.
    polled_from_ns: u64,
    holders: Option<Holders>,
    /// Cookies (or addresses, without a cookie) of the sockets that left since the current listing began.
    departed: Option<FxHashSet<u64>>,
    /// CLOCK_MONOTONIC in ns of the start of the last complete listing, and the namespaces that it visited. The table
    /// knows the history of their full sockets from then on.
    listed_from: (u64, FxHashSet<u32>),
    /// CLOCK_MONOTONIC in ns of the end of the last listing.
    listed_until_ns: u64,
    /// CLOCK_MONOTONIC in ns of the end of the last listing that contained suspects.
    suspects_listed_ns: u64,
    max: usize,
    /// States whose sockets are kept; empty for all. A socket that leaves these states leaves the table too, since a
    /// filter may drop its later events.
    states: StateSet,
    /// True if there are polls. Without them the end of a timewait socket remains unknown.
    polls: bool,
    /// True if the table also keeps listed sockets that the filter excludes.
    keeps_unwanted: bool,
    evicted: u64,
    listing: u32,
}

impl Table {
    /// A table for at most `max` sockets in one of `states` (empty: any). Timewait sockets are tracked only with
    /// `polls`.
    #[must_use]
    pub fn new(max: usize, states: StateSet, polls: bool) -> Self {
        Self {
            polls,
            full: Slab::new(),
            timewait: Slab::new(),
            roles: AllRoles::default(),
            listener_holders: ListenerHolders::default(),
            has_cookies_for_keys: false,
            half_open: Vec::new(),
            stuck: FxHashSet::default(),
            half_open_matching: Vec::new(),
            requested: KeyedSet::default(),
            addresses: KeyedSet::default(),
            polled_from_ns: 0,
            holders: None,
            departed: None,
            listed_from: (0, FxHashSet::default()),
            listed_until_ns: 0,
            suspects_listed_ns: 0,
            max: max.max(1),
            states,
            keeps_unwanted: false,
            evicted: 0,
            listing: 0,
        }
    }

    /// Also keeps listed sockets that the filter excludes, for findings, which evaluate all sockets.
    #[must_use]
    pub fn keeping_all(self) -> Self {
        Self { keeps_unwanted: true, ..self }
    }

    /// Also names the process at the other end of a connection if that is on this host.
    #[must_use]
    pub fn naming_peers(self) -> Self {
        Self { full: Slab::by_ends(), ..self }
    }

    /// Applies an event to the table, and completes the event from the table: an owner that the kernel side does not
    /// know, a lower bound on the time in the state, and whether earlier events were lost. Returns the entry of a full
    /// socket that ends with this event.
    pub fn ingest(&mut self, event: &mut Event) -> Option<Connection> {
        let Some(sk) = event.socket.sk else {
            event.peer = self.peer_at(&event.socket, None);
            return None;
        };
        let cookie = event.socket.cookie;
        let key = self.key_of(sk, cookie);
        let place = self.full.find(key);
        let known = place.and_then(|place| self.full.at(place)).filter(|known| known.is_of_event(event));
        if let Some(known) = known {
            add_to(event, known, self.listed_until_ns);
        }
        self.listener_holders.ingest(event, known);
        self.name_owner(event, known);
        event.peer = self.peer_at(&event.socket, known.filter(|_| !begins_life(&event.what)));
        let creator = known.and_then(Connection::creator);
        event.listener =
            event.owner.or(creator).into_iter().chain(creator).find(is_through_listener).map(|owner| owner.id());
        if event.socket.is(socket_flag::OWNER_LEFT) {
            self.remove(key, cookie);
            return None;
        }
        let EventKind::Transition(transition) = event.what else {
            let known = place.and_then(|place| self.full.at(place));
            if let Some(place) = place.filter(|_| known.is_some_and(|known| known.is_of(cookie))) {
                self.full.change(place, |known| known.apply_event(event, &mut self.roles));
            }
            return None;
        };
        let stays = transition.new != State::Close && transition.source == StateSource::Observed;
        let mut left = None;
        if self.is_older_than_listing(event) {
            // The listing contained the socket, unless it was gone by then, perhaps by an event that was lost.
        } else if stays && self.keeps(transition.new) {
            self.keep(sk, key, place, transition.new, event);
        } else {
            left = self.remove(key, cookie);
        }
        if !stays && transition.new != State::Close {
            self.enter_timewait(event, transition.new, left.as_ref());
        }
        left.filter(|_| !stays)
    }

    /// Key of a socket: its cookie if sock_diag reported it without an address. A socket that is still at its address
    /// has then ended.
    fn key_of(&self, sk: u64, cookie: Option<u64>) -> u64 {
        cookie.filter(|cookie| self.has_cookies_for_keys && self.full.find(*cookie).is_some()).unwrap_or(sk)
    }

    fn is_older_than_listing(&self, event: &Event) -> bool {
        let (listed_from_ns, visited) = &self.listed_from;
        event.time_ns < *listed_from_ns && event.socket.netns.is_some_and(|netns| visited.contains(&netns))
    }

    fn keeps(&self, state: State) -> bool {
        self.states.is_empty() || self.states.contains(state)
    }

    fn remove(&mut self, key: u64, cookie: Option<u64>) -> Option<Connection> {
        if let Some(departed) = &mut self.departed {
            departed.insert(cookie.unwrap_or(key));
        }
        // Another socket may be at the address already, if a listing showed it before the event of this one's end
        // arrived.
        if self.full.get(key).is_some_and(|known| known.is_of(cookie)) { self.full.remove(key) } else { None }
    }

    /// A timewait socket replaces the socket; nothing more is known about it until a poll.
    fn enter_timewait(&mut self, event: &Event, state: State, known: Option<&Connection>) {
        if !self.polls || !self.keeps(state) {
            return;
        }
        let expires_ns = (state == State::TimeWait).then(|| event.time_ns.saturating_add(TIME_WAIT_NS));
        let mut timewait = match known {
            Some(known) => {
                let mut timewait = known.clone();
                timewait.enter(event, state, &mut self.roles);
                timewait
            }
            None => Connection::of_event(event, state, &mut self.roles),
        };
        timewait.enter_timewait(event.time_ns, expires_ns);
        self.timewait.insert(timewait_key(timewait.netns(), timewait.local(), timewait.remote()), timewait);
        self.make_room();
    }

    /// Stores a socket that remains alive in `state`; `place` is the place of `key`, if it has one.
    fn keep(&mut self, sk: u64, key: u64, place: Option<Place>, state: State, event: &Event) {
        if let Some(departed) = &mut self.departed {
            departed.remove(&event.socket.cookie.unwrap_or(sk)); // it may return to a selected state
        }
        let known = place.and_then(|place| self.full.at(place));
        let mut new = None;
        if let Some(place) = place.filter(|_| known.is_some_and(|known| known.is_of_event(event))) {
            self.full.change(place, |known| known.enter(event, state, &mut self.roles));
            if key == sk {
                return;
            }
            new = self.full.remove(key);
        }
        let new = new.unwrap_or_else(|| Connection::of_event(event, state, &mut self.roles));
        self.add(sk, new);
    }

    fn add(&mut self, key: u64, new: Connection) {
        self.addresses.insert(new.local().ip());
        if self.addresses.len() > MAX_ADDRESSES {
            self.addresses.clear();
        }
        self.full.insert(key, new);
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.len() > self.max {
            let first = |sockets: &Slab| sockets.oldest().map(|(key, known)| (known.first_seen_ns, key));
            let (full, timewait) = (first(&self.full), first(&self.timewait));
            let is_timewait = full.is_none_or(|full| timewait.is_some_and(|timewait| timewait.0 < full.0));
            let sockets = if is_timewait { &mut self.timewait } else { &mut self.full };
            if let Some((_, key)) = if is_timewait { timewait } else { full } {
                sockets.remove(key);
            }
            self.evicted += 1;
        }
    }

    /// Marks suspects. `suspect_from_ns` returns the CLOCK_MONOTONIC time in ns at which a socket becomes a suspect if
    /// nothing happens to it (never: `u64::MAX`). From then on the next listing of its state is kept as
    /// [`Connection::facts`]. Until that time `suspect_from_ns` is not called again for the same socket.
    pub fn suspect(&mut self, now_ns: u64, mut suspect_from_ns: impl FnMut(&Connection) -> u64) {
        self.full.evaluate(now_ns, |known| {
            let from_ns = suspect_from_ns(known);
            if from_ns <= now_ns {
                known.mark_suspect(now_ns);
            } else {
                known.clear_suspect();
            }
            if known.needs_evaluation(now_ns) { 0 } else { from_ns }
        });
    }

    /// The sockets that [`Table::suspect`] has marked.
    pub fn suspects(&self) -> impl Iterator<Item = &Connection> {
        self.full.to_evaluate().filter(|known| known.suspected_ns().is_some())
    }

    /// The sockets that have needed evaluation since the last call of [`Table::suspect`], at `now_ns`, and all timewait
    /// sockets; unordered.
    pub fn to_evaluate(&self, now_ns: u64) -> impl Iterator<Item = &Connection> {
        let full = self.full.to_evaluate().filter(move |known| known.needs_evaluation(now_ns));
        full.chain(self.timewait.values())
    }

    /// Sockets that wait for their holders: listeners with queued connections, and connections with unread data.
    pub fn awaited(&self) -> impl Iterator<Item = &Connection> {
        let has_queue = |known: &&Connection| {
            known.facts().is_some_and(|facts| facts.socket.receive_queue > 0) && !known.is_hidden()
        };
        let listeners = self.listeners().map(|(_, known)| known);
        let connections = self.stuck.iter().filter_map(|key| self.full.get(*key));
        listeners.chain(connections).filter(has_queue)
    }

    /// The process at the other end of a socket, if that is on this host: the owner of the only socket that has the same two
    /// ends, swapped, or the one that was known while it was alive. Where NAT translates an address there is none.
    fn peer_at(&self, socket: &Socket, known: Option<&Connection>) -> Option<Peer> {
        if !self.full.has_ends() {
            return None; // nobody asks
        }
        let ends = Ends::new(socket.netns, PackedAddr::new(socket.local), PackedAddr::new(socket.remote));
        self.peer(ends, known)
    }

    /// The process at the other end of a connection, if that is on this host.
    #[must_use]
    pub fn peer_of(&self, known: &Connection) -> Option<Peer> {
        self.peer(known.ends(), Some(known))
    }

    fn peer(&self, ends: Ends, known: Option<&Connection>) -> Option<Peer> {
        let now = self.full.with_ends(&ends.swapped()).and_then(Connection::owner);
        let earlier = || known.and_then(Connection::peer);
        match now {
            Some(owner) => Some(Peer { owner, source: PeerSource::Socket }),
            None => earlier().map(|owner| Peer { owner, source: PeerSource::Earlier }),
        }
    }

    /// True if a socket of this host had this address.
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// True if the last poll found a half-open connection with these addresses.
    #[must_use]
    pub fn is_requested(&self, netns: Option<u32>, local: SocketAddr, remote: SocketAddr) -> bool {
        self.requested.contains(&(loopback_netns(netns, local), local, remote))
    }

    /// CLOCK_MONOTONIC in ns of the end of the last listing that contained suspects; 0 if there was none.
    #[must_use]
    pub const fn suspects_listed_ns(&self) -> u64 {
        self.suspects_listed_ns
    }

    /// All sockets, timewait sockets included, unordered.
    pub fn all(&self) -> impl Iterator<Item = &Connection> {
        self.full.values().chain(self.timewait.values())
    }

    /// The sockets that [`Table::apply_filter`] did not hide, unordered.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.all().filter(|known| !known.is_hidden())
    }

    /// Hides the sockets that the filter excludes. What is known about a socket changes, so call it each time before
    /// sockets are reported.
    pub fn apply_filter(&mut self, mut matches: impl FnMut(&Connection, &[Holder]) -> bool) {
        let holders = self.holders.clone();
        let mut apply = |known: &mut Connection| {
            let held_by = holders.as_ref().zip(known.handle()).map_or(&[][..], |(holders, handle)| holders.of(handle));
            known.hide(!matches(known, held_by));
        };
        self.full.for_each(&mut apply);
        self.timewait.for_each(&mut apply);
    }

    /// All half-open connections by local address, as of the last poll, with the owners of their listeners.
    #[must_use]
    pub fn half_open(&self) -> Vec<HalfOpen> {
        self.with_owners(&self.half_open)
    }

    /// The half-open connections that match the filter.
    #[must_use]
    pub fn half_open_matching(&self) -> Vec<HalfOpen> {
        self.with_owners(&self.half_open_matching)
    }

    fn with_owners(&self, rows: &[HalfOpen]) -> Vec<HalfOpen> {
        if rows.is_empty() {
            return Vec::new();
        }
        // Several listeners at one address may belong to one process or to several.
        let mut owners: KeyedMap<(u32, SocketAddr), Option<Owner>> = KeyedMap::default();
        for (place, known) in self.listeners() {
            let owner = owners.entry(place).or_insert(known.owner());
            *owner = owner.filter(|first| known.owner().is_some_and(|owner| owner.pid == first.pid));
        }
        let owner_of = |row: &HalfOpen| {
            listener_addresses(row.local).find_map(|local| owners.get(&(row.netns, local)).copied()).flatten()
        };
        let mut rows: Vec<_> = rows.iter().map(|row| HalfOpen { owner: owner_of(row), ..*row }).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.count), row.netns, row.local));
        rows
    }

    /// Sets the owner of a connection that no process has used yet to the holder of its listener, or the candidates if
    /// several hold it.
    fn name_owner(&self, event: &mut Event, known: Option<&Connection>) {
        let is_new = match event.what {
            EventKind::Transition(Transition { old, .. }) => matches!(old, State::Listen | State::SynRecv),
            EventKind::SynAckRetransmit { .. } => true,
            _ => false,
        };
        let is_own = event.socket.state == State::Listen && !matches!(event.what, EventKind::SynAckRetransmit { .. });
        let asks = match &event.owner {
            Some(owner) => is_through_listener(owner) || matches!(event.what, EventKind::SynAckRetransmit { .. }),
            None => is_new,
        };
        if !asks || is_own && !begins_by_peer(event) {
            return;
        }
        let owner = event.owner.as_ref();
        let shared = owner.filter(|owner| owner.source == OwnerSource::Shared);
        if let Some(holders) = known.and_then(|known| self.holders_of(known)).filter(|holders| !holders.is_empty())
            && let Some(shared) = shared
        {
            let candidates = processes(holders);
            if candidates.len() > 1 && candidates.iter().any(|process| process.id() == shared.id()) {
                event.candidates = Some(candidates.into());
            }
            return;
        }
        if let Some((owner, candidates)) = self.listener_holders.name(event.socket.netns, event.socket.local, owner) {
            (event.owner, event.candidates) = (Some(owner), candidates);
        }
    }

    /// The candidates for the owner of a connection whose listener is held by several processes.
    #[must_use]
    pub fn candidates_of(&self, connection: &Connection) -> Option<Arc<[Process]>> {
        let owner = connection.owner().filter(|owner| owner.source == OwnerSource::Shared)?;
        match self.holders_of(connection) {
            Some(holders) if !holders.is_empty() => Some(processes(holders).into()),
            _ => self.listener_holders.name(connection.netns(), connection.local(), Some(&owner))?.1,
        }
    }

    /// All holders as of the last listing of holders.
    #[must_use]
    pub fn holders(&self) -> Option<&Holders> {
        self.holders.as_ref()
    }

    /// Whether a listing of listeners and holders is due at `now_ns`, to determine the owners of connections.
    #[must_use]
    pub fn wants_listeners(&self, now_ns: u64) -> bool {
        self.listener_holders.wants_listing(now_ns)
    }

    /// The holders of a socket as of the last listing of holders; `None` if there was none, or it was older than the
    /// socket.
    #[must_use]
    pub fn holders_of(&self, connection: &Connection) -> Option<&[Holder]> {
        Some(self.holders.as_ref()?.of(connection.handle()?))
    }

    /// Number of sockets, timewait sockets included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full.len() + self.timewait.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Releases memory after many sockets have left.
    fn shrink(&mut self) {
        self.full.shrink();
        self.timewait.shrink();
        self.roles.shrink(self.len());
    }

    /// Sizes of the table's other collections by name, for tests of their bounds.
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("roles", self.roles.len()),
            ("room", self.full.room() + self.timewait.room()),
            ("half_open", self.half_open.len()),
            ("requested", self.requested.len()),
            ("addresses", self.addresses.len()),
            ("departed", self.departed.as_ref().map_or(0, FxHashSet::len)),
        ]
    }

    /// Number of sockets evicted to make room.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Completes an event from the table. For an event older than the end of the last listing it is unknown whether earlier
/// events were lost, since the listing may have shown a later state.
fn add_to(event: &mut Event, known: &Connection, listed_until_ns: u64) {
    event.owner = known.owner_at(event);
    let EventKind::Transition(transition) = &mut event.what else {
        return;
    };
    if event.time_ns < known.since_ns {
        return; // older than the listing that reported the socket
    }
    event.after_gap = known.state != transition.old && event.time_ns > listed_until_ns;
    if transition.time_in_old.is_none() && known.state == transition.old && known.since != AgeSource::Observed {
        let ns = event.time_ns - known.since_ns;
        transition.time_in_old = Some(TimeInState { ns, source: TimeSource::LowerBound });
    }
}

/// True if an incoming connection begins.
const fn begins_by_peer(event: &Event) -> bool {
    matches!(event.what, EventKind::Transition(Transition { old: State::Listen, new: State::SynRecv, .. }))
}

/// Key of a timewait socket: a hash of its address pair, which is unique at any time.
fn timewait_key(netns: Option<u32>, local: SocketAddr, remote: SocketAddr) -> u64 {
    Keyed.hash_one((netns, local, remote))
}

#[cfg(test)]
mod tests;
