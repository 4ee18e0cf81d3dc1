//! A connection's story: its sides, and what each did.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use tcptrace_common::record::socket_flag;

use crate::model::{
    close_reason::CloseReason,
    event::{Event, EventKind, Owner, Retransmit, Socket, Transition},
    socket::ConnectionInfo,
    state::State,
};

/// Which connection a story is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoryFilter {
    /// Those with this address at either end.
    Address(IpAddr),
    /// Those with this address and port at one end.
    End(SocketAddr),
    /// Those with this port at either end.
    Port(u16),
    /// The one with this cookie, and its other end if that is on this host.
    Cookie(u64),
}

impl fmt::Display for StoryFilter {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(to, "address {address}"),
            Self::End(end) => end.fmt(to),
            Self::Port(port) => write!(to, "port {port}"),
            Self::Cookie(cookie) => write!(to, "cookie:{cookie}"),
        }
    }
}

impl StoryFilter {
    /// Is this the connection with these ends and a socket with one of these cookies?
    #[must_use]
    pub fn is_of(&self, ends: [SocketAddr; 2], mut cookies: impl Iterator<Item = u64>) -> bool {
        match self {
            Self::Address(address) => ends.iter().any(|end| end.ip() == address.to_canonical()),
            Self::End(wanted) => {
                ends.iter().any(|end| (end.ip(), end.port()) == (wanted.ip().to_canonical(), wanted.port()))
            }
            Self::Port(port) => ends.iter().any(|end| end.port() == *port),
            Self::Cookie(wanted) => cookies.any(|cookie| cookie == *wanted),
        }
    }
}

/// One end's part in a connection: the life of its socket, or what was answered where it had none.
#[derive(Clone, Debug)]
pub struct Side {
    /// Address of its `struct sock`; `None` where it had no socket of its own.
    pub sk: Option<u64>,
    /// Its cookie.
    pub cookie: Option<u64>,
    /// Inode number of its network namespace.
    pub netns: Option<u32>,
    /// Its end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// What happened, in order of arrival.
    pub events: Vec<Event>,
    /// Events that found no room.
    pub omitted: u64,
    /// CLOCK_MONOTONIC of its end in ns: CLOSE, or a mini-socket took the socket's place.
    pub ended_ns: Option<u64>,
    /// CLOCK_MONOTONIC of its earliest event in ns.
    pub first_ns: u64,
    /// What the last listing showed of it.
    pub listed: Option<Listed>,
}

/// What a listing showed of a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// CLOCK_MONOTONIC of the listing's end in ns.
    pub at_ns: u64,
    /// Its state then.
    pub state: State,
    /// What its connection had done by then, where that is known.
    pub connection: Option<ConnectionInfo>,
}

/// The beginning of a side, as far as it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It connects.
    Active,
    /// It was there before the trace.
    Unknown,
    /// It is connected to.
    Passive,
}

/// Data that a socket moved, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Sent, and acknowledged by the peer.
    pub sent: u64,
    /// Is `sent` exact? Else it is one more where the socket's own SYN is among them.
    pub sent_is_exact: bool,
    /// Received.
    pub received: u64,
}

/// Does a socket's life as a connection begin with this?
pub(crate) fn begins(event: &Event) -> Option<Role> {
    match event.what {
        EventKind::Transition(Transition { old: State::Close, new: State::SynSent, .. }) => Some(Role::Active),
        EventKind::Transition(Transition { old: State::Listen, new: State::SynRecv, .. }) => Some(Role::Passive),
        _ => None,
    }
}

/// The `sk` that is the connection's own: not the listener's, whose SYN-ACKs and RSTs these are.
pub(crate) fn own_sk(event: &Event) -> Option<u64> {
    let is_own = !event.socket.is_from_packet() && !matches!(event.what, EventKind::SynAckRetransmit { .. });
    event.socket.sk.filter(|_| is_own)
}

