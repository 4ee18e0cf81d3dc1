//! One socket of the table: what events and listings told of it.

use std::{net::SocketAddr, num::NonZeroU32, rc::Rc};

use tcptrace_common::record::socket_flag;

use super::{
    retransmits::Retransmits,
    roles::{AllRoles, Roles},
};
use crate::{
    model::{
        age::AgeSource,
        event::{Event, EventKind, Owner, OwnerSource, ResetFacts, Transition, is_same_process},
        snapshot::Snapshot,
        socket::{Ailments, ConnectionInfo, Kind, ListedSocket},
        state::State,
    },
    table::compact::{NicheU64, PackedAddr},
};

/// A socket that is alive. There may be a million, so each takes 112 bytes; what few have is kept apart.
#[derive(Clone, Debug)]
pub struct Connection {
    /// CLOCK_MONOTONIC at which it entered its state, in ns, or the latest at which it did.
    pub since_ns: u64,
    /// CLOCK_MONOTONIC at which it became known, in ns.
    pub first_seen_ns: u64,
    /// Of a mini-socket, when the kernel ends it; of another one, until when segments came or went.
    timer_or_active_ns: NicheU64,
    suspected_ns: NicheU64,
    cookie: NicheU64,
    handle: NicheU64,
    roles: Option<Rc<Roles>>,
    rare: Option<Box<Rare>>,
    netns: Option<NonZeroU32>,
    /// Number of the last listing that showed it.
    pub(super) listing: u32,
    local: PackedAddr,
    remote: PackedAddr,
    /// Its state.
    pub state: State,
    /// How it is known since when.
    pub since: AgeSource,
    /// Does no file refer to it any more? `None` where nothing told.
    pub orphan: Option<bool>,
    flags: u8,
}

/// Bits of [`Connection::flags`].
mod flag {
    pub(super) const IPV6: u8 = 1 << 0;
    pub(super) const MINI: u8 = 1 << 1;
    pub(super) const HAS_EVENTS: u8 = 1 << 2;
    /// Is it not to be shown? See [`super::super::Table::choose`].
    pub(super) const HIDDEN: u8 = 1 << 3;
    /// Was it opened from here?
    pub(super) const ACTIVE: u8 = 1 << 4;
    /// Did it come in?
    pub(super) const PASSIVE: u8 = 1 << 5;
    /// Did the last listing that shows such sockets show one of [`super::Ailments`]?
    pub(super) const AILING: u8 = 1 << 6;
}

/// What few sockets have.
#[derive(Clone, Debug, Default)]
struct Rare {
    retransmits: Retransmits,
    reset: Option<ResetFacts>,
    facts: Option<Box<Facts>>,
    read: Option<Reading>,
    pauses: Option<Pauses>,
    /// Of a listener, CLOCK_MONOTONIC at which a listing last showed its accept queue full.
    full_ns: Option<u64>,
}

/// How a process reads from a socket in which data lies unread, as listings show it. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Bytes that were read.
    bytes: u64,
    /// When a listing showed that first.
    first_ns: u64,
    /// When the last one did.
    last_ns: u64,
    /// When one last showed more than the one before.
    read_ns: Option<u64>,
}

/// What a listing showed of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// CLOCK_MONOTONIC at which the listing began, in ns.
    pub at_ns: u64,
    /// CLOCK_MONOTONIC to which its times refer.
    pub listed_ns: u64,
    /// The socket then.
    pub socket: ListedSocket,
}

/// How a closed window lets data pass now and then, as listings show it. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    /// When data was sent last.
    sent_ns: u64,
    /// When a listing last showed that nothing had been sent since.
    last_ns: u64,
    /// The longest time after which more was sent, in ns.
    longest_ns: u64,
}

impl Pauses {
    /// What was sent within this time may be the same: the kernel counts in jiffies.
    const SAME_NS: u64 = 100_000_000;

    /// Takes in what a listing of `last_ns` shows.
    fn next(before: Option<Self>, sent_ns: u64, last_ns: u64) -> Self {
        let Some(before) = before else { return Self { sent_ns, last_ns, longest_ns: 0 } };
        if sent_ns <= before.sent_ns.saturating_add(Self::SAME_NS) {
            return Self { last_ns, ..before };
        }
        let pause_ns = before.last_ns.saturating_sub(before.sent_ns);
        Self { sent_ns, last_ns, longest_ns: before.longest_ns.max(pause_ns) }
    }
}

