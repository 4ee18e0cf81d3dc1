//! One socket of the table: what events and listings have shown about it.

mod update;

use std::{net::SocketAddr, num::NonZeroU32, rc::Rc};

use tcptrace_common::record::socket_flag;

use super::{retransmits::Retransmits, roles::Roles};
use crate::{
    model::{
        age::AgeSource,
        event::{Event, EventKind, Owner, OwnerSource, ResetFacts, Transition, is_same_process},
        socket::{Kind, ListedSocket, StuckReasons},
        state::State,
    },
    table::compact::{Ends, NicheU64, PackedAddr},
};

/// A live socket. There may be a million, so each takes 112 bytes; data that few sockets have is boxed.
#[derive(Clone, Debug)]
pub struct Connection {
    /// CLOCK_MONOTONIC in ns at which it entered its state, or an upper bound on that.
    pub since_ns: u64,
    /// CLOCK_MONOTONIC in ns at which it became known.
    pub first_seen_ns: u64,
    /// For a timewait socket, when the kernel removes it; for any other, the time of the last known segment.
    timer_or_active_ns: NicheU64,
    suspected_ns: NicheU64,
    cookie: NicheU64,
    handle: NicheU64,
    roles: Option<Rc<Roles>>,
    rare: Option<Box<Rare>>,
    netns: Option<NonZeroU32>,
    /// Number of the last listing that contained it.
    pub(super) listing: u32,
    local: PackedAddr,
    remote: PackedAddr,
    /// Its state after the last event or listing.
    pub state: State,
    /// How `since_ns` was determined.
    pub since: AgeSource,
    /// True if no file refers to it any more; `None` if unknown.
    pub orphan: Option<bool>,
    flags: u8,
}

mod flag {
    pub(super) const IPV6: u8 = 1 << 0;
    pub(super) const TIMEWAIT: u8 = 1 << 1;
    pub(super) const HAS_EVENTS: u8 = 1 << 2;
    /// The filter hides it, see [`super::super::Table::apply_filter`].
    pub(super) const HIDDEN: u8 = 1 << 3;
    /// This host opened the connection.
    pub(super) const ACTIVE: u8 = 1 << 4;
    /// The peer opened the connection.
    pub(super) const PASSIVE: u8 = 1 << 5;
    /// The last listing of stuck sockets contained it, see [`super::StuckReasons`].
    pub(super) const STUCK: u8 = 1 << 6;
}

/// Data that few sockets have.
#[derive(Clone, Debug, Default)]
struct Rare {
    retransmits: Retransmits,
    reset: Option<ResetFacts>,
    facts: Option<Box<Facts>>,
    read: Option<Reading>,
    pauses: Option<Pauses>,
    /// For a listener, CLOCK_MONOTONIC in ns of the last listing that showed its accept queue full.
    full_ns: Option<u64>,
}

/// Progress of the process that reads from a socket with unread data, as seen by listings. Times are CLOCK_MONOTONIC in
/// ns.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// Bytes read so far.
    bytes: u64,
    /// First listing with that count.
    first_ns: u64,
    /// Last listing with that count.
    last_ns: u64,
    /// Last listing whose count was higher than that of the listing before.
    read_ns: Option<u64>,
}

/// A socket as of the last listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// CLOCK_MONOTONIC in ns of the start of the listing.
    pub at_ns: u64,
    /// CLOCK_MONOTONIC in ns that the times in `socket` refer to.
    pub listed_ns: u64,
    /// The socket as listed.
    pub socket: ListedSocket,
}

/// How often a closed window opens briefly, as seen by listings. Times are CLOCK_MONOTONIC in ns.
#[derive(Clone, Copy, Debug)]
struct Pauses {
    /// When data was last sent.
    sent_ns: u64,
    /// Last listing that showed no data sent since.
    last_ns: u64,
    /// Longest time between two sends, in ns.
    longest_ns: u64,
}

impl Pauses {
    /// Two send times closer than this are the same send: the kernel counts in jiffies.
    const SAME_NS: u64 = 100_000_000;

    /// Updates it with a listing made at `last_ns`.
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
    /// The process that owns it.
    #[must_use]
    pub fn owner(&self) -> Option<Owner> {
        self.roles.as_ref()?.owner
    }

    /// The process that created it, if observed: the one that called `connect` or `listen`, or that owned the listener.
    #[must_use]
    pub fn creator(&self) -> Option<Owner> {
        self.roles.as_ref()?.creator
    }

    /// The process that accepted it.
    #[must_use]
    pub fn acceptor(&self) -> Option<Owner> {
        self.roles.as_ref()?.acceptor
    }