impl Side {
    pub(crate) fn new(event: &Event) -> Self {
        let socket = &event.socket;
        Self {
            sk: own_sk(event),
            cookie: None,
            netns: socket.netns,
            local: socket.local,
            remote: socket.remote,
            events: Vec::new(),
            omitted: 0,
            ended_ns: None,
            first_ns: event.time_ns,
            listed: None,
        }
    }

    /// Its role in the beginning. What is answered without a socket was asked for.
    #[must_use]
    pub fn role(&self) -> Role {
        let role = self.events.iter().find_map(begins);
        role.unwrap_or(if self.sk.is_none() { Role::Passive } else { Role::Unknown })
    }

    /// The state that it was seen in last; `None` where it had no socket.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.sk?;
        let entered = self.transitions().last().map(|(_, transition)| transition.new);
        entered.or_else(|| self.events.last().map(|event| event.socket.state))
    }

    /// How its connection ended.
    #[must_use]
    pub fn ending(&self) -> Option<CloseReason> {
        self.transitions().filter_map(|(_, transition)| transition.ending).last()
    }

    fn owners(&self) -> impl DoubleEndedIterator<Item = &Owner> {
        self.events.iter().filter_map(|event| event.owner.as_ref())
    }

    /// The first owner that was known.
    #[must_use]
    pub fn first_owner(&self) -> Option<&Owner> {
        self.owners().next()
    }

    /// The last owner that was known.
    #[must_use]
    pub fn last_owner(&self) -> Option<&Owner> {
        self.owners().next_back()
    }

    /// Segments that it sent again, SYN-ACKs too.
    #[must_use]
    pub fn retransmits(&self) -> u32 {
        let counts = self.events.iter().map(|event| match event.what {
            EventKind::Transition(transition) => transition.total_retrans,
            EventKind::Retransmit(retransmit) => retransmit.total_retrans,
            EventKind::SynAckRetransmit { count } => count, // in the child's `total_retrans` later
            _ => 0,
        });
        // The kernel counts what it tried to send, but for what its own queue still held (`net/ipv4/tcp_output.c`,
        // `__tcp_retransmit_skb`).
        let is_counted = |errno: i32| errno != libc::EBUSY;
        let failed = self.events.iter().filter(
            |event| matches!(event.what, EventKind::Retransmit(Retransmit { failed: Some(errno), .. }) if is_counted(errno)),
        );
        let listed = self.listed.and_then(|listed| listed.connection).map_or(0, |info| info.total_retrans);
        counts.max().unwrap_or(0).max(listed).saturating_sub(failed.count() as u32)
    }

    /// Its transitions with their events.
    pub fn transitions(&self) -> impl Iterator<Item = (&Event, &Transition)> {
        self.events.iter().filter_map(|event| match &event.what {
            EventKind::Transition(transition) => Some((event, transition)),
            _ => None,
        })
    }

    /// Data moved up to a transition. The kernel's counters count sequence numbers, so what is no data is taken off:
    ///
    /// - In `bytes_received` the peer's FIN, from its arrival (SOCK_DONE) on; never a SYN.
    /// - In `bytes_acked` this side's FIN, once the state shows that it is acknowledged; and the SYN of a side that
    ///   connected (`net/ipv4/tcp_input.c`, `tcp_snd_una_update`). The SYN-ACK of a side that was connected to is not
    ///   counted: its socket is made after it (`net/ipv4/tcp_minisocks.c`, `tcp_create_openreq_child`). Where the
    ///   beginning was not seen, it is not known which of them it was.
    #[must_use]
    pub fn bytes(&self, socket: &Socket, transition: &Transition) -> Bytes {
        use State::{FinWait2, LastAck, TimeWait};
        let fin_acked = matches!(transition.new, FinWait2 | TimeWait)
            || transition.old == FinWait2
            || (transition.old == LastAck && transition.ending == Some(CloseReason::Normal));
        let fin_came = socket.is(socket_flag::DONE);
        self.data((transition.bytes_acked, fin_acked), (transition.bytes_received, fin_came))
    }

    /// Data by the kernel's counters, each with whether a FIN is among what it counts.
    fn data(&self, (acked, fin_acked): (u64, bool), (received, fin_came): (u64, bool)) -> Bytes {
        let role = self.role();
        let syn = u64::from(role == Role::Active);
        Bytes {
            sent: acked.saturating_sub(syn + u64::from(fin_acked)),
            sent_is_exact: role != Role::Unknown || acked == 0,
            received: received.saturating_sub(u64::from(fin_came)),
        }
    }

    /// Data moved in its life: up to its end, or up to a listing at `until_ns` or later. `None` where it moves data on and
    /// nothing tells how much, or it never had a socket.
    #[must_use]
    pub fn moved(&self, until_ns: u64) -> Option<Bytes> {
        use State::{CloseWait, Closing, FinWait2, LastAck, SynSent, TimeWait};
        let (event, last) = self.transitions().last()?;
        if self.ended_ns.is_some() || last.new == SynSent {
            return Some(self.bytes(&event.socket, last));
        }
        let listed = self.listed.filter(|listed| listed.at_ns >= until_ns)?;
        let info = listed.connection?;
        let fin_came = matches!(listed.state, CloseWait | LastAck | Closing | TimeWait);
        let fin_acked = matches!(listed.state, FinWait2 | TimeWait);
        Some(self.data((info.bytes_acked, fin_acked), (info.bytes_received, fin_came)))
    }

    /// CLOCK_MONOTONIC up to which it is known to have lived, in ns: its end, or the latest of its last event, a listing, and
    /// `until_ns`, up to which all events are known.
    #[must_use]
    pub fn lived_until_ns(&self, until_ns: u64) -> u64 {
        let last_ns = self.events.iter().map(|event| event.time_ns).max().unwrap_or(self.first_ns);
        let listed_ns = self.listed.map_or(0, |listed| listed.at_ns);
        self.ended_ns.unwrap_or_else(|| last_ns.max(listed_ns).max(until_ns))
    }
}