impl Connection {
    /// The process that it belongs to.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.roles.as_ref()?.owner
    }

    /// The process that made it, as far as that was seen: called `connect` or `listen`, or owned the listener.
    #[must_use]
    pub fn creator(&self) -> Option<Owner> {
        self.roles.as_ref()?.creator
    }

    /// The process that accepted it.
    #[must_use]
    pub fn acceptor(&self) -> Option<Owner> {
        self.roles.as_ref()?.acceptor
    }

    /// The process that it belonged to before, and that holds it no more.
    #[must_use]
    pub fn former(&self) -> Option<Owner> {
        self.roles.as_ref()?.former
    }

    /// Did this host open the connection? `None` where that was not seen.
    #[must_use]
    pub const fn is_active(&self) -> Option<bool> {
        match (self.is(flag::ACTIVE), self.is(flag::PASSIVE)) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// PID of the process that closed it, or shut its sending side down.
    #[must_use]
    pub fn closed_by(&self) -> Option<u32> {
        self.roles.as_ref()?.closed_by
    }

    /// Its lasting name.
    #[must_use]
    pub fn cookie(&self) -> Option<u64> {
        self.cookie.get()
    }

    /// Local end.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local.get()
    }

    /// Remote end.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote.get()
    }

    /// Network namespace.
    #[must_use]
    pub fn netns(&self) -> Option<u32> {
        self.netns.map(NonZeroU32::get)
    }

    /// Is it an IPv6 socket?
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.is(flag::IPV6)
    }

    /// Is it a mini-socket?
    #[must_use]
    pub const fn is_mini(&self) -> bool {
        self.is(flag::MINI)
    }

    /// Did an event tell of it?
    #[must_use]
    pub const fn has_events(&self) -> bool {
        self.is(flag::HAS_EVENTS)
    }

    /// Key of its holders, see [`ListedSocket::handle`]; `None` where no listing showed it yet.
    #[must_use]
    pub fn handle(&self) -> Option<u64> {
        self.handle.get()
    }

    /// CLOCK_MONOTONIC at which the kernel ends it, in ns, where a timer for that runs.
    #[must_use]
    pub fn expires_ns(&self) -> Option<u64> {
        self.timer_or_active_ns.get().filter(|_| self.is_mini())
    }

    /// CLOCK_MONOTONIC until which segments came or went, in CLOSE_WAIT and FIN_WAIT2 data, as far as is known, in ns; 0
    /// where nothing is.
    #[must_use]
    pub fn active_ns(&self) -> u64 {
        self.timer_or_active_ns.get().filter(|_| !self.is_mini()).unwrap_or(0)
    }

    /// CLOCK_MONOTONIC since which it is suspected of trouble, in ns; see [`super::Table::suspect`].
    #[must_use]
    pub fn suspected_ns(&self) -> Option<u64> {
        self.suspected_ns.get()
    }

    /// What its retransmissions told.
    #[must_use]
    pub fn retransmits(&self) -> &Retransmits {
        self.rare.as_ref().map_or(&Retransmits::NONE, |rare| &rare.retransmits)
    }

    /// What the kernel knew when a RST came for it, or was sent by it: before it ends of that.
    #[must_use]
    pub fn reset(&self) -> Option<ResetFacts> {
        self.rare.as_ref()?.reset
    }

    /// What the last listing showed of it, if it was suspected of trouble then, waits for a process, or listens.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        self.rare.as_ref()?.facts.as_deref()
    }

    /// For what it waits that only a process can end, by the last listing that looked for that.
    #[must_use]
    pub fn ailments(&self) -> Ailments {
        let facts = self.facts().filter(|_| self.is_ailing());
        facts.map(|facts| facts.socket.ailments()).unwrap_or_default()
    }

    /// CLOCK_MONOTONIC at which a listing last showed, in ns, that some of the data that lies unread was read.
    #[must_use]
    pub fn read_ns(&self) -> Option<u64> {
        self.rare.as_ref()?.read?.read_ns
    }

    /// For how long listings have shown that data lies unread, in ns.
    #[must_use]
    pub fn watched_ns(&self) -> Option<u64> {
        let read = self.rare.as_ref()?.read?;
        Some(read.last_ns.saturating_sub(read.first_ns))
    }

    /// The longest time that the peer's window was closed until the peer read again, as far as listings showed it, in ns.
    #[must_use]
    pub fn longest_pause_ns(&self) -> u64 {
        self.rare.as_ref().and_then(|rare| rare.pauses).map_or(0, |pauses| pauses.longest_ns)
    }

    /// Of a listener, CLOCK_MONOTONIC at which a listing last showed its accept queue full, in ns.
    #[must_use]
    pub fn full_ns(&self) -> Option<u64> {
        self.rare.as_ref()?.full_ns
    }

    /// Is there a reason to look at it: is it suspected, does it wait for a process, does it listen, or did it send again
    /// lately?
    #[must_use]
    pub fn is_restless(&self, now_ns: u64) -> bool {
        self.suspected_ns().is_some()
            || self.is_ailing()
            || self.state == State::Listen
            || self.retransmits().lately(now_ns).0 > 0
    }

    pub(super) const fn is_ailing(&self) -> bool {
        self.is(flag::AILING)
    }

    const fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    const fn set(&mut self, flag: u8, is: bool) {
        self.flags = if is { self.flags | flag } else { self.flags & !flag };
    }

    pub(super) const fn is_hidden(&self) -> bool {
        self.is(flag::HIDDEN)
    }

    pub(super) const fn hide(&mut self, is_hidden: bool) {
        self.set(flag::HIDDEN, is_hidden);
    }

    /// Is it the socket of this event? Another one may have come to its address where the event of its end was lost.
    pub(super) fn is_of(&self, cookie: Option<u64>) -> bool {
        self.cookie().zip(cookie).is_none_or(|(known, now)| known == now)
    }

    /// The same for an event: what begins here is another one than was here before, unless cookies say that it is not.
    pub(super) fn is_of_event(&self, event: &Event) -> bool {
        self.cookie().zip(event.socket.cookie).map_or(!begins_life(&event.what), |(known, now)| known == now)
    }

    /// A socket that an event brought to `state`, and of which nothing was known.
    pub(super) fn of_event(event: &Event, state: State, all: &mut AllRoles) -> Self {
        let mut new = Self {
            since_ns: event.time_ns,
            first_seen_ns: event.time_ns,
            timer_or_active_ns: NicheU64::NONE,
            suspected_ns: NicheU64::NONE,
            cookie: NicheU64::NONE,
            handle: NicheU64::NONE,
            roles: None,
            rare: None,
            netns: None,
            listing: 0,
            local: PackedAddr::new(event.socket.local),
            remote: PackedAddr::new(event.socket.remote),
            state,
            since: AgeSource::Observed,
            orphan: None,
            flags: 0,
        };
        new.enters(event, state, all);
        new
    }

    /// An event brings it to `state`.
    pub(super) fn enters(&mut self, event: &Event, state: State, all: &mut AllRoles) {
        let roles = self.roles();
        let closed_by = event.owner.filter(|_| is_close(event)).map(|owner| owner.pid);
        let now = Roles {
            owner: event.owner,
            creator: roles.creator.or(event.owner.filter(is_creator)),
            acceptor: roles.acceptor.or(event.owner.filter(is_acceptor)),
            closed_by: roles.closed_by.or(closed_by),
            // It holds the socket again.
            former: roles
                .former
                .filter(|former| event.owner.is_none_or(|owner| !is_same_process(owner.id(), former.id()))),
        };
        self.set_roles(now, all);
        (self.state, self.since_ns, self.since) = (state, event.time_ns, AgeSource::Observed);
        self.orphan = is_orphaned(event);
        self.cookie = NicheU64::new(event.socket.cookie);
        (self.local, self.remote) = (PackedAddr::new(event.socket.local), PackedAddr::new(event.socket.remote));
        self.netns = event.socket.netns.and_then(NonZeroU32::new);
        self.set(flag::IPV6, event.socket.ipv6);
        self.set(flag::HAS_EVENTS, true);
        match &event.what {
            EventKind::Transition(Transition { new: State::SynSent, .. }) => self.set(flag::ACTIVE, true),
            EventKind::Transition(Transition { old: State::Listen, .. }) => self.set(flag::PASSIVE, true),
            _ => {}
        }
        self.timer_or_active_ns = NicheU64(event.time_ns);
        self.suspected_ns = NicheU64::NONE;
        self.set(flag::AILING, false); // until it is shown in this state
        self.forget_facts();
        self.listing = 0;
    }

    /// A mini-socket takes the place of the socket. No file refers to it.
    pub(super) fn becomes_mini(&mut self, now_ns: u64, expires_ns: Option<u64>) {
        (self.first_seen_ns, self.orphan, self.handle) = (now_ns, Some(true), NicheU64(0));
        self.set(flag::MINI, true);
        self.expires(expires_ns);
    }

    pub(super) fn of_listed(socket: &ListedSocket, owner: Option<Owner>, now_ns: u64, all: &mut AllRoles) -> Self {
        // The tracked socket of a mini-socket's full socket may be another one by now.
        let seen = socket.owner.filter(|_| socket.kind != Kind::Mini);
        let former = seen.filter(|seen| is_left_by(seen, owner));
        let (since_ns, since) = since(socket, now_ns);
        let (creator, acceptor) = (owner.filter(is_creator), owner.filter(is_acceptor));
        let mut new = Self {
            since_ns,
            first_seen_ns: now_ns,
            timer_or_active_ns: NicheU64::NONE,
            suspected_ns: NicheU64::NONE,
            cookie: NicheU64::new(socket.cookie),
            handle: NicheU64(socket.handle),
            roles: all.share(Roles { owner, creator, acceptor, closed_by: None, former }),
            rare: None,
            netns: NonZeroU32::new(socket.netns),
            listing: 0,
            local: PackedAddr::new(socket.local),
            remote: PackedAddr::new(socket.remote),
            state: socket.state,
            since,
            orphan: Some(is_orphan(socket)),
            flags: 0,
        };
        new.set(flag::IPV6, socket.ipv6);
        let has = |sources: &[OwnerSource]| owner.is_some_and(|owner| sources.contains(&owner.source));
        new.set(flag::ACTIVE, has(&[OwnerSource::Connect]));
        new.set(flag::PASSIVE, has(&[OwnerSource::Accept, OwnerSource::Listener]));
        if socket.kind == Kind::Mini {
            new.set(flag::MINI, true);
            new.expires(expires_ns(socket, now_ns));
        }
        new
    }

    /// Shown by the listing of this number.
    pub(super) fn in_listing(self, listing: u32) -> Self {
        Self { listing, ..self }
    }

    fn roles(&self) -> Roles {
        self.roles.as_deref().copied().unwrap_or_default()
    }

    fn set_roles(&mut self, roles: Roles, all: &mut AllRoles) {
        if self.roles() != roles {
            self.roles = all.share(roles);
        }
    }

    /// Sets when the kernel ends a mini-socket.
    pub(super) fn expires(&mut self, expires_ns: Option<u64>) {
        self.timer_or_active_ns = NicheU64::new(expires_ns);
    }

    /// Takes in its local end, where its port was chosen after the event that told of it.
    fn is_bound(&mut self, local: SocketAddr) {
        if self.local().port() == 0 {
            self.local = PackedAddr::new(local);
        }
    }

    /// Takes in what a listing tells of any socket.
    pub(super) fn is_listed(&mut self, socket: &ListedSocket) {
        self.is_bound(socket.local);
        self.handle = NicheU64(socket.handle);
        self.orphan = Some(is_orphan(socket));
    }

    /// It is in the state that a listing shows, and no event told of it.
    pub(super) fn is_found_in_state(&mut self, socket: &ListedSocket, now_ns: u64) {
        self.state = socket.state;
        (self.since_ns, self.since) = since(socket, now_ns);
    }

    /// Takes in a cookie, where none was known.
    pub(super) fn is_named(&mut self, cookie: Option<u64>) {
        self.cookie = NicheU64::new(self.cookie().or(cookie));
    }

    /// Takes in whose it is by a listing of holders. Who was seen to use it and holds it no more is its former owner.
    pub(super) fn is_held(&mut self, owner: Option<Owner>, all: &mut AllRoles) {
        let roles = self.roles();
        let left = roles.owner.filter(|before| is_left_by(before, owner));
        self.set_roles(Roles { owner, former: left.or(roles.former), ..roles }, all);
    }

    /// Who has it where an event names the owner that the programs remember: they do not see that it holds the socket no
    /// more.
    pub(super) fn owner_at(&self, event: &Event) -> Option<Owner> {
        let is_left = |owner: &Owner| {
            self.former()
                .is_some_and(|former| former.source == owner.source && is_same_process(former.id(), owner.id()))
        };
        event.owner.filter(|owner| !is_left(owner)).or_else(|| self.owner())
    }

    /// The owner that is recorded; `listed` is what the programs know.
    pub(super) fn recorded(&self, listed: Option<Owner>) -> Option<Owner> {
        let own = self.owner();
        own.filter(is_seen).or(listed).or(own)
    }

    /// Takes in what a listing shows; keeps all of it where that may be asked for.
    pub(super) fn show(&mut self, socket: &ListedSocket, snapshot: &Snapshot) {
        let quiet_ns = |info: ConnectionInfo| match socket.state {
            // A peer that only answers keepalives keeps nothing going.
            State::CloseWait | State::FinWait2 => info.without_data_ns(),
            _ => info.quiet_ns(),
        };
        if let Some(since_ns) = socket.connection.map(quiet_ns) {
            self.timer_or_active_ns = NicheU64(self.active_ns().max(snapshot.ended_ns.saturating_sub(since_ns)));
        }
        let total = socket.connection.map_or(0, |info| info.total_retrans);
        if self.retransmits().last_ns < snapshot.started_ns
            && (self.retransmits().timeouts != socket.timeouts || self.retransmits().total < total)
        {
            let retransmits = &mut self.rare().retransmits;
            (retransmits.timeouts, retransmits.total) = (socket.timeouts, retransmits.total.max(total));
        }
        let ailments = socket.ailments();
        self.set(flag::AILING, ailments.any() && self.state == socket.state);
        if ailments.unread > 0 {
            let received = socket.connection.map_or(0, |info| info.bytes_received);
            let now = received.saturating_sub(socket.receive_queue.into());
            let last_ns = snapshot.ended_ns;
            let first = Reading { bytes: now, first_ns: last_ns, last_ns, read_ns: None };
            let before = self.rare().read.unwrap_or(first);
            let read_ns = if before.bytes < now { Some(last_ns) } else { before.read_ns };
            self.rare().read = Some(Reading { bytes: now, last_ns, read_ns, ..before });
        } else if let Some(rare) = &mut self.rare {
            rare.read = None;
        }
        if let Some(info) = socket.connection.filter(|_| ailments.window_closed) {
            let sent_ns = snapshot.ended_ns.saturating_sub(info.last_sent_ns);
            let rare = self.rare();
            rare.pauses = Some(Pauses::next(rare.pauses, sent_ns, snapshot.ended_ns));
        }
        if socket.is_full_listener() {
            self.rare().full_ns = Some(snapshot.ended_ns);
        }
        let is_kept = self.suspected_ns().is_some() || self.is_ailing() || socket.state == State::Listen;
        if is_kept && self.state == socket.state {
            let (at_ns, listed_ns) = (snapshot.started_ns, snapshot.ended_ns);
            self.rare().facts = Some(Box::new(Facts { at_ns, listed_ns, socket: *socket }));
        }
    }

    /// It is suspected of trouble, since `now_ns` where it was not before.
    pub(super) fn is_suspect(&mut self, now_ns: u64) {
        self.suspected_ns = NicheU64::new(self.suspected_ns().or(Some(now_ns)));
    }

    /// It is not suspected. A listener is shown all the same.
    pub(super) fn is_no_suspect(&mut self) {
        self.suspected_ns = NicheU64::NONE;
        if self.state != State::Listen && !self.is_ailing() {
            self.forget_facts();
        }
    }

    /// The last listing does not show it among those that wait for a process.
    pub(super) fn is_well(&mut self) {
        self.set(flag::AILING, false);
        if let Some(rare) = &mut self.rare {
            rare.read = None;
        }
        if self.suspected_ns().is_none() {
            self.forget_facts();
        }
    }

    fn forget_facts(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.facts = None;
        }
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Takes in what happened without a change of state.
    pub(super) fn happened(&mut self, event: &Event, all: &mut AllRoles) {
        self.is_bound(event.socket.local);
        self.is_named(event.socket.cookie);
        match &event.what {
            EventKind::Retransmit(retransmit) => {
                self.rare().retransmits.add(event.time_ns, retransmit);
                self.timer_or_active_ns = NicheU64(event.time_ns);
            }
            EventKind::ResetReceived(facts) | EventKind::ResetSent { facts, .. } if *facts != self.reset() => {
                self.rare().reset = *facts;
            }
            EventKind::OwnerChanged => {
                let roles = self.roles();
                let acceptor = roles.acceptor.or(event.owner.filter(is_acceptor));
                self.set_roles(Roles { owner: event.owner, acceptor, ..roles }, all);
            }
            _ => {}
        }
    }
}