    /// Its previous owner, which no longer holds it.
    #[must_use]
    pub fn former(&self) -> Option<Owner> {
        self.roles.as_ref()?.former
    }

    /// The process at the other end, as it was last known; that end is or was on this host.
    #[must_use]
    pub fn peer(&self) -> Option<Owner> {
        self.roles.as_ref()?.peer
    }

    /// Whether this host opened the connection; `None` if that was not observed.
    #[must_use]
    pub const fn is_active(&self) -> Option<bool> {
        match (self.is(flag::ACTIVE), self.is(flag::PASSIVE)) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }

    /// PID of the process that closed it or shut down its sending side.
    #[must_use]
    pub fn closed_by(&self) -> Option<u32> {
        self.roles.as_ref()?.closed_by
    }

    /// Socket cookie, which is never reused.
    #[must_use]
    pub fn cookie(&self) -> Option<u64> {
        self.cookie.get()
    }

    /// Local address of the socket.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local.get()
    }

    /// Remote address; unspecified for listeners.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote.get()
    }

    pub(super) fn ends(&self) -> Ends {
        Ends::new(self.netns(), self.local, self.remote)
    }

    /// Inode number of its network namespace.
    #[must_use]
    pub fn netns(&self) -> Option<u32> {
        self.netns.map(NonZeroU32::get)
    }

    /// True for an IPv6 socket.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        self.is(flag::IPV6)
    }

    /// True for a timewait socket (`struct tcp_timewait_sock`).
    #[must_use]
    pub const fn is_timewait(&self) -> bool {
        self.is(flag::TIMEWAIT)
    }

    /// True if it had an event.
    #[must_use]
    pub const fn has_events(&self) -> bool {
        self.is(flag::HAS_EVENTS)
    }

    /// Key of its holders, see [`ListedSocket::handle`]; `None` before its first listing.
    #[must_use]
    pub fn handle(&self) -> Option<u64> {
        self.handle.get()
    }

    /// CLOCK_MONOTONIC in ns at which the kernel's timer removes it, if one is running.
    #[must_use]
    pub fn expires_ns(&self) -> Option<u64> {
        self.timer_or_active_ns.get().filter(|_| self.is_timewait())
    }

    /// CLOCK_MONOTONIC in ns of the last known segment (in CLOSE_WAIT and FIN_WAIT2: of the last data); 0 if unknown.
    #[must_use]
    pub fn active_ns(&self) -> u64 {
        self.timer_or_active_ns.get().filter(|_| !self.is_timewait()).unwrap_or(0)
    }

    /// CLOCK_MONOTONIC in ns since which it is a suspect, see [`super::Table::suspect`].
    #[must_use]
    pub fn suspected_ns(&self) -> Option<u64> {
        self.suspected_ns.get()
    }

    /// Its retransmissions so far.
    #[must_use]
    pub fn retransmits(&self) -> &Retransmits {
        self.rare.as_ref().map_or(&Retransmits::NONE, |rare| &rare.retransmits)
    }

    /// State of the connection when it received or sent a RST, just before it ended.
    #[must_use]
    pub fn reset(&self) -> Option<ResetFacts> {
        self.rare.as_ref()?.reset
    }

    /// The socket as of the last listing, if it was then a suspect, stuck, or a listener.
    #[must_use]
    pub fn facts(&self) -> Option<&Facts> {
        self.rare.as_ref()?.facts.as_deref()
    }

    /// What it waits for that only a process can resolve, as of the last listing of stuck sockets.
    #[must_use]
    pub fn stuck_reasons(&self) -> StuckReasons {
        let facts = self.facts().filter(|_| self.is_ailing());
        facts.map(|facts| facts.socket.stuck_reasons()).unwrap_or_default()
    }

    /// CLOCK_MONOTONIC in ns of the last listing that showed progress in reading the unread data.
    #[must_use]
    pub fn read_ns(&self) -> Option<u64> {
        self.rare.as_ref()?.read?.read_ns
    }

    /// How long listings have shown unread data, in ns.
    #[must_use]
    pub fn watched_ns(&self) -> Option<u64> {
        let read = self.rare.as_ref()?.read?;
        Some(read.last_ns.saturating_sub(read.first_ns))
    }

    /// Longest time that the peer's window was closed before the peer read again, as seen by listings, in ns.
    #[must_use]
    pub fn longest_pause_ns(&self) -> u64 {
        self.rare.as_ref().and_then(|rare| rare.pauses).map_or(0, |pauses| pauses.longest_ns)
    }

    /// For a listener, CLOCK_MONOTONIC in ns of the last listing that showed its accept queue full.
    #[must_use]
    pub fn full_ns(&self) -> Option<u64> {
        self.rare.as_ref()?.full_ns
    }

    /// Whether findings must evaluate it: it is a suspect, stuck, a listener, or retransmitted lately.
    #[must_use]
    pub fn needs_evaluation(&self, now_ns: u64) -> bool {
        self.suspected_ns().is_some()
            || self.is_ailing()
            || self.state == State::Listen
            || self.retransmits().recent(now_ns).0 > 0
    }

    pub(super) const fn is_ailing(&self) -> bool {
        self.is(flag::STUCK)
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

    /// Whether an event with this cookie is about this socket. If the event of its end was lost, another socket may
    /// have its address now.
    pub(super) fn is_of(&self, cookie: Option<u64>) -> bool {
        self.cookie().zip(cookie).is_none_or(|(known, now)| known == now)
    }

    /// As [`Self::is_of`]: an event that begins a connection is about another socket, unless the cookies agree.
    pub(super) fn is_of_event(&self, event: &Event) -> bool {
        self.cookie().zip(event.socket.cookie).map_or(!begins_life(&event.what), |(known, now)| known == now)
    }

    fn roles(&self) -> Roles {
        self.roles.as_deref().copied().unwrap_or_default()
    }

    /// The owner at an event that names the owner the programs remember: the programs do not notice when a process
    /// stops holding the socket.
    pub(super) fn owner_at(&self, event: &Event) -> Option<Owner> {
        let is_left = |owner: &Owner| {
            self.former()
                .is_some_and(|former| former.source == owner.source && is_same_process(former.id(), owner.id()))
        };
        event.owner.filter(|owner| !is_left(owner)).or_else(|| self.owner())
    }

    /// The recorded owner; `listed` is the one that the programs know.
    pub(super) fn recorded(&self, listed: Option<Owner>) -> Option<Owner> {
        let own = self.owner();
        own.filter(is_seen).or(listed).or(own)
    }
}

