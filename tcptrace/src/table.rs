//! The sockets that are alive now, as far as events told of them.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use rustc_hash::FxBuildHasher;

use crate::{
    event::{Event, Owner, What},
    state::{State, StateSet},
};

/// A socket that is alive.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its state.
    pub state: State,
    /// CLOCK_MONOTONIC at which it entered the state, in ns.
    pub since_ns: u64,
    /// The process that it belongs to.
    pub owner: Option<Owner>,
    /// Its lasting name.
    pub cookie: Option<u64>,
    /// Local end.
    pub local: SocketAddr,
    /// Remote end.
    pub remote: SocketAddr,
    /// Network namespace.
    pub netns: Option<u32>,
    /// CLOCK_MONOTONIC of the first event of its life, in ns.
    pub first_seen_ns: u64,
}

/// The sockets by the address of their `struct sock`, which is theirs alone from the first event of their life to its
/// end. Bounded: when it is full the socket that came first makes room, and is counted.
pub struct Table {
    connections: HashMap<u64, Connection, FxBuildHasher>,
    /// Sockets in the order in which they came, with the time at which they did; those that left are dropped late.
    arrivals: VecDeque<(u64, u64)>,
    max: usize,
    /// States whose sockets are kept; empty for all. A socket that leaves them is heard of no more where a filter
    /// keeps its later events back, so it leaves the table too.
    states: StateSet,
    evicted: u64,
}

impl Table {
    /// A table for at most `max` sockets, which must be in one of `states` (empty: any).
    #[must_use]
    pub fn new(max: usize, states: StateSet) -> Self {
        Self { connections: HashMap::default(), arrivals: VecDeque::new(), max: max.max(1), states, evicted: 0 }
    }

    /// Takes in what an event says.
    pub fn ingest(&mut self, event: &Event) {
        let Some(sk) = event.socket.sk else {
            return;
        };
        match event.what {
            What::Transition(transition) => {
                // A mini-socket has another address than the full socket that it replaces.
                let is_alive = transition.new != State::Close && !transition.inferred;
                if is_alive && (self.states.is_empty() || self.states.contains(transition.new)) {
                    self.keep(sk, transition.new, event);
                } else {
                    self.connections.remove(&sk);
                }
            }
            What::OwnerChanged => {
                if let Some(connection) = self.connections.get_mut(&sk) {
                    connection.owner = event.owner;
                }
            }
            _ => {}
        }
    }

    fn keep(&mut self, sk: u64, state: State, event: &Event) {
        let known = self.connections.get(&sk).map(|connection| connection.first_seen_ns);
        let connection = Connection {
            state,
            since_ns: event.time_ns,
            owner: event.owner,
            cookie: event.socket.cookie,
            local: event.socket.local,
            remote: event.socket.remote,
            netns: event.socket.netns,
            first_seen_ns: known.unwrap_or(event.time_ns),
        };
        self.connections.insert(sk, connection);
        if known.is_some() {
            return;
        }
        self.arrivals.push_back((sk, event.time_ns));
        while self.connections.len() > self.max
            && let Some(first) = self.arrivals.pop_front()
        {
            if self.is_alive(first) {
                self.connections.remove(&first.0);
                self.evicted += 1;
            }
        }
        if self.arrivals.len() > 2 * self.connections.len() + 64 {
            let mut arrivals = std::mem::take(&mut self.arrivals);
            arrivals.retain(|arrival| self.is_alive(*arrival));
            self.arrivals = arrivals;
        }
    }

    /// Is it still the socket that came then, and not a later one at the same address?
    fn is_alive(&self, (sk, first_seen_ns): (u64, u64)) -> bool {
        self.connections.get(&sk).is_some_and(|connection| connection.first_seen_ns == first_seen_ns)
    }

    /// The sockets, in no order.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.connections.values()
    }

    /// How many sockets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// How many sockets had to make room for others.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }
}
