//! One socket of the table: what events and listings told of it.

use std::net::SocketAddr;

use tcptrace_common::record::socket_flag;

use crate::{
    event::{Event, Owner, OwnerSource, ResetFacts, Retransmit, Transition, What},
    snapshot::{AgeSource, Kind, ListedSocket, Snapshot},
    state::State,
};

/// A socket that is alive.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its state.
    pub state: State,
    /// CLOCK_MONOTONIC at which it entered the state, in ns, or the latest at which it did.
    pub since_ns: u64,
    /// How that is known.
    pub since: AgeSource,
    /// The process that it belongs to.
    pub owner: Option<Owner>,
    /// The process that made it, as far as that was seen: called `connect` or `listen`, or owned the listener.
    pub creator: Option<Owner>,
    /// The process that accepted it.
    pub acceptor: Option<Owner>,
    /// PID of the process that closed it, or shut its sending side down.
    pub closed_by: Option<u32>,
    /// Does no file refer to it any more? `None` where nothing told.
    pub orphan: Option<bool>,
    /// Its lasting name.
    pub cookie: Option<u64>,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// Network namespace.
    pub netns: Option<u32>,
    /// Is it an IPv6 socket?
    pub ipv6: bool,
    /// Is it a mini-socket?
    pub is_mini: bool,
    /// Key of its holders, see [`ListedSocket::handle`]; `None` where no listing showed it yet.
    pub handle: Option<u64>,
    /// CLOCK_MONOTONIC at which it became known, in ns.
    pub first_seen_ns: u64,
    /// CLOCK_MONOTONIC at which the kernel ends it, in ns, where a timer for that runs.
    pub expires_ns: Option<u64>,
    /// Did an event tell of it?
    pub has_events: bool,
    /// What its retransmissions told.
    pub retransmits: Retransmits,
    /// CLOCK_MONOTONIC until which segments came or went, as far as is known, in ns.
    pub active_ns: u64,
    /// What the kernel knew when a RST came for it, or was sent by it: before it ends of that.
    pub reset: Option<Box<ResetFacts>>,
    /// What the last listing showed of it, if it was suspected of trouble then, or listens.
    pub facts: Option<Box<Facts>>,
    /// CLOCK_MONOTONIC since which it is suspected of trouble, in ns; see [`super::Table::suspect`].
    pub suspected_ns: Option<u64>,
    /// Number of the last listing that showed it.
    pub(super) listing: u32,
    /// Is it followed, but not to be shown? See [`super::Table::show`].
    pub(super) hidden: bool,
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

/// What the retransmissions of a connection told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retransmits {
    /// Timeouts in a row without an answer, at the last one.
    pub timeouts: u8,
    /// Segments in the connection's life, at the last one.
    pub total: u32,
    /// Smoothed round-trip time in µs at the last one, `None` where the kernel had none.
    pub srtt_us: Option<u32>,
    /// CLOCK_MONOTONIC of the last one, in ns; 0 where there was none.
    pub last_ns: u64,
    /// Segments in the [`Retransmits::SLOT_NS`] of the last one, and in the two before.
    slots: [u16; 3],
}

impl Retransmits {
    /// Retransmissions are counted by times of this length, in ns.
    pub const SLOT_NS: u64 = 5_000_000_000;

    fn add(&mut self, time_ns: u64, told: &Retransmit) {
        let passed = (time_ns / Self::SLOT_NS).saturating_sub(self.last_ns / Self::SLOT_NS);
        for _ in 0..passed.min(3) {
            self.slots = [0, self.slots[0], self.slots[1]];
        }
        self.slots[0] = self.slots[0].saturating_add(1);
        (self.timeouts, self.total, self.last_ns) = (told.timeouts, told.total_retrans, time_ns);
        self.srtt_us = told.srtt_us.or(self.srtt_us);
    }

    /// How many there were lately, and within what time, in ns: 10 to 15 s.
    #[must_use]
    pub const fn lately(&self, now_ns: u64) -> (u32, u64) {
        let passed = (now_ns / Self::SLOT_NS).saturating_sub(self.last_ns / Self::SLOT_NS);
        let [a, b, c] = self.slots;
        let count = match passed {
            0 => a as u32 + b as u32 + c as u32,
            1 => a as u32 + b as u32,
            2 => a as u32,
            _ => 0,
        };
        (count, 2 * Self::SLOT_NS + now_ns % Self::SLOT_NS)
    }
}

impl Connection {
    /// Is it the socket of this event? Another one may have come to its address where the event of its end was lost.
    pub(super) fn is_of(&self, cookie: Option<u64>) -> bool {
        self.cookie.zip(cookie).is_none_or(|(known, now)| known == now)
    }