/// CLOCK_MONOTONIC at which a listed socket entered its state, and how that is known.
fn since(socket: &ListedSocket, now_ns: u64) -> (u64, AgeSource) {
    let age = socket.age(now_ns);
    age.map_or((now_ns, AgeSource::LowerBound), |age| (now_ns.saturating_sub(age.ns), age.source))
}

pub(super) fn expires_ns(socket: &ListedSocket, now_ns: u64) -> Option<u64> {
    let timer = socket.timer.filter(|_| socket.kind == Kind::Mini)?;
    Some(now_ns.saturating_add(timer.left_ns))
}

/// Does no file refer to it? Only a connection that is being closed can lose its file and live.
pub(super) fn is_orphan(socket: &ListedSocket) -> bool {
    use State::{Closing, FinWait1, FinWait2, LastAck};
    socket.kind == Kind::Mini || socket.uid.is_none() && matches!(socket.state, FinWait1 | FinWait2 | Closing | LastAck)
}

pub(super) fn begins_life(what: &EventKind) -> bool {
    use State::{Close, Listen, SynRecv, SynSent};
    match what {
        EventKind::Transition(Transition { old, new, .. }) => {
            matches!((old, new), (Close, Listen | SynSent) | (Listen, SynRecv))
        }
        _ => false,
    }
}

