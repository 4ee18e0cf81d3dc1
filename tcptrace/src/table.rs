//! The sockets that are alive now: those that events told of, and those that listings found.

mod connection;
mod listed;
mod minis;
mod packed;
mod retransmits;
mod roles;
mod sockets;

use std::{
    hash::BuildHasher as _,
    net::{IpAddr, SocketAddr},
};

use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};
use tcptrace_common::record::socket_flag;

use crate::{
    event::{Event, Owner, StateSource, TimeInState, TimeSource, What},
    snapshot::{AgeSource, Holder, Holders, TIME_WAIT_NS, listeners_of, place},
    state::{State, StateSet},
};
use roles::AllRoles;
use sockets::{Place, Sockets};

pub use connection::{Connection, Facts};
pub use retransmits::Retransmits;

/// Half-open connections to one local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    /// Network namespace.
    pub netns: u32,
    /// Local end.
    pub local: SocketAddr,
    /// How many of them there are.
    pub count: u64,
    /// How many of these have had their SYN-ACK sent again.
    pub retransmitted: u64,
    /// The owner of the listener, where that is known.
    pub owner: Option<Owner>,
}

/// Addresses of this host that are remembered at most.
const MAX_ADDRESSES: usize = 65_536;
/// Half-open connections that are remembered one by one at most.
const MAX_REQUESTED: usize = 65_536;

/// What a listing changed in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Sockets that the table did not have.
    pub added: u64,
    /// Sockets that it had, and that are no more.
    pub removed: u64,
    /// Sockets that are in another state than it had.
    pub changed: u64,
}

/// The sockets. Full ones are found by the address of their `struct sock`, which is theirs alone from the first event of
/// their life to its end (or by their cookie, while no event told that address: addresses of the kernel have the highest
/// bit, cookies count from 1); mini-sockets, which make no events, by their ends.
/// Bounded: when it is full the socket that came first makes room, and is counted.
pub struct Table {
    full: Sockets,
    minis: Sockets,
    roles: AllRoles,
    /// Was a socket found by its cookie, since the listing told no address?
    has_cookies_for_keys: bool,
    half_open: Vec<HalfOpen>,
    /// Local and remote ends of half-open connections, as the last poll showed them.
    requested: FxHashSet<(Option<u32>, SocketAddr, SocketAddr)>,
    /// Addresses that sockets of this host had.
    addresses: FxHashSet<IpAddr>,
    /// CLOCK_MONOTONIC at which the last poll began.
    polled_from_ns: u64,
    holders: Option<Holders>,
    /// Cookies, or addresses where there were none, of those that left since the listing that is under way began.
    departed: Option<FxHashSet<u64>>,
    /// CLOCK_MONOTONIC at which the last whole listing began, and the namespaces that it visited: of full sockets in
    /// these the table knows all that happened before.
    listed_from: (u64, FxHashSet<u32>),
    /// CLOCK_MONOTONIC at which the last listing ended.
    listed_until_ns: u64,
    /// CLOCK_MONOTONIC at which the last one ended that showed suspects.
    shown_until_ns: u64,
    max: usize,
    /// States whose sockets are kept; empty for all. A socket that leaves them is heard of no more where a filter
    /// keeps its later events back, so it leaves the table too.
    states: StateSet,
    /// Are there polls? Without them a mini-socket's end stays unknown.
    polls: bool,
    evicted: u64,
    listing: u32,
}

impl Table {
    /// A table for at most `max` sockets, which must be in one of `states` (empty: any). Mini-sockets are followed only
    /// with `polls`.
    #[must_use]
    pub fn new(max: usize, states: StateSet, polls: bool) -> Self {
        Self {
            polls,
            full: Sockets::new(),
            minis: Sockets::new(),
            roles: AllRoles::default(),
            has_cookies_for_keys: false,
            half_open: Vec::new(),
            requested: FxHashSet::default(),
            addresses: FxHashSet::default(),
            polled_from_ns: 0,
            holders: None,
            departed: None,
            listed_from: (0, FxHashSet::default()),
            listed_until_ns: 0,
            shown_until_ns: 0,
            max: max.max(1),
            states,
            evicted: 0,
            listing: 0,
        }
    }