    /// The same for an event: what begins here is another one than was here before, unless cookies say that it is not.
    pub(super) fn is_of_event(&self, event: &Event) -> bool {
        self.cookie.zip(event.socket.cookie).map_or(!begins_life(&event.what), |(known, now)| known == now)
    }

    /// A socket that an event brought to `state`, with what was known of it before.
    pub(super) fn of_event(event: &Event, state: State, known: Option<&Self>) -> Self {
        let of_known = |owner: fn(&Self) -> Option<Owner>| known.and_then(owner);
        let closed_by = event.owner.filter(|_| is_close(event)).map(|owner| owner.pid);
        Self {
            state,
            since_ns: event.time_ns,
            since: AgeSource::Observed,
            owner: event.owner,
            creator: of_known(|known| known.creator).or(event.owner.filter(is_creator)),
            acceptor: of_known(|known| known.acceptor).or(event.owner.filter(is_acceptor)),
            closed_by: known.and_then(|known| known.closed_by).or(closed_by),
            orphan: is_orphaned(event),
            cookie: event.socket.cookie,
            local: event.socket.local,
            remote: event.socket.remote,
            netns: event.socket.netns,
            ipv6: event.socket.ipv6,
            is_mini: false,
            handle: known.and_then(|known| known.handle),
            first_seen_ns: known.map_or(event.time_ns, |known| known.first_seen_ns),
            expires_ns: None,
            has_events: true,
            retransmits: known.map_or_else(Retransmits::default, |known| known.retransmits),
            active_ns: event.time_ns,
            reset: known.and_then(|known| known.reset.clone()),
            facts: None,
            suspected_ns: None,
            listing: 0,
            hidden: known.is_some_and(|known| known.hidden),
        }
    }

    pub(super) fn of_listed(socket: &ListedSocket, owner: Option<Owner>, now_ns: u64) -> Self {
        let age = socket.age(now_ns);
        Self {
            state: socket.state,
            since_ns: age.map_or(now_ns, |age| now_ns.saturating_sub(age.ns)),
            since: age.map_or(AgeSource::LowerBound, |age| age.source),
            owner,
            creator: owner.filter(is_creator),
            acceptor: owner.filter(is_acceptor),
            closed_by: None,
            orphan: Some(is_orphan(socket)),
            cookie: socket.cookie,
            local: socket.local,
            remote: socket.remote,
            netns: Some(socket.netns),
            ipv6: socket.ipv6,
            is_mini: socket.kind == Kind::Mini,
            handle: Some(socket.handle),
            first_seen_ns: now_ns,
            expires_ns: expires_ns(socket, now_ns),
            has_events: false,
            retransmits: Retransmits::default(),
            active_ns: 0,
            reset: None,
            facts: None,
            suspected_ns: None,
            listing: 0,
            hidden: false,
        }
    }

    /// Takes in whose it is by a listing of holders. Who held it before may not do so now.
    pub(super) fn is_held(&mut self, owner: Option<Owner>) {
        self.owner = self.owner.filter(is_seen).or(owner).or(self.owner);
    }

    /// Takes in what a listing shows; keeps all of it where that may be asked for.
    pub(super) fn show(&mut self, socket: &ListedSocket, snapshot: &Snapshot) {
        if let Some(since_ns) = socket.connection.map(|info| info.quiet_ns()) {
            self.active_ns = self.active_ns.max(snapshot.ended_ns.saturating_sub(since_ns));
        }
        if self.retransmits.last_ns < snapshot.started_ns {
            self.retransmits.timeouts = socket.timeouts;
        }
        if (self.suspected_ns.is_some() || socket.state == State::Listen) && self.state == socket.state {
            let (at_ns, listed_ns) = (snapshot.started_ns, snapshot.ended_ns);
            self.facts = Some(Box::new(Facts { at_ns, listed_ns, socket: *socket }));
        }
    }

    /// Takes in what happened without a change of state.
    pub(super) fn happened(&mut self, event: &Event) {
        match &event.what {
            What::Retransmit(retransmit) => {
                self.retransmits.add(event.time_ns, retransmit);
                self.active_ns = event.time_ns;
            }
            What::ResetReceived(facts) | What::ResetSent { facts, .. } => self.reset = facts.map(Box::new),
            What::OwnerChanged => {
                self.owner = event.owner;
                self.acceptor = self.acceptor.or(event.owner.filter(is_acceptor));
            }
            What::Transition(_) | What::SynAckRetransmit { .. } => {}
        }
    }
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

pub(super) fn begins_life(what: &What) -> bool {
    use State::{Close, Listen, SynRecv, SynSent};
    match what {
        What::Transition(Transition { old, new, .. }) => {
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
        What::Transition(Transition { old: Established | CloseWait | SynRecv, new: FinWait1 | LastAck, .. })
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