/// CLOCK_MONOTONIC in ns at which a listed socket entered its state, and how that was determined.
fn since(socket: &ListedSocket, now_ns: u64) -> (u64, AgeSource) {
    let age = socket.age(now_ns);
    age.map_or((now_ns, AgeSource::LowerBound), |age| (now_ns.saturating_sub(age.ns), age.source))
}

pub(super) fn expires_ns(socket: &ListedSocket, now_ns: u64) -> Option<u64> {
    let timer = socket.timer.filter(|_| socket.kind == Kind::TimeWait)?;
    Some(now_ns.saturating_add(timer.left_ns))
}

/// True if no file refers to it. Only a connection that is closing can outlive its file.
pub(super) fn is_orphan(socket: &ListedSocket) -> bool {
    use State::{Closing, FinWait1, FinWait2, LastAck};
    socket.kind == Kind::TimeWait
        || socket.uid.is_none() && matches!(socket.state, FinWait1 | FinWait2 | Closing | LastAck)
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

/// True if a process sends the FIN here, by `close` or `shutdown`.
fn is_close(event: &Event) -> bool {
    use State::{CloseWait, Established, FinWait1, LastAck, SynRecv};
    let sends_fin = matches!(
        event.what,
        EventKind::Transition(Transition { old: Established | CloseWait | SynRecv, new: FinWait1 | LastAck, .. })
    );
    sends_fin && event.socket.is(socket_flag::OWNED)
}

/// Whether it has lost its file. `__tcp_close` (`net/ipv4/tcp.c`) shuts down both directions before it sends the FIN,
/// and detaches the file afterwards. In CLOSE_WAIT the receiving direction is already shut down, so that `close` and
/// `shutdown` look alike.
fn is_orphaned(event: &Event) -> Option<bool> {
    let is = |flag| event.socket.is(flag);
    match event.socket.state {
        State::CloseWait => None,
        State::Established => Some(is(socket_flag::SHUTDOWN_SEND) && is(socket_flag::SHUTDOWN_RECEIVE)),
        _ => Some(is(socket_flag::DEAD)),
    }
}

/// True if a process was seen using the socket, but another one owns it now.
fn is_left_by(before: &Owner, now: Option<Owner>) -> bool {
    let used_it = is_seen(before) && before.source != OwnerSource::Listener;
    used_it && now.is_some_and(|now| !is_same_process(now.id(), before.id()))
}

/// True if it was seen using the socket, rather than only found to hold it.
pub(super) fn is_seen(owner: &Owner) -> bool {
    !matches!(owner.source, OwnerSource::Holder | OwnerSource::Shared)
}

fn is_creator(owner: &Owner) -> bool {
    matches!(owner.source, OwnerSource::Connect | OwnerSource::Listen | OwnerSource::Listener)
}

fn is_acceptor(owner: &Owner) -> bool {
    owner.source == OwnerSource::Accept
}