    /// Takes in what an event says, and adds to the event what is known here: an owner that the kernel side does not
    /// know, how long the socket has been in its state at least, whether events before it were lost. Gives what was known of
    /// a full socket that ends with it.
    pub fn ingest(&mut self, event: &mut Event) -> Option<Connection> {
        let sk = event.socket.sk?;
        let cookie = event.socket.cookie;
        let key = self.key_of(sk, cookie);
        let place = self.full.find(key);
        if let Some(known) = place.and_then(|place| self.full.at(place)).filter(|known| known.is_of_event(event)) {
            add_to(event, known, self.listed_until_ns);
        }
        if event.socket.is(socket_flag::OWNER_LEFT) {
            self.remove(key, cookie);
            return None;
        }
        let What::Transition(transition) = event.what else {
            let known = place.and_then(|place| self.full.at_mut(place));
            if let Some(connection) = known.filter(|known| known.is_of(cookie)) {
                connection.happened(event, &mut self.roles);
            }
            return None;
        };
        let stays = transition.new != State::Close && transition.source == StateSource::Observed;
        let mut left = None;
        if self.is_older_than_listing(event) {
            // The listing showed the socket, unless it was gone by then: perhaps by an event that was lost.
        } else if stays && self.keeps(transition.new) {
            self.keep(sk, key, place, transition.new, event);
        } else {
            left = self.remove(key, cookie);
        }
        if !stays && transition.new != State::Close {
            self.becomes_mini(event, transition.new, left.as_ref());
        }
        left.filter(|_| !stays)
    }

    /// Where the kernel side lets events pass whose owners it does not know, to be called after [`Table::ingest`]: is the
    /// owner a wanted one? Else the socket is followed, as its owner may become known, but not shown. What a listing
    /// showed, and a wanted process held, stays.
    pub fn show(&mut self, event: &Event, is_wanted: bool) {
        let socket = &event.socket;
        let full = socket.sk.map(|sk| self.key_of(sk, socket.cookie)).and_then(|key| self.full.get_mut(key));
        if let Some(known) = full.filter(|known| known.is_of(socket.cookie) && (is_wanted || known.handle().is_none()))
        {
            known.hide(!is_wanted);
        }
        if let Some(mini) = self.minis.get_mut(mini_key(socket.netns, socket.local, socket.remote)) {
            mini.hide(!is_wanted);
        }
    }

