//! A connection that failed.

use std::net::SocketAddr;

use tcptrace_common::record::socket_flag;

use super::paths::{Ended, Lately};
use crate::{
    findings::{
        cause::Cause,
        detection::Example,
        kind::{Kind, Severity},
    },
    model::{
        close_reason::{Abort, CloseReason},
        event::{Event, Exit, Owner, ResetFacts, Transition},
        snapshot::NextHop,
        socket::{ListedSocket, TimerKind},
        state::State,
    },
    table::{Connection, Facts},
};

/// A connection that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// Which trouble it is.
    pub kind: Kind,
    /// Why, and how much that matters: once the other end is known, see [`Cause`].
    pub cause: (Severity, Cause),
    /// CLOCK_MONOTONIC at which it failed, in ns.
    pub time_ns: u64,
    /// Network namespace.
    pub netns: Option<u32>,
    /// The process that it belonged to.
    pub owner: Option<Owner>,
    /// Its lasting name.
    pub cookie: Option<u64>,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// State in which it failed.
    pub state: State,
    /// How it ended.
    pub ending: CloseReason,
    /// Why its process exits, if it was that which closed it.
    pub exit: Option<Exit>,
    /// Did this host open it? `None` where that was not seen.
    pub active: Option<bool>,
    /// How long it had been in the state, in ns.
    pub in_state_ns: Option<u64>,
    /// Segments sent again in its life.
    pub total_retrans: u32,
    /// Timeouts in a row at the last of them.
    pub timeouts: u8,
    /// Bytes received in its life, the FIN counted as one.
    pub received: u64,
    /// Bytes that the peer acknowledged, the SYN counted as one.
    pub acked: u64,
    /// Bytes received and not read.
    pub unread: u32,
    /// Bytes written and not acknowledged.
    pub unacked: u32,
    /// What the kernel knew when a RST came.
    pub reset: Option<ResetFacts>,
    /// Does SO_KEEPALIVE ask whether the peer is there?
    pub keepalive: bool,
    /// What was known of the peer's window, where it was closed.
    pub window: Option<ClosedWindow>,
    /// Does the filter show it?
    pub is_shown: bool,
    /// Is there another socket with the same ends?
    pub is_pair_used: bool,
    /// Where its packets went first, where that was looked up.
    pub next_hop: Option<NextHop>,
    /// What happened lately at its own end.
    pub own: Lately,
    /// The other end.
    pub peer: Peer,
}

/// What is known of the other end of a connection that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Peer {
    /// Is it a socket of this host?
    pub end: PeerEnd,
    /// The process that it belongs to, or belonged to.
    pub owner: Option<Owner>,
    /// What happened there lately.
    pub lately: Lately,
    /// Where the connection was refused: an address of this host where a process does listen on that port, and its owner.
    pub listens_at: Option<(SocketAddr, Option<Owner>)>,
}

/// Is the other end a socket of this host?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PeerEnd {
    /// It is, or the handshake is not over there.
    Alive,
    /// It was closed, and what is left of it belongs to no process.
    Closed,
    /// Its address is one of this host, and no socket is there.
    Gone,
    /// It is not on this host, or in a part of it that is not looked at, or it knows this end by another address (NAT).
    #[default]
    NotVisible,
}

impl PeerEnd {
    /// Name in all outputs.
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
    /// How its socket ended.
    #[must_use]
    pub const fn ended(&self) -> Option<Ended> {
        self.lately.ended
    }

    /// Did it send the RST? `None` where that is not known.
    #[must_use]
    pub fn sent_reset(&self) -> Option<bool> {
        let aborted = |ended: Ended| matches!(ended.ending, Some(CloseReason::Aborted(_) | CloseReason::TimedOut));
        match self.end {
            _ if self.lately.ended.is_some_and(aborted) || self.lately.reset_sent.is_some() => Some(true),
            PeerEnd::Alive => Some(false),
            _ => None,
        }
    }

    /// Was its process killed?
    #[must_use]
    pub fn is_killed(&self) -> bool {
        self.lately.ended.and_then(|ended| ended.exit).is_some_and(Exit::is_killed)
    }
}

