//! The sockets that are alive now: those that events told of, and those that listings found.

mod connection;
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
    ending::Ending,
    event::{Event, Owner, OwnerSource, Socket, StateSource, TimeInState, TimeSource, Transition, What},
    snapshot::{AgeSource, Holder, Holders, Kind, ListedSocket, Snapshot, TIME_WAIT_NS, listeners_of, place},
    state::{State, StateSet},
};
use connection::{expires_ns, is_seen};
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
/// bit, cookies count from 1); mini-sockets, which make no events, by the cookie that they have of their full socket.
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
        if let Some(mini) = self.minis.get_mut(mini_key(socket.cookie, socket.netns, socket.local, socket.remote)) {
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
        self.minis.insert(mini_key(mini.cookie(), mini.netns(), mini.local(), mini.remote()), mini);
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

    /// A listing begins: until it is taken in, sockets that leave are remembered, since it may still show them.
    pub fn begin_listing(&mut self) {
        self.departed = Some(FxHashSet::default());
    }

    /// Nothing will come of the listing that began.
    pub fn abandon_listing(&mut self) {
        self.departed = None;
    }

    /// Takes in a listing of all states: what it shows is there, and what was there before it began and it does not
    /// show is there no more. `wanted` says which sockets are to be kept. The changes of mini-sockets are given to `tell`.
    pub fn reconcile(
        &mut self,
        snapshot: &Snapshot,
        mut wanted: impl FnMut(&ListedSocket, &[Holder]) -> bool,
        tell: impl FnMut(Event),
    ) -> Reconciled {
        let departed = self.departed.take().unwrap_or_default();
        self.listing = self.listing.wrapping_add(1);
        let mut reconciled = Reconciled::default();
        let names =
            if snapshot.sockets.iter().any(|socket| socket.sk.is_none()) { self.names() } else { Names::default() };
        if let Some(holders) = &snapshot.holders {
            self.holders = Some(holders.clone());
        }
        for socket in snapshot.sockets.iter().filter(|socket| socket.kind == Kind::Full && socket.state != State::Close)
        {
            let Some(key) = socket.sk.or_else(|| names.key_of(socket)).or(socket.cookie) else {
                continue; // nameless: the kernel gives all sockets that it lists a cookie
            };
            if departed.contains(&key) || socket.cookie.is_some_and(|cookie| departed.contains(&cookie)) {
                continue;
            }
            let holders = snapshot.holders.as_ref().map_or(&[][..], |holders| holders.of(socket.handle));
            let known = self.full.get(key).filter(|known| known.is_of(socket.cookie)).map(Connection::is_hidden);
            let is_shown = known == Some(false) || wanted(socket, holders);
            if self.keeps(socket.state) && (known.is_some() || is_shown) {
                self.take_in(key, socket, owner_of(socket, holders), snapshot, &mut reconciled);
                if let Some(known) = self.full.get_mut(key).filter(|known| known.is_of(socket.cookie)) {
                    known.hide(!is_shown);
                    known.show(socket, snapshot);
                }
            }
        }
        let listing = self.listing;
        let visited = visited(snapshot);
        let before = self.full.len();
        self.full.retain(|known| {
            known.listing == listing
                || known.since_ns >= snapshot.started_ns
                || known.netns().map_or(snapshot.skipped.cut_short > 0, |netns| !visited.contains(&netns))
        });
        reconciled.removed = (before - self.full.len()) as u64;
        self.listed_from = (snapshot.started_ns, visited);
        self.listed_until_ns = snapshot.ended_ns;
        self.shown_until_ns = snapshot.ended_ns;
        self.poll(snapshot, wanted, tell);
        reconciled
    }

    /// For listings that know no addresses of the kernel.
    fn names(&self) -> Names {
        let mut names = Names::default();
        for (key, known) in self.full.iter() {
            match (known.cookie(), known.netns()) {
                (Some(cookie), _) => _ = names.by_cookie.insert(cookie, key),
                (None, Some(netns)) => _ = names.by_ends.insert((netns, known.local(), known.remote()), key),
                (None, None) => {}
            }
        }
        names
    }

    fn take_in(
        &mut self,
        key: u64,
        socket: &ListedSocket,
        owner: Option<Owner>,
        snapshot: &Snapshot,
        reconciled: &mut Reconciled,
    ) {
        let is_newer = |known: &Connection| !known.is_of(socket.cookie) && known.first_seen_ns >= snapshot.started_ns;
        if self.full.get(key).is_some_and(is_newer) {
            return; // the listed socket has ended since, and the event of its end was lost
        }
        let listing = self.listing;
        let Some(known) = self.full.get_mut(key).filter(|known| known.is_of(socket.cookie)) else {
            reconciled.added += 1;
            self.has_cookies_for_keys |= socket.sk.is_none();
            let listed = Connection::of_listed(socket, owner, snapshot.ended_ns, &mut self.roles);
            self.add(key, listed.in_listing(listing));
            return;
        };
        known.listing = listing;
        known.is_listed(socket);
        known.is_named(socket.cookie);
        known.is_held(owner, &mut self.roles);
        if known.state != socket.state && known.since_ns < snapshot.started_ns {
            // The event of it was lost. It came after the last one that was not.
            reconciled.changed += 1;
            known.is_found_in_state(socket, snapshot.ended_ns);
        }
    }

    /// Takes in a listing that shows mini-sockets and requests: those that are there no more have ended, which is
    /// given to `tell`, as is the change of an orphan's mini-socket from FIN_WAIT2 to TIME_WAIT. A request, which nobody
    /// holds, is wanted where its listener is. Without polls a listing tells what is there, and nothing of what was.
    pub fn poll(
        &mut self,
        snapshot: &Snapshot,
        mut wanted: impl FnMut(&ListedSocket, &[Holder]) -> bool,
        mut tell: impl FnMut(Event),
    ) {
        self.listing = self.listing.wrapping_add(1);
        if !self.polls {
            self.minis.clear();
        }
        self.half_open = self.requests(snapshot, &mut wanted);
        let requests = snapshot.sockets.iter().filter(|socket| socket.kind == Kind::Request);
        let key = |request: &ListedSocket| (place(Some(request.netns), request.local), request.local, request.remote);
        self.requested = requests.take(MAX_REQUESTED).map(key).collect();
        if !snapshot.states.is_empty() {
            self.show_full(snapshot); // a whole listing was shown already
        }
        for socket in snapshot.sockets.iter().filter(|socket| socket.kind == Kind::Mini) {
            self.poll_mini(socket, snapshot, &mut wanted, &mut tell);
        }
        let (listing, polled_from_ns, ended_ns) = (self.listing, self.polled_from_ns, snapshot.ended_ns);
        let visited = visited(snapshot);
        self.minis.retain(|mini| {
            if mini.listing == listing || mini.since_ns >= snapshot.started_ns {
                return true;
            }
            if !mini.netns().map_or(snapshot.skipped.cut_short == 0, |netns| visited.contains(&netns)) {
                // Nobody looked: its timer may have been set again. In the end it is gone for sure, and nobody knows when.
                mini.expires(None);
                return mini.since_ns.saturating_add(TIME_WAIT_NS) > ended_ns;
            }
            tell(polled(mini, State::Close, polled_from_ns, ended_ns));
            false
        });
        self.polled_from_ns = snapshot.started_ns;
    }

    /// Takes in a listing of some states that shows sockets which are known, and who holds all of them: nothing comes and
    /// nothing goes by it.
    pub fn show_listed(&mut self, snapshot: &Snapshot) {
        if let Some(holders) = &snapshot.holders {
            self.holders = Some(holders.clone());
        }
        self.show_full(snapshot);
        self.shown_until_ns = snapshot.ended_ns;
    }

    fn show_full(&mut self, snapshot: &Snapshot) {
        let mut listed = snapshot.sockets.iter().filter(|socket| socket.kind == Kind::Full).peekable();
        let names = match listed.peek() {
            Some(first) if first.sk.is_none() => self.names(),
            _ => Names::default(),
        };
        for socket in listed {
            let key = socket.sk.filter(|sk| self.full.find(*sk).is_some());
            let key = key.or_else(|| names.key_of(socket)).or(socket.cookie);
            let known = key.and_then(|key| self.full.get_mut(key)).filter(|known| known.is_of(socket.cookie));
            if let Some(known) = known {
                known.is_listed(socket);
                if let Some(holders) = &snapshot.holders {
                    known.is_held(owner_of(socket, holders.of(socket.handle)), &mut self.roles);
                }
                known.show(socket, snapshot);
            }
        }
    }

    /// The half-open connections of a listing by local address.
    fn requests(
        &self,
        snapshot: &Snapshot,
        wanted: &mut impl FnMut(&ListedSocket, &[Holder]) -> bool,
    ) -> Vec<HalfOpen> {
        let mut requests = snapshot.sockets.iter().filter(|socket| socket.kind == Kind::Request).peekable();
        if !self.keeps(State::SynRecv) || requests.peek().is_none() {
            return Vec::new();
        }
        let listeners: FxHashMap<_, _> = self.listeners().collect();
        let mut half_open: FxHashMap<(u32, SocketAddr), HalfOpen> = FxHashMap::default();
        for request in requests {
            let (netns, local) = (request.netns, request.local);
            let listener = listeners_of(local).find_map(|local| listeners.get(&(netns, local)));
            let holders = listener.and_then(|listener| self.holders_of(listener)).unwrap_or_default();
            if wanted(&ListedSocket { owner: listener.and_then(|listener| listener.owner()), ..*request }, holders) {
                let empty = HalfOpen { netns, local, count: 0, retransmitted: 0, owner: None };
                let row = half_open.entry((netns, local)).or_insert(empty);
                row.count += 1;
                row.retransmitted += u64::from(request.timeouts > 0);
            }
        }
        half_open.into_values().collect()
    }

    fn listeners(&self) -> impl Iterator<Item = ((u32, SocketAddr), &Connection)> {
        let listeners = self.full.restless().filter(|known| known.state == State::Listen);
        listeners.filter_map(|known| Some(((known.netns()?, known.local()), known)))
    }

    fn poll_mini(
        &mut self,
        socket: &ListedSocket,
        snapshot: &Snapshot,
        wanted: &mut impl FnMut(&ListedSocket, &[Holder]) -> bool,
        tell: &mut impl FnMut(Event),
    ) {
        let key = mini_key(socket.cookie, Some(socket.netns), socket.local, socket.remote);
        // Where its event had no cookie it is here by its ends.
        let by_ends = || mini_key(None, Some(socket.netns), socket.local, socket.remote);
        let is_known = |key| self.minis.find(key).is_some();
        let key = if is_known(key) || !is_known(by_ends()) { key } else { by_ends() };
        let now_ns = snapshot.ended_ns;
        let listing = self.listing;
        let Some(known) = self.minis.get_mut(key) else {
            if self.keeps(socket.state) && wanted(socket, &[]) {
                let listed = Connection::of_listed(socket, None, now_ns, &mut self.roles);
                self.minis.insert(key, listed.in_listing(listing));
                self.make_room();
            }
            return;
        };
        known.listing = listing;
        known.is_named(socket.cookie);
        known.expires(expires_ns(socket, now_ns));
        if known.state == State::FinWait2 && socket.state == State::TimeWait {
            tell(polled(known, State::TimeWait, self.polled_from_ns, now_ns));
            known.is_found_in_state(socket, now_ns);
            if !self.keeps(State::TimeWait) {
                self.minis.remove(key);
            }
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

    /// How many sockets had to make room for others.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }
}

/// Keys of full sockets.
#[derive(Default)]
struct Names {
    by_cookie: FxHashMap<u64, u64>,
    /// Of those that have no cookie yet (before 5.12).
    by_ends: FxHashMap<(u32, SocketAddr, SocketAddr), u64>,
}

impl Names {
    fn key_of(&self, socket: &ListedSocket) -> Option<u64> {
        let by_cookie = self.by_cookie.get(&socket.cookie?);
        by_cookie.or_else(|| self.by_ends.get(&(socket.netns, socket.local, socket.remote))).copied()
    }
}

/// The namespaces in which what a listing does not show is not there.
fn visited(snapshot: &Snapshot) -> FxHashSet<u32> {
    let namespaces = snapshot.namespaces.iter().filter(|_| snapshot.skipped.cut_short == 0);
    namespaces.map(|namespace| namespace.inode).collect()
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

/// The owner that was seen, else the only process that holds it, else the first of several.
fn owner_of(socket: &ListedSocket, holders: &[Holder]) -> Option<Owner> {
    let Some(first) = holders.first().filter(|_| !socket.owner.as_ref().is_some_and(is_seen)) else {
        return socket.owner;
    };
    let shared = holders.iter().any(|other| other.pid != first.pid);
    Some(Owner {
        pid: first.pid,
        uid: first.uid,
        cgroup: first.cgroup.unwrap_or(0),
        command: first.command,
        source: if shared { OwnerSource::Shared } else { OwnerSource::Holder },
    })
}

/// A mini-socket's cookie, or where it has none (before 5.12) a number made of its ends; never an address of the kernel.
fn mini_key(cookie: Option<u64>, netns: Option<u32>, local: SocketAddr, remote: SocketAddr) -> u64 {
    cookie.unwrap_or_else(|| FxBuildHasher.hash_one((netns, local, remote)) | 1 << 62) & (u64::MAX >> 1)
}

/// What a poll found to have happened to a mini-socket since the poll that began at `polled_from_ns`.
fn polled(mini: &Connection, new: State, polled_from_ns: u64, now_ns: u64) -> Event {
    let seen_ns = mini.since_ns.max(polled_from_ns);
    // Had the peer closed meanwhile, TIME_WAIT would have begun, and not be over.
    let certain = now_ns < seen_ns.saturating_add(TIME_WAIT_NS);
    let ran_out_ns = mini.expires_ns().filter(|end_ns| certain && new == State::Close && *end_ns <= now_ns);
    let ended_by = match (mini.state, new) {
        (State::FinWait2, State::TimeWait) => Some(Ending::Normal),
        (State::FinWait2, _) => Some(if ran_out_ns.is_some() { Ending::PeerNeverClosed } else { Ending::Unknown }),
        _ => None, // told of when TIME_WAIT began
    };
    // The kernel's timers are never early, and late by an eighth at most (`kernel/time/timer.c`).
    let latest_ns = mini.expires_ns().map_or(now_ns, |end_ns| now_ns.min(end_ns.saturating_add(TIME_WAIT_NS / 8)));
    let (end_ns, source) = match mini.since {
        AgeSource::LowerBound => (ran_out_ns.unwrap_or(seen_ns), TimeSource::LowerBound),
        AgeSource::Observed | AgeSource::Timer => (latest_ns, TimeSource::Polled),
    };
    let time = TimeInState { ns: end_ns.saturating_sub(mini.since_ns), source };
    Event {
        time_ns: now_ns,
        cpu: None,
        socket: Socket {
            sk: None,
            cookie: mini.cookie(),
            netns: mini.netns(),
            ipv6: mini.is_ipv6(),
            state: mini.state,
            local: mini.local(),
            remote: mini.remote(),
            flags: 0,
        },
        owner: mini.owner(),
        after_gap: false,
        what: What::Transition(Transition {
            old: mini.state,
            new,
            source: StateSource::Polled,
            time_in_old: Some(time),
            handshake_rtt_ns: None,
            srtt_us: None,
            total_retrans: 0,
            bytes_acked: 0,
            bytes_received: 0,
            receive_queue: 0,
            send_queue: 0,
            ending: ended_by,
            expires_in_ns: mini
                .expires_ns()
                .filter(|_| new == State::TimeWait)
                .map(|end_ns| end_ns.saturating_sub(now_ns)),
        }),
    }
}

#[cfg(test)]
mod tests;
