//! A failed connection with the facts at its end, from which a cause is found.

use std::net::SocketAddr;

use tcptrace_common::record::socket_flag;

use super::paths::{EndEvents, EndedSocket};
use crate::{
    findings::{
        cause::Cause,
        detection::Example,
        kind::{Kind, Severity},
    },
    model::{
        close_reason::{Abort, CloseReason},
        event::{self, Event, Exit, Owner, ResetFacts, Transition},
        snapshot::NextHop,
        socket::{ListedSocket, TimerKind},
        state::State,
    },
    table::{Connection, Facts},
};

/// A failed connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// The kind of finding that counts it.
    pub kind: Kind,
    /// Severity and cause; a default until the other end is known.
    pub cause: (Severity, Cause),
    /// Time of the failure, CLOCK_MONOTONIC in ns.
    pub time_ns: u64,
    /// Network namespace, by inode number.
    pub netns: Option<u32>,
    /// The process that owned the socket.
    pub owner: Option<Owner>,
    /// The kernel's socket cookie.
    pub cookie: Option<u64>,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// The state in which it failed.
    pub state: State,
    /// How it ended.
    pub ending: CloseReason,
    /// How the process exited, if its exit closed the socket.
    pub exit: Option<Exit>,
    /// True if this host opened the connection; `None` if that was not seen.
    pub active: Option<bool>,
    /// Time in the state before the failure, in ns.
    pub in_state_ns: Option<u64>,
    /// Retransmitted segments over the connection's life.
    pub total_retrans: u32,
    /// Timeouts in a row at the last retransmission.
    pub timeouts: u8,
    /// Bytes received over the connection's life; a FIN counts as one.
    pub received: u64,
    /// Bytes acknowledged by the peer; the SYN counts as one.
    pub acked: u64,
    /// Bytes received but not read.
    pub unread: u32,
    /// Bytes written but not acknowledged.
    pub unacked: u32,
    /// The kernel's values when a RST came.
    pub reset: Option<ResetFacts>,
    /// True if SO_KEEPALIVE is on.
    pub keepalive: bool,
    /// The peer's window, if it was closed.
    pub window: Option<ClosedWindow>,
    /// True if the filter shows the connection.
    pub is_shown: bool,
    /// True if another socket has the same two ends.
    pub is_pair_used: bool,
    /// The next hop of its route, if it was looked up.
    pub next_hop: Option<NextHop>,
    /// Recent events at its own end.
    pub own: EndEvents,
    /// The other end.
    pub peer: Peer,
    /// The process at the other end, if the table knew it when the connection ended.
    pub peer_process: Option<event::Peer>,
}

/// What is known about the other end of a failed connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peer {
    /// Whether it is a socket on this host.
    pub end: PeerEnd,
    /// The process that owns or owned it.
    pub owner: Option<Owner>,
    /// Recent events there.
    pub events: EndEvents,
    /// If the connection was refused: another address on this host where a process listens on that port, and its owner.
    pub listens_at: Option<(SocketAddr, Option<Owner>)>,
}

/// Whether the other end is a socket on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerEnd {
    /// It is an open socket, or its handshake is not finished.
    Alive,
    /// Its process closed it, and only an orphan is left.
    Closed,
    /// Its address belongs to this host, but there is no such socket.
    Gone,
    /// It is not on this host, or in a namespace that is not traced, or NAT changed the address that it sees.
    #[default]
    NotVisible,
}

impl PeerEnd {
    /// The name in all outputs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Closed | Self::Gone => "gone",
            Self::NotVisible => "not_visible",
        }
    }
}

impl Peer {
    /// How its socket ended, if that was seen.
    #[must_use]
    pub const fn ended(&self) -> Option<EndedSocket> {
        self.events.ended
    }

    /// Whether it sent the RST; `None` if not known.
    #[must_use]
    pub fn sent_reset(&self) -> Option<bool> {
        let aborted =
            |ended: EndedSocket| matches!(ended.ending, Some(CloseReason::Aborted(_) | CloseReason::TimedOut));
        match self.end {
            _ if self.events.ended.is_some_and(aborted) || self.events.reset_sent.is_some() => Some(true),
            PeerEnd::Alive => Some(false),
            _ => None,
        }
    }

    /// True if its process was killed by a signal.
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.events.ended.and_then(|ended| ended.exit).is_some_and(Exit::is_killed)
    }
}

impl Incident {
    /// True if the process gave up connecting before anything answered.
    pub(super) fn is_given_up(&self) -> bool {
        self.ending == CloseReason::Aborted(Abort::BeforeEstablished)
    }

