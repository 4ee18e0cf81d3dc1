//! Events at the ends of connections within the last seconds. They connect the two ends of a connection on this host,
//! whichever of the two is reported first.

use std::{collections::VecDeque, net::SocketAddr};

use crate::model::{
    close_reason::CloseReason,
    event::{Event, EventKind, Exit, Owner, ResetFacts, Transition},
    keyed::KeyedMap,
    socket::loopback_netns,
    state::State,
};

/// Most ends to remember; the oldest is dropped first.
const MAX_ENDS: usize = 4096;
/// How long an end is remembered, in ns.
const KEPT_NS: u64 = 10_000_000_000;

/// Local and remote end of a socket, after the [`place`] where its local address is unique.
pub(super) type Path = (Option<u32>, SocketAddr, SocketAddr);

pub(super) fn path(netns: Option<u32>, local: SocketAddr, remote: SocketAddr) -> Path {
    (loopback_netns(netns, local), local, remote)
}

/// Recent events at one end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EndEvents {
    /// How its socket ended, if not by FIN, or if its process was killed.
    pub ended: Option<EndedSocket>,
    /// The RST that this host sent from there.
    pub reset_sent: Option<ResetSent>,
    /// When a RST arrived there, CLOCK_MONOTONIC in ns.
    pub reset_received_ns: Option<u64>,
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndedSocket {
    /// The reason; `None` if it was closed with a FIN.
    pub ending: Option<CloseReason>,
    /// The process that owned it.
    pub owner: Option<Owner>,
    /// How the process exited, if its exit closed the socket.
    pub exit: Option<Exit>,
    /// Bytes received but not read.
    pub unread: u32,
}

/// A RST that this host sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResetSent {
    /// True if a full socket at that end sent it; false if the kernel did for a listener or a mini-socket, or because there was
    /// no socket.
    pub by_socket: bool,
    /// State of the socket at that end; CLOSE if there was none.
    pub state: State,
    /// Network namespace that it was sent from; `None` if not known.
    pub netns: Option<u32>,
    /// The socket's values when it sent the RST.
    pub facts: Option<ResetFacts>,
}

/// Ends of connections with their recent events.
#[derive(Debug, Default)]
pub(super) struct Paths {
    ends: KeyedMap<Path, (u64, EndEvents)>,
    /// The ends in the order of their first events.
    order: VecDeque<(u64, Path)>,
}

impl Paths {
    /// Records a RST, or the end of a socket.
    pub(super) fn ingest(&mut self, event: &Event) {
        match &event.what {
            EventKind::ResetSent { facts, .. } => {
                let by_socket = !event.socket.is_from_packet();
                let sent = ResetSent { by_socket, state: event.socket.state, netns: event.socket.netns, facts: *facts };
                let end = self.end(event);
                end.reset_sent = end.reset_sent.or(Some(sent));
            }
            EventKind::ResetReceived(_) => self.end(event).reset_received_ns = Some(event.time_ns),
            EventKind::Transition(transition) => self.transition(event, transition),
            _ => {}
        }
    }

    fn transition(&mut self, event: &Event, transition: &Transition) {
        let begins = matches!(transition.new, State::SynSent | State::SynRecv);
        if begins && !self.ends.is_empty() {
            self.ends.remove(&path(event.socket.netns, event.socket.local, event.socket.remote));
        }
        let ending = transition.ending.filter(|ending| *ending != CloseReason::Normal);
        let is_killed = transition.exit.is_some_and(Exit::is_killed) && transition.old != State::Listen;
        if ending.is_some() || is_killed {
            let (exit, unread) = (transition.exit, transition.receive_queue);
            self.end(event).ended = Some(EndedSocket { ending, owner: event.owner, exit, unread });
        }
    }

    fn end(&mut self, event: &Event) -> &mut EndEvents {
        let path = path(event.socket.netns, event.socket.local, event.socket.remote);
        let is_over = |time_ns: u64| event.time_ns.saturating_sub(time_ns) > KEPT_NS;
        while let Some((time_ns, oldest)) = self.order.front().copied() {
            if self.order.len() < MAX_ENDS && !is_over(time_ns) {
                break;
            }
            self.order.pop_front();
            // A newer entry may have the same path.
            if self.ends.get(&oldest).is_some_and(|(came_ns, _)| *came_ns == time_ns) {
                self.ends.remove(&oldest);
            }
        }
        let (_, events) = self.ends.entry(path).or_insert_with(|| {
            self.order.push_back((event.time_ns, path));
            (event.time_ns, EndEvents::default())
        });
        events
    }

    /// The recent events at an end.
    pub(super) fn at(&self, netns: Option<u32>, local: SocketAddr, remote: SocketAddr) -> EndEvents {
        self.ends.get(&path(netns, local, remote)).map_or(EndEvents::default(), |(_, events)| *events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::Socket;

    fn reset_at(time_ns: u64, port: u16) -> Event {
        let end = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let socket = Socket { sk: Some(1), netns: Some(1), ..Socket::new(State::Established, end(port), end(80)) };
        let what = EventKind::ResetReceived(None);
        Event::new(time_ns, socket, what)
    }

    #[test]
    fn ends_are_forgotten_by_age_and_by_number() {
        let mut paths = Paths::default();
        let is_known = |paths: &Paths, port| {
            let event = reset_at(0, port);
            paths.at(Some(1), event.socket.local, event.socket.remote).reset_received_ns.is_some()
        };
        for port in 0..=MAX_ENDS as u16 {
            paths.ingest(&reset_at(u64::from(port), port));
        }
        assert!(!is_known(&paths, 0) && is_known(&paths, 1));
        assert_eq!((paths.ends.len(), paths.order.len()), (MAX_ENDS, MAX_ENDS));
        paths.ingest(&reset_at(KEPT_NS * 2, 0));
        assert!(is_known(&paths, 0) && !is_known(&paths, 1));
        assert_eq!((paths.ends.len(), paths.order.len()), (1, 1));
    }
}
