//! Conclusions from a connection's events: who closed first, and who sent the RST.

use tcptrace_common::record::socket_flag;

use crate::{
    analysis::story::connection::{Side, Story},
    model::{
        close_reason::{Abort, CloseReason},
        event::{Event, EventKind, Owner},
        state::State,
    },
};

/// Who closed a connection first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Index of the side in [`Story::sides`]; the side itself may not have been seen.
    pub place: usize,
    /// The owner of its socket, if known.
    pub owner: Option<Owner>,
    /// How it was closed, if not with a FIN.
    pub abort: Option<Abort>,
}

/// RSTs from one side to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    /// Index of the sending side in [`Story::sides`].
    pub from: usize,
    /// When the first was sent (or received, if sending was not seen), CLOCK_MONOTONIC in ns.
    pub time_ns: u64,
    /// Number of RSTs seen when they were sent.
    pub sent: u32,
    /// Number of RSTs seen when they were received.
    pub received: u32,
    /// The sender of the first.
    pub sender: ResetSender,
    /// The kernel's reason for the first, if it gives one.
    pub reason: Option<u32>,
}

/// The sender of a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetSender {
    /// The socket's process, by an operation on it.
    Process(Option<Owner>),
    /// Somebody who destroyed the owner's socket from outside.
    Destroyer(Option<Owner>),
    /// The kernel for the socket, in answer to a segment.
    Socket(Option<Owner>),
    /// The kernel, for a listener.
    Listener(Option<Owner>),
    /// The kernel, for a mini-socket in TIME_WAIT or FIN_WAIT2.
    TimeWait,
    /// The kernel, because there was no socket.
    NoSocket,
    /// The end is on this host, but its RST was not seen.
    NotSeen,
    /// The end was not seen on this host: the peer, or a device on the path.
    Peer,
}

impl Story {
    /// Who closed it first, with a FIN or an abort; `None` if nobody did or it was not seen.
    #[must_use]
    pub fn closed_first(&self) -> Option<Closed> {
        use State::{Close, CloseWait, Established, FinWait1, FinWait2, LastAck, SynRecv, SynSent};
        let told = |(place, event): (usize, &Event)| {
            let EventKind::Transition(transition) = event.what else {
                return None;
            };
            let here = |abort| Some(Closed { place, owner: event.owner, abort });
            let there = || {
                let place = self.other(place);
                let owner = self.sides[place].as_ref().and_then(|side| side.last_owner().copied());
                Some(Closed { place, owner, abort: None })
            };
            match (transition.old, transition.new, transition.ending) {
                (_, FinWait1, _) | (FinWait1 | FinWait2, _, _) => Some(here(None)),
                (_, CloseWait, _) | (CloseWait | LastAck, _, _) => Some(there()),
                (Established | SynRecv | SynSent, Close, Some(CloseReason::Aborted(how)))
                    if how != Abort::NeverSent =>
                {
                    Some(here(Some(how)))
                }
                (_, Close, _) => Some(None), // it failed, or a RST ended it
                _ => None,
            }
        };
        self.events().into_iter().find_map(told).flatten()
    }

    /// The index of the other side.
    fn other(&self, place: usize) -> usize {
        if self.is_with_itself() { place } else { 1 - place }
    }

    /// The RSTs by direction, the earlier one first.
    #[must_use]
    pub fn resets(&self) -> Vec<Reset> {
        let mut resets: Vec<Reset> = Vec::new();
        for (place, event) in self.events() {
            let (from, sender, reason, (sent, received)) = match event.what {
                EventKind::ResetSent { reason, .. } => (place, self.sender(place, event), reason, (1, 0)),
                EventKind::ResetReceived(_) => {
                    let from = self.other(place);
                    (from, self.unseen_sender(from), None, (0, 1))
                }
                _ => continue,
            };
            match resets.iter_mut().find(|reset| reset.from == from) {
                // On one host both happen at the same moment, so receiving may be seen before sending.
                Some(reset) if reset.sent == 0 && sent == 1 => *reset = Reset { sent, sender, reason, ..*reset },
                Some(reset) => (reset.sent, reset.received) = (reset.sent + sent, reset.received + received),
                None => resets.push(Reset { from, time_ns: event.time_ns, sent, received, sender, reason }),
            }
        }
        resets
    }

    fn unseen_sender(&self, from: usize) -> ResetSender {
        let [left, right] = self.ends().map(|end| end.ip());
        let is_here = self.sides[from].is_some() || left.is_loopback() || left == right;
        if is_here { ResetSender::NotSeen } else { ResetSender::Peer }
    }

    fn sender(&self, place: usize, event: &Event) -> ResetSender {
        let socket = &event.socket;
        let is_destroyed = || {
            let ending = self.sides[place].as_ref().and_then(Side::ending);
            ending == Some(CloseReason::Aborted(Abort::Destroyed))
        };
        match (socket.is_from_packet(), socket.state) {
            (true, State::Listen) => ResetSender::Listener(event.owner),
            (true, State::TimeWait) => ResetSender::TimeWait,
            (true, _) => ResetSender::NoSocket,
            (false, _) if is_destroyed() => ResetSender::Destroyer(event.owner),
            // A task holds the socket's lock, which only its processes and destroyers do.
            (false, _) if socket.is(socket_flag::OWNED) => ResetSender::Process(event.owner),
            (false, _) => ResetSender::Socket(event.owner),
        }
    }
}