    /// An incident for the event that ended a connection; a rule sets its kind.
    pub(super) fn new(event: &Event, transition: &Transition, ending: CloseReason, left: Option<&Connection>) -> Self {
        Self {
            kind: Kind::ResetByPeer, // until a rule says which
            cause: (Severity::Warning, Cause::PeerSentReset),
            time_ns: event.time_ns,
            netns: event.socket.netns,
            owner: event.owner,
            cookie: event.socket.cookie,
            local: event.socket.local,
            remote: event.socket.remote,
            state: transition.old,
            ending,
            exit: transition.exit,
            active: if transition.old == State::SynSent { Some(true) } else { left.and_then(Connection::is_active) },
            in_state_ns: transition.time_in_old.map(|time| time.ns),
            total_retrans: transition.total_retrans,
            timeouts: left.map_or(0, |left| left.retransmits().timeouts),
            received: transition.bytes_received,
            acked: transition.bytes_acked,
            unread: transition.receive_queue,
            unacked: transition.send_queue,
            reset: left.and_then(Connection::reset),
            keepalive: event.socket.is(socket_flag::KEEPALIVE),
            window: left.and_then(|left| ClosedWindow::of(left, event.time_ns)),
            is_shown: true,
            is_pair_used: false,
            next_hop: None,
            own: EndEvents::default(),
            peer: Peer::default(),
            peer_process: event.peer,
        }
    }

    /// Unread bytes when the RST came, or else when the connection ended.
    #[must_use]
    pub fn unread(&self) -> u32 {
        self.reset.map_or(self.unread, |facts| facts.receive_queue)
    }

    /// Unacknowledged bytes when the RST came, or else when the connection ended.
    #[must_use]
    pub fn unacked(&self) -> u32 {
        self.reset.map_or(self.unacked, |facts| facts.send_queue)
    }

    /// How long the peer had sent nothing before its FIN, in ns; only in CLOSE_WAIT.
    #[must_use]
    pub fn idle_before_fin_ns(&self) -> Option<u64> {
        let (reset, since_fin_ns) = self.reset.zip(self.in_state_ns)?;
        (self.state == State::CloseWait).then(|| reset.last_received_ns.saturating_sub(since_fin_ns))
    }

    /// How long the connection had been idle before this side sent its last request, in ns.
    #[must_use]
    pub fn idle_before_request_ns(&self) -> Option<u64> {
        let idle_ns = |reset: ResetFacts| reset.last_received_ns.saturating_sub(reset.last_sent_ns);
        self.idle_before_fin_ns().or_else(|| self.reset.map(idle_ns))
    }

    /// The socket as an example for a detection.
    #[must_use]
    pub fn example(&self) -> Example {
        Example {
            cookie: self.cookie,
            local: self.local,
            remote: self.remote,
            state: self.state,
            age: None,
            facts: None,
            holders: Vec::new(),
            peer: self.peer_process,
        }
    }
}

/// A window that was closed when the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedWindow {
    /// Time since data was last sent, in ns.
    pub closed_ns: u64,
    /// True if the peer answered the last segment or probe.
    pub is_answered: bool,
}

impl ClosedWindow {
    /// The window of a connection that ends at `now_ns`; `None` if it was open or is not known.
    #[must_use]
    pub fn of(left: &Connection, now_ns: u64) -> Option<Self> {
        let facts = left.facts().filter(|_| left.stuck_reasons().window_closed)?;
        Some(Self { closed_ns: closed_ns(facts, now_ns), is_answered: is_answered(facts) })
    }
}

/// True if the peer still answers: at most the last probe or retransmission, which may be on its way, has no ACK yet. An ACK
/// sets the count of probes to 0 (`net/ipv4/tcp_input.c`, `tcp_ack`).
pub(crate) fn is_answered(facts: &Facts) -> bool {
    /// In ns.
    const ROUND_TRIP_NS: u64 = 1_000_000_000;
    let socket = &facts.socket;
    let Some(info) = socket.connection else { return false };
    // Retransmissions double the RTO itself; probes double only the interval that is computed from it.
    let doublings = socket.timer.filter(|timer| timer.kind == TimerKind::Probe).and(socket.backoff).unwrap_or(0);
    let interval_ns = socket.rto_ns.map(|rto_ns| rto_ns.saturating_mul(1 << doublings.min(16)).min(RTO_MAX_NS));
    socket.probes <= 1 && interval_ns.is_none_or(|ns| info.last_ack_ns <= ns.saturating_add(ROUND_TRIP_NS))
}

/// `TCP_RTO_MAX` of `include/net/tcp.h`, in ns.
pub(crate) const RTO_MAX_NS: u64 = 120_000_000_000;

/// How long a window has been closed at `now_ns`, in ns: the time since data was last sent, but no more than the probes sent
/// since then took, in case the process wrote more data after a silence.
pub(crate) fn closed_ns(facts: &Facts, now_ns: u64) -> u64 {
    /// Beyond this, other limits may apply to the time between two probes.
    const SURE_BACKOFF: u8 = 8;
    let passed_ns = now_ns.saturating_sub(facts.listed_ns);
    let Some(info) = facts.socket.connection else { return 0 };
    let probed_ns = |socket: &ListedSocket| {
        let backoff = socket.backoff.filter(|backoff| *backoff <= SURE_BACKOFF)?;
        Some(socket.rto_ns?.saturating_mul(2 << backoff))
    };
    info.last_sent_ns.min(probed_ns(&facts.socket).unwrap_or(u64::MAX)).saturating_add(passed_ns)
}
