//! The sockets that are alive now, as far as events told of them.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
};

use rustc_hash::FxBuildHasher;
use tcptrace_common::record::socket_flag;

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

impl Connection {
    /// Is it the socket of this event? Another one may have come to its address where the event of its end was lost.
    fn is_of(&self, event: &Event) -> bool {
        self.cookie.zip(event.socket.cookie).is_none_or(|(known, now)| known == now)
    }
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
        if event.socket.is(socket_flag::OWNER_LEFT) {
            self.connections.remove(&sk);
            return;
        }
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
                if let Some(connection) = self.connections.get_mut(&sk).filter(|known| known.is_of(event)) {
                    connection.owner = event.owner;
                }
            }
            _ => {}
        }
    }

    fn keep(&mut self, sk: u64, state: State, event: &Event) {
        let known = self.connections.get(&sk).filter(|known| known.is_of(event)).map(|known| known.first_seen_ns);
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::event::{Command, OwnerSource, Socket, Transition};

    fn event(sk: u64, cookie: u64, time_ns: u64, what: What) -> Event {
        let end = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        Event {
            time_ns,
            cpu: 0,
            socket: Socket {
                sk: (sk != 0).then_some(sk),
                cookie: (cookie != 0).then_some(cookie),
                netns: None,
                ipv6: false,
                state: State::Close,
                local: end,
                remote: end,
                flags: 0,
            },
            owner: None,
            what,
        }
    }

    fn enters(new: State) -> What {
        What::Transition(Transition {
            old: State::Close,
            new,
            inferred: false,
            time_in_old: None,
            handshake_rtt_ns: None,
            srtt_us: None,
            total_retrans: 0,
            bytes_acked: 0,
            bytes_received: 0,
            ending: None,
        })
    }

    fn owned(event: Event) -> Event {
        let command = Command::new([0; 16]);
        Event { owner: Some(Owner { pid: 7, uid: 0, cgroup: 0, command, source: OwnerSource::Accept }), ..event }
    }

    fn table(max: usize) -> Table {
        Table::new(max, StateSet::default())
    }

    fn cookies(table: &Table) -> Vec<u64> {
        let mut cookies: Vec<_> = table.connections().filter_map(|connection| connection.cookie).collect();
        cookies.sort_unstable();
        cookies
    }

    #[test]
    fn a_socket_is_there_from_its_first_event_to_its_end() {
        let mut table = table(10);
        table.ingest(&event(1, 11, 100, enters(State::SynSent)));
        table.ingest(&event(1, 11, 130, enters(State::Established)));
        let connection = table.connections().next().unwrap();
        assert_eq!((connection.state, connection.first_seen_ns, connection.since_ns), (State::Established, 100, 130));
        table.ingest(&event(1, 11, 140, What::ResetReceived));
        table.ingest(&event(2, 12, 140, What::ResetReceived));
        assert_eq!(cookies(&table), [11], "only a state makes a socket known");
        table.ingest(&event(1, 11, 150, enters(State::Close)));
        assert!(table.is_empty());
        table.ingest(&event(0, 0, 160, enters(State::Established)));
        assert_eq!(table.len(), 0, "no socket, no connection");
    }

    #[test]
    fn what_becomes_a_mini_socket_leaves() {
        let mut table = table(10);
        table.ingest(&event(1, 11, 100, enters(State::FinWait2)));
        let What::Transition(shown) = enters(State::TimeWait) else { unreachable!() };
        table.ingest(&event(1, 11, 110, What::Transition(Transition { inferred: true, ..shown })));
        assert!(table.is_empty());
    }

    #[test]
    fn the_socket_that_came_first_makes_room() {
        let mut table = table(3);
        for sk in 1..=3 {
            table.ingest(&event(sk, sk, sk, enters(State::SynSent)));
        }
        table.ingest(&event(1, 1, 9, enters(State::Established)));
        table.ingest(&event(2, 2, 9, enters(State::Close)));
        table.ingest(&event(4, 4, 10, enters(State::SynSent)));
        assert_eq!((cookies(&table), table.evicted()), (vec![1, 3, 4], 0));
        table.ingest(&event(5, 5, 11, enters(State::SynSent)));
        assert_eq!((cookies(&table), table.evicted()), (vec![3, 4, 5], 1));
        table.ingest(&event(6, 6, 12, enters(State::SynSent)));
        assert_eq!((cookies(&table), table.evicted()), (vec![4, 5, 6], 2));
    }

    #[test]
    fn a_later_socket_at_the_same_address_is_not_evicted_for_the_earlier_one() {
        let mut table = table(2);
        table.ingest(&event(1, 11, 1, enters(State::SynSent)));
        table.ingest(&event(1, 11, 2, enters(State::Close)));
        table.ingest(&event(2, 12, 3, enters(State::SynSent)));
        table.ingest(&event(1, 13, 4, enters(State::SynSent)));
        table.ingest(&event(3, 14, 5, enters(State::SynSent)));
        assert_eq!(cookies(&table), [13, 14]);
    }

    #[test]
    fn another_cookie_at_the_same_address_is_another_life() {
        // The event of the first one's end was lost.
        let mut table = table(10);
        table.ingest(&owned(event(1, 11, 100, enters(State::Established))));
        table.ingest(&owned(event(1, 12, 200, What::OwnerChanged)));
        assert_eq!(cookies(&table), [11]);
        table.ingest(&event(1, 12, 300, enters(State::Established)));
        let connection = table.connections().next().unwrap();
        assert_eq!((connection.cookie, connection.first_seen_ns, connection.owner), (Some(12), 300, None));
        table.ingest(&owned(event(1, 11, 310, What::OwnerChanged)));
        assert_eq!(table.connections().next().unwrap().owner, None, "the owner of another life");
        table.ingest(&owned(event(1, 12, 320, What::OwnerChanged)));
        assert_eq!(table.connections().next().unwrap().owner.unwrap().pid, 7);
    }

    #[test]
    fn a_cookie_may_come_late() {
        let mut table = table(10);
        table.ingest(&event(1, 0, 100, enters(State::SynSent)));
        table.ingest(&event(1, 11, 200, enters(State::Established)));
        let connection = table.connections().next().unwrap();
        assert_eq!((connection.cookie, connection.first_seen_ns), (Some(11), 100));
    }

    #[test]
    fn sockets_in_other_states_than_the_wanted_are_not_kept() {
        let mut table = Table::new(10, [State::CloseWait].into_iter().collect());
        table.ingest(&event(1, 11, 100, enters(State::Established)));
        assert!(table.is_empty());
        table.ingest(&event(1, 11, 110, enters(State::CloseWait)));
        assert_eq!(table.len(), 1);
        table.ingest(&event(1, 11, 120, enters(State::LastAck)));
        assert!(table.is_empty());
    }

    #[test]
    fn what_left_is_not_remembered_for_ever() {
        let mut table = table(1000);
        for time_ns in 0..10_000 {
            table.ingest(&event(1 + time_ns % 3, 1 + time_ns, 2 * time_ns, enters(State::SynSent)));
            table.ingest(&event(1 + time_ns % 3, 1 + time_ns, 2 * time_ns + 1, enters(State::Close)));
        }
        assert!(table.is_empty() && table.arrivals.len() <= 64, "{}", table.arrivals.len());
    }
}