impl Incident {
    /// Did the process give the connection up while nothing had answered?
    pub(super) fn is_given_up(&self) -> bool {
        self.ending == CloseReason::Aborted(Abort::BeforeEstablished)
    }

    /// A connection that ended, as an incident of `kind`.
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
            own: Lately::default(),
            peer: Peer::default(),
        }
    }

    /// Bytes that were not read when the RST came, or else when the connection ended.
    #[must_use]
    pub fn unread(&self) -> u32 {
        self.reset.map_or(self.unread, |facts| facts.receive_queue)
    }

    /// The same for bytes that were not acknowledged.
    #[must_use]
    pub fn unacked(&self) -> u32 {
        self.reset.map_or(self.unacked, |facts| facts.send_queue)
    }

    /// For how long nothing had come from the peer when it closed its side, before this side wrote again, in ns.
    #[must_use]
    pub fn idle_before_fin_ns(&self) -> Option<u64> {
        let (reset, since_fin_ns) = self.reset.zip(self.in_state_ns)?;
        (self.state == State::CloseWait).then(|| reset.last_received_ns.saturating_sub(since_fin_ns))
    }

    /// For how long nothing had been sent or received when this side sent its last request, in ns.
    #[must_use]
    pub fn idle_before_request_ns(&self) -> Option<u64> {
        let idle_ns = |reset: ResetFacts| reset.last_received_ns.saturating_sub(reset.last_sent_ns);
        self.idle_before_fin_ns().or_else(|| self.reset.map(idle_ns))
    }

    /// The socket as an example.
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
        }
    }
}

/// What was known of a closed window when the connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedWindow {
    /// Time since data was sent last, in ns.
    pub closed_ns: u64,
    /// Did the peer answer what was sent last?
    pub is_answered: bool,
}

impl ClosedWindow {
    /// Of a connection that ends at `now_ns`; `None` where the window was not closed, or that is not known.
    #[must_use]
    pub fn of(left: &Connection, now_ns: u64) -> Option<Self> {
        let facts = left.facts().filter(|_| left.stuck_reasons().window_closed)?;
        Some(Self { closed_ns: closed_ns(facts, now_ns), is_answered: is_answered(facts) })
    }
}

/// Did an ACK come since the last probe, or the last retransmission, which may be on its way? An answer sets the count of
/// probes to 0 (`net/ipv4/tcp_input.c`, `tcp_ack`).
pub(crate) fn is_answered(facts: &Facts) -> bool {
    /// In ns.
    const ROUND_TRIP_NS: u64 = 1_000_000_000;
    let socket = &facts.socket;
    let Some(info) = socket.connection else { return false };
    // Retransmissions double the timeout itself, probes only what is made of it.
    let doublings = socket.timer.filter(|timer| timer.kind == TimerKind::Probe).and(socket.backoff).unwrap_or(0);
    let interval_ns = socket.rto_ns.map(|rto_ns| rto_ns.saturating_mul(1 << doublings.min(16)).min(RTO_MAX_NS));
    socket.probes <= 1 && interval_ns.is_none_or(|ns| info.last_ack_ns <= ns.saturating_add(ROUND_TRIP_NS))
}

/// `TCP_RTO_MAX` of `include/net/tcp.h`, in ns.
pub(crate) const RTO_MAX_NS: u64 = 120_000_000_000;

/// How long a window has been closed at `now_ns`, in ns: since data was sent last. Not for longer than the probes took that
/// were sent since, where more data came to be sent after a silence.
pub(crate) fn closed_ns(facts: &Facts, now_ns: u64) -> u64 {
    /// Above that the time between two probes may be limited otherwise.
    const SURE_BACKOFF: u8 = 8;
    let passed_ns = now_ns.saturating_sub(facts.listed_ns);
    let Some(info) = facts.socket.connection else { return 0 };
    let probed_ns = |socket: &ListedSocket| {
        let backoff = socket.backoff.filter(|backoff| *backoff <= SURE_BACKOFF)?;
        Some(socket.rto_ns?.saturating_mul(2 << backoff))
    };
    info.last_sent_ns.min(probed_ns(&facts.socket).unwrap_or(u64::MAX)).saturating_add(passed_ns)
}