    /// Where a socket is: by its cookie where sock_diag told of it by that alone. Then what is at its address is another one
    /// that has ended.
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
        // Another socket may be at the address already: a listing knew of it before the event of this one's end came.
        if self.full.get(key).is_some_and(|known| known.is_of(cookie)) { self.full.remove(key) } else { None }
    }

    /// A mini-socket takes the place of the socket; nothing more is heard of it before a poll.
    fn becomes_mini(&mut self, event: &Event, state: State, known: Option<&Connection>) {
        if !self.polls || !self.keeps(state) {
            return;
        }
        let expires_ns = (state == State::TimeWait).then(|| event.time_ns.saturating_add(TIME_WAIT_NS));
        let mut mini = match known {
            Some(known) => {
                let mut mini = known.clone();
                mini.enters(event, state, &mut self.roles);
                mini
            }
            None => Connection::of_event(event, state, &mut self.roles),
        };
        mini.becomes_mini(event.time_ns, expires_ns);
        self.minis.insert(mini_key(mini.netns(), mini.local(), mini.remote()), mini);
        self.make_room();
    }

    /// A socket stays, in `state`; `place` is that of `key`, where there is one.
    fn keep(&mut self, sk: u64, key: u64, place: Option<Place>, state: State, event: &Event) {
        if let Some(departed) = &mut self.departed {
            departed.remove(&event.socket.cookie.unwrap_or(sk)); // it may come back to a wanted state
        }
        let known = place.and_then(|place| self.full.at_mut(place)).filter(|known| known.is_of_event(event));
        let new = match known {
            Some(known) if key == sk => return known.enters(event, state, &mut self.roles),
            Some(known) => {
                known.enters(event, state, &mut self.roles);
                self.full.remove(key)
            }
            None => None,
        };
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
            let first = |sockets: &Sockets| sockets.oldest().map(|(key, known)| (known.first_seen_ns, key));
            let (full, mini) = (first(&self.full), first(&self.minis));
            let is_mini = full.is_none_or(|full| mini.is_some_and(|mini| mini.0 < full.0));
            let sockets = if is_mini { &mut self.minis } else { &mut self.full };
            if let Some((_, key)) = if is_mini { mini } else { full } {
                sockets.remove(key);
            }
            self.evicted += 1;
        }
    }

    /// Asks of each socket that is shown from when on it is suspected of trouble if nothing happens to it, in
    /// CLOCK_MONOTONIC (never: `u64::MAX`). From then on the next listing of its state keeps what it shows of it, as
    /// [`Connection::facts`]. A socket of which that is known already is not asked about again before that time.
    pub fn suspect(&mut self, now_ns: u64, mut suspect_from_ns: impl FnMut(&Connection) -> u64) {
        self.full.look(now_ns, |known| {
            let from_ns = if known.is_hidden() { u64::MAX } else { suspect_from_ns(known) };
            if from_ns <= now_ns {
                known.is_suspect(now_ns);
            } else {
                known.is_no_suspect();
            }
            if known.is_restless(now_ns) { 0 } else { from_ns }
        });
    }

    /// The sockets that are suspected.
    pub fn suspects(&self) -> impl Iterator<Item = &Connection> {
        self.full.restless().filter(|known| known.suspected_ns().is_some())
    }

    /// The sockets that there is a reason to look at since [`Table::suspect`] was called last, at `now_ns`, and all
    /// mini-sockets; in no order.
    pub fn restless(&self, now_ns: u64) -> impl Iterator<Item = &Connection> {
        let full = self.full.restless().filter(move |known| known.is_restless(now_ns));
        full.chain(self.minis.values()).filter(|known| !known.is_hidden())
    }

    /// Did a socket of this host have this address?
    #[must_use]
    pub fn has_address(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// Did the last poll show a half-open connection with these ends?
    #[must_use]
    pub fn is_requested(&self, netns: Option<u32>, local: SocketAddr, remote: SocketAddr) -> bool {
        self.requested.contains(&(place(netns, local), local, remote))
    }

    /// CLOCK_MONOTONIC at which the last listing ended that showed suspects, in ns; 0 where there was none.
    #[must_use]
    pub const fn shown_until_ns(&self) -> u64 {
        self.shown_until_ns
    }

    /// The sockets that are to be shown, in no order.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.full.values().chain(self.minis.values()).filter(|known| !known.is_hidden())
    }

    /// Half-open connections by local address, as the last poll showed them, with the owners of their listeners.
    #[must_use]
    pub fn half_open(&self) -> Vec<HalfOpen> {
        if self.half_open.is_empty() {
            return Vec::new();
        }
        // Where several listen on one address they may be of one process, or of several.
        let mut owners: FxHashMap<(u32, SocketAddr), Option<Owner>> = FxHashMap::default();
        for (place, known) in self.listeners() {
            let owner = owners.entry(place).or_insert(known.owner());
            *owner = owner.filter(|first| known.owner().is_some_and(|owner| owner.pid == first.pid));
        }
        let owner_of = |row: &HalfOpen| {
            listeners_of(row.local).find_map(|local| owners.get(&(row.netns, local)).copied()).flatten()
        };
        let mut rows: Vec<_> = self.half_open.iter().map(|row| HalfOpen { owner: owner_of(row), ..*row }).collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.count), row.netns, row.local));
        rows
    }

    /// The processes that held a socket when holders were listed last; `None` where they never were, or it came later.
    #[must_use]
    pub fn holders_of(&self, connection: &Connection) -> Option<&[Holder]> {
        Some(self.holders.as_ref()?.of(connection.handle()?))
    }

    /// How many sockets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.full.len() + self.minis.len()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives back the memory of many that have left.
    fn tidy(&mut self) {
        self.full.tidy();
        self.minis.tidy();
        self.roles.tidy(self.len());
    }

    /// Sizes of what the table keeps besides sockets, by name, for tests of their bounds.
    #[must_use]
    pub fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("roles", self.roles.len()),
            ("room", self.full.room() + self.minis.room()),
            ("half_open", self.half_open.len()),
            ("requested", self.requested.len()),
            ("addresses", self.addresses.len()),
            ("departed", self.departed.as_ref().map_or(0, FxHashSet::len)),
        ]
    }

    /// How many sockets had to make room for others.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// What is known of the socket, where the event does not know it. Whether events were lost before one that is older than
/// the end of the last listing cannot be told, since that may have shown what came after it.
fn add_to(event: &mut Event, known: &Connection, listed_until_ns: u64) {
    event.owner = event.owner.or_else(|| known.owner());
    let What::Transition(transition) = &mut event.what else {
        return;
    };
    if event.time_ns < known.since_ns {
        return; // older than the listing that told of the socket
    }
    event.after_gap = known.state != transition.old && event.time_ns > listed_until_ns;
    if transition.time_in_old.is_none() && known.state == transition.old && known.since != AgeSource::Observed {
        let ns = event.time_ns - known.since_ns;
        transition.time_in_old = Some(TimeInState { ns, source: TimeSource::LowerBound });
    }
}

/// The key of a mini-socket: a number made of its ends, which no two have at a time.
fn mini_key(netns: Option<u32>, local: SocketAddr, remote: SocketAddr) -> u64 {
    FxBuildHasher.hash_one((netns, local, remote))
}

#[cfg(test)]
mod tests;