/// Does a process send the FIN here, by `close` or `shutdown`?
fn is_close(event: &Event) -> bool {
    use State::{CloseWait, Established, FinWait1, LastAck, SynRecv};
    let sends_fin = matches!(
        event.what,
        EventKind::Transition(Transition { old: Established | CloseWait | SynRecv, new: FinWait1 | LastAck, .. })
    );
    sends_fin && event.socket.is(socket_flag::OWNED)
}

/// Has it lost its file? `__tcp_close` (`net/ipv4/tcp.c`) shuts both directions down before it sends the FIN, and takes the
/// file away after; in CLOSE_WAIT the receiving one is shut down already, and `close` cannot be told from `shutdown`.
fn is_orphaned(event: &Event) -> Option<bool> {
    let is = |flag| event.socket.is(flag);
    match event.socket.state {
        State::CloseWait => None,
        State::Established => Some(is(socket_flag::SHUTDOWN_SEND) && is(socket_flag::SHUTDOWN_RECEIVE)),
        _ => Some(is(socket_flag::DEAD)),
    }
}

/// Was a process seen to use the socket that now belongs to another one?
fn is_left_by(before: &Owner, now: Option<Owner>) -> bool {
    let used_it = is_seen(before) && before.source != OwnerSource::Listener;
    used_it && now.is_some_and(|now| !is_same_process(now.id(), before.id()))
}

/// Was it seen using the socket, and not only found to hold it?
pub(super) fn is_seen(owner: &Owner) -> bool {
    !matches!(owner.source, OwnerSource::Holder | OwnerSource::Shared)
}

fn is_creator(owner: &Owner) -> bool {
    matches!(owner.source, OwnerSource::Connect | OwnerSource::Listen | OwnerSource::Listener)
}

fn is_acceptor(owner: &Owner) -> bool {
    owner.source == OwnerSource::Accept
}
