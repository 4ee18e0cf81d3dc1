//! A connection's story: the events of its one or two sides.

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

/// Which connections stories are wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoryFilter {
    /// All connections.
    All,
    /// Connections with this address at either end.
    Address(IpAddr),
    /// Connections with this address and port at one end.
    End(SocketAddr),
    /// Connections with this port at either end.
    Port(u16),
    /// The connection of the socket with this cookie, with its other end if that is on this host.
    Cookie(u64),
}

impl fmt::Display for StoryFilter {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => to.write_str("all connections"),
            Self::Address(address) => write!(to, "address {address}"),
            Self::End(end) => end.fmt(to),
            Self::Port(port) => write!(to, "port {port}"),
            Self::Cookie(cookie) => write!(to, "cookie:{cookie}"),
        }
    }
}

impl StoryFilter {
    /// True if the filter matches a connection with these ends and cookies.
    #[must_use]
    pub fn is_of(&self, ends: [SocketAddr; 2], mut cookies: impl Iterator<Item = u64>) -> bool {
        match self {
            Self::All => true,
            Self::Address(address) => ends.iter().any(|end| end.ip() == address.to_canonical()),
            Self::End(wanted) => {
                ends.iter().any(|end| (end.ip(), end.port()) == (wanted.ip().to_canonical(), wanted.port()))
            }
            Self::Port(port) => ends.iter().any(|end| end.port() == *port),
            Self::Cookie(wanted) => cookies.any(|cookie| cookie == *wanted),
        }
    }
}

/// One end of a connection: the life of its socket, or the kernel's answers if it had none.
#[derive(Clone, Debug)]
pub struct Side {
    /// Address of its `struct sock`; `None` if it had no socket of its own.
    pub sk: Option<u64>,
    /// The kernel's socket cookie.
    pub cookie: Option<u64>,
    /// Network namespace, by inode number.
    pub netns: Option<u32>,
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub remote: SocketAddr,
    /// The events in order of arrival.
    pub events: Vec<Event>,
    /// Number of events that were dropped for lack of room.
    pub omitted: u64,
    /// When it ended, CLOCK_MONOTONIC in ns: it entered CLOSE, or a mini-socket replaced the socket.
    pub ended_ns: Option<u64>,
    /// Its earliest event, CLOCK_MONOTONIC in ns.
    pub first_ns: u64,
    /// The last listing of it.
    pub listed: Option<Listed>,
}

/// A side as a listing showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// End of the listing, CLOCK_MONOTONIC in ns.
    pub at_ns: u64,
    /// The state at that time.
    pub state: State,
    /// Counters and times of the connection, if known.
    pub connection: Option<ConnectionInfo>,
}

/// Who opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// This side connected.
    Active,
    /// Not known: it existed before the trace.
    Unknown,
    /// This side accepted the connection.
    Passive,
}

/// Data that a socket sent and received, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Bytes sent and acknowledged by the peer.
    pub sent: u64,
    /// False if `sent` may be one too high, because it may include the SYN.
    pub sent_is_exact: bool,
    /// Bytes received.
    pub received: u64,
}

/// True if the life of a connection begins with this transition.
pub(crate) fn begins(event: &Event) -> Option<Role> {
    match event.what {
        EventKind::Transition(Transition { old: State::Close, new: State::SynSent, .. }) => Some(Role::Active),
        EventKind::Transition(Transition { old: State::Listen, new: State::SynRecv, .. }) => Some(Role::Passive),
        _ => None,
    }
}

