//! Applies listings to the table: sockets that events missed or that are gone, and changes of timewait sockets and
//! half-open requests, which have no events.

use std::{cmp::Reverse, net::SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    HalfOpen, MAX_REQUESTED, Table,
    connection::expires_ns,
    listener_holders::{ListenerHolders, is_through_listener, owner_among},
    timewait::{began_time_wait, is_gone},
    timewait_key,
};
use crate::{
    model::{
        age::{AgeSource, TIME_WAIT_NS},
        event::{Event, Owner},
        holders::Holder,
        keyed::{Keyed, KeyedMap},
        notice::Reconciled,
        snapshot::Snapshot,
        socket::{Kind, ListedSocket, listener_addresses, loopback_netns},
        state::State,
    },
    table::connection::Connection,
};

impl Table {
    /// Marks the start of a listing: until it is applied, sockets that leave are remembered, since it may still contain
    /// them.
    pub fn begin_listing(&mut self) {
        self.departed = Some(FxHashSet::default());
    }

    /// The listing that began will not be applied.
    pub fn abandon_listing(&mut self) {
        self.departed = None;
    }

    /// Applies a listing of all states: it adds what is missing, and removes what was there before the listing began
    /// but is not in it. `wanted` selects the sockets to keep, unless all are kept. Transitions of timewait sockets are
    /// passed to `emit`.
    pub fn reconcile(
        &mut self,
        snapshot: &Snapshot,
        mut wanted: impl FnMut(&ListedSocket, &[Holder]) -> bool,
        emit: impl FnMut(Event),
    ) -> Reconciled {
        let departed = self.departed.take().unwrap_or_default();
        self.listing = self.listing.wrapping_add(1);
        let mut reconciled = Reconciled::default();
        let names =
            if snapshot.sockets.iter().any(|socket| socket.sk.is_none()) { self.names() } else { KeyIndex::default() };
        if let Some(holders) = &snapshot.holders {
            self.holders = Some(holders.clone());
        }
        self.listener_holders.listed(snapshot);
        for socket in snapshot.sockets.iter().filter(|socket| socket.kind == Kind::Full && socket.state != State::Close)
        {
            let Some(key) = socket.sk.or_else(|| names.key_of(socket)).or(socket.cookie) else {
                continue; // without a cookie: the kernel gives one to every socket that it lists
            };
            if departed.contains(&key) || socket.cookie.is_some_and(|cookie| departed.contains(&cookie)) {
                continue;
            }
            let holders = snapshot.holders.as_ref().map_or(&[][..], |holders| holders.of(socket.handle));
            let is_known = self.full.get(key).is_some_and(|known| known.is_of(socket.cookie));
            if self.keeps(socket.state) && (is_known || self.keeps_unwanted || wanted(socket, holders)) {
                self.take_in(key, socket, holders, snapshot, &mut reconciled);
                if let Some(known) = self.full.get_mut(key).filter(|known| known.is_of(socket.cookie)) {
                    known.update(socket, snapshot);
                    if known.is_ailing() {
                        self.stuck.insert(key);
                    }
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
        self.suspects_listed_ns = snapshot.ended_ns;
        self.poll(snapshot, wanted, emit);
        reconciled
    }

    /// Index for listings without kernel addresses.
    fn names(&self) -> KeyIndex {
        let mut names = KeyIndex::default();
        for (key, known) in self.full.iter() {
            match (known.cookie(), known.netns()) {
                (Some(cookie), _) => _ = names.by_cookie.insert(cookie, key),
                (None, Some(netns)) => _ = names.by_ends.insert((netns, known.local(), known.remote()), key),
                (None, None) => {}
            }
        }
        names
    }

    /// Updates the local address of a socket, for a port that was bound after the event that reported it.
    fn bind(&mut self, key: u64, socket: &ListedSocket) {
        let Some(place) = self.full.find(key) else { return };
        let known = self.full.at(place);
        if known.is_some_and(|known| known.local().port() == 0 && known.is_of(socket.cookie)) {
            self.full.change(place, |known| known.set_local(socket.local));
        }
    }

    fn take_in(
        &mut self,
        key: u64,
        socket: &ListedSocket,
        holders: &[Holder],
        snapshot: &Snapshot,
        reconciled: &mut Reconciled,
    ) {
        let is_newer = |known: &Connection| !known.is_of(socket.cookie) && known.first_seen_ns >= snapshot.started_ns;
        if self.full.get(key).is_some_and(is_newer) {
            return; // the listed socket has since ended, and the event of its end was lost
        }
        let listing = self.listing;
        self.bind(key, socket);
        let Some(known) = self.full.get_mut(key).filter(|known| known.is_of(socket.cookie)) else {
            reconciled.added += 1;
            self.has_cookies_for_keys |= socket.sk.is_none();
            let owner = named(&self.listener_holders, socket, owner_among(socket.owner, holders));
            let listed = Connection::of_listed(socket, owner, snapshot.ended_ns, &mut self.roles);
            self.add(key, listed.in_listing(listing));
            return;
        };
        known.listing = listing;
        known.update_listed(socket);
        known.set_cookie(socket.cookie);
        let owner = named(&self.listener_holders, socket, owner_among(known.recorded(socket.owner), holders));
        known.set_holder(owner, &mut self.roles);
        if known.state != socket.state && known.since_ns < snapshot.started_ns {
            // Its event was lost, and came after the last one that was not.
            reconciled.changed += 1;
            known.set_found_state(socket, snapshot.ended_ns);
        }
    }

    /// Applies a listing of timewait sockets and requests: those that are gone have ended, which is passed to `emit`,
    /// as is an orphan's change from FIN_WAIT2 to TIME_WAIT. A request has no holder, and matches the filter if its
    /// listener does. Without polls, a listing only shows what exists now.
    pub fn poll(
        &mut self,
        snapshot: &Snapshot,
        mut wanted: impl FnMut(&ListedSocket, &[Holder]) -> bool,
        mut emit: impl FnMut(Event),
    ) {
        self.listing = self.listing.wrapping_add(1);
        if !self.polls {
            self.timewait.clear();
        }
        (self.half_open, self.half_open_matching) = self.requests(snapshot, &mut wanted);
        let requests = snapshot.sockets.iter().filter(|socket| socket.kind == Kind::Request);
        let key = |request: &ListedSocket| {
            (loopback_netns(Some(request.netns), request.local), request.local, request.remote)
        };
        self.requested = requests.take(MAX_REQUESTED).map(key).collect();
        if !snapshot.states.is_empty() {
            self.update_full(snapshot); // a complete listing was applied already
        }
        for socket in snapshot.sockets.iter().filter(|socket| socket.kind == Kind::TimeWait) {
            self.poll_timewait(socket, snapshot, &mut wanted, &mut emit);
        }
        let (listing, polled_from_ns, ended_ns) = (self.listing, self.polled_from_ns, snapshot.ended_ns);
        let visited = visited(snapshot);
        self.clear_stuck(snapshot, &visited);
        self.timewait.retain(|timewait| {
            if timewait.listing == listing || timewait.since_ns >= snapshot.started_ns {
                return true;
            }
            if !timewait.netns().map_or(snapshot.skipped.cut_short == 0, |netns| visited.contains(&netns)) {
                // No poll covered it, and its timer may have been restarted. It is certainly gone by now, at an unknown
                // time.
                timewait.set_expiry(None);
                return timewait.since_ns.saturating_add(TIME_WAIT_NS) > ended_ns;
            }
            emit(is_gone(timewait, polled_from_ns, ended_ns));
            false
        });
        self.polled_from_ns = snapshot.started_ns;
        self.shrink();
    }

    /// Updates known sockets from a listing of some states with all holders; adds and removes none.
    pub fn update_listed(&mut self, snapshot: &Snapshot) {
        if let Some(holders) = &snapshot.holders {
            self.holders = Some(holders.clone());
        }
        self.update_full(snapshot);
        self.suspects_listed_ns = snapshot.ended_ns;
    }

    /// Updates listeners from a listing of listeners with all holders; adds and removes no sockets.
    pub fn update_listeners(&mut self, snapshot: &Snapshot) {
        self.listener_holders.listed(snapshot);
        self.holders = snapshot.holders.clone().or(self.holders.take());
        self.update_full(snapshot);
    }

    fn update_full(&mut self, snapshot: &Snapshot) {
        let mut listed = snapshot.sockets.iter().filter(|socket| socket.kind == Kind::Full).peekable();
        let names = match listed.peek() {
            Some(first) if first.sk.is_none() => self.names(),
            _ => KeyIndex::default(),
        };
        for socket in listed {
            let key = socket.sk.filter(|sk| self.full.find(*sk).is_some());
            let key = key.or_else(|| names.key_of(socket)).or(socket.cookie);
            key.inspect(|key| self.bind(*key, socket));
            let known = key.and_then(|key| self.full.get_mut(key)).filter(|known| known.is_of(socket.cookie));
            if let Some(known) = known {
                known.update_listed(socket);
                if let Some(holders) = &snapshot.holders {
                    let owner = owner_among(known.recorded(socket.owner), holders.of(socket.handle));
                    known.set_holder(named(&self.listener_holders, socket, owner), &mut self.roles);
                }
                known.update(socket, snapshot);
                if known.is_ailing() {
                    self.stuck.extend(key);
                }
            }
        }
    }

    /// Clears the stuck state of sockets that are not in a listing of all stuck sockets.
    fn clear_stuck(&mut self, snapshot: &Snapshot, visited: &FxHashSet<u32>) {
        if !snapshot.stuck {
            return;
        }
        let full = &mut self.full;
        self.stuck.retain(|key| {
            let Some(known) = full.get_mut(*key).filter(|known| known.is_ailing()) else { return false };
            let is_shown = known.facts().is_some_and(|facts| facts.at_ns >= snapshot.started_ns);
            let stays = is_shown || !known.netns().is_none_or(|netns| visited.contains(&netns));
            if !stays {
                known.clear_stuck();
            }
            stays
        });
    }

    /// The half-open connections of a listing by local address: all that are kept, and those that match the filter.
    fn requests(
        &self,
        snapshot: &Snapshot,
        wanted: &mut impl FnMut(&ListedSocket, &[Holder]) -> bool,
    ) -> (Vec<HalfOpen>, Vec<HalfOpen>) {
        let mut requests = snapshot.sockets.iter().filter(|socket| socket.kind == Kind::Request).peekable();
        if !self.keeps(State::SynRecv) || requests.peek().is_none() {
            return (Vec::new(), Vec::new());
        }
        let listeners: KeyedMap<_, _> = self.listeners().collect();
        let [mut kept, mut shown] = [const { KeyedMap::with_hasher(Keyed) }; 2];
        let add = |rows: &mut KeyedMap<(u32, SocketAddr), HalfOpen>, request: &ListedSocket| {
            let (netns, local) = (request.netns, request.local);
            let empty = HalfOpen { netns, local, count: 0, retransmitted: 0, owner: None };
            let row = rows.entry((netns, local)).or_insert(empty);
            row.count += 1;
            row.retransmitted += u64::from(request.timeouts > 0);
        };
        for request in requests {
            let (netns, local) = (request.netns, request.local);
            let listener = listener_addresses(local).find_map(|local| listeners.get(&(netns, local)));
            let holders = listener.and_then(|listener| self.holders_of(listener)).unwrap_or_default();
            let is_wanted =
                wanted(&ListedSocket { owner: listener.and_then(|listener| listener.owner()), ..*request }, holders);
            if is_wanted || self.keeps_unwanted {
                add(&mut kept, request);
            }
            if is_wanted {
                add(&mut shown, request);
            }
        }
        let in_order = |rows: KeyedMap<_, HalfOpen>| {
            let mut rows: Vec<_> = rows.into_values().collect();
            rows.sort_by_key(|row| (Reverse(row.count), row.netns, row.local));
            rows
        };
        (in_order(kept), in_order(shown))
    }

    pub(super) fn listeners(&self) -> impl Iterator<Item = ((u32, SocketAddr), &Connection)> {
        let listeners = self.full.to_evaluate().filter(|known| known.state == State::Listen);
        listeners.filter_map(|known| Some(((known.netns()?, known.local()), known)))
    }

    fn poll_timewait(
        &mut self,
        socket: &ListedSocket,
        snapshot: &Snapshot,
        wanted: &mut impl FnMut(&ListedSocket, &[Holder]) -> bool,
        emit: &mut impl FnMut(Event),
    ) {
        let key = timewait_key(Some(socket.netns), socket.local, socket.remote);
        let now_ns = snapshot.ended_ns;
        let listing = self.listing;
        if let Some(other) = self.timewait.get(key).filter(|known| !known.is_of(socket.cookie)) {
            emit(is_gone(other, self.polled_from_ns, now_ns));
            self.timewait.remove(key);
        }
        let Some(known) = self.timewait.get_mut(key) else {
            if self.keeps(socket.state) && (self.keeps_unwanted || wanted(socket, &[])) {
                let listed = Connection::of_listed(socket, None, now_ns, &mut self.roles);
                self.timewait.insert(key, listed.in_listing(listing));
                self.make_room();
            }
            return;
        };
        known.listing = listing;
        known.set_cookie(socket.cookie);
        known.set_expiry(expires_ns(socket, now_ns));
        if known.state == State::FinWait2 && socket.state == State::TimeWait {
            let age = socket.age(now_ns).filter(|age| age.source == AgeSource::Timer);
            let began_ns = age.map(|age| now_ns.saturating_sub(age.ns));
            emit(began_time_wait(known, began_ns, known.expires_ns(), now_ns));
            known.set_found_state(socket, now_ns);
            if !self.keeps(State::TimeWait) {
                self.timewait.remove(key);
            }
        }
    }
}

/// Index of full sockets, giving their keys.
#[derive(Default)]
struct KeyIndex {
    by_cookie: FxHashMap<u64, u64>,
    /// Those that have no cookie yet (before 5.12).
    by_ends: KeyedMap<(u32, SocketAddr, SocketAddr), u64>,
}

impl KeyIndex {
    fn key_of(&self, socket: &ListedSocket) -> Option<u64> {
        let by_cookie = self.by_cookie.get(&socket.cookie?);
        by_cookie.or_else(|| self.by_ends.get(&(socket.netns, socket.local, socket.remote))).copied()
    }
}

/// The namespaces that were listed completely.
fn visited(snapshot: &Snapshot) -> FxHashSet<u32> {
    let namespaces = snapshot.namespaces.iter().filter(|_| snapshot.skipped.cut_short == 0);
    namespaces.map(|namespace| namespace.inode).collect()
}

/// Owner of a listed socket: the holder of its listener if no process has used it yet.
fn named(services: &ListenerHolders, socket: &ListedSocket, owner: Option<Owner>) -> Option<Owner> {
    let through = owner.as_ref().filter(|owner| is_through_listener(owner) && socket.uid.is_none());
    let by_listener = through.and_then(|owner| services.name(Some(socket.netns), socket.local, Some(owner)));
    by_listener.map(|(owner, _)| owner).or(owner)
}
