//! What a listing says of the table: sockets that events did not tell of, or that are no more, and the changes of
//! mini-sockets and half-open requests, of which there are no events.

use std::net::SocketAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Connection, HalfOpen, MAX_REQUESTED, Reconciled, Table, connection::expires_ns, mini_key};
use crate::{
    ending::Ending,
    event::{Event, Socket, StateSource, TimeInState, TimeSource, Transition, What},
    snapshot::{AgeSource, Holder, Kind, ListedSocket, Snapshot, TIME_WAIT_NS, listeners_of, place},
    state::State,
};

impl Table {
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
                self.take_in(key, socket, holders, snapshot, &mut reconciled);
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
        holders: &[Holder],
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
            let listed = Connection::of_listed(socket, holders, snapshot.ended_ns, &mut self.roles);
            self.add(key, listed.in_listing(listing));
            return;
        };
        known.listing = listing;
        known.is_listed(socket);
        known.is_named(socket.cookie);
        known.is_held(socket.owner, holders, &mut self.roles);
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
                    known.is_held(socket.owner, holders.of(socket.handle), &mut self.roles);
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

    pub(super) fn listeners(&self) -> impl Iterator<Item = ((u32, SocketAddr), &Connection)> {
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
                let listed = Connection::of_listed(socket, &[], now_ns, &mut self.roles);
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
            exit: None,
            expires_in_ns: mini
                .expires_ns()
                .filter(|_| new == State::TimeWait)
                .map(|end_ns| end_ns.saturating_sub(now_ns)),
        }),
    }
}