/// The connection's own `sk`; `None` if the event has the listener's, as SYN-ACKs and some RSTs do.
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

    /// Who opened the connection. An end that answers without a socket was connected to.
    #[must_use]
    pub fn role(&self) -> Role {
        let role = self.events.iter().find_map(begins);
        role.unwrap_or(if self.sk.is_none() { Role::Passive } else { Role::Unknown })
    }

    /// The last known state; `None` if it had no socket.
    #[must_use]
    pub fn state(&self) -> Option<State> {
        self.sk?;
        let entered = self.transitions().last().map(|(_, transition)| transition.new);
        entered.or_else(|| self.events.last().map(|event| event.socket.state))
    }

    /// How the connection ended.
    #[must_use]
    pub fn ending(&self) -> Option<CloseReason> {
        self.transitions().filter_map(|(_, transition)| transition.ending).last()
    }

    fn owners(&self) -> impl DoubleEndedIterator<Item = &Owner> {
        self.events.iter().filter_map(|event| event.owner.as_ref())
    }

    /// The first known owner.
    #[must_use]
    pub fn first_owner(&self) -> Option<&Owner> {
        self.owners().next()
    }

    /// The last known owner.
    #[must_use]
    pub fn last_owner(&self) -> Option<&Owner> {
        self.owners().next_back()
    }

    /// Number of retransmitted segments, including SYN-ACKs.
    #[must_use]
    pub fn retransmits(&self) -> u32 {
        let counts = self.events.iter().map(|event| match event.what {
            EventKind::Transition(transition) => transition.total_retrans,
            EventKind::Retransmit(retransmit) => retransmit.total_retrans,
            EventKind::SynAckRetransmit { count } => count, // later part of the child's `total_retrans`
            _ => 0,
        });
        // The kernel counts every attempt, except if the segment was still in the host's own queue (`net/ipv4/tcp_output.c`,
        // `__tcp_retransmit_skb`).
        let is_counted = |errno: i32| errno != libc::EBUSY;
        let failed = self.events.iter().filter(
            |event| matches!(event.what, EventKind::Retransmit(Retransmit { failed: Some(errno), .. }) if is_counted(errno)),
        );
        let listed = self.listed.and_then(|listed| listed.connection).map_or(0, |info| info.total_retrans);
        counts.max().unwrap_or(0).max(listed).saturating_sub(failed.count() as u32)
    }

    /// The transitions with their events.
    pub fn transitions(&self) -> impl Iterator<Item = (&Event, &Transition)> {
        self.events.iter().filter_map(|event| match &event.what {
            EventKind::Transition(transition) => Some((event, transition)),
            _ => None,
        })
    }

    /// Data moved up to a transition. The kernel counts sequence numbers, so SYN and FIN are subtracted:
    ///
    /// - `bytes_received` includes the peer's FIN once it has arrived (SOCK_DONE), but never a SYN.
    /// - `bytes_acked` includes this side's FIN once the state shows that it is acknowledged, and the SYN of a side that
    ///   connected (`net/ipv4/tcp_input.c`, `tcp_snd_una_update`). The SYN-ACK of the other side is not counted, because its
    ///   socket is created later (`net/ipv4/tcp_minisocks.c`, `tcp_create_openreq_child`). If the start was not seen, it is
    ///   not known which side this is.
    #[must_use]
    pub fn bytes(&self, socket: &Socket, transition: &Transition) -> Bytes {
        use State::{FinWait2, LastAck, TimeWait};
        let fin_acked = matches!(transition.new, FinWait2 | TimeWait)
            || transition.old == FinWait2
            || (transition.old == LastAck && transition.ending == Some(CloseReason::Normal));
        let fin_came = socket.is(socket_flag::DONE);
        self.data((transition.bytes_acked, fin_acked), (transition.bytes_received, fin_came))
    }

    /// Data by the kernel's counters; the flags say whether each includes a FIN.
    fn data(&self, (acked, fin_acked): (u64, bool), (received, fin_came): (u64, bool)) -> Bytes {
        let role = self.role();
        let syn = u64::from(role == Role::Active);
        Bytes {
            sent: acked.saturating_sub(syn + u64::from(fin_acked)),
            sent_is_exact: role != Role::Unknown || acked == 0,
            received: received.saturating_sub(u64::from(fin_came)),
        }
    }

    /// Data moved up to its end, or up to a listing at `until_ns` or later. `None` if it is still moving data without such a
    /// listing, or never had a socket.
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

    /// Until when it is known to have lived, CLOCK_MONOTONIC in ns: its end, or the latest of its last event, a listing, and
    /// `until_ns`, up to which all events are known.
    #[must_use]
    pub fn lived_until_ns(&self, until_ns: u64) -> u64 {
        let last_ns = self.events.iter().map(|event| event.time_ns).max().unwrap_or(self.first_ns);
        let listed_ns = self.listed.map_or(0, |listed| listed.at_ns);
        self.ended_ns.unwrap_or_else(|| last_ns.max(listed_ns).max(until_ns))
    }
}

/// A connection: the sides that were seen, the one that connected on the left.
#[derive(Clone, Debug)]
pub struct Story {
    /// Left and right; at least one of them.
    pub sides: [Option<Side>; 2],
    /// Until when all events are known, CLOCK_MONOTONIC in ns.
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

    /// The sides that were seen, with their indexes.
    pub fn seen(&self) -> impl Iterator<Item = (usize, &Side)> {
        self.sides.iter().enumerate().filter_map(|(place, side)| side.as_ref().map(|side| (place, side)))
    }

    /// The two ends, left and right.
    #[must_use]
    pub fn ends(&self) -> [SocketAddr; 2] {
        match &self.sides {
            [Some(left), _] => [left.local, left.remote],
            [None, Some(right)] => [right.remote, right.local],
            [None, None] => [SocketAddr::from(([0; 4], 0)); 2], // does not happen
        }
    }

    /// The events of both sides in order of time, with the side's index.
    #[must_use]
    pub fn events(&self) -> Vec<(usize, &Event)> {
        let mut events: Vec<_> =
            self.seen().flat_map(|(place, side)| side.events.iter().map(move |event| (place, event))).collect();
        events.sort_by_key(|(_, event)| event.time_ns);
        events
    }

    /// True if a socket is connected to itself; then there is only one side.
    #[must_use]
    pub fn is_with_itself(&self) -> bool {
        let [left, right] = self.ends();
        left == right
    }

    /// True if all sides that were seen have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.seen().all(|(_, side)| side.ended_ns.is_some())
    }
}
