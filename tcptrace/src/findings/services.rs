//! The services on this host: addresses where processes listen or have listened. A service keeps its identity when its
//! listener dies or restarts.

use std::net::SocketAddr;

use crate::model::{
    event::{Event, EventKind},
    keyed::KeyedMap,
    snapshot::Snapshot,
    socket::listener_addresses,
    state::State,
};

/// Most services to remember; those seen longest ago are dropped first.
const MAX_SERVICES: usize = 16_384;

/// Listening addresses by network namespace, and when each was last seen, CLOCK_MONOTONIC in ns.
#[derive(Debug, Default)]
pub struct Services(KeyedMap<(u32, SocketAddr), u64>);

impl Services {
    /// Adds the socket of an event that starts or stops listening.
    pub fn ingest(&mut self, event: &Event) {
        let EventKind::Transition(transition) = &event.what else { return };
        let is_listener =
            transition.new == State::Listen || transition.old == State::Listen && transition.new == State::Close;
        if let Some(netns) = event.socket.netns.filter(|_| is_listener) {
            self.add(netns, event.socket.local, event.time_ns);
        }
    }

    /// Adds the listeners of a listing.
    pub fn listed(&mut self, snapshot: &Snapshot) {
        for socket in snapshot.sockets.iter().filter(|socket| socket.state == State::Listen) {
            self.add(socket.netns, socket.local, snapshot.ended_ns);
        }
    }

    fn add(&mut self, netns: u32, local: SocketAddr, now_ns: u64) {
        if local.port() == 0 {
            return; // listen() without bind() gets its port later (`inet_csk_listen_start`)
        }
        self.0.insert((netns, local), now_ns);
        if self.0.len() > MAX_SERVICES {
            let mut times: Vec<_> = self.0.values().copied().collect();
            let (_, &mut oldest_ns, _) = times.select_nth_unstable(MAX_SERVICES / 8);
            self.0.retain(|_, seen_ns| *seen_ns > oldest_ns);
        }
    }

    /// The listening address that gets or got connections to `local`.
    #[must_use]
    pub fn of(&self, netns: Option<u32>, local: SocketAddr) -> Option<SocketAddr> {
        let netns = netns?;
        listener_addresses(local).find(|place| self.0.contains_key(&(netns, *place)))
    }
}