/// A connection: its sides that were seen, the one that connected on the left.
#[derive(Clone, Debug)]
pub struct Story {
    /// Left and right; one of them at least.
    pub sides: [Option<Side>; 2],
    /// CLOCK_MONOTONIC up to which all events are known, in ns.
    pub until_ns: u64,
}

impl Story {
    pub(crate) fn new(one: Side, other: Option<Side>, until_ns: u64) -> Self {
        let rank = |side: &Side| (side.role(), side.first_ns);
        let sides = match other {
            Some(other) if rank(&other) < rank(&one) => [Some(other), Some(one)],
            None if one.role() == Role::Passive => [None, Some(one)],
            other => [Some(one), other],
        };
        Self { sides, until_ns }
    }

    /// The sides that were seen, with their places.
    pub fn seen(&self) -> impl Iterator<Item = (usize, &Side)> {
        self.sides.iter().enumerate().filter_map(|(place, side)| side.as_ref().map(|side| (place, side)))
    }

    /// The two ends, left and right.
    #[must_use]
    pub fn ends(&self) -> [SocketAddr; 2] {
        match &self.sides {
            [Some(left), _] => [left.local, left.remote],
            [None, Some(right)] => [right.remote, right.local],
            [None, None] => [SocketAddr::from(([0; 4], 0)); 2], // never made
        }
    }

    /// The events of both sides in order of time, with the side's place.
    #[must_use]
    pub fn events(&self) -> Vec<(usize, &Event)> {
        let mut events: Vec<_> =
            self.seen().flat_map(|(place, side)| side.events.iter().map(move |event| (place, event))).collect();
        events.sort_by_key(|(_, event)| event.time_ns);
        events
    }

    /// Is it a connection of a socket with itself? Then it has one side.
    #[must_use]
    pub fn is_with_itself(&self) -> bool {
        let [left, right] = self.ends();
        left == right
    }

    /// Has each side that was seen ended?
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.seen().all(|(_, side)| side.ended_ns.is_some())
    }
}
